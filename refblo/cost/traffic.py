"""Counts the host synchronisations of a computation, and its transfers between devices.

A *host synchronisation* is a read of a tensor's numbers by Python (`.item()`, `bool`, an index by a mask): on
a GPU the host waits there until every kernel before it has run. A *transfer* is a kernel that moves a tensor
from one device to another. Both are counted from the kernels that are called, not from time, so the figures
are a property of the program. Reads are counted on the CPU as well; transfers need a second device, and
`refblo.cost.pretend_device` is one for machines without a GPU.

Nothing is counted inside `refblo.cost.uncounted()` (work that is done once for a problem). Where tensors have
no numbers, no kernel shows a read: `refblo.cost.decide` and its like report it through `synchronised`.

The lists of names below are torch's kernels and methods. Extend them where a new version of torch reads or
moves numbers in another kernel; tests/cost/ compares the counts with programs whose counts are known.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from pathlib import PurePath
from types import TracebackType
from typing import Any, final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from refblo.cost.live_bytes import tensors_in
from refblo.cost.pause import paused

_READING_TAGS = frozenset({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape})
"""Torch's marks of kernels that read numbers to know their result or the shape of their result."""

_UNTAGGED_READS = frozenset({"_linalg_check_errors"})
"""Kernels that read numbers although torch does not mark them."""

_INDEXING = frozenset({"index", "index_put", "index_put_", "_unsafe_index"})
"""Kernels that read numbers if an index is a mask."""

COPY_KERNELS = frozenset({"copy_", "_to_copy", "copy"})
"""Kernels whose purpose is another device or dtype; they move even a CPU tensor without dimensions."""

LIFT_KERNELS = frozenset({"lift_fresh", "lift", "lift_fresh_copy"})
"""Kernels by which `torch.tensor` returns a tensor that it made of Python numbers, on the CPU."""

READING_METHODS = frozenset({Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__repr__})
"""Methods that read a tensor's numbers without calling a kernel."""

OUTSIDE = ("torch", "jaxtyping", "beartype")
"""Packages that are skipped by `place`: it reports the line that called them."""


@final
class HostTraffic(AbstractContextManager["HostTraffic"]):
    """Count the host synchronisations and the transfers inside the block.

    Attributes:
        synchronisations: reads of a tensor's numbers by the host.
        transfers: kernels that take a tensor from one device to another.
        places: "file:line in function: kernel" of each read and transfer, without repetitions, in order.

    Example:
        >>> import torch
        >>> with HostTraffic() as traffic:
        ...     x = torch.ones(3).sum()
        ...     y = 2 * x if x > 0 else x
        >>> traffic.synchronisations, traffic.transfers
        (1, 0)
    """

    def __init__(self) -> None:
        self.synchronisations = 0
        self.transfers = 0
        self.places: list[str] = []
        self._entered = ExitStack()

    def __enter__(self) -> "HostTraffic":
        token = _active.set(self)
        self._entered.callback(_active.reset, token)
        for mode in (_Kernels(self), _Methods(self)):
            self._entered.enter_context(mode)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._entered.close()

    def synchronised(self, what: str) -> None:
        """Add one host synchronisation."""
        if not paused():
            self.synchronisations += 1
            self._at(what)

    def transferred(self, what: str) -> None:
        """Add one transfer."""
        if not paused():
            self.transfers += 1
            self._at(what)

    def _at(self, what: str) -> None:
        where = f"{place()}: {what}"
        if where not in self.places:
            self.places.append(where)


_active: ContextVar[HostTraffic | None] = ContextVar("refblo_host_traffic", default=None)

PRETEND = "pretend"
"""The device type of `refblo.cost.pretend_device`."""

pretending: ContextVar[bool] = ContextVar("refblo_pretending", default=False)
"""Whether the code runs on the pretend device."""


def synchronised(what: str) -> None:
    """Add a host synchronisation to the active counter, if there is one."""
    active = _active.get()
    if active is not None:
        active.synchronised(what)


