"""Philox4x64-10 in torch operations on 64-bit integers, on any device that multiplies them.

Block number b of (seed, stream, plane, step) is the generator's output for the key (seed, 0) and the counter
(b + 1, step, stream, plane): four words. (The first counter is 1: NumPy counts before it draws.) One round is

    (c₀, c₁, c₂, c₃) ← (⌊c₂ m₁ / 2^64⌋ ⊕ c₁ ⊕ k₀,  c₂ m₁,  ⌊c₀ m₀ / 2^64⌋ ⊕ c₃ ⊕ k₁,  c₀ m₀)   modulo 2^64,

ten times, and after each the key (k₀, k₁) grows by (w₀, w₁). Words are held as the int64 of the same bits.
J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, Parallel random numbers: as easy as 1, 2, 3, SC 2011.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import final

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from refblo.errors import ArgumentError
from refblo.random_words.host import dispatched

ROUNDS = 10
KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
"""w₀ and w₁."""

_LOW = 2**32 - 1


def signed(word: int) -> int:
    """The signed 64-bit integer with the bits of a word."""
    word %= 2**64
    return word - 2**64 if word >= 2**63 else word


@final
@dataclass(frozen=True)
class Multiplier:
    """A constant m with 2^63 < m < 2^64, as 2^64 − m = high · 2^32 + low.

    Args:
        value: m.
    """

    value: int

    @cached_property
    def rest(self) -> int:
        """2^64 − m."""
        return 2**64 - self.value

    @cached_property
    def high(self) -> int:
        """The upper half of 2^64 − m, below 2^31."""
        return self.rest >> 32

    @cached_property
    def low(self) -> int:
        """The lower half of 2^64 − m, below 2^31."""
        return self.rest & _LOW

    @cached_property
    def overflows(self) -> bool:
        """Whether the sum of the two middle products can leave the signed 64-bit integers."""
        return self.high + self.low >= 2**31


MULTIPLIERS = (Multiplier(0xD2E7470EE14C6C93), Multiplier(0xCA5A826395121157))
"""m₀ and m₁."""


def words_by_operations(
    seed: int,
    stream: int,
    plane: int,
    steps: range,
    first: int,
    blocks: int,
    device: torch.device,
) -> Int64[Tensor, "steps words"]:
    """The words of consecutive blocks of some steps, four to a block.

    Args:
        seed: the key, in [0, 2^63).
        stream: the counter's third word.
        plane: the counter's fourth word.
        steps: consecutive steps, the counter's second word.
        first: the number of the first block.
        blocks: how many blocks.
        device: where to compute; nothing is copied to it or from it.

    Raises:
        ArgumentError: if the device cannot multiply 64-bit integers.
    """
    try:
        return _words(seed, stream, plane, steps, first, blocks, device)
    except (RuntimeError, TypeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or device.type == "cpu":
            raise
        raise ArgumentError(
            f"like must be on a device that computes with 64-bit integers, got {device} ({error}); draw "
            "with like on the CPU and move the numbers"
        ) from error


def _words(
    seed: int,
    stream: int,
    plane: int,
    steps: range,
    first: int,
    blocks: int,
    device: torch.device,
) -> Int64[Tensor, "steps words"]:
    keys = [(signed(seed + r * KEY_STEPS[0]), signed(r * KEY_STEPS[1])) for r in range(ROUNDS)]
    m0, m1 = MULTIPLIERS
    # In one piece: of several, the allocator returns some to the system after each call.
    memory = torch.empty((10, len(steps), blocks), dtype=torch.int64, device=device)
    factors, kept, upper, low, high = (_Rows(memory[at : at + 2]) for at in range(0, 10, 2))
    # The last round has no more use for v and u when it writes the words in their places.
    words = memory[6:].view(len(steps), blocks, 4)
    # The first two rounds by broadcasting, since a counter's words are constants of a row or a column.
    step = torch.arange(steps.start, steps.stop, device=device).view(-1, 1)
    block = torch.arange(first + 1, first + 1 + blocks, device=device).view(1, -1)
    product = stream * m1.value
    c0 = step.bitwise_xor_(signed((product >> 64) ^ keys[0][0]))
    a_row = [_Rows(rows.together[:1, :1]) for rows in (upper, low, high)]
    _high_words(_Rows(block[None]), (m0,), *a_row)
    c2 = a_row[0].each[0].bitwise_xor_(plane ^ keys[0][1])
    c3 = block.mul_(signed(m0.value))
    _high_words(a_row[0], (m1,), _Rows(kept.together[1:, :1]), *a_row[1:])
    factors.each[0].copy_(kept.each[1][:1]).bitwise_xor_(signed(product) ^ keys[1][0])
    torch.bitwise_xor(high_word(c0, m0), c3, out=factors.each[1]).bitwise_xor_(keys[1][1])
    kept.each[0].copy_(c0.mul_(signed(m0.value)))
    kept.each[1].copy_(c2.mul_(signed(m1.value)))
    number, multipliers = _number(), MULTIPLIERS
    for turn in range(2, ROUNDS):
        key = keys[turn] if turn % 2 else keys[turn][::-1]
        _high_words(factors, multipliers, upper, low, high)
        upper.together.bitwise_xor_(kept.together)
        new = (*upper.each, kept.each[1], kept.each[0])
        if turn == ROUNDS - 1:
            new = tuple(words[..., place] for place in (0, 2, 1, 3))
        torch.bitwise_xor(upper.each[0], key[0], out=new[0])
        torch.bitwise_xor(upper.each[1], key[1], out=new[1])
        torch.mul(factors.each[0], number(signed(multipliers[0].value)), out=new[2])
        torch.mul(factors.each[1], number(signed(multipliers[1].value)), out=new[3])
        factors, upper, multipliers = upper, factors, multipliers[::-1]
    return words.view(len(steps), -1)


@final
class _Rows:
    """Some words of each block, together and one by one.

    Args:
        together: the words, one row of them a multiplier.
    """

    def __init__(self, together: Int64[Tensor, "rows ..."]) -> None:
        self.together = together
        self.each = together.unbind()


def high_word(word: Int64[Tensor, "..."], m: Multiplier) -> Int64[Tensor, "..."]:
    """⌊a m / 2^64⌋ for the words a, modulo 2^64."""
    upper, low, high = (_Rows(torch.empty_like(word)[None]) for _ in range(3))
    _high_words(_Rows(word[None]), (m,), upper, low, high)
    return upper.each[0]


def _high_words(
    words: _Rows, multipliers: Sequence[Multiplier], upper: _Rows, low: _Rows, high: _Rows
) -> None:
    """⌊a m / 2^64⌋, modulo 2^64, for each row of words a and its multiplier m, into `upper`.

    With m = 2^64 − k, k = h 2^32 + l and a = u 2^32 + v it is a + ⌊−a k / 2^64⌋, which is

        a − u h + ⌊(⌊−v l / 2^32⌋ − v h − u l) / 2^32⌋.

    No term leaves the signed integers but the middle sum, and that not if h + l < 2^31. Otherwise
    u' = u − 2^32 takes the place of u, with which no term does; the result is larger by k then.

    Args:
        words: a.
        multipliers: m, one a row.
        upper: memory for the result.
        low: memory for v.
        high: memory for u.
    """
    number = _number()
    torch.bitwise_and(words.together, number(_LOW), out=low.together)
    torch.bitwise_right_shift(words.together, number(32), out=high.together)
    for m, v, u, out in zip(multipliers, low.each, high.each, upper.each, strict=True):
        if m.overflows:
            u.bitwise_or_(number(~_LOW))
        else:
            u.bitwise_and_(number(_LOW))
        torch.mul(v, number(-m.low), out=out)
    upper.together.bitwise_right_shift_(number(32))
    for m, v, u, out in zip(multipliers, low.each, high.each, upper.each, strict=True):
        out.add_(v, alpha=-m.high).add_(u, alpha=-m.low)
    upper.together.bitwise_right_shift_(number(32))
    for m, u, out in zip(multipliers, high.each, upper.each, strict=True):
        out.add_(u, alpha=-m.high)
        if m.overflows:
            out.sub_(number(m.rest))
    upper.together.add_(words.together)


def _number() -> Callable[[int], int | Tensor]:
    """How a constant is given to torch: as a tensor, which takes it half the time, if nobody watches."""
    return _as_it_is if dispatched() else _as_tensor


def _as_it_is(number: int) -> int:
    return number


@cache
def _as_tensor(number: int) -> Tensor:
    """A CPU tensor, which torch's operations take for a number on every device."""
    with _disable_current_modes(), torch.inference_mode(False):
        return torch.tensor(number, device="cpu")
