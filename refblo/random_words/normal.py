"""Standard normal numbers out of words: Box and Muller, two numbers from two integers.

The formula is in `lanes`. The numbers of a draw come in lanes of 128: a lane takes 128 integers in the words'
order (a word is two, the lower half first), the first 64 for u, the others for φ, and gives 64 cosines, then
64 sines. A lane depends on its own words alone, so a draw of m numbers is the beginning of a longer one.
G. E. P. Box, M. E. Muller, A note on the generation of random normal deviates, Ann. Math. Stat. 29 (1958).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from refblo.cost import repeated
from refblo.errors import ArgumentTypeError
from refblo.random_words.fill import LanesByOperations
from refblo.random_words.lanes import HALF_LANE, LANE
from refblo.random_words.memory import empty
from refblo.random_words.quick import MOST, QuickLanes, draws_quickly, short
from refblo.random_words.source import Words

CHUNK = {torch.float32: 2048, torch.float64: 512}
"""Lanes that the CPU makes at a time, by the dtype that is computed in: 2.5 and 1.75 MiB with their words.

With fewer, calls take as long as passes over the numbers. A longer piece of double precision would be memory
that the system gives anew for each draw.
"""
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
    _computed_in(like)
    count = like.numel()
    lanes, rows = -(-count // LANE), len(steps)
    if count == 0 or rows == 0:
        return like.new_empty((rows, *like.shape))
    if rows * lanes <= MOST and draws_quickly(source, like):
        return short(source, steps, like, (rows, *like.shape))
    chunk = chunk or _chunk(like)
    numbers = empty((rows * lanes, 2, HALF_LANE), like)
    made = _lanes(source, like, min(chunk, rows * lanes))
    if rows * lanes <= chunk:
        made.fill(numbers, source, steps, 0)
    else:
        for row, step in enumerate(steps):
            part = numbers[row * lanes : (row + 1) * lanes]
            at = range(step, step + 1)

            def fill(first: int, part: Tensor = part, at: range = at) -> None:
                made.fill(part[first : first + chunk], source, at, first)

            _in_chunks(lanes, chunk, fill, isinstance(like, FakeTensor))
    shape = like.shape
    drawn = numbers.as_strided((rows, *shape), (lanes * LANE, *_strides(shape)))
    # A small result must not hold the rest of its last lane: what is made like it would be as large.
    return drawn.clone() if lanes * LANE != count and rows * count <= _COPIED else drawn


def normal_once(source: Words, step: int, like: Tensor) -> Float[Tensor, "..."]:
    """The numbers of one step, as `normal` gives them."""
    steps = range(step, step + 1)
    if 0 < like.numel() <= MOST * LANE and draws_quickly(source, like):
        return short(source, steps, like, like.shape)
    return normal(source, steps, like)[0]


def add_normal(source: Words, step: int, to: Float[Tensor, "..."], scale: float) -> None:
    """Add one step's numbers, times a factor, to a contiguous tensor in place; no vector of them is held.

    The result is that of `to.add_(normal(...)[0], alpha=scale)`, to the last bit.

    Raises:
        ArgumentTypeError: if the dtype of `to` is none of float16, bfloat16, float32 and float64.
    """
    steps, flat, chunk = range(step, step + 1), to.view(-1), _chunk(to)
    size, lanes = chunk * LANE, -(-flat.numel() // LANE)
    made = _lanes(source, to, min(chunk, lanes))

    def add(first: int) -> None:
        made.add(flat[first * LANE : first * LANE + size], source, steps, first, scale)

    _in_chunks(lanes, chunk, add, isinstance(to, FakeTensor))


def _lanes(source: Words, like: Tensor, lanes: int) -> QuickLanes | LanesByOperations:
    """What makes so many lanes at a time, in the precision that suits the dtype of `like`."""
    if draws_quickly(source, like):
        return QuickLanes(lanes, like.dtype)
    return LanesByOperations(lanes, _computed_in(like), like.device)


def _computed_in(like: Tensor) -> torch.dtype:
    dtype = _COMPUTED_IN.get(like.dtype)
    if dtype is None:
        raise ArgumentTypeError(
            f"like must have a dtype of float16, bfloat16, float32 or float64, got {like.dtype}; "
            "draw in one of these and convert the numbers"
        )
    return dtype


def _chunk(like: Tensor) -> int:
    return CHUNK[_computed_in(like)] if like.device.type == "cpu" else DEVICE_CHUNK


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


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a contiguous tensor."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))
