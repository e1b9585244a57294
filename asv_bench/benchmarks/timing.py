"""Times that can be compared on a machine that does other things too."""

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Ratio:
    """How many times as long one thing takes as another: the median of rounds, and its quartiles."""

    median: float
    lower_quartile: float
    upper_quartile: float


@contextmanager
def quick_collections() -> Iterator[None]:
    """Let `gc.collect` look only at what is made from here on: what was imported takes it 0.1 s each time."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Seconds of each function in each round, processor time unless another clock is given.

    In a round every function is called once, in an order of its own, after a garbage collection, so that
    a slow minute of the machine, and what one leaves behind for the next, falls on all alike. The first
    round, which warms up, is not kept.
    """
    order, shuffle = list(functions), random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    with quick_collections():
        for round_number in range(rounds + 1):
            shuffle.shuffle(order)
            for name in order:
                gc.collect()
                start = clock()
                functions[name]()
                elapsed = clock() - start
                if round_number > 0:
                    seconds[name].append(elapsed)
    return seconds


def ratio(numerators: list[float], denominators: list[float]) -> Ratio:
    """The ratio round by round."""
    ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
    lower, median, upper = statistics.quantiles(ratios, n=4)
    return Ratio(median, lower, upper)
