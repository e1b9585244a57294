"""A function of NumPy arrays with derivatives by complex step, and of these by differences.

F takes one real vector x to another, u and v are vectors. With a step h so small that h² is nothing,
∂F v = Im F(x + ihv) / h has no error but rounding, where F is analytic and takes complex numbers. What
takes the modulus, the real part or a conjugate, or calls a library that drops the imaginary part, is
neither, and nothing says so: each derivative by complex step is compared with a difference along one
direction, and where the two disagree, F is differentiated by differences from then on.

The derivatives of ∂F are directional ones of the first derivatives, by differences: for P(x, v) = ∂F v and
R(x, u) = (∂F)ᵀu, with D the derivative by x along a vector, ∂P (dx, dv) = D_dx P(x, v) + P(x, dv) and
(∂P)ᵀu = (D_v R(x, u), R(x, u)); ∂R (dx, du) = D_dx R(x, u) + R(x, du) and (∂R)ᵀw = (D_w R(x, u), P(x, w)),
the last as second derivatives are symmetric.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.conformance.in_numpy.slopes import bend, slope
from refblo.conformance.operation import apply, one_by_one
from refblo.conformance.rounded import RoundedValuesError, steps

Array = np.ndarray
OnVectors = Callable[[Any, Array], Array]
"""(fixed, x) ↦ F(x); x real or complex, and nothing is differentiated by `fixed`, such as a batch."""

_IMAGINARY = 2.0**-60
"""The complex step."""

_CHECK_STEP = 2.0**-10
"""Of each entry's size: the step of the differences that a complex step is compared with."""

_AGREE = 1e-7
"""The relative distance within which the two agree."""

_COMPONENTS = 4
"""Values of a function of many that are looked at for being rounded."""

_ROUNDED = 64.0
"""Units in the last place of the values that rounding may put between them."""


@final
@dataclass(eq=False)
class HowDifferentiated:
    """By what a function has been differentiated so far.

    Attributes:
        name: of the function, for findings.
        why_not_complex: why it is no longer by complex step; "" while it is.
        calls: how often the function was called.
        rounded: what rounding makes of its values, where differences say nothing of them; None if unknown.
    """

    name: str
    why_not_complex: str = ""
    calls: int = 0
    rounded: str | None = None


Vectors = tuple[Array, ...]


@runtime_checkable
class VectorFunction(Protocol):
    """A function of some vectors, with its derivatives."""

    def __call__(self, fixed: Any, *vectors: Array) -> Vectors:
        """F(x)."""
        ...

    def forward(self) -> "VectorFunction":
        """(x, v) ↦ ∂F v."""
        ...

    def reverse(self) -> "VectorFunction":
        """(x, u) ↦ (∂F)ᵀu."""
        ...


