"""What going down one objective claims: at θ* the envelope theorem, before that an error geometric in T."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from refblo.chain import Langevin
from refblo.contracts.comparison import compare
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding, Curve
from refblo.contracts.exact import margin
from refblo.contracts.minimiser import has_minimiser, minimum
from refblo.contracts.relations import Exact, Geometric, ParameterSweep
from refblo.contracts.selection import array
from refblo.derivatives import outer_gradients
from refblo.estimators import Estimator
from refblo.estimators.joint_objective import joint
from refblo.problems.case import Case
from refblo.problems.quadratic_forms import QuadraticForms
from refblo.theory.predictions import local_derivatives
from refblo.types import Estimand

Adaptation = Callable[[Langevin, int], Estimator]
"""Builds the method from (rule, T)."""


def _joint(case: Case) -> Case:
    return replace(
        case,
        name=f"{case.name}, joint",
        problem=joint(case.problem),
        closed_forms=None,
        symbolic=None,
        statement=None,
    )


def envelope(name: str, factory: Adaptation) -> Contract:
    """At θ*: every oracle's implicit hypergradient of the problem with f = L_T."""

    def check(case: Case, context: Context) -> ContractFinding:
        at_rest = minimum(case)
        method = factory(at_rest.resting, 1)
        result = method.estimate(at_rest.problem, case.lam, context.draws)
        known = context.known(_joint(case), Estimand.IMPLICIT)
        rounding = at_rest.rounding(1)
        comparisons = tuple(compare(result.value, truth, rounding) for truth in known.truths)
        judgement = Exact().judge(max(comparisons, key=margin))
        return ContractFinding(judgement, comparisons, cost=result.cost)

    return Contract(
        name=f"{name}: the envelope theorem",
        estimator=name,
        relation="Exact",
        claim="at θ* it is the implicit hypergradient of the problem with f = L_T, without a solve",
        claims=("field-implicit",),
        applies=has_minimiser,
        check=check,
    )


def geometric_in_steps(name: str, factory: Adaptation) -> Contract:
    """C'(I − γH)^T(θ⁰ − θ*), at most ‖C‖ρ^T‖θ⁰ − θ*‖, ρ = max|1 − γ·eig(H)|: L_T quadratic, C constant."""

    def check(case: Case, context: Context) -> ContractFinding:
        at_rest, rule = minimum(case), Langevin(case.dynamics.step_size)
        theta = at_rest.problem.initial(case.lam)
        limit = array(outer_gradients(joint(case.problem).outer, case.lam, theta, None)[0])
        away = float((case.problem.initial(case.lam) - theta).norm())
        coupling = float(np.linalg.norm(local_derivatives(case.problem, case.lam, theta).C, 2))
        at = np.unique(np.geomspace(1, 256 if context.full else 64, 7).astype(int)).astype(float)
        runs = [factory(rule, int(steps)) for steps in at]
        found = [run.estimate(case.problem, case.lam, context.draws) for run in runs]
        values = np.stack([array(result.value) for result in found]) - limit
        once = np.eye(len(at_rest.local.s)) - rule.step_size * at_rest.local.H
        start = array(case.problem.initial(case.lam) - theta)

        def left(steps: float) -> Float64[np.ndarray, " p"]:
            error: np.ndarray = at_rest.local.C.T @ np.linalg.matrix_power(once, int(steps)) @ start
            return error

        relation = Geometric(at_rest.contraction(rule.step_size), coupling * away, left)
        noise = np.array([at_rest.rounding(int(steps)) for steps in at])
        size = float(np.linalg.norm(limit))
        errors = np.linalg.norm(values, axis=1) / size
        predicted = relation.constant * relation.rate**at / size
        judgement = relation.judge(ParameterSweep("T", at, values, noise))
        curve = Curve.of("T", case.name, at, errors, predicted)
        return ContractFinding(judgement, curves=(curve,), cost=found[-1].cost)

    def applies(case: Case) -> bool:
        forms = case.closed_forms
        constant = isinstance(forms, QuadraticForms) and forms.numbers.diagonal is None
        return constant and has_minimiser(case)

    return Contract(
        name=f"{name}: geometric in the steps",
        estimator=name,
        relation="Geometric",
        claim="after T steps it is at most ‖C‖·q^T·‖θ⁰ − θ*‖ off the gradient of min_θ L_T(λ, θ)",
        claims=("field-implicit",),
        applies=applies,
        check=check,
    )
