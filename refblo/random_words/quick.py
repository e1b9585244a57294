"""Draws on the CPU that nobody counts or traces: the same bits as every draw, in fewer and shorter calls.

Products, sums and changes of sign are rounded alike everywhere; NumPy computes them here, whose calls take a
third of the time of torch's. The last bits of log, √, sin and cos differ between libraries; torch computes
these. What a short draw is computed in is kept, one piece a thread, precision and number of lanes.
"""

import threading
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int32
from torch import Tensor

from refblo.random_words.host import raw_words, unwatched
from refblo.random_words.lanes import HALF_LANE, LANE, WORDS, Working, as_tensors
from refblo.random_words.source import BLOCK, Source, Words

MOST = 64
"""Lanes of a short draw, of all steps together."""

VECTOR = 16
"""Numbers that the processor's vector instructions take at a time, or a multiple: those left over would be
computed by other instructions, to other last bits."""


def draws_quickly(source: Words, like: Tensor) -> bool:
    """Whether a draw is made here: on the CPU, in single or double precision, and nobody watches."""
    return (
        like.is_cpu
        and like.dtype in (torch.float32, torch.float64)
        and isinstance(source, Source)
        and unwatched()
    )


@final
class QuickLanes:
    """Makes so many lanes at a time.

    Args:
        lanes: how many lanes.
        dtype: float32 or float64.
        width: how many of a lane's cosines and sines are needed.
        memory: what to compute in; new memory if None.
    """

    def __init__(
        self,
        lanes: int,
        dtype: torch.dtype,
        width: int = HALF_LANE,
        memory: tuple[Float[Tensor, " numbers"], Int32[Tensor, " halves"] | None] | None = None,
    ) -> None:
        size = lanes * width
        if memory is None:
            double = dtype == torch.float64
            # A tensor that is made in inference mode could not be written to outside it.
            with torch.inference_mode(False):
                memory = (
                    torch.empty(3 * size, dtype=dtype),
                    torch.empty(4 * size, dtype=torch.int32) if double else None,
                )
        self._lanes, self._width, self._dtype, self._memory = lanes, width, dtype, memory
        numbers, halves = memory
        radius, angle, sine = numbers[: 3 * size].view(3, lanes, width).unbind()
        constants = tuple(each.numpy() for each in as_tensors(dtype))
        self._radius, self._cosine, self._sine = radius.numpy(), angle.numpy(), sine.numpy()
        self._working = Working(radius, angle, sine, constants, self._radius, self._cosine)
        self._floats = numbers[: 2 * size].view(2, lanes, width).transpose(0, 1).numpy()
        self._halves = (
            None if halves is None else halves[: 4 * size].view(lanes, 2, width, 2).numpy()
        )

    def fill(
        self, numbers: Float[Tensor, "lanes 2 half"], source: Words, steps: range, first: int
    ) -> None:
        """The numbers of lanes of some steps, as many of each, in place.

        Args:
            numbers: at most so many lanes.
            source: the words, a `Source`.
            steps: consecutive steps.
            first: the first lane's number.
        """
        if numbers.shape[0] != self._lanes:
            part = QuickLanes(numbers.shape[0], self._dtype, self._width, self._memory)
            part.fill(numbers, source, steps, first)
            return
        sine = self._compute(source, steps, first)
        cosines, sines = numbers.unbind(1)
        torch.mul(self._working.angle, self._working.radius, out=cosines)
        torch.mul(sine, self._working.radius, out=sines)

    def add(
        self, part: Float[Tensor, " numbers"], source: Words, steps: range, first: int, scale: float
    ) -> None:
        """Add the numbers of one step's lanes, times a factor, in place, without a copy of them.

        Args:
            part: of at most so many lanes, the last of which may be cut short.
            source: the words, a `Source`.
            steps: one step.
            first: the first lane's number.
            scale: the factor.
        """
        lanes, rest = divmod(part.numel(), LANE)
        if lanes + (rest > 0) != self._lanes:
            fewer = QuickLanes(lanes + (rest > 0), self._dtype, self._width, self._memory)
            fewer.add(part, source, steps, first, scale)
            return
        sine = self._compute(source, steps, first)
        self._cosine *= self._radius
        self._sine *= self._radius
        cosines, sines = part[: lanes * LANE].view(lanes, 2, HALF_LANE).unbind(1)
        cosines.add_(self._working.angle[:lanes], alpha=scale)
        sines.add_(sine[:lanes], alpha=scale)
        if rest:
            last = torch.cat((self._working.angle[lanes], sine[lanes]))
            part[lanes * LANE :].add_(last[:rest], alpha=scale)

    def short(self, source: Words, steps: range, numbers: Float[np.ndarray, "steps count"]) -> None:
        """The first numbers of some consecutive steps, in place."""
        self._compute(source, steps, 0)
        radius, cosine, sine = self._radius, self._cosine, self._sine
        count = numbers.shape[1]
        if count <= HALF_LANE:
            np.multiply(cosine[:, :count], radius[:, :count], out=numbers)
        elif count <= LANE:
            np.multiply(cosine, radius, out=numbers[:, :HALF_LANE])
            rest = count - HALF_LANE
            np.multiply(sine[:, :rest], radius[:, :rest], out=numbers[:, HALF_LANE:])
        else:
            lanes = np.empty((self._lanes, 2, HALF_LANE), radius.dtype)
            np.multiply(cosine, radius, out=lanes[:, 0])
            np.multiply(sine, radius, out=lanes[:, 1])
            numbers[:] = lanes.reshape(len(steps), -1)[:, :count]

    def _compute(self, source: Words, steps: range, first: int) -> Float[Tensor, "lanes width"]:
        """The lanes' radii and cosines, in place; their sines are returned."""
        assert isinstance(source, Source)
        integers = self._integers(source, steps, first)
        if self._halves is not None:
            self._halves[..., 0] = self._integers(source.further(), steps, first)
            self._halves[..., 1] = integers
            integers = self._halves.view(np.int64)[..., 0]
        np.copyto(self._floats, integers, casting="unsafe")
        return self._working.compute()

    def _integers(
        self, source: Source, steps: range, first: int
    ) -> Int32[np.ndarray, "lanes 2 width"]:
        """Of the lanes' integers, the first of each half."""
        block, blocks = first * WORDS // BLOCK, self._lanes // len(steps) * WORDS // BLOCK
        words = raw_words(
            source.seed, source.stream, source.plane, steps.start, len(steps), block, blocks
        )
        halves = words.view(np.int32).reshape(-1, 2, HALF_LANE)
        return halves if self._width == HALF_LANE else halves[..., : self._width]


class _OfThread(threading.local):
    """What one thread keeps."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, torch.dtype, int], QuickLanes] = {}


_LOCAL = _OfThread()


def short(
    source: Words, steps: range, like: Tensor, shape: tuple[int, ...]
) -> Float[Tensor, "..."]:
    """The numbers of some consecutive steps, as `normal` gives them.

    Args:
        source: the words, a `Source`.
        steps: consecutive steps.
        like: shape and dtype of one step's numbers, on the CPU; at least one number.
        shape: of the result.
    """
    count, rows, dtype = like.numel(), len(steps), like.dtype
    width = min(HALF_LANE, -(-count // VECTOR) * VECTOR)
    kept, key = _LOCAL.kept, (rows * -(-count // LANE), dtype, width)
    if key not in kept:
        kept[key] = QuickLanes(*key)
    numbers = np.empty(shape, np.float32 if dtype == torch.float32 else np.float64)
    kept[key].short(source, steps, numbers.reshape(rows, count))
    return torch.from_numpy(numbers)
