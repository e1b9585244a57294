"""Where a caller's functions go from float64 to a narrower dtype.

torch computes in float32 what combines a float64 scalar with a float32 matrix, as in
`lam.exp() * torch.eye(n)`, and says nothing. A program with a float64 λ then has the rounding of float32.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import local
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class _Thread(local):
    """What watches the calls of this thread."""

    watch: "Narrowing | None" = None


_THREAD = _Thread()

_IN_TORCH = "make all data float64 (a float64 scalar times a float32 matrix is float32 in torch)"


def watching() -> "Narrowing | None":
    """What is to be told by an operation of which torch does not see the parts; None if nothing."""
    return _THREAD.watch


@final
class Narrowing(TorchFunctionMode):
    """Watches operations for results in a narrower dtype than an argument's.

    Args:
        wide: the dtype of λ.

    Attributes:
        to: the narrowest dtype found; None if there is none.
        operation: the first operation that had it.
    """

    def __init__(self, wide: torch.dtype) -> None:
        super().__init__()
        self._wide = wide
        self.to: torch.dtype | None = None
        self.operation = ""
        self._remedy = _IN_TORCH

    def __enter__(self) -> "Narrowing":
        """Watch."""
        super().__enter__()  # type: ignore[no-untyped-call]  # torch's own
        _THREAD.watch = self
        return self

    def __exit__(self, *reason: Any) -> None:
        """Stop."""
        _THREAD.watch = None
        super().__exit__(*reason)  # type: ignore[no-untyped-call]  # torch's own

    def add(self, to: torch.dtype, operation: str, remedy: str = _IN_TORCH) -> None:
        """Keep the operation if none before had a result in so narrow a dtype.

        Args:
            to: the dtype of its result.
            operation: its name.
            remedy: what to do about it.
        """
        if self.to is None or _digits(to) < _digits(self.to):
            self.to, self.operation, self._remedy = to, operation, remedy

    @property
    def sentence(self) -> str:
        """What was found, and what to do."""
        name = str(self.to).removeprefix("torch.")
        return (
            f"the losses compute in {name} where {self.operation!r} is given a float64 tensor and returns a "
            f"{name} one, so that the hypergradient is judged as one in {name}, and smaller errors are not "
            f"seen: {self._remedy}"
        )

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call it, and compare the dtypes."""
        result = func(*args, **(kwargs or {}))
        narrow = [
            part.dtype for part in _floats(result) if _digits(part.dtype) < _digits(self._wide)
        ]
        if narrow and any(part.dtype is self._wide for part in _floats((args, kwargs or {}))):
            self.add(min(narrow, key=_digits), getattr(func, "__name__", "an operation"))
        return result


def _digits(dtype: torch.dtype) -> float:
    return -torch.finfo(dtype).eps


def _floats(value: Any) -> Iterator[Tensor]:
    """The floating-point tensors in a value."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _floats(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _floats(part)
