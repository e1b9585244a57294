"""Bayesian MAML: its claims on random problems, its special cases, and bent ones that are rejected."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refblo.chain import Chain, Langevin, Schedule
from refblo.contracts.context import Context
from refblo.contracts.particles import ParticleLayout, Particles, layout, through_particles
from refblo.contracts.registry import contracts
from refblo.contracts.rounding import rounding_error, unit_roundoff
from refblo.derivatives import initial_jvp
from refblo.errors import ArgumentError, DivergenceError
from refblo.estimators import RMD, Estimator
from refblo.estimators.bmaml import BMAML
from refblo.estimators.maml import MAML
from refblo.noise import SEED_ZERO, Draws, Stream
from refblo.problem import BilevelProblem, LamInitial, identity_initial
from refblo.problems import build
from refblo.problems.case import Case
from refblo.testing.problems import random_separable
from refblo.types import Batch, Estimand, Hypergradient, Lam, Loss, Status

SEEDS = st.integers(0, 2**32)


def right(rule: Langevin, steps: int, plan: ParticleLayout) -> Estimator:
    """The estimator as it is."""
    return BMAML(rule, steps, plan.particles, plan.bandwidth, plan.tasks, plan.leader_steps)


def moving(n: int, p: int, seed: int) -> Case:
    """A separable problem that is not quadratic, with a θ⁰ that is affine in λ."""
    case = random_separable(seed, n, p)
    start = case.problem.initial(case.lam)
    jacobian = Draws(seed).normal(Stream.INSTANCE, 99, torch.empty(n, p, dtype=start.dtype))
    problem = replace(case.problem, initial=LamInitial(lambda lam: start + jacobian @ lam))
    return replace(case, problem=problem, symbolic=None, statement=None)


@pytest.mark.parametrize("leader_steps", [0, 3])
def test_the_claims_hold_on_its_own_problem(leader_steps: int) -> None:
    case = build("bmaml_regression")
    plan = layout(case, leader_steps)
    assert (plan.tasks, plan.particles) == (2, 2)
    finding = through_particles("BMAML", right, leader_steps=leader_steps).check(case, Context())
    assert finding.judgement.holds, finding.judgement
    assert len({comparison.oracle for comparison in finding.comparisons}) == 2


@settings(max_examples=2)
@given(st.sampled_from([(3, 2), (4, 3), (6, 2)]), st.integers(0, 2), SEEDS)
def test_the_claims_hold_where_nothing_is_quadratic(
    sizes: tuple[int, int], leader_steps: int, seed: int
) -> None:
    contract = through_particles("BMAML", right, leader_steps=leader_steps)
    judgement = contract.check(moving(*sizes, seed), Context()).judgement
    assert judgement.holds, judgement


@settings(max_examples=6)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4)).filter(lambda sizes: sizes[0] != sizes[1]),
    st.integers(1, 4),
    st.floats(0.01, 100.0),
    SEEDS,
)
def test_one_particle_is_maml(
    sizes: tuple[int, int], steps: int, bandwidth: float, seed: int
) -> None:
    case, draws = moving(*sizes, seed), Draws(seed)
    alone = BMAML(case.dynamics, steps, bandwidth=bandwidth)
    found = alone.estimate(case.problem, case.lam, draws)
    known = MAML(case.dynamics, steps).estimate(case.problem, case.lam, draws)
    # A particle's kernel with itself is 1, and it is not repelled: not a bit is another.
    assert torch.equal(found.theta, known.theta)
    bound = rounding_error(alone, case.problem, case.lam, draws, found.value, steps)
    assert float((found.value - known.value).norm()) <= 2 * bound
    assert found.cost.hessian_products == known.cost.hessian_products == steps


@settings(max_examples=6)
@given(st.integers(2, 4), st.integers(1, 4), SEEDS)
def test_particles_that_cannot_see_each_other_are_an_ensemble(
    particles: int, steps: int, seed: int
) -> None:
    """Without noise, and with a kernel that is 1 or 0: MAML with a step of γ/M."""
    case = moving(2 * particles, 3, seed)
    rule = Langevin(case.dynamics.step_size)
    apart = BMAML(rule, steps, particles, bandwidth=1e-9)
    found = apart.estimate(case.problem, case.lam)
    shorter = Langevin(rule.step_size / particles)
    known = MAML(shorter, steps).estimate(case.problem, case.lam)
    bound = rounding_error(apart, case.problem, case.lam, SEED_ZERO, found.value, steps)
    assert float((found.value - known.value).norm()) <= 2 * bound


@settings(max_examples=6)
@given(st.integers(2, 4), st.integers(1, 4), SEEDS)
def test_particles_that_are_all_close_move_together(particles: int, steps: int, seed: int) -> None:
    """With a kernel that is 1 everywhere each takes the mean step, so that no distance changes."""
    case = moving(2 * particles, 3, seed)
    together = BMAML(Langevin(case.dynamics.step_size), steps, particles, bandwidth=1e18)
    end = together.estimate(case.problem, case.lam).theta.reshape(particles, 2)
    start = case.problem.initial(case.lam).reshape(particles, 2)
    size = float(end.norm() + start.norm())
    moved = (end - end[0]) - (start - start[0])
    # The repulsion is of the order of the particles' distances over h.
    assert float(moved.norm()) <= 100 * steps * unit_roundoff(end.dtype) * size


def test_tasks_do_not_meet() -> None:
    """Two tasks at once are each task by itself, added up."""
    case = build("bmaml_regression")
    assert case.statement is not None
    rule, data = Langevin(case.dynamics.step_size, 1.0), dict(case.statement.data)
    both = BMAML(rule, 3, particles=2, bandwidth=2.0, tasks=2, leader_steps=2)
    whole = both.estimate(case.problem, case.lam).value
    total = torch.zeros_like(whole)
    for task in range(2):
        own = {key: x[task : task + 1] if x.ndim > 1 else x for key, x in data.items()}
        losses = replace(case.statement, data=own).in_torch(torch.float64, "cpu")
        problem = BilevelProblem(losses.inner, losses.outer, identity_initial())
        total = total + replace(both, tasks=1).estimate(problem, case.lam).value
    bound = rounding_error(both, case.problem, case.lam, SEED_ZERO, whole, 5)
    assert float((whole - total).norm()) <= 2 * bound


@pytest.mark.parametrize("leader_steps", [0, 1])
def test_one_step_of_two_particles_by_hand(leader_steps: int) -> None:
    """In sympy, from the formulas as they are printed: no autograd, no arrays."""
    x, y, u, v = symbols = sympy.symbols("x y u v", real=True)
    gamma, tau, h = sympy.Rational(1, 8), sympy.Rational(3, 2), sympy.Rational(5, 4)

    def kernel(one: sympy.Expr, other: sympy.Expr) -> sympy.Expr:
        return sympy.exp(-((one - other) ** 2) / h)

    def energy(t: sympy.Expr) -> sympy.Expr:
        return t**4 / 4 + t**2 - t

    def given_all(t: sympy.Expr) -> sympy.Expr:
        return energy(t) + (t - 2) ** 2

    def step(
        loss: Callable[[sympy.Expr], sympy.Expr], own: str, pair: dict[str, int]
    ) -> sympy.Expr:
        near = kernel(u, v)
        mean = sympy.Integer(0)
        for other in ("u", "v"):
            at, mine = sympy.Symbol(other, real=True), sympy.Symbol(own, real=True)
            slope = sympy.diff(loss(at), at)
            # ∂k(θ_j, θ_i)/∂θ_j, which is 0 for j = i.
            push = sympy.diff(near, at) if other != own else sympy.Integer(0)
            weight = near if other != own else sympy.Integer(1)
            mean += (weight * slope - tau * push) / 2
        return (mine - gamma * mean).subs(pair)

    start = {u: x, v: y}
    chaser = [step(energy, own, start) for own in ("u", "v")]
    value = sum(given_all(t) for t in chaser)
    at = {x: sympy.Rational(3, 4), y: sympy.Rational(-1, 3)}
    if leader_steps > 0:
        leader = [
            step(given_all, own, dict(zip((u, v), chaser, strict=True))).subs(at)
            for own in ("u", "v")
        ]
        value = sum((t - fixed) ** 2 for t, fixed in zip(chaser, leader, strict=True))
    known = [float(sympy.diff(value, symbol).subs(at).evalf(30)) for symbol in symbols[:2]]

    def inner(_: torch.Tensor, t: torch.Tensor, __: Batch) -> torch.Tensor:
        return (t**4 / 4 + t**2 - t).sum()

    def outer(_: torch.Tensor, t: torch.Tensor, __: Batch) -> torch.Tensor:
        return (t**4 / 4 + t**2 - t + (t - 2) ** 2).sum()

    lam = torch.tensor([3 / 4, -1 / 3], dtype=torch.float64)
    problem = BilevelProblem(inner, outer, identity_initial())
    method = BMAML(Langevin(1 / 8, 3 / 2), 1, 2, 5 / 4, leader_steps=leader_steps)
    found = method.estimate(problem, lam)
    bound = rounding_error(method, problem, lam, SEED_ZERO, found.value, 1 + leader_steps)
    assert np.linalg.norm(found.value.numpy() - known) <= bound


@dataclass(frozen=True)
class Plain:
    """Bayesian MAML in plain autograd, all steps in one graph, with the errors that people make.

    Attributes:
        repulsion: what the second term is multiplied by; the authors' code has ½.
        averaged: whether a step is the mean over the particles, or their sum.
        through_kernel: whether the kernel is differentiated.
        through_slope: whether the inner gradient is: the authors' code can stop it.
        held: whether the leader is.
        factor: the 2 of the square.
        more: steps too many.
    """

    rule: Langevin
    steps: int
    plan: ParticleLayout
    repulsion: float = 1.0
    averaged: bool = True
    through_kernel: bool = True
    through_slope: bool = True
    held: bool = True
    factor: float = 1.0
    more: int = 0
    name: str = "plain"
    estimand: Estimand = Estimand.UNROLLED

    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        at = lam.detach().requires_grad_()
        theta, plan = problem.initial(at), self.plan
        chain = Chain(problem, self.rule, draws)
        steps = self.steps + self.more
        for t in range(steps):
            theta = self._move(chain, problem.inner, at, theta, t)
        if plan.leader_steps == 0:
            value = problem.outer(at, theta, None)
        else:
            leader = theta
            for t in range(steps, steps + plan.leader_steps):
                leader = self._move(chain, problem.outer, at, leader, t)
            leader = leader.detach() if self.held else leader
            value = self.factor * (theta - leader).square().sum()
        (gradient,) = torch.autograd.grad(value, at)
        return Hypergradient(gradient, self.estimand, theta.detach())

    def _move(
        self, chain: Chain, loss: Loss, lam: torch.Tensor, theta: torch.Tensor, step: int
    ) -> torch.Tensor:
        plan = self.plan
        (slope,) = torch.autograd.grad(loss(lam, theta, None), theta, create_graph=True)
        slope = slope if self.through_slope else slope.detach()
        at = theta.reshape(plan.tasks, plan.particles, -1)
        kernel = torch.exp(-torch.cdist(at, at).square() / plan.bandwidth)
        if not self.through_kernel:
            kernel = kernel.detach()
        away = at * kernel.sum(dim=2, keepdim=True) - kernel @ at
        push = self.repulsion * self.rule.temperature * 2 / plan.bandwidth * away
        moved = (kernel @ slope.reshape(at.shape) - push).reshape(-1)
        return chain.advance(theta, moved / plan.particles if self.averaged else moved, step)


def bent(**wrong: float | bool) -> Particles:
    """A way to build a wrong one."""
    return lambda rule, steps, plan: partial(Plain, rule, steps, plan)(**wrong)  # type: ignore[arg-type]  # of each field's kind


def test_another_right_implementation_is_accepted() -> None:
    contract = through_particles("plain", bent(), leader_steps=3)
    judgement = contract.check(build("bmaml_regression"), Context()).judgement
    assert judgement.holds, judgement


def test_half_the_repulsion_is_half_the_temperature() -> None:
    """What the authors' code computes is BMAML for the square of the posterior."""
    case = build("bmaml_regression")
    rule, plan = Langevin(case.dynamics.step_size, 1.0), layout(case, 2)
    halved = bent(repulsion=0.5)(rule, 5, plan).estimate(case.problem, case.lam).value
    colder = right(Langevin(rule.step_size, 0.5), 5, plan)
    found = colder.estimate(case.problem, case.lam).value
    bound = rounding_error(colder, case.problem, case.lam, SEED_ZERO, found, 7)
    assert float((found - halved).norm()) <= 2 * bound


