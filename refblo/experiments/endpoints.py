"""A comparison that a table states before it runs, and what the runs said about it."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import final

from refblo.errors import require


class EndpointKind(Enum):
    """What is claimed of the difference of a pair."""

    LOWER = "ours is lower"
    EQUIVALENT = "the two differ by less than the margin"


@final
@dataclass(frozen=True)
class Endpoint:
    """One comparison, fixed before anything runs.

    Args:
        claim: what the paper says.
        measure: the number that is compared, and how a run gives it.
        ours: the arms whose mean is one side, by label.
        theirs: the arms whose mean is the other side.
        kind: what is claimed of ours − theirs.
        margin: the smallest difference that matters, positive, in the measure's own unit.
        spread: compare the logarithm of the standard deviation over the arms instead of their mean.
        quantity: which of the runs' values is compared.

    Raises:
        ArgumentError: if the margin is not positive, or a spread has fewer than two arms.
    """

    claim: str
    measure: str
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    kind: EndpointKind
    margin: float
    spread: bool = False
    quantity: str = "test"

    def __post_init__(self) -> None:
        require(
            self.margin > 0, "margin", "be positive", self.margin, "say what difference matters"
        )
        least = 2 if self.spread else 1
        fewest = min(len(self.ours), len(self.theirs))
        require(fewest >= least, "arms", f"be at least {least} a side", fewest, "name more of them")

    @property
    def comparison(self) -> str:
        """What is compared, in words."""
        form = "log standard deviation over" if self.spread else "mean over"
        ours, theirs = (
            side[0] if len(side) == 1 else f"the {len(side)} options {side[0]} to {side[-1]}"
            for side in (self.ours, self.theirs)
        )
        return f"{self.measure}, {form} {ours} against {theirs}"


@final
@dataclass(frozen=True)
class JudgedEndpoint:
    """What the runs say about an endpoint.

    Attributes:
        endpoint: the comparison.
        seeds: S.
        difference: the mean of d.
        low: lower end of its 95 % interval (paired bootstrap).
        high: upper end.
        p_confirmed: Holm-adjusted p-value of the direction that confirms.
        p_refuted: Holm-adjusted p-value of the direction that refutes.
        detectable: the smallest |d| that would have been shown with a probability of 80 %; infinite where
            the number of seeds cannot show any.
        verdict: in the ledger's words.
        differences: d, one a seed, so that whoever reads the report can judge again.
    """

    endpoint: Endpoint
    seeds: int
    difference: float
    low: float
    high: float
    p_confirmed: float
    p_refuted: float
    detectable: float
    verdict: str
    differences: tuple[float, ...] = ()

    @property
    def detectable_text(self) -> str:
        """The smallest difference, or that there is none."""
        return "none" if math.isinf(self.detectable) else f"{self.detectable:.3g}"
