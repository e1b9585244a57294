"""Recording the operations of a function, backward passes included, and making a kernel of them."""

from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, final, get_args

from torch import Tensor
from torch.fx import Graph
from torch.utils._python_dispatch import _disable_current_modes

from refblo.cost import Evaluations, count_all, counting
from refblo.derivatives import exclusive
from refblo.errors import RefbloError, require_one_of
from refblo.kernel.cuda_graph import GraphKernel
from refblo.kernel.emit import straight
from refblo.kernel.machine_code import compiled
from refblo.kernel.record import Recorded, record
from refblo.kernel.simplify import simplify

Tensors = tuple[Tensor, ...]
Function = Callable[..., Tensors]
Backend = Literal["inductor", "eager", "cuda-graph"]


class CompilerError(RefbloError, RuntimeError):
    """A kernel could not be compiled on this machine."""


@final
@dataclass(frozen=True, eq=False)
class Kernel:
    """A traced function; calling it runs the recorded operations on tensors of the traced shapes.

    Attributes:
        operations: how many operations it runs.
    """

    operations: int
    _run: Callable[..., Any]
    _evaluations: Mapping[str, int]

    def __call__(self, *tensors: Tensor) -> Tensors:
        """The function's values; its derivative evaluations are counted as if it had run itself."""
        count_all(self._evaluations)
        return tuple(self._run(*tensors))


def _counted(function: Function, examples: Tensors) -> tuple[Recorded, Evaluations]:
    with counting() as evaluations:
        return record(function, examples), evaluations


@exclusive
def trace(function: Function, examples: Tensors, backend: Backend) -> Kernel:
    """Trace a function and compile it.

    Args:
        function: pure. It may use tensors that are no argument (data): their numbers are read at each call.
            Anything else that it reads is read once, now (`refblo.kernel.watch` finds out if it changes).
        examples: arguments with the shapes, dtypes and devices of all later calls.
        backend: "inductor" for machine code (torch's compiler, which needs a C++ compiler on a CPU), or
            "eager" for the recorded operations one by one, or "cuda-graph" for the same operations captured
            as one CUDA graph.

    Raises:
        ArgumentError: if the backend is unknown.
        NotRecordableError: if the function's operations depend on the numbers it is given, or it draws random
            numbers or writes to what it did not make; for a CUDA graph also without a CUDA device.
        CompilerError: if the compiler is missing or fails.
    """
    require_one_of("backend", backend, get_args(Backend))
    # Give each argument its own tensor: the same tensor twice would be traced as one input.
    examples = tuple(example.detach() for example in examples)
    # Outside all modes, so that a count of the run's cost does not include the tracing.
    with _disable_current_modes():
        return _kernel(function, examples, backend)


def _kernel(function: Function, examples: Tensors, backend: Backend) -> Kernel:
    # In an empty context, so that its evaluations are not counted either.
    recorded, counted = Context().run(_counted, function, examples)
    evaluations = {kind: number for kind, number in asdict(counted).items() if number}
    # The same memory: with a parameter each call would build a graph, which nobody asks for.
    data = tuple(each.detach() for each in recorded.data)
    if backend != "inductor":
        simplified = simplify(recorded.graph)
        run = straight(simplified)
        if backend == "cuda-graph":
            replay = GraphKernel(run, data, examples)
            return Kernel(_operations(simplified), replay, evaluations)
        return Kernel(_operations(simplified), partial(run, *data), evaluations)
    try:
        code = compiled(recorded.graph, [*data, *examples])
    except Exception as error:  # torch raises its own kinds, some of them private
        raise CompilerError(
            f"backend must be one that works on this machine, got 'inductor' ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}); install a C++ compiler, or use "
            "backend='eager'"
        ) from error
    return Kernel(_operations(recorded.graph), partial(code, *data), evaluations)


def _operations(graph: Graph) -> int:
    return sum(node.op == "call_function" for node in graph.nodes)
