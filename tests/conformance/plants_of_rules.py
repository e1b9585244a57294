"""Mistakes in the optimiser's part of a run, in normalisers, and in a Gibbs density."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from refblo.conformance.diagnosis import Mistake
from refblo.rules import Rule
from refblo.rules.operations import root
from refblo.types import Estimand
from tests.conformance.plants import (
    N,
    P,
    Plant,
    Problem,
    generated,
    planter,
    unrolled,
)

Array = np.ndarray
DECAY = 0.4


@planter
def of_momentum(seed: int) -> Iterator[Plant]:
    rule = Rule(0.12, momentum=0.8, weight_decay=DECAY)
    problem = generated(seed, rule=rule)

    def held(state: Tensor, _: int) -> Tensor:
        return torch.cat([state[:N], state[N:].detach()])

    yield Plant(Mistake.OPTIMISER_DETACHED, problem, unrolled(problem, after=held))
    yield Plant(Mistake.DECAY_FORGOTTEN, problem, _with(problem, weight_decay=0.0))
    yield Plant(Mistake.MOMENTUM_IGNORED, problem, _with(problem, momentum=0.0))

    def nesterov(state: Tensor, g: Tensor, t: int, noise: Tensor | None) -> Tensor:
        total = g + DECAY * state[:N]
        v = 0.8 * state[N:] + total
        return torch.cat([state[:N] - 0.12 * (total + 0.8 * v), v])

    yield Plant(Mistake.NESTEROV, problem, unrolled(problem, advance=nesterov))
    yield Plant(Mistake.DECAY_BEFORE_RUN, problem, _decayed_first(problem))
    yield Plant(Mistake.DECOUPLED_DECAY, problem, decoupled(problem))
    yield Plant(Mistake.DECAY_NOT_DIFFERENTIATED, problem, decay_held(problem))
    jacobians = _transposed(problem)
    yield Plant(Mistake.TRANSPOSED_JACOBIAN, problem, jacobians)


def _with(problem: Problem, **changes: float) -> Array:
    """Another rule whose state is of the same size as the gradient steps ask for."""
    return unrolled(problem, rule=replace(problem.rule, **changes))  # type: ignore[arg-type]  # floats


def _decayed_first(problem: Problem) -> Array:
    """One step with a zero gradient, which fills the buffers and decays the weights."""
    rule = problem.rule
    first = True

    def advance(state: Tensor, g: Tensor, t: int, noise: Tensor | None) -> Tensor:
        nonlocal first
        if first:
            first = False
        return rule.advance(state, g, t, noise)

    fresh = replace(problem, theta0=problem.theta0)
    state = rule.advance(rule.state(fresh.theta0), torch.zeros(N, dtype=torch.float64), 0, None)
    lam = problem.lam.clone().requires_grad_()
    for t in range(problem.schedule.steps):
        at = state[:N] if state.requires_grad else state[:N].clone().requires_grad_()
        (g,) = torch.autograd.grad(problem.inner(lam, at), at, create_graph=True)
        state = advance(state, g, t, None)
    (found,) = torch.autograd.grad(problem.outer(lam, state[:N]), lam)
    result: Array = found.numpy()
    return result


def decoupled(problem: Problem) -> Array:
    """AdamW's decay in place of one in the gradient."""
    n = problem.theta0.numel()
    rule = problem.rule
    bare = replace(rule, weight_decay=0.0)

    def advance(state: Tensor, g: Tensor, t: int, noise: Tensor | None) -> Tensor:
        smaller = torch.cat(
            [
                (1 - rule.constant("step_size") * rule.constant("weight_decay")) * state[:n],
                state[n:],
            ]
        )
        return bare.advance(smaller, g, t, noise)

    return unrolled(problem, advance=advance)


def decay_held(problem: Problem) -> Array:
    """The decay moves the weights and is not differentiated."""
    bare, decay = replace(problem.rule, weight_decay=0.0), problem.rule.constant("weight_decay")
    n = problem.theta0.numel()

    def advance(state: Tensor, g: Tensor, t: int, noise: Tensor | None) -> Tensor:
        return bare.advance(state, g + decay * state[:n].detach(), t, noise)

    return unrolled(problem, advance=advance)


