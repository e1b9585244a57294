"""Losses in JAX: ordinary networks and losses, right and wrong, in both precisions. About 8 s.

The names of mistakes are those that the same problem has in torch.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from refblo import hypergradient_report
from refblo.conformance.in_jax.arguments import X64_OFF
from refblo.conformance.report import Verdict
from refblo.errors import ArgumentError, ArgumentTypeError, OracleError

jax = pytest.importorskip("jax", reason="the extra `jax` is not installed")
jnp = jax.numpy

STEPS, STEP_SIZE = 4, 0.05
PRECISIONS = ["float32", "float64"]


@dataclass(frozen=True)
class Network:
    """A function of (parameters, x), and its parameters' shapes."""

    apply: Callable[[Any, Any], Any]
    shapes: dict[str, tuple[int, ...]]


def _attention(p: Any, x: Any) -> Any:
    tokens = x.reshape(x.shape[0], 2, 3)
    q, k, v = (tokens @ p[name] for name in ("q", "k", "v"))
    weights = jax.nn.softmax(q @ k.transpose(0, 2, 1), axis=-1)
    return (weights @ v).mean(1) @ p["o"]


def _recurrent(p: Any, x: Any) -> Any:
    def step(h: Any, column: Any) -> Any:
        return jnp.tanh(column[:, None] * p["i"] + h @ p["h"]), None

    first = jnp.zeros((x.shape[0], 3), x.dtype)
    return jax.lax.scan(step, first, x.T)[0] @ p["o"]


def _convolution(p: Any, x: Any) -> Any:
    found = jax.lax.conv_general_dilated(x[:, None, :], p["w"].astype(x.dtype), (1,), "SAME")
    return jax.nn.gelu(found).mean(-1) @ p["o"].astype(x.dtype)


def _normalised(p: Any, x: Any) -> Any:
    h = x @ p["w"]
    h = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-5)
    return jax.nn.silu(h * p["g"]) @ p["o"]


NETWORKS = {
    "linear": Network(lambda p, x: x @ p["o"], {"o": (6, 3)}),
    "perceptron": Network(lambda p, x: jnp.tanh(x @ p["w"]) @ p["o"], {"w": (6, 4), "o": (4, 3)}),
    "relu": Network(
        lambda p, x: jax.nn.relu(x @ p["w"] + p["b"]) @ p["o"],
        {"w": (6, 4), "b": (4,), "o": (4, 3)},
    ),
    "gelu residual": Network(
        lambda p, x: (x + jax.nn.gelu(x @ p["w"])) @ p["o"], {"w": (6, 6), "o": (6, 3)}
    ),
    "layer norm": Network(_normalised, {"w": (6, 4), "g": (4,), "o": (4, 3)}),
    "convolution": Network(_convolution, {"w": (2, 1, 3), "o": (2, 3)}),
    "recurrent": Network(_recurrent, {"i": (3,), "h": (3, 3), "o": (3, 3)}),
    "attention": Network(_attention, {"q": (3, 2), "k": (3, 2), "v": (3, 2), "o": (2, 3)}),
    "embedding": Network(
        lambda p, x: p["e"][(x[:, :2] > 0).astype(int)].sum(1) @ p["o"], {"e": (2, 3), "o": (3, 3)}
    ),
    "shared weights": Network(
        lambda p, x: jnp.tanh(jnp.tanh(x @ p["w"]) @ p["w"]) @ p["o"], {"w": (6, 6), "o": (6, 3)}
    ),
}

LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    # The formulas of optax's losses of these names; y has entries in (0, 1) and rows that add up to 1.
    "squared_error": lambda z, y: jnp.mean((z - y) ** 2),
    "huber_loss": lambda z, y: jnp.mean(
        jnp.where(jnp.abs(z - y) < 0.3, 0.5 * (z - y) ** 2, 0.3 * jnp.abs(z - y) - 0.045)
    ),
    "log_cosh": lambda z, y: jnp.mean(jnp.logaddexp(z - y, y - z) - jnp.log(2.0)),
    "softmax_cross_entropy": lambda z, y: -jnp.mean((y * jax.nn.log_softmax(z)).sum(-1)),
    "sigmoid_binary_cross_entropy": lambda z, y: (
        -jnp.mean(y * jax.nn.log_sigmoid(z) + (1 - y) * jax.nn.log_sigmoid(-z))
    ),
    "kl_divergence": lambda z, y: jnp.mean((y * (jnp.log(y) - jax.nn.log_softmax(z))).sum(-1)),
    "poisson_nll_loss": lambda z, y: jnp.mean(jnp.exp(z) - y * z),
    "cosine_distance": lambda z, y: jnp.mean(
        1 - (z * y).sum(-1) / jnp.sqrt(((z**2).sum(-1) + 1e-3) * (y**2).sum(-1))
    ),
    "squared_hinge": lambda z, y: jnp.mean(jax.nn.softplus(1 - jnp.sign(y - 0.3) * z) ** 2),
    "focal": lambda z, y: jnp.mean(-((1 - jax.nn.softmax(z)) ** 2) * y * jax.nn.log_softmax(z)),
}


@dataclass(frozen=True)
class Posed:
    """A problem: one weight decay for each tensor, and one weight for each example."""

    inner: Callable[..., Any]
    outer: Callable[..., Any]
    lam: Any
    theta: Any

    def trained(self, lam: Any, *, detached: bool = False) -> Any:
        """The outer loss after training; with a planted truncation, if asked for."""
        theta = self.theta
        for _ in range(STEPS):
            if detached:
                theta = jax.lax.stop_gradient(theta)
            slope = jax.grad(self.inner, 1)(lam, theta)
            theta = jax.tree.map(lambda a, g: a - STEP_SIZE * g, theta, slope)
        return self.outer(lam, theta)


def posed(network: str, loss: str, precision: str) -> Posed:
    """The problem of a network and a loss, from fixed draws."""
    draw = np.random.default_rng(5)
    built, measure = NETWORKS[network], LOSSES[loss]

    def array(*shape: int) -> Any:
        return jnp.asarray(draw.normal(size=shape), precision)

    x, held = array(8, 6), array(8, 6)
    y, held_y = (jax.nn.softmax(array(8, 3), axis=-1) for _ in range(2))
    theta = {name: 0.4 * array(*shape) for name, shape in built.shapes.items()}
    lam = {"decay": -2 + 0.1 * array(len(theta)), "shift": 0.1 * array(3)}

    def inner(lam: Any, theta: Any) -> Any:
        decay = sum(
            jnp.exp(lam["decay"][i]) * (theta[name] ** 2).sum() for i, name in enumerate(theta)
        )
        return measure(built.apply(theta, x) + lam["shift"], y) + decay

    def outer(_: Any, theta: Any) -> Any:
        return measure(built.apply(theta, held), held_y)

    return Posed(inner, outer, lam, theta)


def judged(problem: Posed, hypergradient: Any, **options: Any) -> Any:
    return hypergradient_report(
        problem.inner,
        problem.outer,
        problem.lam,
        problem.theta,
        hypergradient,
        steps=STEPS,
        step_size=STEP_SIZE,
        **options,
    )


def right_and_wrong(network: str, loss: str, precision: str) -> None:
    """The verdicts on right code, and on code that was detached at every step."""
    with jax.enable_x64(precision == "float64"):
        problem = posed(network, loss, precision)
        report = judged(problem, jax.grad(problem.trained))
        assert report.verdict is Verdict.RIGHT, report.describe()
        assert (X64_OFF in report.findings) == (precision == "float32")
        wrong = judged(problem, jax.grad(lambda lam: problem.trained(lam, detached=True)))
        assert wrong.verdict is Verdict.WRONG, wrong.describe()
        assert wrong.diagnosis is not None
        assert wrong.diagnosis.name == "truncated", wrong.describe()


@pytest.mark.full
def test_a_network_is_judged() -> None:
    right_and_wrong("linear", "squared_error", "float64")


@pytest.mark.full
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_judged(loss: str, precision: str) -> None:
    right_and_wrong("linear", loss, precision)


@pytest.mark.full
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_is_judged(network: str, shift: int, precision: str) -> None:
    losses = list(LOSSES)
    loss = losses[(list(NETWORKS).index(network) + shift) % len(losses)]
    right_and_wrong(network, loss, precision)


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
