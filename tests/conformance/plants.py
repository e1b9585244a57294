"""Mistakes planted in an implementation of one's own, on generated problems: at least one for every name.

The implementation differentiates a run by autograd, as people write it, and each mistake is a change of
its code; the diagnosis sweeps adjoints along linearised steps instead. A plant is judged by its name: the
first name of the diagnosis should be the mistake's, and may be any other only where that gives the same
vector.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refblo.chain import Schedule
from refblo.conformance.diagnosis import Diagnosis, Mistake, Place, Setting, Subject, diagnose
from refblo.conformance.truth.program import Frozen, Losses, Program, build
from refblo.conformance.truth.reference import Reference, reference
from refblo.noise import Draws
from refblo.rules import Rule
from refblo.types import Estimand
from tests.conformance.planted import Matrices, hpo_sgld

Array = np.ndarray
N, P, T = 4, 3, 5
SHAPES = ((2, 2),)


@dataclass(frozen=True, eq=False)
class Problem:
    """A generated bilevel problem with its inner run."""

    inner: Callable[..., Tensor]
    outer: Callable[..., Tensor]
    lam: Tensor
    theta0: Tensor
    rule: Rule
    schedule: Schedule = field(default_factory=lambda: Schedule.last(T))
    estimand: Estimand = Estimand.UNROLLED
    start: Tensor | None = None  # dθ⁰/dλ
    noise: Tensor | None = None
    batches: Sequence[Tensor] | None = None
    outer_batches: Sequence[Tensor] | None = None
    terms: int | None = None
    shapes: tuple[tuple[int, ...], ...] = SHAPES
    closed: Array | None = None  # the hypergradient in closed form, for a density
    _subject: list[Subject] = field(default_factory=list, init=False)

    def initial(self, lam: Tensor) -> Tensor:
        return self.theta0 if self.start is None else self.theta0 + self.start @ lam

    def subject(self) -> Subject:
        """The truth, made once."""
        if not self._subject:
            self._subject.append(self._made())
        return self._subject[0]

    def _made(self) -> Subject:
        program = self.subject_program()
        truth = reference(
            program,
            self.estimand,
            np.eye(self.lam.numel()),
            exhaustive=True,
            draws=Draws(0),
            ulp=float(np.finfo(np.float64).eps),
            runs=2,
            confirm=0,
        )
        if self.closed is not None:
            zero = np.zeros_like(self.closed)
            truth = replace(truth, direct=zero, indirect=self.closed)
        return self.subject_of(program, truth)

    def subject_program(self) -> Program:
        """The run as a program."""
        frozen = Frozen(self.noise, self.batches, self.outer_batches)
        losses = Losses(self.inner, self.outer, self.initial, self.rule, frozen)
        return build(losses, self.lam, self.schedule)

    def subject_of(self, program: Program, truth: Reference) -> Subject:
        """The program with its truth."""
        return Subject(program, self.estimand, truth, self.terms, self.shapes)


def generated(seed: int, **changes: Any) -> Problem:
    """A curved problem: a small network's loss with a weight on each row of data, and a ridge."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, y, weights = normal(8, 2), normal(8), normal(8, P)
    xv, yv, direct, coupling = normal(6, 2), normal(6), normal(P, P), normal(N, P)

    def net(theta: Tensor, data: Tensor) -> Tensor:
        first, second = theta[:2], theta[2:]
        return torch.tanh(data @ first) + data @ second

    def inner(lam: Tensor, theta: Tensor, batch: Tensor | None = None) -> Tensor:
        rows = slice(None) if batch is None else batch
        residual = net(theta, x[rows]) - y[rows]
        weight = torch.sigmoid(weights[rows] @ lam)
        pull = theta - 0.3 * torch.tanh(coupling @ lam)
        return (weight * residual**2).mean() + 0.5 * (1 + lam[0] ** 2) * (pull * pull).sum()

    def outer(lam: Tensor, theta: Tensor, batch: Tensor | None = None) -> Tensor:
        rows = slice(None) if batch is None else batch
        misfit = (net(theta, xv[rows]) - yv[rows]).abs().pow(3).mean()
        return misfit + 0.1 * torch.sin(direct @ lam).sum() + 0.2 * theta.sum() * lam[1]

    problem = Problem(inner, outer, 0.5 * normal(P), normal(N), Rule(0.12))
    draw: dict[str, Callable[[], Any]] = {
        "start": lambda: 0.5 * normal(N, P),
        "noise": lambda: 0.2 * normal(T, N),
        "batches": lambda: [torch.randperm(8, generator=generator)[:3] for _ in range(T)],
        "outer_batches": lambda: [torch.randperm(6, generator=generator)[:3] for _ in range(T + 1)],
    }
    made: dict[str, Any] = {
        name: draw[name]() if value is True else value for name, value in changes.items()
    }
    return replace(problem, **made)


