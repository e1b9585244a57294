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

from refblo.conformance.truth.adjoint import Adjoint, Way, adjoint, replicated
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
        own: hypergradients in the caller's dtype, at λ and one ulp beside it, likewise; no rows where torch
            fails.
        own_objective: the objective in the caller's dtype.
    """

    dtype: torch.dtype
    exact: float
    rounded: Float64[Array, "runs k"]
    objectives: Float64[Array, " runs"]
    own: Float64[Array, "own k"]
    own_objective: float

    def spread(self, truth: Float64[Array, " k"]) -> Float64[Array, " k"]:
        """The root mean square of what rounding does to each derivative.

        The runs in the caller's dtype count too: they round inside the backward passes as well.
        """
        rows = np.concatenate([self.rounded, self.own])
        result: Array = np.sqrt(np.mean((rows - truth) ** 2, axis=0))
        return result

    @property
    def faithful(self) -> bool:
        """Whether the objective in the caller's dtype is that in float64, up to rounding.

        It is not where the losses round on purpose by the dtype that was replaced.
        """
        ulp = float(torch.finfo(self.dtype).eps)
        spread = float(np.sqrt(np.mean((self.objectives - self.exact) ** 2)))
        allowed = _FAITHFUL * (10 * spread + ulp * abs(self.exact))
        return bool(abs(self.own_objective - self.exact) <= allowed)

    def beside(self, truth: Float64[Array, " k"], rounding: Float64[Array, " k"]) -> Precision:
        """The figures for a report."""
        own = _digits(self.own[0] - truth, truth) if len(self.own) > 0 else math.nan
        return Precision(str(self.dtype).removeprefix("torch."), own, _digits(rounding, truth))


def precision_of(
    program: Program,
    columns: Float[Tensor, "p k"],
    draws: Draws,
    ulp: float,
    runs: int,
    way: Way = adjoint,
) -> PrecisionRuns | None:
    """The runs that show what the caller's dtype costs; None where reverse mode fails in float64.

    Args:
        program: in float64, with the caller's own beside it.
        columns: the directions.
        draws: of the roundings.
        ulp: the caller's.
        runs: how many runs with random roundings.
        way: to the hypergradient that is judged.
    """
    plain = program.plain
    if plain is None:
        return None
    try:
        rounded = replicated(program, draws, ulp, runs, way)
    except Exception:  # whatever torch raises where reverse mode cannot differentiate twice
        return None
    rows = np.zeros((0, columns.shape[1]))
    try:
        sweeps = [way(plain.at(lam), None) for lam in _beside(plain.lam, ulp)]
        own_objective = sweeps[0].objective
        rows = np.stack([_along(sweep, columns) for sweep in sweeps])
    except Exception:  # likewise, in the caller's dtype alone
        own_objective = plain.objective(plain.lam)
    return PrecisionRuns(
        program.promotes or plain.lam.dtype,
        way(program, None).objective,
        np.stack([_along(sweep, columns) for sweep in rounded]),
        np.array([sweep.objective for sweep in rounded]),
        rows,
        own_objective,
    )


def _beside(lam: Tensor, ulp: float) -> list[Tensor]:
    """λ, and two points of which each entry is one number further, so that its roundings fall anew."""
    signs = torch.ones_like(lam)
    signs[::2] = -1
    return [lam, *(lam * (1 + sign * ulp * signs) for sign in (1, -1))]


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