@final
@dataclass(frozen=True, eq=False)
class NumericFunction:
    """F itself.

    Attributes:
        function: the caller's, on vectors.
        inputs: the entries of x.
        how: by what it is differentiated.
    """

    function: OnVectors
    inputs: int
    how: HowDifferentiated

    def __call__(self, fixed: Any, *vectors: Array) -> Vectors:
        """F(x)."""
        return (self.at(fixed, *vectors),)

    def at(self, fixed: Any, x: Array) -> Array:
        """F(x)."""
        self.how.calls += 1
        return self.function(fixed, x)

    def forward(self) -> "VectorFunction":
        """P."""
        return JacobianProduct(self)

    def reverse(self) -> "VectorFunction":
        """R."""
        return TransposedProduct(self)

    def pushed(self, fixed: Any, x: Array, v: Array, *, beside: bool = False) -> Array:
        """∂F v; a point beside one at which it was confirmed need not be confirmed."""
        if not v.any():
            return np.zeros_like(self.at(fixed, x))
        if not self.how.why_not_complex:
            found = self._complex_step(fixed, x, v)
            if found is not None and (beside or self._confirmed(fixed, x, v, found)):
                return found
        self._require_exact_values(fixed, x)
        return moved(lambda y: self.at(fixed, y), x, v)

    def pulled(self, fixed: Any, x: Array, u: Array, *, beside: bool = False) -> Array:
        """(∂F)ᵀu; likewise."""
        if not u.any():
            return np.zeros(self.inputs)
        units = np.eye(self.inputs)
        if not self.how.why_not_complex:
            rows = [self._complex_step(fixed, x, unit) for unit in units]
            if all(row is not None for row in rows):
                jacobian = np.array(rows)
                along = _signs(self.inputs) * _sizes(x)
                if beside or self._confirmed(fixed, x, along, along @ jacobian):
                    found: Array = jacobian @ u
                    return found
        self._require_exact_values(fixed, x)
        return np.array([u @ moved(lambda y: self.at(fixed, y), x, unit) for unit in units])

    def _require_exact_values(self, fixed: Any, x: Array) -> None:
        """Raise if the values are rounded, as differences of such values are no derivatives.

        Raises:
            RoundedValuesError: if they are.
        """
        if self.how.rounded is None:
            self.how.rounded = self._rounded(fixed, x)
        if self.how.rounded:
            raise RoundedValuesError(
                f"{self.how.name} must return its values as they are, got a function that is "
                f"{self.how.rounded}: no verdict is possible; look for round, astype, a printed number, a "
                "or a count inside it"
            )

    def _curve(self, fixed: Any, x: Array, along: Array, index: int) -> Callable[[float], float]:
        """A value of many on a line."""
        return lambda t: float(self.at(fixed, x + t * along)[index])

    def _rounded(self, fixed: Any, x: Array) -> str:
        """What rounding makes of the values, or of some of many; "" for nothing."""
        along = _signs(self.inputs) * _sizes(x)
        for index in range(min(self.at(fixed, x).size, _COMPONENTS)):
            with np.errstate(all="ignore"):
                found = steps(self._curve(fixed, x, along, index))
            if found is not None:
                return found.describe()
        return ""

    def pulled_along(self, fixed: Any, x: Array, u: Array, v: Array) -> Array:
        """The derivative of (∂F)ᵀu by x along v."""
        if not self.how.why_not_complex:
            return moved(lambda y: self.pulled(fixed, y, u, beside=True), x, v)
        if not (u.any() and v.any()):
            return np.zeros(self.inputs)
        return np.array([u @ self.bent(fixed, x, unit, v) for unit in np.eye(self.inputs)])

    def bent(self, fixed: Any, x: Array, a: Array, b: Array) -> Array:
        """∂²F(a, b), from derivatives along a + b and a − b, for a function of real numbers alone.

        Two curves of F take fewer values than a curve of its derivatives, each of them from a curve.
        """
        if not (a.any() and b.any()):
            return np.zeros_like(self.at(fixed, x))
        by_size = float(np.abs(a / _sizes(x)).max()) / float(np.abs(b / _sizes(x)).max())
        even, odd = a + by_size * b, a - by_size * b
        found: Array = self._second(fixed, x, even) - self._second(fixed, x, odd)
        scaled: Array = found / (4 * by_size)
        return scaled

    def _second(self, fixed: Any, x: Array, v: Array) -> Array:
        """∂²F(v, v)."""
        if not v.any():
            return np.zeros_like(self.at(fixed, x))
        unit = _unit(x, v)
        found: Array = bend(lambda t: self.at(fixed, x + (t * unit) * v)) / unit**2
        return found

    def _complex_step(self, fixed: Any, x: Array, v: Array) -> Array | None:
        """Im F(x + ihv) / h; None where F takes no complex numbers, which is noted."""
        size = float(np.abs(v).max())
        try:
            with np.errstate(all="ignore"):
                found = np.asarray(self.at(fixed, x + 1j * (_IMAGINARY / size) * v))
        except (
            Exception
        ) as error:  # whatever the caller's code, or a library, makes of complex numbers
            first_line = str(error).strip().partition("\n")[0] or "it says nothing more"
            self.how.why_not_complex = (
                f"with complex numbers it raises {type(error).__name__} ({first_line})"
            )
            return None
        if not np.iscomplexobj(found):
            self.how.why_not_complex = "with complex numbers it returns a real number"
            return None
        return found.imag * (size / _IMAGINARY)

    def _confirmed(self, fixed: Any, x: Array, v: Array, found: Array) -> bool:
        """Whether differences of order 4 agree; a disagreement is noted."""
        scale = float(np.max(np.abs(v) / _sizes(x)))
        step = _CHECK_STEP / scale
        with np.errstate(all="ignore"):
            values = [self.at(fixed, x + t * step * v) for t in (1.0, -1.0, 2.0, -2.0)]
            difference = (8 * (values[0] - values[1]) - (values[2] - values[3])) / (12 * step)
        off = float(np.linalg.norm(difference - found))
        largest = max(float(np.linalg.norm(value)) for value in values)
        rounding = _ROUNDED * np.finfo(np.float64).eps * largest / step
        size = float(np.linalg.norm(found)) + float(np.linalg.norm(difference))
        if off <= _AGREE * size + rounding or not np.isfinite(off):
            # What is not finite is found out elsewhere, by its name.
            return True
        self.how.why_not_complex = (
            f"along one direction the complex step gives {_shown(found)} and differences give "
            f"{_shown(difference)}: abs, a norm, .real, .conj() or a comparison drops the imaginary part"
        )
        return False