def unrolled(
    problem: Problem,
    *,
    lam: Tensor | None = None,
    rule: Rule | None = None,
    schedule: Schedule | None = None,
    noise: Tensor | None = None,
    batches: Sequence[Tensor] | None = None,
    outer_batches: Sequence[Tensor] | None = None,
    inner: Callable[..., Tensor] | None = None,
    outer: Callable[..., Tensor] | None = None,
    start: Callable[[Tensor], Tensor] | None = None,
    at: Callable[[Tensor, int], Tensor] = lambda theta, _: theta,
    after: Callable[[Tensor, int], Tensor] = lambda state, _: state,
    gradient: Callable[[Tensor, int], Tensor] = lambda g, _: g,
    measured: Callable[[Tensor, int], Tensor] = lambda theta, _: theta,
    advance: Callable[[Tensor, Tensor, int, Tensor | None], Tensor] | None = None,
) -> Array:
    """Differentiate the run by autograd; every argument is a place for a mistake.

    Args:
        problem: what is right.
        lam: λ.
        rule: the optimiser.
        schedule: B and M.
        noise: the noise.
        batches: of the steps.
        outer_batches: of the outer loss.
        inner: the inner loss.
        outer: the outer loss.
        start: λ ↦ θ⁰.
        at: θ^t ↦ where the gradient of step t is taken.
        after: the state after step t.
        gradient: the gradient that step t uses.
        measured: θ^m ↦ where the outer loss is taken.
        advance: (state, gradient, step, noise) ↦ state.
    """
    leaf = (problem.lam if lam is None else lam).clone().requires_grad_()
    rule, schedule = rule or problem.rule, schedule or problem.schedule
    noise = problem.noise if noise is None else noise
    batches = problem.batches if batches is None else batches
    outer_batches = problem.outer_batches if outer_batches is None else outer_batches
    inner, outer = inner or problem.inner, outer or problem.outer
    advance = advance or partial(rule.advance, lam=leaf)
    state = rule.state((start or problem.initial)(leaf))
    n = problem.theta0.numel()
    total = torch.zeros((), dtype=torch.float64)
    for t in range(schedule.steps):
        point = at(state[:n], t)
        if not point.requires_grad:
            point = point.clone().requires_grad_()
        loss = inner(leaf, point, None if batches is None else batches[t])
        (g,) = torch.autograd.grad(loss, point, create_graph=True)
        added = None if noise is None else noise[t]
        state = after(advance(state, gradient(g, t), t, added), t)
        if schedule.sampled(t + 1):
            batch = None if outer_batches is None else outer_batches[t + 1]
            total = total + outer(leaf, measured(state[:n], t + 1), batch) / schedule.samples
    (found,) = torch.autograd.grad(total, leaf, allow_unused=True, materialize_grads=True)
    result: Array = found.numpy()
    return result


