"""A function in another framework as an operation of torch that can be differentiated any number of times.

For F: (x₁ …, x_k) ↦ (y₁ …, y_l), torch asks for u ↦ (∂F)ᵀu and v ↦ (∂F)v. Both are such functions again, of
(x, u) and of (x, v), and so operations of torch themselves: derivatives of every order follow from that.
"""

from collections.abc import Sequence
from typing import Any, Protocol, Self, cast, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Differentiable(Protocol):
    """A function of tensors, of which the derivatives are such functions again."""

    def value(self, fixed: Any, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """(y₁ …, y_l) at (x₁ …, x_k); nothing is differentiated by `fixed`, a tree such as a batch."""
        ...

    def reverse(self) -> Self:
        """(x, u) ↦ (∂F)ᵀu."""
        ...

    def forward(self) -> Self:
        """(x, v) ↦ (∂F)v."""
        ...

    def rows(
        self, fixed: Any, tensors: Sequence[Tensor], dims: tuple[int | None, ...], count: int
    ) -> tuple[Tensor, ...]:
        """The values at `count` points, along a dimension of each tensor (None: the same for all)."""
        ...


def apply(function: Differentiable, fixed: Any, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The function's value at tensors; torch can differentiate it."""
    found: tuple[Tensor, ...] = _Operation.apply(function, fixed, *tensors)  # type: ignore[no-untyped-call]  # torch's own
    return found


def one_by_one(
    function: Differentiable,
    fixed: Any,
    tensors: Sequence[Tensor],
    dims: tuple[int | None, ...],
    count: int,
) -> tuple[Tensor, ...]:
    """`Differentiable.rows`, one point after another."""
    rows = [
        apply(
            function,
            fixed,
            [
                tensor if dim is None else tensor.select(dim, index)
                for tensor, dim in zip(tensors, dims, strict=True)
            ],
        )
        for index in range(count)
    ]
    return tuple(torch.stack(column) for column in zip(*rows, strict=True))


class _Operation(torch.autograd.Function):
    """A `Differentiable` at some tensors, for torch."""

    @staticmethod
    def forward(function: Differentiable, fixed: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The value."""
        return function.value(fixed, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ARG004  # torch's
        """Keep what the derivatives are taken at."""
        ctx.function, ctx.fixed, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *weights: Tensor) -> tuple[Tensor | None, ...]:
        """(∂F)ᵀu."""
        pulled = apply(ctx.function.reverse(), ctx.fixed, (*ctx.saved_tensors, *weights))
        return (None, None, *pulled)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, ...]:
        """(∂F)v."""
        points = ctx.saved_tensors
        given = [
            torch.zeros_like(point) if tangent is None else tangent
            for point, tangent in zip(points, tangents[2:], strict=True)
        ]
        return apply(ctx.function.forward(), ctx.fixed, (*points, *given))

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        function: Differentiable,
        fixed: Any,
        *tensors: Tensor,
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """The values at several points."""
        found = function.rows(fixed, tensors, in_dims[2:], cast("int", info.batch_size))
        return found, (0,) * len(found)
