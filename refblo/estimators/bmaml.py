"""Bayesian MAML: particles moved by Stein variational gradient descent, differentiated in reverse mode.

A task's posterior p ∝ exp(−L_T/τ) is carried by M particles, which every task starts at θ⁰(λ) (Yoon et al.
2018). A step moves them together (Liu and Wang 2016): with k(x, y) = exp(−‖x − y‖²/h) and γ = ε/(2τ),

    θ_i ← θ_i − (γ/M) Σ_j [k(θ_j, θ_i) ∂_θ L_T(θ_j) − τ ∂_{θ_j} k(θ_j, θ_i)],

the first term down the loss, the second, ∂_{θ_j} k = (2/h)(θ_i − θ_j) k, away from the others. It is the
gradient of no loss. Where the particles are after T steps, the chaser Θ^T, is judged in one of two ways:

- by the outer loss, as in MAML: d/dλ f(λ, Θ^T(λ));
- by its distance from a leader, the particles after S more steps on f in the place of L_T, that is, given a
  task's other data as well: d/dλ ‖Θ^T(λ) − Θ^{T+S}‖² = 2 (Θ^T − Θ^{T+S})' dΘ^T/dλ with the leader held
  fixed. The leader moves with λ too, so that this is not the derivative of the distance.

The run is reversed step by step: exact, with T + S gradients forward, T more and as many Hessian products
backward, and memory for T + S iterates. One particle repels nobody: without a leader that is MAML.

The bandwidth h is a fixed number; in the authors' code it follows the median distance, held fixed in the
derivative. The second term of that code is (1/h)(θ_i − θ_j) k, half of what its kernel asks for.

Claims: field-stein.
"""

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from refblo.chain import Chain, Langevin
from refblo.cost import Evaluations, counting, decide
from refblo.derivatives import (
    initial_vjp,
    inner_gradient,
    leaf,
    outer_gradients,
    outer_theta_gradient,
    pull_back,
    recorded_inner_gradient,
)
from refblo.errors import require, require_integer, require_real
from refblo.estimators._meta import require_moving_start
from refblo.estimators.protocol import Estimator, finite
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Ending, Estimand, Hypergradient, Lam, Status, Theta
from refblo.validation import check_arguments, check_vector


@final
@dataclass(frozen=True)
class Stein:
    """What a step of Stein variational gradient descent takes for a gradient.

    Attributes:
        tasks: groups of particles; those of different tasks do not meet.
        particles: M, of each task; θ is tasks × M × d entries, the last index running fastest.
        bandwidth: h > 0.
        temperature: τ > 0.
    """

    tasks: int
    particles: int
    bandwidth: float
    temperature: float

    def direction(self, theta: Theta, slope: Theta) -> Theta:
        """(1/M) Σ_j [k_ij slope_j − τ ∂_j k_ij] for every particle i, shape (n,).

        Args:
            theta: the particles, shape (n,).
            slope: the inner loss's gradient at each, shape (n,).
        """
        at = theta.reshape(self.tasks, self.particles, -1)
        away = at[:, :, None] - at[:, None]
        kernel = torch.exp(-away.square().sum(dim=3) / self.bandwidth)
        driven = kernel @ slope.reshape(at.shape)
        repelled = (kernel[..., None] * away).sum(dim=2) * (2 * self.temperature / self.bandwidth)
        return ((driven - repelled) / self.particles).reshape(-1)


