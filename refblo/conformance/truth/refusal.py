"""Why there is no truth: what an oracle says when it cannot answer."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from math import isfinite

import torch
from torch import Tensor

from refblo.conformance.truth.program import Program, gradient_by_theta, leaf
from refblo.derivatives import gradient_not_finite
from refblo.errors import OracleError

_NEAR = 2.0**-20  # of max(1, |λ|): the step of the one-sided slopes
_NEARER = 2.0**-3
_CLEAR = 20.0  # times what rounding makes of a slope: a difference of slopes that counts
_SHARE = 1e-3  # of the slopes: a difference that counts

_JUMPS = (10, 41, 5)
"""Steps of 2⁻¹⁰, 2⁻¹⁵, … 2⁻⁴⁰ of Newton's, across which a residual may jump."""

_JUMP = 0.05
"""The share of the residual by which it then changes at least; without a kink it is that of the step."""

LOOK_FOR = (
    "look for .detach(), .item() or torch.no_grad inside the losses or the step, for rounding on purpose "
    "(.half(), round(), or torch.autocast: check with autocast off), for an operation whose second "
    "derivative is wrong (some of torch's, as weight_norm; torch.autograd.gradgradcheck tells), for a kink "
    "at this lam, or for hidden randomness"
)
"""What makes the two oracles of losses in torch disagree."""


def refuse_divergence(program: Program, option: str) -> None:
    """Raise if the run at λ leaves the numbers that can be judged; one forward run.

    Args:
        program: whose run.
        option: what sets the size of its steps: step_size, rule or step.

    Raises:
        OracleError: if θ, or the outer loss where the run ends, becomes too large or not finite.
    """
    growth = program.growth
    if growth.diverges:
        raise growth.error(option)
    if not growth.finite:
        raise infinite(program)
    loss = float(program.outer(leaf(program.lam), leaf(growth.end), growth.steps).detach())
    if abs(loss) <= growth.bound:
        return
    if growth.grows or not isfinite(loss):
        raise growth.error(option) if growth.grows else infinite(program)
    raise OracleError(
        f"outer must be at most {growth.bound:.0e}, got {loss:.1e} at the end of the inner run; rescale "
        "it, or lower the step size"
    )


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
        outer_error = _infinite_outer(program, state, step)
        if outer_error is not None:
            return outer_error
    return OracleError(
        "the derivative of the inner run must stay finite, got infinity or nan, although the derivative of "
        "each single step is finite: their product grows too large; lower the step size, or run fewer steps"
    )


def _infinite_outer(program: Program, state: Tensor, step: int) -> OracleError | None:
    """The error for an outer loss that is not finite at an iterate, or whose derivative is not."""
    if step == 0 or not program.schedule.sampled(step):
        return None
    value = float(program.outer(leaf(program.lam), leaf(state), step).detach())
    if not isfinite(value):
        return OracleError(
            f"outer must be finite along the run, got {value} at iterate {step}, where theta is finite; look "
            "for a logarithm or a division of zero in it"
        )
    if not _finite_pull(partial(_at, program.outer, step), program.lam, state):
        return OracleError(gradient_not_finite("the derivative of outer", f"iterate {step}"))
    return None


def _at(
    function: Callable[[Tensor, Tensor, int], Tensor], step: int, lam: Tensor, state: Tensor
) -> Tensor:
    return function(lam, state, step)


