"""Every draw is a function of (seed, stream, step), on every device and in every dtype."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from refblo.cost import measure, shapes_only
from refblo.errors import ArgumentError, ArgumentTypeError
from refblo.noise import SEED_CONTRACT, Draws, Stream
from refblo.random_words import quick, source
from refblo.random_words.lanes import LANE, as_tensors
from refblo.random_words.normal import CHUNK
from refblo.random_words.operations import words_by_operations
from refblo.testing.strategies import seeds

LIKE = torch.empty(4, dtype=torch.float64)

# What seed 3 stands for at step 5.
NORMAL = [-1.037526281449791, -0.9190805184176867]
UNIFORM = [0.9453366042943712, 0.9409177199311742]
FIRST = [91, 461, 940, 945]
KEYS = [0, 1, 2, 4, 5, 6]

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
def test_single_precision_agrees_with_double_to_its_resolution(seed: int, step: int) -> None:
    exact, single = (
        Draws(seed).normal(Stream.LANGEVIN, step, torch.empty(128, dtype=dtype)).double()
        for dtype in (torch.float64, torch.float32)
    )
    radius = exact.view(2, 64).square().sum(0).sqrt().repeat(2)
    # |u| = exp(−r²/2) is known to 2^-32, and dr = du/(|u| r); every other operation rounds.
    resolution = 2**-32 * torch.exp(radius.square() / 2) / radius
    assert bool(((single - exact).abs() <= 2 * resolution + 8 * 2**-24 * (1 + radius)).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_the_numbers_of_single_precision(dtype: torch.dtype) -> None:
    for n in (3, 100_000):
        single = Draws(5).normal(Stream.LANGEVIN, 2, torch.empty(n))
        half = Draws(5).normal(Stream.LANGEVIN, 2, torch.empty(n, dtype=dtype))
        assert torch.equal(half, single.to(dtype))


@pytest.mark.parametrize("way", ["host", "operations"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_longer_vector_starts_with_the_shorter(
    dtype: torch.dtype, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "operations":
        by_operations(monkeypatch)
    longer = Draws(3).normal(Stream.LANGEVIN, 9, torch.empty(150_000, dtype=dtype))
    for size in (1, 2, 64, 127, 128, 129, 1000, 65_535, 65_536, 65_537, 149_999):
        like = torch.empty(size, dtype=dtype)
        assert torch.equal(Draws(3).normal(Stream.LANGEVIN, 9, like), longer[:size])


@pytest.mark.parametrize("shape", [(), (0,), (1,), (100,), (30, 40), (2, 40_000)])
def test_several_steps_at_once_are_the_single_ones(shape: tuple[int, ...]) -> None:
    like = torch.empty(shape)
    together = Draws(4).normal_steps(Stream.LANGEVIN, range(5, 8), like)
    for row, step in enumerate(range(5, 8)):
        assert torch.equal(together[row], Draws(4).normal(Stream.LANGEVIN, step, like))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(
    seeds(), streams, steps, st.integers(1, 9), st.one_of(st.integers(1, 130), st.integers(1, 900))
)
def test_short_draws_have_the_bits_of_any_other(
    dtype: torch.dtype, seed: int, stream: Stream, step: int, rows: int, n: int
) -> None:
    def drawn() -> torch.Tensor:
        return Draws(seed).normal_steps(
            stream, range(step, step + rows), torch.empty(n, dtype=dtype)
        )

    short = drawn()
    with torch.inference_mode():
        assert torch.equal(drawn(), short)
    with FlopCounterMode(display=False):  # a short draw that is counted is made as a long one is
        assert torch.equal(drawn(), short)
    assert torch.equal(drawn(), short)
    moved = torch.func.grad(lambda x: (x * drawn()).sum())(torch.ones(()))
    assert bool(torch.isfinite(moved))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "n"), [(46, 5), (3, 70_000), (1, 1_100_000)])
def test_a_draw_has_the_same_bits_when_it_is_counted(rows: int, n: int, dtype: torch.dtype) -> None:
    like, steps = torch.empty(n, dtype=dtype), range(3, 3 + rows)
    drawn = Draws(4).normal_steps(Stream.LANGEVIN, steps, like)
    with FlopCounterMode(display=False):
        assert torch.equal(Draws(4).normal_steps(Stream.LANGEVIN, steps, like), drawn)
    if rows == 1:  # on large pages, from 4 MiB on, and as torch's own memory lies
        assert drawn.data_ptr() % 64 == 0
        assert drawn.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(0,), (5,), (128,), (300, 500)])
def test_adding_a_draw_is_adding_its_numbers(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    draws, to = Draws(4), torch.full(shape, 0.3, dtype=dtype)
    expected = to.add(draws.normal(Stream.LANGEVIN, 7, to), alpha=0.1)
    draws.add_normal(Stream.LANGEVIN, 7, to, 0.1)
    assert torch.equal(to, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@given(st.integers(0, 2), st.integers(-2 * LANE, 2 * LANE), seeds())
@settings(max_examples=15)
def test_a_draw_is_added_in_pieces_of_any_length(
    dtype: torch.dtype, pieces: int, more: int, seed: int
) -> None:
    piece = CHUNK[torch.float64 if dtype == torch.float64 else torch.float32] * LANE
    to = torch.full((max(0, pieces * piece + more),), 0.3, dtype=dtype)
    expected = to.add(Draws(seed).normal(Stream.LANGEVIN, 7, to), alpha=0.1)
    Draws(seed).add_normal(Stream.LANGEVIN, 7, to, 0.1)
    assert torch.equal(to, expected)


def by_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the words as another device does, on the CPU."""

    words = partial(words_by_operations, device=torch.device("cpu"))
    monkeypatch.setattr(source, "words_by_host", words)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_numbers_are_the_same_on_words_of_either_way(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    like = torch.empty(70_000, dtype=dtype)
    host = Draws(3).normal(Stream.LANGEVIN, 9, like)
    uniform = Draws(3).uniform(Stream.INNER_BATCH, 9, (5,), -1.0, 2.0)
    by_operations(monkeypatch)
    assert torch.equal(Draws(3).normal(Stream.LANGEVIN, 9, like), host)
    assert torch.equal(Draws(3).uniform(Stream.INNER_BATCH, 9, (5,), -1.0, 2.0), uniform)


def test_uniform_numbers_are_those_of_numpy() -> None:
    philox = np.random.Philox(key=3, counter=[0, 7, Stream.INNER_BATCH, 0])
    wanted = np.random.Generator(philox).uniform(-1.0, 2.0, 20)
    found = Draws(3).uniform(Stream.INNER_BATCH, 7, (20,), -1.0, 2.0)
    assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize("size", [10, 65_536, 500_000])
def test_drawing_costs_the_same_counted_on_shapes(size: int) -> None:
    def run() -> None:
        like = torch.empty(size)
        draws = Draws(1)
        draws.normal(Stream.LANGEVIN, 0, like)
        draws.add_normal(Stream.LANGEVIN, 0, like.double(), 0.5)
        draws.indices(Stream.INNER_BATCH, 0, size, 3)
        draws.uniform(Stream.INNER_BATCH, 0, (size,), 0.0, 1.0)

    numbers = measure(run)
    with shapes_only():
        shapes = measure(run)
    assert shapes == numbers
    assert numbers.elements > 20 * size


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_draw_holds_no_second_vector(dtype: torch.dtype) -> None:
    with shapes_only():
        like = torch.empty(10_000_000, dtype=dtype)
        cost = measure(lambda: Draws(1).normal(Stream.LANGEVIN, 0, like))
    assert cost.peak_bytes <= like.numel() * dtype.itemsize + 4 * 2**20


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


def test_a_step_out_of_range_is_refused() -> None:
    with pytest.raises(
        ArgumentError, match=r"step must be below 2\^62, got \d+; choose a smaller one"
    ):
        Draws().normal(Stream.LANGEVIN, 2**62, LIKE)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool, torch.float8_e5m2])
