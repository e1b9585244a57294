"""What a contract's check is given: the draws of the run, how thorough it is, and the truths."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.chain import Schedule
from refblo.noise import SEED_ZERO, Draws
from refblo.oracles import DirectionalTruth, FiniteDifference, ForwardModeDirectional, truths
from refblo.problems.case import Case
from refblo.types import Estimand, Lam, Truth

MAX_WHOLE_ENTRIES = 4096
"""The most entries n·p of a tangent for which every oracle is asked for all of the hypergradient."""

DIRECTIONS = 2
"""Random directions along which larger problems are compared: a wrong vector agrees along one with
probability zero; the second guards against one that agrees up to rounding by chance."""


@final
@dataclass(frozen=True, eq=False)
class Known:
    """The truths of one estimand, entry by entry or along a few directions.

    Attributes:
        truths: every oracle's answer, shape (p,), or (k,) where there are directions.
        directions: k unit directions u for problems too large for all entries, shape (k, p): the truths are
            then the derivatives along them.
    """

    truths: tuple[Truth, ...]
    directions: Float[Tensor, "k p"] | None = None

    def seen(self, vector: Lam) -> Float[Tensor, " d"]:
        """A hypergradient as the truths see it."""
        return vector if self.directions is None else self.directions @ vector


@final
@dataclass
class Context:
    """What a check may ask for: the run's draws, its thoroughness, and truths, computed once.

    Args:
        draws: all randomness of the run.
        full: whether longer sweeps and more seeds are wanted.
    """

    draws: Draws = SEED_ZERO
    full: bool = False
    _answers: dict[tuple[Case, Estimand, Schedule], Known] = field(default_factory=dict, repr=False)

    def known(self, case: Case, estimand: Estimand, schedule: Schedule | None = None) -> Known:
        """Every oracle's answer, for the case's schedule unless another is given.

        Problems with more than `MAX_WHOLE_ENTRIES` entries n·p are answered along random directions.
        """
        asked = case if schedule is None else replace(case, schedule=schedule)
        key = (case, estimand, asked.schedule)
        if key not in self._answers:
            size = case.lam.numel() * case.problem.initial(case.lam).numel()
            directional = size > MAX_WHOLE_ENTRIES and estimand is not Estimand.IMPLICIT
            ask = _along_directions if directional else _in_full
            self._answers[key] = ask(asked, estimand, self.draws)
        return self._answers[key]


def _in_full(case: Case, estimand: Estimand, draws: Draws) -> Known:
    return Known(tuple(truths(case, estimand, draws)))


def _along_directions(case: Case, estimand: Estimand, draws: Draws) -> Known:
    """Differences and forward mode along the same random directions."""
    differences = FiniteDifference().directional(case, estimand, DIRECTIONS, draws)
    tangents = [
        ForwardModeDirectional().derivative(case, estimand, answer.direction, draws)
        for answer in differences
    ]
    directions = torch.stack([answer.direction for answer in differences]).to(case.lam)
    return Known(tuple(_together(answers) for answers in (differences, tangents)), directions)


def _together(answers: Sequence[DirectionalTruth]) -> Truth:
    """Directional derivatives as one truth of shape (k,)."""
    values = torch.tensor([answer.value for answer in answers], dtype=torch.float64)
    error = math.hypot(*(answer.error for answer in answers))
    first = answers[0]
    return Truth(values, error, first.kind, first.estimand, first.oracle)