def terms(problem: Problem) -> tuple[Array, Array]:
    """The direct and the indirect term."""
    direct = unrolled(problem, measured=lambda theta, _: theta.detach())
    return direct, unrolled(problem) - direct


@dataclass(frozen=True, eq=False)
class Plant:
    """A mistake made on a problem.

    Attributes:
        mistake: which.
        problem: on what.
        vector: what is returned.
        place: which part it is in.
        earlier: calls made before, as (λ, returned).
        again: the implementation at another λ.
        blocks: named parts of λ.
    """

    mistake: Mistake
    problem: Problem
    vector: Array
    place: Place = Place.WHOLE
    earlier: tuple[tuple[Array, Array], ...] = ()
    again: Callable[[Array], Array] | None = None
    blocks: dict[str, slice] = field(default_factory=dict)

    def diagnosed(self) -> Diagnosis:
        subject = self.problem.subject()
        truth = subject.reference
        noise = float(np.linalg.norm(truth.rounding + truth.error))
        assert np.linalg.norm(self.vector - truth.value) > 1e-9 * truth.scale, "the plant is right"
        setting = Setting(subject, self.vector, self.earlier, again=self.again, accuracy=noise)
        return diagnose(setting, self.blocks, seconds=60)


Planter = Callable[[int], Iterator[Plant]]
PLANTERS: list[Planter] = []


def planter(function: Planter) -> Planter:
    PLANTERS.append(function)
    return function


def plants(seed: int) -> list[Plant]:
    """All plants on the problems of one seed."""
    return [plant for function in PLANTERS for plant in function(seed)]


@planter
def of_terms(seed: int) -> Iterator[Plant]:
    """Terms and signs, on a run whose start depends on λ."""
    problem = generated(seed, start=True)
    direct, indirect = terms(problem)
    held = lambda theta, _: theta.detach()  # noqa: E731
    yield Plant(
        Mistake.MISSING_DIRECT,
        problem,
        unrolled(problem, outer=lambda lam, theta, b: problem.outer(lam.detach(), theta, b)),
    )
    yield Plant(Mistake.MISSING_INDIRECT, problem, unrolled(problem, measured=held))
    yield Plant(Mistake.ZERO, problem, np.zeros(P))
    yield Plant(Mistake.WRONG_SIGN, problem, -direct - indirect)
    yield Plant(Mistake.WRONG_SIGN, problem, direct - indirect, Place.INDIRECT)
    yield Plant(Mistake.WRONG_SIGN, problem, indirect - direct, Place.DIRECT)
    yield Plant(
        Mistake.INITIAL_NOT_DIFFERENTIATED,
        problem,
        unrolled(problem, start=lambda lam: problem.initial(lam).detach()),
    )
    yield Plant(
        Mistake.MISSING_TRANSITIONS,
        problem,
        unrolled(problem, inner=lambda lam, theta, b: problem.inner(lam.detach(), theta, b)),
    )
    yield Plant(Mistake.FIRST_ORDER, problem, unrolled(problem, gradient=held))
    for factor, place in ((3.7, Place.WHOLE), (3.2e-8, Place.INDIRECT), (-0.3, Place.DIRECT)):
        scaled = {
            Place.WHOLE: factor * (direct + indirect),
            Place.INDIRECT: direct + factor * indirect,
            Place.DIRECT: factor * direct + indirect,
        }[place]
        yield Plant(Mistake.SCALED, problem, scaled, place)
    size = float(np.linalg.norm(_slope(problem)))
    for eps in (1e-2 / size, 1e-3, 1e-4 / size):
        yield Plant(Mistake.DIFFERENCE_TIMES_EPS_SQUARED, problem, direct + eps**2 * indirect)
        yield Plant(Mistake.DIFFERENCE_NOT_DIVIDED, problem, direct + 2 * eps * indirect)
    total = direct + indirect
    yield Plant(Mistake.ONES_IN_EVERY_ENTRY, problem, np.full(P, total.sum()))
    yield Plant(Mistake.PERMUTED, problem, np.roll(total, 1))
    changed = total.copy()
    changed[1] = 1.3 * changed[1] + 0.4
    yield Plant(Mistake.ONE_ENTRY, problem, changed)
    changed = total.copy()
    changed[2:] = 0
    blocks = {"scale": slice(0, 2), "decay": slice(2, 3)}
    yield Plant(Mistake.ONE_BLOCK, problem, changed, blocks=blocks)


