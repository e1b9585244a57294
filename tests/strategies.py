"""Hypothesis strategies for random bilevel problems with p ≠ n, from small parts.

The problems are those of `tests.explicit`, where every derivative is written out.
"""

from dataclasses import dataclass
from enum import Enum
from typing import final

import numpy as np
import torch
from hypothesis import strategies as st
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
from refblo.types import Loss
from tests.explicit import Numbers, Rows, Run, Vector


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

    numbers: Numbers
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
    def run(self) -> Run:
        """The same run for `tests.explicit`, with the same draws."""
        steps, like = self.schedule.steps, torch.empty(len(self.numbers.start), dtype=torch.float64)
        problem, draws = self.problem, self.draws
        return Run(
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


def sizes(largest: int = 4) -> st.SearchStrategy[tuple[int, int]]:
    """(p, n) with p ≠ n, so that a transposed product cannot pass."""
    size = st.integers(1, largest)
    return st.tuples(size, size).filter(lambda pair: pair[0] != pair[1])


def seeds() -> st.SearchStrategy[int]:
    """Seeds of draws and of numbers."""
    return st.integers(0, 2**32)


def points(size: int) -> st.SearchStrategy[Tensor]:
    """Vectors of order one, zeros and ties included; nothing whose square would underflow."""
    entry = st.floats(-1, 1).map(lambda x: x if abs(x) > 1e-9 else 0.0)
    return st.lists(entry, min_size=size, max_size=size).map(
        lambda entries: torch.tensor(entries, dtype=torch.float64)
    )


def schedules(longest: int = 3) -> st.SearchStrategy[Schedule]:
    """B and M, with M = 1 and M > 1."""
    return st.builds(Schedule, st.integers(0, longest), st.integers(1, longest))


def dynamics(curvature: float) -> st.SearchStrategy[Langevin]:
    """Stable step rules, with and without noise, for Hessians below `curvature`."""
    return st.builds(
        lambda fraction, temperature, noise: Langevin(fraction / curvature, temperature, noise),
        st.floats(0.01, 1),
        st.floats(0.1, 2),
        st.just(0.0) | st.floats(0.01, 0.5),
    )


def structures() -> st.SearchStrategy[Structure]:
    """Declared structures."""
    return st.sampled_from(Structure)


def tensor(array: np.ndarray) -> Tensor:
    """The same numbers as a tensor of its own."""
    return torch.tensor(array.tolist(), dtype=torch.float64).reshape(array.shape)


def inner_loss(numbers: Numbers, structure: Structure) -> Loss | Separable | Composed:
    """L_T of `tests.explicit`, stated in one of four ways."""
    X, y, K, M = (tensor(array) for array in (numbers.X, numbers.y, numbers.K, numbers.M))

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


def outer_loss(numbers: Numbers) -> Loss:
    """The outer loss of `tests.explicit`, f."""
    Z, w, q, G, c = (tensor(a) for a in (numbers.Z, numbers.w, numbers.q, numbers.G, numbers.c))

    def outer(lam: Tensor, theta: Tensor, batch: Tensor | None) -> Tensor:
        residual = Z @ theta - w if batch is None else Z[batch] @ theta - w[batch]
        terms = (q * theta.sin()).sum() + theta @ (G @ lam) + (c * lam.sin()).sum()
        return 0.5 * residual.square().mean() + terms

    return outer


def initial_point(numbers: Numbers, with_products: bool) -> Initial:
    """θ⁰ of `tests.explicit`."""
    start, D = tensor(numbers.start), tensor(numbers.D)
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
    numbers: Numbers,
    structure: Structure = Structure.PLAIN,
    minibatches: bool = False,
    with_products: bool = False,
) -> BilevelProblem:
    """The tensor problem of some numbers."""
    inner_batches = Minibatches(len(numbers.X), 3) if minibatches else FullBatch()
    outer_batches = Minibatches(len(numbers.Z), 2) if minibatches else FullBatch()
    return BilevelProblem(
        inner=inner_loss(numbers, structure),
        outer=outer_loss(numbers),
        initial=initial_point(numbers, with_products),
        inner_batches=inner_batches,
        outer_batches=outer_batches,
        name=f"random, {structure.value}",
    )


@st.composite
def instances(
    draw: st.DrawFn,
    moving_start: st.SearchStrategy[bool] | None = None,
    structure: st.SearchStrategy[Structure] | None = None,
    longest: int = 3,
) -> Instance:
    """Random problems with runs of up to 2·`longest` steps.

    Args:
        draw: hypothesis' own.
        moving_start: whether θ⁰ depends on λ; either by default.
        structure: how the inner loss is stated; any by default.
        longest: bound on B and on M.
    """
    p, n = draw(sizes())
    moving = draw(st.booleans() if moving_start is None else moving_start)
    numbers = Numbers.random(draw(seeds()), p, n, moving)
    lam = draw(points(p))
    curvature = numbers.largest_curvature(np.array(lam.tolist()))
    problem = tensor_problem(
        numbers,
        draw(structures() if structure is None else structure),
        minibatches=draw(st.booleans()),
        with_products=draw(st.booleans()),
    )
    return Instance(
        numbers,
        problem,
        lam,
        draw(dynamics(curvature)),
        draw(schedules(longest)),
        Draws(draw(seeds())),
    )
