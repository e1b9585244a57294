"""What a caller's own dtype costs, seen from float64.

The program in float64 is run again with every operation rounded at random by the caller's ulp, and once
more as the caller runs it, in the caller's dtype. The first says what rounding may do, losses included; the
second shows what it does, and whether the program in float64 is the caller's at all.
"""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from refblo.conformance.truth.adjoint import Adjoint, adjoint, replicated
from refblo.conformance.truth.program import Program
from refblo.noise import Draws

Array = np.ndarray

_FAITHFUL = 3.0
"""How many bounds on rounding the caller's dtype may be away from float64 before it is another program."""


@final
@dataclass(frozen=True)
class Precision:
    """The hypergradient in the caller's own dtype beside the one in float64.

    Attributes:
        dtype: the caller's, by name.
        digits: how many digits of reverse mode in that dtype are right, along the directions taken; NaN
            where it cannot be computed so.
        explained: how many digits rounding leaves at least: fewer in an answer are another mistake.
    """

    dtype: str
    digits: float
    explained: float

    @property
    def sentence(self) -> str:
        """Both figures in words."""
        own = "" if math.isnan(self.digits) else f"gives {self.digits:.1f} right digits here, and "
        return f"{self.dtype} {own}rounding explains an answer with {self.explained:.1f} or more"


@final
@dataclass(frozen=True, eq=False)
class PrecisionRuns:
    """Runs of a program with and without roundings of the caller's size.

    Attributes:
        dtype: the caller's.
        exact: the objective in float64.
        rounded: hypergradients in float64 with random roundings, along the directions, a row a run.
        objectives: the objectives of these runs.
        own: the hypergradient in the caller's dtype along the directions; None where torch fails.
        own_objective: the objective in the caller's dtype.
    """

    dtype: torch.dtype
    exact: float
    rounded: Float64[Array, "runs k"]
    objectives: Float64[Array, " runs"]
    own: Float64[Array, " k"] | None
    own_objective: float

    def spread(self, truth: Float64[Array, " k"]) -> Float64[Array, " k"]:
        """The root mean square of what rounding does to each derivative."""
        result: Array = np.sqrt(np.mean((self.rounded - truth) ** 2, axis=0))
        return result

    def faithful(self, truth: Float64[Array, " k"], bound: Float64[Array, " k"]) -> bool:
        """Whether the caller's dtype gives what float64 gives, up to rounding."""
        ulp = float(torch.finfo(self.dtype).eps)
        spread = float(np.sqrt(np.mean((self.objectives - self.exact) ** 2)))
        allowed = _FAITHFUL * (10 * spread + ulp * abs(self.exact))
        if not abs(self.own_objective - self.exact) <= allowed:
            return False
        if self.own is None:
            return True
        room = _FAITHFUL * float(np.linalg.norm(bound + ulp * np.abs(truth)))
        return float(np.linalg.norm(self.own - truth)) <= room

    def beside(self, truth: Float64[Array, " k"], rounding: Float64[Array, " k"]) -> Precision:
        """The figures for a report."""
        own = math.nan if self.own is None else _digits(self.own - truth, truth)
        return Precision(str(self.dtype).removeprefix("torch."), own, _digits(rounding, truth))


def precision_of(
    program: Program, columns: Float[Tensor, "p k"], draws: Draws, ulp: float, runs: int
) -> PrecisionRuns | None:
    """The runs that show what the caller's dtype costs; None where reverse mode fails in float64.

    Args:
        program: in float64, with the caller's own beside it.
        columns: the directions.
        draws: of the roundings.
        ulp: the caller's.
        runs: how many runs with random roundings.
    """
    plain = program.plain
    if plain is None:
        return None
    try:
        rounded = replicated(program, draws, ulp, runs)
    except Exception:  # whatever torch raises where reverse mode cannot differentiate twice
        return None
    own: Adjoint | None
    try:
        own = adjoint(plain)
        own_objective = own.objective
    except Exception:
        own, own_objective = None, plain.objective(plain.lam)
    return PrecisionRuns(
        plain.lam.dtype,
        program.objective(program.lam),
        np.stack([_along(sweep, columns) for sweep in rounded]),
        np.array([sweep.objective for sweep in rounded]),
        None if own is None else _along(own, columns),
        own_objective,
    )


def _along(sweep: Adjoint, columns: Tensor) -> Float64[Array, " k"]:
    total = (sweep.direct + sweep.indirect).to(columns) @ columns
    result: Array = total.detach().cpu().numpy()
    return result


def _digits(error: Float64[Array, " k"], truth: Float64[Array, " k"]) -> float:
    """The number of right digits, from 0 to 16."""
    size, off = float(np.linalg.norm(truth)), float(np.linalg.norm(error))
    if off == 0:
        return 16.0
    if size == 0 or not math.isfinite(off):
        return 0.0
    return min(16.0, max(0.0, -math.log10(off / size)))
