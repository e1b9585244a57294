"""The truth that a hypergradient is compared with: two oracles that must agree, or no answer.

The first is exact differentiation (a forward tangent along the run, or a dense solve at the root), the
second differences of the program itself. Neither shares code with the caller's hypergradient, nor
with refblo's estimators.
"""

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.conformance.truth.adjoint import Way, adjoint, along, replicated
from refblo.conformance.truth.ladder import Ladder, Rung
from refblo.conformance.truth.precision import Precision, precision_of
from refblo.conformance.truth.program import Program
from refblo.conformance.truth.refusal import infinite
from refblo.conformance.truth.stationary import (
    implicit_objective,
    linearise,
    replicas,
    solved,
)
from refblo.conformance.truth.tangent import Parts
from refblo.derivatives.rounding import SAFETY
from refblo.errors import OracleError
from refblo.noise import Draws
from refblo.types import Estimand

Array = np.ndarray
_DUST_RUNS = 2
LARGE = 100_000
"""Hyperparameters above which nothing is computed twice that need not be."""


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
        rung: how the derivatives were found, with what that is worth.
        dust: the size of derivative below which rounding in the caller's dtype leaves nothing of a
            derivative along each direction, shape (k,): what a truth of exactly zero is compared with.
        precision: what the caller's own dtype costs, where the truth is known in a wider one.
    """

    directions: Float64[Array, "p k"]
    exhaustive: bool
    direct: Float64[Array, " k"]
    indirect: Float64[Array, " k"]
    rounding: Float64[Array, " k"]
    error: Float64[Array, " k"]
    confirmed: float
    rung: Rung
    dust: Float64[Array, " k"]
    precision: Precision | None = None

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


@np.errstate(over="ignore", invalid="ignore")  # what overflows is refused, by name
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
    first: Rung = Rung.SYMMETRIC,
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
        first: the way to differentiate that is tried first. Without confirmation, give the one that was
            confirmed at another point of the same run.

    Raises:
        OracleError: if the oracles disagree or cannot answer: then there is no verdict.
    """
    columns = torch.as_tensor(directions, device="cpu").to(program.lam)
    arguments = Question(
        program, estimand, directions, columns, exhaustive, draws, ulp, runs, confirm, first
    )
    if program.plain is None:
        return _reference(arguments)
    try:
        return _promoted(arguments)
    except _UnfaithfulError:
        plain = replace(arguments, program=program.plain, columns=columns.to(program.plain.lam))
        return _reference(plain)


class _UnfaithfulError(Exception):
    """The program in float64 is another program than the caller's."""


@final
@dataclass(frozen=True, eq=False)
class Question:
    """What `reference` is asked for; its arguments, and the directions as a tensor (`columns`)."""

    program: Program
    estimand: Estimand
    directions: Float64[Array, "p k"]
    columns: Tensor
    exhaustive: bool
    draws: Draws
    ulp: float
    runs: int
    confirm: int
    first: Rung


def _reference(asked: Question) -> Reference:
    """The truth by the first way that gives one."""
    # Imported here: a target's process imports this file and not the oracles, which take a second.
    from refblo.conformance.truth.confirmation import Confirmation, by_differences

    with warnings.catch_warnings():
        # torch says of some operations that their forward mode is slow: that is not the caller's concern.
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        ways, objective, ladder = _ways(asked)
        confirmation = Confirmation(asked, objective)
        refuted: list[OracleError] = []
        for rung, parts in ways:
            found = _assembled(asked, rung, parts)
            if float(np.linalg.norm(found.value)) <= float(np.linalg.norm(found.error)):
                found = replace(found, dust=dust_of(asked, found, objective))
            needed = asked.confirm if rung is not Rung.REVERSE else max(asked.confirm, 1)
            if needed == 0:
                return found
            try:
                return confirmation.of(found, needed)
            except OracleError as error:
                refuted.append(error)
        if refuted:
            raise confirmation.kink() or refuted[0]
        if ladder is not None and ladder.infinite:
            raise infinite(asked.program)
        return by_differences(asked, objective, ladder)


def _ways(
    asked: Question,
) -> tuple[Iterable[tuple[Rung, Parts]], Callable[[Tensor], float], Ladder | None]:
    """The derivatives by one way after another, the outer objective, and the ladder they came from."""
    program = asked.program
    if asked.estimand is Estimand.IMPLICIT:
        parts, objective = _implicit(asked)
        return [(Rung.SOLVE, parts)], objective, None
    ladder = Ladder(program, asked.columns, asked.draws, asked.ulp, asked.runs, asked.first)
    return ladder.climb(), program.objective, ladder


