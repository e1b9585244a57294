"""What the first-order method claims: exactly the direct term, and so a bias that is the indirect one."""

import numpy as np
import torch

from refblo.chain import Chain
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding, Factory
from refblo.contracts.relations import RelationJudgement
from refblo.contracts.rounding import ROUNDINGS_A_STEP, unit_roundoff
from refblo.contracts.selection import SMALL, array
from refblo.derivatives import outer_directional
from refblo.estimators import RMD
from refblo.problem import FixedInitial
from refblo.problems.case import Case


def direct_term(name: str, factory: Factory) -> Contract:
    """Equals (1/M) Σ ∂_λ f(λ, θ^m), taken by forward mode; the bias is RMD minus that."""

    def check(case: Case, context: Context) -> ContractFinding:
        result = factory(case.dynamics, case.schedule).estimate(
            case.problem, case.lam, context.draws
        )
        chain = Chain(case.problem, case.dynamics, context.draws)
        eye = torch.eye(case.lam.numel()).to(case.lam)
        total = torch.zeros_like(case.lam)
        for m, theta in enumerate(chain.iterates(case.lam, case.schedule.steps)):
            if m > 0 and case.schedule.sampled(m):
                resting = torch.zeros_like(theta)
                batch = chain.outer_batch(m)
                total += torch.stack(
                    [
                        outer_directional(case.problem.outer, case.lam, theta, batch, u, resting)
                        for u in eye
                    ]
                )
        limit = array(total / case.schedule.samples)
        exact = RMD(case.dynamics, case.schedule).estimate(case.problem, case.lam, context.draws)
        truth = array(exact.value)
        off = float(np.linalg.norm(array(result.value) - limit))
        bias, size = float(np.linalg.norm(limit - truth)), float(np.linalg.norm(truth))
        u = unit_roundoff(case.lam.dtype)
        allowed = ROUNDINGS_A_STEP * case.schedule.steps * u * (size + float(np.linalg.norm(limit)))
        judgement = RelationJudgement(
            holds=off <= allowed and bias > allowed,
            measured=f"off the direct term by {off:.1e} (allowed {allowed:.1e})",
            predicted=f"a bias of {bias:.4g}, {100 * bias / size:.3g} % of the truth",
            margin=off / allowed,
        )
        return ContractFinding(judgement, cost=result.cost)

    return Contract(
        name=f"{name}: the direct term alone",
        estimator=name,
        relation="Biased",
        claim="it is the direct term, so that its bias is the whole indirect term",
        claims=("text-rmd-fo",),
        applies=lambda case: (
            isinstance(case.problem.initial, FixedInitial) and case.lam.numel() <= SMALL
        ),
        check=check,
    )
