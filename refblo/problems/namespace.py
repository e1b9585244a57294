"""Losses stated once, for torch, NumPy and JAX alike.

A problem's losses are built by a factory from an array namespace `xp` and the problem's data. The
namespace is looked up while the losses are built, so a call costs what the same lines written against
that library would. Only names that torch, NumPy (2.0 or newer) and jax.numpy share are used.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar, cast, final, runtime_checkable

import numpy as np
import torch
from torch import Tensor


@runtime_checkable
class Array(Protocol):
    """The operations of an array that the losses use."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...

    def __add__(self, other: Any, /) -> Self: ...
    def __radd__(self, other: Any, /) -> Self: ...
    def __sub__(self, other: Any, /) -> Self: ...
    def __rsub__(self, other: Any, /) -> Self: ...
    def __mul__(self, other: Any, /) -> Self: ...
    def __rmul__(self, other: Any, /) -> Self: ...
    def __truediv__(self, other: Any, /) -> Self: ...
    def __pow__(self, other: Any, /) -> Self: ...
    def __matmul__(self, other: Any, /) -> Self: ...
    def __neg__(self) -> Self: ...
    def __getitem__(self, index: Any, /) -> Self: ...


A = TypeVar("A", bound=Array)


@runtime_checkable
class ArrayNamespace(Protocol[A]):
    """The functions of an array library that the losses use."""

    def sum(self, x: A, /, *, axis: int | None = None) -> A:
        """Sum over one axis, or over all."""
        ...

    def amax(self, x: A, /, *, axis: int, keepdims: bool) -> A:
        """Largest entry along an axis."""
        ...

    def exp(self, x: A, /) -> A:
        """e^x."""
        ...

    def log(self, x: A, /) -> A:
        """Natural logarithm."""
        ...

    def tanh(self, x: A, /) -> A:
        """Hyperbolic tangent."""
        ...

    def abs(self, x: A, /) -> A:
        """|x|."""
        ...

    def swapaxes(self, x: A, first: int, second: int, /) -> A:
        """The array with two axes exchanged."""
        ...

    def reshape(self, x: A, shape: tuple[int, ...], /) -> A:
        """The same entries in another shape, the last index running fastest."""
        ...


TORCH = cast("ArrayNamespace[Tensor]", torch)
"""torch itself: it takes the array API's `axis` and `keepdims` beside its own names."""


@final
@dataclass(frozen=True, eq=False)
class StatedLosses(Generic[A]):
    """The inner and the outer loss of a problem in one array library.

    Attributes:
        inner: (lam, theta, batch) ↦ scalar.
        outer: (lam, theta, batch) ↦ scalar.
    """

    inner: Callable[[A, A, A | None], A]
    outer: Callable[[A, A, A | None], A]


@final
@dataclass(frozen=True, eq=False)
class SeparableParts(Generic[A]):
    """Losses whose inner one is data(θ; batch) + regulariser(λ, θ).

    Attributes:
        data: (theta, batch) ↦ scalar.
        regulariser: (lam, theta) ↦ scalar.
        outer: (lam, theta, batch) ↦ scalar.
    """

    data: Callable[[A, A | None], A]
    regulariser: Callable[[A, A], A]
    outer: Callable[[A, A, A | None], A]

    def losses(self) -> StatedLosses[A]:
        """The same without the structure."""
        data, regulariser = self.data, self.regulariser
        return StatedLosses(
            lambda lam, theta, batch: data(theta, batch) + regulariser(lam, theta), self.outer
        )


@final
@dataclass(frozen=True, eq=False)
class ComposedParts(Generic[A]):
    """Losses whose inner one is loss(λ, outputs(θ; batch); batch).

    Attributes:
        outputs: (theta, batch) ↦ the model's outputs.
        loss: (lam, outputs, batch) ↦ scalar.
        outer: (lam, theta, batch) ↦ scalar.
    """

    outputs: Callable[[A, A | None], A]
    loss: Callable[[A, A, A | None], A]
    outer: Callable[[A, A, A | None], A]

    def losses(self) -> StatedLosses[A]:
        """The same without the structure."""
        outputs, loss = self.outputs, self.loss
        return StatedLosses(
            lambda lam, theta, batch: loss(lam, outputs(theta, batch), batch), self.outer
        )


@runtime_checkable
class LossFactory(Protocol):
    """Builds a problem's losses from a namespace and the data as arrays of that library."""

    def __call__(self, xp: ArrayNamespace[A], data: Mapping[str, A], /) -> StatedLosses[A]:
        """The losses."""
        ...


@final
@dataclass(frozen=True, eq=False)
class Statement:
    """A problem's losses before an array library is chosen.

    Attributes:
        factory: builds the losses.
        data: what the factory needs, by name, as float64 or (for indices) int64 NumPy arrays.

    Example:
        >>> import numpy as np
        >>> from refblo.problems import build
        >>> statement = build("synth_1d").statement
        >>> losses = statement.losses(np, np.asarray)
        >>> float(losses.outer(np.array([0.5]), np.array([0.5]), None))
        0.0
    """

    factory: LossFactory
    data: Mapping[str, np.ndarray]

    def losses(self, xp: ArrayNamespace[A], convert: Callable[[np.ndarray], A]) -> StatedLosses[A]:
        """The losses in one array library.

        Args:
            xp: its namespace: `torch`, `numpy` or `jax.numpy`.
            convert: makes one of its arrays from a NumPy array; it chooses dtype and device.
        """
        return self.factory(xp, {name: convert(x) for name, x in self.data.items()})

    def in_torch(self, dtype: torch.dtype, device: torch.device | str) -> StatedLosses[Tensor]:
        """The losses in torch."""
        return self.losses(TORCH, lambda x: as_tensor(x, dtype, device))


def as_tensor(x: np.ndarray, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """A NumPy array as a tensor: floats in the dtype that is asked for, integers as they are."""
    return torch.as_tensor(x, dtype=dtype if x.dtype.kind == "f" else None, device=device)
