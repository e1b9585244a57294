"""Minimisers of the inner loss by the head of a network, found in float64, and right code for them."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, final

import torch
from torch import Tensor

from refblo.chain import Schedule
from refblo.rules import Rule
from refblo.types import Estimand
from tests.conformance.ordinary.layers import LAYERS
from tests.conformance.ordinary.losses import LOSSES
from tests.conformance.ordinary.mistakes import derivatives
from tests.conformance.ordinary.problems import OrdinaryProblem, Trained, ordinary
from tests.conformance.plants import Problem

STEPS = 3
_LOG_DECAYS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
_RULE_DECAY = 0.05
_ITERATIONS = 25
_CONVERGED = 1e-11  # of the gradient, relative to the largest curvature
_REGULAR = 1e-4  # of the smallest curvature, relative to the largest
_NEAR, _BENT = 1e-2, 0.1
"""A gradient that is off its linearisation by the share `_BENT` this near to the minimiser has a kink."""


@final
@dataclass(frozen=True, eq=False)
class Minimum:
    """A regular minimiser.

    Attributes:
        theta: θ*.
        log_decay: λ₁ at which it was found: the first of a list that makes the minimiser regular.
        step_size: γ of a convergent run.
    """

    theta: Tensor
    log_decay: float
    step_size: float


@cache
def minimum(layer: int, loss: int, seed: int) -> Minimum | None:
    """The minimiser of a problem by its head; None where no decay of the list makes it regular."""
    problem = ordinary(LAYERS[layer], LOSSES[loss], torch.float64, seed, Trained.HEAD)
    for log_decay in _LOG_DECAYS:
        lam = problem.lam.clone()
        lam[1] = log_decay
        flat = replace(problem, lam=lam).flat(rule=Rule(0.1, weight_decay=_RULE_DECAY))
        theta = _minimised(flat)
        if theta is not None:
            curvature = torch.as_tensor(derivatives(flat, theta).hessian)
            largest = float(torch.linalg.eigvalsh(curvature)[-1])
            return Minimum(theta, log_decay, float(f"{0.9 / largest:.3g}"))
    return None


def at_minimum(
    layer: int, loss: int, dtype: torch.dtype, seed: int, trained: Trained
) -> tuple[OrdinaryProblem, Problem, Tensor] | None:
    """The problem as a user writes it and on flat vectors, started near its minimiser, and θ*."""
    found = minimum(layer, loss, seed)
    if found is None:
        return None
    problem = ordinary(LAYERS[layer], LOSSES[loss], dtype, seed, trained)
    lam = problem.lam.clone()
    lam[1] = found.log_decay
    initial = torch.cat([value.reshape(-1) for value in problem.theta0.values()])
    theta = found.theta.to(dtype)
    if trained is Trained.DOUBLED_HEAD:
        theta = torch.cat([theta, torch.zeros(initial.numel() - theta.numel(), dtype=dtype)])
    started = theta + 0.1 * (initial - theta)
    problem = replace(problem, lam=lam, theta0=problem.tree(started))
    changes: dict[str, Any] = {
        "rule": Rule(found.step_size, weight_decay=_RULE_DECAY),
        "schedule": Schedule.last(STEPS),
        "estimand": Estimand.IMPLICIT,
    }
    if trained is Trained.DOUBLED_HEAD:
        changes["rule"] = Rule(found.step_size)
    return problem, problem.flat(**changes), theta


def _minimised(problem: Problem) -> Tensor | None:
    """θ* by Newton's method with positive curvatures and halved steps, from zero."""
    theta = torch.zeros_like(problem.theta0)
    for _ in range(_ITERATIONS):
        gradient = _gradient(problem, theta)
        curvatures, basis = torch.linalg.eigh(torch.as_tensor(derivatives(problem, theta).hessian))
        largest = float(curvatures.abs().max())
        if float(gradient.norm()) <= _CONVERGED * largest:
            regular = float(curvatures[0]) >= _REGULAR * largest
            return theta if regular and _smooth(problem, theta, largest) else None
        step = basis @ ((basis.T @ gradient) / curvatures.abs().clamp(min=_REGULAR * largest))
        value, length = _value(problem, theta), 1.0
        while _value(problem, theta - length * step) > value and length > 1e-6:
            length /= 2
        theta = theta - length * step
    return None


def polished(problem: Problem, theta: Tensor) -> Tensor:
    """θ* of a problem near by: three steps of Newton's method."""
    for _ in range(3):
        curvature = torch.as_tensor(derivatives(problem, theta).hessian)
        theta = theta - torch.linalg.solve(curvature, _gradient(problem, theta))
    return theta


def _smooth(problem: Problem, theta: Tensor, largest: float) -> bool:
    """Whether the gradient is nearly linear near by."""
    hessian = torch.as_tensor(derivatives(problem, theta).hessian)
    draws = torch.randn(4, theta.numel(), generator=torch.Generator().manual_seed(0)).double()
    for draw in draws:
        move = _NEAR * draw / draw.norm()
        off = _gradient(problem, theta + move) - hessian @ move
        if float(off.norm()) > _BENT * largest * _NEAR:
            return False
    return True


def _value(problem: Problem, theta: Tensor) -> float:
    decay = problem.rule.constant("weight_decay") / 2 * theta.square().sum()
    return float(problem.inner(problem.lam, theta) + decay)


def _gradient(problem: Problem, theta: Tensor) -> Tensor:
    at = theta.clone().requires_grad_()
    (found,) = torch.autograd.grad(problem.inner(problem.lam, at), at)
    return found + problem.rule.constant("weight_decay") * theta