def _slope(problem: Problem) -> Array:
    """∂_θ f at θ^T."""
    theta = torch.zeros(0)

    def kept(lam: Tensor, at: Tensor, batch: Tensor | None) -> Tensor:
        nonlocal theta
        theta = at.detach()
        return problem.outer(lam, at, batch)

    unrolled(problem, outer=kept)
    leaf = theta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(problem.outer(problem.lam, leaf, None), leaf)
    result: Array = slope.numpy()
    return result


@planter
def of_factors(seed: int) -> Iterator[Plant]:
    """Factors, where no two of them are the same: M = 3 of T = 5, τ = 0.7."""
    rule = Rule(0.12, temperature=0.7)
    problem = generated(
        seed, rule=rule, schedule=Schedule(T - 3, 3), estimand=Estimand.PATHWISE, start=True
    )
    direct, indirect = terms(problem)
    for mistake, factor in (
        (Mistake.FACTOR_TWO, 2.0),
        (Mistake.FACTOR_HALF, 0.5),
        (Mistake.SUM_FOR_MEAN, 3.0),
        (Mistake.DIVIDED_BY_ALL_STEPS, 3 / 5),
        (Mistake.DIVIDED_BY_ONE_MORE, 3 / 4),
        (Mistake.DIVIDED_BY_ONE_FEWER, 3 / 2),
        (Mistake.EPSILON_FOR_GAMMA, 1.4),
        (Mistake.GAMMA_FOR_EPSILON, 1 / 1.4),
        (Mistake.TEMPERATURE_LEFT_IN, 0.7),
        (Mistake.TEMPERATURE_TWICE, 1 / 0.7),
        (Mistake.STEP_SIZE_TWICE, 0.12),
        (Mistake.STEP_SIZE_LEFT_OUT, 1 / 0.12),
    ):
        yield Plant(mistake, problem, factor * (direct + indirect))
        yield Plant(mistake, problem, direct + factor * indirect, Place.INDIRECT)


@planter
def between_calls(seed: int) -> Iterator[Plant]:
    """What an earlier call left behind."""
    problem = generated(seed)
    here, near = problem.lam, problem.lam * 1.1 + 0.02
    before, now = unrolled(problem, lam=near), unrolled(problem)
    earlier = ((near.numpy(), before),)
    yield Plant(Mistake.ACCUMULATED, problem, now + before, earlier=earlier)
    yield Plant(Mistake.STALE_LAMBDA, problem, before, earlier=earlier)
    yield Plant(Mistake.STALE_LAMBDA, problem, _stale_run(problem, near), earlier=earlier)
    left = np.zeros(P)
    state = problem.theta0
    for t in range(2):
        at, lam = state.clone().requires_grad_(), here.clone().requires_grad_()
        by_lam, by_theta = torch.autograd.grad(problem.inner(lam, at), (lam, at))
        left = left + by_lam.numpy()
        state = problem.rule.advance(state, by_theta, t, None)
    yield Plant(Mistake.GRADIENT_LEFT_IN_BUFFER, problem, now + left)

    def single(lam: Array) -> Array:
        return unrolled(problem, lam=torch.as_tensor(lam)).astype(np.float32).astype(np.float64)

    yield Plant(Mistake.FLOAT32, problem, single(here.numpy()), again=single)
    for dtype in (torch.bfloat16, torch.float16):
        rounded = torch.from_numpy(unrolled(problem)).to(dtype).double().numpy()
        yield Plant(Mistake.HALF_PRECISION, problem, rounded)

    def quotients(lam: Array, h: float = 1e-7) -> Array:
        objective = problem.subject_program().objective
        values = [
            [objective(torch.as_tensor(lam + sign * h * unit)) for unit in np.eye(lam.size)]
            for sign in (1, -1)
        ]
        result: Array = (np.array(values[0]) - np.array(values[1])) / (2 * h)
        return result

    yield Plant(Mistake.DIFFERENCE_NOISE, problem, quotients(here.numpy()), again=quotients)


