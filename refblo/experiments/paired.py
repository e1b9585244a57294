"""Claims of the papers as comparisons that can fail: paired runs, exact tests, equivalence, Holm, power.

A table states its comparisons before anything runs, each as an `Endpoint`. Both sides of a comparison are run
on the same seeds (same split, same start, same batches), and what is judged is the difference of each pair,

    d_s = ours_s − theirs_s,   s = 1 … S,

by Wilcoxon's signed-rank test, exact where no two |d_s| agree. `LOWER` is confirmed when d < 0 is shown, and
refuted when d > −margin is shown instead. `EQUIVALENT` is confirmed by two one-sided tests when |d| <
margin is shown, and refuted when |d| > margin is. Each of the two directions has half of the error rate of
5 %, and Holm's correction runs over the endpoints of a table in each of them.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import Float64
from scipy.special import ndtri

from refblo.errors import require
from refblo.experiments.endpoints import Endpoint, EndpointKind, JudgedEndpoint
from refblo.experiments.report import Scale
from refblo.noise import Draws, Stream

ERROR_RATE = 0.05
"""Of a table: the chance that any of its verdicts is wrong, where a verdict is given."""
POWER = 0.8
"""The smallest effect that is reported would have been shown with this probability."""
RESAMPLES = 2000
"""Of the pairs, for an interval."""
EFFICIENCY = 3 / math.pi
"""Of Wilcoxon's test beside the t-test on normal differences."""


def judge(
    endpoints: Sequence[Endpoint], pairs: Sequence[Float64[np.ndarray, " s"]], scale: Scale
) -> tuple[JudgedEndpoint, ...]:
    """The endpoints of one table together.

    Args:
        endpoints: of the table.
        pairs: d of each of them, one number a seed.
        scale: at which it was run; a smoke run is never judged.

    Raises:
        ArgumentError: if there is not one vector an endpoint, or one has fewer than two seeds.
    """
    same = len(endpoints) == len(pairs)
    require(same, "pairs", "be as many as the endpoints", len(pairs), "give one vector for each")
    tested = [_one_sided(endpoint, d) for endpoint, d in zip(endpoints, pairs, strict=True)]
    confirmed = holm([confirm for confirm, _ in tested])
    refuted = holm([refute for _, refute in tested])
    judged = []
    for endpoint, d, yes, no in zip(endpoints, pairs, confirmed, refuted, strict=True):
        smallest = detectable(float(d.std(ddof=1)), d.size, len(endpoints))
        low, high = bootstrap_interval(d)
        text = _verdict(scale, yes, no, smallest, d.size, len(endpoints))
        judged.append(
            JudgedEndpoint(
                endpoint,
                d.size,
                float(d.mean()),
                low,
                high,
                yes,
                no,
                smallest,
                text,
                tuple(d.tolist()),
            )
        )
    return tuple(judged)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    count, largest = len(p_values), 0.0
    adjusted = [0.0] * count
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def signed_rank(d: Float64[np.ndarray, " s"]) -> float:
    """The p-value of Wilcoxon's signed-rank test of "the median of d is at least 0" against "below 0"."""
    from scipy.stats import wilcoxon

    if not np.any(d):
        return 1.0
    return float(wilcoxon(d, alternative="less").pvalue)


def bootstrap_interval(d: Float64[np.ndarray, " s"]) -> tuple[float, float]:
    """A 95 % interval for the mean of d, from resampled pairs; the same for the same d."""
    index = _resampled(d.size)
    low, high = np.percentile(d[index].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


@cache
def _resampled(size: int) -> np.ndarray:
    """Which pairs each resample takes."""
    drawn = Draws(0).uniform(Stream.INSTANCE, 0, (RESAMPLES, size), 0.0, float(size))
    index: np.ndarray = drawn.to(torch.int64).clamp(max=size - 1).numpy()
    return index


def fewest_seeds(endpoints: int) -> int:
    """The fewest pairs with which Wilcoxon's test can reach the level of Holm's first step.

    Example:
        >>> fewest_seeds(1), fewest_seeds(4)
        (6, 8)
    """
    return math.ceil(math.log2(2 * endpoints / ERROR_RATE))


def detectable(deviation: float, seeds: int, endpoints: int) -> float:
    """The smallest |mean of d| that is shown with a probability of 80 %, at Holm's first step.

    Args:
        deviation: the standard deviation of d.
        seeds: S.
        endpoints: of the table.
    """
    if seeds < fewest_seeds(endpoints):
        return math.inf
    level = ERROR_RATE / (2 * endpoints)
    quantiles = float(ndtri(1 - level) + ndtri(POWER))
    return quantiles * deviation / math.sqrt(seeds * EFFICIENCY)


def _one_sided(endpoint: Endpoint, d: Float64[np.ndarray, " s"]) -> tuple[float, float]:
    """The p-values of the direction that confirms and of the one that refutes."""
    require(d.size >= 2, "seeds", "be at least 2", d.size, "run more of them")
    if endpoint.kind is EndpointKind.LOWER:
        return signed_rank(d), signed_rank(-(d + endpoint.margin))
    inside = max(signed_rank(d - endpoint.margin), signed_rank(-(d + endpoint.margin)))
    outside = 2 * min(signed_rank(d + endpoint.margin), signed_rank(endpoint.margin - d))
    return inside, min(1.0, outside)


def _verdict(
    scale: Scale, confirmed: float, refuted: float, smallest: float, seeds: int, endpoints: int
) -> str:
    if math.isinf(smallest):
        effect = f"no effect could have been seen with {seeds} seeds; {fewest_seeds(endpoints)} can"
    else:
        effect = f"smallest effect that would have been seen: {smallest:.3g}"
    if scale is Scale.SMOKE:
        return f"not judged at smoke scale ({effect})"
    if confirmed <= ERROR_RATE / 2:
        return f"confirmed at {scale.value} scale"
    if refuted <= ERROR_RATE / 2:
        return f"refuted at {scale.value} scale"
    return f"undecided ({effect})"
