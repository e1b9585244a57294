"""A kernel gives what its function gives, to the last bit, and leaves everybody's memory alone."""

from collections.abc import Callable
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from refblo.kernel import Tensors, emit, trace

SIDE = 3
Step = tuple[str, int, int]
DATA = torch.linspace(-1.3, 2.1, SIDE * SIDE, dtype=torch.float64).reshape(SIDE, SIDE)
DATA_TOO = DATA.square()


def sloped(x: Tensor, y: Tensor) -> Tensor:
    """∂/∂x Σ (y·sin x + x·y²/2), with all that autograd writes down for it."""
    at = x.detach().requires_grad_()
    value = (y * at.sin()).sum() + 0.5 * (at * y.square()).sum()
    (slope,) = torch.autograd.grad(value, at)
    return slope


def over(x: Tensor, y: Tensor) -> Tensor:
    """A copy of x, written to, once as a whole and once in part."""
    copy = x.clone()
    copy.add_(y)
    copy[0].mul_(y[1])
    return copy


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda x, y: x + y,
    "difference": lambda x, y: torch.sub(x, y, alpha=0.3),
    "product": lambda x, y: x * y,
    "quotient": lambda x, y: x / (1 + y.square()),
    "times a number": lambda x, _: 0.7 * x,
    "times one": lambda x, _: x * torch.ones_like(x),
    "times a spread number": lambda x, _: x * (0.1 * x.new_ones(())).expand(SIDE, SIDE),
    "plus zeros": lambda x, _: x + torch.zeros_like(x),
    "first power": lambda x, _: x.pow(1.0),
    "zeroth power": lambda x, y: x.pow(0.0) * y,
    "square": lambda x, _: x.pow(2),
    "root": lambda x, _: x.sqrt(),  # often of a negative number
    "copy": lambda x, _: x.clone(),
    "across": lambda x, _: x.t(),
    "a row": lambda x, _: x[1].expand(SIDE, SIDE),
    "a column": lambda x, _: x[:, 2].unsqueeze(1).expand(SIDE, SIDE),
    "matrix product": lambda x, y: x @ y,
    "halves": lambda x, y: torch.cat([*torch.split(x, 2)[:1], y[:1]]),
    "choice": lambda x, y: torch.where(x > y, x, y),
    "data": lambda x, _: x * DATA,
    "whole numbers": lambda x, y: x * (2 * (y > 0).long()),
    "slope": sloped,
    "written to": over,
}


def program(steps: list[Step], returned: list[int]) -> Callable[[Tensor, Tensor], Tensors]:
    """A function of two matrices: each step works on results so far, counted from the last."""

    def function(a: Tensor, b: Tensor) -> Tensors:
        made = [a, b]
        for name, i, j in steps:
            made.append(OPERATIONS[name](made[-1 - i % len(made)], made[-1 - j % len(made)]))
        return tuple(made[-1 - i % len(made)] for i in returned)

    return function


def same(a: Tensor, b: Tensor) -> bool:
    """Bit by bit, but for the bits of what is no number."""
    kinds = {torch.float64: torch.int64, torch.bfloat16: torch.int16}
    one, other = (torch.where(x.isnan(), 0.5, x).contiguous().view(kinds[x.dtype]) for x in (a, b))
    return torch.equal(one, other) and torch.equal(a.isnan(), b.isnan())


steps = st.lists(
    st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 5), st.integers(0, 5)),
    min_size=1,
    max_size=12,
)


