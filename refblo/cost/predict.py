"""What fits in a given memory, from counts at three sizes."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from refblo.errors import ArgumentError, require_integer

PROBES = 14
"""Counts that a search may take."""

_UNITS = {"": 0, "b": 0, "k": 10, "ki": 10, "kib": 10, "m": 20, "mi": 20, "mib": 20}
_UNITS |= {"g": 30, "gi": 30, "gib": 30, "t": 40, "ti": 40, "tib": 40}
_DECIMAL = {"kb": 3, "mb": 6, "gb": 9, "tb": 12}


@final
@dataclass(frozen=True)
class Fit:
    """How peak bytes grow with a size, and how large the size may be.

    Attributes:
        sizes: the first three at which they were counted.
        peaks: bytes counted there, with what the problem itself holds.
        slope: bytes for each unit of the size; None if the three counts do not lie on a line.
        largest: the largest size that fits, 0 if none does, None if every size does. Extrapolated along
            the line; where there is none, searched by counting, and the largest that was found to fit.
        fits: whether the first size counted fits.
    """

    sizes: tuple[int, int, int]
    peaks: tuple[int, int, int]
    slope: float | None
    largest: int | None
    fits: bool


def largest_that_fits(peak: Callable[[int], int], size: int, memory: int, least: int = 1) -> Fit:
    """The largest size whose peak fits: by the line through three exact counts, or by exact search.

    Args:
        peak: a size to its bytes.
        size: the first size to count at; the others are a half and the whole of it larger.
        memory: bytes that may be used.
        least: the smallest size that means anything.

    Raises:
        ArgumentError: if `size` or `memory` is less than 1.
    """
    require_integer("size", size, 1, "count at a size of at least 1")
    require_integer("memory", memory, 1, "give a number of bytes")
    gap = max(1, size // 2)
    sizes = (size, size + gap, size + 2 * gap)
    first, second, third = (peak(at) for at in sizes)
    found = (first, second, third)
    if third - second != second - first:
        return Fit(sizes, found, None, _search(peak, size, memory, least), first <= memory)
    slope = (second - first) / gap
    if slope <= 0:
        return Fit(sizes, found, slope, None if first <= memory else 0, first <= memory)
    largest = size + int((memory - first) // slope)
    return Fit(sizes, found, slope, largest if largest >= least else 0, first <= memory)


def _search(peak: Callable[[int], int], size: int, memory: int, least: int) -> int:
    """Doubling, then bisection, by at most `PROBES` counts; 0 if not even `least` fits."""
    low, high, probes = least, None, 0
    if peak(least) > memory:
        return 0
    probe = max(size, least + 1)
    while probes < PROBES and (high is None or high - low > 1):
        if peak(probe) <= memory:
            low = probe
        else:
            high = probe
        probe = 2 * low if high is None else (low + high) // 2
        probes += 1
    return low


def parse_bytes(text: str) -> int:
    """A size in words as bytes: `16GiB`, `500 MB`, `1e9`; without a unit it is bytes.

    Raises:
        ArgumentError: if it is no positive number with a unit that is known.

    Example:
        >>> parse_bytes("16GiB"), parse_bytes("2 kB")
        (17179869184, 2000)
    """
    remedy = "write a number and a unit, such as 16GiB or 500MB"
    match = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    unit = match.group(2).lower() if match else ""
    try:
        number = float(match.group(1)) if match else 0.0
    except ValueError:
        number = 0.0
    scale = 10 ** _DECIMAL[unit] if unit in _DECIMAL else 2 ** _UNITS.get(unit, -1)
    if unit not in _UNITS and unit not in _DECIMAL:
        raise ArgumentError(f"memory must have a known unit, got {text!r}; {remedy}")
    if not 1 <= number * scale < float("inf"):
        raise ArgumentError(f"memory must be a positive number of bytes, got {text!r}; {remedy}")
    return int(number * scale)


def in_words(count: float, unit: str = "B", step: int = 1024) -> str:
    """A count with the prefix that fits it.

    Example:
        >>> in_words(3 * 2**30), in_words(8.47e11, "FLOP", 1000)
        ('3.00 GiB', '847 GFLOP')
    """
    prefixes = ["", "k", "M", "G", "T", "P", "E"]
    index = 0
    while abs(count) >= step and index < len(prefixes) - 1:
        count, index = count / step, index + 1
    infix = "i" if step == 1024 and index > 0 else ""
    digits = 0 if index == 0 or abs(count) >= 100 else 1 if abs(count) >= 10 else 2
    prefix = "Ki" if infix and index == 1 else prefixes[index] + infix
    return f"{count:.{digits}f} {prefix}{unit}".strip()
