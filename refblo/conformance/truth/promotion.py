"""Other arithmetic inside a caller's functions: float64 in place of float32, and random roundings.

A `TorchFunctionMode` sees each operation of torch that a function calls. With `promoted` it hands float64
copies of the tensors of that dtype to the operation, and so the function runs in float64 on the same
numbers; a conversion to any other dtype, such as `.half()`, stays the rounding that it is. With `noise`
each result is rounded at random by a relative amount of the caller's ulp (Monte Carlo arithmetic, see
`refblo.derivatives.rounding`), which shows what rounding inside the function does to what it returns.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from threading import local
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from refblo.derivatives.rounding import Roundings

_PROMOTED = torch.float64

_VIEWS = frozenset(
    [
        "view",
        "view_as",
        "reshape",
        "reshape_as",
        "expand",
        "expand_as",
        "transpose",
        "permute",
        "movedim",
        "swapaxes",
        "squeeze",
        "unsqueeze",
        "narrow",
        "select",
        "split",
        "chunk",
        "unbind",
        "flatten",
        "unflatten",
        "detach",
        "contiguous",
        "diagonal",
        "t",
        "T",
        "mT",
        "H",
        "mH",
        "real",
        "__getitem__",
        "__set__",
        "clone",
        "unfold",
        "broadcast_to",
        "requires_grad_",
        "retain_grad",
        "register_hook",
        "size",
        "stride",
        "dim",
        "numel",
        "item",
        "tolist",
        "numpy",
        "backward",
        "grad",
        "__len__",
        "__bool__",
        "__float__",
        "__int__",
        "_make_dual",
        "_unpack_dual",
        "__repr__",
        "__format__",
        "alias",
        "data_ptr",
    ]
)
"""Operations that round nothing: their results may share memory with what they are given."""

_GRADIENTS = frozenset({torch.autograd.grad, torch.autograd.backward, Tensor.backward})
"""What takes tensors for what they are, not for their numbers."""

_PLAIN = frozenset({type(None), bool, int, float, str, torch.Size, torch.device})
"""Types of values that no dtype is in."""

_BATCH_STATISTICS = frozenset({"batch_norm", "instance_norm"})
"""What writes to statistics that it is given."""


class _Thread(local):
    """The modes that calls of this thread are inside of, the last one innermost."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list["Arithmetic"] = []


_THREAD = _Thread()


def promoted_now() -> torch.dtype | None:
    """The dtype that is replaced by float64 in what this thread calls now; for what torch does not see."""
    return _THREAD.modes[-1].promoted if _THREAD.modes else None


@final
class Arithmetic(TorchFunctionMode):
    """Operations of torch in another arithmetic.

    Args:
        promoted: the dtype that is replaced by float64; None for none.
        noise: the random roundings; None for none.
    """

    def __init__(self, promoted: torch.dtype | None = None, noise: Roundings | None = None) -> None:
        super().__init__()
        self._promoted = promoted
        self._noise = noise
        self._depth = 0

    @property
    def promoted(self) -> torch.dtype | None:
        """The dtype that is replaced by float64."""
        return self._promoted

    @property
    def active(self) -> bool:
        """Whether operations are seen by it."""
        return self._depth > 0

    def __enter__(self) -> "Arithmetic":
        """Replace torch's arithmetic."""
        super().__enter__()  # type: ignore[no-untyped-call]  # torch's own
        self._depth += 1
        _THREAD.modes.append(self)
        return self

    def __exit__(self, *reason: Any) -> None:
        """Put it back."""
        self._depth -= 1
        _THREAD.modes.pop()
        super().__exit__(*reason)  # type: ignore[no-untyped-call]  # torch's own

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """One operation."""
        keywords = dict(kwargs) if kwargs else {}
        name: str = getattr(function, "__name__", "")
        if name == "__get__" or function in _GRADIENTS:
            # An attribute: the shape, say, of which a copy would say the same.
            return self._wider(function(*args, **keywords))
        args = self._wider(args)
        if keywords:
            keywords = self._wider(keywords)
        body = _body(function)
        if body is not None:
            # Python code, whose own operations are seen one by one; the mode is off in here.
            with self:
                result = body(*args, **keywords)
            return self._wider(result)
        if name in _BATCH_STATISTICS:
            args, keywords = _own_statistics(args), _own_statistics(keywords)
        if name in {"add_", "__iadd__"} and _is_counter(args):
            function, name = Tensor.add, "add"
        if name == "float" and self._promoted is torch.float32:
            function = Tensor.double
        if self._noise is None or name in _VIEWS or "out" in keywords or _written(name):
            return self._wider(function(*args, **keywords))
        args, keywords = self._rounded_data(args), self._rounded_data(keywords)
        return self._rounded(self._wider(function(*args, **keywords)))

    def _wider(self, value: Any) -> Any:
        """The value with float64 in place of the promoted dtype."""
        if self._promoted is None or type(value) in _PLAIN:
            return value
        if isinstance(value, Tensor):
            return value.to(_PROMOTED) if value.dtype is self._promoted else value
        if value is self._promoted:
            return _PROMOTED
        return _mapped(self._wider, value)

    def _rounded_data(self, value: Any) -> Any:
        """The value with what has no graph rounded: data, which no operation before has rounded.

        Whole numbers are left alone: they are exact in any dtype, and labels are compared with them.
        """
        if isinstance(value, Tensor):
            exact = value.requires_grad or not value.is_floating_point() or _whole(value)
            return value if exact else self._rounded(value)
        return _mapped(self._rounded_data, value)

    def _rounded(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            if self._noise is None or not value.is_floating_point():
                return value
            return self._noise.rounded(value)
        return _mapped(self._rounded, value)


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """A container's parts changed; anything else as it is."""
    kind = type(value)
    if kind is tuple:
        return tuple([change(part) for part in value])
    if kind is list:
        return [change(part) for part in value]
    if kind is dict:
        return {key: change(part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(change(part) for part in value))
    return value


def _own_statistics(arguments: Any) -> Any:
    """The arguments with running statistics (tensors without a graph) copied: they would be written to."""
    if type(arguments) is dict:
        return {
            key: value.clone() if key.startswith("running") and value is not None else value
            for key, value in arguments.items()
        }
    return tuple(
        value.clone()
        if isinstance(value, Tensor) and not value.requires_grad and position > 0
        else value
        for position, value in enumerate(arguments)
    )


def _written(name: str) -> bool:
    """Whether an operation of that name writes to its first argument."""
    return (name.endswith("_") and not name.endswith("__")) or name.startswith("__i")


def _whole(value: Tensor) -> bool:
    """Whether all entries are whole numbers."""
    if torch._C._are_functorch_transforms_active():
        return False  # its numbers cannot be asked for
    return bool((value == value.round()).all())


def _is_counter(arguments: tuple[Any, ...]) -> bool:
    """Whether a count is what would be written to."""
    first = arguments[0] if arguments else None
    return isinstance(first, Tensor) and first.ndim == 0 and not first.is_floating_point()


def _no(*_: Any, **__: Any) -> bool:
    return False


_CHECKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


@cache
def _body(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """A function of torch that is written in Python, without its question for modes; None for others.

    Asked again inside the mode, the question would lead back here for ever.
    """
    if not isinstance(function, types.FunctionType):
        return None
    if function.__module__ == "torch._tensor":
        return None  # a method, which calls the one of its base class, and torch hands that to the method
    if not any(check in function.__code__.co_names for check in _CHECKS):
        return None
    names = {**function.__globals__, **dict.fromkeys(_CHECKS, _no)}
    copied = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied
