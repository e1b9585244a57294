"""An implicit hypergradient that comes with a bound on its error, and one that meets a requested one.

Estimates f_λ − f_θ·H⁻¹·C, by gradient descent on L_T and conjugate gradients on H q = f_θ, both of them
continued until the a posteriori bound of `refblo.estimators.error_bound` (Ehrhardt and Roberts 2023) is
at most the error asked for. The inner run is continued while what it leaves takes more than half of
that, with ‖q‖ ≤ ‖f_θ‖/μ known before any system is solved; then the residual gets what is left.

Order: O(κ log(1/error)) gradients and O(√κ log(1/error)) Hessian products for an inner problem of
condition number κ. No T, no series length, no number of iterations has to be chosen.

Claims: field-a-posteriori, field-posteriori.
"""

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor
from torch.linalg import vector_norm
from typing_extensions import override

from refblo.chain import Chain, Langevin
from refblo.cost import counting, decide, number, numbers
from refblo.derivatives import (
    MixedProduct,
    hessian_product_function,
    inner_gradient,
    mixed_product,
    outer_gradients,
)
from refblo.errors import require
from refblo.estimators.error_bound import Constants, error_bound
from refblo.estimators.ift import IFTConjugateGradient
from refblo.estimators.protocol import Estimator, conclude, explain, finite, is_finite
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem, FullBatch
from refblo.types import Ending, Estimand, Hypergradient, Lam, Status, Theta
from refblo.validation import check_arguments


def _require_full_batch(problem: BilevelProblem) -> None:
    """A residual on one batch bounds nothing."""
    batches = (problem.inner_batches, problem.outer_batches)
    full = all(isinstance(each, FullBatch) for each in batches)
    require(full, "problem", "use full batches", problem.name, "give the full-batch problem")


