"""What the Laplace approximation claims where it is exact: the gradient of a Gaussian integral.

d/dλ (−log Z) = E_p[∂_λ L_T]/τ with p ∝ exp(−L_T/τ). For an L_T that is quadratic in θ, p is N(θ*, τH⁻¹) and
∂_λ L_T is quadratic too, so that its mean over the 2n points θ* ± √(nτ) H^{−1/2} e_i is exact. No
determinant is taken.
"""

from collections.abc import Callable

import numpy as np
import torch

from refblo.chain import Langevin
from refblo.contracts.closed_form_head import quadratic_inner_loss
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding
from refblo.contracts.minimiser import has_minimiser, minimum
from refblo.contracts.relations import RelationJudgement
from refblo.contracts.rounding import ROUNDINGS_A_STEP, unit_roundoff
from refblo.contracts.selection import array
from refblo.derivatives import outer_gradients
from refblo.estimators import Estimator
from refblo.problems.case import Case

Evidence = Callable[[Langevin, int], Estimator]
"""Builds the method from (rule with τ, T)."""


def gaussian_evidence(name: str, factory: Evidence) -> Contract:
    """At θ*: the mean of ∂_λ L_T/τ over the Gaussian, by cubature."""

    def check(case: Case, context: Context) -> ContractFinding:
        at_rest, temperature = minimum(case), case.dynamics.temperature
        method = factory(Langevin(case.dynamics.step_size, temperature), 1)
        result = method.estimate(at_rest.problem, case.lam, context.draws)
        theta, n = at_rest.problem.initial(case.lam), len(at_rest.local.s)
        eigenvalues, basis = np.linalg.eigh(at_rest.local.H)
        spread = np.sqrt(n * temperature / eigenvalues) * basis
        points = [
            theta + torch.as_tensor(sign * way).to(theta) for way in spread.T for sign in (1, -1)
        ]
        slopes = np.stack(
            [array(outer_gradients(case.problem.inner, case.lam, at, None)[0]) for at in points]
        )
        truth = slopes.mean(axis=0) / temperature
        off = float(np.linalg.norm(array(result.value) - truth))
        condition = float(eigenvalues[-1] / eigenvalues[0])
        # What the two add up: the slopes at the points, and the traces of ∂_λH over the smallest eigenvalue.
        size = float(np.linalg.norm(slopes, axis=1).max()) / temperature + float(
            np.linalg.norm(truth)
        )
        u = unit_roundoff(case.lam.dtype)
        allowed = ROUNDINGS_A_STEP * n * u * condition * (1 + size)
        judgement = RelationJudgement(
            holds=off <= allowed,
            measured=f"distance {off:.1e}",
            predicted=f"at most {allowed:.1e} (κ(H) = {condition:.3g})",
            margin=off / allowed,
        )
        return ContractFinding(judgement, cost=result.cost)

    return Contract(
        name=f"{name}: exact for a Gaussian",
        estimator=name,
        relation="Exact",
        claim="for an L_T that is quadratic in θ it is the gradient of −log ∫ exp(−L_T/τ) dθ",
        claims=("eq-5",),
        applies=lambda case: quadratic_inner_loss(case) and has_minimiser(case),
        check=check,
    )
