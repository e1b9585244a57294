"""The truth that a hypergradient is compared with: two oracles that must agree, or no answer.

The first is exact differentiation (a forward tangent along the run, or a dense solve at the root), the
second differences of the program itself. Neither shares code with the caller's hypergradient, nor
with refblo's estimators.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.conformance.truth.program import Program
from refblo.conformance.truth.stationary import implicit_objective, linearise, replicas
from refblo.conformance.truth.tangent import directional
from refblo.errors import OracleError
from refblo.noise import Draws, Stream
from refblo.types import Estimand

Array = np.ndarray
SAFETY = 10.0
"""Root-mean-square deviations of the replicas that count as the bound on rounding."""

LARGE = 100_000
"""Hyperparameters above which nothing is computed twice that need not be."""

_ENOUGH = 1e-4
"""The relative error of the differences with which a large problem is content."""

_RESOLUTION = 1e-3
"""The relative error of the differences above which they confirm nothing."""


@final
@dataclass(frozen=True, eq=False)
class Reference:
    """Directional derivatives of the outer objective, ⟨dF/dλ, u_j⟩, with all that is known about them.

    Attributes:
        directions: columns u_j, shape (p, k); the identity when all coordinates are taken.
        exhaustive: whether they are the coordinates, so that nothing can hide.
        direct: the direct parts, shape (k,).
        indirect: the indirect parts, shape (k,).
        rounding: a bound on what rounding in the caller's dtype does to each, shape (k,).
        error: a bound on each one's own error, shape (k,).
        confirmed: the disagreement with finite differences, relative to `scale`.
    """

    directions: Float64[Array, "p k"]
    exhaustive: bool
    direct: Float64[Array, " k"]
    indirect: Float64[Array, " k"]
    rounding: Float64[Array, " k"]
    error: Float64[Array, " k"]
    confirmed: float

    @property
    def value(self) -> Float64[Array, " k"]:
        """The derivatives."""
        total: Array = self.direct + self.indirect
        return total

    @property
    def scale(self) -> float:
        """The norm of the truth, or where its parts cancel to less, a thousandth of theirs."""
        parts = float(np.linalg.norm(self.direct) + np.linalg.norm(self.indirect))
        return max(float(np.linalg.norm(self.value)), 1e-3 * parts)

    def of(self, vector: Float64[Array, " p"]) -> Float64[Array, " k"]:
        """A hypergradient's components along the directions."""
        if self.exhaustive:
            return vector
        projected: Array = vector @ self.directions
        return projected


def reference(
    program: Program,
    estimand: Estimand,
    directions: Float64[Array, "p k"],
    *,
    exhaustive: bool,
    draws: Draws,
    ulp: float,
    runs: int = 4,
    confirm: int = 1,
) -> Reference:
    """The truth along directions.

    Args:
        program: the program, in the oracle's own dtype.
        estimand: UNROLLED, PATHWISE or IMPLICIT.
        directions: columns, shape (p, k).
        exhaustive: whether they are all the coordinates.
        draws: of the oracles' own randomness.
        ulp: of the caller's dtype.
        runs: replicas for the rounding error.
        confirm: along how many random combinations of the directions differences are taken. One finds
            any disagreement unless it happens to be orthogonal to it.

    Raises:
        OracleError: if the oracles disagree or cannot answer: then there is no verdict.
    """
    columns = torch.as_tensor(directions).to(program.lam)
    if estimand is Estimand.IMPLICIT:
        direct, indirect, objective = _implicit(program, columns, draws, ulp, runs)
    else:
        parts = directional(program, columns, draws, ulp, runs)
        direct, indirect = _numpy(parts.direct), _numpy(parts.indirect)
        objective = program.objective
    if not (np.isfinite(direct).all() and np.isfinite(indirect).all()):
        raise OracleError(
            "the inner run and its derivative must stay finite, got values that are not; lower the "
            "step size"
        )
    total = direct + indirect
    spread = np.sqrt(np.mean((total[1:] - total[0]) ** 2, axis=0))
    rounding = SAFETY * spread + ulp * np.abs(total[0])
    own = float(torch.finfo(program.lam.dtype).eps) / ulp
    error = rounding * min(1.0, own)
    weights = _combinations(columns.shape[1], confirm, draws, exhaustive)
    found = Reference(directions, exhaustive, direct[0], indirect[0], rounding, error, math.nan)
    if weights.shape[1] == 0:
        return found
    off = _confirm(found, objective, program.lam, columns, weights, draws)
    return replace(found, confirmed=off)


def _combinations(count: int, confirm: int, draws: Draws, exhaustive: bool) -> Array:
    """Weights of the directions, shape (k, c): random ones of norm one, or the first directions."""
    if not exhaustive:
        return np.eye(count)[:, : min(confirm, count)]
    weights = draws.normal(Stream.DIRECTIONS, 1, torch.empty(count, confirm)).double().numpy()
    normed: Array = weights / np.linalg.norm(weights, axis=0)
    return normed


def _implicit(
    program: Program, columns: Tensor, draws: Draws, ulp: float, runs: int
) -> tuple[Array, Array, Callable[[Tensor], float]]:
    base = linearise(program)
    rows = [(base.direct, base.indirect()), *replicas(program, base, draws, ulp, runs)]
    direct = torch.stack([d @ columns for d, _ in rows])
    indirect = torch.stack([i @ columns for _, i in rows])
    return _numpy(direct), _numpy(indirect), implicit_objective(program, base)


def _confirm(
    found: Reference,
    objective: Callable[[Tensor], float],
    lam: Tensor,
    columns: Tensor,
    weights: Array,
    draws: Draws,
) -> float:
    """The largest difference between the oracles, relative to the scale.

    Raises:
        OracleError: if it exceeds the two errors, or the differences are too coarse to tell.
    """
    # Here, because a target's process imports this file and not the oracles, which take a second.
    from refblo.oracles.differences import Frugal, directional_derivatives

    precision = float(torch.finfo(lam.dtype).eps)
    along = (columns @ torch.as_tensor(weights).to(columns)).cpu()
    expected = found.value @ weights
    differences = directional_derivatives(
        objective,
        lam.detach().cpu(),
        along,
        draws,
        precision,
        None if lam.numel() <= LARGE else Frugal(_ENOUGH, expected),
    )
    gaps = np.abs(differences.values - expected)
    allowed = SAFETY * differences.errors + np.abs(weights.T) @ found.error
    scale = max(found.scale, float(np.finfo(np.float64).tiny))
    worst = int(np.argmax(gaps - allowed))
    if not bool((gaps <= allowed).all()):
        raise OracleError(
            "inner and outer must be smooth functions whose derivatives torch knows, got "
            f"{expected[worst]:.10g} by "
            f"differentiation and {differences.values[worst]:.10g} ± {differences.errors[worst]:.1e} "
            "by differences "
            "of the outer objective along the same direction: no verdict is possible; look for "
            ".detach(), .item() or "
            "torch.no_grad inside the losses or the step, for a kink at this lam, or for hidden "
            "randomness"
        )
    coarse = float(np.max(differences.errors)) / scale
    if coarse > _RESOLUTION and found.scale > 0:
        raise OracleError(
            f"the outer objective must be resolvable by differences, got an error of {coarse:.1e} "
            "relative to the "
            f"hypergradient (the objective's own noise is {differences.noise:.1e}): no verdict is "
            "possible; rescale the "
            "outer loss, or take a large constant out of it"
        )
    return float(np.max(gaps)) / scale


def _numpy(tensor: Tensor) -> Array:
    result: Array = tensor.detach().cpu().to(torch.float64).numpy()
    return result