def _transposed(problem: Problem) -> Array:
    """Tangents that are pulled instead of pushed."""
    rule, lam = problem.rule, problem.lam
    state = rule.state(problem.theta0)
    tangent = torch.zeros(len(state), P, dtype=torch.float64)

    def step(x: Tensor, z: Tensor, t: int) -> Tensor:
        g = torch.func.grad(lambda q: problem.inner(x, q))(z[:N])
        return rule.advance(z, g, t, None)

    for t in range(problem.schedule.steps):
        jacobian = torch.func.jacrev(step, 1)(lam, state, t)
        tangent = jacobian.T @ tangent + torch.func.jacrev(step, 0)(lam, state, t)
        state = step(lam, state, t)
    direct, slope = torch.func.grad(problem.outer, (0, 1))(lam, state[:N])
    result: Array = (direct + slope @ tangent[:N]).numpy()
    return result


@planter
def of_adam(seed: int) -> Iterator[Plant]:
    rule = Rule(0.12, betas=(0.8, 0.9), weight_decay=DECAY, adam_epsilon=0.05)
    problem = generated(seed, rule=rule)
    for mistake, form in (
        (Mistake.ADAM_EPSILON_EARLY, "early"),
        (Mistake.ADAM_ROOT, "root"),
        (Mistake.ADAM_EPSILON, "smooth"),
        (Mistake.ADAM_CORRECTION, "uncorrected"),
        (Mistake.NORMALISER_CONSTANT, "constant"),
    ):
        found = unrolled(problem, advance=partial(adam, rule, form))
        yield Plant(mistake, problem, found)
    yield Plant(Mistake.DECAY_NOT_DIFFERENTIATED, problem, decay_held(problem))
    yield Plant(Mistake.DECOUPLED_DECAY, problem, decoupled(problem))
    yield from _counted_wrongly(problem, bare=rule)


COUNTS: tuple[Callable[[int], int], ...] = (
    lambda t: t + 2,
    lambda t: max(t, 1),
    lambda t: t,
)
"""t, from 0 ↦ the power of β in Adam's bias corrections; 0 stands for no correction."""


def _counted_wrongly(problem: Problem, bare: Rule) -> Iterator[Plant]:
    """Adam whose step count is off by one, in one moment or both, or is not kept.

    Args:
        problem: whose rule is Adam, with any form of weight decay.
        bare: the rule without the part of the weight decay that `_decayed` makes.
    """

    def right(t: int) -> int:
        return t + 1

    for count in COUNTS:
        for first, second in ((count, count), (count, right), (right, count)):
            advance = partial(_by_counts, problem.rule, bare, first, second)
            yield Plant(Mistake.OFF_BY_ONE, problem, unrolled(problem, advance=advance))
    fixed = partial(_by_counts, problem.rule, bare, lambda _: 1, lambda _: 1)
    yield Plant(Mistake.STATE_NOT_KEPT, problem, unrolled(problem, advance=fixed))

    def anew(state: Tensor, g: Tensor, t: int, noise: Tensor | None) -> Tensor:
        n = g.numel()
        return problem.rule.advance(
            torch.cat([state[:n], torch.zeros(2 * n).double()]), g, 0, noise
        )

    yield Plant(Mistake.STATE_NOT_KEPT, problem, unrolled(problem, advance=anew))


def _by_counts(
    rule: Rule,
    bare: Rule,
    first: Callable[[int], int],
    second: Callable[[int], int],
    state: Tensor,
    gradient: Tensor,
    t: int,
    _: Tensor | None,
) -> Tensor:
    n = gradient.numel()
    size, decay = rule.constant("step_size"), rule.constant("weight_decay")
    theta = state[:n] * (1 - size * decay) if rule.decoupled_decay else state[:n]
    g = gradient + bare.constant("weight_decay") * theta
    one, two = bare.numbers(None, t).betas or (0.0, 0.0)
    m = one * state[n : 2 * n] + (1 - one) * g
    v = two * state[2 * n :] + (1 - two) * g * g
    along = m / (1 - one ** first(t)) if first(t) else m
    square = v / (1 - two ** second(t)) if second(t) else v
    moved = size * along / (root(square) + rule.constant("adam_epsilon"))
    return torch.cat([theta - moved, m, v])


