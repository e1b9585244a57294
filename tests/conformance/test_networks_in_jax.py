"""Networks and losses in plain JAX, right and wrong, in both precisions. All marked full: 8 s each.

The losses have the formulas of optax, which is not needed here; `ordinary_jax` judges those of optax itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from refblo import hypergradient_report
from refblo.conformance.in_jax.arguments import X64_OFF
from refblo.conformance.report import Verdict

jax = pytest.importorskip("jax", reason="the extra `jax` is not installed")
jnp = jax.numpy

from tests.conformance.ordinary_jax.every_network import NETWORKS  # noqa: E402  (it imports jax)

STEPS, STEP_SIZE = 4, 0.05
PRECISIONS = ["float32", "float64"]

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
    named = {name: 0.4 * array(*shape) for name, shape in built.shapes.items()}
    theta = built.held(named)
    lam = {"decay": -2 + 0.1 * array(len(named)), "shift": 0.1 * array(3)}

    def inner(lam: Any, theta: Any) -> Any:
        squares = [(value**2).sum() for value in built.flat(theta).values()]
        decay = sum(jnp.exp(lam["decay"][i]) * square for i, square in enumerate(squares))
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
