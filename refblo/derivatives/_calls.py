"""What both modes need: leaves, the forward-mode call, and what to say where a derivative is missing."""

from collections.abc import Callable

import torch
from torch import Tensor

from refblo.derivatives._lock import PROCESS_LOCK
from refblo.errors import MissingProductError


def explain(error: Exception) -> None:
    """Say what can be done when a kernel lacks a derivative; leave other errors alone.

    Raises:
        MissingProductError: if that is what the error is about.
    """
    if "forward AD" in str(error):
        reason = str(error).splitlines()[0].rstrip(".")
        raise MissingProductError(
            f"the problem must have forward-mode derivatives here, got a kernel without them ({reason}); use "
            "operations that have them (for attention, torch's SDPBackend.MATH), or an estimator that "
            "differentiates in reverse only"
        ) from error
    if "not implemented" not in str(error):
        return
    raise MissingProductError(
        f"inner must have second-order products here, got a kernel without them ({error}); declare the "
        "problem's structure (Separable or Composed) so that nothing differentiates twice through the "
        "network, or use operations that can be differentiated twice"
    ) from error


def leaf(vector: Tensor) -> Tensor:
    """The same numbers as a new leaf that autograd can differentiate by."""
    return vector.detach().requires_grad_()


def jvp(
    function: Callable[..., Tensor], primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """A function's value and its derivative along the tangents, part of no graph.

    Raises:
        MissingProductError: if a kernel has no forward-mode derivative.
    """
    result: tuple[Tensor, Tensor]
    # Forward mode refuses a tensor of which several entries lie in one place, as an expanded one's do.
    separate = tuple(primal.contiguous() for primal in primals)
    try:
        with PROCESS_LOCK:
            result = torch.func.jvp(function, separate, tangents)  # type: ignore[assignment]  # annotated for has_aux too
    except RuntimeError as error:  # torch's NotImplementedError is one
        explain(error)
        raise
    value, tangent = result
    # Under vmap, torch's forward mode takes the tangent of a Python number times a 0-d float32 to float64.
    return value.detach(), tangent.detach().to(value.dtype)
