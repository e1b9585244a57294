"""Exact operation and byte counts of refblo's estimators.

Nothing is timed. Operations are counted at the level of the tensor library's kernels (one for each
element of what is computed), bytes by the lifetimes of the storages.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_FREE = (
    "view", "reshape", "expand", "t", "transpose", "permute", "squeeze", "unsqueeze", "detach",
    "alias", "select", "slice", "as_strided", "empty", "new_empty", "clone", "copy_", "_to_copy",
    "zeros", "zeros_like", "ones", "ones_like", "new_zeros", "full", "full_like", "eye",
    "lift_fresh", "_local_scalar_dense", "scalar_tensor", "unbind", "split", "_unsafe_view",
    "new_empty_strided", "empty_like", "fill_", "zero_", "constant_pad_nd", "is_same_size",
    "isfinite", "all",
)  # fmt: skip
"""Kernels that move or set numbers, or only look at them, but do not compute with them."""


@final
@dataclass
class Counts:
    """What a run took.

    Attributes:
        operations: elements computed.
        peak: the largest number of bytes alive at one time, of those allocated in the run.
        live: the bytes alive now.
    """

    operations: int = 0
    peak: int = 0
    live: int = 0


def _elements(value: object) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel()
    if isinstance(value, (list, tuple)):
        return sum(_elements(item) for item in value)
    return 0


@final
class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # the library's is untyped
    """Counts every kernel call made inside the block."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.counts = Counts()
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one kernel and count it."""
        found = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in _FREE:
            self.counts.operations += max(_elements(found), *map(_elements, args), 0)
        self._track(found)
        return found

    def _track(self, value: object) -> None:
        if isinstance(value, (list, tuple)):
            for item in value:
                self._track(item)
        if not isinstance(value, torch.Tensor):
            return
        storage = value.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.counts.live += size
        self.counts.peak = max(self.counts.peak, self.counts.live)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.counts.live -= size


def counted(run: Callable[[], object]) -> Counts:
    """Run something and count it.

    Args:
        run: what to run.

    Returns:
        Its counts.
    """
    mode = Counting()
    with mode:
        run()
    return mode.counts


def degree(values: Sequence[int]) -> int:
    """The degree of the polynomial that equally spaced integer values lie on.

    Args:
        values: at least three more than the degree looked for, so that a zero row means something.

    Returns:
        The smallest d whose (d + 1)-th differences all vanish; -1 if none do (or all values are 0).
    """
    row = list(values)
    for d in range(-1, len(values) - 2):
        if all(v == 0 for v in row):
            return d
        row = [b - a for a, b in pairwise(row)]
    return -1
