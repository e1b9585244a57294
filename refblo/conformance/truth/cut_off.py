"""Whether the inner loss's values change with θ as its gradient says, or a part is cut off from autograd.

A run takes the gradient that autograd gives, so both oracles of a verdict agree on a loss of which a part is
under torch.no_grad or detached: they differentiate the run as it is. Only the loss's values show that part.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from refblo.conformance.truth.program import Program, gradient_by_theta, leaf
from refblo.conformance.truth.refusal import kink
from refblo.derivatives.rounding import SAFETY
from refblo.noise import Draws, Stream

_BESIDE = 2.0**-10
"""How far from the end of the run the slopes are taken, of max(1, |θ|): at 0, a square shows no slope."""

_LAM_STEP = 2.0**-6
"""How far λ is moved, of max(1, |λ|), to see whether the part that is cut off depends on it."""

_UNITS = 64.0
"""Units in the last place by which the sum that makes a slope of a gradient may be off."""

_CLEAR = 10.0
"""How many times its error a difference of slopes must be."""

_ENOUGH = 1e-8
"""The relative error of a slope from which on no more evaluations are spent: some fourteen suffice."""


@final
@dataclass(frozen=True)
class _Slopes:
    """The slope of the inner loss along a direction, by its values and by its gradient.

    Attributes:
        by_values: by differences.
        by_gradient: by autograd.
        error: by how much the two may differ.
    """

    by_values: float
    by_gradient: float
    error: float

    @property
    def gap(self) -> float:
        """The slope of the part that the gradient leaves out."""
        return self.by_values - self.by_gradient


def cut_off_finding(program: Program, draws: Draws) -> str:
    """What a report says of an inner loss whose gradient is not that of its values; "" where it is.

    Args:
        program: whose inner loss; "" for a program that has none.
        draws: of the direction in θ.
    """
    if program.losses is None:
        return ""
    try:
        theta = _near_the_end(program, draws)
        direction = draws.normal(Stream.DIRECTIONS, 41, theta)
        direction = direction / direction.norm()
        slopes = _slopes(program, program.lam, theta, direction, draws)
    except Exception:  # of the caller's loss beside the run; where it matters, the oracles say so
        return ""
    if slopes is None or abs(slopes.gap) <= _CLEAR * slopes.error:
        return ""
    depends = ""
    moved = program.lam + _LAM_STEP * program.lam.abs().clamp(min=1)
    try:
        there = _slopes(program, moved, theta, direction, draws)
    except Exception:
        there = None
    if there is not None and abs(there.gap - slopes.gap) > _CLEAR * (there.error + slopes.error):
        depends = ", which depends on lam,"
    return (
        f"finding: a part of inner{depends} is cut off from automatic differentiation: along one direction "
        f"of theta its values have the slope {slopes.by_values:.6g} and its gradient "
        f"{slopes.by_gradient:.6g}; the run was judged with that gradient. If this is not on purpose, look "
        "for torch.no_grad, .detach(), .item(), stop_gradient or rounding inside inner"
    )


def _near_the_end(program: Program, draws: Draws) -> Tensor:
    """θ beside the end of the run, where it is at a special place least often."""
    end = program.growth.end[: program.size].detach()
    move = draws.normal(Stream.DIRECTIONS, 40, end)
    return end + _BESIDE * end.abs().clamp(min=1) * move


def _slopes(
    program: Program, lam: Tensor, theta: Tensor, direction: Tensor, draws: Draws
) -> _Slopes | None:
    """The slopes at θ; None at a kink, where there is no slope."""
    # Imported here: it imports scipy.differentiate, which a target's process does not need.
    from refblo.derivatives.differences import Frugal, directional_derivatives

    losses = program.losses
    if losses is None:
        return None
    batch = losses.frozen.inner(0)

    def value(at: Tensor) -> float:
        return float(losses.inner(leaf(lam), leaf(at.to(theta)), batch).detach())

    gradient = gradient_by_theta(losses.inner, leaf(lam), leaf(theta), batch).detach()
    terms = (gradient * direction).double()
    by_gradient = float(terms.sum())
    frugal = Frugal(_ENOUGH, np.array([by_gradient]))
    unit = float(torch.finfo(theta.dtype).eps)
    found = directional_derivatives(
        value, theta.cpu().double(), direction.cpu().double()[:, None], draws, unit, frugal
    )
    error = SAFETY * float(found.errors[0]) + _UNITS * unit * float(terms.abs().sum())
    slopes = _Slopes(float(found.values[0]), by_gradient, error)
    apart = abs(slopes.gap) > _CLEAR * error
    if apart and kink(value, theta, direction, found.noise, found.here) is not None:
        return None
    return slopes