@planter
def of_adamw(seed: int) -> Iterator[Plant]:
    rule = Rule(0.12, betas=(0.8, 0.9), weight_decay=DECAY, adam_epsilon=0.05, decoupled_decay=True)
    problem = generated(seed, rule=rule)
    bare = replace(rule, weight_decay=0.0, decoupled_decay=False)

    def after(state: Tensor, g: Tensor, t: int, noise: Tensor | None) -> Tensor:
        moved = bare.advance(state, g, t, noise)
        return torch.cat([(1 - 0.12 * DECAY) * moved[:N], moved[N:]])

    def without_rate(state: Tensor, g: Tensor, t: int, noise: Tensor | None) -> Tensor:
        return bare.advance(torch.cat([(1 - DECAY) * state[:N], state[N:]]), g, t, noise)

    for advance in (after, without_rate):
        found = unrolled(problem, advance=advance)
        yield Plant(Mistake.DECOUPLED_DECAY_MISPLACED, problem, found)
    coupled = unrolled(problem, rule=replace(rule, decoupled_decay=False))
    yield Plant(Mistake.DECOUPLED_DECAY, problem, coupled)
    yield from _counted_wrongly(problem, bare)


@planter
def of_clipping(seed: int) -> Iterator[Plant]:
    rule = Rule(0.12, clip_norm=0.7, clip_norm_epsilon=0.0)
    problem = generated(seed, rule=rule)
    yield Plant(Mistake.CLIPPING_IGNORED, problem, unrolled(problem, rule=Rule(0.12)))

    def factor_held(state: Tensor, g: Tensor, t: int, _: Tensor | None) -> Tensor:
        factor: Tensor = (0.7 / torch.linalg.vector_norm(g)).clamp(max=1.0).detach()
        return state - 0.12 * factor * g

    def data_clipped(state: Tensor, g: Tensor, t: int, _: Tensor | None) -> Tensor:
        factor: Tensor = (0.7 / torch.linalg.vector_norm(g)).clamp(max=1.0)
        return state - 0.12 * (g + (factor * g - g).detach())

    yield Plant(Mistake.NORMALISER_CONSTANT, problem, unrolled(problem, advance=factor_held))
    yield Plant(Mistake.CLIPPING_IGNORED, problem, unrolled(problem, advance=data_clipped))


@planter
def of_rmsprop(seed: int) -> Iterator[Plant]:
    rule = Rule(0.12, square_decay=0.8, adam_epsilon=0.05)
    problem = generated(seed, rule=rule)

    def moved(state: Tensor, g: Tensor, *, held: bool = False, inside: bool = False) -> Tensor:
        v = 0.8 * state[N:] + 0.2 * g * g
        size = (v + 0.05).sqrt() if inside else root(v) + 0.05
        return torch.cat([state[:N] - 0.12 * g / (size.detach() if held else size), v])

    for mistake, way in (
        (Mistake.NORMALISER_CONSTANT, {"held": True}),
        (Mistake.EPSILON_INSIDE, {"inside": True}),
    ):
        found = unrolled(problem, advance=lambda state, g, *_, way=way: moved(state, g, **way))
        yield Plant(mistake, problem, found)


@planter
def of_numbers(seed: int) -> Iterator[Plant]:
    """λ reaches the learning rate and momentum as well as the inner loss."""
    problem = generated(seed)

    def rate(lam: Tensor) -> Tensor:
        return 0.12 * torch.exp(lam[0])

    def momentum(lam: Tensor) -> Tensor:
        return torch.sigmoid(lam[1])

    rule = Rule(rate, momentum=momentum)
    problem = replace(problem, rule=rule)
    fixed = Rule(float(rate(problem.lam)), momentum=float(momentum(problem.lam)))
    yield Plant(Mistake.RULE_NUMBERS_CONSTANT, problem, unrolled(problem, rule=fixed))
    held = replace(rule, step_size=fixed.step_size)

    yield Plant(Mistake.RULE_NUMBERS_CONSTANT, problem, unrolled(problem, rule=held))


def adam(
    rule: Rule, form: str, state: Tensor, gradient: Tensor, t: int, _: Tensor | None
) -> Tensor:
    """Adam's step with one of the usual mistakes in it."""
    n = gradient.numel()
    numbers = rule.numbers(None, t)
    first, second = numbers.betas or (0.0, 0.0)
    g = gradient + numbers.weight_decay * state[:n]
    m = first * state[n : 2 * n] + (1 - first) * g
    v = second * state[2 * n :] + (1 - second) * g * g
    one, two = 1 - first ** (t + 1), 1 - second ** (t + 1)
    eps = numbers.adam_epsilon
    size = {
        "early": (root(v) + eps) / two**0.5,
        "root": v / two**0.5 + eps,
        "smooth": _smooth(v / two, eps),
        "uncorrected": root(v) + eps,
        "constant": (root(v / two) + eps).detach(),
    }[form]
    along = m if form == "uncorrected" else m / one
    return torch.cat([state[:n] - numbers.step_size * along / size, m, v])