def _stale_run(problem: Problem, old: Tensor) -> Array:
    """The iterates are those of another λ; the derivative is taken at this one."""
    states = [problem.theta0]
    for t in range(T):
        at = states[-1].clone().requires_grad_()
        (g,) = torch.autograd.grad(problem.inner(old, at), at)
        states.append(problem.rule.advance(states[-1], g, t, None).detach())

    def moved(state: Tensor, t: int) -> Tensor:
        return state - state.detach() + states[t + 1]

    return unrolled(problem, after=moved)


@planter
def of_steps(seed: int) -> Iterator[Plant]:
    """The derivative of a step."""
    problem = generated(seed, start=True)
    direct, _ = terms(problem)
    held = lambda theta, _: theta.detach()  # noqa: E731
    yield Plant(Mistake.IDENTITY_FOR_JACOBIAN, problem, unrolled(problem, at=held))
    jacobians, mixed, slope, start = _dense(problem)
    for mistake, shift in ((Mistake.JACOBIAN_TOO_MANY, 1), (Mistake.JACOBIAN_TOO_FEW, -1)):
        found = direct + slope @ _product(jacobians, 0) @ start
        for t in range(T):
            first = max(t + 1 - shift, 0) if shift > 0 else min(t + 2, T)
            found = found + slope @ _product(jacobians, first) @ mixed[t]
        yield Plant(mistake, problem, found)
    other = direct + _swept([2 * np.eye(N) - j for j in jacobians], mixed, slope, start)
    yield Plant(Mistake.HESSIAN_SIGN, problem, other)

    yield Plant(Mistake.LAST_TRANSITION, problem, _last_step_without_lam(problem))
    for kept in (1, 3):
        cut = lambda state, t, at=T - 1 - kept: state.detach() if t == at else state  # noqa: E731
        yield Plant(Mistake.TRUNCATED, problem, unrolled(problem, after=cut))
    yield Plant(Mistake.OFF_BY_ONE, problem, unrolled(problem, schedule=Schedule.last(T - 1)))
    origin = problem.initial(problem.lam)
    stay = lambda theta, _: theta - theta.detach() + origin  # noqa: E731
    yield Plant(Mistake.STALE_THETA, problem, unrolled(problem, measured=stay))
    yield Plant(
        Mistake.STATE_TOO_FAR,
        problem,
        unrolled(problem, start=lambda _: _moved(problem, problem.initial(problem.lam)).detach()),
    )
    yield Plant(
        Mistake.STATE_TOO_FAR,
        problem,
        unrolled(problem, measured=lambda th, _: th - th.detach() + _moved(problem, th.detach())),
    )
    yield Plant(Mistake.HPO_SGLD, problem, hpo_sgld(Matrices(problem.subject().program)))

    def wrong_loss(lam: Tensor, theta: Tensor, batch: Tensor | None) -> Tensor:
        return problem.inner(lam, theta, batch)

    yield Plant(Mistake.INNER_FOR_OUTER, problem, unrolled(problem, outer=wrong_loss))
    for piece in (slice(0, 2), slice(2, 4)):

        def cut_piece(theta: Tensor, _: int, piece: slice = piece) -> Tensor:
            kept = theta.clone()
            kept[piece] = theta[piece].detach()
            return kept

        yield Plant(Mistake.TASK_DROPPED, problem, unrolled(problem, measured=cut_piece))
    yield Plant(Mistake.CONTINUOUS_ADJOINT, problem, _adjoint_flow(problem))
    yield Plant(
        Mistake.ANOTHER_ESTIMAND,
        replace(problem, estimand=Estimand.PATHWISE, schedule=Schedule(2, 3)),
        unrolled(problem),
    )
    square = generated(seed, start=None)
    square = replace(
        square,
        inner=lambda lam, theta, _=None: square_inner(lam, theta),
        lam=torch.linspace(-0.5, 0.7, N, dtype=torch.float64),
        outer=lambda lam, theta, _=None: theta.pow(3).sum() + lam.sin().sum() * theta[0],
    )
    jacobians, mixed, slope, start = _dense(square)
    direct, _ = terms(square)
    swapped = [matrix.T for matrix in mixed]
    yield Plant(
        Mistake.TRANSPOSED_MIXED, square, direct + _swept(jacobians, swapped, slope, 0 * start)
    )
    meta = replace(
        square, start=torch.eye(N, dtype=torch.float64), theta0=torch.zeros(N, dtype=torch.float64)
    )
    for divisor in (1.0, meta.rule.constant("step_size")):
        yield Plant(Mistake.REPTILE, meta, _displacement(meta) / divisor)
    yield Plant(Mistake.REPTILE, meta, -_displacement(meta))


