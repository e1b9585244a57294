"""How far a hypergradient is from the truth, and how far it may be."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float64

from refblo.conformance.entries import Entries
from refblo.conformance.truth.expectation import ERROR_RATE
from refblo.conformance.truth.reference import Reference

Array = np.ndarray


_DUSTY = 100.0
"""How many times what rounding leaves of a derivative of zero the error of such a truth may be."""


@final
@dataclass(frozen=True)
class Margin:
    """How far a hypergradient is from the truth and how far it may be, along the directions taken.

    Attributes:
        distance: the norm of the difference.
        noise: what the oracles' error and rounding in the caller's dtype explain.
        allowed: what is not accused: the largest of the noise, floor · scale, and noise + tolerance · scale.
        scale: the norm of the truth (see `Reference.scale`).
    """

    distance: float
    noise: float
    allowed: float
    scale: float

    @property
    def relative(self) -> float:
        """Distance over scale."""
        return ratio(self.distance, self.scale)

    @property
    def floor(self) -> float:
        """The smallest relative error that would be accused."""
        return ratio(self.allowed, self.scale)

    @property
    def right(self) -> bool:
        """Whether the distance is allowed; a distance that is no number is not."""
        return self.distance <= self.allowed


def ratio(part: float, whole: float) -> float:
    """The quotient, with 0 / 0 = 0 and x / 0 = inf."""
    if whole > 0:
        return part / whole
    return 0.0 if part == 0 else math.inf


@final
@dataclass(frozen=True)
class BlockMargin:
    """The margin of one tensor of λ, judged by itself.

    Attributes:
        name: of the tensor in λ's tree.
        margin: of the tensor's own entries.
        truth: the norm of the truth in it, along the directions taken.
        zero: whether the truth in it is zero within its stated error.
    """

    name: str
    margin: Margin
    truth: float
    zero: bool

    @property
    def right(self) -> bool:
        """Whether nothing is accused."""
        return self.margin.right

    @property
    def seen(self) -> bool:
        """Whether an answer of zero in it would have been accused, unless zero is the truth."""
        return self.zero or not self.truth <= self.margin.allowed

    def describe(self) -> str:
        """One line."""
        if not self.right and self.zero:
            return (
                f"block {self.name} is wrong: its truth is zero within its own error, and the answer in it "
                f"has norm {self.margin.distance:.2e} (allowed {self.margin.allowed:.2e})"
            )
        if not self.right:
            return (
                f"block {self.name} is wrong: relative error {self.margin.relative:.2e} (norm "
                f"{self.margin.distance:.2e}, allowed {self.margin.allowed:.2e})"
            )
        if not self.seen:
            return (
                f"block {self.name} was not seen: its truth has norm {self.truth:.1e}, and an error of "
                f"{self.margin.allowed:.1e} is allowed in it by rounding and the declared tolerance"
            )
        return f"block {self.name} is right: relative error {self.margin.relative:.2e}"


@final
@dataclass(frozen=True)
class Judgement:
    """A hypergradient's margin as a whole and block by block.

    Attributes:
        whole: over all directions together.
        blocks: of each tensor, where λ is a tree.
        zero: whether the truth is zero within its stated error.
        blind: whether an answer of zero would be allowed as well.
        entries: each entry, where all coordinates are taken.
    """

    whole: Margin
    blocks: tuple[BlockMargin, ...] = ()
    zero: bool = False
    blind: bool = False
    entries: Entries | None = None

    @property
    def right(self) -> bool:
        """Whether neither the whole nor a block nor an entry is accused."""
        whole = self.whole.right and all(block.right for block in self.blocks)
        return whole and self.wrong_entry is None

    @property
    def wrong_entry(self) -> int | None:
        """The entry that is furthest off, where neither the whole nor a block is."""
        if not self.whole.right or self.wrong_block is not None or self.entries is None:
            return None
        wrong = self.entries.wrong
        return wrong[0] if wrong else None

    @property
    def wrong_block(self) -> BlockMargin | None:
        """The block that is furthest off, where the whole is not."""
        wrong = [block for block in self.blocks if not block.right]
        if not self.whole.right or not wrong:
            return None
        return max(wrong, key=lambda block: block.margin.relative)

    @property
    def shown(self) -> Margin:
        """The margin that the verdict is about: of the whole, or of the one block or entry that is wrong."""
        block, entry = self.wrong_block, self.wrong_entry
        if block is not None:
            return block.margin
        if entry is None or self.entries is None:
            return self.whole
        allowed, truth = float(self.entries.allowed[entry]), float(self.entries.truth[entry])
        return Margin(float(self.entries.distance[entry]), allowed, allowed, truth)

    @property
    def where_wrong(self) -> str:
        """What the first line of a report says of a wrong answer, beside its figures."""
        block = self.wrong_block
        if block is not None:
            return f"block {block.name} of lam is wrong"
        if self.wrong_entry is not None and self.entries is not None:
            return self.entries.describe_wrong()
        nothing = self.zero or self.whole.scale == 0
        return "the truth is zero within its own error, and the answer is not" if nothing else ""


@np.errstate(invalid="ignore", over="ignore")  # an answer may be infinite
def margin(
    observed: Float64[Array, " p"], reference: Reference, floor: float, tolerance: float
) -> Margin:
    """Compare a hypergradient with its reference.

    Args:
        observed: the hypergradient, shape (p,).
        reference: the truth.
        floor: the relative error below which nothing is accused.
        tolerance: the relative error that the method itself declares.
    """
    p, k = reference.directions.shape
    exhaustive = reference.exhaustive
    distance = float(np.linalg.norm(reference.of(observed) - reference.value))
    slack = [
        share * reference.scale
        if exhaustive
        else share * _norm(observed, reference, p, share) * _largest(p, k)
        for share in (tolerance, floor)
    ]
    return _margin(distance, reference, *slack)


def _margin(distance: float, reference: Reference, tolerated: float, ignored: float) -> Margin:
    noise = _noise(reference)
    allowed = max(noise + tolerated, ignored)
    if is_zero(reference):
        allowed = max(allowed, float(np.linalg.norm(reference.dust)))
    return Margin(distance, noise, allowed, reference.scale)


def _noise(reference: Reference) -> float:
    return float(np.linalg.norm(reference.rounding + reference.error))


def is_zero(reference: Reference) -> bool:
    """Whether the truth is zero within its own stated error, and that error no more than dust.

    Where roundings grow to the size of the terms, every truth is within its error of zero: that is no zero.
    """
    value, error, dust = (
        float(np.linalg.norm(part)) for part in (reference.value, reference.error, reference.dust)
    )
    return value <= error <= _DUSTY * dust or value == error == 0


@np.errstate(invalid="ignore", over="ignore")
def judge(
    observed: Float64[Array, " p"],
    reference: Reference,
    floor: float,
    tolerance: float,
    blocks: Mapping[str, slice],
    ulp: float = 0.0,
) -> Judgement:
    """Compare a hypergradient with its reference, as a whole and block by block.

    Args:
        observed: the hypergradient, shape (p,).
        reference: the truth; where it is not exhaustive and there are blocks to judge, the last directions
            are confined to one block each, in their order.
        floor: the relative error below which nothing is accused, in the whole and in each block.
        tolerance: the relative error that the method declares for the whole.
        blocks: the parts of λ that are judged by themselves.
        ulp: the relative spacing of the numbers that the hypergradient was computed with.
    """
    whole = reference
    if not reference.exhaustive and blocks:
        whole = columns(reference, slice(0, reference.directions.shape[1] - len(blocks)))
    return Judgement(
        whole=margin(observed, whole, floor, tolerance),
        blocks=tuple(
            _block(name, index, where, observed, whole, reference, floor, tolerance)
            for index, (name, where) in enumerate(blocks.items())
        ),
        zero=is_zero(whole),
        blind=margin(np.zeros_like(observed), whole, floor, tolerance).right,
        entries=(
            Entries.of(observed, reference, floor, tolerance, ulp)
            if reference.exhaustive and observed.size > 1 and not is_zero(whole)
            else None
        ),
    )


def _block(
    name: str,
    index: int,
    where: slice,
    observed: Float64[Array, " p"],
    whole: Reference,
    reference: Reference,
    floor: float,
    tolerance: float,
) -> BlockMargin:
    """One block. A declared tolerance is of the whole, and may sit in this block alone."""
    size = where.stop - where.start
    if reference.exhaustive:
        part = columns(reference, where)
        seen = observed[where]
        tolerated, ignored = tolerance * whole.scale, floor * part.scale
    else:
        column = whole.directions.shape[1] + index
        part = columns(reference, slice(column, column + 1))
        seen = part.of(observed)
        largest = _largest(size, 1)
        tolerated = tolerance * _norm(observed, whole, observed.size, tolerance) * largest
        ignored = floor * _norm(observed[where], part, size, floor) * largest
    distance = float(np.linalg.norm(seen - part.value))
    truth = float(np.linalg.norm(part.value))
    return BlockMargin(name, _margin(distance, part, tolerated, ignored), truth, is_zero(part))


def _norm(observed: Float64[Array, " p"], reference: Reference, size: int, share: float) -> float:
    """A bound on ‖g‖, of which only components along k random directions in `size` dimensions are known.

    It is at most their norm times √(size/q) with q the lower quantile of χ²_k at `ERROR_RATE`, and at most
    ‖observed‖ / (1 − share) if the observed one is off by no more than the share.
    """
    if size == 1:
        return reference.scale
    bound = reference.scale * math.sqrt(size / _quantile(reference.value.size, upper=False))
    declared = float(np.linalg.norm(observed)) / (1 - share)
    return min(bound, declared) if math.isfinite(declared) else bound


def _largest(size: int, k: int) -> float:
    """How large an error of norm 1 in `size` dimensions looks along k random directions of norm one.

    Its components have about the variance 1/size: at most √(q/size) with q the upper quantile of χ²_k at
    `ERROR_RATE`, and never more than √k.
    """
    return min(math.sqrt(_quantile(k, upper=True) / size), math.sqrt(k))


def _quantile(k: int, *, upper: bool) -> float:
    """Of χ²_k."""
    from scipy.special import chdtri  # not needed for few hyperparameters, and slow to import

    return float(chdtri(k, ERROR_RATE if upper else 1 - ERROR_RATE))


def columns(reference: Reference, which: slice) -> Reference:
    """The reference along some of its directions."""
    return replace(
        reference,
        directions=reference.directions[:, which],
        direct=reference.direct[which],
        indirect=reference.indirect[which],
        rounding=reference.rounding[which],
        error=reference.error[which],
        dust=reference.dust[which],
    )
