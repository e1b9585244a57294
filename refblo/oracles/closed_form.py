"""The formulas that come with a problem, with an a-priori estimate of their rounding error.

With u the unit roundoff, the smallest and largest eigenvalue σ and ‖H‖ of the inner Hessian, κ = ‖H‖/σ, and
all norms at θ* for the implicit and Gibbs truths, and the largest of three iterates for programs:

    implicit, Gibbs:  u (n + p) (1 + κ) (‖f_λ‖ + ‖f_θ‖ ‖C‖/σ + t ‖Q‖ ‖∂_λH‖/σ²)
    programs:         u (n + p + T) K (‖f_λ‖ + ‖f_θ‖ (‖dθ⁰/dλ‖ + K γ ‖C‖)),   K = min(T, 1/(γσ)),

that is, a count of operations times the condition number times the size of what is added up (programs that do
not amplify, ‖I − γH‖ ≤ 1, are assumed, as the catalogue's are). The Gibbs term with the temperature t is
bounded by the difference of the Gibbs and the implicit formula. It is an estimate: how a formula orders
its operations is not known here.

Claims: eq-50, field-covariance, field-implicit.
"""

from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
from torch import Tensor

from refblo.chain import Chain
from refblo.derivatives import initial_jvp
from refblo.errors import OracleError
from refblo.noise import SEED_ZERO, Draws, Stream
from refblo.oracles.implicit_dense import newton, outer_slopes, stationary
from refblo.oracles.protocol import (
    PROGRAMS,
    check_applies,
    gibbs_temperature,
    is_deterministic,
    program_schedule,
)
from refblo.problems.case import Case
from refblo.types import ErrorKind, Estimand, Truth
from refblo.validation import check_arguments

_NEWTON_STEPS = 200


@final
@dataclass(frozen=True)
class ClosedForm:
    """A case's own formulas."""

    name: str = field(default="closed form", kw_only=True)

    def applies(self, case: Case, estimand: Estimand) -> bool:
        """Where the case has a formula for the estimand."""
        if case.closed_forms is None or not is_deterministic(case.problem):
            return False
        if estimand is Estimand.GIBBS and gibbs_temperature(case.dynamics) == 0:
            return False
        return _formula(case, estimand, SEED_ZERO) is not None

    def truth(self, case: Case, estimand: Estimand, draws: Draws = SEED_ZERO) -> Truth:
        """The formula's value, shape (p,), with the estimate above as its error.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a case that cannot be used.
            OracleError: if the formula has no finite value for these draws.
        """
        check_applies(self, case, estimand)
        check_arguments(case.problem, case.lam.detach(), draws)
        found = _formula(case, estimand, draws)
        if found is None or not np.isfinite(found).all():
            raise OracleError(
                f"closed_forms of {case.name} must have a finite value, got {found}; choose another lam"
            )
        value = torch.as_tensor(found).to(case.lam)
        if estimand in PROGRAMS:
            error = _program_error(case, estimand, draws)
        else:
            error = _stationary_error(case, estimand, found)
        return Truth(value, error, ErrorKind.ESTIMATED, estimand, self.name)


def _formula(case: Case, estimand: Estimand, draws: Draws) -> np.ndarray | None:
    forms, lam = case.closed_forms, case.lam.detach().cpu().double()
    if forms is None:
        return None
    at = lam.numpy()
    if estimand is Estimand.IMPLICIT:
        return forms.implicit(at)
    if estimand is Estimand.GIBBS:
        return forms.gibbs(at, gibbs_temperature(case.dynamics))
    schedule = program_schedule(case, estimand)
    like = torch.empty(case.problem.initial(case.lam.detach()).numel(), dtype=torch.float64)
    rows = [draws.normal(Stream.LANGEVIN, step, like).numpy() for step in range(schedule.steps)]
    return forms.unrolled(at, case.dynamics, schedule, np.stack(rows))


def _stationary_error(case: Case, estimand: Estimand, found: np.ndarray) -> float:
    problem, lam = case.problem, case.lam.detach()
    at = newton(problem, lam, _NEWTON_STEPS)
    eigenvalues = torch.linalg.eigvalsh((at.hessian + at.hessian.T) / 2)
    smallest, largest = float(eigenvalues[0]), float(eigenvalues.abs().max())
    unit = _unit(lam)
    if not smallest > 0:
        raise OracleError(
            f"inner must have a positive definite Hessian at theta*, got eigenvalues from {smallest:.3g} "
            f"to {largest:.3g}; the formula's rounding error cannot be estimated"
        )
    direct, slope = outer_slopes(problem, lam, at.theta)
    size = _norm(direct) + _norm(slope) * _norm(at.mixed) / smallest
    if estimand is Estimand.GIBBS and case.closed_forms is not None:
        implicit = case.closed_forms.implicit(lam.cpu().double().numpy())
        if implicit is not None:
            size += float(np.linalg.norm(found - implicit))
    return unit * (at.theta.numel() + lam.numel()) * (1 + largest / smallest) * size


def _program_error(case: Case, estimand: Estimand, draws: Draws) -> float:
    problem, lam = case.problem, case.lam.detach()
    schedule, gamma = program_schedule(case, estimand), case.dynamics.step_size
    steps, size = schedule.steps, 0.0
    starts = [initial_jvp(problem.initial, lam, unit) for unit in torch.eye(len(lam)).to(lam)]
    start = _norm(torch.stack(starts))
    iterates = list(Chain(problem, case.dynamics, draws).iterates(lam, steps))
    seen = [stationary(problem, lam, theta) for theta in _some(iterates)]
    mixed = max(_norm(at.mixed) for at in seen)
    smallest = min(float(torch.linalg.eigvalsh(at.hessian)[0]) for at in seen)
    memory = min(float(steps), 1 / (gamma * smallest)) if smallest > 0 else float(steps)
    for at in seen[1:]:
        direct, slope = outer_slopes(problem, lam, at.theta)
        size = max(size, _norm(direct) + _norm(slope) * (start + memory * gamma * mixed))
    operations = iterates[0].numel() + lam.numel() + steps
    return _unit(lam) * operations * memory * size


def _some(iterates: list[Tensor]) -> list[Tensor]:
    """The first, the last and one between: norms change little along a run that does not amplify."""
    return [iterates[0], iterates[len(iterates) // 2], iterates[-1]]


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor))


def _unit(lam: Tensor) -> float:
    # The formulas are computed in float64; their value is rounded to λ's dtype.
    return float(torch.finfo(lam.dtype).eps) / 2
