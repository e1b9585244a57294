"""How many bytes of tensor storage a computation holds at once.

Counted at every operation, so the figure is a property of the program: the same on a busy machine, on
every device and at every run. It does not see what a kernel allocates and frees inside itself, nor
memory that never becomes a tensor.
"""

import weakref
from collections.abc import Callable, Iterator
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from refblo.cost.pause import paused


@final
class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves the base class's hook unannotated
    """Count the bytes of the storages that are made inside the block and still alive.

    Storages that existed before are not counted, views of a storage are counted once.

    Attributes:
        live: bytes alive now.
        peak: the most that were alive at once.

    Example:
        >>> import torch
        >>> with LiveBytes() as memory:
        ...     x = torch.zeros(100, dtype=torch.float64)
        ...     y = x + 1
        ...     x = y[:50]
        >>> memory.live, memory.peak
        (800, 1600)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.live = 0
        self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,  # torch's signature
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        """Run one operation, and count the storages that it makes."""
        kwargs = kwargs or {}
        for tensor in tensors_in((args, kwargs)):
            # One that is met first as an argument was made outside.
            self._meet(tensor.untyped_storage(), 0)
        result = func(*args, **kwargs)
        for tensor in tensors_in(result):
            storage = tensor.untyped_storage()
            self._meet(storage, 0 if paused() else storage.nbytes())
        return result

    def _meet(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata  # the storage's address; two wrappers of one have the same
        if key in self._known:
            return

        def freed(_: "weakref.ref[torch.UntypedStorage]") -> None:
            self._known.pop(key, None)
            self.live -= size

        self._known[key] = weakref.ref(storage, freed)
        self.live += size
        self.peak = max(self.peak, self.live)


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
