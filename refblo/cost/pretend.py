"""A device that is not there: the commonest faults of code for a GPU, found without one.

torch registers a device of our own, `pretend`, and runs its kernels on shapes alone. On it

- a mix of devices raises, as on a GPU,
- a read on the host raises (`.item()`, `bool`, a mask used as an index): on a GPU it works, and waits,
- float64 that meets float32 raises: on a GPU it works, and is slow,
- `decide`, `number` and `is_fake`, which answer such a read, count as host synchronisations,
- a transfer counts: `.to(device)`, `.cpu()`, an index that lies on the CPU.

torch cannot take a registered device back, so this is for a process of its own.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, final

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from refblo.cost.live_bytes import tensors_in
from refblo.cost.pause import uncounted
from refblo.cost.traffic import (
    COPY_KERNELS,
    LIFT_KERNELS,
    PRETEND,
    READING_METHODS,
    place,
    pretending,
    read_by,
)
from refblo.errors import RefbloError

_MAKER = "_setup_privateuseone_for_python_backend"


@final
class PretendDeviceError(RefbloError, RuntimeError):
    """What would be a fault on a GPU, or what a torch without the private function cannot do."""


@contextmanager
def pretend_device(*, adopt: bool = False) -> Iterator[torch.device]:
    """A device whose tensors have no numbers and whose faults raise; for a process of its own.

    Args:
        adopt: whether tensors with numbers that were made outside the block are taken to lie on the device:
            the data of a problem that is built from numbers. Without it they are refused.

    Raises:
        PretendDeviceError: at the start, if this torch cannot register a device written in Python; inside, at
            a read on the host, a mix of devices, or float64 that meets float32.

    Example:
        A script of its own, since the device stays registered until the process ends::

            with pretend_device() as device:
                lam = torch.zeros(3, device=device)
                cost = measure(lambda: method.estimate(problem, lam))
            print(cost.host_synchronisations, cost.transfers, cost.places)
    """
    _register()
    token = pretending.set(True)
    owner = _Owner(adopt)
    try:
        # A backward pass of a device runs in a thread of its own, to which what is set here does not reach.
        with (
            torch.autograd.set_multithreading_enabled(False),
            _Shapes(allow_non_fake_inputs=adopt),
            _Rules(owner),
            _Methods(owner),
        ):
            yield torch.device(PRETEND, 0)
    finally:
        pretending.reset(token)


def _register() -> None:
    """Give torch the device, once a process.

    Raises:
        PretendDeviceError: if this torch has no function for it, or the process has another device already.
    """
    known = torch._C._get_privateuse1_backend_name()
    if known == PRETEND:
        return
    maker: Any = getattr(import_module("torch.utils.backend_registration"), _MAKER, None)
    if maker is None:
        raise PretendDeviceError(
            f"torch must have torch.utils.backend_registration.{_MAKER} (private, in torch 2.13), got torch "
            f"{torch.__version__} without it; install the torch that constraints.txt names, or count on a GPU"
        )
    if known != "privateuseone":
        raise PretendDeviceError(
            f"the process must have no device besides torch's own, got {known!r}; start another process"
        )
    maker(rename=PRETEND)


class _Shapes(FakeTensorMode):  # type: ignore[no-untyped-call]  # torch's own
    """torch's mode, told that the device cannot be used: nothing is computed on it ahead of time."""

    @property
    def avoid_device_init(self) -> bool:
        """True, so that a CPU tensor of known numbers is moved by its shape."""
        return True


@final
class _Owner:
    """Takes tensors with numbers over to the device, or refuses them."""

    def __init__(self, adopt: bool) -> None:
        self.adopts = adopt
        self._adopted: Any = WeakTensorKeyDictionary()

    def own(self, value: object) -> object:
        """The value, or a tensor of the device in the place of one with numbers."""
        if not isinstance(value, Tensor) or isinstance(value, FakeTensor):
            return value
        # What vmap and jvp wrap is a tensor of the device, or is met unwrapped later.
        if torch._C._functorch.is_functorch_wrapped_tensor(value):
            return value
        if not self.adopts:
            raise PretendDeviceError(
                f"{place()} must use tensors that were made inside the block, got one with numbers of shape "
                f"{tuple(value.shape)}; make it inside, or take it over with pretend_device(adopt=True)"
            )
        if value not in self._adopted:
            # Made inside a jvp it would belong to that jvp, and it is kept for all that come.
            with temporarily_clear_interpreter_stack(), uncounted():
                self._adopted[value] = torch.empty_strided(
                    value.shape, value.stride(), dtype=value.dtype, device=PRETEND
                )
        return self._adopted[value]


@final
class _Rules(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves the base class's hook unannotated
    """Raises where a GPU would wait, fail or be slow."""

    def __init__(self, owner: "_Owner") -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self._owner = owner

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,  # torch's signature
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        """Run one kernel on shapes alone."""
        name = func.overloadpacket.__name__
        given = list(tensors_in((args, kwargs or {})))
        if name not in LIFT_KERNELS and not all(isinstance(tensor, FakeTensor) for tensor in given):
            args, kwargs = tree_map(self._owner.own, (args, kwargs or {}))
            given = list(tensors_in((args, kwargs)))
        if len(given) > 1 and name not in COPY_KERNELS:
            _require_one_precision(name, given)
        if read_by(func, args):
            raise _read(name)
        try:
            return func(*args, **(kwargs or {}))
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise _read(name) from error
        except RuntimeError as error:
            kinds = sorted({str(tensor.device) for tensor in given})
            # Newer versions of torch have a class for this; the text says "two devices" in all of them.
            if len(kinds) < 2 or not re.search(r"\btwo (different )?devices\b", str(error)):
                raise
            raise PretendDeviceError(
                f"{place()} must have all tensors on one device, got {name} of tensors on "
                f"{' and '.join(kinds)}; make each with device=lam.device"
            ) from error


@final
class _Methods(TorchFunctionMode):
    """Raises at methods that read without a kernel, and takes tensors over before autograd sees them.

    What autograd makes for a tensor, such as a tangent of zeros, it makes on that tensor's device.
    """

    def __init__(self, owner: _Owner) -> None:
        super().__init__()
        self._owner = owner

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,  # torch's signature
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        """Run one method."""
        if func in READING_METHODS and func is not Tensor.__repr__:
            raise _read(func.__name__)
        if self._owner.adopts:
            args, kwargs = tree_map(self._owner.own, (args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def _read(what: str) -> PretendDeviceError:
    return PretendDeviceError(
        f"{place()} must not read a tensor's numbers, got {what}; keep the number on the device "
        "(torch.where for an `if`), or use refblo.cost.decide, which counts as a synchronisation"
    )


def _require_one_precision(name: str, given: list[Tensor]) -> None:
    """Refuse floating-point vectors of two dtypes on the device.

    Raises:
        PretendDeviceError: naming the line.
    """
    found = {
        tensor.dtype
        for tensor in given
        if tensor.ndim > 0 and tensor.is_floating_point() and tensor.device.type == PRETEND
    }
    if len(found) > 1:
        dtypes = " and ".join(sorted(map(str, found)))
        raise PretendDeviceError(
            f"{place()} must compute in one floating-point dtype, got {name} of {dtypes}; make each tensor "
            "with dtype=lam.dtype"
        )
