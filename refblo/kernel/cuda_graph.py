"""A kernel as a CUDA graph: its operations are captured once, and one launch replays them all.

A replay reads and writes the memory that it was captured with. So each argument is copied into an input of
its own, and each output is copied out: the numbers are those of the same operations run one by one.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, final

import torch
from torch import Tensor

from refblo.kernel.record import NotRecordableError

Run: TypeAlias = Callable[[], tuple[Tensor, ...]]
Capture: TypeAlias = Callable[[Run, torch.device], tuple[Callable[[], Any], tuple[Tensor, ...]]]
"""(a function without arguments, the device) ↦ (its replay, the outputs, which each replay overwrites)."""


def captured(run: Run, device: torch.device) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
    """Capture the kernels that a function launches on a CUDA device."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's own
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        run()  # what torch's libraries make at a first call cannot be captured
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = run()
    return graph.replay, outputs


@final
class GraphKernel:
    """A list of operations, replayed as one CUDA graph.

    Args:
        run: the operations, as a function of `data` and of tensors like `examples`.
        data: tensors whose numbers are read at each call, where they are.
        examples: tensors with the shapes, dtypes and the device of all later arguments.
        capture: what captures; torch's CUDA graphs unless a test says otherwise.

    Raises:
        NotRecordableError: if the tensors are not on a CUDA device, or an operation cannot be captured.
    """

    def __init__(
        self,
        run: Callable[..., tuple[Tensor, ...]],
        data: Sequence[Tensor],
        examples: Sequence[Tensor],
        capture: Capture = captured,
    ) -> None:
        devices = {str(each.device) for each in (*data, *examples)}
        device = next(iter(examples)).device
        if capture is captured and (len(devices) > 1 or device.type != "cuda"):
            raise NotRecordableError(
                f"tensors on {', '.join(sorted(devices))}, and a CUDA graph needs one CUDA device"
            )
        self._inputs = tuple(example.detach().clone() for example in examples)
        try:
            self._replay, self._outputs = capture(lambda: run(*data, *self._inputs), device)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
            raise NotRecordableError(
                f"an operation that a CUDA graph cannot hold ({type(error).__name__}: {reason})"
            ) from error

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The outputs for these arguments."""
        for own, given in zip(self._inputs, tensors, strict=True):
            own.copy_(given)
        self._replay()
        return tuple(output.clone() for output in self._outputs)
