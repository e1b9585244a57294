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
        path: name of the buffer in the outermost module that the functions refer to.
        buffer: the tensor itself.
        value: what it was.
        checks: how many checks are under way.
    """

    module: nn.Module
    name: str
    path: str
    buffer: Tensor
    value: Tensor
    checks: int = 0

    def put_back(self) -> None:
        """The tensor itself, where another has taken its place."""
        if self.module._buffers.get(self.name) is not self.buffer:
            self.module._buffers[self.name] = self.buffer

    @property
    def written(self) -> bool:
        """Whether it is, or holds, something else now."""
        now = self.module._buffers.get(self.name)
        return now is not self.buffer or not torch.equal(self.buffer, self.value)

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
            stack.enter_context(_unchanged(module, name, f"{prefix}{name}", buffer))
            for prefix, module in _modules(functions)
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
def _unchanged(module: nn.Module, name: str, path: str, buffer: Tensor) -> Iterator[_Kept]:
    key = (id(module), name)
    with _LOCK:
        if key not in _KEPT:
            _KEPT[key] = _Kept(module, name, path, buffer, buffer.detach().clone())
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


def restore_written() -> list[str]:
    """Put back what the check under way has written to buffers so far; the names of these."""
    with _LOCK:
        written = [kept for kept in _KEPT.values() if kept.written]
        for kept in written:
            kept.restore()
        return [kept.path for kept in written]


def _modules(functions: tuple[object, ...]) -> list[tuple[str, nn.Module]]:
    """All modules with buffers, those inside others included, each once, with what precedes their names."""
    found: dict[int, tuple[str, nn.Module]] = {}
    for _, thing in held(*functions):
        if isinstance(thing, nn.Module):
            for path, module in thing.named_modules():
                if module._buffers:
                    found.setdefault(id(module), (f"{path}." if path else "", module))
    return list(found.values())
