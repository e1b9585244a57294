"""What an iterative implicit method claims on a problem of any size: it solves its linear system.

At the iterate θ^T where it stops, the estimate must be that of a dense factorisation of the same Hessian,
assembled by forward mode, up to what its residual allows:

    ‖error‖ ≤ ‖C‖ ‖r‖ / λ_min(H),   ‖r‖ ≤ tolerance · ‖f_θ‖.
"""

import numpy as np

from refblo.chain import Chain, Langevin
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding
from refblo.contracts.relations import RelationJudgement
from refblo.contracts.rounding import ROUNDINGS_A_STEP, unit_roundoff
from refblo.contracts.selection import array, full_batch
from refblo.derivatives import outer_gradients
from refblo.estimators import IFTConjugateGradient
from refblo.problem import FixedInitial
from refblo.problems.case import Case
from refblo.theory.predictions import local_derivatives
from refblo.types import Status

TOLERANCE = 1e-9
"""The relative residual asked for: far below any bias, far above rounding."""

LARGEST = 1000
"""The most inner parameters for which a dense Hessian is assembled in a check."""


def solves_its_system(name: str) -> Contract:
    """CG run to a relative residual agrees with the dense solve at the same iterate."""

    def check(case: Case, context: Context) -> ContractFinding:
        steps, rule = case.schedule.steps, Langevin(case.dynamics.step_size)
        theta = Chain(case.problem, rule, context.draws).last(case.lam, steps)
        local = local_derivatives(case.problem, case.lam, theta)
        direct = array(outer_gradients(case.problem.outer, case.lam, theta, None)[0])
        dense = direct - local.C.T @ np.linalg.solve(local.H, local.s)
        # In exact arithmetic n iterations suffice; rounding delays an ill-conditioned system.
        method = IFTConjugateGradient(rule, steps, 4 * len(theta), tolerance=TOLERANCE)
        result = method.estimate(case.problem, case.lam, context.draws)
        eigenvalues = np.linalg.eigvalsh(local.H)
        coupling, slope = float(np.linalg.norm(local.C, 2)), float(np.linalg.norm(local.s))
        left = coupling * TOLERANCE * slope / float(eigenvalues[0])
        condition = float(eigenvalues[-1] / eigenvalues[0])
        u = unit_roundoff(case.lam.dtype)
        size = float(np.linalg.norm(dense)) + coupling * slope / float(eigenvalues[0])
        allowed = left + ROUNDINGS_A_STEP * len(theta) * u * condition * size
        off = float(np.linalg.norm(array(result.value) - dense))
        solved = result.status is Status.COMPLETED
        judgement = RelationJudgement(
            holds=solved and off <= allowed,
            measured=f"off the dense solve by {off:.1e}, {result.cost.hessian_products} products",
            predicted=f"at most {allowed:.1e}, κ(H) = {condition:.3g}",
            margin=off / allowed,
        )
        return ContractFinding(judgement, cost=result.cost)

    def applies(case: Case) -> bool:
        return (
            "strongly convex" in case.tags
            and full_batch(case)
            and isinstance(case.problem.initial, FixedInitial)
            and case.problem.initial(case.lam).numel() <= LARGEST
        )

    return Contract(
        name=f"{name}: solves its system",
        estimator=name,
        relation="Exact",
        claim="run to a small residual it is the dense solve at the same iterate, on any size",
        claims=("field-cg",),
        applies=applies,
        check=check,
    )
