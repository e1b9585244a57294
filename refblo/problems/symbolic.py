"""A problem stated once more in sympy: the form that arbitrary-precision oracles work from.

Nothing here knows of torch: an oracle that differentiates these expressions shares no code with one
that differentiates the problem's tensor functions, not even the statement of the losses.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import sympy
from jaxtyping import Float64


@final
@dataclass(frozen=True)
class SymbolicProblem:
    """A small bilevel problem in closed symbolic form.

    Attributes:
        lam: the symbols of λ, p of them.
        theta: the symbols of θ, n of them.
        inner: L_T as an expression in lam, theta and inner_batch.
        outer: f as an expression in lam, theta and outer_batch.
        initial: θ⁰, n expressions in lam (numbers where θ⁰ does not depend on λ). Floats of the tensor
            problem appear as the exact rationals that they are.
        inner_batch: the symbols of the inner loss's batch, empty where it has none.
        outer_batch: the symbols of the outer loss's batch, empty where it has none.
    """

    lam: tuple[sympy.Symbol, ...]
    theta: tuple[sympy.Symbol, ...]
    inner: sympy.Expr
    outer: sympy.Expr
    initial: tuple[sympy.Expr, ...]
    inner_batch: tuple[sympy.Symbol, ...] = ()
    outer_batch: tuple[sympy.Symbol, ...] = ()


def symbols(name: str, count: int) -> tuple[sympy.Symbol, ...]:
    """`count` real symbols name_0, name_1, … in this order."""
    return tuple(sympy.Symbol(f"{name}_{index}", real=True) for index in range(count))


def exact_matrix(entries: Float64[np.ndarray, "rows columns"]) -> sympy.Matrix:
    """A matrix of the rationals that the floats are."""
    return sympy.Matrix([[sympy.Rational(float(entry)) for entry in row] for row in entries])
