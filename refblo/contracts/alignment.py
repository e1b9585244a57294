"""When HPO-SGLD can be trusted although its size is wrong: the direction of its estimate.

After a long run g_T grows by −γ f_θ(θ*)·C a step, so that the direction of the estimate tends to that of
−f_θ(θ*)·C, with a correction O(1/T), whatever the direct term is. The implicit hypergradient has the
direction of f_λ − f_θ·H⁻¹·C. The cosine between the two says whether an outer loop that follows the
recursion goes downhill. Where C is a multiple of the identity and there is no direct term it is at
least 2√κ/(1 + κ), κ the condition number of H (Kantorovich's inequality); in general it has no sign.
"""

import math

import numpy as np

from refblo.chain import Langevin, Schedule
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding, Curve, Factory
from refblo.contracts.implicit import has_minimiser, strict_minimiser
from refblo.contracts.relations import Biased, ParameterSweep
from refblo.contracts.rounding import ROUNDINGS_A_STEP, unit_roundoff
from refblo.contracts.selection import array
from refblo.derivatives import outer_gradients
from refblo.problems.case import Case
from refblo.theory.predictions import Local, local_derivatives
from refblo.types import Theta

MOST_STEPS = 450
"""Inner steps within which the transient must have died out for a case to be worth the sweep."""


def direction(name: str, factory: Factory) -> Contract:
    """The direction of the estimate tends to −f_θ(θ*)·C, a predicted wrong one, as T grows."""

    def check(case: Case, context: Context) -> ContractFinding:
        theta, local = _at_minimiser(case)
        direct = array(outer_gradients(case.problem.outer, case.lam, theta, None)[0])
        predicted = -local.C.T @ local.s
        implicit = direct - local.C.T @ np.linalg.solve(local.H, local.s)
        rule = Langevin(case.dynamics.step_size)
        counts = _settled(case, local) * 2 ** np.arange(5 if context.full else 3)
        runs = [
            array(
                factory(rule, Schedule.last(int(count)))
                .estimate(case.problem, case.lam, context.draws)
                .value
            )
            for count in counts
        ]
        values = np.stack([run / np.linalg.norm(run) for run in runs])
        noise = ROUNDINGS_A_STEP * counts * unit_roundoff(case.lam.dtype)
        limit, truth = (vector / np.linalg.norm(vector) for vector in (predicted, implicit))
        # The limit comes from a dense solve at a Newton point: κ(H) ulps.
        rounding = unit_roundoff(case.lam.dtype) * len(local.s) * float(np.linalg.cond(local.H))
        judgement = Biased(limit, rounding, truth, correction=1.0).judge(
            ParameterSweep("1/T", 1 / counts, values, noise)
        )
        cosines = values @ truth
        curve = Curve.of(
            "T",
            f"{case.name}: 1 − cosine with the implicit hypergradient",
            counts.astype(float),
            1 - cosines,
            np.full(len(counts), 1 - limit @ truth),
        )
        return ContractFinding(judgement, curves=(curve,))

    def applies(case: Case) -> bool:
        # One hyperparameter has no direction to be wrong about, only a sign.
        if case.lam.numel() < 2 or not has_minimiser(case):
            return False
        return _settled(case, _at_minimiser(case)[1]) <= MOST_STEPS

    return Contract(
        name=f"{name}: direction after a long run",
        estimator=name,
        relation="Biased",
        claim="as T grows its direction tends to −f_θ(θ*)·C, not to f_λ − f_θ·H⁻¹·C",
        claims=("text-alignment",),
        applies=applies,
        check=check,
    )


def _at_minimiser(case: Case) -> tuple[Theta, Local]:
    theta = strict_minimiser(case)
    assert theta is not None  # what `applies` selects by
    return theta, local_derivatives(case.problem, case.lam, theta)


def _settled(case: Case, local: Local) -> int:
    """Steps after which the slowest mode of the chain has shrunk by a thousand."""
    eigenvalues = np.linalg.eigvalsh(local.H)
    q = float(np.max(np.abs(1 - case.dynamics.step_size * eigenvalues)))
    return math.ceil(math.log(1e-3) / math.log(q)) if 0 < q < 1 else MOST_STEPS + 1