BUGS: dict[str, tuple[Particles, int]] = {
    "half the repulsion": (bent(repulsion=0.5), 0),
    "leader not held": (bent(held=False), 3),
    "kernel held": (bent(through_kernel=False), 0),
    "one step more": (bent(more=1), 3),
    "particles alone": (lambda r, s, plan: right(r, s, replace(plan, particles=1)), 0),
}
MORE_BUGS: dict[str, tuple[Particles, int]] = {
    "attraction": (bent(repulsion=-1.0), 0),
    "no repulsion": (bent(repulsion=0.0), 3),
    "a sum over the particles": (bent(averaged=False), 0),
    "first order": (bent(through_slope=False), 0),
    "half the square": (bent(factor=0.5), 3),
    "a leader a step behind": (lambda r, s, plan: right(r, s, replace(plan, leader_steps=2)), 3),
    "another temperature": (lambda rule, s, plan: right(Langevin(rule.step_size), s, plan), 0),
    "an ensemble": (lambda rule, steps, _: RMD(rule, Schedule.last(steps)), 0),
}


@pytest.mark.parametrize(
    "bug", [*BUGS, *(pytest.param(name, marks=pytest.mark.full) for name in MORE_BUGS)]
)
def test_planted_bugs_are_rejected(bug: str) -> None:
    make, leader_steps = (BUGS | MORE_BUGS)[bug]
    contract = through_particles("bent", make, leader_steps=leader_steps)
    assert not contract.check(build("maml_quadratic"), Context()).judgement.holds


