"""Wrong batches, initial points and closed-form products."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from refblo.errors import (
    ArgumentError,
)
from tests.bad_input.case import (
    GOOD,
    LAM,
    THETA,
    Case,
    changing,
    counting_batches,
    empty_batches,
    hypergradient,
    lam_initial,
    vector,
    with_products,
)


def without_gradients() -> Tensor:
    with torch.no_grad():
        return hypergradient(GOOD)


def part_cases() -> dict[str, Case]:
    """The other parts of a problem: batches, initial point, closed-form products."""
    step = "be a function of (draws, stream, step)"
    return {
        "a call without gradients": Case(
            without_gradients,
            ArgumentError,
            "grad mode",
            "must be on around the call",
            "got torch.no_grad()",
            "leave that block",
        ),
        "inner batches of size 0": Case(
            empty_batches("inner_batches"),
            ArgumentError,
            "inner_batches",
            "give batches of at least one element",
            "got shape (0,)",
            "choose a batch size",
        ),
        "outer batches of size 0": Case(
            empty_batches("outer_batches"),
            ArgumentError,
            "outer_batches",
            "give batches of at least one element",
            "got shape (0,)",
            "choose a batch size",
        ),
        "inner batches from a generator of their own": Case(
            counting_batches("inner_batches"),
            ArgumentError,
            "inner_batches",
            step,
            "got two different batches",
            "draw from the `draws`",
        ),
        "outer batches from a generator of their own": Case(
            counting_batches("outer_batches"),
            ArgumentError,
            "outer_batches",
            step,
            "got two different batches",
            "draw from the `draws`",
        ),
        "an initial point that changes": Case(
            lam_initial(
                cast("Callable[[Tensor], Tensor]", changing(lambda call: vector(call, 1, 2)))
            ),
            ArgumentError,
            "initial",
            "be a deterministic function of lam",
            "got two different points",
            "draw its randomness beforehand",
        ),
        "an initial point without λ": Case(
            lam_initial(lambda _: THETA),
            ArgumentError,
            "initial",
            "depend on lam",
            "got a point without a graph to lam",
            "use FixedInitial",
        ),
        "a transposed product of the initial point": Case(
            lam_initial(lambda lam: THETA * lam.sum(), vjp=lambda _, v: v),
            ArgumentError,
            "initial.vjp",
            "return a vector of shape (2,)",
            "got shape (3,)",
            "see its docstring for the shapes",
        ),
        "a transposed forward product of the initial point": Case(
            lam_initial(lambda lam: THETA * lam.sum(), jvp=lambda _, u: u),
            ArgumentError,
            "initial.jvp",
            "return a vector of shape (3,)",
            "got shape (2,)",
            "see its docstring for the shapes",
        ),
        "a regulariser's gradient of a wrong length": Case(
            with_products(LAM, LAM),
            ArgumentError,
            "inner.products.gradient",
            "return a vector of shape (3,)",
            "got shape (2,)",
            "see its docstring for the shapes",
        ),
        "a transposed mixed product": Case(
            with_products(THETA, THETA),
            ArgumentError,
            "inner.products.mixed",
            "return a vector of shape (2,)",
            "got shape (3,)",
            "see its docstring for the shapes",
        ),
    }