@final
@dataclass(frozen=True)
class BMAML(Estimator):
    """Reverse mode through interacting particles, onto where they start.

    θ⁰ must depend on λ and hold all particles. The θ of a result is the chaser; a divergence of the leader is
    reported at its step counted from T.

    Args:
        dynamics: the step rule; its temperature weighs the repulsion, its noise, if any, is added to a step.
        steps: T ≥ 1, steps of the chaser.
        particles: M ≥ 1, of each task; the inner loss is the sum of theirs.
        bandwidth: h > 0, of the kernel.
        tasks: how many tasks' particles θ holds, one task's after another's.
        leader_steps: S ≥ 0, the leader's further steps on the outer loss, there the sum of the particles'
            energies; with 0 the outer loss itself is differentiated.

    Raises:
        ArgumentError, ArgumentTypeError: if one of them is out of range, or no number.
    """

    dynamics: Langevin
    steps: int
    particles: int = 1
    bandwidth: float = 1.0
    tasks: int = 1
    leader_steps: int = 0
    name: str = field(default="BMAML", kw_only=True)
    estimand: Estimand = field(default=Estimand.UNROLLED, init=False)

    def __post_init__(self) -> None:
        require_integer("steps", self.steps, 1, "run at least one inner step")
        require_integer("particles", self.particles, 1, "use 1 for MAML")
        require_real("bandwidth", self.bandwidth, "choose a positive number")
        require_integer("tasks", self.tasks, 1, "use 1 where all particles are one task's")
        require_integer("leader_steps", self.leader_steps, 0, "use 0 for the outer loss itself")

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        check_arguments(problem, lam, draws)
        require_moving_start(problem)
        lam = lam.detach()
        chain = Chain(problem, self.dynamics, draws)
        stein = self._stein(chain.initial(lam))
        with counting() as cost:
            iterates = self._run(chain, stein, lam)
            chaser = iterates[self.steps]
            if self.leader_steps > 0:
                value, alpha = torch.zeros_like(lam), 2 * (chaser - iterates[-1])
            else:
                batch = chain.outer_batch(self.steps)
                value, alpha = outer_gradients(problem.outer, lam, chaser, batch)
            judged = (value, alpha)
            for t in reversed(range(self.steps)):
                by_lam, alpha = _back(chain, stein, lam, iterates[t], t, alpha)
                value = value + by_lam
            value = value + initial_vjp(problem.initial, lam, alpha)
        return self._conclude(lam, value, iterates, judged, cost)

    def _stein(self, theta: Theta) -> Stein:
        groups = self.tasks * self.particles
        require(
            theta.numel() % groups == 0,
            "particles",
            f"share the {theta.numel()} entries of theta evenly",
            f"{self.tasks} tasks of {self.particles} particles",
            "give θ⁰ one entry for each weight of each particle of each task",
        )
        return Stein(self.tasks, self.particles, self.bandwidth, self.dynamics.temperature)

    def _run(self, chain: Chain, stein: Stein, lam: Lam) -> list[Theta]:
        """θ⁰, …, θ^T, and the leader's θ^{T+1}, …, θ^{T+S}."""
        problem, theta = chain.problem, chain.initial(lam)
        iterates = [theta]
        for t in range(self.steps + self.leader_steps):
            if t < self.steps:
                slope = inner_gradient(problem.inner, lam, theta, chain.inner_batch(t))
            else:
                slope = outer_theta_gradient(problem.outer, lam, theta, chain.outer_batch(t + 1))
            theta = chain.advance(theta, stein.direction(theta, slope), t)
            iterates.append(theta)
        return iterates

    def _conclude(
        self,
        lam: Lam,
        value: Lam,
        iterates: list[Theta],
        judged: tuple[Lam, Theta],
        cost: Evaluations,
    ) -> Hypergradient:
        """The result, or where the run, what judges it or its derivative left the finite numbers."""
        chaser = iterates[self.steps]
        # A flag for each iterate, so that none of them has to be kept until somebody looks.
        left = torch.stack([finite(theta) for theta in iterates])
        sound, whole = finite(*judged), finite(value, lam)

        def look() -> Ending:
            if decide(whole, without_numbers=True):
                return Ending(value)
            check_vector("lam", lam)
            for step, flag in enumerate(left):
                if not flag:
                    return Ending(None, Status.CHAIN_DIVERGED, step)
            status = Status.SENSITIVITY_DIVERGED if sound else Status.OUTER_NOT_FINITE
            return Ending(None, status, self.steps)

        return Hypergradient.later(self.estimand, chaser, cost, look)


def _back(
    chain: Chain, stein: Stein, lam: Lam, theta: Theta, step: int, alpha: Theta
) -> tuple[Lam, Tensor]:
    """What one step, reversed, adds to the hypergradient, shape (p,), and α before it, shape (n,)."""
    at_lam, at = leaf(lam), leaf(theta)
    slope = recorded_inner_gradient(chain.problem.inner, at_lam, at, chain.inner_batch(step))
    moved = chain.advance(at, stein.direction(at, slope), step)
    by_lam, by_theta = pull_back((moved,), (at_lam, at), (alpha,))
    return by_lam, by_theta