@pytest.mark.full
def test_tasks_that_meet_are_rejected() -> None:
    contract = through_particles("bent", lambda r, s, plan: right(r, s, replace(plan, tasks=1)))
    assert not contract.check(build("bmaml_regression"), Context()).judgement.holds


def test_the_registry_has_its_claims() -> None:
    named = {contract.estimator for contract in contracts()}
    assert {"BMAML", "BMAML, one particle", "BMAML, chaser loss"} <= named


def test_what_a_run_costs() -> None:
    case = build("bmaml_regression")
    chased = BMAML(case.dynamics, 4, 2, 1.0, 2, leader_steps=3)
    cost = chased.estimate(case.problem, case.lam).cost
    assert (cost.inner_gradients, cost.outer_gradients) == (8, 3)
    assert cost.hessian_products == cost.mixed_products == 4
    cost = replace(chased, leader_steps=0).estimate(case.problem, case.lam).cost
    assert (cost.inner_gradients, cost.outer_gradients) == (8, 1)


@pytest.mark.parametrize("leader_steps", [0, 2])
def test_it_is_a_pure_function(leader_steps: int) -> None:
    case, draws = build("bmaml_regression"), Draws(3)
    method = BMAML(case.dynamics, 3, 2, 1.0, 2, leader_steps)
    # A caller's λ may be a leaf that collects gradients.
    lam = case.lam.clone().requires_grad_()
    first, second = (method.estimate(case.problem, lam, draws) for _ in range(2))
    assert torch.equal(first.value, second.value)
    assert torch.equal(first.theta, second.theta)
    assert first.cost == second.cost
    assert not first.value.requires_grad
    assert not first.theta.requires_grad
    assert lam.grad is None
    assert torch.equal(lam.detach(), case.lam)
    other = method.estimate(case.problem, lam, Draws(4))
    assert not torch.equal(first.value, other.value)


