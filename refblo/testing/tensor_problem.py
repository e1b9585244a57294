"""Random bilevel problems for torch, of which `refblo.testing.explicit` has every derivative written out."""

from dataclasses import dataclass
from enum import Enum
from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from refblo.chain import Langevin, Schedule
from refblo.noise import Draws, Stream
from refblo.problem import (
    BilevelProblem,
    Composed,
    FixedInitial,
    FullBatch,
    Initial,
    LamInitial,
    Minibatches,
    RegulariserProducts,
    Separable,
)
from refblo.testing.explicit import ExplicitNumbers, ExplicitRun, Rows, Vector
from refblo.types import Loss


class Structure(Enum):
    """How much the inner loss declares of itself; the function is the same."""

    PLAIN = "plain"
    SEPARABLE = "separable"
    CLOSED_FORM = "separable, products in closed form"
    COMPOSED = "composed"


@final
@dataclass(frozen=True, eq=False)
class Instance:
    """A random problem, where to evaluate it and how to run it, as tensors and as numbers."""

    numbers: ExplicitNumbers
    problem: BilevelProblem
    lam: Tensor
    dynamics: Langevin
    schedule: Schedule
    draws: Draws

    @property
    def lam_numbers(self) -> Vector:
        """λ for NumPy."""
        return np.array(self.lam.tolist())

    @property
    def run(self) -> ExplicitRun:
        """The same run for `refblo.testing.explicit`, with the same draws."""
        steps, like = self.schedule.steps, torch.empty(len(self.numbers.start), dtype=torch.float64)
        problem, draws = self.problem, self.draws
        return ExplicitRun(
            epsilon=self.dynamics.epsilon,
            temperature=self.dynamics.temperature,
            noise_scale=self.dynamics.noise_scale,
            burn_in=self.schedule.burn_in,
            samples=self.schedule.samples,
            z=[np.array(draws.normal(Stream.LANGEVIN, t, like).tolist()) for t in range(steps)],
            inner_rows=[
                _rows(problem.inner_batches(draws, Stream.INNER_BATCH, t)) for t in range(steps + 1)
            ],
            outer_rows=[
                _rows(problem.outer_batches(draws, Stream.OUTER_BATCH, t)) for t in range(steps + 1)
            ],
        )


def _rows(batch: Tensor | None) -> Rows:
    return slice(None) if batch is None else np.array(batch.tolist(), dtype=np.int64)


def tensor(array: np.ndarray, dtype: torch.dtype = torch.float64) -> Tensor:
    """The same numbers as a tensor of its own."""
    return torch.tensor(array.tolist(), dtype=dtype).reshape(array.shape)


def inner_loss(
    numbers: ExplicitNumbers, structure: Structure, dtype: torch.dtype = torch.float64
) -> Loss | Separable | Composed:
    """L_T of `refblo.testing.explicit`, stated in one of four ways."""
    X, y, K, M = (tensor(array, dtype) for array in (numbers.X, numbers.y, numbers.K, numbers.M))

    def data(theta: Tensor, batch: Tensor | None) -> Tensor:
        logits, labels = (X @ theta, y) if batch is None else (X[batch] @ theta, y[batch])
        return (softplus(logits) - labels * logits).mean()

    def regulariser(lam: Tensor, theta: Tensor) -> Tensor:
        return 0.5 * (torch.exp(K @ lam) * theta.square()).sum() + theta @ (M @ lam)

    def outputs(theta: Tensor, batch: Tensor | None) -> Tensor:
        return torch.cat([X @ theta if batch is None else X[batch] @ theta, theta])

    def loss(lam: Tensor, z: Tensor, batch: Tensor | None) -> Tensor:
        labels = y if batch is None else y[batch]
        logits, theta = z[: len(labels)], z[len(labels) :]
        return (softplus(logits) - labels * logits).mean() + regulariser(lam, theta)

    products = RegulariserProducts(
        gradient=lambda lam, theta: torch.exp(K @ lam) * theta + M @ lam,
        mixed=lambda lam, theta, v: (v * theta * torch.exp(K @ lam)) @ K + v @ M,
    )
    match structure:
        case Structure.PLAIN:
            return lambda lam, theta, batch: data(theta, batch) + regulariser(lam, theta)
        case Structure.SEPARABLE:
            return Separable(data, regulariser)
        case Structure.CLOSED_FORM:
            return Separable(data, regulariser, products)
        case Structure.COMPOSED:
            return Composed(outputs, loss)


def outer_loss(numbers: ExplicitNumbers, dtype: torch.dtype = torch.float64) -> Loss:
    """The outer loss of `refblo.testing.explicit`, f."""
    Z, w, q, G, c = (
        tensor(a, dtype) for a in (numbers.Z, numbers.w, numbers.q, numbers.G, numbers.c)
    )

    def outer(lam: Tensor, theta: Tensor, batch: Tensor | None) -> Tensor:
        residual = Z @ theta - w if batch is None else Z[batch] @ theta - w[batch]
        terms = (q * theta.sin()).sum() + theta @ (G @ lam) + (c * lam.sin()).sum()
        return 0.5 * residual.square().mean() + terms

    return outer


def initial_point(
    numbers: ExplicitNumbers, with_products: bool, dtype: torch.dtype = torch.float64
) -> Initial:
    """θ⁰ of `refblo.testing.explicit`."""
    start, D = tensor(numbers.start, dtype), tensor(numbers.D, dtype)
    if not numbers.D.any():
        return FixedInitial(start)

    def theta(lam: Tensor) -> Tensor:
        return start + (D @ lam).sin()

    if not with_products:
        return LamInitial(theta)
    return LamInitial(
        theta,
        vjp=lambda lam, v: (v * (D @ lam).cos()) @ D,
        jvp=lambda lam, u: (D @ lam).cos() * (D @ u),
    )


def tensor_problem(
    numbers: ExplicitNumbers,
    structure: Structure = Structure.PLAIN,
    minibatches: bool = False,
    with_products: bool = False,
    dtype: torch.dtype = torch.float64,
) -> BilevelProblem:
    """The tensor problem of some numbers."""
    inner_batches = Minibatches(len(numbers.X), 3) if minibatches else FullBatch()
    outer_batches = Minibatches(len(numbers.Z), 2) if minibatches else FullBatch()
    return BilevelProblem(
        inner=inner_loss(numbers, structure, dtype),
        outer=outer_loss(numbers, dtype),
        initial=initial_point(numbers, with_products, dtype),
        inner_batches=inner_batches,
        outer_batches=outer_batches,
        name=f"random, {structure.value}",
    )
