"""What Bayesian MAML claims: the derivative of its particles' run, which is none of the four truths.

A run of Stein variational gradient descent is no chain on a loss, so that no oracle knows it. Two truths of
its own stand here, and share no code with the estimator or each other beyond the problem's functions:

- forward mode: the run as a function of λ in torch.func, the kernel differentiated rather than written out;
- differences: the run in NumPy, particle by particle, with the kernel's derivative written out.

The claim is about any division of θ into particles, and is checked on every small problem that learns its
start, where θ is one task's for each time that λ fits into it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from refblo.chain import Langevin
from refblo.contracts.comparison import compare
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding
from refblo.contracts.exact import margin
from refblo.contracts.relations import Exact
from refblo.contracts.rounding import rounding_error
from refblo.contracts.selection import array, is_small
from refblo.derivatives import inner_gradient
from refblo.derivatives.differences import directional_derivatives
from refblo.estimators import Estimator
from refblo.noise import SEED_ZERO, Draws, Stream
from refblo.problem import BilevelProblem, LamInitial
from refblo.problems.case import Case
from refblo.types import ErrorKind, Estimand, Hypergradient, Lam, Loss, Theta, Truth

Array = np.ndarray


@final
@dataclass(frozen=True)
class ParticleLayout:
    """How θ is divided, and how the particles are moved.

    Attributes:
        tasks: groups that do not meet.
        particles: M, of each.
        bandwidth: h of the kernel.
        leader_steps: S; 0 for the outer loss.
    """

    tasks: int
    particles: int
    bandwidth: float
    leader_steps: int


Particles = Callable[[Langevin, int, ParticleLayout], Estimator]
"""Builds BMAML from (rule, T, layout)."""


def layout(case: Case, leader_steps: int) -> ParticleLayout:
    """The fewest particles of a task, and their mean squared distance at θ⁰ for a bandwidth.

    So no kernel is near 0 or 1, where the particles would ignore one another or be one.
    """
    theta = array(case.problem.initial(case.lam))
    tasks = _tasks(case)
    size = theta.size // tasks
    particles = next(count for count in range(2, size + 1) if size % count == 0)
    at = theta.reshape(tasks, particles, -1)
    spread = float(particles / (particles - 1) * 2 * at.var(axis=1).sum(axis=1).mean())
    return ParticleLayout(tasks, particles, spread if spread > 0 else 1.0, leader_steps)


def _tasks(case: Case) -> int:
    n, p = case.problem.initial(case.lam).numel(), case.lam.numel()
    return n // p if n % p == 0 else 1


def _applies(case: Case) -> bool:
    moves = isinstance(case.problem.initial, LamInitial)
    return moves and is_small(case) and case.problem.initial(case.lam).numel() > _tasks(case)


@final
@dataclass(frozen=True, eq=False)
class _Program:
    """λ ↦ the particles after T (and S more) steps, in torch.func.

    Attributes:
        problem: the problem, on full batches.
        dynamics: the step rule.
        draws: the draws of the run.
        steps: T.
        plan: how θ is divided.
    """

    problem: BilevelProblem
    dynamics: Langevin
    draws: Draws
    steps: int
    plan: ParticleLayout

    def chaser(self, lam: Lam) -> Theta:
        """Θ^T, shape (n,)."""
        theta = self.problem.initial(lam)
        for t in range(self.steps):
            theta = self._move(self.problem.inner, lam, theta, t)
        return theta

    def leader(self, lam: Lam) -> Theta:
        """Θ^{T+S}, shape (n,)."""
        theta = self.chaser(lam)
        for t in range(self.steps, self.steps + self.plan.leader_steps):
            theta = self._move(self.problem.outer, lam, theta, t)
        return theta

    def objective(self, leader: Theta) -> Callable[[Tensor], Tensor]:
        """λ ↦ what is differentiated, the leader held."""

        def value(lam: Tensor) -> Tensor:
            chaser = self.chaser(lam)
            if self.plan.leader_steps == 0:
                return self.problem.outer(lam, chaser, None)
            return (chaser - leader).square().sum()

        return value

    def _move(self, loss: Loss, lam: Lam, theta: Theta, step: int) -> Theta:
        plan, rule = self.plan, self.dynamics
        at = theta.reshape(plan.tasks, plan.particles, -1)
        slope = torch.func.grad(lambda t: loss(lam, t, None))(theta).reshape(at.shape)

        def kernel(other: Tensor, own: Tensor) -> Tensor:
            return torch.exp(-(other - own).square().sum() / plan.bandwidth)

        def pair(other: Tensor, pull: Tensor, own: Tensor) -> Tensor:
            push, near = torch.func.grad_and_value(kernel)(other, own)
            move: Tensor = rule.temperature * push - near * pull
            return move

        def one(own: Tensor, others: Tensor, pulls: Tensor) -> Tensor:
            moves: Tensor = torch.func.vmap(pair, in_dims=(0, 0, None))(others, pulls, own)
            return moves.mean(dim=0)

        together = torch.func.vmap(torch.func.vmap(one, in_dims=(0, None, None)))
        moved = theta + rule.step_size * together(at, at, slope).reshape(-1)
        return moved + self._noise(step, theta)

    def _noise(self, step: int, like: Theta) -> Theta:
        if self.dynamics.noise == 0:
            return torch.zeros_like(like)
        return self.dynamics.noise * self.draws.normal(Stream.LANGEVIN, step, like)

    def value(self, lam: Lam, leader: Array) -> float:
        """The objective once more, its run in NumPy: gradients of the inner loss, and loops."""
        plan, rule, problem = self.plan, self.dynamics, self.problem
        theta = array(problem.initial(lam))
        for t in range(self.steps):
            at = theta.reshape(plan.tasks, plan.particles, -1)
            slope = inner_gradient(problem.inner, lam, torch.as_tensor(theta).to(lam), None)
            pulls = array(slope).reshape(at.shape)
            moved = np.zeros_like(at)
            for task in range(plan.tasks):
                for i, own in enumerate(at[task]):
                    for other, pull in zip(at[task], pulls[task], strict=True):
                        away = own - other
                        near = math.exp(-float(away @ away) / plan.bandwidth)
                        push = 2 * rule.temperature / plan.bandwidth * away
                        moved[task, i] += near * (push - pull) / plan.particles
            noise = array(self._noise(t, lam.new_empty(theta.size)))
            theta = theta + rule.step_size * moved.ravel() + noise
        if plan.leader_steps > 0:
            return float(((theta - leader) ** 2).sum())
        return float(problem.outer(lam, torch.as_tensor(theta).to(lam), None))


@final
@dataclass(frozen=True, eq=False)
class _Forward:
    """Forward mode as an estimator, so that its rounding is measured as any other's.

    Attributes:
        program: the run.
        leader: Θ^{T+S} at the λ in question.
    """

    program: _Program
    leader: Theta
    name: str = "forward mode through the particles"
    estimand: Estimand = Estimand.UNROLLED

    def estimate(
        self,
        problem: BilevelProblem,  # noqa: ARG002
        lam: Lam,
        draws: Draws = SEED_ZERO,  # noqa: ARG002
    ) -> Hypergradient:
        """One tangent for each hyperparameter."""
        value = torch.func.jacfwd(self.program.objective(self.leader))(lam)
        return Hypergradient(value, self.estimand, self.leader)


def _truths(program: _Program, lam: Lam) -> tuple[Truth, ...]:
    """Both, for λ, shape (p,)."""
    problem, draws = program.problem, program.draws
    leader = program.leader(lam)
    forward = _Forward(program, leader)
    value = forward.estimate(problem, lam, draws).value
    error = rounding_error(forward, problem, lam, draws, value, program.steps)
    held, eye = array(leader), torch.eye(lam.numel(), dtype=torch.float64)
    precision = float(torch.finfo(lam.dtype).eps)
    found = directional_derivatives(
        lambda at: program.value(at.to(lam), held), lam.cpu().double(), eye, draws, precision
    )
    differences = torch.as_tensor(found.values).to(lam)
    off = float(np.linalg.norm(found.errors))
    kind, what = ErrorKind.ESTIMATED, Estimand.UNROLLED
    return (
        Truth(value, error, kind, what, forward.name),
        Truth(differences, off, kind, what, "differences of the particles' run"),
    )


def through_particles(name: str, factory: Particles, *, leader_steps: int = 0) -> Contract:
    """Equality with both derivatives of the particles' run.

    Args:
        name: of the estimator.
        factory: builds it.
        leader_steps: S; with 0 the outer loss judges the particles.
    """

    def check(case: Case, context: Context) -> ContractFinding:
        plan, steps = layout(case, leader_steps), case.schedule.steps
        method = factory(case.dynamics, steps, plan)
        result = method.estimate(case.problem, case.lam, context.draws)
        rounding = rounding_error(
            method, case.problem, case.lam, context.draws, result.value, steps + leader_steps
        )
        program = _Program(case.problem, case.dynamics, context.draws, steps, plan)
        known = _truths(program, case.lam.detach())
        comparisons = tuple(compare(result.value, truth, rounding) for truth in known)
        judgement = Exact().judge(max(comparisons, key=margin))
        return ContractFinding(judgement, comparisons, cost=result.cost)

    judged = "their distance from a held leader" if leader_steps else "the outer loss"
    return Contract(
        name=f"{name}: exact through the particles",
        estimator=name,
        relation="Exact",
        claim=f"it is the derivative of {judged} through the run of interacting particles",
        claims=("field-stein",),
        applies=_applies,
        check=check,
        # With a leader the same run is reversed, and more.
        quick=leader_steps > 0,
    )
