"""Short draws on the CPU, whose time is that of calls: the same bits as every draw, in fewer calls.

Everything but the result lives in memory that is kept, one piece a thread, precision and number of lanes.
"""

import threading
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int32
from torch import Tensor

from refblo.random_words.host import dispatched, raw_words
from refblo.random_words.lanes import HALF_LANE, LANE, WORDS, as_tensors, cosine_and_sine
from refblo.random_words.source import BLOCK, Source, Words

MOST = 64
"""Lanes of a short draw, of all steps together."""

VECTOR = 16
"""Numbers that the processor's vector instructions take at a time, or a multiple: those left over would be
computed by other instructions, to other last bits."""


@final
class _Memory:
    """What a short draw computes in.

    Args:
        lanes: how many lanes.
        width: how many of a lane's cosines and sines are needed.
        dtype: float32 or float64.
    """

    def __init__(self, lanes: int, width: int, dtype: torch.dtype) -> None:
        # A tensor that is made in inference mode could not be written to outside it.
        with torch.inference_mode(False):
            working = torch.empty((2, lanes, width), dtype=dtype)
            self.radius, self.angle = working.unbind()
            self.sine = torch.empty_like(self.angle)
            self.numbers = torch.empty((lanes, 2, width), dtype=dtype)
            self.cosines, self.sines = self.numbers.unbind(1)
        self.integers = working.numpy()
        self.constants = as_tensors(dtype)


class _OfThread(threading.local):
    """What one thread keeps."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, int, torch.dtype], _Memory] = {}


_LOCAL = _OfThread()


def draws_short(source: Words, like: Tensor, lanes: int) -> bool:
    """Whether a draw of so many lanes is made here: short, on the CPU, and nobody counts or traces it."""
    return (
        lanes <= MOST
        and like.device.type == "cpu"
        and like.dtype in (torch.float32, torch.float64)
        and isinstance(source, Source)
        and not dispatched()
        and not torch._C._len_torch_function_stack()
        # A transform of torch.func lets nobody write to memory that was there before.
        and torch._C._functorch.peek_interpreter_stack() is None
    )


def short(source: Words, steps: range, like: Tensor) -> Float[Tensor, "steps ..."]:
    """The numbers of some consecutive steps, as `normal` gives them.

    Args:
        source: the words, a `Source`.
        steps: consecutive steps.
        like: shape and dtype of one step's numbers, on the CPU; at least one number.
    """
    assert isinstance(source, Source)
    count, rows = like.numel(), len(steps)
    lanes = -(-count // LANE)
    width = min(HALF_LANE, -(-count // VECTOR) * VECTOR)
    memory = _memory(rows * lanes, width, like.dtype)
    integers = _integers(source, steps, lanes)[..., :width]
    if like.dtype == torch.float64:
        lower = _integers(source.further(), steps, lanes)[..., :width].view(np.uint32)
        integers = (integers.astype(np.int64) << 32) | lower
    np.copyto(memory.integers, integers, casting="unsafe")
    cosine_and_sine(memory.radius, memory.angle, memory.constants, memory.sine)
    torch.mul(memory.angle, memory.radius, out=memory.cosines)
    if count > HALF_LANE:
        torch.mul(memory.sine, memory.radius, out=memory.sines)
    drawn = memory.numbers.as_strided((rows, count), (lanes * 2 * width, 1))
    return drawn.clone().view(rows, *like.shape)


def _memory(lanes: int, width: int, dtype: torch.dtype) -> _Memory:
    kept, key = _LOCAL.kept, (lanes, width, dtype)
    if key not in kept:
        kept[key] = _Memory(*key)
    return kept[key]


def _integers(source: Source, steps: range, lanes: int) -> Int32[np.ndarray, "2 lanes half"]:
    """Of the lanes' integers, the first 64 of each, then the others."""
    blocks = lanes * WORDS // BLOCK
    words = raw_words(source.seed, source.stream, source.plane, steps.start, len(steps), 0, blocks)
    return words.view(np.int32).reshape(-1, 2, HALF_LANE).swapaxes(0, 1)
