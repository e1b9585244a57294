"""Memory for what is drawn.

Most of what writing to a long new vector costs is that the system gives its memory page by page at the first
writes. NumPy asks it for large pages where it has them, from 4 MiB on, which torch does not. The host of a
virtual machine may take back the large pages that are free, and give them again more slowly than small ones:
of hundreds of MiB that is most, and a large page then takes longer than the small ones in its place.
"""

import math

import numpy as np
import torch
from torch import Tensor

from refblo.random_words.host import unwatched

_LEAST, _MOST = 2**22, 2**26
"""Bytes of a result on large pages: NumPy asks for them from 4 MiB on."""

_ALIGNMENT = 64
"""Bytes that an address in torch's own memory is a multiple of."""


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A contiguous tensor, with the dtype and the device of `like`, whose numbers are arbitrary."""
    size = math.prod(shape) * like.dtype.itemsize
    if not (_LEAST <= size <= _MOST and like.is_cpu and unwatched()):
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return torch.from_numpy(memory[start : start + size]).view(like.dtype).view(shape)
