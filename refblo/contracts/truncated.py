"""What truncated and first-order reverse mode claim: a geometric error and a known missing term."""

import numpy as np

from refblo.chain import Chain, Schedule
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding, Curve
from refblo.contracts.relations import Geometric, ParameterSweep
from refblo.contracts.rounding import ROUNDINGS_A_STEP, unit_roundoff
from refblo.contracts.selection import array, is_small
from refblo.estimators import RMD
from refblo.problem import FixedInitial
from refblo.problems.case import Case
from refblo.theory.predictions import local_derivatives


def geometric_truncation(name: str) -> Contract:
    """‖h_K − h‖ ≤ γ‖f_θ‖ max‖C‖ q^K / (1 − q) with q = max‖I − γH‖ over the trajectory, M = 1."""

    def check(case: Case, context: Context) -> ContractFinding:
        schedule = Schedule.last(case.schedule.steps)
        steps, gamma = schedule.steps, case.dynamics.step_size
        chain = Chain(case.problem, case.dynamics, context.draws)
        contraction, coupling, slope = 0.0, 0.0, 0.0
        for theta in chain.iterates(case.lam, steps):
            local = local_derivatives(case.problem, case.lam, theta)
            eigenvalues = np.linalg.eigvalsh((local.H + local.H.T) / 2)
            contraction = max(contraction, float(np.max(np.abs(1 - gamma * eigenvalues))))
            coupling = max(coupling, float(np.linalg.norm(local.C, 2)))
            slope = float(np.linalg.norm(local.s))
        exact = RMD(case.dynamics, schedule).estimate(case.problem, case.lam, context.draws).value
        kept = np.unique(np.geomspace(1, steps, 12 if context.full else 7).astype(int))
        errors = []
        for last in kept:
            truncated = RMD(case.dynamics, schedule, last_transitions=int(last))
            value = truncated.estimate(case.problem, case.lam, context.draws).value
            errors.append(array(value - exact))
        size = float(exact.norm())
        level = ROUNDINGS_A_STEP * steps * unit_roundoff(case.lam.dtype) * (size + slope)
        at, values = kept.astype(float), np.stack(errors)
        noise = np.full(len(at), level)
        constant = gamma * slope * coupling / (1 - contraction)
        relation = Geometric(contraction, constant)
        curve = Curve.of(
            "K",
            case.name,
            at,
            np.linalg.norm(values, axis=1) / size,
            constant * contraction**at / size,
        )
        return ContractFinding(
            relation.judge(ParameterSweep("K", at, values, noise)), curves=(curve,)
        )

    def applies(case: Case) -> bool:
        if not (is_small(case) and isinstance(case.problem.initial, FixedInitial)):
            return False
        return "strongly convex" in case.tags

    return Contract(
        name=f"{name}: geometric in the kept transitions",
        estimator=name,
        relation="Geometric",
        claim="keeping the last K transitions leaves an error of at most c·q^K, q = max‖I − γH‖",
        claims=("field-itd",),
        applies=applies,
        check=check,
    )
