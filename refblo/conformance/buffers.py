"""The buffers of a caller's modules, such as running statistics, are after a check what they were before.

A check calls the caller's functions many times, and layers that are training write to their buffers at each
call. Of checks that run at the same time, the first keeps what was there and the last puts it back.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import final

import torch
from torch import Tensor, nn

from refblo.conformance.truth.guard import after_each_call
from refblo.conformance.truth.referred import held


@final
@dataclass(eq=False)
class _Kept:
    """A buffer of a module.

    Attributes:
        module: whose.
        name: in the module.
        buffer: the tensor itself.
        value: what it was.
        checks: how many checks are under way.
    """

    module: nn.Module
    name: str
    buffer: Tensor
    value: Tensor
    checks: int = 0

    def put_back(self) -> None:
        """The tensor itself, where another has taken its place."""
        if self.module._buffers.get(self.name) is not self.buffer:
            self.module._buffers[self.name] = self.buffer

    def restore(self) -> None:
        """The tensor and its numbers."""
        # Not by its version, which batch normalisation does not count.
        if not torch.equal(self.buffer, self.value):
            with torch.no_grad():
                self.buffer.copy_(self.value)
        self.put_back()


_KEPT: dict[tuple[int, str], _Kept] = {}
_LOCK = RLock()


@contextmanager
def unchanged_buffers(*functions: object) -> Iterator[None]:
    """Put back what is written to the buffers of the modules that the functions refer to.

    A buffer that is replaced by another tensor is put back after each call of a guarded function: a tensor of
    a transform of torch.func must not be left for the next call.
    """
    with ExitStack() as stack:
        kept = [
            stack.enter_context(_unchanged(module, name, buffer))
            for module in _modules(functions)
            for name, buffer in list(module._buffers.items())
            if buffer is not None and not buffer.is_meta
        ]

        def put_back() -> None:
            for one in kept:
                one.put_back()

        if kept:
            stack.enter_context(after_each_call(put_back))
        yield


@contextmanager
def _unchanged(module: nn.Module, name: str, buffer: Tensor) -> Iterator[_Kept]:
    key = (id(module), name)
    with _LOCK:
        if key not in _KEPT:
            _KEPT[key] = _Kept(module, name, buffer, buffer.detach().clone())
        kept = _KEPT[key]
        kept.checks += 1
    try:
        yield kept
    finally:
        with _LOCK:
            kept.checks -= 1
            if kept.checks == 0:
                del _KEPT[key]
                kept.restore()


def _modules(functions: tuple[object, ...]) -> list[nn.Module]:
    """All modules with buffers, those inside others included, each once."""
    found: dict[int, nn.Module] = {}
    for _, thing in held(*functions):
        if isinstance(thing, nn.Module):
            for module in thing.modules():
                if module._buffers:
                    found[id(module)] = module
    return list(found.values())
