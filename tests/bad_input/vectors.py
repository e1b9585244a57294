"""Vectors of a wrong type, shape, dtype or device, or not finite."""

from dataclasses import replace

import torch

from refblo.errors import (
    ArgumentError,
    ArgumentTypeError,
    LossError,
)
from tests.bad_input.case import (
    GOOD,
    INF,
    LAM,
    NAN,
    THETA,
    Case,
    hypergradient,
    vector,
    with_direction,
    with_initial,
    with_lam,
)


def vector_cases() -> dict[str, Case]:
    """λ, θ and u of a wrong kind, shape, dtype or device, or not finite."""
    flat = "be a vector with at least one entry"
    kind = "must have the dtype and device of lam"
    floating = "must have a floating-point dtype"
    return {
        "λ a list": Case(
            with_lam([0.5]), ArgumentTypeError, "lam", "be a torch.Tensor", "got list", "convert it"
        ),
        "λ of integers": Case(
            with_lam(torch.ones(2, dtype=torch.int64)),
            ArgumentTypeError,
            "lam",
            floating,
            "got torch.int64",
            "convert it with .to(torch.float64)",
        ),
        "λ a matrix": Case(
            with_lam(LAM[None]), ArgumentError, "lam", flat, "got shape (1, 2)", "flatten it"
        ),
        "λ a scalar": Case(
            with_lam(LAM[0]), ArgumentError, "lam", flat, "got shape ()", "flatten it"
        ),
        "λ empty": Case(with_lam(LAM[:0]), ArgumentError, "lam", flat, "got shape (0,)", "flatten"),
        "λ with a NaN": Case(
            with_lam(vector(1, NAN)),
            ArgumentError,
            "lam",
            "be finite",
            "got nan at position 1",
            "find where this number was computed",
        ),
        "λ infinite": Case(
            with_lam(vector(INF, 0)),
            ArgumentError,
            "lam",
            "be finite",
            "got inf at position 0",
            "find where",
        ),
        "λ of half the precision": Case(
            with_lam(LAM.float()),
            ArgumentTypeError,
            "initial(lam)",
            kind,
            "got torch.float64 on cpu",
            "convert one",
        ),
        "λ on another device": Case(
            with_lam(LAM.to("meta")),
            ArgumentTypeError,
            "initial(lam)",
            f"{kind} (torch.float64 on meta)",
            "got torch.float64 on cpu",
            "convert one of them with .to(...)",
        ),
        "λ of a length the loss cannot take": Case(
            lambda: hypergradient(
                replace(GOOD, inner=lambda lam, theta, _: (THETA[:2] @ lam) * theta.sum()),
                vector(1, 2, 3),
            ),
            LossError,
            "inner",
            "be a function of lam of shape (3,), theta of shape (3,)",
            "got an error from it",
            "compare with the shapes",
        ),
        "θ a list": Case(
            with_initial([1.0]),
            ArgumentTypeError,
            "initial(lam)",
            "be a torch.Tensor",
            "got list",
            "convert it",
        ),
        "θ of integers": Case(
            with_initial(torch.ones(2, dtype=torch.int32)),
            ArgumentTypeError,
            "initial(lam)",
            floating,
            "got torch.int32",
            "convert it with .to(torch.float64)",
        ),
        "θ a matrix": Case(
            with_initial(THETA[:, None]),
            ArgumentError,
            "initial(lam)",
            flat,
            "got shape (3, 1)",
            "refblo.ravel",
        ),
        "θ not finite": Case(
            with_initial(vector(1, 2, -INF)),
            ArgumentError,
            "initial(lam)",
            "be finite",
            "got -inf at position 2",
            "find where",
        ),
        "a direction too short": Case(
            with_direction(vector(1.0)),
            ArgumentError,
            "direction",
            "have the shape of lam (2,)",
            "got (1,)",
            "give one number for each entry of lam",
        ),
        "a direction of half the precision": Case(
            with_direction(LAM.float()),
            ArgumentTypeError,
            "direction",
            kind,
            "got torch.float32",
            "convert one",
        ),
        "a direction of integers": Case(
            with_direction(torch.ones(2, dtype=torch.int64)),
            ArgumentTypeError,
            "direction",
            floating,
            "got torch.int64",
            "convert it",
        ),
        "a direction with a NaN": Case(
            with_direction(vector(NAN, 0)),
            ArgumentError,
            "direction",
            "be finite",
            "got nan",
            "find where",
        ),
    }
