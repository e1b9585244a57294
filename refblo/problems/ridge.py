"""Ridge regression with one weight decay a coefficient, eq. (1), on the diabetes data.

Inner loss (1/2N)‖X̃θ − y‖² + Σ_j λ_j θ_j² over the training patients, X̃ = [X 1], the intercept not
penalised (n = p + 1); outer loss (1/2V)‖X̃θ − y‖² over the validation patients. λ enters through the
Hessian, and every truth has a closed form.
"""

from collections.abc import Mapping

import numpy as np
import sympy
import torch

from refblo.chain import Langevin
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial, Separable
from refblo.problems.case import Case
from refblo.problems.data import diabetes
from refblo.problems.namespace import (
    TORCH,
    A,
    ArrayNamespace,
    SeparableParts,
    StatedLosses,
    Statement,
    as_tensor,
)
from refblo.problems.quadratic import SCHEDULE, step_size
from refblo.problems.quadratic_forms import Diagonal, Quadratic, QuadraticForms
from refblo.problems.regularisers import weighted_l2, weighted_l2_products
from refblo.problems.symbolic import SymbolicProblem, exact_matrix, symbols

Data = Mapping[str, np.ndarray]


def parts(_: ArrayNamespace[A], data: Mapping[str, A]) -> SeparableParts[A]:
    """The data loss, the penalty and the outer loss."""
    train, train_targets = data["train"], data["train_targets"]
    validation, validation_targets = data["validation"], data["validation_targets"]

    def fit(theta: A, batch: A | None) -> A:
        if batch is None:
            residual = train @ theta - train_targets
        else:
            residual = train[batch] @ theta - train_targets[batch]
        return residual @ residual / (2 * residual.shape[0])

    def outer(lam: A, theta: A, _: A | None) -> A:  # noqa: ARG001
        residual = validation @ theta - validation_targets
        return residual @ residual / (2 * residual.shape[0])

    return SeparableParts(fit, weighted_l2(data["groups"]), outer)


def losses(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """The losses without their structure."""
    return parts(xp, data).losses()


def quadratic_numbers(data: Data, start: np.ndarray) -> Quadratic:
    """The same problem as a member of the quadratic family: H(λ) = X̃'X̃/N + 2 diag(λ, 0)."""
    train, validation = data["train"], data["validation"]
    n, p = train.shape[1], len(data["groups"])
    return Quadratic(
        hessian=train.T @ train / len(train),
        coupling=np.zeros((n, p)),
        shift=train.T @ data["train_targets"] / len(train),
        outer_hessian=validation.T @ validation / len(validation),
        outer_mixed=np.zeros((n, p)),
        outer_direct=np.zeros((p, p)),
        outer_slope=-validation.T @ data["validation_targets"] / len(validation),
        direct_slope=np.zeros(p),
        start=start,
        start_jacobian=np.zeros((n, p)),
        diagonal=Diagonal(2 * np.eye(n, p), exponential=False),
    )


def symbolic(data: Data, start: np.ndarray) -> SymbolicProblem:
    """In sympy, with the Gram matrices summed in exact arithmetic."""
    n, p = data["train"].shape[1], len(data["groups"])
    lam, theta = symbols("lambda", p), symbols("theta", n)
    vector = sympy.Matrix(theta)

    def half_mean_square(features: np.ndarray, targets: np.ndarray) -> sympy.Expr:
        x, y = exact_matrix(features), exact_matrix(targets[:, None])
        gram, moment, square = x.T * x, x.T * y, (y.T * y)[0]
        return (vector.dot(gram * vector) - 2 * vector.dot(moment) + square) / (2 * len(targets))

    penalty = sum(weight * t**2 for weight, t in zip(lam, theta, strict=False))
    return SymbolicProblem(
        lam=lam,
        theta=theta,
        inner=half_mean_square(data["train"], data["train_targets"]) + penalty,
        outer=half_mean_square(data["validation"], data["validation_targets"]),
        initial=tuple(exact_matrix(start[:, None])),
    )


def ridge_diabetes(dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Case:
    """221 training and 221 validation patients, p = 10, n = 11."""
    split, draws = diabetes(221, 221), Draws(1)
    data = {
        "train": np.hstack([split.train, np.ones((len(split.train), 1))]),
        "train_targets": split.train_targets[:, 0],
        "validation": np.hstack([split.validation, np.ones((len(split.validation), 1))]),
        "validation_targets": split.validation_targets[:, 0],
        "groups": np.arange(split.train.shape[1]),
    }
    n, p = data["train"].shape[1], len(data["groups"])

    def normal(which: int, size: int) -> np.ndarray:
        like = torch.empty(size, dtype=torch.float64)
        return draws.normal(Stream.INSTANCE, which, like).numpy()

    start = 0.1 * normal(0, n)
    lam = 0.05 * np.exp(0.5 * normal(1, p))
    numbers = quadratic_numbers(data, start)
    tensors = {name: as_tensor(x, dtype, device) for name, x in data.items()}
    built = parts(TORCH, tensors)
    inner = Separable(built.data, built.regulariser, weighted_l2_products(tensors["groups"]))
    initial = FixedInitial(as_tensor(start, dtype, device))
    return Case(
        name="ridge_diabetes",
        problem=BilevelProblem(inner, built.outer, initial, name="ridge_diabetes"),
        lam=as_tensor(lam, dtype, device),
        dynamics=Langevin(step_size(numbers, lam), temperature=0.01, noise_scale=1.0),
        schedule=SCHEDULE,
        symbolic=symbolic(data, start),
        closed_forms=QuadraticForms(numbers),
        statement=Statement(losses, data),
        tags=frozenset(
            {"quadratic", "strongly convex", "deterministic losses", "real data", "separable"}
        ),
    )
