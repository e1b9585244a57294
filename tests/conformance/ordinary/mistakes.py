"""Mistakes in the hypergradient of an ordinary problem, one or more for each family of the diagnosis.

Each is a change of right code that differentiates by autograd alone, on a run that the mistake needs: with
momentum, Adam, noise, batches, a start that depends on λ, or a mean over samples.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from refblo.chain import Schedule
from refblo.conformance.diagnosis import Mistake
from refblo.rules import Rule
from refblo.types import Estimand
from tests.conformance.ordinary.problems import STEP_SIZE, OrdinaryProblem
from tests.conformance.plants import Problem, unrolled
from tests.conformance.plants_of_rules import adam, decay_held, decoupled
from tests.conformance.plants_of_solves import Solution

Array = np.ndarray
STEPS = 3
Wrong = Callable[[Problem], Array]


@final
@dataclass(frozen=True)
class Setup:
    """A kind of inner run.

    Attributes:
        name: of it.
        rule: the optimiser.
        schedule: B and M.
        moving: whether θ⁰ depends on λ.
        noise: whether noise is added.
        batches: whether each step sees inputs of its own.
    """

    name: str
    rule: Rule = field(default_factory=lambda: Rule(STEP_SIZE))
    schedule: Schedule = field(default_factory=lambda: Schedule.last(STEPS))
    moving: bool = False
    noise: bool = False
    batches: bool = False

    def on(self, problem: OrdinaryProblem, seed: int) -> Problem:
        """The run on a problem's flat vectors, with draws that are a function of the seed."""
        generator = torch.Generator().manual_seed(seed)
        n = sum(value.numel() for value in problem.theta0.values())
        p = problem.lam.numel()

        def normal(*shape: int) -> Tensor:
            drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
            return drawn.to(problem.lam.dtype)

        steps, changes = self.schedule.steps, dict[str, Any]()
        if self.moving:
            changes["start"] = 0.2 * normal(n, p)
        if self.noise:
            changes["noise"] = 0.1 * normal(steps, n)
        if self.batches:
            changes["batches"] = [problem.inputs(generator) for _ in range(steps)]
            changes["outer_batches"] = [problem.inputs(generator) for _ in range(steps + 1)]
        estimand = Estimand.PATHWISE if self.schedule.samples > 1 else Estimand.UNROLLED
        return problem.flat(rule=self.rule, schedule=self.schedule, estimand=estimand, **changes)


PLAIN = Setup("gradient descent")
MOVING = Setup("start that depends on lam", moving=True)
MOMENTUM = Setup("momentum and weight decay", Rule(STEP_SIZE, momentum=0.8, weight_decay=0.4))
ADAM = Setup("Adam", Rule(STEP_SIZE, betas=(0.8, 0.9), weight_decay=0.4, adam_epsilon=0.05))
NOISY = Setup("noise", Rule(STEP_SIZE, temperature=0.7), noise=True)
BATCHES = Setup("batches", batches=True)
SAMPLES = Setup("mean over samples", schedule=Schedule(1, 2), moving=True)
SETUPS = (PLAIN, MOVING, MOMENTUM, ADAM, NOISY, BATCHES, SAMPLES)


@final
@dataclass(frozen=True)
class MistakeCase:
    """A mistake in code for an unrolled hypergradient.

    Attributes:
        mistake: which.
        setup: the run it is made in.
        make: the problem ↦ what is returned.
        remembers: whether it keeps something between calls.
        double: whether only float64 code can make it.
    """

    mistake: Mistake
    setup: Setup
    make: Wrong
    remembers: bool = False
    double: bool = False

    def function(self, problem: Problem) -> Callable[[Tensor], Array]:
        """The wrong code, a function of λ."""
        if not self.remembers:
            return lambda lam: self.make(replace(problem, lam=lam))
        answers: list[Array] = []

        def remembering(lam: Tensor) -> Array:
            answers.append(self.make(replace(problem, lam=lam)))
            if self.mistake is Mistake.STALE_LAMBDA:
                return answers[0]
            total: Array = np.sum(answers, axis=0)
            return total

        return remembering


def _held(theta: Tensor, _: int) -> Tensor:
    return theta.detach()


def _terms(problem: Problem) -> tuple[Array, Array]:
    direct = unrolled(problem, measured=_held)
    return direct, unrolled(problem) - direct


def _weighted(whole: float, direct: float = 1.0, indirect: float = 1.0) -> Wrong:
    """The two terms by factors."""

    def make(problem: Problem) -> Array:
        first, second = _terms(problem)
        total: Array = whole * (direct * first + indirect * second)
        return total

    return make


