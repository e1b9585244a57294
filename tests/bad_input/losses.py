"""Losses that have no hypergradient."""

from dataclasses import replace

import torch
from torch import Tensor

from refblo.errors import (
    LossError,
    MissingProductError,
)
from refblo.estimators import (
    RMD,
)
from refblo.problem import (
    BilevelProblem,
    FixedInitial,
)
from refblo.types import Batch
from tests.bad_input.case import (
    GOOD,
    LAM,
    RULE,
    SCHEDULE,
    THETA,
    Case,
    counting_inner,
    hypergradient,
    inner,
    with_inner,
    with_outer,
)


def loss_cases() -> dict[str, Case]:
    """Losses without a hypergradient."""
    scalar, deterministic = "return a scalar tensor", "be a deterministic function"
    kind = "return the dtype and device of theta (torch.float64 on cpu)"
    on_theta = "depend on theta"
    return {
        "inner a vector": Case(
            with_inner(lambda lam, theta, _: theta * lam.sum()),
            LossError,
            "inner",
            scalar,
            "got shape (3,)",
            "sum or average",
        ),
        "outer a vector of one entry": Case(
            with_outer(lambda _, theta, __: theta[:1]),
            LossError,
            "outer",
            scalar,
            "got shape (1,)",
            "sum or average its terms",
        ),
        "outer a plain number": Case(
            with_outer(lambda _, theta, __: theta.sum().item()),
            LossError,
            "outer",
            scalar,
            "got float",
            "do not call .item()",
        ),
        "inner in half the precision": Case(
            with_inner(lambda lam, theta, _: inner(lam, theta, None).float()),
            LossError,
            "inner",
            kind,
            "got torch.float32 on cpu",
            "look for a constant",
        ),
        "inner mixes dtypes": Case(
            with_inner(lambda lam, theta, _: (theta @ THETA.float()) * lam.sum()),
            LossError,
            "inner",
            "be a function of lam of shape (2,), theta of shape (3,) (both torch.float64 on cpu)",
            "got an error from it",
            "compare with the shapes, dtypes and devices",
        ),
        "outer on another device": Case(
            with_outer(lambda _, theta, __: theta.to("meta").sum()),
            LossError,
            "outer",
            kind,
            "got torch.float64 on meta",
            "look for a constant",
        ),
        "inner not finite": Case(
            with_inner(lambda lam, theta, _: inner(lam, theta, None) / 0),
            LossError,
            "inner",
            "be finite at the initial point",
            "got inf",
            "start at another point",
        ),
        "outer not finite": Case(
            with_outer(lambda _, theta, __: (-theta).log().sum()),
            LossError,
            "outer",
            "be finite at the initial point",
            "got nan",
            "start at another point",
        ),
        "inner does not depend on θ": Case(
            with_inner(lambda lam, theta, _: inner(lam, theta.detach(), None)),
            LossError,
            "inner",
            on_theta,
            "got a value without a graph to theta",
            ".detach()",
        ),
        "outer does not depend on θ": Case(
            with_outer(lambda lam, _, __: lam.sum()),
            LossError,
            "outer",
            on_theta,
            "got a value without a graph to theta",
            "look for",
        ),
        "nothing depends on λ": Case(
            with_inner(lambda _, theta, __: theta.square().sum()),
            LossError,
            "inner",
            "depend on lam",
            "got no graph to lam (outer does not depend on it either)",
            "use lam inside inner",
        ),
        "only the outer loss depends on λ": Case(
            lambda: hypergradient(
                BilevelProblem(
                    lambda _, theta, __: theta.square().sum(),
                    lambda lam, theta, _: lam.sum() * theta.sum(),
                    FixedInitial(THETA),
                )
            ),
            LossError,
            "inner",
            "depend on lam",
            "got no graph to lam (outer depends on it directly only)",
            "give LamInitial",
        ),
        "λ only added on": Case(
            with_inner(lambda lam, theta, _: theta.square().sum() + lam.sum()),
            MissingProductError,
            "inner",
            "have a mixed derivative",
            "got a gradient in theta that does not depend on lam",
            "couple lam with theta",
        ),
        "inner changes from call to call": Case(
            counting_inner(),
            LossError,
            "inner",
            deterministic,
            "and then",
            "draw its randomness through the problem's batches",
        ),
        "a kernel without a second derivative": Case(
            lambda: RMD(RULE, SCHEDULE).estimate(
                replace(GOOD, inner=once_differentiable_inner), LAM
            ),
            MissingProductError,
            "inner",
            "have second-order products",
            "got a kernel without them",
            "declare the problem's structure (Separable or Composed)",
        ),
    }


def once_differentiable_inner(lam: Tensor, theta: Tensor, _: Batch) -> Tensor:
    """A loss through fused attention, which torch differentiates only once."""
    heads = torch.cat([theta, theta]).reshape(1, 1, 3, 2)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        mixed = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)
    return mixed.square().sum() * lam.sum().exp()
