"""Losses in JAX: pytrees, steps, control flow, and mistakes with the names they have in torch; about 4 s."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from refblo import hypergradient_report
from refblo.conformance.report import Verdict

jax = pytest.importorskip("jax", reason="the extra `jax` is not installed")
jnp = jax.numpy

STEPS, STEP_SIZE = 4, 0.05

MISTAKES: dict[str, Callable[[Any], Any]] = {
    "scaled": lambda h: 1.3 * h,
    "wrong sign": lambda h: -h,
    "one entry wrong": lambda h: h * np.array([1.0, 1.0, 2.0]),
    "order": lambda h: h[::-1],
}


@pytest.mark.full
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_has_the_name_that_its_twin_in_torch_has(mistake: str) -> None:
    weights = np.array([[1.0, 0.3, -0.2], [0.1, 0.8, 0.5]])

    def losses(xp: Any, w: Any) -> tuple[Any, Any]:
        def inner(lam: Any, theta: Any) -> Any:
            return xp.exp(-theta @ theta) + (theta - w @ lam) @ (theta - w @ lam)

        return inner, lambda lam, theta: (theta * theta * theta).sum() + (lam * lam).sum()

    def change(h: Any) -> Any:
        return MISTAKES[mistake](np.array(h))

    with jax.enable_x64(True):
        inner, outer = losses(jnp, jnp.asarray(weights))
        lam, theta = jnp.array([0.3, -0.5, 0.9]), jnp.array([0.2, 0.4])

        def run(lam: Any) -> Any:
            at = theta
            for _ in range(STEPS):
                at = at - STEP_SIZE * jax.grad(inner, 1)(lam, at)
            return outer(lam, at)

        here = hypergradient_report(
            inner,
            outer,
            lam,
            theta,
            lambda lam: jnp.asarray(change(jax.grad(run)(lam))),
            steps=STEPS,
            step_size=STEP_SIZE,
        )
    inner_torch, outer_torch = losses(torch, torch.from_numpy(weights))

    def mine(lam: Tensor) -> Tensor:
        lam = lam.clone().requires_grad_()
        at = torch.tensor([0.2, 0.4], dtype=torch.float64, requires_grad=True)
        for _ in range(STEPS):
            (slope,) = torch.autograd.grad(inner_torch(lam, at), at, create_graph=True)
            at = at - STEP_SIZE * slope
        (found,) = torch.autograd.grad(outer_torch(lam, at), lam)
        return torch.from_numpy(change(found.numpy()).copy())

    twin = hypergradient_report(
        inner_torch,
        outer_torch,
        torch.tensor([0.3, -0.5, 0.9], dtype=torch.float64),
        torch.tensor([0.2, 0.4], dtype=torch.float64),
        mine,
        steps=STEPS,
        step_size=STEP_SIZE,
    )
    assert here.verdict is twin.verdict is Verdict.WRONG
    assert here.diagnosis is not None
    assert twin.diagnosis is not None
    assert here.diagnosis.name == twin.diagnosis.name


class Parameters(NamedTuple):
    """A pytree that is no dict, list or tuple of its own."""

    w: Any
    b: Any


def simple(lam: Any, theta: Any) -> Any:
    return ((theta - lam) ** 2).sum() + 0.1 * (theta**4).sum()


def outer(_: Any, theta: Any) -> Any:
    return (theta**2).sum()


def test_a_pytree_of_another_kind_a_start_that_moves_and_batches() -> None:
    lam = jnp.array([0.4, -0.3])
    batches = [(jnp.full(2, 0.1 * t), jnp.array(t)) for t in range(3)]

    def start(lam: Any) -> Parameters:
        return Parameters(jnp.sin(lam), lam.sum())

    def inner(lam: Any, theta: Any, batch: Any) -> Any:
        return ((theta.w - lam * batch[0]) ** 2).sum() + theta.b**2 * (1 + batch[1])

    def last(_: Any, theta: Any) -> Any:
        return (theta.w**3).sum() + theta.b

    def trained(lam: Any) -> Any:
        theta = start(lam)
        for batch in batches:
            slope = jax.grad(inner, 1)(lam, theta, batch)
            theta = jax.tree.map(lambda a, g: a - 0.1 * g, theta, slope)
        return last(lam, theta)

    options: dict[str, Any] = {
        "steps": 3,
        "step_size": 0.1,
        "inner_batches": batches,
        "diagnosis_seconds": 0,
    }
    for factor, verdict in ((1.0, Verdict.RIGHT), (1.01, Verdict.WRONG)):
        report = hypergradient_report(
            inner, last, lam, start, lambda lam, c=factor: c * jax.grad(trained)(lam), **options
        )
        assert report.verdict is verdict


@pytest.mark.full
def test_a_step_of_ones_own() -> None:
    lam, theta = jnp.array([0.4, -0.3]), jnp.ones(2)

    def step(lam: Any, state: Any, t: int) -> Any:
        at, velocity = state
        velocity = 0.9 * velocity + jax.grad(simple, 1)(lam, at)
        return at - 0.05 / (1 + t) * velocity, velocity

    def trained(lam: Any) -> Any:
        state = (theta, jnp.zeros(2))
        for t in range(3):
            state = step(lam, state, t)
        return outer(lam, state[0])

    found = jax.grad(trained)(lam)
    options: dict[str, Any] = {"steps": 3, "step": step, "diagnosis_seconds": 0}
    for factor, verdict in ((1.0, Verdict.RIGHT), (1.01, Verdict.WRONG)):
        report = hypergradient_report(
            None, outer, lam, (theta, jnp.zeros(2)), factor * found, **options
        )
        assert report.verdict is verdict


@pytest.mark.full
def test_control_flow_by_numbers_is_run_as_it_is() -> None:
    lam, theta = jnp.array([0.4, -0.3]), jnp.ones(2)

    def branching(lam: Any, theta: Any) -> Any:
        return simple(lam, theta) if theta[0] > 0.5 else 2 * simple(lam, theta)

    def trained(lam: Any) -> Any:
        return outer(lam, theta - 0.1 * jax.grad(branching, 1)(lam, theta))

    report = hypergradient_report(
        branching, outer, lam, theta, jax.grad(trained), steps=1, step_size=0.1
    )
    assert report.verdict is Verdict.RIGHT


@pytest.mark.full
def test_a_function_that_only_returns_what_was_computed_is_judged_as_that() -> None:
    code = """
import jax, jax.numpy as jnp
from refblo import hypergradient_is_right
inner = lambda lam, theta: jnp.sum((theta - lam) ** 4) / 4
outer = lambda lam, theta: jnp.sum(theta**2)
lam, theta0 = jnp.array([1.0, 2.0]), jnp.zeros(2)
trained = lambda lam: outer(lam, theta0 - 0.1 * jax.grad(inner, 1)(lam, theta0))
right, wrong = jax.grad(trained)(lam), 1.5 * jax.grad(trained)(lam)
for mine in (lambda lam: right), (lambda lam: wrong):
    options = {"steps": 1, "step_size": 0.1, "diagnosis_seconds": 0}
    print(hypergradient_is_right(inner, outer, lam, theta0, mine, **options))
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["True", "False"]), done.stderr