def _assembled(asked: Question, rung: Rung, parts: Parts) -> Reference:
    """The derivatives with their errors, unconfirmed."""
    direct, indirect = _numpy(parts.direct), _numpy(parts.indirect)
    if not (np.isfinite(direct).all() and np.isfinite(indirect).all()):
        raise infinite(asked.program)
    total = direct + indirect
    spread = np.zeros(total.shape[1])
    if len(total) > 1:
        spread = np.sqrt(np.mean((total[1:] - total[0]) ** 2, axis=0))
    rounding = SAFETY * spread + asked.ulp * np.abs(total[0])
    own = float(torch.finfo(asked.program.lam.dtype).eps) / asked.ulp
    error = rounding * min(1.0, own)
    dust = asked.ulp * (np.abs(direct[0]) + np.abs(indirect[0]))
    return Reference(
        asked.directions,
        asked.exhaustive,
        direct[0],
        indirect[0],
        rounding,
        error,
        math.nan,
        rung,
        dust,
    )


def _implicit(asked: Question) -> tuple[Parts, Callable[[Tensor], float]]:
    program, columns = asked.program, asked.columns
    base = linearise(program)
    rows = [(base.direct, base.indirect())]
    rows += replicas(program, base, asked.draws, asked.ulp, asked.runs)
    direct = torch.stack([d @ columns for d, _ in rows])
    indirect = torch.stack([i @ columns for _, i in rows])
    return Parts(direct, indirect), implicit_objective(program, base)


def dust_of(
    asked: Question, found: Reference, objective: Callable[[Tensor], float]
) -> Float64[Array, " k"]:
    """What rounding leaves of a derivative that is zero: nobody's answer has to be smaller.

    The larger of ulp · |F| / max(1, |λ|), below which no evaluation of the objective shows a derivative,
    and what random roundings of every operation make of the derivative.
    """
    size = max(1.0, float(asked.program.lam.abs().max()))
    least = SAFETY * asked.ulp * abs(objective(asked.program.lam)) / size
    dust: Array = np.maximum(found.dust, least)
    if asked.estimand is Estimand.IMPLICIT:
        return dust
    try:
        sweeps = replicated(asked.program, asked.draws, asked.ulp, _DUST_RUNS)
    except Exception:  # whatever torch raises where reverse mode cannot differentiate twice
        return dust
    parts = along(sweeps, asked.columns)
    rounded = _numpy(parts.direct + parts.indirect)
    measured: Array = np.maximum(dust, SAFETY * np.sqrt(np.mean(rounded**2, axis=0)))
    return measured if is_dust(asked, float(np.linalg.norm(measured))) else dust


def is_dust(asked: Question, size: float) -> bool:
    """Whether what rounding leaves is small beside the terms.

    Roundings that grow to the size of the terms leave nothing of any derivative, zero or not.
    """
    return size <= math.sqrt(asked.ulp) * _terms(asked)


_COARSE = 1e-3
"""The relative size of the roundings that show how large the terms of the objective are."""


def _terms(asked: Question) -> float:
    """The size of the objective's terms over max(1, |λ|), also where the terms cancel.

    Roundings of relative size 10⁻³ in every operation leave that share of the terms in their sum.
    """
    program = asked.program
    try:
        sweeps = replicated(program, asked.draws, _COARSE, _DUST_RUNS)
    except Exception:  # whatever torch raises where reverse mode cannot differentiate twice
        values = np.array([program.objective(program.lam)])
    else:
        values = np.array([sweep.objective / _COARSE for sweep in sweeps])
    size = max(1.0, float(program.lam.abs().max()))
    found = float(np.sqrt(np.mean(values**2)))
    return found / size if math.isfinite(found) else 0.0


def _promoted(asked: Question) -> Reference:
    """The truth in float64 of a program in a smaller dtype, with what that dtype costs.

    Raises:
        _UnfaithfulError: if the two programs differ by more than rounding explains.
    """
    found = _reference(replace(asked, runs=0))
    way: Way = adjoint
    if asked.estimand is Estimand.IMPLICIT:
        way = partial(solved, linearise(asked.program).root)
    precision = precision_of(
        asked.program, asked.columns, asked.draws, asked.ulp, max(asked.runs, 2), way
    )
    if precision is None:
        return _reference(asked)
    if not precision.faithful:
        raise _UnfaithfulError
    total = found.value
    rounding = SAFETY * precision.spread(total) + asked.ulp * np.abs(total)
    judged = precision.beside(total, rounding)
    return replace(found, rounding=rounding, precision=judged)


def _numpy(tensor: Tensor) -> Array:
    result: Array = tensor.detach().cpu().to(torch.float64).numpy()
    return result
