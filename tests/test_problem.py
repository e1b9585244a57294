"""Problems: batches, initial points and warm starts."""

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from refblo.noise import Draws, Stream
from refblo.problem import (
    BilevelProblem,
    FixedInitial,
    FullBatch,
    LamInitial,
    Minibatches,
    UniformBatches,
    identity_initial,
)
from refblo.testing.explicit import ExplicitNumbers
from refblo.testing.strategies import seeds
from refblo.testing.tensor_problem import Structure, tensor_problem


@given(seeds(), st.integers(0, 100), st.integers(1, 30), st.data())
def test_minibatches_are_rows_of_the_data(
    seed: int, step: int, population: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, population))
    batches = Minibatches(population, size)
    rows = batches(Draws(seed), Stream.INNER_BATCH, step)
    assert rows is not None
    assert rows.shape == (size,)
    assert len(set(rows.tolist())) == size
    assert int(rows.min()) >= 0
    assert int(rows.max()) < population


def test_every_row_is_drawn_equally_often() -> None:
    population, size, steps = 10, 3, 2000
    batches, counts = Minibatches(population, size), torch.zeros(population)
    for step in range(steps):
        rows = batches(Draws(5), Stream.INNER_BATCH, step)
        assert rows is not None
        counts[rows] += 1
    share = size / population
    deviation = (steps * share * (1 - share)) ** 0.5
    # Ten binomial counts, each beyond 4.5 standard deviations with a probability of 7e-6 for correct
    # code: together 7e-5, once and for all.
    assert (counts - steps * share).abs().max().item() <= 4.5 * deviation


def test_inner_and_outer_batches_are_different_draws() -> None:
    batches = Minibatches(1000, 10)
    inner, outer = (
        batches(Draws(), stream, 3) for stream in (Stream.INNER_BATCH, Stream.OUTER_BATCH)
    )
    assert inner is not None
    assert outer is not None
    assert not torch.equal(inner, outer)


def test_the_full_batch_is_none() -> None:
    assert FullBatch()(Draws(), Stream.INNER_BATCH, 0) is None


@given(seeds(), st.integers(1, 9), st.floats(-2, 0), st.floats(0.1, 2))
def test_uniform_batches_are_numbers_of_their_interval(
    seed: int, count: int, low: float, width: float
) -> None:
    numbers = UniformBatches(count, low, low + width)(Draws(seed), Stream.INNER_BATCH, 0)
    assert numbers is not None
    assert numbers.shape == (count,)
    assert ((low <= numbers) & (numbers < low + width)).all()


def test_a_warm_start_replaces_the_initial_point_only() -> None:
    problem = tensor_problem(
        ExplicitNumbers.random(0, 2, 3, moving_start=True), Structure.SEPARABLE
    )
    theta = torch.arange(3, dtype=torch.float64).requires_grad_()
    warm = problem.starting_at(theta)
    start = warm.initial(torch.zeros(2, dtype=torch.float64))
    assert torch.equal(start, theta.detach())
    assert not start.requires_grad
    assert warm.inner is problem.inner
    assert warm.outer is problem.outer
    assert isinstance(problem.initial, LamInitial)
    assert warm.starting_at(start + 1).origin is warm.origin is problem
    assert problem.origin is problem
    # With another loss it is another problem, of which nothing is known.
    other = replace(warm, outer=lambda _lam, theta, _: theta.sum())
    assert other.origin is other


def test_problems_are_told_apart_by_identity() -> None:
    # Their checks are remembered by problem, so two equal-looking problems must be two.
    def build() -> BilevelProblem:
        return BilevelProblem(
            lambda lam, theta, _: lam.sum() * theta.sum(),
            lambda _lam, theta, _: theta.sum(),
            FixedInitial(torch.zeros(1, dtype=torch.float64)),
        )

    problem = build()
    assert problem == problem  # noqa: PLR0124  # reflexivity is what is tested
    assert problem != build()
    assert len({problem, build(), problem}) == 2


def test_the_identity_starts_at_lam() -> None:
    lam = torch.tensor([1.0, -2.0], dtype=torch.float64)
    assert torch.equal(identity_initial()(lam), lam)
