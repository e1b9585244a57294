"""The penalties' closed-form products against autograd."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from refblo.problem import RegulariserProducts
from refblo.problems.namespace import TORCH
from refblo.problems.regularisers import (
    weighted_l1,
    weighted_l1_products,
    weighted_l2,
    weighted_l2_products,
)

Penalty = Callable[[Tensor, Tensor], Tensor]
PENALTIES: dict[str, Callable[[Tensor | None], tuple[Penalty, RegulariserProducts]]] = {
    "L1": lambda groups: (weighted_l1(TORCH, groups), weighted_l1_products(groups)),
    "L2": lambda groups: (weighted_l2(groups), weighted_l2_products(groups)),
}
KINDS = tuple(PENALTIES)


def vector(generator: torch.Generator, size: int) -> Tensor:
    return torch.randn(size, generator=generator, dtype=torch.float64)


def check(kind: str, groups: Tensor | None, lam: Tensor, theta: Tensor, v: Tensor) -> None:
    penalty, products = PENALTIES[kind](groups)
    lam, theta = lam.requires_grad_(), theta.requires_grad_()
    (gradient,) = torch.autograd.grad(penalty(lam, theta), theta, create_graph=True)
    (mixed,) = torch.autograd.grad(gradient, lam, v)
    # A gradient entry is one product, a mixed entry a sum of at most 12: a few roundings each.
    torch.testing.assert_close(
        products.gradient(lam.detach(), theta.detach()), gradient.detach(), rtol=1e-15, atol=0.0
    )
    torch.testing.assert_close(
        products.mixed(lam.detach(), theta.detach(), v), mixed, rtol=0.0, atol=1e-14
    )


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 12))
def test_one_weight_a_parameter(kind: str, seed: int, n: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    lam, theta, v = (vector(generator, n) for _ in range(3))
    check(kind, None, lam, theta, v)


@pytest.mark.parametrize("kind", KINDS)
@given(
    seed=st.integers(0, 10**6),
    p=st.integers(1, 4),
    penalised=st.integers(1, 12),
    free=st.integers(0, 3),
)
def test_one_weight_a_group_with_free_entries(
    kind: str, seed: int, p: int, penalised: int, free: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    groups = torch.randint(p, (penalised,), generator=generator)
    lam = vector(generator, p)
    theta, v = (vector(generator, penalised + free) for _ in range(2))
    check(kind, groups, lam, theta, v)


@pytest.mark.parametrize("kind", KINDS)
def test_the_values_are_those_of_equation_1(kind: str) -> None:
    penalty, _ = PENALTIES[kind](torch.tensor([0, 0, 1]))
    lam, theta = torch.tensor([2.0, 3.0]), torch.tensor([1.0, -2.0, -4.0, 100.0])
    expected = {"L1": 2 * (1 + 2) + 3 * 4, "L2": 2 * (1 + 4) + 3 * 16}[kind]
    assert penalty(lam, theta).item() == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_products_write_to_no_argument(kind: str) -> None:
    for groups in (None, torch.tensor([1, 0, 1])):
        _, products = PENALTIES[kind](groups)
        lam, theta, v = torch.ones(3 if groups is None else 2), torch.ones(3), torch.ones(3)
        products.gradient(lam, theta)
        products.mixed(lam, theta, v)
        for argument in (lam, theta, v):
            assert bool((argument == 1).all())


def test_the_slope_of_l1_at_zero_is_zero() -> None:
    products = weighted_l1_products()
    zero, one = torch.zeros(2), torch.ones(2)
    assert not products.gradient(one, zero).any()
    assert not products.mixed(one, zero, one).any()