def _last_step_without_lam(problem: Problem) -> Array:
    calls = 0

    def inner(lam: Tensor, theta: Tensor, batch: Tensor | None) -> Tensor:
        nonlocal calls
        calls += 1
        return problem.inner(lam.detach() if calls == T else lam, theta, batch)

    return unrolled(problem, inner=inner)


def square_inner(lam: Tensor, theta: Tensor) -> Tensor:
    """As many hyperparameters as parameters, coupled without symmetry."""
    matrix = torch.arange(1.0, N * N + 1, dtype=torch.float64).reshape(N, N).sin()
    return 0.5 * (theta - matrix @ torch.tanh(lam)).square().sum() + 0.1 * theta.pow(4).sum()


def _displacement(problem: Problem) -> Array:
    """θ⁰ − θ^T."""
    state = problem.initial(problem.lam)
    first = state
    for t in range(T):
        at = state.clone().requires_grad_()
        (g,) = torch.autograd.grad(problem.inner(problem.lam, at), at)
        state = problem.rule.advance(state, g, t, None)
    result: Array = (first - state).detach().numpy()
    return result


def _moved(problem: Problem, theta: Tensor) -> Tensor:
    """θ after one more step."""
    at = theta.detach().clone().requires_grad_()
    (g,) = torch.autograd.grad(problem.inner(problem.lam, at, None), at)
    return problem.rule.advance(at.detach(), g, 0, None)


def _dense(problem: Problem) -> tuple[list[Array], list[Array], Array, Array]:
    """∂θ^{t+1}/∂θ^t, ∂θ^{t+1}/∂λ for every step, ∂_θ f at θ^T and dθ⁰/dλ."""
    lam, theta = problem.lam, problem.initial(problem.lam)
    jacobians, mixed = [], []

    def step(at: Tensor, z: Tensor) -> Tensor:
        g: Tensor = torch.func.grad(lambda q: problem.inner(at, q, None))(z)
        return z - problem.rule.constant("step_size") * g

    for _ in range(T):
        jacobians.append(torch.func.jacrev(step, 1)(lam, theta).numpy())
        mixed.append(torch.func.jacrev(step, 0)(lam, theta).numpy())
        theta = step(lam, theta)
    slope = torch.func.grad(lambda q: problem.outer(lam, q, None))(theta).numpy()
    start = torch.func.jacrev(problem.initial)(lam).numpy()
    return jacobians, mixed, slope, start


def _product(jacobians: list[Array], first: int) -> Array:
    """J_{T−1} … J_first."""
    result: Array = np.eye(N)
    for jacobian in jacobians[first:]:
        result = jacobian @ result
    return result


