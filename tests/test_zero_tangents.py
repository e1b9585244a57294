"""Forward mode with the shapes of zero tangents told: the same numbers, and nothing left behind. 1 s."""

from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
import torch.autograd.forward_ad as forward
from torch import Tensor

from refblo.derivatives import functional_gradient, told_shapes
from refblo.derivatives._zero_tangents import _kernels

FULL, SMALL = torch.rand(4, 3, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
TENSORS = {
    "full": FULL,
    "row": SMALL,
    "column": torch.rand(4, 1, dtype=torch.float64),
    "number": torch.rand((), dtype=torch.float64),
    "count": torch.tensor(3),
    "single": FULL.float(),
    "single number": torch.rand(()),
    "turned": torch.rand(3, 4, dtype=torch.float64).T,
    "none": torch.rand(0, 3, dtype=torch.float64),
    "whole": torch.ones(4, 3, dtype=torch.int64),
    "complex number": torch.rand((), dtype=torch.complex128),
}
PAIRS = [(one, other) for one in TENSORS for other in TENSORS]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_told_shape_is_that_of_torch(one: str, other: str) -> None:
    left, right = (TENSORS[name].to("meta") for name in (one, other))
    for name, kernel in _kernels().items():
        operation = getattr(torch.ops.aten, name.split(".")[0]).Tensor
        try:
            should = operation(left, right)
        except RuntimeError:  # the shapes do not fit together
            with pytest.raises(RuntimeError):
                kernel(left, right)
            continue
        told = kernel(left, right)
        assert (told.shape, told.dtype, told.stride()) == (
            should.shape,
            should.dtype,
            should.stride(),
        )
        assert told.device.type == "meta"


def loss(theta: Tensor) -> Tensor:
    weights = torch.arange(1.0, 4.0, dtype=torch.float64)
    shifted = (theta - 1) * weights / (2 + weights)
    return shifted.square().sum() + 0.1 * (theta / weights).cos().sum() + weights @ theta.exp()


def product(theta: Tensor, tangent: Tensor) -> Tensor:
    result: tuple[Tensor, Tensor] = torch.func.jvp(  # type: ignore[assignment]  # annotated for has_aux too
        lambda at: functional_gradient(loss, at), (theta,), (tangent,)
    )
    return result[1]


def by_dual_numbers(theta: Tensor, tangent: Tensor) -> Tensor:
    with forward.dual_level():
        at = theta.detach().requires_grad_()
        dual = forward.make_dual(at, tangent)  # type: ignore[no-untyped-call]  # torch's own
        (slope,) = torch.autograd.grad(loss(dual), dual)
        found: Tensor = forward.unpack_dual(slope).tangent  # type: ignore[no-untyped-call]  # torch's own
        return found


def side_by_side(theta: Tensor, tangent: Tensor) -> Tensor:
    rows: Tensor = torch.func.vmap(lambda u: product(theta, u))(torch.stack([tangent, -tangent]))
    return rows


@pytest.mark.parametrize("way", [product, by_dual_numbers, side_by_side])
def test_no_number_depends_on_it(way: Callable[[Tensor, Tensor], Tensor]) -> None:
    theta, tangent = SMALL, torch.rand(3, dtype=torch.float64)
    plain = way(theta, tangent)
    with told_shapes(), told_shapes():
        told = way(theta, tangent)
    assert torch.equal(told, plain)


def test_torchs_own_code_is_back_afterwards() -> None:
    own = registered()
    with suppress(ZeroDivisionError), told_shapes():
        assert registered() != own
        raise ZeroDivisionError
    assert registered() == own


def registered() -> str:
    """What is registered for products."""
    return str(torch._C._dispatch_dump("aten::mul.Tensor"))


def test_the_gradient_is_that_of_torch_func() -> None:
    points = torch.rand(5, 3, dtype=torch.float64)
    should = torch.func.vmap(torch.func.grad(loss))(points)
    found = torch.func.vmap(lambda at: functional_gradient(loss, at))(points)
    assert torch.equal(found, should)


@pytest.mark.parametrize(
    "function",
    [lambda at: torch.ones((), dtype=at.dtype), lambda at: at.detach().sum()],
    ids=["constant", "detached"],
)
def test_the_gradient_of_what_does_not_depend_is_zero(function: Callable[[Tensor], Tensor]) -> None:
    points = torch.rand(5, 3, dtype=torch.float64)
    found: Tensor = torch.func.vmap(lambda at: functional_gradient(function, at) + 0 * at)(points)
    assert torch.equal(found, torch.zeros_like(points))
