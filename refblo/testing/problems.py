"""Random problems with p ≠ n, for properties that must hold on every problem.

Each is a function of its seed and sizes. Sizes are small: a property is checked on hundreds of them. The
sympy statement is made when it is asked for, because making it takes longer than everything else.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import sympy
import torch

from refblo.chain import Langevin, Schedule
from refblo.errors import require
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, Composed, FixedInitial, Separable
from refblo.problems.case import Case
from refblo.problems.namespace import (
    TORCH,
    A,
    ArrayNamespace,
    ComposedParts,
    SeparableParts,
    StatedLosses,
    Statement,
    as_tensor,
)
from refblo.problems.quadratic import case_of, instance
from refblo.problems.symbolic import SymbolicProblem, exact_matrix, symbols

ROWS = 4
"""Data points of the smooth problems."""

RIDGE = 0.1
"""Makes the separable problem's inner loss strongly convex."""

SHORT = Schedule(burn_in=3, samples=4)
"""Enough steps for an error in any of them to show."""


def random_quadratic(
    seed: int,
    n: int,
    p: int,
    condition_number: float = 10.0,
    *,
    curvature: float = 0.0,
    moving_start: float = 0.0,
    schedule: Schedule = SHORT,
    symbolic: bool = False,
) -> Case:
    """A member of the quadratic family; its arguments are those of `refblo.problems.quadratic.instance`.

    Raises:
        ArgumentError: if n = p, n or p is less than 1, or the condition number is less than 1.
    """
    _require_sizes(n, p)
    draws = Draws(seed)
    numbers = instance(
        draws, n, p, condition_number, curvature=curvature, moving_start=moving_start
    )
    name = f"quadratic, seed {seed}"
    return case_of(name, numbers, draws, schedule=schedule, stated_in_sympy=symbolic)


def separable_parts(xp: ArrayNamespace[A], data: Mapping[str, A]) -> SeparableParts[A]:
    """Pseudo-Huber regression with a penalty that couples every λ with every θ.

    Data loss Σ_i √(1 + (x_i·θ − y_i)²)/N + (ridge/2)‖θ‖², regulariser ½ Σ_j exp(Wλ)_j θ_j² − θ'Kλ, outer
    loss Σ_i √(1 + (v_i·θ − t_i)²)/V + θ'Rλ + ½‖λ‖².
    """
    features, targets = data["features"], data["targets"]
    weights, coupling = data["weights"], data["coupling"]
    exp, huber = xp.exp, _pseudo_huber(xp)

    def fit(theta: A, _: A | None) -> A:
        return huber(features @ theta - targets) + 0.5 * RIDGE * (theta @ theta)

    def regulariser(lam: A, theta: A) -> A:
        return 0.5 * (exp(weights @ lam) @ (theta * theta)) - theta @ (coupling @ lam)

    return SeparableParts(fit, regulariser, _outer(xp, data))


def composed_parts(xp: ArrayNamespace[A], data: Mapping[str, A]) -> ComposedParts[A]:
    """A one-layer network under a loss that λ weighs and shifts.

    Outputs z_i = tanh(x_i·θ), loss Σ_i exp(Gλ)_i (z_i − y_i)²/N + z'Gλ/N; the outer loss is that of
    `separable_parts`.
    """
    features, targets, gains = data["features"], data["targets"], data["gains"]
    tanh, exp = xp.tanh, xp.exp

    def outputs(theta: A, _: A | None) -> A:
        return tanh(features @ theta)

    def loss(lam: A, z: A, _: A | None) -> A:
        gain, residual = gains @ lam, z - targets
        return (exp(gain) @ (residual * residual) + z @ gain) / ROWS

    return ComposedParts(outputs, loss, _outer(xp, data))


