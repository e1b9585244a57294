"""Memory for what is drawn.

Most of what writing to a long new vector costs is that the system gives its memory page by page at the first
writes. NumPy asks it for large pages where it has them, from 4 MiB on, which torch does not.
"""

import math

import numpy as np
import torch
from torch import Tensor

from refblo.random_words.host import unwatched

_LARGE = 2**22
"""Bytes from which NumPy asks for large pages."""

_ALIGNMENT = 64
"""Bytes that an address in torch's own memory is a multiple of."""


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A contiguous tensor, with the dtype and the device of `like`, whose numbers are arbitrary."""
    size = math.prod(shape) * like.dtype.itemsize
    if size < _LARGE or like.device.type != "cpu" or not unwatched():
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return torch.from_numpy(memory[start : start + size]).view(like.dtype).view(shape)
