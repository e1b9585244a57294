"""What a check answers: a verdict with its figures, and the exception that carries it."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import final

import numpy as np
from jaxtyping import Float64

from refblo.conformance.diagnosis import Diagnosis
from refblo.conformance.margins import BlockMargin
from refblo.conformance.truth.precision import Precision
from refblo.conformance.truth.reference import Reference
from refblo.errors import RefbloError
from refblo.types import Estimand

Array = np.ndarray


class Verdict(Enum):
    """What was found."""

    RIGHT = "right"
    WRONG = "wrong"
    UNDECIDED = "undecided"


@final
@dataclass(frozen=True, eq=False)
class Report:
    """The answer of `hypergradcheck`.

    Attributes:
        verdict: what was found.
        estimand: what it was judged as an estimate of; None for the derivative of a given objective.
        error: the distance from the truth along the directions taken, as a norm.
        bound: how large that may be.
        relative_error: the error over the truth's norm.
        floor: the smallest relative error that this check would have accused.
        floor_wanted: the one that was asked for.
        directions: along how many directions it was judged; the number of hyperparameters if all.
        exhaustive: whether these are all coordinates.
        miss_rate: the chance that an error of ten times the floor goes unseen; 0 if exhaustive.
        direction: a unit vector along which the error is large, shape (p,).
        observed_slope: the returned hypergradient along it.
        true_slope: what it should be along it.
        confirmed: how far the two oracles are apart, relative.
        diagnosis: the mistake, where there is one.
        findings: what else was noticed.
        reason: what the verdict rests on where the figures do not say it, for the first line.
        zero: whether the truth is zero within its own error.
        entry: the entry of λ that is wrong, where neither the whole nor a tensor is off; then the figures are
            that entry's.
        blocks: each tensor of λ judged by itself, where λ is a tree.
        truth: how the truth was found, and what that is worth.
        precision: what the caller's own dtype costs, where the truth is known in a wider one.
        block: the tensor of λ that the error is in, where the whole is not off; then error, bound,
            relative error and floor are that tensor's.
    """

    verdict: Verdict
    estimand: Estimand | None
    error: float
    bound: float
    relative_error: float
    floor: float
    floor_wanted: float
    directions: int
    exhaustive: bool
    miss_rate: float
    direction: Float64[Array, " p"]
    observed_slope: float
    true_slope: float
    confirmed: float
    diagnosis: Diagnosis | None = None
    findings: tuple[str, ...] = ()
    reason: str = ""
    zero: bool = False
    entry: int | None = None
    blocks: tuple[BlockMargin, ...] = ()
    block: str | None = None
    truth: str = ""
    precision: Precision | None = None

    @property
    def right(self) -> bool:
        """Whether the hypergradient is right."""
        return self.verdict is Verdict.RIGHT

    @property
    def along(self) -> str:
        """What of λ the figures are about."""
        if self.block is not None:
            return f"block {self.block} of lam"
        if self.entry is not None:
            return f"entry {self.entry} of lam"
        if self.exhaustive:
            return f"all {self.directions} coordinates of lam"
        return f"{self.directions} random directions"

    def _figures(self) -> list[str]:
        """The lines of the error, the floor and the two oracles."""
        if self.block is None and (
            self.zero or math.isinf(self.floor)
        ):  # nothing is relative to it
            oracles = "differences" if math.isnan(self.confirmed) else "the oracles"
            return [
                f"error of norm {self.error:.2e} (allowed {self.bound:.2e}) over {self.along}",
                f"{oracles} say that the truth is zero",
            ]
        hidden = (
            ""
            if self.exhaustive
            else f"; one ten times larger is missed with chance {self.miss_rate:.0e}"
        )
        figures = [
            f"relative error {self.relative_error:.2e} (norm {self.error:.2e}, allowed {self.bound:.2e}) "
            f"over {self.along}",
            f"an error above {self.floor:.1e} relative is seen{hidden}",
        ]
        if not math.isnan(self.confirmed):
            figures.append(f"differentiation and finite differences agree to {self.confirmed:.1e}")
        return figures

    @property
    def _as_what(self) -> str:
        if self.estimand is None:
            return "as the derivative of the objective"
        return f"as an estimate of the {self.estimand.value} one"

    def describe(self) -> str:
        """The report in a few lines."""
        reason = f": {self.reason}" if self.reason else ""
        lines = [
            f"the hypergradient is {self.verdict.value} {self._as_what}{reason}",
            *self._figures(),
        ]
        if self.truth:
            lines.append(f"the truth comes from {self.truth}")
        if self.precision is not None:
            lines.append(self.precision.sentence)
        if self.verdict is Verdict.WRONG:
            lines.append(
                f"along the direction where it shows: {self.observed_slope:.10g}, should be "
                f"{self.true_slope:.10g}"
            )
        lines.extend(
            block.describe()
            for block in self.blocks
            if block.name != self.block and not (block.right and block.seen)
        )
        lines.extend(self.findings)
        if self.diagnosis is not None:
            lines.append("diagnosis: " + self.diagnosis.describe())
        return "\n".join(lines)


@final
class HypergradientMismatch(RefbloError, AssertionError):  # noqa: N818  (its public name says what happened)
    """A hypergradient is not what it claims to estimate.

    Attributes:
        report: everything that is known.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report.describe())
        self.report = report

    @property
    def error(self) -> float:
        """The norm of the error along the directions taken."""
        return self.report.error

    @property
    def bound(self) -> float:
        """How large it may be."""
        return self.report.bound

    @property
    def direction(self) -> Float64[Array, " p"]:
        """A unit vector along which the error is large, shape (p,)."""
        return self.report.direction

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The mistake, where the hypergradient could be compared."""
        return self.report.diagnosis


def miss_rate(reference: Reference) -> float:
    """The chance that k random directions all miss an error of ten times the floor.

    The error's components along them are Gaussian, and the sum of their squares must be below a hundredth of
    what it is on average: P(χ²_k ≤ k/100).
    """
    if reference.exhaustive:
        return 0.0
    from scipy.special import chdtr  # not needed for few hyperparameters, and slow to import

    k = reference.directions.shape[1]
    return float(chdtr(k, 0.01 * k))


@np.errstate(invalid="ignore", over="ignore")  # an answer may be infinite
def worst_direction(
    observed: Float64[Array, " p"], reference: Reference
) -> tuple[Float64[Array, " p"], float, float]:
    """A unit vector along which the error is large, and the two slopes along it."""
    seen = reference.of(observed)
    difference = np.nan_to_num(seen - reference.value, nan=0.0, posinf=0.0, neginf=0.0)
    size = float(np.linalg.norm(difference))
    if reference.exhaustive:
        along = difference / size if size > 0 else np.eye(seen.size)[0]
        return along, float(seen @ along), float(reference.value @ along)
    worst = int(np.argmax(np.abs(difference)))
    column = reference.directions[:, worst]
    norm = float(np.linalg.norm(column))
    return column / norm, float(seen[worst]) / norm, float(reference.value[worst]) / norm
