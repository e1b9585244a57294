"""Symbols for matrices that do not commute, and the chain as a series in √ε."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import final

import sympy as sp
from sympy.polys.rings import PolyElement, PolyRing

EPS = sp.symbols("epsilon", positive=True)


def matrices(letter: str, count: int) -> tuple[sp.Symbol, ...]:
    """Symbols that do not commute: A(θ^(0)), A(θ^(1)), …."""
    return tuple(sp.Symbol(f"{letter}{k}", commutative=False) for k in range(count))


S0 = sp.Symbol("S0", commutative=False)
"""dθ⁰/dλ."""


@cache
def tangent(m: int) -> sp.Expr:
    """dθ^(m)/dλ without any approximation, as a polynomial in ε with ordered products.

    Args:
        m: the number of transitions.

    Returns:
        s_m from s_{k+1} = (1 + ε/2·A_k)s_k + ε/2·B_k, expanded.
    """
    a, b = matrices("A", m), matrices("B", m)
    s = S0
    for k in range(m):
        s = sp.expand((1 + EPS / 2 * a[k]) * s + EPS / 2 * b[k])
    return s


def coefficient_of(expression: sp.Expr, power: int, variable: sp.Symbol = EPS) -> sp.Expr:
    """The coefficient of a power, for expressions whose other symbols may not commute.

    Args:
        expression: expanded or not.
        power: the power of `variable`.
        variable: ε or r.

    Returns:
        The coefficient.
    """
    return sp.expand(expression).coeff(variable, power)


@final
@dataclass(frozen=True)
class Jets:
    """Which derivatives at θ⁰ are kept generic, each its own symbol, and which vanish.

    Attributes:
        depends: whether dθ⁰/dλ is the symbol s0, or zero.
        noisy: whether the chain has noise.
        curved: whether f has derivatives in θ beyond the first.
    """

    depends: bool = False
    noisy: bool = True
    curved: bool = True


_STEPS = 6
_NAMES = (
    ["r", "s0"]
    + [f"e{k}" for k in range(1, 5)]
    + [f"b{k}" for k in range(3)]
    + [f"f{k}" for k in range(1, 5)]
    + [f"z{k}" for k in range(_STEPS)]
)
_RING = PolyRing(
    [sp.Symbol(name, positive=True if name == "r" else None) for name in _NAMES], sp.QQ
)
_GEN = dict(zip(_NAMES, _RING.gens, strict=True))


@final
@dataclass(frozen=True)
class Series:
    """A chain as polynomials in r = √ε and in the derivatives at θ⁰, cut above a power of r.

    Attributes:
        order: the highest power of r that is kept.
        delta: θ^(m) - θ^(0).
        s: dθ^(m)/dλ.
        f1: f'(θ^(m)).
        f2: f''(θ^(m)).
        a: A(θ^(m)).
        b: B(θ^(m)).
    """

    order: int
    delta: tuple[PolyElement, ...]
    s: tuple[PolyElement, ...]
    f1: tuple[PolyElement, ...]
    f2: tuple[PolyElement, ...]
    a: tuple[PolyElement, ...]
    b: tuple[PolyElement, ...]

    def product(self, *factors: PolyElement) -> PolyElement:
        """A product, cut above the order."""
        total = _RING.one
        for factor in factors:
            total = cut(total * factor, self.order)
        return total

    def g(self, m: int) -> PolyElement:
        """The exact indirect term f'(θ^(m))·s_m."""
        return self.product(self.f1[m], self.s[m])


def generator(name: str) -> PolyElement:
    """One symbol of the series' ring, such as ``f3`` or ``z1``."""
    return _GEN[name]


def root() -> PolyElement:
    """The series' small variable, r = √ε."""
    return _GEN["r"]


def weight(value: Fraction) -> PolyElement:
    """A rational number as an element of the series' ring."""
    return _RING(sp.QQ(value.numerator, value.denominator))


def cut(element: PolyElement, order: int) -> PolyElement:
    """A polynomial without the powers of r above an order."""
    kept = {monomial: c for monomial, c in element.terms() if monomial[0] <= order}
    return _RING.from_dict(kept)


def lowest(element: PolyElement) -> tuple[int, sp.Expr]:
    """The leading term of a series for small r.

    Args:
        element: the series.

    Returns:
        The lowest power of r that occurs and its coefficient; (-1, 0) for the zero series.
    """
    terms = element.terms()
    if not terms or element == 0:
        return -1, sp.S(0)
    power = min(monomial[0] for monomial, _ in terms)
    leading = {(0, *m[1:]): c for m, c in terms if m[0] == power}
    return power, sp.expand(_RING.from_dict(leading).as_expr())


def _taylor(names: list[str], delta: PolyElement, order: int, vanish: bool = False) -> PolyElement:
    total, power = _RING.zero, _RING.one
    for k, name in enumerate(names):
        if not (vanish and k > 0):
            total += _GEN[name] * power * sp.QQ(1, int(sp.factorial(k)))
        power = cut(power * delta, order)
    return cut(total, order)


@cache
def chain_series(steps: int, order: int, jet: Jets = Jets()) -> Series:
    """Expand the chain (24) and its exact tangent in r = √ε.

    Args:
        steps: the number of transitions, at most 6.
        order: the highest power of r that is kept.
        jet: which derivatives are generic.

    Returns:
        The series, for θ^(0) to θ^(steps).
    """
    r, half = _GEN["r"], sp.QQ(1, 2)
    delta = [_RING.zero]
    s = [_GEN["s0"] if jet.depends else _RING.zero]
    for k in range(steps):
        force = _taylor(["e1", "e2", "e3", "e4"], delta[k], order)
        a = -_taylor(["e2", "e3", "e4"], delta[k], order)
        b = _taylor(["b0", "b1", "b2"], delta[k], order)
        moved = delta[k] - r**2 * force * half
        if jet.noisy:
            moved += r * _GEN[f"z{k}"]
        delta.append(cut(moved, order))
        s.append(cut(s[k] + cut(r**2 * (b + a * s[k]), order) * half, order))
    f_names = ["f1", "f2", "f3", "f4"]
    flat = _RING.zero
    second = tuple(_taylor(f_names[1:], d, order) if jet.curved else flat for d in delta)
    return Series(
        order,
        tuple(delta),
        tuple(s),
        tuple(_taylor(f_names, d, order, vanish=not jet.curved) for d in delta),
        second,
        tuple(-_taylor(["e2", "e3", "e4"], d, order) for d in delta),
        tuple(_taylor(["b0", "b1", "b2"], d, order) for d in delta),
    )