def kind_of(tensor: Tensor) -> str:
    """The type of a tensor's device.

    On the pretend device a tensor with numbers stands for one on that device (`pretend_device(adopt=True)`).
    """
    adopted = pretending.get() and not isinstance(tensor, FakeTensor)
    return PRETEND if adopted else tensor.device.type


def read_by(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether a kernel makes the host read a tensor's numbers."""
    given, name = list(tensors_in(args)), func.overloadpacket.__name__
    if pretending.get() and all(kind_of(tensor) == "cpu" for tensor in given):
        return False  # The host reads its own memory.
    if name in _INDEXING:
        # The shape of the result is the number of true entries, which the kernel has to count.
        masks = (torch.bool, torch.uint8)
        return any(index.dtype in masks for index in tensors_in(args[1]))
    return name in _UNTAGGED_READS or not _READING_TAGS.isdisjoint(func.tags)


def kinds_of(func: Any, arguments: object, result: object) -> set[str]:
    """The types of the devices that a kernel moves numbers between; fewer than two if it moves none.

    A CPU tensor without dimensions does not count: a kernel on a device takes it by value, as a number. Nor
    does the meta device, to which only shapes go.
    """
    name = func.overloadpacket.__name__
    if name in LIFT_KERNELS:
        return set()
    given, made = list(tensors_in(arguments)), list(tensors_in(result))
    kinds = {kind_of(tensor) for tensor in made}
    everywhere = kinds | {kind_of(tensor) for tensor in given}
    for tensor in given:
        by_value = tensor.ndim == 0 and kind_of(tensor) == "cpu" and len(everywhere) > 1
        if name in COPY_KERNELS or not by_value or not made:
            kinds.add(kind_of(tensor))
    return kinds - {"meta"}


def place() -> str:
    """The innermost line being run outside `OUTSIDE` and refblo.cost, as "file:line in function"."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        path = PurePath(frame.f_code.co_filename)
        package = _package(path)
        made_by_a_checker = path.name.startswith("<@beartype")
        if not (package in OUTSIDE or made_by_a_checker or path.parts[-3:-1] == ("refblo", "cost")):
            break
        frame = frame.f_back
    path = PurePath(frame.f_code.co_filename)
    return f"{_short(path)}:{frame.f_lineno} in {frame.f_code.co_name}"


def _package(path: PurePath) -> str:
    parts = path.parts
    if parts and parts[0].startswith("<@beartype"):
        return "beartype"  # the name that it gives to the code it makes around a function
    where = [k for k, part in enumerate(parts) if part in {"site-packages", "dist-packages"}]
    return parts[where[-1] + 1] if where and where[-1] + 1 < len(parts) else ""


def _short(path: PurePath) -> str:
    """The path from the package's folder on, or the file's name alone: no folder of this machine."""
    for root in ("refblo", "asv_bench", "tests"):
        if root in path.parts[:-1]:
            last = len(path.parts) - 1 - path.parts[::-1].index(root)
            return "/".join(path.parts[last:])
    return path.name


@final
class _Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves the base class's hook unannotated
    """Is called by torch for every kernel, and counts reads and transfers."""

    def __init__(self, traffic: HostTraffic) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self._traffic = traffic

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,  # torch's signature
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        """Run one kernel, and count it if it reads numbers or moves them."""
        kwargs = kwargs or {}
        if paused() or not isinstance(func, torch._ops.OpOverload):
            return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if read_by(func, args):
            self._traffic.synchronised(name)
        result = func(*args, **kwargs)
        kinds = kinds_of(func, (args, kwargs), result)
        if len(kinds) > 1:
            self._traffic.transferred(f"{name} between {' and '.join(sorted(kinds))}")
        return result


@final
class _Methods(TorchFunctionMode):
    """Is called by torch for every method, and counts those that read numbers without a kernel."""

    def __init__(self, traffic: HostTraffic) -> None:
        super().__init__()
        self._traffic = traffic

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,  # torch's signature
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        """Run one method, and count it if it reads numbers."""
        # On a tensor without numbers these methods read nothing: torch raises, or shows the shape.
        if func in READING_METHODS and not isinstance(args[0], FakeTensor):
            self._traffic.synchronised(func.__name__)
        return func(*args, **(kwargs or {}))
