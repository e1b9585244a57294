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

from refblo.conformance.in_jax.promoted import narrowing, promoted, shaped
from refblo.conformance.operation import apply, one_by_one
from refblo.conformance.truth.narrowing import Narrowing, watching
from refblo.conformance.truth.promotion import promoted_now
from refblo.errors import RefbloError

OnArrays: TypeAlias = Callable[..., Sequence[Any]]
"""(fixed, x₁, …, x_k) ↦ (y₁, …, y_l); nothing is differentiated by `fixed`, a tree such as a batch."""


_IN_JAX = (
    "leave out astype(...), dtype=... and preferred_element_type=... of less than float64 while this is "
    "checked, those of layers too"
)
"""What to do about a loss that goes to a narrower dtype."""

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
        dtypes: of the arrays that it takes, where they are the caller's.
    """

    function: OnArrays
    inputs: int
    outputs: int
    traced: bool = True
    plain_calls: int = 0
    own: bool = True
    dtypes: tuple[str, ...] = ()
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
        """Its value at tensors; torch can differentiate it any number of times.

        Inside an `Arithmetic` that promotes a dtype, in float64; a `Narrowing` is told what it does.
        """
        if not self.dtypes:
            return apply(self, fixed, tensors)
        watch, replaced = watching(), promoted_now()
        if watch is not None:
            self._tell(watch, fixed, tensors)
        if replaced is None or tensors[0].dtype != torch.float64:
            return apply(self, fixed, tensors)
        return apply(self._promoted(_name(replaced)), fixed, tensors)

    def _tell(self, watch: Narrowing, fixed: object, tensors: Sequence[Tensor]) -> None:
        """Tell where the function goes from float64 to a narrower dtype, if JAX can trace it."""
        with _x64("float64" in self.dtypes):
            given = [
                shaped(tensor.shape, dtype)
                for tensor, dtype in zip(tensors, self.dtypes, strict=True)
            ]
            try:
                found = narrowing(lambda *at: tuple(self.function(fixed, *at)), given)
            except Exception:  # what it raises on being called is told by the call itself
                return
        if found is not None:
            watch.add(getattr(torch, found[0].name), found[1], _IN_JAX)

    def _promoted(self, replaced: str) -> "ArrayFunction":
        """The function in float64; as it is where JAX cannot trace it."""
        name = f"{replaced} replaced"
        if name not in self._made:
            wide = promoted(self.function, self.dtypes, replaced, _x64)

            def function(fixed: object, *arrays: Any) -> Sequence[Any]:
                try:
                    return wide(fixed, *arrays)
                except RefbloError:
                    raise
                except Exception:  # whatever JAX raises on tracing; as it is, it may raise it again
                    if any(
                        isinstance(leaf, jax.core.Tracer)
                        for leaf in jax.tree_util.tree_leaves(fixed)
                    ):
                        raise
                    return self.function(fixed, *arrays)

            self._made[name] = ArrayFunction(function, self.inputs, self.outputs, own=False)
        found: ArrayFunction = self._made[name]
        return found

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


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
