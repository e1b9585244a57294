"""The inner run of any rule: a chain whose state is θ followed by the optimiser's buffers.

It has what the unrolled estimators ask of a `Chain`. The transition is z^{t+1} = Φ_t(λ, z^t, g^t) with
g^t = ∂_θ L_T(λ, θ^t); Φ is the rule's formula, and its tangent and adjoint are that formula differentiated.

Claims: eq-50, eq-52.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from refblo.chain import Chain, Langevin
from refblo.derivatives import function_and_tangents, inner_gradient
from refblo.noise import Draws
from refblo.problem import BilevelProblem
from refblo.rules.rule import Rule
from refblo.types import Batch, Lam, Theta


@final
@dataclass(frozen=True, eq=False)
class RuleChain:
    """A problem, a rule and the draws.

    Attributes:
        problem: the problem.
        dynamics: the rule; its functions take the flat λ.
        draws: of the batches and the noise, those that `Chain` has.
    """

    problem: BilevelProblem
    dynamics: Rule
    draws: Draws

    @cached_property
    def _drawing(self) -> Chain:
        """What draws: the same batches and the same noise as for Langevin dynamics."""
        rule = self.dynamics
        gamma = rule.constant_step_size or 1.0
        return Chain(self.problem, Langevin(gamma, rule.temperature, rule.noise_scale), self.draws)

    def initial(self, lam: Lam) -> Theta:
        """θ⁰, detached, shape (n,)."""
        return self._drawing.initial(lam)

    def lifted(self, theta: Tensor) -> Tensor:
        """The state, or tangents of it, whose buffers are zero."""
        zeros = [torch.zeros_like(theta)] * self.dynamics.buffers
        return torch.cat([theta, *zeros])

    def theta(self, state: Tensor) -> Tensor:
        """The part of a state, or of tangents of it, that is θ."""
        return state[: state.shape[0] // (1 + self.dynamics.buffers)]

    def inner_batch(self, step: int) -> Batch:
        """The batch that transition `step` sees."""
        return self._drawing.inner_batch(step)

    def outer_batch(self, step: int) -> Batch:
        """The batch that the outer loss sees at iterate `step`."""
        return self._drawing.outer_batch(step)

    def following(self, lam: Lam, state: Tensor, gradient: Theta, step: int) -> Tensor:
        """The next state from this one and its inner gradient."""
        noise = self._drawing.noise(step, gradient)
        return self.dynamics.advance(state, gradient, step, noise, lam)

    def following_with_tangents(
        self,
        lam: Lam,
        state: Tensor,
        gradient: Theta,
        step: int,
        u: Tensor,
        tangent: Tensor,
        change: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The next state and its tangents, from those of λ, of the state and of the gradient.

        Args:
            lam: λ, shape (p,).
            state: z^t, shape (N,).
            gradient: ∂_θ L_T, shape (n,).
            step: t.
            u: of λ, shape (p,) or (p, k).
            tangent: of the state, shape (N,) or (N, k).
            change: of the gradient, shape (n,) or (n, k).
        """
        noise = self._drawing.noise(step, gradient)  # outside: nothing is drawn within a transform

        def function(at_lam: Tensor, at: Tensor, g: Tensor) -> Tensor:
            return self.dynamics.advance(at, g, step, noise, at_lam)

        return function_and_tangents(function, (lam, state, gradient), (u, tangent, change))

    def step(self, lam: Lam, state: Tensor, step: int) -> Tensor:
        """One transition."""
        batch = self.inner_batch(step)
        gradient = inner_gradient(self.problem.inner, lam, self.theta(state), batch)
        return self.following(lam, state, gradient, step)

    def iterates(self, lam: Lam, steps: int) -> Iterator[Theta]:
        """θ⁰, θ¹, …, θ^steps, one after another."""
        state = self.lifted(self.initial(lam))
        yield self.theta(state)
        for step in range(steps):
            state = self.step(lam, state, step)
            yield self.theta(state)

    def first_non_finite(self, lam: Lam, steps: int) -> int | None:
        """The first m ≤ steps with a non-finite θ^m, or None."""
        for index, theta in enumerate(self.iterates(lam, steps)):
            if not bool(torch.isfinite(theta).all()):
                return index
        return None


AnyChain = Chain | RuleChain
"""A chain of Langevin dynamics, or of another rule."""


def chain_of(
    problem: BilevelProblem, dynamics: Langevin | Rule, draws: Draws, lam: Lam, steps: int
) -> AnyChain:
    """The chain of any dynamics.

    Raises:
        ArgumentError, ArgumentTypeError: if a function of λ of the rule has a value out of range.
    """
    if not isinstance(dynamics, Rule):
        return Chain(problem, dynamics, draws)
    if dynamics.functions:
        dynamics.check_at(lam.detach(), steps, problem.initial(lam.detach()).numel())
    return RuleChain(problem, dynamics, draws)
