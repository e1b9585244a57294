"""Calling a caller's function so that what torch computes can be differentiated twice.

torch chooses fused kernels for attention and recurrent networks that have one derivative only. The choice is
a setting of the process, made here around each call, so that nobody has to make it in the losses.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from threading import local
from typing import Any, final

import torch

from refblo.conformance.truth.promotion import Arithmetic
from refblo.derivatives import PROCESS_LOCK


class _Thread(local):
    """What the calls of this thread are inside of."""

    guarded: bool = False
    arithmetic: Arithmetic | None = None
    afterwards: Callable[[], None] | None = None


_THREAD = _Thread()


_ATTENTION = {
    "flash": False,
    "mem_efficient": False,
    "cudnn": False,
    "overrideable": False,
    "math": True,
}
"""Which kernels of attention are used: what `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)` sets."""


@cache
def _settings() -> tuple[tuple[Callable[[], bool], Callable[[bool], None], bool], ...]:
    """How each setting is read and made, and its value around a caller's function."""
    attention = [
        (
            getattr(torch._C, f"_get_{name}_sdp_enabled"),
            getattr(torch._C, f"_set_sdp_use_{name}"),
            value,
        )
        for name, value in _ATTENTION.items()
    ]
    fast = (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, False)
    # Not by `torch.backends.mkldnn.flags`, which warns where there is no Intel GPU.
    return (*attention, fast, (torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled, False))


@contextmanager
def differentiable_kernels() -> Iterator[None]:
    """Kernels with second derivatives, for attention and for recurrent networks; nothing is compiled.

    The process's settings are put back afterwards; other threads wait.
    """
    if _THREAD.guarded:
        yield
        return
    with PROCESS_LOCK:
        # One by one, and not by torch's own context managers: a small loss takes less time than those.
        before = [(put, read()) for read, put, _ in _settings()]
        cudnn = nullcontext() if not torch.cuda.is_available() else _without_cudnn()
        try:
            for _, put, value in _settings():
                put(value)
            with cudnn, _uncompiled():
                _THREAD.guarded = True
                yield
        finally:
            _THREAD.guarded = False
            for put, value in before:
                put(value)


def _uncompiled() -> AbstractContextManager[None]:
    """Losses inside torch.compile run as they are written: dynamo would compile the modes around them.

    Nothing is imported for it: a caller who has compiled anything has imported torch._dynamo.
    """
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    eager: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return eager


def _without_cudnn() -> AbstractContextManager[None]:
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(enabled=False)
    return flags


@contextmanager
def arithmetic(mode: Arithmetic | None) -> Iterator[None]:
    """Another arithmetic for the guarded functions that this thread calls inside; None for torch's own."""
    before = _THREAD.arithmetic
    _THREAD.arithmetic = mode
    try:
        yield
    finally:
        _THREAD.arithmetic = before


@contextmanager
def after_each_call(afterwards: Callable[[], None]) -> Iterator[None]:
    """Something to do after each guarded call that this thread makes inside."""
    before = _THREAD.afterwards
    _THREAD.afterwards = afterwards
    try:
        yield
    finally:
        _THREAD.afterwards = before


@final
@dataclass(frozen=True, eq=False)
class Guarded:
    """A caller's function with the settings of this module around each call.

    Attributes:
        function: the caller's.
        promoted: the dtype whose tensors it computes with in float64, or None.
    """

    function: Callable[..., Any]
    promoted: torch.dtype | None = None

    def __call__(self, *arguments: Any) -> Any:
        """The function's value."""
        mode = _THREAD.arithmetic
        if mode is None and self.promoted is not None:
            mode = Arithmetic(self.promoted)
        afterwards = None if _THREAD.guarded else _THREAD.afterwards
        with differentiable_kernels():
            try:
                if mode is None or mode.active:
                    return self.function(*arguments)
                with mode:
                    return self.function(*arguments)
            finally:
                if afterwards is not None:
                    afterwards()


def guarded(function: Callable[..., Any], promoted: torch.dtype | None = None) -> Guarded:
    """The function with the settings around it, once."""
    inner = function.function if isinstance(function, Guarded) else function
    return Guarded(inner, promoted)
