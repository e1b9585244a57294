"""Each derivative against NumPy's, forward mode against reverse mode, and every structure alike."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from refblo.derivatives import (
    gradient_and_tangent,
    gradient_and_tangents,
    hessian_product_function,
    initial_jvp,
    initial_vjp,
    inner_gradient,
    inner_gradient_and_mixed,
    inner_gradient_and_products,
    mixed_product,
    outer_directional,
    outer_gradients,
    outer_theta_gradient,
    pull_back,
    recorded_bytes,
    recorded_inner_gradient,
)
from refblo.errors import MissingProductError
from refblo.problem import BilevelProblem, Composed, FixedInitial, Separable, identity_initial
from refblo.testing.explicit import ExplicitNumbers, Vector
from refblo.testing.strategies import points, seeds, sizes, structures
from refblo.testing.tensor_problem import Structure, initial_point, tensor_problem
from refblo.types import Batch

# Sums of at most some dozens of terms of order one, or of the size of what is compared.
ROUNDING = 1e-13


def near(found: Tensor, expected: Vector) -> None:
    size = max(1.0, float(np.abs(expected).max()))
    assert float(np.abs(np.array(found.tolist()) - expected).max()) <= ROUNDING * size


class Point:
    """A problem in one of its structures, with λ, θ and vectors to multiply by."""

    def __init__(self, data: st.DataObject) -> None:
        p, n = data.draw(sizes())
        self.numbers = ExplicitNumbers.random(
            data.draw(seeds()), p, n, moving_start=data.draw(st.booleans())
        )
        self.problem: BilevelProblem = tensor_problem(
            self.numbers, data.draw(structures()), with_products=data.draw(st.booleans())
        )
        self.lam, self.u = data.draw(points(p)), data.draw(points(p))
        self.theta, self.v = data.draw(points(n)), data.draw(points(n))
        self.at = (self.lam, self.theta)
        self.lam_numbers, self.theta_numbers = _numbers(self.lam), _numbers(self.theta)
        everything = slice(None)
        self.gradient = self.numbers.inner_gradient(
            self.lam_numbers, self.theta_numbers, everything
        )
        self.hessian = self.numbers.inner_hessian(self.lam_numbers, self.theta_numbers, everything)
        self.mixed = self.numbers.inner_mixed(self.lam_numbers, self.theta_numbers)


def _numbers(vector: Tensor) -> Vector:
    return np.array(vector.tolist())


@given(st.data())
def test_reverse_mode_of_the_inner_loss(data: st.DataObject) -> None:
    x = Point(data)
    inner, v = x.problem.inner, _numbers(x.v)
    near(inner_gradient(inner, *x.at, None), x.gradient)
    gradient, mixed = inner_gradient_and_mixed(inner, *x.at, None)
    near(gradient, x.gradient)
    near(mixed(x.v), v @ x.mixed)
    near(mixed_product(inner, *x.at, None, x.v), v @ x.mixed)
    gradient, products = inner_gradient_and_products(inner, *x.at, None)
    near(gradient, x.gradient)
    hessian_v, v_mixed = products(x.v)
    near(hessian_v, x.hessian @ v)
    near(v_mixed, v @ x.mixed)
    product = hessian_product_function(inner, *x.at, None)
    near(product(x.v), x.hessian @ v)
    near(product(x.theta), x.hessian @ x.theta_numbers)  # one graph serves many products


@given(st.data())
def test_a_recorded_gradient_can_be_pulled_back(data: st.DataObject) -> None:
    x = Point(data)
    lam, theta = x.lam.clone().requires_grad_(), x.theta.clone().requires_grad_()
    gradient = recorded_inner_gradient(x.problem.inner, lam, theta, None)
    near(gradient.detach(), x.gradient)
    by_lam, by_theta = pull_back((gradient,), (lam, theta), (x.v,))
    near(by_lam, _numbers(x.v) @ x.mixed)
    near(by_theta, x.hessian @ _numbers(x.v))


@given(st.data())
def test_forward_mode_of_the_inner_loss(data: st.DataObject) -> None:
    x = Point(data)
    u, v = _numbers(x.u), _numbers(x.v)
    expected = x.hessian @ v + x.mixed @ u
    gradient, change = gradient_and_tangent(x.problem.inner, *x.at, None, x.u, x.v)
    near(gradient, x.gradient)
    near(change, expected)
    columns = (torch.stack([x.u, 0 * x.u], dim=1), torch.stack([x.v, x.v], dim=1))
    gradient, changes = gradient_and_tangents(x.problem.inner, *x.at, None, *columns)
    near(gradient, x.gradient)
    near(changes[:, 0], expected)
    near(changes[:, 1], x.hessian @ v)


@given(st.data())
def test_the_outer_loss_and_the_initial_point(data: st.DataObject) -> None:
    x = Point(data)
    slope = x.numbers.outer_theta(x.lam_numbers, x.theta_numbers, slice(None))
    direct = x.numbers.outer_lam(x.lam_numbers, x.theta_numbers)
    by_lam, by_theta = outer_gradients(x.problem.outer, *x.at, None)
    near(by_lam, direct)
    near(by_theta, slope)
    near(outer_theta_gradient(x.problem.outer, *x.at, None), slope)
    along = outer_directional(x.problem.outer, *x.at, None, x.u, x.v)
    near(along.reshape(1), np.array([direct @ _numbers(x.u) + slope @ _numbers(x.v)]))
    jacobian = x.numbers.initial_jacobian(x.lam_numbers)
    for with_products in (False, True):
        initial = initial_point(x.numbers, with_products)
        near(initial_vjp(initial, x.lam, x.v), _numbers(x.v) @ jacobian)
        near(initial_jvp(initial, x.lam, x.u), jacobian @ _numbers(x.u))


def test_the_identity_is_its_own_product() -> None:
    initial, lam = identity_initial(), torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert torch.equal(initial(lam), lam)
    assert torch.equal(initial_vjp(initial, lam, 3 * lam), 3 * lam)
    assert torch.equal(initial_jvp(initial, lam, 3 * lam), 3 * lam)


LAM, THETA = torch.ones(2, dtype=torch.float64), torch.ones(3, dtype=torch.float64)


def test_what_nothing_depends_on_has_a_derivative_of_zero() -> None:
    def linear(lam: Tensor, theta: Tensor, _: Batch) -> Tensor:
        return theta.sum() + 0 * lam.sum()

    _, products = inner_gradient_and_products(linear, LAM, THETA, None)
    hessian_v, v_mixed = products(THETA)
    assert torch.equal(hessian_v, torch.zeros(3, dtype=torch.float64))
    assert torch.equal(v_mixed, torch.zeros(2, dtype=torch.float64))
    by_lam, _ = outer_gradients(lambda _, theta, __: theta.sum(), LAM, THETA, None)
    assert torch.equal(by_lam, torch.zeros(2, dtype=torch.float64))
    assert torch.equal(initial_vjp(FixedInitial(THETA), LAM, THETA), 0 * LAM)


def attention(theta: Tensor) -> Tensor:
    """Fused attention, which torch cannot differentiate twice."""
    heads = torch.cat([theta, theta]).reshape(1, 1, 3, 2)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        return torch.nn.functional.scaled_dot_product_attention(heads, heads, heads).square().sum()


def test_a_separable_loss_needs_no_second_derivative_of_the_network() -> None:
    weights = torch.linspace(0.5, 1.5, 6, dtype=torch.float64).reshape(3, 2)

    def regulariser(lam: Tensor, theta: Tensor) -> Tensor:
        return ((weights @ lam) * theta.square()).sum()

    plain = BilevelProblem(
        lambda lam, theta, _: attention(theta) + regulariser(lam, theta),
        lambda _lam, theta, _: theta.sum(),
        FixedInitial(THETA),
    )
    separable = Separable(lambda theta, _: attention(theta), regulariser)
    gradient, mixed = inner_gradient_and_mixed(separable, LAM, THETA, None)
    near(mixed(THETA), _numbers(2 * THETA.square() @ weights))
    near(gradient, _numbers(inner_gradient(plain.inner, LAM, THETA, None)))
    for loss in (plain.inner, separable):
        with pytest.raises(MissingProductError, match=r"declare the problem's structure"):
            inner_gradient_and_products(loss, LAM, THETA, None)[1](THETA)
        with pytest.raises(MissingProductError, match="second-order"):
            hessian_product_function(loss, LAM, THETA, None)(THETA)
    # Autograd walks only where λ is, so the mixed product of a plain sum is had without it too.
    near(
        inner_gradient_and_mixed(plain.inner, LAM, THETA, None)[1](THETA),
        _numbers(mixed_product(separable, LAM, THETA, None, THETA)),
    )


def test_a_kernel_without_forward_mode_is_explained() -> None:
    composed = Composed(
        lambda theta, _: attention(theta).reshape(1), lambda lam, z, _: z.exp().sum() * lam.sum()
    )
    _, mixed = inner_gradient_and_mixed(composed, LAM, THETA, None)
    with pytest.raises(MissingProductError, match=r"forward-mode derivatives.*SDPBackend\.MATH"):
        mixed(THETA)


def test_an_error_of_another_kind_is_left_alone() -> None:
    _, products = inner_gradient_and_products(
        lambda lam, theta, _: (theta.square() * lam.sum()).sum(), LAM, THETA, None
    )
    products(THETA)
    with pytest.raises(RuntimeError, match="second time"):
        products(THETA)  # may be used once


def test_the_size_of_a_recorded_graph_grows_with_the_data_it_holds() -> None:
    def loss(rows: int) -> Composed:
        x = torch.ones(rows, 3, dtype=torch.float64)
        return Composed(lambda theta, _: (x @ theta).exp(), lambda lam, z, _: z.sum() * lam.sum())

    few, many = (recorded_bytes(loss(rows), LAM, THETA, None) for rows in (10, 1000))
    # At least the exponentials themselves.
    assert many - few >= 990 * 8
    assert few < many


@pytest.mark.parametrize("structure", Structure)
def test_the_same_function_in_every_structure(structure: Structure) -> None:
    numbers = ExplicitNumbers.random(1, 2, 3, moving_start=False)
    stated, plain = tensor_problem(numbers, structure), tensor_problem(numbers)
    near(
        stated.inner(LAM, THETA, None).reshape(1),
        _numbers(plain.inner(LAM, THETA, None).reshape(1)),
    )
