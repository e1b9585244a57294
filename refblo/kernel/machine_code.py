"""Machine code of a recorded graph, by torch's compiler, and the shortest way to call it.

What torch returns for a compiled graph wraps the compiled code in what a graph in general needs: arguments
that are written to, results that share memory, subclasses of tensors. A kernel of refblo needs none of it,
and on small problems it takes as long as the code itself.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast, final

import torch
from torch import Tensor
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule
from torch.fx.experimental.symbolic_shapes import ShapeEnv

Code = Callable[..., Sequence[Tensor]]


def compiled(graph: Graph, inputs: Sequence[Tensor]) -> Code:
    """A function of tensors that runs the compiled graph.

    Args:
        graph: pure operations; what nodes say of their results is removed.
        inputs: tensors with the shapes, dtypes and devices of all later calls.

    Raises:
        Exception: torch's own, of several kinds, where it cannot compile.
    """
    # Only where something is compiled: the import takes seconds.
    from torch._inductor.compile_fx import compile_fx, compile_fx_inner

    graph.eliminate_dead_code()
    for node in graph.nodes:
        node.meta.clear()  # torch's compiler makes its own
    inner: list[Any] = []

    def compile_inside(*args: Any, **kwargs: Any) -> Any:
        inner.append(compile_fx_inner(*args, **kwargs))
        return inner[-1]

    # Without symbolic shapes in the context, torch does not save the compiled code on disk. Its other cache,
    # of code with the wrappers around it, gives no way to the code inside.
    shapes = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    code_alone = torch._functorch.config.patch(enable_autograd_cache=False)
    with tracing(TracingContext(shapes)), code_alone:
        module = GraphModule(torch.nn.Module(), graph)
        whole = cast("Code", compile_fx(module, list(inputs), inner_compile=compile_inside))
    code: Any = getattr(inner[0], "current_callable", None) if len(inner) == 1 else None
    if code is None:
        return whole
    direct = _Direct(code)
    results, memory = direct(*inputs), {_address(tensor) for tensor in inputs}
    if any(_address(tensor) in memory for tensor in results):
        return whole
    return direct if _agree(whole(*inputs), results) else whole


@final
class _Direct:
    """The compiled code without torch's wrappers.

    Args:
        code: takes a list of tensors, which it empties, and returns a sequence of tensors.
    """

    def __init__(self, code: Callable[[list[Tensor]], Sequence[Tensor]]) -> None:
        self._code = code

    def __call__(self, *tensors: Tensor) -> Sequence[Tensor]:
        if not torch.is_grad_enabled():
            return self._code([*tensors])
        # Where a tensor requires a gradient, the code could not write results of products.
        torch._C._set_grad_enabled(False)
        try:
            return self._code([*tensors])
        finally:
            torch._C._set_grad_enabled(True)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _agree(wrapped: Sequence[Tensor], direct: Sequence[Tensor]) -> bool:
    """Whether both ways return the same tensors, to the last bit; also where a number is not finite."""
    return len(wrapped) == len(direct) and all(
        one.dtype == other.dtype and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
        for one, other in zip(wrapped, direct, strict=True)
    )
