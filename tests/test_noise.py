"""Every draw is a function of (seed, stream, step), on every device and in every dtype."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from refblo.errors import ArgumentError
from refblo.noise import Draws, Stream
from refblo.testing.strategies import seeds

LIKE = torch.empty(4, dtype=torch.float64)

steps = st.integers(0, 2**40)
streams = st.sampled_from(Stream)


@given(seeds(), streams, steps)
def test_a_draw_is_repeated_whatever_was_drawn_between(
    seed: int, stream: Stream, step: int
) -> None:
    first = Draws(seed).normal(stream, step, LIKE)
    Draws(seed).normal(stream, step + 1, LIKE)
    torch.manual_seed(0)
    assert torch.equal(Draws(seed).normal(stream, step, LIKE), first)


@given(seeds(), streams, steps)
def test_another_seed_stream_or_step_gives_other_numbers(
    seed: int, stream: Stream, step: int
) -> None:
    here = Draws(seed).normal(stream, step, LIKE)
    elsewhere = [
        Draws(seed + 1).normal(stream, step, LIKE),
        Draws(seed).normal(stream, step + 1, LIKE),
        *(Draws(seed).normal(other, step, LIKE) for other in Stream if other is not stream),
    ]
    for numbers in elsewhere:
        assert not torch.equal(numbers, here)


@given(seeds(), steps)
def test_other_dtypes_round_the_same_numbers(seed: int, step: int) -> None:
    exact = Draws(seed).normal(Stream.LANGEVIN, step, LIKE)
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(
            Draws(seed).normal(Stream.LANGEVIN, step, LIKE.to(dtype)), exact.to(dtype)
        )


@given(seeds(), steps)
def test_a_longer_vector_starts_with_the_shorter(seed: int, step: int) -> None:
    draws = Draws(seed)
    longer = draws.normal(Stream.LANGEVIN, step, torch.empty(9, dtype=torch.float64))
    assert torch.equal(draws.normal(Stream.LANGEVIN, step, LIKE), longer[:4])


@given(seeds(), steps, st.integers(1, 20), st.data())
def test_indices_are_different_sorted_and_in_range(
    seed: int, step: int, population: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, population))
    chosen = Draws(seed).indices(Stream.INNER_BATCH, step, population, size)
    assert chosen.dtype == torch.int64
    numbers = chosen.tolist()
    assert numbers == sorted(set(numbers))
    assert len(numbers) == size
    assert numbers[0] >= 0
    assert numbers[-1] < population


def test_normal_numbers_are_standard_normal_across_steps_and_streams() -> None:
    # 1,000 numbers of each of 40 (stream, step) pairs; the Kolmogorov-Smirnov test of all of them
    # together fails for correct code with a probability of 1e-3, once and for all (fixed seed).
    like = torch.empty(1000, dtype=torch.float64)
    pairs = [
        (stream, step) for stream in (Stream.LANGEVIN, Stream.DIRECTIONS) for step in range(20)
    ]
    numbers = torch.cat([Draws(7).normal(stream, step, like) for stream, step in pairs])
    assert stats.kstest(np.array(numbers.tolist()), "norm").pvalue > 1e-3


def test_steps_are_not_correlated() -> None:
    like = torch.empty(1000, dtype=torch.float64)
    rows = torch.stack([Draws(7).normal(Stream.LANGEVIN, step, like) for step in range(20)])
    correlations = torch.corrcoef(rows) - torch.eye(20, dtype=torch.float64)
    # 190 correlations with standard deviation 1/√1000; five of these are exceeded by correct code
    # with a probability of 190 · 6e-7, about 1e-4, once and for all.
    assert correlations.abs().max().item() < 5 / 1000**0.5


def test_uniform_numbers_are_in_their_interval() -> None:
    numbers = Draws(1).uniform(Stream.INNER_BATCH, 0, (1000,), 0.5, 1.5)
    assert numbers.dtype == torch.float64
    assert numbers.min().item() >= 0.5
    assert numbers.max().item() < 1.5


@pytest.mark.parametrize(("population", "size"), [(3, 0), (3, 4)])
def test_a_batch_that_does_not_fit_is_refused(population: int, size: int) -> None:
    with pytest.raises(ArgumentError, match=rf"size must lie in \[1, {population}\], got {size}"):
        Draws().indices(Stream.INNER_BATCH, 0, population, size)


def test_a_negative_step_is_refused() -> None:
    with pytest.raises(ArgumentError, match="step must not be negative, got -1"):
        Draws().normal(Stream.LANGEVIN, -1, LIKE)


def test_nothing_is_drawn_where_nothing_is_asked_for() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for shape in ((0,), (3, 0)):
            drawn = Draws(1).normal(Stream.INSTANCE, 2, torch.empty(shape, dtype=dtype))
            assert (drawn.shape, drawn.dtype) == (shape, dtype)
