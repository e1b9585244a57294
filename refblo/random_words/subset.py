"""Sets of different indices out of words: each set of a size has the same chance.

A small set (at most half of the population) is the first different ones of some indices ⌊w P / 2^64⌋, of
which enough are drawn that there are too few different ones with a probability below 2^-64. A larger set is
where the smallest of one word for each member of the population stand. The shapes do not depend on the
words, so that nothing waits for a device. An index's distribution deviates from uniform by P / 2^64.
"""

import math
from functools import cache
from typing import Protocol, cast

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from refblo.random_words.host import dispatched, raw_words, register
from refblo.random_words.source import BLOCK, Source

_LOW = 2**32 - 1


class _Operation(Protocol):
    def __call__(self, seed: int, stream: int, step: int, population: int, size: int) -> Tensor: ...


def subset(
    source: Source, step: int, population: int, size: int, like: Tensor
) -> Int64[Tensor, " size"]:
    """So many different indices below `population`, sorted, on the device of `like`.

    Args:
        source: the words.
        step: the draw's number.
        population: P, from 1 to 2^31.
        size: from 1 to P.
        like: a tensor on the device that is to compute them.
    """
    if like.device.type == "cpu":
        choose = _OPERATION if dispatched() else _by_host
        return choose(source.seed, source.stream, step, population, size)
    return subset_by_operations(source, step, population, size, like)


def subset_by_operations(
    source: Source, step: int, population: int, size: int, like: Tensor
) -> Int64[Tensor, " size"]:
    """The same in torch operations, on any device."""
    steps = range(step, step + 1)
    if 2 * size > population:
        keys = source.words(steps, 0, population, like).view(-1)
        return keys.argsort(stable=True)[:size].sort().values
    drawn = enough(population, size)
    words = source.words(steps, 0, drawn, like).view(-1)
    carried = words.bitwise_and(_LOW).mul_(population).bitwise_right_shift_(32)
    upper = words.bitwise_right_shift(32).bitwise_and_(_LOW)
    indices = carried.add_(upper, alpha=population).bitwise_right_shift_(32)
    candidates, order = indices.sort(stable=True)
    # One that was drawn before ranks behind all that were not.
    order[1:].add_(candidates[1:].eq(candidates[:-1]), alpha=drawn)
    return candidates[order.topk(size, largest=False).indices].sort().values


def _by_host(seed: int, stream: int, step: int, population: int, size: int) -> Int64[Tensor, " b"]:
    """The same by NumPy."""
    drawn = population if 2 * size > population else enough(population, size)
    words = raw_words(seed, stream, 0, step, 1, 0, -(-drawn // BLOCK))[0, :drawn]
    if 2 * size > population:
        return torch.from_numpy(np.sort(np.argsort(words, kind="stable")[:size]))
    bits = words.view(np.uint64)
    carried = ((bits & _LOW) * population) >> 32
    indices = (((bits >> 32) * population + carried) >> 32).view(np.int64)
    chosen = np.sort(indices[:size])
    if not (chosen[1:] > chosen[:-1]).all():
        order = np.argsort(indices, kind="stable")
        candidates = indices[order]
        order[1:] += drawn * (candidates[1:] == candidates[:-1])
        chosen = np.sort(candidates[np.argpartition(order, size - 1)[:size]])
    return torch.from_numpy(chosen)


def _shape(
    seed: int,  # noqa: ARG001  # the operation's signature
    stream: int,  # noqa: ARG001
    step: int,  # noqa: ARG001
    population: int,  # noqa: ARG001
    size: int,
) -> Int64[Tensor, " b"]:
    return torch.empty(size, dtype=torch.int64)


register("subset(int seed, int stream, int step, int population, int size)", _by_host, _shape)

_OPERATION = cast("_Operation", torch.ops.refblo.subset.default)


@cache
def enough(population: int, size: int) -> int:
    """How many indices to draw, so that with a probability above 1 − 2^-64 `size` of them are different.

    Less than `size` are different only if more than drawn − size draws repeat an earlier one, of which there
    were at most size − 1: the chance that this happens in d draws is at most that of a binomial variable
    with parameters d and q = (size − 1)/P, which Chernoff's bound exp(−d D(x ‖ q)), x = (d − size + 1)/d,
    limits.
    """
    chance = (size - 1) / population
    drawn = size
    while chance > 0 and not _bound(drawn, size, chance) <= -64 * math.log(2):
        drawn += 1 + drawn // 64
    return drawn


def _bound(drawn: int, size: int, chance: float) -> float:
    """Chernoff's bound of the chance's logarithm; 0 where there is none."""
    repeated = (drawn - size + 1) / drawn
    if repeated <= chance:
        return 0.0
    rest = (1 - repeated) * math.log((1 - repeated) / (1 - chance))
    return -drawn * (repeated * math.log(repeated / chance) + rest)
