"""A function of JAX arrays as an operation of torch, with JAX's own derivatives.

For F: (x₁ …, x_k) ↦ (y₁ …, y_l), torch asks for u ↦ (∂F)ᵀu and v ↦ (∂F)v. Both are functions of JAX arrays
again, of (x, u) by jax.vjp and of (x, v) by jax.jvp, and so operations of torch themselves: derivatives of
every order follow from these two lines. Float64 tensors are computed in float64 (`jax.enable_x64` for that
call), whatever the process has set; float32 tensors in float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

import jax
import jax.experimental
import numpy as np
import torch
from torch import Tensor

OnArrays: TypeAlias = Callable[..., Sequence[Any]]
"""(fixed, x₁, …, x_k) ↦ (y₁, …, y_l); nothing is differentiated by `fixed`, a tree such as a batch."""


_UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""What JAX raises on tracing code that looks at numbers."""


@final
@dataclass(frozen=True, eq=False)
class ArrayFunction:
    """A function of arrays, and what is derived of it, each traced once.

    Attributes:
        function: the function.
        inputs: k, how many arrays it takes.
        outputs: l, how many it gives.
        traced: whether JAX may trace it; not one whose control flow turned out to depend on numbers.
        plain_calls: how many calls come before it is traced.
    """

    function: OnArrays
    inputs: int
    outputs: int
    traced: bool = True
    plain_calls: int = 0
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, fixed: object, *arrays: Any) -> Sequence[Any]:
        """Its value: traced, but for the first calls, which show whether it has one value at one point."""
        calls = self._made["calls"] = self._made.get("calls", 0) + 1
        if not self.traced or "as it is" in self._made or calls <= self.plain_calls:
            return self.function(fixed, *arrays)
        if "traced" not in self._made:
            self._made["traced"] = jax.jit(self.function)
        try:
            found: Sequence[Any] = self._made["traced"](fixed, *arrays)
        except _UNTRACEABLE:
            self._made["as it is"] = True
            found = self.function(fixed, *arrays)
        return found

    @property
    def reverse(self) -> "ArrayFunction":
        """(x, u) ↦ (∂F)ᵀu."""

        def pulled(fixed: object, *arrays: Any) -> Sequence[Any]:
            points, weights = arrays[: self.inputs], arrays[self.inputs :]
            _, pull = jax.vjp(lambda *at: tuple(self.function(fixed, *at)), *points)
            found: Sequence[Any] = pull(tuple(weights))
            return found

        return self._derived("reverse", pulled, self.inputs + self.outputs, self.inputs)

    @property
    def forward(self) -> "ArrayFunction":
        """(x, v) ↦ (∂F)v."""

        def pushed(fixed: object, *arrays: Any) -> Sequence[Any]:
            points, tangents = arrays[: self.inputs], arrays[self.inputs :]
            _, found = jax.jvp(lambda *at: tuple(self.function(fixed, *at)), points, tangents)
            return tuple(found)

        return self._derived("forward", pushed, 2 * self.inputs, self.outputs)

    def batched(self, dims: tuple[int | None, ...]) -> "ArrayFunction":
        """Its values at several points, along a dimension of each array; None: the same for all."""
        mapped = jax.vmap(
            lambda fixed, *arrays: tuple(self.function(fixed, *arrays)), in_axes=(None, *dims)
        )
        return self._derived(f"batched along {dims}", mapped, self.inputs, self.outputs)

    def _derived(self, name: str, function: OnArrays, inputs: int, outputs: int) -> "ArrayFunction":
        if name not in self._made:
            traced = self.traced and "as it is" not in self._made
            self._made[name] = ArrayFunction(function, inputs, outputs, traced, self.plain_calls)
        found: ArrayFunction = self._made[name]
        return found

    def on(self, fixed: object, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Its value at tensors; torch can differentiate it any number of times."""
        found: tuple[Tensor, ...] = _Operation.apply(self, fixed, *tensors)  # type: ignore[no-untyped-call]  # torch's own
        return found


_HOME: Any = jax if hasattr(jax, "enable_x64") else jax.experimental
_x64 = _HOME.enable_x64
"""The name moved; the extra allows versions before."""


class _Operation(torch.autograd.Function):
    """An `ArrayFunction` at some tensors, for torch."""

    @staticmethod
    def forward(function: ArrayFunction, fixed: object, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The value."""
        double = tensors[0].dtype == torch.float64
        with _x64(double):
            arrays = [as_array(tensor) for tensor in tensors]
            found = function(fixed, *arrays)
        return tuple(as_tensor(each, tensors[0]) for each in found)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ARG004  # torch's
        """Keep what the derivatives are taken at."""
        ctx.function, ctx.fixed, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *weights: Tensor) -> tuple[Tensor | None, ...]:
        """(∂F)ᵀu."""
        pulled = ctx.function.reverse.on(ctx.fixed, (*ctx.saved_tensors, *weights))
        return (None, None, *pulled)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, ...]:
        """(∂F)v."""
        points = ctx.saved_tensors
        given = [
            torch.zeros_like(point) if tangent is None else tangent
            for point, tangent in zip(points, tangents[2:], strict=True)
        ]
        found: tuple[Tensor, ...] = ctx.function.forward.on(ctx.fixed, (*points, *given))
        return found

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        function: ArrayFunction,
        fixed: object,
        *tensors: Tensor,
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Side by side by jax.vmap; one after another if the control flow depends on numbers."""
        dims = in_dims[2:]
        try:
            found = function.batched(dims).on(fixed, tensors)
            return found, (0,) * len(found)
        except _UNTRACEABLE:
            rows = [
                function.on(
                    fixed,
                    [
                        tensor if dim is None else tensor.select(dim, index)
                        for tensor, dim in zip(tensors, dims, strict=True)
                    ],
                )
                for index in range(info.batch_size)
            ]
        stacked = tuple(torch.stack(column) for column in zip(*rows, strict=True))
        return stacked, (0,) * len(stacked)


def as_array(tensor: Tensor) -> Any:
    """A JAX array with the numbers of a tensor."""
    return jax.numpy.asarray(np.array(tensor.detach().cpu().numpy()))


def as_tensor(array: Any, like: Tensor) -> Tensor:
    """A tensor with the numbers of a JAX array, in the dtype and on the device of another."""
    return torch.from_numpy(np.array(array)).to(like)
