"""A function of JAX arrays as an operation of torch, with JAX's own derivatives.

(∂F)ᵀu is a function of JAX arrays again, of (x, u) by jax.vjp, and (∂F)v one of (x, v) by jax.jvp. Float64
tensors are computed in float64 (`jax.enable_x64` for that call), whatever the process has set; float32
tensors in float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

import jax
import jax.experimental
import numpy as np
import torch
from torch import Tensor

from refblo.conformance.operation import apply, one_by_one

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
        own: whether it is the caller's, and not derived of one.
    """

    function: OnArrays
    inputs: int
    outputs: int
    traced: bool = True
    plain_calls: int = 0
    own: bool = True
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

    def reverse(self) -> "ArrayFunction":
        """(x, u) ↦ (∂F)ᵀu."""

        def pulled(fixed: object, *arrays: Any) -> Sequence[Any]:
            points, weights = arrays[: self.inputs], arrays[self.inputs :]
            _, pull = jax.vjp(lambda *at: tuple(self.function(fixed, *at)), *points)
            found: Sequence[Any] = pull(tuple(weights))
            return found

        # Transitions are called twice to find randomness, and an inner loss is in them by this alone.
        plain_calls = self.plain_calls if self.own else 0
        return self._derived(
            "reverse", pulled, self.inputs + self.outputs, self.inputs, plain_calls=plain_calls
        )

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

    def _derived(
        self, name: str, function: OnArrays, inputs: int, outputs: int, plain_calls: int = 0
    ) -> "ArrayFunction":
        if name not in self._made:
            traced = self.traced and "as it is" not in self._made
            self._made[name] = ArrayFunction(
                function, inputs, outputs, traced, plain_calls, own=False
            )
        found: ArrayFunction = self._made[name]
        return found

    def on(self, fixed: object, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Its value at tensors; torch can differentiate it any number of times."""
        return apply(self, fixed, tensors)

    def value(self, fixed: object, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Its value at tensors."""
        with _x64(tensors[0].dtype == torch.float64):
            arrays = [as_array(tensor) for tensor in tensors]
            found = self(fixed, *arrays)
        return tuple(as_tensor(each, tensors[0]) for each in found)

    def rows(
        self, fixed: object, tensors: Sequence[Tensor], dims: tuple[int | None, ...], count: int
    ) -> tuple[Tensor, ...]:
        """Side by side by jax.vmap; one after another if the control flow depends on numbers."""
        try:
            return self.batched(dims).on(fixed, tensors)
        except _UNTRACEABLE:
            return one_by_one(self, fixed, tensors, dims, count)


_HOME: Any = jax if hasattr(jax, "enable_x64") else jax.experimental
_x64 = _HOME.enable_x64
"""The name moved; the extra allows versions before."""


def as_array(tensor: Tensor) -> Any:
    """A JAX array with the numbers of a tensor."""
    return jax.numpy.asarray(np.array(tensor.detach().cpu().numpy()))


def as_tensor(array: Any, like: Tensor) -> Tensor:
    """A tensor with the numbers of a JAX array, in the dtype and on the device of another."""
    return torch.from_numpy(np.array(array)).to(like)
