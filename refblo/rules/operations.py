"""What a formula may ask of its arithmetic beyond + − × ÷ and integer powers.

A rule's formula is written once, over any arithmetic that has these operations: torch tensors, which
autograd differentiates in either mode, or balls with tangents (`refblo.balls.duals`). The limits at which a
square root has no derivative are decided here and nowhere else.
"""

from typing import Any, Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Operations(Protocol):
    """An arithmetic of vectors and numbers."""

    def root(self, v: Any, root_epsilon: Any) -> Any:
        """√(v + root_epsilon), entry by entry, for v ≥ 0.

        Where v + root_epsilon = 0 its derivative does not count: it is multiplied by what is 0 there, as v
        is quadratic in the gradients that its factor is linear in.
        """
        ...

    def clip(self, g: Any, bound: Any) -> Any:
        """Each entry of g, at least −bound and at most bound."""
        ...

    def shrink(self, g: Any, norm: Any, epsilon: float) -> Any:
        """g·min(1, norm / (‖g‖ + epsilon)); g itself where ‖g‖ = 0."""
        ...


def root(v: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """√v with derivative 0 at 0.

    Adam's update as a function of the gradient g is g/(|g| + ε) near 0 at the first step, which has
    derivative 1/ε there: the root contributes nothing. Autograd's own derivative of √v is infinite,
    and turns it into NaN.
    """
    positive = v > 0
    return torch.where(positive, torch.where(positive, v, torch.ones_like(v)).sqrt(), v)


@final
class TorchOperations:
    """The arithmetic of torch tensors."""

    def root(self, v: Tensor, root_epsilon: Any) -> Tensor:
        """See `Operations.root`."""
        if isinstance(root_epsilon, Tensor) or root_epsilon > 0:
            v = v + root_epsilon
        return root(v)

    def clip(self, g: Tensor, bound: Any) -> Tensor:
        """See `Operations.clip`; at a tie the derivative is that of g."""
        return torch.clamp(g, -bound, bound)

    def shrink(self, g: Tensor, norm: Any, epsilon: float) -> Tensor:
        """See `Operations.shrink`."""
        return self.shrinkage(g, norm, epsilon) * g

    def shrinkage(self, g: Tensor, norm: Any, epsilon: float) -> Tensor:
        """min(1, norm / (‖g‖ + epsilon)); 1 where ‖g‖ = 0."""
        size = root((g * g).sum()) + epsilon
        shrinks = size > norm
        return torch.where(shrinks, norm / torch.where(shrinks, size, torch.ones_like(size)), 1)


TORCH = TorchOperations()
