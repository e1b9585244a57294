"""Philox4x64-10 in torch operations on 64-bit integers, on any device that multiplies them.

Block number b of (seed, stream, plane, step) is the generator's output for the key (seed, 0) and the counter
(b + 1, step, stream, plane): four words. (The first counter is 1: NumPy counts before it draws.) One round is

    (c₀, c₁, c₂, c₃) ← (⌊c₂ m₁ / 2^64⌋ ⊕ c₁ ⊕ k₀,  c₂ m₁,  ⌊c₀ m₀ / 2^64⌋ ⊕ c₃ ⊕ k₁,  c₀ m₀)   modulo 2^64,

ten times, and after each the key (k₀, k₁) grows by (w₀, w₁). Words are held as the int64 of the same bits.
J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, Parallel random numbers: as easy as 1, 2, 3, SC 2011.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from typing import final

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from refblo.errors import ArgumentError
from refblo.random_words.host import dispatched, unwatched

ROUNDS = 10
KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
"""w₀ and w₁."""

_LOW = 2**32 - 1


def signed(word: int) -> int:
    """The signed 64-bit integer with the bits of a word."""
    word %= 2**64
    return word - 2**64 if word >= 2**63 else word


_KEYS = tuple((r * KEY_STEPS[0], signed(r * KEY_STEPS[1])) for r in range(ROUNDS))
"""What each round adds to k₀, and its k₁."""


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
        # In one piece: of several, the allocator returns some to the system after each call.
        memory = torch.empty((8, len(steps), blocks), dtype=torch.int64, device=device)
        # A call of torch takes a fourth less time in inference mode.
        with torch.inference_mode() if unwatched() else nullcontext():
            _make_words(memory, seed, stream, plane, steps, first)
        return memory[4:].view(len(steps), 4 * blocks)
    except (RuntimeError, TypeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or device.type == "cpu":
            raise
        raise ArgumentError(
            f"like must be on a device that computes with 64-bit integers, got {device} ({error}); draw "
            "with like on the CPU and move the numbers"
        ) from error


def _make_words(
    memory: Int64[Tensor, "8 steps blocks"],
    seed: int,
    stream: int,
    plane: int,
    steps: range,
    first: int,
) -> None:
    """The words, four to a block, into the last four of the eight rows that are computed in."""
    _, rows, blocks = memory.shape
    keys = [(signed(seed + first_key), second_key) for first_key, second_key in _KEYS]
    m0, m1 = MULTIPLIERS
    c0, c2, high0, high1, c1, c3, *halves = memory.unbind()
    # The first two rounds by broadcasting, since a counter's words are constants of a row or a column.
    step = torch.arange(steps.start, steps.stop, device=memory.device).view(-1, 1)
    block = torch.arange(first + 1, first + 1 + blocks, device=memory.device).view(1, -1)
    product = stream * m1.value
    step.bitwise_xor_(signed((product >> 64) ^ keys[0][0]))
    row = [half[:1] for half in halves]
    by_block = _high_word(block, m0, high0[:1], *row).bitwise_xor_(plane ^ keys[0][1])
    _high_word(by_block, m1, high1[:1], *row)
    c0.copy_(high1[:1]).bitwise_xor_(signed(product) ^ keys[1][0])
    c1.copy_(by_block.mul_(signed(m1.value)))
    torch.bitwise_xor(high_word(step, m0), block.mul_(signed(m0.value)), out=c2)
    c2.bitwise_xor_(keys[1][1])
    c3.copy_(step.mul_(signed(m0.value)))
    number = _number()
    value0, value1 = number(signed(m0.value)), number(signed(m1.value))
    # The last round has no more use for c1, c3 and the halves when it writes the words in their places.
    words = memory[4:].view(rows, blocks, 4).unbind(-1)
    for turn in range(2, ROUNDS):
        _high_word(c0, m0, high0, *halves).bitwise_xor_(c3)
        _high_word(c2, m1, high1, *halves).bitwise_xor_(c1)
        new = words if turn == ROUNDS - 1 else (high1, c1, high0, c3)
        torch.bitwise_xor(high1, keys[turn][0], out=new[0])
        torch.bitwise_xor(high0, keys[turn][1], out=new[2])
        torch.mul(c2, value1, out=new[1])
        torch.mul(c0, value0, out=new[3])
        c0, c2, high0, high1 = high1, high0, c0, c2


def high_word(word: Int64[Tensor, "..."], m: Multiplier) -> Int64[Tensor, "..."]:
    """⌊a m / 2^64⌋ for the words a, modulo 2^64."""
    return _high_word(word, m, *(torch.empty_like(word) for _ in range(3)))


def _high_word(
    word: Int64[Tensor, "..."],
    m: Multiplier,
    out: Int64[Tensor, "..."],
    low: Int64[Tensor, "..."],
    high: Int64[Tensor, "..."],
) -> Int64[Tensor, "..."]:
    """⌊a m / 2^64⌋ for the words a, modulo 2^64, in `out`.

    With m = 2^64 − k, k = h 2^32 + l and a = u 2^32 + v it is a + ⌊−a k / 2^64⌋, which is

        a − u h + ⌊(⌊−v l / 2^32⌋ − v h − u l) / 2^32⌋.

    No term leaves the signed integers but the middle sum, and that not if h + l < 2^31. Otherwise
    u' = u − 2^32 takes the place of u, with which no term does; the result is larger by k then.

    Args:
        word: a.
        m: the constant.
        out: memory for the result.
        low: memory for v.
        high: memory for u.
    """
    number = _number()
    lower, half = number(_LOW), number(32)
    torch.bitwise_and(word, lower, out=low)
    torch.bitwise_right_shift(word, half, out=high)
    if m.overflows:
        high.bitwise_or_(number(~_LOW))
    else:
        high.bitwise_and_(lower)
    torch.mul(low, number(-m.low), out=out).bitwise_right_shift_(half)
    out.add_(low, alpha=-m.high).add_(high, alpha=-m.low).bitwise_right_shift_(half)
    out.add_(high, alpha=-m.high)
    if m.overflows:
        out.sub_(number(m.rest))
    return out.add_(word)


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
