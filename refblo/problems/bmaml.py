"""Bayesian MAML's own problem (Yoon et al. 2018), small: a Gaussian posterior and M particles a task.

λ is the M particles that every task starts with, each a vector w of d weights: θ⁰ = (λ, …, λ), tasks × M × d.
The inner loss sums over tasks and particles the negative log posterior given the support points,

    U(w) = ‖y − Xw‖² / (2ν) + (α/2) ‖w‖²,

and the outer one the same given support and query points. Gradient descent moves each particle on its own:
MAML on this problem is an ensemble. Under Stein variational gradient descent (`BMAML`) they repel each other.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import sympy
import torch

from refblo.chain import Langevin
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem
from refblo.problems.case import Case
from refblo.problems.maml import ADAPTATION, TAGS, repeated_initial, sinusoid_tasks
from refblo.problems.namespace import A, ArrayNamespace, StatedLosses, Statement, as_tensor
from refblo.problems.quadratic import step_size
from refblo.problems.quadratic_forms import Quadratic, QuadraticForms
from refblo.problems.symbolic import SymbolicProblem, exact_matrix, symbols

Data = Mapping[str, np.ndarray]

TASKS, PARTICLES, POINTS, FEATURES = 2, 2, 6, 3
VARIANCE, DECAY = 1.0, 0.5
"""ν and α."""

SUPPORT, EVERYTHING = ("support",), ("support", "query")


def losses(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """The energies; features have shape (tasks, points, d), targets (tasks, points)."""
    tasks, points, features = data["support_features"].shape
    total, reshape = xp.sum, xp.reshape
    variance, decay = data["variance"], data["decay"]

    def energy(names: Sequence[str]) -> Callable[[A, A, A | None], A]:
        def loss(lam: A, theta: A, _: A | None) -> A:  # noqa: ARG001
            # Particles in the columns, so that a task's features multiply all of them.
            weights = xp.swapaxes(reshape(theta, (tasks, -1, features)), 1, 2)
            value = 0.5 * decay * total(weights * weights)
            for name in names:
                targets = reshape(data[f"{name}_targets"], (tasks, points, 1))
                residual = data[f"{name}_features"] @ weights - targets
                value = value + total(residual * residual) / (2 * variance)
            return value

        return loss

    return StatedLosses(energy(SUPPORT), energy(EVERYTHING))


def quadratic_numbers(data: Data) -> Quadratic:
    """The same problem as a member of the quadratic family, block diagonal over tasks and particles."""
    tasks, _, features = data["support_features"].shape
    size = tasks * PARTICLES * features
    p = PARTICLES * features

    def blocks(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        hessian, shift = float(data["decay"]) * np.eye(size), np.zeros(size)
        for block in range(tasks * PARTICLES):
            rows = slice(block * features, (block + 1) * features)
            for name in names:
                x = data[f"{name}_features"][block // PARTICLES]
                y = data[f"{name}_targets"][block // PARTICLES]
                hessian[rows, rows] += x.T @ x / float(data["variance"])
                shift[rows] += x.T @ y / float(data["variance"])
        return hessian, shift

    (hessian, shift), (outer_hessian, outer_shift) = blocks(SUPPORT), blocks(EVERYTHING)
    return Quadratic(
        hessian=hessian,
        coupling=np.zeros((size, p)),
        shift=shift,
        outer_hessian=outer_hessian,
        outer_mixed=np.zeros((size, p)),
        outer_direct=np.zeros((p, p)),
        outer_slope=-outer_shift,
        direct_slope=np.zeros(p),
        start=np.zeros(size),
        start_jacobian=np.tile(np.eye(p), (tasks, 1)),
    )


def symbolic(data: Data) -> SymbolicProblem:
    """In sympy, with the Gram matrices summed in exact arithmetic."""
    tasks, _, features = data["support_features"].shape
    lam = symbols("lambda", PARTICLES * features)
    theta = symbols("theta", tasks * PARTICLES * features)
    variance, decay = (sympy.Rational(float(data[name])) for name in ("variance", "decay"))

    def energy(names: Sequence[str]) -> sympy.Expr:
        value = decay / 2 * sum(t**2 for t in theta)
        for block in range(tasks * PARTICLES):
            weights = sympy.Matrix(theta[block * features : (block + 1) * features])
            for name in names:
                x = exact_matrix(data[f"{name}_features"][block // PARTICLES])
                y = exact_matrix(data[f"{name}_targets"][block // PARTICLES][:, None])
                gram, moment, square = x.T * x, x.T * y, (y.T * y)[0]
                fit = weights.dot(gram * weights) - 2 * weights.dot(moment) + square
                value += fit / (2 * variance)
        return value

    return SymbolicProblem(
        lam=lam,
        theta=theta,
        inner=energy(SUPPORT),
        outer=energy(EVERYTHING),
        initial=lam * tasks,
    )


def bmaml_regression(
    dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> Case:
    """2 sinusoid tasks, 2 particles, 6 support and 6 query points, 3 bumps: p = 6, n = 12."""
    draws = Draws(52)
    data = sinusoid_tasks(draws, TASKS, POINTS, FEATURES)
    data.update(variance=np.array(VARIANCE), decay=np.array(DECAY))
    like = torch.empty(PARTICLES * FEATURES, dtype=torch.float64)
    lam = draws.normal(Stream.INSTANCE, 10, like).numpy()
    numbers, stated = quadratic_numbers(data), Statement(losses, data)
    built = stated.in_torch(dtype, device)
    initial = repeated_initial(TASKS)
    return Case(
        name="bmaml_regression",
        problem=BilevelProblem(built.inner, built.outer, initial, name="bmaml_regression"),
        lam=as_tensor(lam, dtype, device),
        dynamics=Langevin(step_size(numbers, lam), temperature=0.01, noise_scale=1.0),
        schedule=ADAPTATION,
        symbolic=symbolic(data),
        closed_forms=QuadraticForms(numbers),
        statement=stated,
        tags=TAGS,
    )
