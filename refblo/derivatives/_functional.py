"""The gradient inside transforms of torch.func: what `torch.func.grad` computes, without `torch._dynamo`.

`torch.func.grad` imports the compiler, which takes a second, to turn off a part of it that nobody turned on.
"""

from collections.abc import Callable

import torch
from torch import Tensor

try:
    from torch._functorch.eager_transforms import (
        _create_differentiable,
        _undo_create_differentiable,
        _wrap_tensor_for_grad,
        grad_increment_nesting,
    )

    _KNOWN = True
except ImportError:  # another version of torch: its own function is used
    _KNOWN = False

_REFUSED = "torch.func.grad does not support saved tensor hooks, such as those of checkpointing"


def functional_gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """The gradient of a function with one value; zeros where it does not depend on its argument."""
    if not _KNOWN:
        result: Tensor = torch.func.grad(function)(at)
        return result
    with (
        torch.autograd.graph.disable_saved_tensors_hooks(_REFUSED),
        grad_increment_nesting() as level,
        torch.enable_grad(),
    ):
        inner = _wrap_tensor_for_grad(at, level)
        _create_differentiable(inner, level)
        value = function(inner)
        if not value.requires_grad:
            return torch.zeros_like(at)
        (found,) = torch.autograd.grad(
            value, inner, create_graph=True, allow_unused=True, materialize_grads=True
        )
        outer: Tensor = _undo_create_differentiable(found, level)
        return outer