def _swept(jacobians: list[Array], mixed: list[Array], slope: Array, start: Array) -> Array:
    tangent = start
    for jacobian, source in zip(jacobians, mixed, strict=True):
        tangent = jacobian @ tangent + source
    result: Array = slope @ tangent
    return result


def _adjoint_flow(problem: Problem) -> Array:
    """α and θ integrated backwards from θ^T by Euler's method."""
    lam, rule = problem.lam, problem.rule
    theta = problem.initial(lam)
    grad = torch.func.grad(problem.inner, 1)
    for _ in range(T):
        theta = theta - rule.constant("step_size") * grad(lam, theta)
    direct, alpha = torch.func.grad(problem.outer, (0, 1))(lam, theta)
    found = direct
    for _ in range(T):
        pull = torch.func.vjp(grad, lam, theta)[1]
        by_lam, by_theta = pull(alpha)
        found = found - rule.constant("step_size") * by_lam
        theta = theta + rule.constant("step_size") * grad(lam, theta)
        alpha = alpha - rule.constant("step_size") * by_theta
    result: Array = (found + alpha @ torch.func.jacrev(problem.initial)(lam)).numpy()
    return result


@planter
def of_samples(seed: int) -> Iterator[Plant]:
    """The mean over samples."""
    problem = generated(seed, schedule=Schedule(T - 3, 3), estimand=Estimand.PATHWISE)
    yield Plant(
        Mistake.DETACHED_SAMPLE,
        problem,
        unrolled(
            problem, after=lambda s, t: s, at=lambda th, _: th.detach(), advance=_cut(problem)
        ),
    )
    direct, _ = terms(problem)
    near = np.mean([_near(problem, m, 2) for m in (3, 4, 5)], axis=0)
    yield Plant(Mistake.TRUNCATED_AT_SAMPLE, problem, direct + near)


def _cut(problem: Problem) -> Callable[[Tensor, Tensor, int, Tensor | None], Tensor]:
    return lambda state, g, t, noise: problem.rule.advance(state.detach(), g, t, noise)


def _near(problem: Problem, m: int, count: int) -> Array:
    """The part of sample m's gradient that comes through its last steps."""
    alone = replace(problem, schedule=Schedule.last(m))
    after = lambda state, t: state.detach() if t == m - count - 1 else state  # noqa: E731
    whole = unrolled(alone, after=after)
    result: Array = whole - unrolled(alone, measured=lambda theta, _: theta.detach())
    return result


@planter
def of_draws(seed: int) -> Iterator[Plant]:
    """Noise and batches."""
    problem = generated(seed, noise=True, batches=True, outer_batches=True)
    noise, batches, outer_batches = problem.noise, problem.batches, problem.outer_batches
    assert noise is not None
    assert batches is not None
    assert outer_batches is not None
    yield Plant(Mistake.NOISE_NOT_SHARED, problem, unrolled(problem, noise=noise.flip(0)))
    for factor in (0.5**0.5, 0.12 / 0.24**0.5, 1.7):
        yield Plant(Mistake.NOISE_SCALED, problem, unrolled(problem, noise=factor * noise))
    for factor in (0.5, 2.0):
        rule = replace(problem.rule, step_size=factor * problem.rule.constant("step_size"))
        yield Plant(Mistake.DRIFT_SCALED, problem, unrolled(problem, rule=rule))
    yield Plant(
        Mistake.MINIBATCH_NOT_SHARED, problem, unrolled(problem, batches=list(batches)[::-1])
    )
    yield Plant(
        Mistake.BATCH_TOO_FAR, problem, unrolled(problem, batches=[*batches[1:], batches[0]])
    )
    yield Plant(
        Mistake.BATCH_TOO_FAR,
        problem,
        unrolled(problem, outer_batches=[*outer_batches[1:], outer_batches[0]]),
    )