@given(steps, st.lists(st.integers(0, 4), min_size=1, max_size=3), st.integers(0, 2**31))
def test_every_program_gives_its_bits(steps: list[Step], returned: list[int], seed: int) -> None:
    function = program(steps, returned)
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, SIDE, SIDE, generator=generator, dtype=torch.float64)
    with patch.object(emit, "SMALL", 0):  # or nothing would write over anything
        kernel = trace(function, (a, b), "eager")
    for x, y in ((a, b), (b, a + 1)):
        kept, expected = (x.clone(), y.clone(), DATA.clone()), function(x, y)
        found = kernel(x, y)
        assert all(same(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
        assert all(same(now, then) for now, then in zip((x, y, DATA), kept, strict=True))


def in_half(x: Tensor) -> Tensors:
    tenth = torch.ones(SIDE, dtype=torch.bfloat16) * torch.full((), 0.1, dtype=torch.float64)
    return (2 * (x.bfloat16() * tenth),)


def itself_across(x: Tensor) -> Tensors:
    y = 2 * x
    return (y * y.t(),)


def a_piece_is_read_later(x: Tensor) -> Tensors:
    y = 2 * x
    first, _ = torch.split(y, [1, 2])
    z = y + 1
    return (z * first,)


# What must not be left out or written over, though it nearly could.
PITFALLS: dict[str, Callable[[Tensor], Tensors]] = {
    "a tensor is read through a view of it": itself_across,
    "a piece of a tensor is read after it": a_piece_is_read_later,
    "another order in memory": lambda x: (2 * (x.t() + 3 * x).t().view(-1),),
    "a first power that is a copy": lambda x: (2 * x[1].expand(SIDE, SIDE).pow(1.0).view(-1),),
    "a product with ones that makes a matrix": lambda x: (2 * (x[:1] * torch.ones_like(x)),),
    "two sets of data": lambda x: (x * DATA + DATA_TOO,),
    "a number in half precision": in_half,
    "a whole number": lambda x: (x / (2 * (x > 0).long() + 1),),
    "twice a whole number": lambda x: (torch.zeros_like(x).index_select(0, 2 * (x[0] > 0).long()),),
}


@pytest.mark.parametrize("name", PITFALLS)
def test_what_looks_superfluous_is_kept(name: str) -> None:
    x, function = DATA + 0.25, PITFALLS[name]
    with patch.object(emit, "SMALL", 0):
        kernel = trace(function, (x,), "eager")
    assert all(same(a, b) for a, b in zip(kernel(x), function(x), strict=True))


def test_what_is_returned_may_be_written_to() -> None:
    x = torch.ones(3, dtype=torch.float64)

    def function(a: Tensor) -> Tensors:
        doubled = 2 * a
        return doubled, doubled.clone(), a.clone(), DATA.clone(), torch.zeros_like(a)

    kernel = trace(function, (x,), "eager")
    data = DATA.clone()
    for result in kernel(x):
        result.fill_(9.0)
    assert torch.equal(x, torch.ones_like(x))
    assert torch.equal(data, DATA)
    expected = function(x)
    assert all(torch.equal(a, b) for a, b in zip(kernel(x), expected, strict=True))
    first, second, *_ = kernel(x)
    first.fill_(9.0)
    assert torch.equal(second, expected[1])


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_data_are_read_at_each_call(shape: tuple[int, ...]) -> None:
    data, x = torch.full(shape, 2.0), torch.ones(3)
    kernel = trace(lambda a: (a * data,), (x,), "eager")
    data.fill_(5.0)
    assert torch.equal(kernel(x)[0], 5 * x)


def test_data_that_require_a_gradient_are_data() -> None:
    data, x = torch.ones(2000, requires_grad=True), torch.ones(2000)
    found = trace(lambda a: ((a * data).sin() + a,), (x,), "eager")(x)[0]
    assert not found.requires_grad
    assert torch.equal(found, x.sin() + x)


def test_a_step_of_gradient_descent_is_its_arithmetic() -> None:
    weights = torch.linspace(0.5, 2, 4)

    def step(lam: Tensor, theta: Tensor) -> Tensors:
        at = theta.detach().requires_grad_()
        loss = 0.5 * (weights * (at - lam) ** 2).sum() + 0.1 * at.cos().sum()
        (slope,) = torch.autograd.grad(loss, at)
        return (theta - 0.1 * slope,)

    kernel = trace(step, (torch.zeros(4), torch.ones(4)), "eager")
    # θ − λ, times 2, w/2, their product; sin θ, its negative, a tenth of it; both together; a tenth of them,
    # and the step. The loss itself is not among them.
    assert kernel.operations == 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_numbers_keep_the_precision_of_what_they_multiply(dtype: torch.dtype) -> None:
    x = torch.linspace(0.1, 3, 7, dtype=dtype)

    def function(a: Tensor) -> Tensors:
        tenth = torch.full((7,), 0.1, dtype=torch.float64)
        return a * tenth.to(a.dtype), a * tenth, a * torch.full((), 0.1, dtype=torch.float64)

    found, expected = trace(function, (x,), "eager")(x), function(x)
    assert [a.dtype for a in found] == [b.dtype for b in expected]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
