"""What the recursions with O(n + p) memory claim that converge to the implicit hypergradient."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from refblo.chain import Langevin, Schedule
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding, Curve
from refblo.contracts.minimiser import Minimum, has_minimiser, known_limit, minimum
from refblo.contracts.relations import Geometric, ParameterSweep
from refblo.contracts.selection import array
from refblo.estimators.protocol import Estimator
from refblo.problems.case import Case

Array = np.ndarray
Discounted = Callable[[Langevin, Schedule, float, bool], Estimator]
"""Builds the discounted recursion from (rule, schedule, ħ, filled)."""
Running = Callable[[Langevin, Schedule], Estimator]


def _sweep(
    at_rest: Minimum,
    context: Context,
    factory: Running,
    limit: Float64[Array, " p"],
    relation: Geometric,
    offset: int,
) -> ContractFinding:
    """Sweep the steps at θ*; after T steps T − offset contractions have been made."""
    case = at_rest.case
    counts = offset + np.unique(np.geomspace(1, 256 if context.full else 64, 7).astype(int))
    runs = [factory(at_rest.resting, Schedule.last(int(count))) for count in counts]
    results = [run.estimate(at_rest.problem, case.lam, context.draws) for run in runs]
    values = np.stack([array(result.value) for result in results]) - limit
    noise = np.array([at_rest.rounding(int(count)) for count in counts])
    size = float(np.linalg.norm(limit))
    at = (counts - offset).astype(float)
    curve = Curve.of(
        "T",
        case.name,
        counts.astype(float),
        np.linalg.norm(values, axis=1) / size,
        relation.constant * relation.rate**at / size,
    )
    judgement = relation.judge(ParameterSweep("T", at, values, noise))
    return ContractFinding(judgement, curves=(curve,), cost=results[-1].cost)


def running_solve(name: str, factory: Running) -> Contract:
    """At θ*: error at most ‖C‖‖q*‖ρ^{T−1}, ρ = max|1 − γ·eig(H)|, from q = 0."""

    def check(case: Case, context: Context) -> ContractFinding:
        at_rest = minimum(case)
        rate = at_rest.contraction(case.dynamics.step_size)
        coupling = float(np.linalg.norm(at_rest.local.C, 2))
        constant = coupling * float(np.linalg.norm(at_rest.solution))
        gamma = case.dynamics.step_size
        relation = Geometric(rate, constant, lambda count: at_rest.left(gamma, count))
        return _sweep(at_rest, context, factory, at_rest.implicit, relation, offset=1)

    return Contract(
        name=f"{name}: geometric to the implicit hypergradient",
        estimator=name,
        relation="Geometric",
        claim="at θ* its distance from the implicit hypergradient is at most c·q^T, q = max|1 − γ·eig(H)|",
        claims=("field-running-solve",),
        applies=has_minimiser,
        check=check,
    )


def _model(at_rest: Minimum) -> float:
    """The ħ of the contracts: the mean eigenvalue, so that no eigenvector is special."""
    return float(np.trace(at_rest.local.H)) / len(at_rest.local.s)


def discounted_rate(name: str, factory: Discounted) -> Contract:
    """At θ*, not divided by its weights: off f_λ − f_θ·C/ħ by ‖f_θ·C‖/ħ (1 − γħ)^T."""

    def check(case: Case, context: Context) -> ContractFinding:
        at_rest = minimum(case)
        model = _model(at_rest)
        constant = float(np.linalg.norm(at_rest.local.C.T @ at_rest.local.s)) / model
        kept, indirect = (
            1 - case.dynamics.step_size * model,
            at_rest.local.C.T @ at_rest.local.s / model,
        )
        relation = Geometric(kept, constant, lambda count: kept**count * indirect)
        limit = at_rest.with_solution(at_rest.local.s / model)
        return _sweep(
            at_rest,
            context,
            lambda rule, schedule: factory(rule, schedule, model, False),
            limit,
            relation,
            offset=0,
        )

    return Contract(
        name=f"{name}: geometric to its model's limit",
        estimator=name,
        relation="Geometric",
        claim="not divided by its weights it is c·(1 − γħ)^T away from f_λ − f_θ·C/ħ at θ*",
        claims=("field-discounted",),
        applies=has_minimiser,
        check=check,
    )


def discounted_limit(name: str, factory: Discounted) -> Contract:
    """At θ*, divided by its weights: f_λ − f_θ·C/ħ at once; wrong by f_θ(H⁻¹ − ħ⁻¹)C."""

    def check(case: Case, context: Context) -> ContractFinding:
        at_rest = minimum(case)
        model = _model(at_rest)
        estimator = factory(at_rest.resting, case.schedule, model, True)
        result = estimator.estimate(at_rest.problem, case.lam, context.draws)
        judgement = known_limit(
            array(result.value),
            at_rest.with_solution(at_rest.local.s / model),
            at_rest.implicit,
            at_rest.rounding(case.schedule.steps),
        )
        return ContractFinding(judgement, cost=result.cost)

    return Contract(
        name=f"{name}: its model's limit",
        estimator=name,
        relation="Biased",
        claim="at θ* it is f_λ − f_θ·C/ħ: the truth with H replaced by the scalar ħ",
        claims=("field-discounted",),
        # With one inner parameter the model is exact, and there is no bias to predict.
        applies=lambda case: case.problem.initial(case.lam).numel() > 1 and has_minimiser(case),
        check=check,
    )
