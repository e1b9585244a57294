"""A network and a loss of optax, trained in JAX by an optimiser of optax; the same problem in torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import jax
import numpy as np
import optax
import torch
from jax import numpy as jnp
from torch import Tensor

from refblo.rules import Rule
from tests.conformance.ordinary_jax.every_network import NETWORKS
from tests.conformance.ordinary_jax.losses import LOSSES, ROWS, OptaxLoss
from tests.conformance.ordinary_jax.networks import Network

Tree = dict[str, Any]
STEPS, STEP_SIZE = 3, 0.05


def _same(value: Any, _: int = 0) -> Any:
    return value


@final
@dataclass(frozen=True)
class Setup:
    """A kind of training.

    Attributes:
        name: of it.
        rule: the optimiser, as refblo names it.
        optimiser: the same in optax.
        moving: whether θ⁰ depends on λ.
        batches: whether each step sees inputs of its own.
    """

    name: str
    rule: Rule = field(default_factory=lambda: Rule(STEP_SIZE))
    optimiser: Callable[[], Any] = lambda: optax.sgd(STEP_SIZE)
    moving: bool = False
    batches: bool = False


def _decayed_momentum() -> Any:
    return optax.chain(optax.add_decayed_weights(0.4), optax.sgd(STEP_SIZE, momentum=0.8))


PLAIN = Setup("gradient descent")
MOVING = Setup("start that depends on lam", moving=True)
MOMENTUM = Setup(
    "momentum and weight decay",
    Rule(STEP_SIZE, momentum=0.8, weight_decay=0.4),
    _decayed_momentum,
)
ADAM = Setup(
    "Adam",
    Rule(STEP_SIZE, betas=(0.8, 0.9), adam_epsilon=0.05),
    lambda: optax.adam(STEP_SIZE, b1=0.8, b2=0.9, eps=0.05),
)
BATCHES = Setup("batches", batches=True)
SETUPS = (PLAIN, MOVING, MOMENTUM, ADAM, BATCHES)


@final
@dataclass(frozen=True)
class Functions:
    """The losses of a problem in one framework.

    Attributes:
        inner: (λ, θ), or (λ, θ, inputs), ↦ L_T.
        outer: (λ, θ) ↦ L_V.
        start: λ ↦ θ⁰.
        array: an array of NumPy ↦ one of the framework, in the problem's precision.
    """

    inner: Callable[..., Any]
    outer: Callable[[Any, Any], Any]
    start: Callable[[Any], Any]
    array: Callable[[Any], Any]

    def tree(self, arrays: Tree) -> Tree:
        """A dict of arrays in this framework."""
        return {name: self.array(value) for name, value in arrays.items()}


@final
@dataclass(frozen=True)
class JAXProblem:
    """A training; λ has one weight decay for each tensor of θ, and a shift of each column of scores.

    Attributes:
        network: a key of `NETWORKS`.
        loss: a key of `LOSSES`.
        setup: the kind of training.
        precision: "float64" or "float32".
        seed: of all draws.
    """

    network: str
    loss: str
    setup: Setup
    precision: str
    seed: int

    @property
    def parts(self) -> tuple[Network, OptaxLoss]:
        """The network and the loss."""
        return NETWORKS[self.network], LOSSES[self.loss]

    def draws(self) -> Tree:
        """All numbers, in NumPy."""
        draw = np.random.default_rng(self.seed)
        network, loss = self.parts
        return {
            "x": draw.normal(size=(ROWS, 6)),
            "held": draw.normal(size=(ROWS, 6)),
            "y": loss.targets(draw),
            "held_y": loss.targets(draw),
            "theta": {name: 0.4 * draw.normal(size=s) for name, s in network.shapes.items()},
            "lam": {
                "decay": -2 + 0.1 * draw.normal(size=len(network.shapes)),
                "shift": 0.1 * draw.normal(size=3),
            },
            "batches": [draw.normal(size=(ROWS, 6)) for _ in range(STEPS)],
        }

    @property
    def lam(self) -> Tree:
        """λ, in NumPy."""
        found: Tree = self.draws()["lam"]
        return found

    def in_jax(self) -> Functions:
        """The losses in JAX."""
        network, loss = self.parts

        def array(numbers: Any) -> Any:
            cast = jnp.asarray(numbers)
            return cast.astype(self.precision) if cast.dtype.kind == "f" else cast

        return self._functions(
            network.apply, loss.in_optax, jnp.exp, array, network.held, network.flat
        )

    def in_torch(self) -> Functions:
        """The losses in torch.

        Raises:
            LookupError: if the loss has no twin.
        """
        network, loss = self.parts
        if isinstance(loss.in_torch, str):
            raise LookupError(f"{self.loss} has no twin in torch: {loss.in_torch}")  # noqa: TRY004  (no caller's mistake)

        def array(numbers: Any) -> Tensor:
            cast = torch.from_numpy(np.array(numbers))
            return cast.to(getattr(torch, self.precision)) if cast.is_floating_point() else cast

        return self._functions(network.in_torch, loss.in_torch, torch.exp, array)

    def _functions(
        self,
        apply: Callable[..., Any],
        loss: Callable[..., Any],
        exp: Callable[[Any], Any],
        array: Callable[[Any], Any],
        as_held: Callable[[Any], Any] = _same,
        flat: Callable[[Any], Any] = _same,
    ) -> Functions:
        draws = self.draws()
        x, held, y, held_y = (array(draws[name]) for name in ("x", "held", "y", "held_y"))
        theta = {name: array(value) for name, value in draws["theta"].items()}

        def inner(lam: Any, theta: Any, inputs: Any = x) -> Any:
            named = flat(theta)
            squares = [(named[name] ** 2).sum() for name in sorted(named)]
            decay = sum(exp(lam["decay"][i]) * square for i, square in enumerate(squares))
            return loss(apply(theta, inputs) + lam["shift"], y).mean() + decay

        def outer(lam: Any, theta: Any) -> Any:
            direct = 0.1 * (lam["shift"] ** 2).sum() + 0.05 * (lam["decay"] ** 2).sum()
            return loss(apply(theta, held), held_y).mean() + direct

        def start(lam: Any) -> Any:
            if not self.setup.moving:
                return as_held(theta)
            move = 0.2 * lam["shift"].sum() + 0.1 * lam["decay"].sum()
            return as_held({name: value * (1 + move) for name, value in theta.items()})

        return Functions(inner, outer, start, array)


@final
@dataclass(frozen=True)
class Training:
    """The training in JAX as a function of λ, with the places where a mistake may be made.

    Attributes:
        problem: what is trained.
        inner: changes the inner loss: (inner, λ, θ, inputs) ↦ L_T.
        slope_at: changes θ where the inner gradient is taken.
        after: changes (θ, the optimiser's state) after step t.
        measured: changes θ for the outer loss.
        begin: changes θ⁰.
        optimiser: in place of the setup's.
        steps: how many.
        batches: in place of the problem's.
    """

    problem: JAXProblem
    inner: Callable[..., Any] | None = None
    slope_at: Callable[[Any], Any] = _same
    after: Callable[[Any, int], Any] = _same
    measured: Callable[[Any], Any] = _same
    begin: Callable[[Any], Any] = _same
    optimiser: Callable[[], Any] | None = None
    steps: int = STEPS
    batches: Sequence[Any] | None = None

    def objective(self, lam: Any) -> Any:
        """The outer loss after the training."""
        functions, setup = self.problem.in_jax(), self.problem.setup
        inner = functions.inner if self.inner is None else partial(self.inner, functions.inner)
        transform = (self.optimiser or setup.optimiser)()
        theta = self.begin(functions.start(lam))
        state = transform.init(theta)
        batches = self.problem.draws()["batches"] if self.batches is None else self.batches
        for t in range(self.steps):
            inputs = (functions.array(batches[t]),) if setup.batches else ()
            slope = jax.grad(inner, 1)(lam, self.slope_at(theta), *inputs)
            updates, state = transform.update(slope, state, theta)
            theta, state = self.after((optax.apply_updates(theta, updates), state), t)
        return functions.outer(lam, self.measured(theta))

    def hypergradient(self) -> Callable[[Any], Any]:
        """λ ↦ the derivative of `objective`, compiled."""
        found: Callable[[Any], Any] = jax.jit(jax.grad(self.objective))
        return found
