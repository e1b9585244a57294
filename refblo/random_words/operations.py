"""Philox4x64-10 in torch operations on 64-bit integers, on any device that multiplies them.

Block number b of (seed, stream, plane, step) is the generator's output for the key (seed, 0) and the counter
(b + 1, step, stream, plane): four words. (The first counter is 1: NumPy counts before it draws.) One round is

    (c₀, c₁, c₂, c₃) ← (⌊c₂ m₁ / 2^64⌋ ⊕ c₁ ⊕ k₀,  c₂ m₁,  ⌊c₀ m₀ / 2^64⌋ ⊕ c₃ ⊕ k₁,  c₀ m₀)   modulo 2^64,

ten times, and after each the key (k₀, k₁) grows by (w₀, w₁). Words are held as the int64 of the same bits.
J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, Parallel random numbers: as easy as 1, 2, 3, SC 2011.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Int64
from torch import Tensor

from refblo.errors import ArgumentError

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
    """A constant m with 2^63 < m < 2^64, as m − 2^64 = −(high · 2^32 + low).

    Args:
        value: m.
    """

    value: int

    @property
    def high(self) -> int:
        """The upper half of 2^64 − m, below 2^31."""
        return (2**64 - self.value) >> 32

    @property
    def low(self) -> int:
        """The lower half of 2^64 − m, below 2^31."""
        return (2**64 - self.value) & _LOW

    @property
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
    # The first two rounds by broadcasting, since a counter's words are constants of a row or a column.
    block = torch.arange(first + 1, first + 1 + blocks, device=device).view(1, -1)
    step = torch.arange(steps.start, steps.stop, device=device).view(-1, 1)
    product = stream * m1.value
    c0 = step.bitwise_xor_(signed((product >> 64) ^ keys[0][0]))
    c2 = high_word(block, m0, None).bitwise_xor_(plane ^ keys[0][1])
    c3 = block.mul_(signed(m0.value))
    high0, high1 = high_word(c0, m0, None), high_word(c2, m1, None)
    shape = (len(steps), blocks)
    state = torch.empty((8, *shape), dtype=torch.int64, device=device).unbind()
    state[0].copy_(high1.bitwise_xor_(signed(product) ^ keys[1][0]))
    state[1].copy_(c2.mul_(signed(m1.value)))
    torch.bitwise_xor(high0, c3, out=state[2]).bitwise_xor_(keys[1][1])
    state[3].copy_(c0.mul_(signed(m0.value)))
    for key in keys[2:]:
        state = _round(state, key)
    return torch.stack(state[:4], -1).view(len(steps), -1)


def _round(state: tuple[Tensor, ...], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """One round in place: four words, and four buffers."""
    c0, c1, c2, c3, high0, high1, *halves = state
    m0, m1 = MULTIPLIERS
    high_word(c0, m0, (*halves, high0))
    high_word(c2, m1, (*halves, high1))
    c0.mul_(signed(m0.value))
    c2.mul_(signed(m1.value))
    high1.bitwise_xor_(c1).bitwise_xor_(key[0])
    high0.bitwise_xor_(c3).bitwise_xor_(key[1])
    return (high1, c2, high0, c0, c1, c3, *halves)


def high_word(
    word: Int64[Tensor, "..."], m: Multiplier, buffers: tuple[Tensor, ...] | None
) -> Int64[Tensor, "..."]:
    """⌊a m / 2^64⌋ for the words a, modulo 2^64.

    With m = 2^64 − (h 2^32 + l) and a = u 2^32 + v it is a + ⌊−a (h 2^32 + l) / 2^64⌋, which is

        a − u h + ⌊(⌊−v l / 2^32⌋ − v h − u l) / 2^32⌋

    and no term leaves the signed integers; the middle sum may, by less than 2^62, so that it is shifted by
    2^62 then.

    Args:
        word: a.
        m: the constant.
        buffers: two for v and u, one for the result; new ones are made without.
    """
    low, high, out = buffers or (None, None, None)
    low = torch.bitwise_and(word, _LOW, out=low)
    high = torch.bitwise_right_shift(word, 32, out=high).bitwise_and_(_LOW)
    out = torch.mul(low, -m.low, out=out).bitwise_right_shift_(32)
    if m.overflows:
        out.add_(2**62)
    out.add_(low, alpha=-m.high).add_(high, alpha=-m.low).bitwise_right_shift_(32)
    if m.overflows:
        out.sub_(2**30)
    return out.add_(high, alpha=-m.high).add_(word)
