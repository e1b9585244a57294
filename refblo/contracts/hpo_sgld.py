"""What HPO-SGLD's recursion claims once its bias is stated: two orders and a predicted wrong limit."""

import numpy as np
from jaxtyping import Float64

from refblo.chain import Langevin, Schedule
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding, Curve, Factory
from refblo.contracts.relations import Biased, Order, ParameterSweep
from refblo.contracts.rounding import ROUNDINGS_A_STEP, unit_roundoff
from refblo.contracts.selection import array, full_batch, is_small, resolves_orders
from refblo.estimators import RMD
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import FixedInitial
from refblo.problems.case import Case
from refblo.theory.predictions import (
    fixed_horizon_limit,
    recursion_error_deterministic,
    recursion_error_noise,
)

Array = np.ndarray

SCHEDULE = Schedule(4, 3)
"""The fixed number of steps of the order contracts: the exponents do not depend on it."""

RESOLVED = 0.01
"""The share of a predicted error that rounding may have: two digits of each point are left."""

MIN_SWEEP_POINTS = 4
"""Points of a sweep: three are extrapolated, and one more shows the error of that."""


def _difference(
    factory: Factory, case: Case, dynamics: Langevin, schedule: Schedule, draws: Draws
) -> tuple[Float64[Array, " p"], Float64[Array, " p"], float]:
    """HPO-SGLD minus the exact pathwise hypergradient, the latter, and a bound on the rounding."""
    estimate = factory(dynamics, schedule).estimate(case.problem, case.lam, draws).value
    # RMD's exactness is a contract of its own, judged against the oracles.
    truth = RMD(dynamics, schedule).estimate(case.problem, case.lam, draws).value
    rounding = ROUNDINGS_A_STEP * schedule.steps * unit_roundoff(case.lam.dtype)
    size = float(estimate.norm() + truth.norm())
    return array(estimate - truth), array(truth), rounding * size


def _order_finding(
    factory: Factory,
    case: Case,
    context: Context,
    rules: list[Langevin],
    at: Float64[Array, " k"],
    relation: Order,
    label: str,
) -> ContractFinding:
    differences, truths, noise = zip(
        *(_difference(factory, case, rule, SCHEDULE, context.draws) for rule in rules),
        strict=True,
    )
    # Finer steps than rounding resolves would only drown the extrapolation; how fine that is follows from
    # the prediction and the bound on the rounding, not from what was measured.
    expected = np.linalg.norm(relation.constant) * at**relation.slope
    count = max(MIN_SWEEP_POINTS, int(np.sum(np.array(noise) <= RESOLVED * expected)))
    at, differences, truths, noise = at[:count], differences[:count], truths[:count], noise[:count]
    sweep = ParameterSweep("ε", at, np.stack(differences), np.array(noise))
    norms = np.linalg.norm(np.stack(truths), axis=1)
    errors = np.linalg.norm(sweep.values, axis=1) / norms
    predicted = np.linalg.norm(relation.constant) * at**relation.slope / norms
    curve = Curve.of("ε", label, at, errors, predicted)
    return ContractFinding(relation.judge(sweep), curves=(curve,))


def order_without_noise(name: str, factory: Factory) -> Contract:
    """O(ε²) absolutely, O(ε) relatively, with its constant, at a fixed number of steps and κ = 0."""

    def check(case: Case, context: Context) -> ContractFinding:
        tau = case.dynamics.temperature
        halvings = 8 if context.full else 6
        at = case.dynamics.epsilon / 16 * 0.5 ** np.arange(halvings)
        rules = [Langevin.from_epsilon(float(epsilon), tau, 0.0) for epsilon in at]
        # The prediction is per γ², and γ = ε / (2τ).
        leading = recursion_error_deterministic(case.problem, case.lam, SCHEDULE)
        constant = leading / (2 * tau) ** 2
        relation = Order(slope=2.0, constant=constant, correction=1.0)
        label = f"{case.name}, no noise"
        return _order_finding(factory, case, context, rules, at, relation, label)

    def applies(case: Case) -> bool:
        return (resolves_orders(case) and full_batch(case)) and (
            isinstance(case.problem.initial, FixedInitial) or "quadratic" in case.tags
        )

    return Contract(
        name=f"{name}: order in ε without noise",
        estimator=name,
        relation="Order",
        claim="at a fixed number of steps the error is c·ε², relative to an indirect term that is O(ε)",
        claims=("eq-22", "thm-1"),
        applies=applies,
        check=check,
    )


