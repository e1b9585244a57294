"""Whether anything of a program depends on λ, as far as autograd sees, and as far as the values do."""

from collections.abc import Iterator

import torch
from torch import Tensor

from refblo.conformance.rounded import Steps, steps
from refblo.conformance.truth.program import (
    Losses,
    Program,
    gradient_by_theta,
    leaf,
)

_MOST_STEPS = 64

_STEP = 2.0**-6
"""How far λ and θ are moved, of max(1, the size of an entry)."""

_CLEAR = 1e4
"""Units in the last place of the values that a change must be to count."""


def depends_on_lam(program: Program) -> bool:
    """Whether λ enters the start, a transition or the outer loss; True where that cannot be told.

    Of a long run the first steps and the last one are asked.
    """
    try:
        return any(_reaches(value, lam) for value, lam in _values(program))
    except Exception:  # of the caller's functions, which the oracles have answered for
        return True


def _values(program: Program) -> Iterator[tuple[Tensor, Tensor]]:
    """What is computed with λ, each with its own λ."""
    lam = leaf(program.lam)
    yield program.start(lam), lam
    steps = program.schedule.steps
    for step, state in enumerate(program.states(program.lam)):
        if _MOST_STEPS <= step < steps - 1:
            continue
        if step < steps:
            lam = leaf(program.lam)
            yield program.transition(lam, leaf(state), step), lam
        if step > 0 and program.schedule.sampled(step):
            lam = leaf(program.lam)
            yield program.outer(lam, leaf(state), step), lam


def _reaches(value: Tensor, lam: Tensor) -> bool:
    if not value.requires_grad:
        return False
    (found,) = torch.autograd.grad(value.sum(), lam, allow_unused=True)
    return found is not None


def hidden_from_autograd(program: Program) -> bool:
    """Whether the inner loss's values couple λ and θ, of which autograd sees nothing.

    Where ∂_θ L_T depends on λ, so does L_T(λ + u, θ + v) − L_T(λ − u/2, θ + v) on v: the mixed second
    difference is not zero.
    """
    losses = program.losses
    if losses is None:
        return False
    lam, batch = program.lam, losses.frozen.inner(0)
    theta = program.start(leaf(lam)).detach()[: program.size]
    if _couples(losses, lam, theta + _weights(theta)):
        return False

    def value(u: float, v: float) -> float:
        moved = [leaf(x + sign * _weights(x)) for x, sign in ((lam, u), (theta, v))]
        return float(losses.inner(moved[0], moved[1], batch).detach())

    try:
        # Not as far down as up: from 0, a square has the same value in both directions.
        values = [value(u, v) for u, v in ((1, 1), (-0.5, 1), (1, -0.5), (-0.5, -0.5))]
    except Exception:  # of the caller's loss beside λ
        return False
    mixed = values[0] - values[1] - values[2] + values[3]
    unit = float(torch.finfo(lam.dtype).eps) * max(map(abs, values))
    return abs(mixed) > _CLEAR * unit


def _couples(losses: Losses, lam: Tensor, theta: Tensor) -> bool:
    """Whether autograd sees λ in ∂_θ L_T, beside the points at which a product of the two is zero."""
    at = leaf(lam)
    try:
        with torch.enable_grad():
            slope = gradient_by_theta(losses.inner, at, leaf(theta), losses.frozen.inner(0))
            if not slope.requires_grad:
                return False
            weighted = (slope * _weights(theta)).sum()
            (found,) = torch.autograd.grad(weighted, at, allow_unused=True)
    except Exception:  # of the caller's loss beside the run, which the oracles have answered for
        return True
    seen: Tensor | None = found  # None where there is no path, whatever its annotation says
    return seen is not None and bool(seen.any())


def moves_in_steps(program: Program) -> Steps | None:
    """The steps in which the outer objective moves with λ, if it does: then it has the slope zero everywhere.

    Of a program in float64; in float32 every function moves in steps of its own rounding.
    """
    lam = program.lam
    if lam.dtype is not torch.float64:
        return None
    along = _weights(lam) / _STEP
    try:
        return steps(lambda distance: program.objective(lam + distance * along))
    except Exception:  # of the caller's functions beside λ
        return None


def _weights(x: Tensor) -> Tensor:
    """A step of unequal sizes, so that the changes by several entries do not cancel."""
    index = torch.arange(x.numel(), dtype=x.dtype, device=x.device)
    return _STEP * x.abs().clamp(min=1) * (1 - 0.5 * (index * 2**0.5).frac())
