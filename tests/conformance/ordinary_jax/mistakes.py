"""Mistakes in the hypergradient of a training in JAX, as code that calls jax.grad makes them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import jax
import numpy as np
import optax
from jax import numpy as jnp

from refblo.conformance.diagnosis import Mistake
from tests.conformance.ordinary_jax.problems import (
    ADAM,
    BATCHES,
    MOMENTUM,
    MOVING,
    PLAIN,
    STEP_SIZE,
    STEPS,
    JAXProblem,
    Setup,
    Training,
)

Answer = Callable[[Any], Any]
held = jax.lax.stop_gradient


@final
@dataclass(frozen=True)
class JAXMistake:
    """A mistake.

    Attributes:
        mistake: which.
        setup: the training it is made in.
        make: the problem ↦ the wrong code.
        double: whether only float64 code can make it.
        remembers: whether it keeps something between calls.
    """

    mistake: Mistake
    setup: Setup
    make: Callable[[JAXProblem], Answer]
    double: bool = False
    remembers: bool = False


def _training(**changes: Any) -> Callable[[JAXProblem], Answer]:
    return lambda problem: Training(problem, **changes).hypergradient()


def _cut(state: Any, t: int) -> Any:
    """Cuts the graph before the last step."""
    return held(state) if t == STEPS - 2 else state


def _optimiser_held(state: Any, _: int) -> Any:
    theta, buffers = state
    return theta, held(buffers)


def _lam_held(inner: Any, lam: Any, theta: Any, *inputs: Any) -> Any:
    return inner(held(lam), theta, *inputs)


def _weighted(direct: float, indirect: float) -> Callable[[JAXProblem], Answer]:
    def make(problem: JAXProblem) -> Answer:
        whole = Training(problem).hypergradient()
        first = Training(problem, measured=held).hypergradient()
        return lambda lam: jax.tree.map(
            lambda a, b: direct * b + indirect * (a - b), whole(lam), first(lam)
        )

    return make


def _changed(change: Callable[[Any], Any]) -> Callable[[JAXProblem], Answer]:
    def make(problem: JAXProblem) -> Answer:
        right = Training(problem).hypergradient()
        return lambda lam: change(right(lam))

    return make


def _summed(answer: Any) -> Any:
    total = sum(jnp.sum(part) for part in answer.values())
    return {name: jnp.full_like(part, total) for name, part in answer.items()}


def _block(answer: Any) -> Any:
    return answer | {"shift": 1.7 * answer["shift"]}


def _single(answer: Any) -> Any:
    return jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float32), a.dtype), answer)


def _batches_ahead(problem: JAXProblem) -> Answer:
    batches = problem.draws()["batches"]
    return Training(problem, batches=[*batches[1:], batches[0]]).hypergradient()


def _accumulated(problem: JAXProblem) -> Answer:
    right, total = Training(problem).hypergradient(), []

    def answer(lam: Any) -> Any:
        total.append(right(lam))
        return jax.tree.map(lambda *parts: sum(parts), *total)

    return answer


def _stale(problem: JAXProblem) -> Answer:
    right, kept = Training(problem).hypergradient(), []

    def answer(lam: Any) -> Any:
        kept.append(lam)
        return right(kept[0])

    return answer


MISTAKES = (
    JAXMistake(Mistake.TRUNCATED, PLAIN, _training(after=_cut)),
    JAXMistake(Mistake.IDENTITY_FOR_JACOBIAN, PLAIN, _training(slope_at=held)),
    JAXMistake(Mistake.MISSING_DIRECT, PLAIN, _weighted(0, 1)),
    JAXMistake(Mistake.MISSING_INDIRECT, PLAIN, _training(measured=held)),
    JAXMistake(Mistake.WRONG_SIGN, PLAIN, _weighted(-1, -1)),
    JAXMistake(Mistake.WRONG_SIGN, PLAIN, _weighted(1, -1)),
    JAXMistake(Mistake.FACTOR_TWO, PLAIN, _weighted(2, 2)),
    JAXMistake(Mistake.STEP_SIZE_TWICE, PLAIN, _weighted(1, STEP_SIZE)),
    JAXMistake(Mistake.SCALED, PLAIN, _weighted(3.7, 3.7)),
    JAXMistake(Mistake.ONES_IN_EVERY_ENTRY, PLAIN, _changed(_summed)),
    JAXMistake(Mistake.ONE_BLOCK, PLAIN, _changed(_block)),
    JAXMistake(Mistake.FLOAT32, PLAIN, _changed(_single), double=True),
    JAXMistake(Mistake.OFF_BY_ONE, PLAIN, _training(steps=STEPS - 1)),
    JAXMistake(Mistake.ACCUMULATED, PLAIN, _accumulated, remembers=True),
    JAXMistake(Mistake.STALE_LAMBDA, PLAIN, _stale, remembers=True),
    JAXMistake(Mistake.INITIAL_NOT_DIFFERENTIATED, MOVING, _training(begin=held)),
    JAXMistake(Mistake.MISSING_TRANSITIONS, MOVING, _training(inner=_lam_held)),
    JAXMistake(
        Mistake.OPTIMISER_DETACHED,
        MOMENTUM,
        _training(after=_optimiser_held),
    ),
    JAXMistake(
        Mistake.DECAY_FORGOTTEN,
        MOMENTUM,
        _training(optimiser=lambda: optax.sgd(STEP_SIZE, momentum=0.8)),
    ),
    JAXMistake(
        Mistake.NESTEROV,
        MOMENTUM,
        _training(
            optimiser=lambda: optax.chain(
                optax.add_decayed_weights(0.4), optax.sgd(STEP_SIZE, momentum=0.8, nesterov=True)
            )
        ),
    ),
    JAXMistake(Mistake.OPTIMISER_DETACHED, ADAM, _training(after=_optimiser_held)),
    JAXMistake(
        Mistake.OTHER_NUMBERS,
        ADAM,
        _training(optimiser=lambda: optax.adam(STEP_SIZE, b1=0.8, b2=0.99, eps=0.05)),
    ),
    JAXMistake(Mistake.BATCH_TOO_FAR, BATCHES, _batches_ahead),
)
"""Of every kind that the training has a place for."""
