"""Standard normal numbers out of words: Box and Muller, two numbers from two integers.

The formula is in `lanes`. The numbers of a draw come in lanes of 128: a lane takes 128 integers in the words'
order (a word is two, the lower half first), the first 64 for u, the others for φ, and gives 64 cosines, then
64 sines. A lane depends on its own words alone, so a draw of m numbers is the beginning of a longer one.
G. E. P. Box, M. E. Muller, A note on the generation of random normal deviates, Ann. Math. Stat. 29 (1958).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int32
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from refblo.cost import repeated
from refblo.errors import ArgumentTypeError
from refblo.random_words.lanes import (
    HALF_LANE,
    LANE,
    WORDS,
    Constants,
    as_numbers,
    as_tensors,
    cosine_and_sine,
)
from refblo.random_words.short import draws_short, short
from refblo.random_words.source import Words

CHUNK = 512
"""Lanes that the CPU makes at a time: what they need, 0.8 MiB, stays in its cache."""
DEVICE_CHUNK = 8192
"""Lanes that another device makes at a time, where a call costs more than a pass over memory."""

_COPIED = 2**15
"""Up to how many numbers are copied out of lanes that are not full."""

_COMPUTED_IN = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
}
"""dtype that is asked for → dtype that is computed in, and rounded from."""


def normal(
    source: Words, steps: range, like: Tensor, chunk: int | None = None
) -> Float[Tensor, "steps ..."]:
    """The numbers of some consecutive steps, each with the shape, dtype and device of `like`.

    Args:
        source: the words.
        steps: consecutive steps.
        like: shape, dtype and device of one step's numbers.
        chunk: lanes to make at a time; what suits the device if not given.

    Raises:
        ArgumentTypeError: if the dtype of `like` is none of float16, bfloat16, float32 and float64.
    """
    dtype, count, device = _computed_in(like), like.numel(), like.device
    lanes, rows = -(-count // LANE), len(steps)
    if count == 0 or rows == 0:
        return like.new_empty((rows, *like.shape))
    if draws_short(source, like, rows * lanes):
        return short(source, steps, like)
    chunk = chunk or _chunk(device)
    numbers = torch.empty((rows * lanes, 2, HALF_LANE), dtype=like.dtype, device=device)
    if rows * lanes <= chunk:
        _fill(numbers, source, steps, 0, dtype)
    else:
        for row, step in enumerate(steps):
            part = numbers[row * lanes : (row + 1) * lanes]
            at = range(step, step + 1)

            def fill(first: int, part: Tensor = part, at: range = at) -> None:
                _fill(part[first : first + chunk], source, at, first, dtype)

            _in_chunks(lanes, chunk, fill, isinstance(like, FakeTensor))
    shape = like.shape
    drawn = numbers.as_strided((rows, *shape), (lanes * LANE, *_strides(shape)))
    # A small result must not hold the rest of its last lane: what is made like it would be as large.
    return drawn.clone() if lanes * LANE != count and rows * count <= _COPIED else drawn


def add_normal(source: Words, step: int, to: Float[Tensor, "..."], scale: float) -> None:
    """Add one step's numbers, times a factor, to a contiguous tensor in place; no vector of them is held.

    The result is that of `to.add_(normal(...)[0], alpha=scale)`, to the last bit.

    Raises:
        ArgumentTypeError: if the dtype of `to` is none of float16, bfloat16, float32 and float64.
    """
    dtype, steps, flat = _computed_in(to), range(step, step + 1), to.view(-1)
    chunk = _chunk(to.device)
    size = chunk * LANE
    numbers = to.new_empty((min(chunk, -(-flat.numel() // LANE)), 2, HALF_LANE))

    def add(first: int) -> None:
        part = flat[first * LANE : first * LANE + size]
        drawn = numbers[: -(-part.numel() // LANE)]
        _fill(drawn, source, steps, first, dtype)
        part.add_(drawn.view(-1)[: part.numel()], alpha=scale)

    _in_chunks(-(-flat.numel() // LANE), chunk, add, isinstance(to, FakeTensor))


def _computed_in(like: Tensor) -> torch.dtype:
    dtype = _COMPUTED_IN.get(like.dtype)
    if dtype is None:
        raise ArgumentTypeError(
            f"like must have a dtype of float16, bfloat16, float32 or float64, got {like.dtype}; "
            "draw in one of these and convert the numbers"
        )
    return dtype


def _chunk(device: torch.device) -> int:
    return CHUNK if device.type == "cpu" else DEVICE_CHUNK


def _in_chunks(lanes: int, chunk: int, make: Callable[[int], None], fake: bool) -> None:
    """Call a function with the first lane of each chunk; without numbers, once for all whole chunks."""
    whole = lanes // chunk
    if whole and fake:
        with repeated(whole):
            make(0)
    else:
        for index in range(whole):
            make(index * chunk)
    if whole * chunk < lanes:
        make(whole * chunk)


def _fill(
    numbers: Float[Tensor, "lanes 2 half"],
    source: Words,
    steps: range,
    first: int,
    dtype: torch.dtype,
) -> None:
    """The numbers of lanes of some steps, as many of each, in place; `first` is the first lane's number."""
    shape = (2, numbers.shape[0], HALF_LANE)
    # Magnitudes of all lanes, then angles: what is computed on lies in one piece.
    working = torch.empty(shape, dtype=dtype, device=numbers.device)
    integers = _integers(source, steps, first, numbers)
    if dtype == torch.float64:
        lower = torch.empty_like(working, dtype=torch.int64)
        lower.copy_(_integers(source.further(), steps, first, numbers)).bitwise_and_(2**32 - 1)
        upper = torch.empty_like(lower).copy_(integers)
        integers = upper.bitwise_left_shift_(32).bitwise_or_(lower)
    working.copy_(integers)
    radius, angle = working.unbind()
    sine = cosine_and_sine(radius, angle, _constants(dtype, numbers))
    if numbers.dtype == dtype:
        cosines, sines = numbers.unbind(1)
        torch.mul(angle, radius, out=cosines)
        torch.mul(sine, radius, out=sines)
    else:
        numbers.copy_(torch.stack((angle.mul_(radius), sine.mul_(radius)), 1))


def _integers(
    source: Words, steps: range, first: int, numbers: Float[Tensor, "lanes 2 half"]
) -> Int32[Tensor, "2 lanes half"]:
    """Of the lanes' integers, the first 64 of each, then the others."""
    lanes = numbers.shape[0]
    count = lanes // len(steps) * WORDS
    words = source.words(steps, first * WORDS, count, numbers)
    return words.view(torch.int32).as_strided((2, lanes, HALF_LANE), (HALF_LANE, LANE, 1))


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a contiguous tensor."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _constants(dtype: torch.dtype, numbers: Tensor) -> Constants:
    """The constants as suit the device of `numbers`."""
    if numbers.device.type != "cpu":
        return as_numbers(dtype)
    if isinstance(numbers, FakeTensor):
        unit, half, turn = map(numbers.fake_mode.from_tensor, as_tensors(dtype))
        return unit, half, turn
    return as_tensors(dtype)
