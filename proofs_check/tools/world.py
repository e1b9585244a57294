"""An exact world: a polynomial problem run in rational arithmetic, derivatives by dual numbers.

Every quantity of the derivations (iterates, tangents, A, B, ∂f) is a matrix of fractions, so that an
equality of the papers either holds exactly or does not. Two hyperparameters and three parameters: a
transposed product cannot pass. This file uses no automatic differentiation of any library.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, final

import numpy as np
import sympy as sp
from numpy.typing import NDArray

Exact = NDArray[np.object_]

LAMS = sp.symbols("l1 l2")
THETAS = sp.symbols("t1 t2 t3")
_l1, _l2 = LAMS
_t1, _t2, _t3 = THETAS

ENERGY = (
    _t1**2 + 2 * _t2**2 + 3 * _t3**2 + _t1 * _t2 - _t2 * _t3
    + _l1 * _t1 * _t2 + _l2 * _t3**2 - 2 * _l1 * _t3 + _l2**2 * _t1 + _t1**3 - _t2**2 * _t3
)  # fmt: skip
"""E(λ, θ): cubic, so that A and B both change along the chain."""

OUTER = (
    _t1**2 * _t2 + 2 * _t2 * _t3 + _t3**3 - _l1 * _t2 + _l1 * _l2 * _t1 + _l2**2 - 3 * _t1
)  # fmt: skip
"""f(λ, θ): with a third derivative in θ and a direct term in λ."""

INITIAL = (_l1 * _l2 + 1, _l1 + 2, _l2**2 - 1)
"""θ⁰(λ), for the problems whose initial point depends on λ."""


@final
@dataclass(frozen=True)
class Dual:
    """A number and its derivative with respect to the hyperparameters, both exact."""

    value: Fraction
    slope: tuple[Fraction, ...]

    def _lift(self, other: "Dual | Fraction | int") -> "Dual":
        if isinstance(other, Dual):
            return other
        return Dual(Fraction(other), (Fraction(0),) * len(self.slope))

    def __add__(self, other: "Dual | Fraction | int") -> "Dual":
        """The sum."""
        o = self._lift(other)
        slope = tuple(a + b for a, b in zip(self.slope, o.slope, strict=True))
        return Dual(self.value + o.value, slope)

    __radd__ = __add__

    def __mul__(self, other: "Dual | Fraction | int") -> "Dual":
        """The product, by Leibniz' rule."""
        o = self._lift(other)
        slope = tuple(
            a * o.value + self.value * b for a, b in zip(self.slope, o.slope, strict=True)
        )
        return Dual(self.value * o.value, slope)

    __rmul__ = __mul__

    def __neg__(self) -> "Dual":
        """The negative."""
        return self * -1

    def __sub__(self, other: "Dual | Fraction | int") -> "Dual":
        """The difference."""
        return self + -self._lift(other)

    def __rsub__(self, other: "Dual | Fraction | int") -> "Dual":
        """The difference, other way round."""
        return self._lift(other) - self

    def __pow__(self, power: int) -> "Dual":
        """A power with a positive integer exponent."""
        result = self
        for _ in range(power - 1):
            result = result * self
        return result


Evaluator = Callable[..., list[Any]]


@cache
def _evaluator(what: str) -> Evaluator:
    variables = (*LAMS, *THETAS)
    by_theta = [sp.diff(ENERGY, t) for t in THETAS]
    f_theta = [sp.diff(OUTER, t) for t in THETAS]
    expressions = {
        "score": [-e for e in by_theta],
        "A": [-sp.diff(e, t) for e in by_theta for t in THETAS],
        "B": [-sp.diff(e, lam) for e in by_theta for lam in LAMS],
        "f_theta": f_theta,
        "f_lambda": [sp.diff(OUTER, lam) for lam in LAMS],
        "f_theta2": [sp.diff(e, t) for e in f_theta for t in THETAS],
        "f": [OUTER],
        "theta0": list(INITIAL),
    }
    # Integer coefficients only: nothing in the generated code divides, so fractions stay exact.
    function: Evaluator = sp.lambdify(variables, expressions[what], modules=[])
    return function


