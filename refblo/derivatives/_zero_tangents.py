"""Forward mode without the detour that torch takes for the tangent of a constant, which is zero.

The derivative of x·w along x, w a constant, is ẋ·w + x·0. torch skips the product with zero, but asks for
its shape: of Python code that takes 0.1 ms an operation, and that imports `torch._dynamo` when it is first
asked, which takes a second. With these shapes told at once, a small problem is differentiated two to three
times as fast. No number depends on it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from refblo.derivatives._first_use import import_what_is_late
from refblo.derivatives._lock import PROCESS_LOCK

_NAMES = ("mul.Tensor", "add.Tensor", "div.Tensor")
"""The operations of which torch asks for the shape of a result with a zero in it."""


class _Depth:
    """How many calls are inside `told_shapes`; all of them hold the lock."""

    now = 0


@contextmanager
def told_shapes() -> Iterator[None]:
    """Tell torch the shapes of products, sums and quotients with a zero tangent.

    The shapes are a setting of the process: it is put back afterwards, and other threads wait. Whatever is
    not of the plain kind is handed to torch's own code, so that nobody else's results change either.
    """
    with PROCESS_LOCK:
        if _Depth.now or not _kernels():
            yield
            return
        with torch.library._scoped_library("aten", "IMPL") as library:
            for name, kernel in _kernels().items():
                # Some versions of torch refuse to replace a kernel of their own unless they are told to.
                library.impl(name, kernel, "Meta", allow_override=True)
            _Depth.now += 1
            try:
                yield
            finally:
                _Depth.now -= 1


@cache
def _kernels() -> dict[str, Callable[..., Tensor]]:
    """What tells the shape, by the name of the operation; empty for a torch that has no code of its own."""
    kernels = {}
    for name in _NAMES:
        operation, overload = name.split(".")
        known = getattr(getattr(torch.ops.aten, operation), overload).py_kernels
        own = known.get(torch._C.DispatchKey.Meta)
        if own is None:
            return {}
        kernels[name] = _kernel(own)
    return kernels


def _kernel(own: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The shape and the dtype of an operation on two tensors; by `own` where they take thought."""

    def shape(one: Any, other: Any, *rest: Any, **named: Any) -> Tensor:
        if type(one) is Tensor and type(other) is Tensor:
            large, small = (one, other) if one.ndim >= other.ndim else (other, one)
            if _plain(large, small) and _spreads(small.shape, large.shape):
                return torch.empty(large.shape, dtype=large.dtype, device=large.device)
        import_what_is_late()
        return own(one, other, *rest, **named)

    return shape


def _plain(large: Tensor, small: Tensor) -> bool:
    """Whether two tensors are contiguous, and the result has the dtype of the larger one."""
    number = small.ndim == 0 < large.ndim and not small.is_complex()
    return (
        large.is_floating_point()
        and (number or small.dtype is large.dtype)
        and large.is_contiguous()
        and small.is_contiguous()
        and small.device == large.device
    )


def _spreads(small: torch.Size, large: torch.Size) -> bool:
    """Whether the small shape is broadcast to the large one; the result is contiguous then."""
    if small == large:
        return True
    inner = large[len(large) - len(small) :]
    return all(a in (1, b) for a, b in zip(small, inner, strict=True))
