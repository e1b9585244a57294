"""What a computation does, kernel by kernel: operations, elements computed, bytes moved.

Counted at every kernel call, so the figures are a property of the program and not of the machine.
"""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from refblo.cost.flops import UNKNOWN, formulas
from refblo.cost.live_bytes import tensors_in
from refblo.cost.pause import paused, times

_FREE = frozenset(
    {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "alias"}
    | {
        "_unsafe_view",
        "lift_fresh",
        "is_same_size",
        "_local_scalar_dense",
        "resize_",
        "set_",
        "device",
    }
)
"""Kernels that touch no element of a tensor, besides the views, which torch marks itself."""

_SETTING = frozenset(
    {"zeros", "zeros_like", "ones", "ones_like", "new_zeros", "new_ones", "full", "full_like"}
    | {"new_full", "eye", "scalar_tensor", "fill_", "zero_", "arange"}
)
"""Kernels that write elements, read none and compute none."""

_MOVING = _SETTING | {"clone", "copy_", "_to_copy", "cat", "stack", "constant_pad_nd"}
"""Kernels that compute no element."""


@final
class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves the base class's hook unannotated
    """Count what the kernels inside the block do.

    Attributes:
        flops: floating-point operations of matrix kernels: products, solves, convolutions, attention.
        elements: elements that all other kernels compute (of a reduction: that it reads).
        moved: bytes read and written, each argument and each result once.
        kernels: calls of kernels.
        uncountable: names of the kernels met whose operations no formula gives.

    Example:
        >>> import torch
        >>> with Meter() as meter:
        ...     y = torch.ones(3, 4) @ torch.ones(4)
        ...     z = y.exp()
        >>> meter.flops, meter.elements
        (24, 3)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.flops = 0
        self.elements = 0
        self.moved = 0
        self.kernels = 0
        self.uncountable: set[str] = set()
        self._formulas = formulas()

    @property
    def operations(self) -> int:
        """Operations of all kernels, an element of an elementwise one counting as one."""
        return self.flops + self.elements

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,  # torch's signature
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        """Run one kernel and count it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not paused() and isinstance(func, torch._ops.OpOverload):
            self._count(func, args, kwargs, result)
        return result

    def _count(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: object
    ) -> None:
        packet, name = func.overloadpacket, func.overloadpacket.__name__
        if func.is_view or name in _FREE:
            return
        often = times()
        self.kernels += often
        # What `out` names is written and not read.
        read = [value for key, value in kwargs.items() if key != "out"]
        inputs, outputs = list(tensors_in((args, read))), list(tensors_in(result))
        touched = outputs if name in _SETTING else inputs + outputs
        self.moved += often * sum(tensor.numel() * tensor.element_size() for tensor in touched)
        formula: Callable[..., int] | None = self._formulas.get(packet)
        flops = 0 if formula is None else int(formula(*args, **kwargs, out_val=result))
        if flops:
            self.flops += often * flops
        elif name in UNKNOWN:
            self.uncountable.add(name)
        elif name not in _MOVING:
            self.elements += often * max(map(Tensor.numel, inputs + outputs), default=0)