def _smooth(v: Tensor, eps: float) -> Tensor:
    """√v + ε whose derivative is 1 / 2(√v + ε)."""
    value = root(v).detach() + eps
    return value + (v - v.detach()) / (2 * value)


@planter
def of_normalisers(seed: int) -> Iterator[Plant]:
    generator = torch.Generator().manual_seed(seed + 100)
    x, y = (torch.randn(*shape, generator=generator).double() for shape in ((P, N), (P,)))

    def losses(*, held: bool) -> Problem:
        def inner(lam: Tensor, theta: Tensor, _: Tensor | None = None) -> Tensor:
            weights = torch.softmax(lam, 0)
            if held:
                weights = lam.exp() / lam.exp().sum().detach()
            return (weights * (x @ theta - y) ** 2).sum() + 0.1 * (theta**2).sum()

        problem = generated(seed)
        return replace(problem, inner=inner)

    right, wrong = losses(held=False), losses(held=True)
    yield Plant(Mistake.NORMALISER_CONSTANT, right, unrolled(wrong))

    def clipped(*, held: bool) -> Problem:
        problem = generated(seed)

        def outer(lam: Tensor, theta: Tensor, _: Tensor | None = None) -> Tensor:
            features = torch.tanh(x @ theta + lam)
            size = torch.linalg.vector_norm(features)
            normed: Tensor = features / (size.detach() if held else size)
            return normed.pow(3).sum()

        return replace(problem, outer=outer)

    yield Plant(Mistake.NORMALISER_CONSTANT, clipped(held=False), unrolled(clipped(held=True)))

    def normed(*, held: bool) -> Problem:
        problem = generated(seed)

        def outer(lam: Tensor, theta: Tensor, _: Tensor | None = None) -> Tensor:
            features = torch.tanh(x * theta + lam[:, None])
            mean, spread = features.mean(0), features.std(0)
            if held:
                mean, spread = mean.detach(), spread.detach()
            return ((features - mean) / spread).pow(3).sum() + features.sum()

        return replace(problem, outer=outer)

    yield Plant(Mistake.NORMALISER_CONSTANT, normed(held=False), unrolled(normed(held=True)))


@planter
def of_densities(seed: int) -> Iterator[Plant]:
    """A Gaussian density in closed form: L = a/2 (θ − λ₀)² + b λ₁ θ, the decay w in it, f = cubic."""
    draw = np.random.Generator(np.random.Philox(key=seed + 7))
    a, b, w, tau = 2.0 + draw.random(), 0.7 + draw.random(), 1.3, 0.4

    def inner(lam: Tensor, theta: Tensor, _: Tensor | None = None) -> Tensor:
        return (
            0.5 * a * (theta[0] - lam[0]) ** 2 + b * lam[1] * theta[0] + lam[2] ** 2 * theta[0] ** 2
        )

    def outer(lam: Tensor, theta: Tensor, _: Tensor | None = None) -> Tensor:
        return theta[0] ** 2 * (1 + lam[1]) + 0.5 * theta[0] * lam[0]

    rule = Rule(0.05, weight_decay=w, temperature=tau)
    lam = torch.as_tensor(0.4 + 0.5 * draw.random(3))

    def answer(temperature: float, decay: float) -> Array:
        def expected(lam: Tensor) -> Tensor:
            precision = a + 2 * lam[2] ** 2 + decay
            mean = (a * lam[0] - b * lam[1]) / precision
            second = mean**2 + temperature / precision
            return second * (1 + lam[1]) + 0.5 * mean * lam[0]

        result: Array = torch.func.grad(expected)(lam).numpy()
        return result

    problem = Problem(
        inner,
        outer,
        lam,
        torch.zeros(1).double(),
        rule,
        estimand=Estimand.GIBBS,
        shapes=((1,),),
        closed=answer(tau, w),
    )
    yield Plant(Mistake.TEMPERATURE_INVERTED, problem, answer(1 / tau, w))
    yield Plant(Mistake.TEMPERATURE_IGNORED, problem, answer(1.0, w))
    yield Plant(Mistake.DECAY_FORGOTTEN, problem, answer(tau, 0.0))
    yield Plant(Mistake.NOISE_SCALED, problem, answer(tau / 0.05, w))
    yield Plant(Mistake.FACTOR_TWO, problem, 2 * answer(tau, w))
    yield Plant(Mistake.ANOTHER_ESTIMAND, problem, answer(0.0, w))
