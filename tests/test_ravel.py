"""Modules and trees as flat vectors: the round trip, purity, every transform, and every mistake."""

from collections import namedtuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from refblo.errors import ArgumentError, ArgumentTypeError
from refblo.ravel import Layout, module_layout, ravel_module, ravel_tree

Pair = namedtuple("Pair", "left right")


def a_network(seed: int = 0) -> nn.Sequential:
    """Three inputs, two outputs, 4·3 + 4 + 2·4 + 2 = 26 parameters, float64."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def inputs(rows: int = 5) -> Tensor:
    return torch.linspace(-1, 1, 3 * rows, dtype=torch.float64).reshape(rows, 3)


def test_apply_is_the_module() -> None:
    network = a_network()
    theta, apply = ravel_module(network)
    assert theta.shape == (26,)
    assert torch.equal(apply(theta, inputs()), network(inputs()))


def test_the_vector_is_a_copy() -> None:
    network = a_network()
    theta, apply = ravel_module(network)
    before = network(inputs())
    theta.zero_()
    assert torch.equal(network(inputs()), before)
    assert torch.count_nonzero(apply(theta, inputs())) == 0


def test_the_gradient_is_the_modules() -> None:
    network = a_network()
    theta, apply = ravel_module(network)
    network(inputs()).square().sum().backward()
    expected = torch.cat([p.grad.reshape(-1) for p in network.parameters() if p.grad is not None])
    gradient = torch.func.grad(lambda t: apply(t, inputs()).square().sum())(theta)
    # The same kernels on the same numbers: what differs is only how gradients are gathered.
    torch.testing.assert_close(gradient, expected, rtol=1e-15, atol=1e-15)


def test_forward_and_reverse_mode_agree_through_apply() -> None:
    theta, apply = ravel_module(a_network())
    direction, weights = torch.ones_like(theta), torch.ones(5, 2, dtype=torch.float64)
    pushed = torch.func.jvp(lambda t: apply(t, inputs()), (theta,), (direction,))[1]
    at = theta.clone().requires_grad_()
    (pulled,) = torch.autograd.grad(apply(at, inputs()), at, weights)
    forward, backward = (weights * pushed).sum(), pulled @ direction
    assert abs(forward - backward) <= 100 * torch.finfo(torch.float64).eps * abs(forward)


def test_apply_can_be_mapped_over_vectors() -> None:
    theta, apply = ravel_module(a_network())
    many = torch.stack([theta, 2 * theta, -theta])
    mapped = torch.func.vmap(lambda t: apply(t, inputs()))(many)
    single = torch.stack([apply(t, inputs()) for t in many])
    # A batched product may sum its three or four terms in another order.
    torch.testing.assert_close(mapped, single, rtol=1e-14, atol=1e-14)


def test_buffers_enter_and_are_never_written() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
    theta, apply = ravel_module(network)
    first = apply(theta, inputs())
    assert torch.equal(apply(theta, inputs()), first)
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert torch.count_nonzero(norm.running_mean) == 0
    assert norm.num_batches_tracked == 0
    assert torch.equal(network(inputs()), first)


def test_every_call_starts_from_the_same_buffers() -> None:
    class Counting(nn.Module):
        calls: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.calls.add_(1)
            return self.weight * x * self.calls

    theta, apply = ravel_module(Counting())
    assert [apply(theta, torch.ones(1)).item() for _ in range(3)] == [1, 1, 1]


def test_frozen_parameters_are_constants() -> None:
    network = a_network()
    head = network[2]
    assert isinstance(head, nn.Linear)
    head.weight.requires_grad_(False)
    theta, apply = ravel_module(network)
    assert theta.shape == (26 - 8,)
    assert torch.equal(apply(theta, inputs()), network(inputs()))


def test_a_shared_parameter_is_counted_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3, bias=False)
            self.second = nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.second(torch.tanh(self.first(x)))
            return result

    network = Tied().double()
    theta, apply = ravel_module(network)
    assert theta.shape == (9,)
    assert torch.equal(apply(theta, inputs()), network(inputs()))
    changed = apply(2 * theta, inputs())
    expected = torch.tanh(inputs() @ (2 * theta).reshape(3, 3).T) @ (2 * theta).reshape(3, 3).T
    torch.testing.assert_close(
        changed, expected, rtol=1e-14, atol=1e-14
    )  # two products of length 3


def test_a_module_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(ArgumentError, match="module must have at least one trainable parameter"):
        ravel_module(nn.Tanh())
    with pytest.raises(ArgumentError, match="requires_grad=False"):
        ravel_module(nn.Linear(2, 2).requires_grad_(False))


def test_mixed_dtypes_are_refused_by_name() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())
    with pytest.raises(
        ArgumentTypeError,
        match=r"torch.float32 on cpu for '0.weight' and torch.float64.*'1.weight'",
    ):
        ravel_module(network)


def test_mixed_devices_are_refused_by_name() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    with pytest.raises(ArgumentTypeError, match=r"on cpu for '0.weight' and .* on meta"):
        ravel_module(network)


def test_integer_tensors_are_refused() -> None:
    with pytest.raises(ArgumentTypeError, match=r"torch.int64 for \"\['steps'\]\""):
        ravel_tree({"steps": torch.arange(3)})


def test_a_misspelt_name_is_reported() -> None:
    layout = module_layout(nn.Linear(2, 1))
    with pytest.raises(ArgumentError, match="got wieght but no weight; look for a misspelt name"):
        layout.flatten({"wieght": torch.ones(1, 2), "bias": torch.ones(1)})


def test_a_wrong_shape_is_reported() -> None:
    layout = module_layout(nn.Linear(2, 1))
    with pytest.raises(
        ArgumentError, match=r"tensors\['weight'\] must have shape \(1, 2\), got \(2, 1\)"
    ):
        layout.flatten({"weight": torch.ones(2, 1), "bias": torch.ones(1)})


def test_a_vector_of_the_wrong_length_is_reported() -> None:
    _, apply = ravel_module(nn.Linear(2, 1))
    with pytest.raises(ArgumentError, match=r"vector must have shape \(3,\), got \(4,\)"):
        apply(torch.ones(4), torch.ones(1, 2))


def test_a_layout_takes_a_state_dict_in_any_order() -> None:
    network = a_network()
    state = dict(reversed(network.state_dict().items()))
    assert torch.equal(module_layout(network).flatten(state), ravel_module(network)[0])


def test_a_tree_keeps_its_structure() -> None:
    tree = {"a": torch.ones(2), "b": [torch.zeros(1, 3), Pair(torch.ones(()), (torch.ones(1),))]}
    vector, unravel = ravel_tree(tree)
    assert vector.tolist() == [1, 1, 0, 0, 0, 1, 1]
    again = unravel(vector)
    assert isinstance(again, dict)
    assert list(again) == ["a", "b"]
    assert isinstance(again["b"][1], Pair)
    assert isinstance(again["b"][1].right, tuple)
    assert torch.equal(ravel_tree(again)[0], vector)


def test_a_leaf_that_is_no_tensor_is_reported_with_its_place() -> None:
    tree = {"a": [torch.ones(1), 3.0]}
    with pytest.raises(ArgumentTypeError, match=r"got float at tree\['a'\]\[1\]"):
        ravel_tree(tree)


def test_an_empty_tree_is_refused() -> None:
    with pytest.raises(ArgumentError, match="tree must have at least one"):
        ravel_tree([])


shapes = st.lists(st.lists(st.integers(0, 3), max_size=3).map(tuple), min_size=1, max_size=4)


@given(shapes=shapes, seed=st.integers(0, 1000))
def test_flattening_and_unflattening_are_inverse(shapes: list[tuple[int, ...]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        f"t{i}": torch.randn(shape, generator=generator, dtype=torch.float64)
        for i, shape in enumerate([*shapes, (1,)])
    }
    layout = Layout.of(tensors, "tensors")
    vector = layout.flatten(tensors)
    assert vector.shape == (sum(layout.sizes),)
    restored = layout.unflatten(vector)
    assert list(restored) == list(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(restored[name], tensor)
