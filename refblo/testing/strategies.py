"""Hypothesis strategies: bilevel problems with p ≠ n, λ, schedules, step rules and batches.

The problems are those of `refblo.testing.tensor_problem`. Importing this module needs the package
hypothesis, which the extra `refblo[test]` installs.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.errors import MissingExtraError
from refblo.noise import Draws
from refblo.problem import FullBatch, Minibatches
from refblo.testing.explicit import ExplicitNumbers
from refblo.testing.tensor_problem import Instance, Structure, tensor_problem

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise MissingExtraError(
        "refblo.testing.strategies needs the package hypothesis, which is not installed; "
        'pip install "refblo[test]"'
    ) from error

Draw: TypeAlias = Callable[..., Any]
"""`hypothesis.strategies.DrawFn`, which a run-time shape checker cannot check: it is a protocol."""

__all__ = [
    "Instance",
    "Structure",
    "batches",
    "dynamics",
    "instances",
    "points",
    "schedules",
    "seeds",
    "sizes",
    "structures",
]


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


def batches(population: int) -> st.SearchStrategy[FullBatch | Minibatches]:
    """All the data at every step, or minibatches of every size up to the population."""
    sizes_of_a_batch = st.integers(1, population)
    return st.just(FullBatch()) | st.builds(Minibatches, st.just(population), sizes_of_a_batch)


def structures() -> st.SearchStrategy[Structure]:
    """Declared structures."""
    return st.sampled_from(Structure)


@st.composite
def instances(
    draw: Draw,
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
    numbers = ExplicitNumbers.random(draw(seeds()), p, n, moving)
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
