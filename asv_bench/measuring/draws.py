"""What drawing normal numbers costs, against torch's own generator, and what the numbers are like."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float64
from scipy import stats
from torch import Tensor

from asv_bench.benchmarks.problems import tiny
from asv_bench.benchmarks.timing import interleaved, ratio
from asv_bench.measuring.measures import Measurement
from refblo.chain import Chain, Langevin
from refblo.cost import measure, shapes_only
from refblo.noise import Draws, Stream
from refblo.random_words.normal import normal
from refblo.random_words.operations import words_by_operations
from refblo.random_words.source import Source

SIZES = (100, 100_000, 10_000_000, 87_000_000)
LIMITS = {100: None, 100_000: 2.0, 10_000_000: 1.3, 87_000_000: 1.3}
"""n → the most that the default way may take, over `torch.randn`; a short draw has a limit in seconds."""

SHORT_LIMIT = 30e-6
"""Seconds that a draw of 100 numbers may take."""
OPERATIONS_LIMIT = 4.0
OPERATIONS_CHUNK = 2048
"""Lanes at a time in torch operations: fewer, and calls take the time; more, and the cache is too small."""
COMPILED_LIMIT = 1.0
BYTES_LIMIT = 64 * 2**20


@final
@dataclass(frozen=True)
class _ByOperations:
    """The words as another device makes them, on the CPU, as many at a time as suits its cache."""

    source: Source

    def words(self, steps: range, first: int, count: int, like: Tensor) -> Tensor:
        seed, stream, plane = self.source.seed, self.source.stream, self.source.plane
        return words_by_operations(seed, stream, plane, steps, first // 4, count // 4, like.device)

    def further(self) -> "_ByOperations":
        return _ByOperations(self.source.further())


def _by_operations(n: int) -> Callable[[], object]:
    like, source = torch.empty(n), _ByOperations(Source(3, Stream.LANGEVIN))
    return lambda: normal(source, range(5, 6), like, OPERATIONS_CHUNK)


def _in_compiled_run(like: Tensor) -> Callable[[], object]:
    """The noise of one step, drawn as `Compiled` draws what its kernels take."""
    chain = Chain(tiny().problem, Langevin(1e-3, noise_scale=1.0), Draws(3))
    return lambda: chain.draw(range(5, 6), (), like)


def ratios(n: int, rounds: int) -> list[Measurement]:
    """The ways of drawing n float32 numbers over `torch.randn`, in one interleaved run."""
    like, repeat = torch.empty(n), max(1, 1_000_000 // n) if n <= 100_000 else 1
    functions: dict[str, Callable[[], object]] = {
        "torch.randn": lambda: torch.randn(n),
        "default": lambda: Draws(3).normal(Stream.LANGEVIN, 5, like),
    }
    if n == 10_000_000:
        functions["compiled"] = _in_compiled_run(like)
        functions["operations"] = _by_operations(n)

    def often(function: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            for _ in range(repeat):
                function()

        return run

    seconds = interleaved({name: often(each) for name, each in functions.items()}, rounds)
    limits = {
        "default": LIMITS[n],
        "compiled": COMPILED_LIMIT,
        "operations": OPERATIONS_LIMIT,
    }
    names = {
        "default": "the default way",
        "compiled": "as a compiled run draws them",
        "operations": "in torch operations alone",
    }
    found = []
    for name, times in seconds.items():
        if name != "torch.randn":
            share = ratio(times, seconds["torch.randn"])
            each = [sorted(of)[len(of) // 2] / repeat for of in (times, seconds["torch.randn"])]
            found.append(
                Measurement(
                    f"{n:,} numbers, {names[name]}", "torch.randn", share, limits[name], *each
                )
            )
    return found


def bytes_beyond(n: int = 87_000_000) -> dict[str, int]:
    """Most bytes alive besides the result, counted on shapes: on the CPU, and in torch operations."""
    found = {}
    with shapes_only():
        like = torch.empty(n)
        cost = measure(lambda: Draws(3).normal(Stream.LANGEVIN, 5, like))
        found["default"] = cost.peak_bytes - 4 * n
        found["operations"] = measure(_by_operations(n)).peak_bytes - 4 * n
    return found


@final
@dataclass(frozen=True)
class Statistic:
    """One figure of a sample of draws, and how likely one as bad is for right draws.

    Attributes:
        name: what was computed.
        value: the figure.
        probability: how likely a figure at least as far from the expected one is.
    """

    name: str
    value: float
    probability: float


PART = 1_000_000


def statistics(parts: int, dtype: torch.dtype = torch.float32) -> list[Statistic]:
    """Distribution, moments and correlations of `parts` draws of 10⁶ numbers.

    The draws take turns in seed, stream and step, so that neighbouring ones differ in one of them alone.
    The Kolmogorov-Smirnov tests of the draws are put together by a Kolmogorov-Smirnov test of their
    p-values; the moments are of all numbers; the correlations are those of each draw with the next, the
    largest counting, with Bonferroni's factor.
    """
    like = torch.empty(PART, dtype=dtype)
    powers, values, correlations = np.zeros(4), [], []
    before: Float64[np.ndarray, " n"] | None = None
    for part in range(parts):
        # A Gray walk: the seed, the stream or the step is one further, in turns.
        seed, stream, step = ((part + shift) // 3 for shift in (2, 1, 0))
        numbers = Draws(seed).normal(stream, step, like).double().numpy()
        values.append(float(stats.kstest(numbers, "norm").pvalue))
        powers += [float((numbers**k).sum()) for k in (1, 2, 3, 4)]
        if before is not None:
            correlations.append(float(before @ numbers) / math.sqrt(PART))
        before = numbers
    together = stats.kstest(values, "uniform")
    found = [Statistic("Kolmogorov-Smirnov", float(together.statistic), float(together.pvalue))]
    # E z^k and the variance of z^k: (2k)!/(2^k k!) − (E z^k)².
    for k, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        n = parts * PART
        z = (float(powers[k - 1]) - n * mean) / math.sqrt(n * variance)
        found.append(Statistic(f"mean of z^{k}, standardised", z, 2 * float(stats.norm.sf(abs(z)))))
    if correlations:
        largest = max(correlations, key=abs)
        single = 2 * float(stats.norm.sf(abs(largest)))
        chance = min(1.0, single * len(correlations))
        found.append(Statistic("largest correlation, standardised", largest, chance))
    return found
