"""Mistakes around the run: the optimiser's numbers, θ cut off, λ put through exp, random answers."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from refblo.chain import Schedule
from refblo.conformance.diagnosis import Mistake
from refblo.rules import Rule
from tests.conformance.plants import N, P, Plant, T, generated, planter, unrolled

Array = np.ndarray


@planter
def of_numbers_of_momentum(seed: int) -> Iterator[Plant]:
    problem = generated(seed, rule=Rule(0.12, momentum=0.8))

    def averaged(state: Tensor, g: Tensor, *_: object) -> Tensor:
        v = 0.8 * state[N:] + 0.2 * g
        return torch.cat([state[:N] - 0.12 * v, v])

    def of_torch(state: Tensor, g: Tensor, t: int, *_: object) -> Tensor:
        v = g if t == 0 else 0.8 * state[N:] + 0.2 * g
        return torch.cat([state[:N] - 0.12 * v, v])

    def cut(state: Tensor, g: Tensor, *_: object) -> Tensor:
        v = 0.8 * state[N:] + g
        return torch.cat([state[:N].detach() - 0.12 * v, v])

    yield Plant(Mistake.DAMPENED, problem, unrolled(problem, advance=averaged))
    yield Plant(Mistake.DAMPENED, problem, unrolled(problem, advance=of_torch))
    yield Plant(Mistake.THETA_DETACHED, problem, unrolled(problem, advance=cut))
    yield Plant(Mistake.OTHER_NUMBERS, problem, unrolled(problem, rule=Rule(0.12, momentum=0.9)))
    for size in (0.1, 0.15):
        rule = Rule(size, momentum=0.8)
        yield Plant(Mistake.OTHER_NUMBERS, problem, unrolled(problem, rule=rule))
    for steps in (T - 2, T + 3):
        longer = unrolled(problem, schedule=Schedule.last(steps))
        yield Plant(Mistake.OTHER_NUMBERS, problem, longer)


@planter
def of_numbers_of_adam(seed: int) -> Iterator[Plant]:
    problem = generated(seed, rule=Rule(0.1, betas=(0.9, 0.999), adam_epsilon=1e-3))
    for betas, epsilon in (((0.9, 0.99), 1e-3), ((0.8, 0.999), 1e-3), ((0.9, 0.999), 1e-4)):
        rule = Rule(0.1, betas=betas, adam_epsilon=epsilon)
        yield Plant(Mistake.OTHER_NUMBERS, problem, unrolled(problem, rule=rule))


@planter
def of_lam(seed: int) -> Iterator[Plant]:
    problem = generated(seed)
    lam, total = problem.lam.numpy(), unrolled(problem)
    for factor in (np.exp(lam), 1 / (1 + np.exp(-lam)), 1 - np.tanh(lam) ** 2):
        yield Plant(Mistake.CHAIN_FACTOR, problem, total / factor)
        yield Plant(Mistake.CHAIN_FACTOR, problem, total * factor)
    changed = total.copy()
    changed[[0, P - 1]] = 0
    yield Plant(Mistake.SOME_ZERO, problem, changed)


@planter
def of_changing_answers(seed: int) -> Iterator[Plant]:
    """The answers vary by 1 %: independent in each entry, or in one factor."""
    problem = generated(seed)
    draw = np.random.Generator(np.random.Philox(key=seed))
    for size in (P, 1):

        def varied(lam: Array, *, size: int = size) -> Array:
            total = unrolled(problem, lam=torch.as_tensor(lam))
            result: Array = total * (1 + 0.01 * draw.standard_normal(size))
            return result

        observed = varied(problem.lam.numpy())
        yield Plant(Mistake.ANSWER_CHANGES, problem, observed, again=varied)
