"""The toy of Section 2.2 of Kim and Hospedales: a cubic through two points, three free coefficients.

Model λx³ + θ₂x² + θ₁x + θ₀; the losses are sums of squared residuals over two training points (inner)
and over two validation points (outer; the paper prints T where V is meant). The inner minimisers form
a line, so there is no implicit truth, and exp(−L_T/τ) cannot be normalised, so there is no Gibbs truth.
What the unrolled program computes is unique all the same.
"""

from collections.abc import Callable, Mapping

import numpy as np
import sympy
import torch

from refblo.chain import Langevin
from refblo.problem import BilevelProblem, FixedInitial
from refblo.problems.case import Case
from refblo.problems.namespace import A, ArrayNamespace, StatedLosses, Statement, as_tensor
from refblo.problems.quadratic import SCHEDULE, step_size
from refblo.problems.quadratic_forms import Quadratic, QuadraticForms
from refblo.problems.symbolic import SymbolicProblem, symbols

TRAINING = ((-0.75, -0.375), (0.75, -0.675))
VALIDATION = ((-0.5, -0.3), (0.5, -0.5))


def losses(_: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """Sums of squares; the data are the powers 1, x, x² (two rows), x³ and y of either set."""

    def squares(which: str) -> Callable[[A, A, A | None], A]:
        powers, cubes, targets = (data[f"{which}_{part}"] for part in ("powers", "cubes", "y"))

        def loss(lam: A, theta: A, _: A | None) -> A:
            residual = powers @ theta + lam * cubes - targets
            return residual @ residual

        return loss

    return StatedLosses(squares("train"), squares("validation"))


def _arrays() -> dict[str, np.ndarray]:
    data = {}
    for which, points in (("train", TRAINING), ("validation", VALIDATION)):
        x, y = np.array(points).T
        data[f"{which}_powers"] = np.stack([np.ones(2), x, x**2], axis=1)
        data[f"{which}_cubes"] = x**3
        data[f"{which}_y"] = y
    return data


def quadratic_numbers(data: Mapping[str, np.ndarray]) -> Quadratic:
    """The same problem as a member of the quadratic family, with a singular inner Hessian."""
    powers, cubes, y = data["train_powers"], data["train_cubes"], data["train_y"]
    outer, outer_cubes, outer_y = (data[f"validation_{part}"] for part in ("powers", "cubes", "y"))
    return Quadratic(
        hessian=2 * powers.T @ powers,
        coupling=-2 * powers.T @ cubes[:, None],
        shift=2 * powers.T @ y,
        outer_hessian=2 * outer.T @ outer,
        outer_mixed=2 * outer.T @ outer_cubes[:, None],
        outer_direct=np.full((1, 1), 2 * outer_cubes @ outer_cubes),
        outer_slope=-2 * outer.T @ outer_y,
        direct_slope=np.full(1, -2 * outer_cubes @ outer_y),
        start=np.zeros(3),
        start_jacobian=np.zeros((3, 1)),
    )


def symbolic() -> SymbolicProblem:
    """In sympy, from the points."""
    lam, theta = sympy.Symbol("lambda", real=True), symbols("theta", 3)

    def squares(points: tuple[tuple[float, float], ...]) -> sympy.Expr:
        total = sympy.Integer(0)
        for x, y in ((sympy.Rational(x), sympy.Rational(y)) for x, y in points):
            value = lam * x**3 + sum(t * x**power for power, t in enumerate(theta))
            total += (value - y) ** 2
        return total

    return SymbolicProblem(
        (lam,), theta, squares(TRAINING), squares(VALIDATION), (sympy.S.Zero,) * 3
    )


def cubic_toy(dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Case:
    """At λ = 0.1, where Figure 1(b) is drawn, from θ⁰ = 0."""
    data, lam = _arrays(), np.array([0.1])
    stated, numbers = Statement(losses, data), quadratic_numbers(data)
    built = stated.in_torch(dtype, device)
    start = FixedInitial(as_tensor(numbers.start, dtype, device))
    return Case(
        name="cubic_toy",
        problem=BilevelProblem(built.inner, built.outer, start, name="cubic_toy"),
        lam=as_tensor(lam, dtype, device),
        dynamics=Langevin(step_size(numbers, lam), temperature=1e-3),
        schedule=SCHEDULE,
        symbolic=symbolic(),
        closed_forms=QuadraticForms(numbers),
        statement=stated,
        tags=frozenset({"quadratic", "deterministic losses"}),
    )