def separable_losses(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """`separable_parts` without the structure."""
    return separable_parts(xp, data).losses()


def composed_losses(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """`composed_parts` without the structure."""
    return composed_parts(xp, data).losses()


def random_separable(
    seed: int, n: int, p: int, *, schedule: Schedule = SHORT, symbolic: bool = False
) -> Case:
    """A smooth, strongly convex, non-quadratic problem that declares a separable regulariser.

    Raises:
        ArgumentError: if n = p, or n or p is less than 1.
    """
    data, lam, start = _draw(seed, n, p)
    built = separable_parts(TORCH, {name: torch.as_tensor(x) for name, x in data.items()})
    inner = Separable(built.data, built.regulariser)
    problem = BilevelProblem(inner, built.outer, FixedInitial(torch.as_tensor(start)))
    statement = Statement(separable_losses, data)
    tags = frozenset({"strongly convex", "deterministic losses", "separable"})
    in_sympy = _symbolic_separable(data, start) if symbolic else None
    return _case(f"separable, seed {seed}", problem, lam, schedule, statement, in_sympy, tags)


def random_composed(
    seed: int, n: int, p: int, *, schedule: Schedule = SHORT, symbolic: bool = False
) -> Case:
    """A smooth, non-convex problem in which λ is in the loss on top of the network only.

    Raises:
        ArgumentError: if n = p, or n or p is less than 1.
    """
    data, lam, start = _draw(seed, n, p)
    built = composed_parts(TORCH, {name: torch.as_tensor(x) for name, x in data.items()})
    inner = Composed(built.outputs, built.loss)
    problem = BilevelProblem(inner, built.outer, FixedInitial(torch.as_tensor(start)))
    statement = Statement(composed_losses, data)
    tags = frozenset({"deterministic losses", "composed"})
    in_sympy = _symbolic_composed(data, start) if symbolic else None
    return _case(f"composed, seed {seed}", problem, lam, schedule, statement, in_sympy, tags)


def _case(
    name: str,
    problem: BilevelProblem,
    lam: np.ndarray,
    schedule: Schedule,
    statement: Statement,
    symbolic: SymbolicProblem | None,
    tags: frozenset[str],
) -> Case:
    # The curvature is of order one: rows have unit expected square norm, exponents a quarter's spread.
    dynamics = Langevin(step_size=0.2, temperature=0.05, noise_scale=1.0)
    return Case(
        name=name,
        problem=replace(problem, name=name),
        lam=as_tensor(lam, torch.float64, "cpu"),
        dynamics=dynamics,
        schedule=schedule,
        symbolic=symbolic,
        statement=statement,
        tags=tags,
    )


def _require_sizes(n: int, p: int) -> None:
    for name, size in (("n", n), ("p", p)):
        require(size >= 1, name, "be at least 1", size, "ask for at least one entry")
    require(
        n != p, "p", f"differ from n = {n}", p, "with p = n a transposed product can pass a test"
    )


def _draw(seed: int, n: int, p: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The data, λ and θ⁰ of a smooth problem."""
    _require_sizes(n, p)
    draws = Draws(seed)

    def normal(which: int, *shape: int) -> np.ndarray:
        like = torch.empty(shape, dtype=torch.float64)
        return draws.normal(Stream.INSTANCE, which, like).numpy()

    data = {
        "features": normal(0, ROWS, n) / np.sqrt(n),
        "targets": normal(1, ROWS),
        "weights": 0.25 * normal(2, n, p),
        "coupling": normal(3, n, p),
        "gains": 0.25 * normal(4, ROWS, p),
        "outer_features": normal(5, ROWS, n) / np.sqrt(n),
        "outer_targets": normal(6, ROWS),
        "outer_mixed": normal(7, n, p),
    }
    return data, normal(8, p), normal(9, n)


def _pseudo_huber(xp: ArrayNamespace[A]) -> Callable[[A], A]:
    total = xp.sum
    return lambda residual: total((1 + residual * residual) ** 0.5) / ROWS


def _outer(xp: ArrayNamespace[A], data: Mapping[str, A]) -> Callable[[A, A, A | None], A]:
    features, targets = data["outer_features"], data["outer_targets"]
    mixed, huber = data["outer_mixed"], _pseudo_huber(xp)

    def outer(lam: A, theta: A, _: A | None) -> A:
        return huber(features @ theta - targets) + theta @ (mixed @ lam) + 0.5 * (lam @ lam)

    return outer


def _column(entries: np.ndarray) -> sympy.Matrix:
    return exact_matrix(entries.reshape(-1, 1))


def _symbolic_outer(
    data: Mapping[str, np.ndarray], lam: sympy.Matrix, theta: sympy.Matrix
) -> sympy.Expr:
    residual = exact_matrix(data["outer_features"]) * theta - _column(data["outer_targets"])
    huber = sum(sympy.sqrt(1 + r**2) for r in residual) / ROWS
    return huber + theta.dot(exact_matrix(data["outer_mixed"]) * lam) + lam.dot(lam) / 2


def _symbolic_separable(data: Mapping[str, np.ndarray], start: np.ndarray) -> SymbolicProblem:
    n, p = data["weights"].shape
    lam, theta = sympy.Matrix(symbols("lambda", p)), sympy.Matrix(symbols("theta", n))
    residual = exact_matrix(data["features"]) * theta - _column(data["targets"])
    exponents = exact_matrix(data["weights"]) * lam
    # The ridge is the float that the tensor problem uses.
    inner = (
        sum(sympy.sqrt(1 + r**2) for r in residual) / ROWS
        + sympy.Rational(RIDGE) * theta.dot(theta) / 2
        + sum(sympy.exp(e) * t**2 for e, t in zip(exponents, theta, strict=True)) / 2
        - theta.dot(exact_matrix(data["coupling"]) * lam)
    )
    outer = _symbolic_outer(data, lam, theta)
    return SymbolicProblem(tuple(lam), tuple(theta), inner, outer, tuple(_column(start)))


def _symbolic_composed(data: Mapping[str, np.ndarray], start: np.ndarray) -> SymbolicProblem:
    n, p = data["weights"].shape
    lam, theta = sympy.Matrix(symbols("lambda", p)), sympy.Matrix(symbols("theta", n))
    z = (exact_matrix(data["features"]) * theta).applyfunc(sympy.tanh)
    gain, residual = exact_matrix(data["gains"]) * lam, z - _column(data["targets"])
    terms = sum(sympy.exp(g) * r**2 for g, r in zip(gain, residual, strict=True))
    outer = _symbolic_outer(data, lam, theta)
    inner = (terms + z.dot(gain)) / ROWS
    return SymbolicProblem(tuple(lam), tuple(theta), inner, outer, tuple(_column(start)))
