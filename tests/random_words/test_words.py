"""The words are those that were published for the generator, and the same whichever way they are made.

Takes 4 s of the quick suite.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from refblo.errors import ArgumentError
from refblo.random_words.host import words_by_host
from refblo.random_words.operations import (
    MULTIPLIERS,
    Multiplier,
    high_word,
    signed,
    words_by_operations,
)
from refblo.random_words.source import Source
from refblo.random_words.subset import enough, subset, subset_by_operations

CPU = torch.device("cpu")
WAYS: dict[str, Callable[..., Tensor]] = {
    "host": words_by_host,
    "operations": partial(words_by_operations, device=CPU),
}

# Random123's kat_vectors for philox4x64 with 10 rounds: counter, key, words.
PI = (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89)
KNOWN = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
    ),
    (
        (2**64 - 1,) * 4,
        (2**64 - 1,) * 2,
        (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
    ),
    (
        PI,
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]

seeds = st.integers(0, 2**63 - 1)
streams = st.integers(0, 2**31)
starts = st.integers(0, 2**62)
firsts = st.integers(0, 2**40)


def bits(words: Tensor) -> list[int]:
    """The words as integers below 2^64."""
    return [word % 2**64 for word in words.flatten().tolist()]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN, ids=["zeros", "ones", "pi"])
def test_numpy_makes_the_published_words(
    counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...]
) -> None:
    # NumPy adds one to the counter before it draws.
    number = (sum(word << (64 * place) for place, word in enumerate(counter)) - 1) % 2**256
    generator = np.random.Philox(
        key=np.array(key, np.uint64),
        counter=np.array([number >> (64 * place) & (2**64 - 1) for place in range(4)], np.uint64),
    )
    assert generator.random_raw(4).tolist() == list(words)


def test_operations_make_the_published_words() -> None:
    counter, _, words = KNOWN[0]
    assert counter[0] == 0  # which is block number −1 of a draw
    assert bits(words_by_operations(0, 0, 0, range(1), -1, 1, CPU)) == list(words)


@pytest.mark.parametrize("way", WAYS)
@given(seeds, streams, st.integers(0, 1), starts, firsts)
def test_the_words_are_those_of_numpy(
    way: str, seed: int, stream: int, plane: int, step: int, first: int
) -> None:
    wanted = np.random.Philox(key=seed, counter=[first, step, stream, plane]).random_raw(20)
    found = WAYS[way](seed, stream, plane, range(step, step + 1), first, 5)
    assert bits(found) == wanted.tolist()


@pytest.mark.parametrize("way", WAYS)
@given(seeds, streams, starts, firsts, st.integers(2, 5))
def test_several_steps_are_the_single_ones(
    way: str, seed: int, stream: int, start: int, first: int, count: int
) -> None:
    steps = range(start, start + count)
    together = WAYS[way](seed, stream, 0, steps, first, 3)
    for row, step in enumerate(steps):
        alone = WAYS[way](seed, stream, 0, range(step, step + 1), first, 3)
        assert torch.equal(together[row : row + 1], alone)


EDGES = [0, 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 2**32, 2**64 - 1]


@pytest.mark.parametrize("m", MULTIPLIERS, ids=["m0", "m1"])
@given(st.one_of(st.sampled_from(EDGES), st.integers(0, 2**64 - 1)))
def test_the_upper_half_of_a_product_is_exact(m: Multiplier, word: int) -> None:
    found = high_word(torch.tensor([signed(word)]), m)
    assert bits(found) == [(word * m.value) >> 64]


@given(seeds, starts, st.integers(1, 400), st.data())
def test_sets_of_indices_are_the_same_either_way(
    seed: int, step: int, population: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, population))
    source, like = Source(seed, 1), torch.empty(0)
    found = subset(source, step, population, size, like)
    assert torch.equal(found, subset_by_operations(source, step, population, size, like))


@pytest.mark.parametrize(("population", "size"), [(5, 2), (5, 3)], ids=["first", "keys"])
def test_every_set_of_indices_has_the_same_chance(population: int, size: int) -> None:
    # χ² with 9 degrees of freedom over 10,000 sets of ten kinds: above 27.9 with a probability of 1e-3.
    source, like, sets = Source(11, 1), torch.empty(0), 10_000
    counts: dict[tuple[int, ...], int] = {}
    for step in range(sets):
        chosen = tuple(subset(source, step, population, size, like).tolist())
        counts[chosen] = counts.get(chosen, 0) + 1
    assert len(counts) == 10
    assert sum((count - sets / 10) ** 2 for count in counts.values()) / (sets / 10) < 27.9


@pytest.mark.parametrize(
    ("population", "size"), [(2, 1), (4, 2), (100, 50), (1797, 256), (60_000, 256)]
)
def test_enough_indices_are_drawn(population: int, size: int) -> None:
    # The exact chance that `drawn` draws have fewer than `size` different ones, by dynamic programming.
    drawn = enough(population, size)
    chance = np.zeros(size + 1)
    chance[0] = 1.0
    repeat = np.arange(size + 1) / population
    for _ in range(drawn):
        # State `size` is absorbing.
        stay = np.append(chance[:-1] * repeat[:-1], chance[-1])
        stay[1:] += chance[:-1] * (1 - repeat[:-1])
        chance = stay
    assert chance[:-1].sum() < 2.0**-64 + size * 1e-300


class _NoIntegerProducts(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    """A device whose compiler knows no product of 64-bit integers."""

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        name = str(func)
        if name.startswith("aten.mul"):
            raise NotImplementedError("no kernel for Long")
        return func(*args, **(kwargs or {}))


def test_a_device_without_integer_products_is_named() -> None:
    with (
        _NoIntegerProducts(),  # type: ignore[no-untyped-call]  # likewise
        pytest.raises(
            ArgumentError, match=r"64-bit integers, got meta .*draw with like on the CPU"
        ),
    ):
        words_by_operations(0, 0, 0, range(1), 0, 4, torch.device("meta"))
