"""The formulas of the inner optimisers: each written once, and everything else derived from it.

A formula gives what θ moves by, and the buffers of the next step, from the gradient g, the buffers and the
rule's numbers; t counts from 0. θ ← θ − move. The transition, its tangent, its adjoint and its run in ball
arithmetic are this function under other arithmetics.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from refblo.rules.operations import Operations


@final
@dataclass(frozen=True, eq=False)
class StepNumbers:
    """A rule's numbers at one λ and one step: floats, tensors with a graph to λ, or balls with tangents.

    Attributes:
        step_size: γ.
        momentum: μ.
        weight_decay: w.
        betas: (β₁, β₂), or None.
        adam_epsilon: ε, beside the square root.
        root_epsilon: ε', under the square root.
        square_decay: α of RMSprop, or None.
        clip_norm: the largest norm of the gradient, or None.
        clip_value: the largest entry of the gradient, or None.
    """

    step_size: Any
    momentum: Any
    weight_decay: Any
    betas: tuple[Any, Any] | None
    adam_epsilon: Any
    root_epsilon: Any
    square_decay: Any
    clip_norm: Any
    clip_value: Any


Moved: TypeAlias = tuple[Any, tuple[Any, ...]]
"""What θ moves by, and the next buffers."""

Update: TypeAlias = Callable[[Operations, StepNumbers, Any, tuple[Any, ...], int], Moved]
"""(operations, numbers, g, buffers, t) ↦ (move, next buffers)."""


def gradient_descent(
    _: Operations, numbers: StepNumbers, g: Any, __: tuple[Any, ...], ___: int
) -> Moved:
    """γ g."""
    return numbers.step_size * g, ()


def heavy_ball(
    _: Operations, numbers: StepNumbers, g: Any, buffers: tuple[Any, ...], __: int
) -> Moved:
    """v ← μ v + g, and γ v: the form that torch.optim.SGD uses."""
    v = numbers.momentum * buffers[0] + g
    return numbers.step_size * v, (v,)


def nesterov(
    _: Operations, numbers: StepNumbers, g: Any, buffers: tuple[Any, ...], __: int
) -> Moved:
    """v ← μ v + g, and γ (g + μ v) with the new v."""
    v = numbers.momentum * buffers[0] + g
    return numbers.step_size * (g + numbers.momentum * v), (v,)


def adam(
    operations: Operations, numbers: StepNumbers, g: Any, buffers: tuple[Any, ...], t: int
) -> Moved:
    """m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², and γ m̂ / (√(v̂ + ε') + ε).

    m̂ = m / (1 − β₁^{t+1}) and v̂ = v / (1 − β₂^{t+1}).
    """
    first, second = numbers.betas or (0.0, 0.0)
    m = first * buffers[0] + (1 - first) * g
    v = second * buffers[1] + (1 - second) * g * g
    root = operations.root(v / (1 - second ** (t + 1)), numbers.root_epsilon)
    size = root + numbers.adam_epsilon
    return numbers.step_size * (m / (1 - first ** (t + 1))) / size, (m, v)


def rmsprop(
    operations: Operations, numbers: StepNumbers, g: Any, buffers: tuple[Any, ...], _: int
) -> Moved:
    """v ← α v + (1 − α) g², and γ g / (√(v + ε') + ε)."""
    v = numbers.square_decay * buffers[0] + (1 - numbers.square_decay) * g * g
    size = operations.root(v, numbers.root_epsilon) + numbers.adam_epsilon
    return numbers.step_size * g / size, (v,)


def rmsprop_with_momentum(
    operations: Operations, numbers: StepNumbers, g: Any, buffers: tuple[Any, ...], _: int
) -> Moved:
    """v ← α v + (1 − α) g², u ← μ u + g / (√(v + ε') + ε), and γ u."""
    v = numbers.square_decay * buffers[0] + (1 - numbers.square_decay) * g * g
    size = operations.root(v, numbers.root_epsilon) + numbers.adam_epsilon
    u = numbers.momentum * buffers[1] + g / size
    return numbers.step_size * u, (v, u)


@final
@dataclass(frozen=True)
class Formula:
    """An inner optimiser's formula.

    Attributes:
        name: as reports and errors print it.
        buffers: how many vectors of θ's size it keeps.
        update: the formula.
    """

    name: str
    buffers: int
    update: Update


GRADIENT_DESCENT = Formula("gradient descent", 0, gradient_descent)
HEAVY_BALL = Formula("heavy ball", 1, heavy_ball)
NESTEROV = Formula("Nesterov", 1, nesterov)
ADAM = Formula("Adam", 2, adam)
RMSPROP = Formula("RMSprop", 1, rmsprop)
RMSPROP_WITH_MOMENTUM = Formula("RMSprop with momentum", 2, rmsprop_with_momentum)
