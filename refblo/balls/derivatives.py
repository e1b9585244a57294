"""A symbolic problem's derivatives as functions of balls, and exact conversions.

A ball is an interval [mid ± rad] of python-flint's `arb`; every operation returns a ball that contains
the exact result for all numbers in its arguments. Nothing here knows of torch.autograd.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import sympy
from flint import arb, arb_mat

from refblo.balls.graph import Balls, Graph
from refblo.problems.symbolic import SymbolicProblem


@final
@dataclass(frozen=True, eq=False)
class BallTape:
    """Some nodes of a graph, ready to be compiled at any precision."""

    graph: Graph
    outputs: tuple[int, ...]

    def compile(self) -> Callable[[Sequence[arb]], Balls]:
        """The function from the graph's inputs to these nodes, at the current precision."""
        return self.graph.compile(self.outputs)


@final
@dataclass(frozen=True, eq=False)
class Derivatives:
    """A symbolic problem, differentiated.

    Attributes:
        p: length of λ.
        n: length of θ.
        value: (λ, θ, batch) ↦ L_T, for line searches.
        inner: (λ, θ, batch) ↦ ∂_θ L_T (n), the upper triangle of H by rows, C by rows (n × p).
        outer: (λ, θ, batch) ↦ f_λ (p), f_θ (n).
        initial: λ ↦ θ⁰ (n), dθ⁰/dλ by rows (n × p).
        curvatures: λ ↦ the upper triangles of Q = ∂²f/∂θ², of ∂_jQ for each j, and of ∂_jH for each j, where
            L_T and f are quadratic in θ and see no batches; None where not.
    """

    p: int
    n: int
    value: BallTape
    inner: BallTape
    outer: BallTape
    initial: BallTape
    curvatures: BallTape | None


@lru_cache(maxsize=32)
def differentiate(problem: SymbolicProblem) -> Derivatives:
    """All derivatives that the recursions need.

    Raises:
        OracleError: for a function that ball arithmetic does not have.
    """
    lam, theta = problem.lam, problem.theta
    n = len(theta)
    inner = Graph((*lam, *theta, *problem.inner_batch))
    loss = inner.build(problem.inner)
    gradient = [inner.derivative(loss, symbol) for symbol in theta]
    hessian = _upper(inner, gradient, theta)
    mixed = [inner.derivative(entry, symbol) for entry in gradient for symbol in lam]
    outer = Graph((*lam, *theta, *problem.outer_batch))
    objective = outer.build(problem.outer)
    slopes = [outer.derivative(objective, symbol) for symbol in (*lam, *theta)]
    initial = Graph(lam)
    start = [initial.build(entry) for entry in problem.initial]
    moved = [initial.derivative(entry, symbol) for entry in start for symbol in lam]
    return Derivatives(
        p=len(lam),
        n=n,
        value=BallTape(inner, (loss,)),
        inner=BallTape(inner, (*gradient, *hessian, *mixed)),
        outer=BallTape(outer, tuple(slopes)),
        initial=BallTape(initial, (*start, *moved)),
        curvatures=_curvatures(problem),
    )


def _upper(graph: Graph, gradient: Sequence[int], theta: Sequence[sympy.Symbol]) -> list[int]:
    """The upper triangle of the Hessian by rows."""
    return [
        graph.derivative(gradient[i], theta[j])
        for i in range(len(theta))
        for j in range(i, len(theta))
    ]


def _curvatures(problem: SymbolicProblem) -> BallTape | None:
    if problem.inner_batch or problem.outer_batch:
        return None
    graph = Graph((*problem.lam, *problem.theta))
    triangles = []
    for loss in (problem.outer, problem.inner):
        whole = graph.build(loss)
        gradient = [graph.derivative(whole, symbol) for symbol in problem.theta]
        triangle = _upper(graph, gradient, problem.theta)
        third = (graph.derivative(entry, symbol) for entry in triangle for symbol in problem.theta)
        if not all(graph.is_zero(entry) for entry in third):
            return None
        triangles.append(triangle)
    moved = [
        graph.derivative(entry, symbol)
        for triangle in triangles
        for symbol in problem.lam
        for entry in triangle
    ]
    return BallTape(graph, (*triangles[0], *moved))


def tape(symbols: Sequence[sympy.Symbol], expressions: Sequence[sympy.Expr]) -> BallTape:
    """The expressions as functions of the symbols."""
    graph = Graph(tuple(symbols))
    return BallTape(graph, tuple(graph.build(expression) for expression in expressions))


def exact(number: float) -> arb:
    """The ball of radius 0 around a float (or an integer)."""
    return arb(number)


def symmetric(upper: Sequence[arb], n: int) -> arb_mat:
    """The symmetric n × n matrix with this upper triangle, given by rows."""
    matrix = arb_mat(n, n)
    entries = iter(upper)
    for i in range(n):
        for j in range(i, n):
            matrix[i, j] = matrix[j, i] = next(entries)
    return matrix


def positive_definite(matrix: arb_mat) -> bool:
    """Whether every symmetric matrix in the balls is proved positive definite, by LDLᵀ."""
    n = matrix.nrows()
    rows = [[matrix[i, j] for j in range(n)] for i in range(n)]
    for k in range(n):
        pivot = rows[k][k]
        if not pivot > 0:
            return False
        for i in range(k + 1, n):
            factor = rows[i][k] / pivot
            for j in range(k + 1, i + 1):
                rows[i][j] = rows[i][j] - factor * rows[j][k]
                rows[j][i] = rows[i][j]
    return True


def column(entries: Sequence[arb]) -> arb_mat:
    """The entries as a matrix of one column."""
    return arb_mat(len(entries), 1, list(entries))


def decimal(ball: arb, digits: int) -> tuple[str, str]:
    """Decimal strings (mid, rad) with [mid ± rad] containing the ball; mid has about `digits` digits."""
    mid, rad, exponent = ball.mid_rad_10exp(digits)
    return f"{int(mid)}e{int(exponent)}", f"{int(rad)}e{int(exponent)}"


def upper_float(ball: arb) -> float:
    """A float that no number of the ball exceeds."""
    return math.nextafter(float(ball.upper()), math.inf)


def norm_bound(balls: Sequence[arb]) -> arb:
    """A ball whose upper end bounds the Euclidean norm of every vector in the balls."""
    total = arb(0)
    for ball in balls:
        bound = ball.abs_upper()
        total += bound * bound
    return total.sqrt()