def _whole(change: Callable[[Array], Array]) -> Wrong:
    return lambda problem: change(unrolled(problem))


def _one_entry(total: Array) -> Array:
    changed = total.copy()
    changed[1] = 1.3 * changed[1] + 0.4 * np.abs(total).max()
    return changed


def _cut(at: int) -> Wrong:
    """The graph is cut after a step."""
    return lambda problem: unrolled(
        problem, after=lambda state, t: state.detach() if t == at else state
    )


def _last_step_without_lam(problem: Problem) -> Array:
    calls = 0

    def inner(lam: Tensor, theta: Tensor, batch: Tensor | None) -> Tensor:
        nonlocal calls
        calls += 1
        last = calls == problem.schedule.steps
        return problem.inner(lam.detach() if last else lam, theta, batch)

    return unrolled(problem, inner=inner)


def _at_the_start(problem: Problem) -> Array:
    """The outer loss's slope is taken at θ⁰."""
    origin = problem.initial(problem.lam)
    return unrolled(problem, measured=lambda theta, _: theta - theta.detach() + origin)


def _moved(problem: Problem, theta: Tensor) -> Tensor:
    """θ after one more step."""
    at = theta.detach().clone().requires_grad_()
    (g,) = torch.autograd.grad(problem.inner(problem.lam, at, None), at)
    return problem.rule.advance(at.detach(), g, 0, None)


def _too_far(problem: Problem) -> Array:
    """The outer loss is measured one step later."""
    return unrolled(problem, measured=lambda th, _: th - th.detach() + _moved(problem, th.detach()))


def _tensor_dropped(problem: Problem, first: int) -> Array:
    """What goes through the first tensor of θ is lost."""

    def measured(theta: Tensor, _: int) -> Tensor:
        return torch.cat([theta[:first].detach(), theta[first:]])

    return unrolled(problem, measured=measured)


def _left_in_buffer(problem: Problem) -> Array:
    """∂_λ of the inner losses, which backward() left in lam.grad."""
    total = unrolled(problem)
    state = problem.theta0
    for t in range(problem.schedule.steps):
        at, lam = state.clone().requires_grad_(), problem.lam.clone().requires_grad_()
        by_lam, by_theta = torch.autograd.grad(problem.inner(lam, at), (lam, at))
        total = total + by_lam.numpy()
        state = problem.rule.advance(state, by_theta, t, None)
    return total


def _displacement(problem: Problem) -> Array:
    """Reptile's: θ⁰ − θ^T, pulled back to λ."""
    state = first = problem.initial(problem.lam)
    for t in range(problem.schedule.steps):
        at = state.clone().requires_grad_()
        (g,) = torch.autograd.grad(problem.inner(problem.lam, at), at)
        state = problem.rule.advance(state, g, t, None)
    assert problem.start is not None
    found: Array = ((first - state).detach() @ problem.start).numpy()
    return found


