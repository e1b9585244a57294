"""Dense Jacobians of what autograd recorded, all rows in one backward pass where torch can batch it."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor


def jacobians_of(
    value: Float[Tensor, " N"], inputs: tuple[Tensor, Tensor]
) -> tuple[Float[Tensor, "N n"], Float[Tensor, "N p"]]:
    """∂value/∂inputs, zeros where there is no dependence; the graph is kept."""
    rows = value.numel()
    if not value.requires_grad:
        return tuple(value.new_zeros(rows, x.numel()) for x in inputs)  # type: ignore[return-value]  # two inputs
    unit = torch.eye(rows, dtype=value.dtype, device=value.device)
    try:
        found = torch.autograd.grad(
            value, inputs, unit, retain_graph=True, allow_unused=True, is_grads_batched=True
        )
    except RuntimeError:  # from an operation that torch cannot batch
        by_row = [
            torch.autograd.grad(
                value, inputs, row, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for row in unit
        ]
        found = tuple(torch.stack(blocks) for blocks in zip(*by_row, strict=True))
    first, second = (
        value.new_zeros(rows, x.numel()) if block is None else block.detach()
        for block, x in zip(cast("tuple[Tensor | None, ...]", found), inputs, strict=True)
    )
    return first, second