def test_a_divergence_says_where() -> None:
    case = build("bmaml_regression")
    far = BMAML(Langevin(1e160), 4, 2, 1.0, 2).estimate(case.problem, case.lam)
    assert far.status is Status.CHAIN_DIVERGED
    assert far.diverged_at == 2
    with pytest.raises(DivergenceError, match="diverged at step 2"):
        _ = far.value

    def steep(_: torch.Tensor, theta: torch.Tensor, __: Batch) -> torch.Tensor:
        return torch.sqrt(theta.abs().sum() - 2)

    lam = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    flat = BilevelProblem(
        lambda _, t, __: (0 * t).sum(), lambda _, t, __: t.sum(), identity_initial()
    )
    stuck = replace(flat, outer=steep)
    found = BMAML(Langevin(0.1), 2).estimate(stuck, lam)
    assert found.status is Status.OUTER_NOT_FINITE


def test_bad_arguments_say_what_to_do() -> None:
    rule, case, fixed = Langevin(0.1), build("bmaml_regression"), build("quadratic")
    with pytest.raises(ArgumentError, match=r"problem\.initial must depend on lam"):
        BMAML(rule, 2).estimate(fixed.problem, fixed.lam)
    with pytest.raises(ArgumentError, match="particles must share the 12 entries of theta evenly"):
        BMAML(rule, 2, particles=5).estimate(case.problem, case.lam)
    for wrong, message in (
        ({"steps": 0}, "steps must be at least 1"),
        ({"particles": 0}, "particles must be at least 1"),
        ({"tasks": 0}, "tasks must be at least 1"),
        ({"leader_steps": -1}, "leader_steps must be at least 0"),
        ({"bandwidth": 0.0}, "bandwidth must be positive"),
    ):
        with pytest.raises(ArgumentError, match=message):
            BMAML(**{"dynamics": rule, "steps": 2, **wrong})  # type: ignore[arg-type]  # one is wrong


def test_the_tangent_of_the_start_is_the_particles() -> None:
    """θ⁰ = (λ, λ): what a task's particles start at is λ itself."""
    case = build("bmaml_regression")
    unit = torch.eye(6, dtype=torch.float64)[2]
    assert torch.equal(initial_jvp(case.problem.initial, case.lam, unit), unit.repeat(2))