def test_a_dtype_without_normal_numbers_is_refused(dtype: torch.dtype) -> None:
    remedy = f"got {dtype}; draw in one of these and convert the numbers"
    with pytest.raises(ArgumentTypeError, match=f"like must have a dtype of .*{remedy}"):
        Draws().normal(Stream.LANGEVIN, 0, LIKE.to(dtype))


@pytest.mark.parametrize("steps", [range(3, 3), range(0, 4, 2), range(4, 0, -1)])
def test_steps_that_are_not_consecutive_are_refused(steps: range) -> None:
    with pytest.raises(ArgumentError, match=r"steps must be consecutive, got range\("):
        Draws().normal_steps(Stream.LANGEVIN, steps, LIKE)


def test_a_population_beyond_31_bits_is_refused() -> None:
    with pytest.raises(ArgumentError, match="population must be at most 2147483648"):
        Draws().indices(Stream.INNER_BATCH, 0, 2**31 + 1, 5)


def test_the_seed_contract_fixes_the_numbers() -> None:
    # A change of any of these numbers is a new contract: raise SEED_CONTRACT with them.
    assert SEED_CONTRACT == 2
    draws = Draws(3)
    numbers = draws.normal(Stream.LANGEVIN, 5, torch.empty(2, dtype=torch.float64))
    assert numbers.tolist() == pytest.approx(NORMAL, rel=1e-14)
    assert draws.uniform(Stream.INNER_BATCH, 5, (2,), 0.0, 1.0).tolist() == UNIFORM
    assert draws.indices(Stream.INNER_BATCH, 5, 1000, 4).tolist() == FIRST
    assert draws.indices(Stream.INNER_BATCH, 5, 10, 6).tolist() == KEYS


def test_a_first_draw_on_shapes_leaves_numbers_to_the_draws_after_it() -> None:
    """What is kept between draws is made of numbers even where a draw without any comes first."""
    expected = Draws(5).normal(Stream.LANGEVIN, 0, torch.empty(10))
    as_tensors.cache_clear()
    quick._LOCAL.kept.clear()
    with shapes_only():
        Draws(5).normal(Stream.LANGEVIN, 0, torch.empty(10))
    assert torch.equal(Draws(5).normal(Stream.LANGEVIN, 0, torch.empty(10)), expected)
