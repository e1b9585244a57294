"""Names of mistakes where λ has many entries: vectors are compared along directions inside parts of λ.

A part is a tensor of λ, or where λ is one array its first or second half; of each, the entries that were
returned as zero and the others apart. What is wrong with a part then shows in its own directions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
import torch
from jaxtyping import Float64

from refblo.conformance.black_box.slopes import Slope
from refblo.conformance.diagnosis.budget import check_time
from refblo.conformance.diagnosis.chain import factors
from refblo.conformance.diagnosis.choose import factor_text
from refblo.conformance.diagnosis.locate import listed
from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate
from refblo.noise import Draws, Stream

Array = np.ndarray

_IN_ALL = 12
"""Directions over all parts together, at least; two in each part."""

_MOST_PARTS = 8
"""Parts of λ that get directions of their own."""


@final
@dataclass(frozen=True, eq=False)
class Part:
    """Some entries of λ and the directions inside them.

    Attributes:
        name: of the tensor of λ; "" for a part of a single array.
        entries: the indices of these entries.
        columns: which directions are inside.
        zero: whether zero was returned in all of them.
    """

    name: str
    entries: Array
    columns: slice
    zero: bool


@final
@dataclass(frozen=True, eq=False)
class Projections:
    """A returned hypergradient beside the truth, along directions.

    Attributes:
        directions: shape (k, p), each inside one part.
        parts: the parts, in the directions' order.
        observed: what was returned, shape (p,).
        truth: along the directions, shape (k,).
        noise: a bound on the error of the truth along them, as a norm.
    """

    directions: Float64[Array, "k p"]
    parts: tuple[Part, ...]
    observed: Float64[Array, " p"]
    truth: Float64[Array, " k"]
    noise: float

    @staticmethod
    def of(
        observed: Float64[Array, " p"], blocks: Mapping[str, slice], slope: Slope
    ) -> "Projections":
        """Take the slopes along directions in every part."""
        parts = _parts(observed, blocks)
        rows = np.zeros((parts[-1].columns.stop, observed.size))
        like = torch.empty(observed.size, dtype=torch.float64, device="cpu")
        for part in parts:
            for row in range(part.columns.start, part.columns.stop):
                drawn = Draws(0).normal(Stream.DIRECTIONS, 7000 + row, like).numpy()
                rows[row, part.entries] = drawn[part.entries]
                rows[row] /= np.linalg.norm(rows[row])
        pairs = []
        for row in rows:
            check_time()
            pairs.append(slope(row))
        truth, errors = (np.array(column) for column in zip(*pairs, strict=True))
        return Projections(rows, parts, observed, truth, float(np.linalg.norm(errors)))

    @cached_property
    def seen(self) -> Float64[Array, " k"]:
        """What was observed, along the directions."""
        found: Array = self.directions @ self.observed
        return found

    @cached_property
    def error(self) -> float:
        """‖observed − truth‖ along them."""
        return float(np.linalg.norm(self.seen - self.truth))

    def along(self, vector: Float64[Array, " k"]) -> Float64[Array, " k"]:
        """The vector itself: candidates are made along the directions."""
        return vector


def _parts(observed: Array, blocks: Mapping[str, slice]) -> tuple[Part, ...]:
    size = observed.size
    tensors = {"": slice(0, size)}
    if 1 < len(blocks) <= _MOST_PARTS:
        tensors = {name: part for name, part in blocks.items() if part.stop > part.start}
    groups = []
    for name, where in tensors.items():
        entries = np.arange(where.start, where.stop)
        cut = observed[entries] == 0
        groups += [(name, entries[cut], True), (name, entries[~cut], False)]
    groups = [group for group in groups if group[1].size > 0]
    each = max(2, -(-_IN_ALL // len(groups)))
    return tuple(
        Part(name, entries, slice(index * each, (index + 1) * each), zero)
        for index, (name, entries, zero) in enumerate(groups)
    )


def candidates(
    numbers: Projections, lam: Float64[Array, " p"], earlier: Sequence[Array], slope: Slope
) -> Iterator[Candidate]:
    """What mistakes outside the run make of the truth, along the directions."""
    truth, seen = numbers.truth, numbers.seen
    yield from _between_calls(numbers, earlier)
    yield Candidate(Mistake.ZERO, np.zeros_like(truth))
    yield Candidate(Mistake.WRONG_SIGN, -truth, "the whole hypergradient has the wrong sign")
    yield Candidate(Mistake.FACTOR_TWO, 2 * truth, "the whole is multiplied by 2")
    yield Candidate(Mistake.FACTOR_HALF, truth / 2, "the whole is multiplied by 1/2")
    yield from _ones(numbers, slope)
    yield from _chain(numbers, lam)
    square = float(truth @ truth)
    if square > 0:
        factor = float(seen @ truth) / square
        said = f"multiplied by {factor_text(factor)}"
        yield Candidate(Mistake.SCALED, factor * truth, said, fitted=1)
    yield from _some_zero(numbers)
    yield from _one_block(numbers)


def _between_calls(numbers: Projections, earlier: Sequence[Array]) -> Iterator[Candidate]:
    """What is left of the calls before."""
    for count in range(1, len(earlier) + 1):
        before = numbers.directions @ np.sum(earlier[-count:], axis=0)
        said = f"what the last {count} calls returned is added"
        yield Candidate(Mistake.ACCUMULATED, numbers.truth + before, said)
    for number, answer in enumerate(earlier, 1):
        said = f"it is the answer of call {number} again"
        yield Candidate(Mistake.STALE_LAMBDA, numbers.directions @ answer, said)


def _ones(numbers: Projections, slope: Slope) -> Iterator[Candidate]:
    """The derivative along ones in every entry, where all that were returned are the same."""
    size = numbers.observed.size
    if np.ptp(numbers.observed) > 1e-6 * np.abs(numbers.observed).max():
        return
    total = slope(np.ones(size) / np.sqrt(size))[0] * np.sqrt(size)
    ones = numbers.directions.sum(axis=1)
    for value, text in ((total, "the sum"), (total / size, "the mean")):
        said = f"every entry is {text} of the right entries"
        yield Candidate(Mistake.ONES_IN_EVERY_ENTRY, value * ones, said)


def _chain(numbers: Projections, lam: Array) -> Iterator[Candidate]:
    """The factor of what λ is put through: what was returned, with it undone, is the truth.

    Written as a vector that is off by what the undone one is, in the size of the returned one.
    """
    size = float(np.linalg.norm(numbers.observed))
    for text, times in factors(lam):
        undone = numbers.observed / times
        larger = size / float(np.linalg.norm(undone) or np.nan)
        off = larger * (numbers.directions @ undone - numbers.truth)
        yield Candidate(Mistake.CHAIN_FACTOR, numbers.seen - off, text)


def _some_zero(numbers: Projections) -> Iterator[Candidate]:
    """The truth with zeros where zero was returned."""
    cut = [part for part in numbers.parts if part.zero]
    if not cut or len(cut) == len(numbers.parts):
        return
    vector = numbers.truth.copy()
    for part in cut:
        vector[part.columns] = 0.0
    entries = np.sort(np.concatenate([part.entries for part in cut]))
    if entries.size >= 2:
        where = listed([int(entry) for entry in entries], numbers.observed.size)
        said = f"{where} are zero, the others are right"
        # Each part of zeros was chosen by what was observed.
        yield Candidate(Mistake.SOME_ZERO, vector, said, len(cut))


def _one_block(numbers: Projections) -> Iterator[Candidate]:
    """The truth but for one tensor of λ."""
    for name in dict.fromkeys(part.name for part in numbers.parts if part.name):
        inside = np.zeros(numbers.truth.size, dtype=bool)
        for part in numbers.parts:
            if part.name == name:
                inside[part.columns] = True
        for factor, how in (
            (0.0, "is zero"),
            (-1.0, "has the wrong sign"),
            (2.0, "is 2 times what it should be"),
            (0.5, "is 0.5 times what it should be"),
        ):
            vector = np.where(inside, factor * numbers.truth, numbers.truth)
            yield Candidate(Mistake.ONE_BLOCK, vector, f"lam{name} {how}")
        if 0 < inside.sum() <= inside.size - 2:
            vector = np.where(inside, numbers.seen, numbers.truth)
            said = f"lam{name} is wrong, the others are right"
            yield Candidate(Mistake.ONE_BLOCK, vector, said, int(inside.sum()))
