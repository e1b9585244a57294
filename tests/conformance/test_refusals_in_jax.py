"""Losses in JAX that cannot be judged: the error says why. About 4 s."""

from typing import Any

import numpy as np
import pytest
import torch

from refblo import hypergradient_report
from refblo.errors import ArgumentError, ArgumentTypeError, OracleError

jax = pytest.importorskip("jax", reason="the extra `jax` is not installed")
jnp = jax.numpy


def simple(lam: Any, theta: Any) -> Any:
    return ((theta - lam) ** 2).sum() + 0.1 * (theta**4).sum()


def outer(_: Any, theta: Any) -> Any:
    return (theta**2).sum()


@jax.custom_vjp  # type: ignore[untyped-decorator]  # JAX is imported as Any
def _squared(x: Any) -> Any:
    return x**2


_squared.defvjp(lambda x: (x**2, x), lambda x, weight: (2.1 * x * weight,))

ONES, HIDDEN, CALLS = jnp.ones(2), np.random.default_rng(1), iter(range(9))
BAD: dict[str, tuple[tuple[Any, ...], type[Exception], str]] = {
    "theta0 in torch": (
        (simple, outer, ONES, torch.ones(2), ONES),
        ArgumentTypeError,
        "theta0 must be a JAX array as the others are, got a torch tensor",
    ),
    "integers": (
        (simple, outer, jnp.array([1, 2]), ONES, ONES),
        ArgumentTypeError,
        "lam must be a JAX array of float32 or float64, got .* of int32",
    ),
    "a key": (
        (simple, outer, {"w": ONES, "rng": jax.random.PRNGKey(0)}, ONES, ONES),
        ArgumentTypeError,
        r"lam\['rng'\] must be a JAX array of float32 or float64, got .* of uint32; leave counters and keys",
    ),
    "a typed key": (
        (simple, outer, ONES, {"w": ONES, "rng": jax.random.key(0)}, ONES),
        ArgumentTypeError,
        r"theta0\['rng'\] must be .*; leave counters and keys out",
    ),
    "bfloat16": (
        (simple, outer, ONES.astype(jnp.bfloat16), ONES, ONES),
        ArgumentTypeError,
        "of bfloat16; convert it",
    ),
    "no answer": (
        (simple, outer, ONES, ONES, lambda _: None),
        ArgumentError,
        "hypergradient must have at least one array, got none",
    ),
    "another shape": (
        (simple, outer, ONES, ONES, jnp.ones(3)),
        ArgumentError,
        r"hypergradient must have the shape of lam, \(2,\), got \(3,\)",
    ),
    "a loss of several numbers": (
        (lambda _, theta: theta, outer, ONES, ONES, ONES),
        ArgumentError,
        r"must return a scalar tensor, got shape \(2,\)",
    ),
    "a loss of nothing": (
        (lambda _, __: None, outer, ONES, ONES, ONES),
        ArgumentTypeError,
        "inner must return one number, got NoneType",
    ),
    "a start that changes": (
        (simple, outer, ONES, lambda _: [ONES] * (1 + next(CALLS)), ONES),
        ArgumentError,
        r"theta0\(lam\) must have as many arrays as theta0, 1, got [23]",
    ),
    "randomness": (
        (
            lambda lam, theta: simple(lam, theta) * (1 + 0.01 * HIDDEN.normal()),
            outer,
            ONES,
            2 * ONES,
            ONES,
        ),
        OracleError,
        "hidden randomness",
    ),
    "a wrong custom_vjp": (
        (simple, lambda _, theta: _squared(theta).sum(), ONES, 2 * ONES, ONES),
        OracleError,
        "look for jax.lax.stop_gradient .* a wrong jax.custom_vjp",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_judged_is_said(case: str) -> None:
    arguments, error, text = BAD[case]
    with pytest.raises(error, match=text):
        hypergradient_report(*arguments, steps=1, step_size=0.1)
