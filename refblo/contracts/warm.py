"""What warm-started and single-loop methods claim: geometric in their calls, or in their series' terms."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding, Curve
from refblo.contracts.minimiser import Minimum, has_minimiser, known_limit, minimum
from refblo.contracts.relations import Geometric, ParameterSweep
from refblo.contracts.selection import array
from refblo.estimators.protocol import Estimator
from refblo.estimators.warm import WarmEstimator
from refblo.noise import Draws
from refblo.problems.case import Case

Array = np.ndarray

Stepping = Callable[[float], WarmEstimator]
"""Builds a method from γ = α."""
Series = Callable[[float, float, int], WarmEstimator]
"""Builds one from (γ, α, K)."""


def _called(
    at_rest: Minimum, method: WarmEstimator, counts: Float64[Array, " k"], seed: int
) -> Float64[Array, "k p"]:
    """The estimates of the calls with these numbers (from 0), from θ* and q = 0, at a fixed λ."""
    case, rows = at_rest.case, []
    carried = method.begin(at_rest.problem, case.lam, Draws(seed))
    for call in range(int(counts[-1]) + 1):
        draws = Draws(seed + call)
        result, carried = method.advance(at_rest.problem, case.lam, carried, draws)
        if call in counts:
            rows.append(array(result.value))
    return np.stack(rows)


def _finding(
    at_rest: Minimum,
    at: Float64[Array, " k"],
    values: Float64[Array, "k p"],
    relation: Geometric,
    parameter: str,
    steps_each: int,
) -> ContractFinding:
    noise = np.array([at_rest.rounding(steps_each * int(count + 1)) for count in at])
    size = float(np.linalg.norm(at_rest.implicit))
    errors = values - at_rest.implicit
    curve = Curve.of(
        parameter,
        at_rest.case.name,
        at,
        np.linalg.norm(errors, axis=1) / size,
        relation.constant * relation.rate**at / size,
    )
    return ContractFinding(
        relation.judge(ParameterSweep(parameter, at, errors, noise)), curves=(curve,)
    )


def _counts(context: Context) -> Float64[Array, " k"]:
    return np.unique(np.geomspace(1, 128 if context.full else 32, 6).astype(int)).astype(float)


def geometric_in_calls(name: str, factory: Stepping, *, steps: int = 1, lag: int = 1) -> Contract:
    """‖C‖‖q*‖ρ^{N(k + 1) − lag} after call k, counted from 0, ρ = max|1 − γ·eig(H)|.

    Args:
        name: of the estimator.
        factory: builds it with α = γ.
        steps: N, steps on q a call.
        lag: 1 where the estimate is taken before the call's last step on q, else 0.
    """

    def check(case: Case, context: Context) -> ContractFinding:
        at_rest, counts = minimum(case), _counts(context)
        gamma = case.dynamics.step_size
        values = _called(at_rest, factory(gamma), counts, context.draws.seed)
        rate = at_rest.contraction(gamma)
        constant = float(np.linalg.norm(at_rest.local.C, 2) * np.linalg.norm(at_rest.solution))
        relation = Geometric(
            rate**steps,
            constant * rate ** (steps - lag),
            lambda call: at_rest.left(gamma, steps * (call + 1) - lag),
        )
        return _finding(at_rest, counts, values, relation, "calls", steps)

    return Contract(
        name=f"{name}: geometric in the calls",
        estimator=name,
        relation="Geometric",
        claim="at θ* and a fixed λ each call brings it closer to the implicit hypergradient by q^N, "
        "q = max|1 − γ·eig(H)|",
        claims=("field-running-solve",),
        applies=has_minimiser,
        check=check,
    )


def geometric_restarted_cg(
    name: str, factory: Callable[[float, int], WarmEstimator], iterations: int
) -> Contract:
    """‖C‖‖q*‖_H/√λ_min · c^{k+1} after call k, c = 2r^N/(1 + r^{2N}), r = (√κ − 1)/(√κ + 1)."""

    def check(case: Case, context: Context) -> ContractFinding:
        at_rest, counts = minimum(case), _counts(context)
        method = factory(case.dynamics.step_size, iterations)
        values = _called(at_rest, method, counts, context.draws.seed)
        eigenvalues = np.linalg.eigvalsh(at_rest.local.H)
        root = np.sqrt(eigenvalues[-1] / eigenvalues[0])
        r = ((root - 1) / (root + 1)) ** iterations
        rate = float(2 * r / (1 + r * r))
        q = at_rest.solution
        energy = np.sqrt(q @ at_rest.local.H @ q)
        constant = float(np.linalg.norm(at_rest.local.C, 2) * energy / np.sqrt(eigenvalues[0]))
        relation = Geometric(rate, constant * rate)
        return _finding(at_rest, counts, values, relation, "calls", iterations)

    return Contract(
        name=f"{name}: geometric in the calls",
        estimator=name,
        relation="Geometric",
        claim="at θ* and a fixed λ each call of N restarted CG iterations contracts it by Chebyshev's c",
        claims=("field-cg",),
        # CG in fewer dimensions than iterations is done at once, and 0^k says nothing about a rate.
        applies=lambda case: (
            case.problem.initial(case.lam).numel() > iterations and has_minimiser(case)
        ),
        check=check,
    )


def geometric_in_terms(name: str, factory: Series, *, calls: int = 3) -> Contract:
    """‖C‖‖q*‖ρ^K with K terms, ρ = max|1 − α·eig(H)|, α = γ, in the last of some calls.

    More calls than one, so that a momentum or a recursive difference has something to be wrong about.
    """

    def check(case: Case, context: Context) -> ContractFinding:
        at_rest, terms = minimum(case), _counts(context)
        gamma = case.dynamics.step_size
        last = np.array([calls - 1.0])
        rows = [
            _called(at_rest, factory(gamma, gamma, int(count)), last, context.draws.seed)[0]
            for count in terms
        ]
        constant = float(np.linalg.norm(at_rest.local.C, 2) * np.linalg.norm(at_rest.solution))
        relation = Geometric(
            at_rest.contraction(gamma), constant, lambda count: at_rest.left(gamma, count)
        )
        return _finding(at_rest, terms, np.stack(rows), relation, "K", calls)

    return Contract(
        name=f"{name}: geometric in the terms",
        estimator=name,
        relation="Geometric",
        claim="at θ* with K terms its distance from the implicit hypergradient is at most c·q^K, "
        "whatever its momentum",
        claims=("field-neumann",),
        applies=has_minimiser,
        check=check,
    )


def one_step(name: str, factory: Callable[[float], Estimator]) -> Contract:
    """At θ*: f_λ − γ f_θ·C, which is the truth with H replaced by 1/γ."""

    def check(case: Case, context: Context) -> ContractFinding:
        at_rest, gamma = minimum(case), case.dynamics.step_size
        result = factory(gamma).estimate(at_rest.problem, case.lam, context.draws)
        judgement = known_limit(
            array(result.value),
            at_rest.with_solution(gamma * at_rest.local.s),
            at_rest.implicit,
            at_rest.rounding(1),
        )
        return ContractFinding(judgement, cost=result.cost)

    return Contract(
        name=f"{name}: the last transition alone",
        estimator=name,
        relation="Biased",
        claim="at θ* it is f_λ − γ f_θ·C: a Neumann series of one term",
        claims=("field-neumann",),
        applies=has_minimiser,
        check=check,
    )