@final
@dataclass(frozen=True)
class BoundedImplicit(Estimator):
    """IFT-CG with a bound on its error, for a fixed number of steps and iterations.

    The problem's batches must be full. `Hypergradient.error` is a bound on the distance from the truth.

    Args:
        dynamics: the step rule of the inner run.
        steps: T ≥ 1, inner steps.
        iterations: K ≥ 1, the most CG iterations.
        constants: of the problem at the λ that is asked about.

    Raises:
        ArgumentError: if one of them is out of range.
    """

    dynamics: Langevin
    steps: int
    iterations: int
    constants: Constants
    name: str = field(default="IFT-CG, bounded", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        require(
            self.steps >= 1, "steps", "be at least 1", self.steps, "run at least one inner step"
        )
        require(
            self.iterations >= 1,
            "iterations",
            "be at least 1",
            self.iterations,
            "give a larger number",
        )

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        check_arguments(problem, lam, draws)
        _require_full_batch(problem)
        lam = lam.detach()
        chain = Chain(problem, self.dynamics, draws)
        with counting() as cost:
            theta = chain.last(lam, self.steps)
            direct, slope = outer_gradients(problem.outer, lam, theta, None)
            hessian = hessian_product_function(problem.inner, lam, theta, None)
            solver = IFTConjugateGradient(self.dynamics, self.steps, self.iterations)
            solve = solver.solve(hessian, slope)
            value = direct - mixed_product(problem.inner, lam, theta, None, solve.q)
            left = inner_gradient(problem.inner, lam, theta, None)
            parts = torch.stack([vector_norm(v) for v in (left, hessian(solve.q) - slope, solve.q)])
        sound = finite(theta, lam)

        def look() -> Ending:
            if not decide(sound, without_numbers=True):
                return explain(chain, lam, self.steps)
            gradient, residual, size = numbers(parts, without_numbers=[0.0, 0.0, 0.0])
            bound = error_bound(self.constants, gradient, residual, size).total
            return Ending(value, solve.status, solve.diverged_at, bound)

        return Hypergradient.later(self.estimand, theta, cost, look)


@final
@dataclass(frozen=True)
class AdaptiveImplicit(Estimator):
    """Gradient descent and CG, each for as long as a requested error needs.

    The problem's batches must be full. With status NOT_CONVERGED, `Hypergradient.error` is the bound that was
    reached, and it is larger than the one asked for; nothing is drawn.

    Args:
        dynamics: the step rule of the inner run, without noise.
        error: the bound asked for, > 0, absolute.
        constants: of the problem at the λ that is asked about.
        most_steps: gives up after so many inner steps.
        most_iterations: gives up after so many CG iterations.

    Raises:
        ArgumentError: if one of them is out of range.
    """

    dynamics: Langevin
    error: float
    constants: Constants
    most_steps: int = 100_000
    most_iterations: int = 10_000
    name: str = field(default="implicit, adaptive", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        require(self.error > 0, "error", "be positive", self.error, "choose a positive error")
        require(
            self.most_steps >= 1,
            "most_steps",
            "be at least 1",
            self.most_steps,
            "give a larger number",
        )
        most = self.most_iterations
        require(most >= 1, "most_iterations", "be at least 1", most, "give a larger number")
        quiet = self.dynamics.noise_scale == 0
        remedy = "use Langevin(step_size)"
        require(quiet, "dynamics", "have no noise", self.dynamics.noise_scale, remedy)

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        check_arguments(problem, lam, draws)
        _require_full_batch(problem)
        lam = lam.detach()
        chain, known = Chain(problem, self.dynamics, draws), self.constants
        with counting() as cost:
            theta, taken = self._descend(chain, lam)
            if not is_finite(theta):
                return conclude(lam * torch.nan, self.estimand, theta, chain, lam, taken, cost)
            direct, slope = outer_gradients(problem.outer, lam, theta, None)
            gradient = _norm(inner_gradient(problem.inner, lam, theta, None))
            left = self.error - self._inner_part(gradient, _norm(slope))
            hessian = hessian_product_function(problem.inner, lam, theta, None)
            # Whatever the inner run left, there is no use in solving to less than half of it.
            goal = max(left, self.error / 2) * known.strong_convexity
            q = self._solve(hessian, slope, goal / known.coupling if known.coupling > 0 else goal)
            value = direct - mixed_product(problem.inner, lam, theta, None, q)
            residual = _norm(hessian(q) - slope)
            bound = error_bound(known, gradient, residual, _norm(q)).total
        status = Status.COMPLETED if bound <= self.error else Status.NOT_CONVERGED
        return Hypergradient(value, self.estimand, theta, status, None, bound, cost)

    def _inner_part(self, gradient: float, slope: float) -> float:
        """The bound on what the inner run leaves, before q is known: ‖q*‖ ≤ ‖f_θ‖/μ.

        CG's iterates from zero grow towards the solution, so that the bound holds for them as well.
        """
        largest = slope / self.constants.strong_convexity
        return error_bound(self.constants, gradient, 0.0, largest).inner

    def _descend(self, chain: Chain, lam: Lam) -> tuple[Theta, int]:
        """Inner steps until what they leave is half the error, looked at in growing strides."""
        problem, theta, taken, stride = chain.problem, chain.initial(lam), 0, 1
        while taken < self.most_steps:
            gradient = inner_gradient(problem.inner, lam, theta, None)
            _, slope = outer_gradients(problem.outer, lam, theta, None)
            left = self._inner_part(_norm(gradient), _norm(slope))
            if not left > self.error / 2:
                break
            for _ in range(min(stride, self.most_steps - taken)):
                theta = chain.step(lam, theta, taken)
                taken += 1
            # A look costs two gradients: at most an eighth more than the steps themselves.
            stride = max(1, taken // 8)
        return theta, taken

    def _solve(self, hessian: MixedProduct, rhs: Theta, goal: float) -> Tensor:
        """CG until the residual's norm is at most `goal`."""
        size = _norm(rhs)
        if size == 0:
            return torch.zeros_like(rhs)
        solver = IFTConjugateGradient(self.dynamics, 1, self.most_iterations, tolerance=goal / size)
        return solver.solve(hessian, rhs).q


def _norm(vector: Tensor) -> float:
    """Euclidean norm, looked at; without numbers nothing is left to be done."""
    return number(vector_norm(vector), without_numbers=0.0)
