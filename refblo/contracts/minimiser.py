"""A case at its inner minimiser, dense: where the contracts of implicit methods get their constants."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64

from refblo.chain import Langevin
from refblo.contracts.implicit import NEWTON_STEPS, has_minimiser
from refblo.contracts.relations import RelationJudgement
from refblo.contracts.rounding import ROUNDINGS_A_STEP, unit_roundoff
from refblo.contracts.selection import array
from refblo.derivatives import outer_gradients
from refblo.oracles.implicit_dense import newton
from refblo.problem import BilevelProblem
from refblo.problems.case import Case
from refblo.theory.predictions import Local, local_derivatives

__all__ = ["Minimum", "has_minimiser", "known_limit", "minimum"]

Array = np.ndarray


@final
@dataclass(frozen=True, eq=False)
class Minimum:
    """A case at θ*.

    Attributes:
        case: the case.
        problem: the case's problem, started at θ*.
        local: the derivatives there.
        direct: f_λ(θ*), shape (p,).
    """

    case: Case
    problem: BilevelProblem
    local: Local
    direct: Float64[Array, " p"]

    @property
    def resting(self) -> Langevin:
        """A noiseless rule under which a chain that starts at θ* stays there."""
        return Langevin(self.case.dynamics.step_size)

    @property
    def solution(self) -> Float64[Array, " n"]:
        """q* = H⁻¹ f_θ, shape (n,)."""
        solved: Array = np.linalg.solve(self.local.H, self.local.s)
        return solved

    @property
    def implicit(self) -> Float64[Array, " p"]:
        """The implicit hypergradient f_λ − q*·C, shape (p,)."""
        return self.with_solution(self.solution)

    def with_solution(self, q: Float64[Array, " n"]) -> Float64[Array, " p"]:
        """f_λ − q·C, shape (p,)."""
        value: Array = self.direct - self.local.C.T @ q
        return value

    def left(self, step: float, count: float) -> Float64[Array, " p"]:
        """C'(I − step·H)^count q*, what so many steps on H q = f_θ from q = 0 leave of it, shape (p,)."""
        once = np.eye(len(self.local.s)) - step * self.local.H
        value: Array = self.local.C.T @ np.linalg.matrix_power(once, int(count)) @ self.solution
        return value

    def contraction(self, step: float) -> float:
        """‖I − step·H‖₂."""
        return float(np.max(np.abs(1 - step * np.linalg.eigvalsh(self.local.H))))

    def rounding(self, steps: int) -> float:
        """A-priori rounding of a recursion of `steps` steps towards a solve of condition number κ(H)."""
        u = unit_roundoff(self.case.lam.dtype)
        condition = float(np.linalg.cond(self.local.H))
        coupling = float(np.linalg.norm(self.local.C, 2))
        slope = float(np.linalg.norm(self.local.s))
        q = float(np.linalg.norm(self.solution))
        size = float(np.linalg.norm(self.implicit)) + coupling * (slope + q)
        return ROUNDINGS_A_STEP * (steps + len(self.local.s)) * u * condition * size


def minimum(case: Case) -> Minimum:
    """The case at θ*, which `has_minimiser` says there is."""
    theta = newton(case.problem, case.lam, NEWTON_STEPS).theta
    local = local_derivatives(case.problem, case.lam, theta)
    direct = array(outer_gradients(case.problem.outer, case.lam, theta, None)[0])
    return Minimum(case, case.problem.starting_at(theta), local, direct)


def known_limit(
    value: Float64[Array, " p"],
    limit: Float64[Array, " p"],
    truth: Float64[Array, " p"],
    allowed: float,
) -> RelationJudgement:
    """Judge a value that has reached a predicted limit which is not the truth, up to `allowed`."""
    off = float(np.linalg.norm(value - limit))
    bias, size = float(np.linalg.norm(limit - truth)), float(np.linalg.norm(truth))
    return RelationJudgement(
        # A bias within the rounding would confirm an unbiased method too.
        holds=off <= allowed < bias,
        measured=f"off the predicted limit by {off:.1e} (allowed {allowed:.1e})",
        predicted=f"a bias of {bias:.4g}, {100 * bias / size:.3g} % of the truth",
        margin=off / allowed,
    )