@final
@dataclass(frozen=True, eq=False)
class World:
    """One run of the chain, exactly.

    Attributes:
        lam: λ.
        root: √ε, rational so that √ε·z is.
        noise: the rows z^(0), z^(1), ….
        thetas: θ^(0), θ^(1), ….
        tangents: dθ^(m)/dλ, each n × p.
    """

    lam: tuple[Fraction, ...]
    root: Fraction
    noise: tuple[tuple[Fraction, ...], ...]
    thetas: tuple[tuple[Fraction, ...], ...]
    tangents: tuple[Exact, ...]

    @property
    def epsilon(self) -> Fraction:
        """ε."""
        return self.root**2

    @property
    def n(self) -> int:
        """The number of parameters."""
        return len(THETAS)

    @property
    def p(self) -> int:
        """The number of hyperparameters."""
        return len(LAMS)

    def _at(self, what: str, m: int) -> Exact:
        values = _evaluator(what)(*self.lam, *self.thetas[m])
        return np.array([Fraction(v) for v in values], dtype=object)

    def A(self, m: int) -> Exact:  # noqa: N802 the papers' own letter
        """The matrix A = ∂² log p/∂θ² at θ^(m), n × n."""
        return self._at("A", m).reshape(self.n, self.n)

    def B(self, m: int) -> Exact:  # noqa: N802 the papers' own letter
        """The matrix B = ∂² log p/∂λ∂θ at θ^(m), n × p."""
        return self._at("B", m).reshape(self.n, self.p)

    def f_theta(self, m: int) -> Exact:
        """∂f/∂θ at θ^(m), shape (n,)."""
        return self._at("f_theta", m)

    def f_lambda(self, m: int) -> Exact:
        """∂f/∂λ at θ^(m), shape (p,)."""
        return self._at("f_lambda", m)

    def f_theta2(self, m: int) -> Exact:
        """∂²f/∂θ² at θ^(m), n × n."""
        return self._at("f_theta2", m).reshape(self.n, self.n)

    def g(self, m: int) -> Exact:
        """∂f/∂θ · dθ^(m)/dλ at θ^(m), shape (p,)."""
        product: Exact = self.f_theta(m) @ self.tangents[m]
        return product

    def total(self, m: int) -> Exact:
        """df(λ, θ^(m)(λ))/dλ by dual numbers through f itself, shape (p,)."""
        lams = _seed(self.lam)
        thetas = [
            Dual(value, tuple(row))
            for value, row in zip(self.thetas[m], self.tangents[m], strict=True)
        ]
        (value,) = _evaluator("f")(*lams, *thetas)
        return np.array(value.slope, dtype=object)


def _seed(lam: tuple[Fraction, ...]) -> list[Dual]:
    p = len(lam)
    return [Dual(v, tuple(Fraction(int(i == j)) for j in range(p))) for i, v in enumerate(lam)]


def _dual(value: Any, p: int) -> Dual:
    return value if isinstance(value, Dual) else Dual(Fraction(value), (Fraction(0),) * p)


@cache
def world(steps: int = 5, depends: bool = True, root: Fraction = Fraction(1, 5)) -> World:
    """Run the chain exactly and differentiate the program, not its formulas.

    Args:
        steps: the number of transitions.
        depends: whether θ⁰ depends on λ.
        root: √ε.

    Returns:
        The iterates and their tangents, by dual numbers through (24).
    """
    lam = (Fraction(1, 2), Fraction(-1, 3))
    lams = _seed(lam)
    p = len(lam)
    start = [_dual(v, p) for v in _evaluator("theta0")(*lams, 0, 0, 0)]
    if not depends:
        start = [_dual(v.value, p) for v in start]
    noise = tuple(
        tuple(Fraction((3 * m + 5 * i) % 7 - 3, 4) for i in range(len(THETAS)))
        for m in range(steps)
    )
    path = [start]
    for m in range(steps):
        score = _evaluator("score")(*lams, *path[-1])
        path.append(
            [
                t + root**2 / 2 * _dual(g, p) + root * z
                for t, g, z in zip(path[-1], score, noise[m], strict=True)
            ]
        )
    values = tuple(tuple(t.value for t in row) for row in path)
    tangents = tuple(np.array([t.slope for t in row], dtype=object) for row in path)
    return World(lam, root, noise, values, tangents)


def same(left: Exact, right: Exact) -> bool:
    """Whether two exact arrays have the same shape and the same entries."""
    return left.shape == right.shape and bool((left == right).all())
