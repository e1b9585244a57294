"""Why there is no truth: what an oracle says when it cannot answer."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from refblo.conformance.truth.program import Program, gradient_by_theta, leaf
from refblo.derivatives import gradient_not_finite
from refblo.errors import OracleError

_NEAR = 2.0**-20  # of max(1, |λ|): the step of the one-sided slopes
_NEARER = 2.0**-3
_CLEAR = 20.0  # times what rounding makes of a slope: a difference of slopes that counts
_SHARE = 1e-3  # of the slopes: a difference that counts


def infinite(program: Program) -> OracleError:
    """The error for a run or a derivative that is not finite: where it first is not, and why."""
    lam, losses, schedule = program.lam, program.losses, program.schedule
    states = program.states(lam)
    for step, state in enumerate(states):
        if not bool(state.isfinite().all()):
            return _diverged(step)
        if step < schedule.steps and losses is not None:
            theta, batch = state[: program.size], losses.frozen.inner(step)
            value = losses.inner(leaf(lam), leaf(theta), batch).detach()
            gradient = gradient_by_theta(losses.inner, leaf(lam), leaf(theta), batch).detach()
            if bool(value.isfinite()) and not bool(gradient.isfinite().all()):
                return OracleError(gradient_not_finite("∂_θ inner", f"step {step}"))
        if step < schedule.steps and not bool(states[step + 1].isfinite().all()):
            return _diverged(step + 1)
        what = "the derivative of ∂_θ inner" if losses is not None else "the derivative of step"
        if step < schedule.steps and not _finite_pull(
            partial(_at, program.transition, step), lam, state
        ):
            return OracleError(gradient_not_finite(what, f"step {step}"))
        sampled = step > 0 and schedule.sampled(step)
        if sampled and not _finite_pull(partial(_at, program.outer, step), lam, state):
            return OracleError(gradient_not_finite("the derivative of outer", f"iterate {step}"))
    return OracleError(
        "the derivative of the inner run must stay finite, got values that are not although each step's "
        "derivative is: its tangent grows without bound; lower the step size, or run fewer steps"
    )


def _at(
    function: Callable[[Tensor, Tensor, int], Tensor], step: int, lam: Tensor, state: Tensor
) -> Tensor:
    return function(lam, state, step)


def _diverged(step: int) -> OracleError:
    return OracleError(
        f"the inner run must stay finite, got a state that is not at step {step}; lower the step size"
    )


def _finite_pull(function: Callable[[Tensor, Tensor], Tensor], lam: Tensor, state: Tensor) -> bool:
    """Whether a function's derivatives are finite, as far as reverse mode can say."""
    at_lam, at_state = leaf(lam), leaf(state)
    try:
        value = function(at_lam, at_state)
        if not value.requires_grad:
            return True
        pulled = torch.autograd.grad(
            value.sum(), (at_lam, at_state), allow_unused=True, materialize_grads=True
        )
    except Exception:  # a derivative that does not exist is not one that is infinite
        return True
    return all(bool(part.isfinite().all()) for part in pulled)


def kink(
    objective: Callable[[Tensor], float], lam: Tensor, direction: Tensor, noise: float
) -> OracleError | None:
    """The error for a kink of the objective at λ along a direction; None where there is none.

    A smooth function's one-sided slopes approach each other as the step shrinks.

    Args:
        objective: λ ↦ the outer objective.
        lam: λ.
        direction: along which.
        noise: the objective's rounding error.
    """
    size = float(direction.norm())
    if size == 0:
        return None
    first = _NEAR * max(1.0, float(lam.abs().max())) / size
    gaps, slopes, dust = [], (0.0, 0.0), 0.0
    here = objective(lam)
    if objective(lam) != here:
        return None  # hidden randomness looks like a kink everywhere
    for step in (first, first * _NEARER):
        right = (objective(lam + step * direction) - here) / step
        left = (here - objective(lam - step * direction)) / step
        slopes, dust = (left, right), noise / step
        gaps.append(abs(right - left))
    left, right = slopes
    clear = gaps[1] > _CLEAR * dust and gaps[1] > _SHARE * (abs(left) + abs(right))
    if not clear or gaps[1] < 0.5 * gaps[0]:
        return None
    return OracleError(
        "inner and outer must be smooth at lam, got a kink at this lam: one-sided slopes "
        f"{left:.6g} and {right:.6g} along one direction, so that there is no derivative; move lam or "
        "theta0 off the tie (a ReLU or a maximum of equal numbers)"
    )
