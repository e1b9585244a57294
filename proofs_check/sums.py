"""Sums with a symbolic end, so that a step of an induction can be executed on them.

A sum from 0 to m - 1 (or to j - 1 inside another sum) of an ordered product is a symbol of its own;
one more or one fewer summand is added or taken away as it stands. What does not depend on the index
goes before or after the sum.
"""

from collections.abc import Callable

import sympy as sp

SIZE = sp.Symbol("m", positive=True)
"""The symbolic number of steps; a sum may end at m plus a whole number."""


class Indexed:
    """Something indexed over symbols: ``Indexed("A")[k]`` is the symbol A_k, for any k."""

    def __init__(self, name: str, commutes: bool = False) -> None:
        self._name, self._commutes = name, commutes

    def __getitem__(self, at: object) -> sp.Symbol:
        return sp.Symbol(f"{self._name}_[{at}]", commutative=self._commutes)


class At:
    """Something indexed over a function, such as the matrices of an exact world."""

    def __init__(self, function: Callable[[int], object]) -> None:
        self._function = function

    def __getitem__(self, at: int) -> object:
        return self._function(at)


def _total(term: sp.Expr, bound: sp.Symbol, size: sp.Symbol) -> sp.Expr:
    """The sum of one ordered product over the bound index from 0 to m - 1."""
    mark = f"[{bound}]"
    commuting, ordered = term.args_cnc()
    outside = sp.Mul(*(c for c in commuting if mark not in str(c) and not c.has(bound)))
    inside = sp.Mul(*(c for c in commuting if mark in str(c) or c.has(bound)))
    places = [k for k, f in enumerate(ordered) if mark in str(f)]
    if not places:
        rest = outside * sp.Mul(*ordered)
        if not inside.has(bound) and mark not in str(inside):
            return size * rest
        if mark not in str(inside) and inside.is_polynomial(bound):
            return sp.summation(inside, (bound, 0, size - 1)) * rest
        return rest * sp.Symbol(_name(inside, mark, bound, size), commutative=True)
    first, last = places[0], places[-1] + 1
    middle = sp.Symbol(
        _name(inside * sp.Mul(*ordered[first:last]), mark, bound, size), commutative=False
    )
    return outside * sp.Mul(*ordered[:first]) * middle * sp.Mul(*ordered[last:])


def _name(summand: sp.Expr, mark: str, bound: sp.Symbol, size: sp.Symbol) -> str:
    shown = str(summand.subs(bound, sp.Symbol("·"))).replace(mark, "[·]")
    return f"Σ[{size}]({shown})"


def symbolic_sum(
    bound: str, first: sp.Expr, last: sp.Expr, term: Callable[[sp.Expr], sp.Expr]
) -> sp.Expr:
    """A sum whose last index is m plus a whole number.

    Args:
        bound: the name of the index.
        first: the first index, a whole number.
        last: the last index.
        term: the summand at an index.

    Returns:
        The symbol of the sum from 0 to m - 1 of every ordered product in the summand, with the summands
        by which the sum differs from it.

    Raises:
        TypeError: an end is of another form.
    """
    symbols = sp.sympify(last).free_symbols
    size = next(iter(symbols)) if len(symbols) == 1 else SIZE
    beyond = sp.sympify(last) - (size - 1)
    if not (beyond.is_Integer and sp.sympify(first).is_Integer):
        raise TypeError(f"a symbolic sum must run from a number to m plus a number, got {last}")
    index = sp.Symbol(bound)
    parts = sp.Add.make_args(sp.expand(term(index)))
    total = sum((_total(part, index, size) for part in parts), sp.S(0))
    extra = int(beyond)
    for k in range(extra):
        total += term(size + k)
    for k in range(-extra):
        total -= term(size - 1 - k)
    for k in range(int(first)):
        total -= term(sp.Integer(k))
    for k in range(-int(first)):
        total += term(sp.Integer(-1 - k))
    return sp.expand(total)