def _adjoint_flow(problem: Problem) -> Array:
    """The adjoint and θ integrated backwards from θ^T by Euler's method."""
    rule = problem.rule

    def gradient(theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        lam, at = problem.lam.clone().requires_grad_(), theta.detach().clone().requires_grad_()
        (g,) = torch.autograd.grad(problem.inner(lam, at), at, create_graph=True)
        return lam, at, g

    theta = problem.theta0
    for _ in range(problem.schedule.steps):
        theta = (theta - rule.constant("step_size") * gradient(theta)[2]).detach()
    lam, at = problem.lam.clone().requires_grad_(), theta.clone().requires_grad_()
    found, alpha = torch.autograd.grad(problem.outer(lam, at), (lam, at))
    for _ in range(problem.schedule.steps):
        lam, at, g = gradient(theta)
        by_lam, by_theta = torch.autograd.grad(
            g, (lam, at), alpha, allow_unused=True, materialize_grads=True
        )
        found = found - rule.constant("step_size") * by_lam
        theta = (theta + rule.constant("step_size") * g).detach()
        alpha = alpha - rule.constant("step_size") * by_theta
    result: Array = found.numpy()
    return result


def _ruled(**changes: Any) -> Wrong:
    return lambda problem: unrolled(problem, rule=replace(problem.rule, **changes))


def _nesterov(problem: Problem) -> Array:
    return unrolled(problem, rule=replace(problem.rule, nesterov=True))


def _buffers_held(problem: Problem) -> Array:
    n = problem.theta0.numel()
    return unrolled(problem, after=lambda state, _: torch.cat([state[:n], state[n:].detach()]))


def _with_noise(factor: float) -> Wrong:
    def make(problem: Problem) -> Array:
        assert problem.noise is not None
        return unrolled(problem, noise=factor * problem.noise)

    return make


def _noise_turned(problem: Problem) -> Array:
    assert problem.noise is not None
    return unrolled(problem, noise=problem.noise.flip(0))


def _batches_turned(problem: Problem) -> Array:
    assert problem.batches is not None
    return unrolled(problem, batches=list(problem.batches)[::-1])


def _batches_ahead(problem: Problem) -> Array:
    assert problem.batches is not None
    return unrolled(problem, batches=[*problem.batches[1:], problem.batches[0]])


def _detached_samples(problem: Problem) -> Array:
    def advance(state: Tensor, g: Tensor, t: int, noise: Tensor | None) -> Tensor:
        return problem.rule.advance(state.detach(), g, t, noise)

    return unrolled(problem, at=_held, advance=advance)


def _of_last(problem: Problem) -> Array:
    return unrolled(replace(problem, schedule=Schedule.last(problem.schedule.steps)))


def _rounded(problem: Problem) -> Array:
    return unrolled(problem).astype(np.float32).astype(np.float64)


def _inner_for_outer(problem: Problem) -> Array:
    return unrolled(problem, outer=problem.inner)


_M = 2  # samples of SAMPLES

UNROLLED: tuple[MistakeCase, ...] = (
    MistakeCase(Mistake.MISSING_DIRECT, PLAIN, _weighted(1, direct=0)),
    MistakeCase(Mistake.MISSING_INDIRECT, PLAIN, _weighted(1, indirect=0)),
    MistakeCase(Mistake.ZERO, PLAIN, _weighted(0)),
    MistakeCase(Mistake.WRONG_SIGN, PLAIN, _weighted(-1)),
    MistakeCase(Mistake.WRONG_SIGN, PLAIN, _weighted(1, indirect=-1)),
    MistakeCase(Mistake.FACTOR_TWO, PLAIN, _weighted(2)),
    MistakeCase(Mistake.FACTOR_HALF, PLAIN, _weighted(1, indirect=0.5)),
    MistakeCase(Mistake.STEP_SIZE_TWICE, PLAIN, _weighted(1, indirect=STEP_SIZE)),
    MistakeCase(Mistake.STEP_SIZE_LEFT_OUT, PLAIN, _weighted(1, indirect=1 / STEP_SIZE)),
    MistakeCase(Mistake.SCALED, PLAIN, _weighted(3.7)),
    MistakeCase(Mistake.DIFFERENCE_NOT_DIVIDED, PLAIN, _weighted(1, indirect=2e-2)),
    MistakeCase(Mistake.ONES_IN_EVERY_ENTRY, PLAIN, _whole(lambda g: np.full(g.size, g.sum()))),
    MistakeCase(Mistake.PERMUTED, PLAIN, _whole(lambda g: np.roll(g, 1))),
    MistakeCase(Mistake.ONE_ENTRY, PLAIN, _whole(_one_entry)),
    MistakeCase(Mistake.ACCUMULATED, PLAIN, unrolled, remembers=True),
    MistakeCase(Mistake.STALE_LAMBDA, PLAIN, unrolled, remembers=True),
    MistakeCase(Mistake.GRADIENT_LEFT_IN_BUFFER, PLAIN, _left_in_buffer),
    MistakeCase(Mistake.FLOAT32, PLAIN, _rounded, double=True),
    MistakeCase(Mistake.IDENTITY_FOR_JACOBIAN, PLAIN, lambda q: unrolled(q, at=_held)),
    MistakeCase(
        Mistake.HESSIAN_SIGN, PLAIN, lambda q: unrolled(q, at=lambda th, _: 2 * th.detach() - th)
    ),
    MistakeCase(Mistake.TRUNCATED, PLAIN, _cut(STEPS - 2)),
    MistakeCase(Mistake.LAST_TRANSITION, PLAIN, _last_step_without_lam),
    MistakeCase(
        Mistake.OFF_BY_ONE, PLAIN, lambda q: unrolled(q, schedule=Schedule.last(STEPS - 1))
    ),
    MistakeCase(Mistake.STALE_THETA, PLAIN, _at_the_start),
    MistakeCase(Mistake.STATE_TOO_FAR, PLAIN, _too_far),
    MistakeCase(Mistake.INNER_FOR_OUTER, PLAIN, _inner_for_outer),
    MistakeCase(Mistake.CONTINUOUS_ADJOINT, PLAIN, _adjoint_flow),
    MistakeCase(
        Mistake.TASK_DROPPED, PLAIN, lambda q: _tensor_dropped(q, int(np.prod(q.shapes[0])))
    ),
    MistakeCase(
        Mistake.INITIAL_NOT_DIFFERENTIATED,
        MOVING,
        lambda q: unrolled(q, start=lambda lam: q.initial(lam).detach()),
    ),
    MistakeCase(
        Mistake.MISSING_TRANSITIONS,
        MOVING,
        lambda q: unrolled(q, inner=lambda lam, theta, b: q.inner(lam.detach(), theta, b)),
    ),
    MistakeCase(Mistake.FIRST_ORDER, MOVING, lambda q: unrolled(q, gradient=_held)),
    MistakeCase(Mistake.REPTILE, MOVING, _displacement),
    MistakeCase(Mistake.OPTIMISER_DETACHED, MOMENTUM, _buffers_held),
    MistakeCase(Mistake.MOMENTUM_IGNORED, MOMENTUM, _ruled(momentum=0.0)),
    MistakeCase(Mistake.NESTEROV, MOMENTUM, _nesterov),
    MistakeCase(Mistake.DECAY_FORGOTTEN, MOMENTUM, _ruled(weight_decay=0.0)),
    MistakeCase(Mistake.DECOUPLED_DECAY, MOMENTUM, decoupled),
    MistakeCase(Mistake.DECAY_NOT_DIFFERENTIATED, MOMENTUM, decay_held),
    *(
        MistakeCase(
            mistake,
            ADAM,
            lambda q, form=form: unrolled(q, advance=partial(adam, q.rule, form)),  # type: ignore[misc]  # a lambda's default
        )
        for mistake, form in (
            (Mistake.ADAM_EPSILON_EARLY, "early"),
            (Mistake.ADAM_ROOT, "root"),
            (Mistake.ADAM_EPSILON, "smooth"),
            (Mistake.ADAM_CORRECTION, "uncorrected"),
            (Mistake.NORMALISER_CONSTANT, "constant"),
        )
    ),
    MistakeCase(Mistake.NOISE_NOT_SHARED, NOISY, _noise_turned),
    MistakeCase(Mistake.NOISE_SCALED, NOISY, _with_noise(1.7)),
    MistakeCase(Mistake.DRIFT_SCALED, NOISY, _ruled(step_size=STEP_SIZE / 2)),
    MistakeCase(Mistake.EPSILON_FOR_GAMMA, NOISY, _weighted(1, indirect=1.4)),
    MistakeCase(Mistake.GAMMA_FOR_EPSILON, NOISY, _weighted(1, indirect=1 / 1.4)),
    MistakeCase(Mistake.TEMPERATURE_LEFT_IN, NOISY, _weighted(1, indirect=0.7)),
    MistakeCase(Mistake.TEMPERATURE_TWICE, NOISY, _weighted(1, indirect=1 / 0.7)),
    MistakeCase(Mistake.MINIBATCH_NOT_SHARED, BATCHES, _batches_turned),
    MistakeCase(Mistake.BATCH_TOO_FAR, BATCHES, _batches_ahead),
    MistakeCase(Mistake.SUM_FOR_MEAN, SAMPLES, _weighted(_M)),
    MistakeCase(Mistake.DIVIDED_BY_ALL_STEPS, SAMPLES, _weighted(_M / STEPS)),
    MistakeCase(Mistake.DIVIDED_BY_ONE_MORE, SAMPLES, _weighted(_M / (_M + 1))),
    MistakeCase(Mistake.DETACHED_SAMPLE, SAMPLES, _detached_samples),
    MistakeCase(Mistake.ANOTHER_ESTIMAND, SAMPLES, _of_last),
)
"""Mistakes in the derivative of a run."""


def derivatives(problem: Problem, theta: Tensor) -> Solution:
    """The dense derivatives at a θ, by autograd, in the problem's own dtype."""
    lam, at = problem.lam.clone().requires_grad_(), theta.detach().clone().requires_grad_()
    (g,) = torch.autograd.grad(problem.inner(lam, at), at, create_graph=True)
    g = g + problem.rule.constant("weight_decay") * at
    rows = torch.autograd.grad(
        g, (at, lam), torch.eye(g.numel(), dtype=g.dtype), is_grads_batched=True
    )
    hessian, mixed = (block.numpy() for block in rows)
    direct, slope = torch.autograd.grad(problem.outer(lam, at), (lam, at))
    return Solution(
        theta, hessian, mixed, direct.numpy(), slope.numpy(), problem.rule.constant("step_size")
    )


@final
@dataclass(frozen=True)
class SolveMistake:
    """A mistake in code for an implicit hypergradient.

    Attributes:
        mistake: which.
        make: (the derivatives at the minimiser, the problem) ↦ what is returned.
    """

    mistake: Mistake
    make: Callable[[Solution, Problem], Array]


def _solve_terms(whole: float, direct: float = 1.0, indirect: float = 1.0) -> Any:
    def make(at: Solution, _: Problem) -> Array:
        total: Array = whole * (direct * at.direct + indirect * (at.solved() - at.direct))
        return total

    return make


def _damped(at: Solution, share: float) -> Array:
    size = float(np.trace(at.hessian)) / len(at.slope)
    return at.solved(at.hessian + share * size * np.eye(len(at.slope)).astype(at.slope.dtype))


def _blocks(at: Solution, problem: Problem) -> Array:
    first = int(np.prod(problem.shapes[0]))
    matrix = at.hessian.copy()
    matrix[:first, first:] = matrix[first:, :first] = 0
    return at.solved(matrix)


def _early(_: Solution, problem: Problem) -> Array:
    """Everything is taken at θ⁰ after one step of the inner solver."""
    early = derivatives(problem, _moved(problem, problem.theta0))
    return early.solved()


def _inner_solved(at: Solution, problem: Problem) -> Array:
    """The inner loss, whose slope by θ vanishes, stands for the outer one."""
    return derivatives(replace(problem, outer=problem.inner), at.theta).solved()


def _through_second_tensor(at: Solution, problem: Problem) -> Array:
    slope = at.slope.copy()
    slope[: int(np.prod(problem.shapes[0]))] = 0
    return replace(at, slope=slope).solved()


def _dropped_decay(at: Solution, problem: Problem) -> Array:
    decay = problem.rule.constant("weight_decay") * np.eye(len(at.slope)).astype(at.slope.dtype)
    return at.solved(at.hessian - decay)


IMPLICIT: tuple[SolveMistake, ...] = (
    SolveMistake(Mistake.MISSING_DIRECT, _solve_terms(1, direct=0)),
    SolveMistake(Mistake.MISSING_INDIRECT, _solve_terms(1, indirect=0)),
    SolveMistake(Mistake.WRONG_SIGN, _solve_terms(1, indirect=-1)),
    SolveMistake(Mistake.FACTOR_TWO, _solve_terms(1, indirect=2)),
    SolveMistake(Mistake.SCALED, _solve_terms(0.37)),
    SolveMistake(Mistake.ZERO, _solve_terms(0)),
    SolveMistake(
        Mistake.ONES_IN_EVERY_ENTRY, lambda at, _: np.full_like(at.direct, at.solved().sum())
    ),
    SolveMistake(Mistake.PERMUTED, lambda at, _: np.roll(at.solved(), 1)),
    SolveMistake(Mistake.ONE_ENTRY, lambda at, _: _one_entry(at.solved())),
    SolveMistake(Mistake.IDENTITY_FOR_INVERSE, lambda at, _: at.by(at.slope)),
    SolveMistake(Mistake.ONE_STEP, lambda at, _: at.by(at.gamma * at.slope)),
    SolveMistake(Mistake.SERIES_SHORT, lambda at, _: at.by(at.series(3))),
    SolveMistake(Mistake.SERIES_NOT_SCALED, lambda at, _: at.by(at.series(4) / at.gamma)),
    SolveMistake(Mistake.CG_EARLY, lambda at, _: at.by(at.conjugate_gradients(1))),
    SolveMistake(Mistake.CG_OLD_RESIDUAL, lambda at, _: at.by(at.conjugate_gradients(2, old=True))),
    SolveMistake(Mistake.DAMPING, lambda at, _: _damped(at, 0.3)),
    SolveMistake(Mistake.HESSIAN_BLOCKS, _blocks),
    SolveMistake(Mistake.NOT_CONVERGED, _early),
    SolveMistake(Mistake.ANOTHER_ESTIMAND, lambda _, q: unrolled(q)),
    SolveMistake(Mistake.INNER_FOR_OUTER, _inner_solved),
    SolveMistake(Mistake.TASK_DROPPED, _through_second_tensor),
    SolveMistake(Mistake.DECAY_NOT_DIFFERENTIATED, _dropped_decay),
)
"""Mistakes in a solve."""