@final
@dataclass(frozen=True, eq=False)
class JacobianProduct:
    """P(x, v) = ∂F v."""

    of: NumericFunction

    def __call__(self, fixed: Any, *vectors: Array) -> Vectors:
        """P."""
        return (self.of.pushed(fixed, *vectors),)

    def forward(self) -> "VectorFunction":
        """(x, v, dx, dv) ↦ D_dx P(x, v) + P(x, dv)."""

        def pushed(fixed: Any, x: Array, v: Array, dx: Array, dv: Array) -> Vectors:
            first = self.of.pushed(fixed, x, dv)
            if self.of.how.why_not_complex:
                by_x = self.of.bent(fixed, x, v, dx)
            else:
                by_x = moved(lambda y: self.of.pushed(fixed, y, v, beside=True), x, dx)
            return (by_x + first,)

        return SecondDerivative(pushed)

    def reverse(self) -> "VectorFunction":
        """(x, v, u) ↦ (D_v R(x, u), R(x, u))."""

        def pulled(fixed: Any, x: Array, v: Array, u: Array) -> Vectors:
            value = self.of.pulled(fixed, x, u)  # first: it finds out whether complex steps serve
            return self.of.pulled_along(fixed, x, u, v), value

        return SecondDerivative(pulled)


@final
@dataclass(frozen=True, eq=False)
class TransposedProduct:
    """R(x, u) = (∂F)ᵀu."""

    of: NumericFunction

    def __call__(self, fixed: Any, *vectors: Array) -> Vectors:
        """R."""
        return (self.of.pulled(fixed, *vectors),)

    def forward(self) -> "VectorFunction":
        """(x, u, dx, du) ↦ D_dx R(x, u) + R(x, du)."""

        def pushed(fixed: Any, x: Array, u: Array, dx: Array, du: Array) -> Vectors:
            value = self.of.pulled(fixed, x, du)
            return (self.of.pulled_along(fixed, x, u, dx) + value,)

        return SecondDerivative(pushed)

    def reverse(self) -> "VectorFunction":
        """(x, u, w) ↦ (D_w R(x, u), P(x, w))."""

        def pulled(fixed: Any, x: Array, u: Array, w: Array) -> Vectors:
            value = self.of.pushed(fixed, x, w)
            return self.of.pulled_along(fixed, x, u, w), value

        return SecondDerivative(pulled)


@final
@dataclass(frozen=True, eq=False)
class SecondDerivative:
    """A second derivative. It has no derivatives of its own: no check takes third ones."""

    function: Callable[..., Vectors]

    def __call__(self, fixed: Any, *vectors: Array) -> Vectors:
        """Its value."""
        return self.function(fixed, *vectors)

    def forward(self) -> "VectorFunction":
        """None.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "losses in NumPy have two derivatives; write them in torch or JAX"
        )

    def reverse(self) -> "VectorFunction":
        """None.

        Raises:
            NotImplementedError: always.
        """
        return self.forward()


def moved(function: Callable[[Array], Array], x: Array, v: Array) -> Float64[Array, " n"]:
    """The derivative of a function of x along v, by differences."""
    if not v.any():
        return np.zeros_like(function(x))
    unit = _unit(x, v)
    found: Array = slope(lambda t: function(x + (t * unit) * v)) / unit
    return found


def _unit(x: Array, v: Array) -> float:
    """How many v change x by about the size of its entries that v changes, and by 1 at least."""
    return max(1.0, float(np.abs(x[v != 0]).max())) / float(np.abs(v).max())


def _sizes(x: Array) -> Array:
    return np.where(x == 0, 1.0, np.abs(x))


def _signs(count: int) -> Array:
    """Weights of unequal sizes and signs, so that errors in several entries do not cancel."""
    index = np.arange(count)
    found: Array = np.where(index % 2 == 0, 1.0, -1.0) * (1 - 0.5 * np.modf(index * np.sqrt(2))[0])
    return found


def _shown(vector: Array) -> str:
    return f"{float(vector[0]):.6g}" if vector.size == 1 else f"{float(np.linalg.norm(vector)):.6g}"


@final
@dataclass(frozen=True, eq=False)
class InTorch:
    """A function of vectors for torch; float32 tensors are computed with in float64 and rounded back."""

    function: VectorFunction

    def value(self, fixed: Any, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Its value at vectors."""
        vectors = [tensor.detach().cpu().double().numpy() for tensor in tensors]
        return tuple(
            torch.from_numpy(np.array(each, dtype=np.float64)).to(tensors[0])
            for each in self.function(fixed, *vectors)
        )

    def reverse(self) -> "InTorch":
        """(x, u) ↦ (∂F)ᵀu."""
        return InTorch(self.function.reverse())

    def forward(self) -> "InTorch":
        """(x, v) ↦ ∂F v."""
        return InTorch(self.function.forward())

    def rows(
        self, fixed: Any, tensors: Sequence[Tensor], dims: tuple[int | None, ...], count: int
    ) -> tuple[Tensor, ...]:
        """One point after another."""
        return one_by_one(self, fixed, tensors, dims, count)

    def on(self, fixed: Any, vector: Tensor) -> Tensor:
        """Its value at a vector; torch can differentiate it twice."""
        return apply(self, fixed, (vector,))[0]