def _diverged(step: int) -> OracleError:
    return OracleError(
        f"the inner run must stay finite, got infinity or nan in the state at step {step}; lower the step "
        "size"
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
    objective: Callable[[Tensor], float],
    lam: Tensor,
    direction: Tensor,
    noise: float | None,
    values: tuple[float, float] | None = None,
) -> OracleError | None:
    """The error for a kink of the objective at λ along a direction; None where there is none.

    A smooth function's one-sided slopes approach each other as the step shrinks.

    Args:
        objective: λ ↦ the outer objective.
        lam: λ.
        direction: along which.
        noise: the objective's rounding error; None to measure it on each side alone, as a jump at λ looks
            like noise to whoever measures across it.
        values: the objective at λ in two evaluations, where they were made before.
    """
    size = float(direction.norm())
    if size == 0:
        return None
    first = _NEAR * max(1.0, float(lam.abs().max())) / size
    gaps, slopes, dust = [], (0.0, 0.0), 0.0
    here, again = values or (objective(lam), objective(lam))
    if again != here:
        return None  # hidden randomness looks like a kink everywhere
    if noise is None:
        noise = max(_one_sided_noise(objective, lam, way * first * direction) for way in (1, -1))
    for step in (first, first * _NEARER):
        right = (objective(lam + step * direction) - here) / step
        left = (here - objective(lam - step * direction)) / step
        slopes, dust = (left, right), noise / step
        gaps.append(abs(right - left))
    left, right = slopes
    clear = gaps[1] > _CLEAR * dust and gaps[1] > _SHARE * (abs(left) + abs(right))
    if not clear or gaps[1] < 0.5 * gaps[0]:
        return None
    jumps = ", which grow as the step shrinks: the objective jumps" if gaps[1] > 3 * gaps[0] else ""
    return OracleError(
        "inner and outer must be smooth at lam, got a kink at this lam: one-sided slopes "
        f"{left:.6g} and {right:.6g} along one direction{jumps}, so that there is no derivative; move lam or "
        "theta0 off the tie (a ReLU or a maximum of equal numbers)"
    )


def singular() -> OracleError:
    """The error for a minimiser that is not isolated."""
    return OracleError(
        "singular inner Hessian: the inner problem must have an isolated solution for the implicit estimand, "
        "got a solution with directions along which the inner gradient does not change; add a regulariser, "
        "or ask for the unrolled estimand"
    )


def _one_sided_noise(objective: Callable[[Tensor], float], lam: Tensor, move: Tensor) -> float:
    """The rounding error of the objective on one side of λ: the largest of its fourth differences there."""
    values = [objective(lam + (1 + place / 8) * move) for place in range(7)]
    for _ in range(4):
        values = [later - earlier for earlier, later in pairwise(values)]
    return max(abs(value) for value in values)


def stuck(residual: Callable[[Tensor], Tensor], z: Tensor, by_z: Tensor) -> OracleError:
    """The error for a root that Newton's method does not find: a kink in the way, or no root near.

    Steps that stop before a kink come as close to it as they can, and there the residual jumps: it changes by
    a share of its size that a shorter step does not make smaller.

    Args:
        residual: whose root is looked for: ∂_θ of the inner loss, or θ less its own step.
        z: the last point.
        by_z: the residual's derivative there.
    """
    value = residual(z)
    norm = float(value.norm())
    if not bool(by_z.isfinite().all()):
        return OracleError(gradient_not_finite("the derivative of ∂_θ inner", "the solution"))
    step = torch.linalg.lstsq(by_z, value[:, None]).solution[:, 0]
    for power in range(*_JUMPS):
        change = residual(z - 2.0**-power * step) - value
        if not float(change.norm()) > _JUMP * norm:
            continue
        entry = int(change.abs().argmax())
        return OracleError(
            "the inner loss must be smooth at its minimiser for the implicit estimand, got a kink there: "
            f"∂_θ inner jumps by {float(change[entry].abs()):.3g} in entry {entry} of theta, near "
            f"{float(z[entry]):.3g} (the corner of an absolute value, a maximum or a hinge, such as a weight "
            "that an L1 penalty keeps at zero), so that the Hessian does not give the derivative; leave out "
            "the entries that stay at their kink, smooth the loss, or ask for the unrolled estimand"
        )
    curvatures = torch.linalg.svdvals(by_z)
    if float(curvatures[-1]) <= by_z.shape[0] * torch.finfo(by_z.dtype).eps * float(curvatures[0]):
        return singular()
    return OracleError(
        "the inner problem must have a solution near the last theta of the run, but Newton's method stopped "
        f"with a residual of {norm:.1e}; run more steps, lower the step size, or ask for the unrolled "
        "estimand"
    )