def order_with_noise(name: str, factory: Factory) -> Contract:
    """O(ε^1.5) absolutely, O(√ε) relatively, with its constant, with frozen noise and a curved f."""

    def check(case: Case, context: Context) -> ContractFinding:
        # The prediction is per γ √ε κ; with τ = κ = 1, γ = ε/2.
        leading = recursion_error_noise(case.problem, case.lam, SCHEDULE, context.draws) / 2
        # The next term, of order ε², must be small beside the leading one from the start.
        following = recursion_error_deterministic(case.problem, case.lam, SCHEDULE) / 4
        crossing = (np.linalg.norm(leading) / np.linalg.norm(following)) ** 2
        coarsest = min(case.dynamics.step_size / 32, float(crossing) / 64)
        at = coarsest * 0.25 ** np.arange(11 if context.full else 8)
        rules = [Langevin.from_epsilon(float(epsilon)) for epsilon in at]
        relation = Order(slope=1.5, constant=leading, correction=0.5)
        label = f"{case.name}, τ = κ = 1"
        return _order_finding(factory, case, context, rules, at, relation, label)

    def applies(case: Case) -> bool:
        if not (full_batch(case) and isinstance(case.problem.initial, FixedInitial)):
            return False
        if not resolves_orders(case):
            return False
        # A linear f has no term of this order.
        return bool(recursion_error_noise(case.problem, case.lam, SCHEDULE, SEED_ZERO).any())

    return Contract(
        name=f"{name}: order in ε with noise",
        estimator=name,
        relation="Order",
        claim="with noise and a curved outer loss the error is c·ε^1.5 at a fixed number of steps",
        claims=("eq-22", "thm-1"),
        applies=applies,
        check=check,
    )


def fixed_horizon(name: str, factory: Factory) -> Contract:
    """At a fixed horizon S = Tγ the error does not vanish with ε: the limit is a predicted wrong one."""

    def check(case: Case, context: Context) -> ContractFinding:
        horizon = case.dynamics.step_size * case.schedule.steps
        counts = case.schedule.steps * 2 ** np.arange(5 if context.full else 4)
        limit = fixed_horizon_limit(case.problem, case.lam, horizon)
        rules = [Langevin(horizon / int(count)) for count in counts]
        runs = [
            array(
                factory(rule, Schedule.last(int(count)))
                .estimate(case.problem, case.lam, context.draws)
                .value
            )
            for rule, count in zip(rules, counts, strict=True)
        ]
        values = np.stack(runs)
        u = unit_roundoff(case.lam.dtype)
        noise = ROUNDINGS_A_STEP * counts * u * np.linalg.norm(values, axis=1)
        at = np.array([rule.step_size for rule in rules])
        relation = Biased(limit.recursion, limit.error, limit.unrolled, correction=1.0)
        size = float(np.linalg.norm(limit.unrolled))
        errors = np.linalg.norm(values - limit.unrolled, axis=1) / size
        predicted = float(np.linalg.norm(limit.recursion - limit.unrolled)) / size
        label = f"{case.name}, Tγ = {horizon:g}"
        curve = Curve.of("γ at fixed Tγ", label, at, errors, np.full(len(at), predicted))
        return ContractFinding(
            relation.judge(ParameterSweep("γ", at, values, noise)), curves=(curve,)
        )

    return Contract(
        name=f"{name}: limit at a fixed horizon",
        estimator=name,
        relation="Biased",
        claim="at a fixed horizon Tγ it converges to −∫ f_θ·C along the flow, which is not the truth",
        claims=("eq-22", "thm-3"),
        applies=lambda case: is_small(case) and isinstance(case.problem.initial, FixedInitial),
        check=check,
    )
