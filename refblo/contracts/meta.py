"""What the methods for a learnt initial point claim: MAML, first-order MAML, Reptile, iMAML."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float64

from refblo.chain import Langevin, Schedule
from refblo.contracts.comparison import compare
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding, Curve, Factory
from refblo.contracts.exact import exact, margin
from refblo.contracts.relations import Exact, Geometric, Order, ParameterSweep
from refblo.contracts.rounding import ROUNDINGS_A_STEP, unit_roundoff
from refblo.contracts.selection import array, is_small, resolves_orders
from refblo.estimators import RMD, Estimator
from refblo.estimators.imaml import proximal
from refblo.oracles.implicit_dense import newton
from refblo.problem import LamInitial
from refblo.problems.case import Case
from refblo.problems.quadratic_forms import QuadraticForms
from refblo.theory.predictions import Local, local_derivatives
from refblo.types import Estimand

Array = np.ndarray

Adaptation = Callable[[Langevin, int], Estimator]
"""Builds a method from (rule, T)."""
Proximal = Callable[[Langevin, int, int, float], Estimator]
"""Builds iMAML from (rule, T, K, ρ)."""

STEPS = 3
"""T of the expansions: the orders do not depend on it, and with one step Reptile has no second term."""


def _learns_its_start(case: Case) -> bool:
    return isinstance(case.problem.initial, LamInitial)


def exact_on_moving_starts(name: str, factory: Factory) -> Contract:
    """`exact` for the last iterate, where θ⁰ depends on λ."""
    whole = exact(name, factory, pathwise=False)
    return replace(whole, applies=lambda case: _learns_its_start(case) and whole.applies(case))


def _expansion(
    name: str,
    claim: str,
    claims: tuple[str, ...],
    deviation: Callable[[Case, Langevin, Context], tuple[Float64[Array, " p"], float]],
    constant: Callable[[Local], Float64[Array, " p"]],
) -> Contract:
    """A deviation of first order in γ at a fixed T, with its constant.

    Args:
        name: of the estimator.
        claim: in a sentence.
        claims: of the ledger.
        deviation: what is of first order, and the norms that its rounding is relative to.
        constant: the predicted coefficient of γ, from the derivatives at θ⁰.
    """

    def check(case: Case, context: Context) -> ContractFinding:
        at = case.dynamics.step_size / 16 * 0.5 ** np.arange(8 if context.full else 6)
        found = [deviation(case, Langevin(float(gamma)), context) for gamma in at]
        values = np.stack([value for value, _ in found])
        u = unit_roundoff(case.lam.dtype)
        noise = np.array([ROUNDINGS_A_STEP * STEPS * u * size for _, size in found])
        leading = constant(
            local_derivatives(case.problem, case.lam, case.problem.initial(case.lam))
        )
        judgement = Order(1.0, leading, 1.0).judge(ParameterSweep("γ", at, values, noise))
        errors, size = np.linalg.norm(values, axis=1), float(np.linalg.norm(leading))
        curve = Curve.of("γ", case.name, at, errors, size * at)
        return ContractFinding(judgement, curves=(curve,))

    return Contract(
        name=f"{name}: expansion in the step size",
        estimator=name,
        relation="Order",
        claim=claim,
        claims=claims,
        applies=lambda case: _learns_its_start(case) and is_small(case) and resolves_orders(case),
        check=check,
    )


def first_order_error(name: str, factory: Adaptation) -> Contract:
    """FO-MAML − MAML = γ T (HJ + C)' f_θ + O(γ²)."""

    def deviation(
        case: Case, rule: Langevin, context: Context
    ) -> tuple[Float64[Array, " p"], float]:
        found = factory(rule, STEPS).estimate(case.problem, case.lam, context.draws).value
        # RMD's exactness is a contract of its own, judged against the oracles.
        method = RMD(rule, Schedule.last(STEPS))
        truth = method.estimate(case.problem, case.lam, context.draws).value
        return array(found - truth), float(found.norm() + truth.norm())

    def constant(at: Local) -> Float64[Array, " p"]:
        through: Array = STEPS * ((at.H @ at.J + at.C).T @ at.s)
        return through

    claim = "at a fixed T its error against MAML is γ·T·(HJ + C)'f_θ + O(γ²)"
    return _expansion(name, claim, ("field-fo-maml", "field-nichol"), deviation, constant)


def reptile_expansion(name: str, factory: Adaptation) -> Contract:
    """Reptile = J'[T a − γ (T(T − 1)/2) H a] + O(γ²) on full batches."""

    def deviation(
        case: Case, rule: Langevin, context: Context
    ) -> tuple[Float64[Array, " p"], float]:
        found = array(factory(rule, STEPS).estimate(case.problem, case.lam, context.draws).value)
        start = case.problem.initial(case.lam)
        at = local_derivatives(case.problem, case.lam, start)
        leading = STEPS * (at.J.T @ at.a)
        # A displacement of size γ taken from iterates of size ‖θ‖ loses digits in proportion.
        lost = float(start.norm()) / rule.step_size * float(np.linalg.norm(at.J, 2))
        return found - leading, lost + float(np.linalg.norm(leading))

    def constant(at: Local) -> Float64[Array, " p"]:
        second: Array = -(STEPS * (STEPS - 1) / 2) * (at.J.T @ (at.H @ at.a))
        return second

    claim = (
        "it is J'[T·a − γ·(T(T − 1)/2)·H·a] + O(γ²), a and H the inner gradient and Hessian at θ⁰"
    )
    return _expansion(name, claim, ("field-nichol", "field-reptile"), deviation, constant)


@final
@dataclass(frozen=True, eq=False)
class _Held:
    """A quadratic case with a proximal term, at its minimiser.

    Attributes:
        case: with the proximal problem and its own closed forms.
        strength: ρ.
        local: the derivatives of the problem without the term, at the minimiser of the one with it.
        direct: f_λ there, shape (p,).
        eigenvalues: of H + ρI, ascending, shape (n,).
    """

    case: Case
    strength: float
    local: Local
    eigenvalues: Float64[Array, " n"]

    @property
    def rule(self) -> Langevin:
        """1 / (λ_max + ρ): the slowest mode contracts by 1 − 1/κ."""
        return Langevin(1 / float(self.eigenvalues[-1]))

    @property
    def condition(self) -> float:
        """κ(H + ρI)."""
        return float(self.eigenvalues[-1] / self.eigenvalues[0])

    @property
    def steps(self) -> int:
        """Steps of `rule` after which the distance to θ* has shrunk to the unit roundoff."""
        u = unit_roundoff(self.case.lam.dtype)
        return math.ceil(math.log(u) / math.log(1 - 1 / self.condition))

    @property
    def indirect(self) -> Float64[Array, " p"]:
        """J'(I + H/ρ)⁻¹f_θ − C'(H + ρI)⁻¹f_θ, dense: iMAML's own form."""
        local, n = self.local, len(self.local.s)
        whole = np.linalg.solve(np.eye(n) + local.H / self.strength, local.s)
        value: Array = local.J.T @ whole - local.C.T @ (whole / self.strength)
        return value

    @property
    def coupling(self) -> float:
        """‖C − ρJ‖₂."""
        return float(np.linalg.norm(self.local.C - self.strength * self.local.J, 2))

    def rounding(self, value: Float64[Array, " p"]) -> float:
        """A-priori rounding of the solve, and what u·‖θ⁰ − θ*‖ of the run leaves, to first order."""
        case, at = self.case, self.local
        u = unit_roundoff(case.lam.dtype)
        n, smallest = len(at.s), float(self.eigenvalues[0])
        slope = float(np.linalg.norm(at.s))
        size = float(np.linalg.norm(value)) + self.coupling * slope * (1 + 1 / smallest)
        away = float(case.problem.initial(case.lam).norm()) + float(np.linalg.norm(at.a)) / smallest
        left = self.coupling * float(np.linalg.norm(at.Q, 2)) * away / smallest
        return ROUNDINGS_A_STEP * (self.steps + n) * u * self.condition * (size + left)


def _held(case: Case) -> _Held:
    """With ρ the mean eigenvalue of H, so that neither term of G hides the other."""
    forms = case.closed_forms
    assert isinstance(forms, QuadraticForms)  # what `applies` selects by
    numbers, n = forms.numbers, len(forms.numbers.start)
    strength = float(np.trace(numbers.hessian)) / n
    held = replace(
        numbers,
        hessian=numbers.hessian + strength * np.eye(n),
        coupling=numbers.coupling + strength * numbers.start_jacobian,
        shift=numbers.shift + strength * numbers.start,
    )
    built = replace(
        case,
        name=f"{case.name}, proximal",
        problem=proximal(case.problem, strength),
        closed_forms=QuadraticForms(held),
        symbolic=None,
        statement=None,
    )
    theta = newton(built.problem, case.lam, max_steps=10).theta
    local = local_derivatives(case.problem, case.lam, theta)
    eigenvalues: Array = np.linalg.eigvalsh(held.hessian)
    return _Held(built, strength, local, eigenvalues)


def _can_be_held(case: Case) -> bool:
    forms = case.closed_forms
    quadratic = isinstance(forms, QuadraticForms) and forms.numbers.diagonal is None
    return quadratic and _learns_its_start(case) and is_small(case)


def implicit_when_solved(name: str, factory: Proximal) -> Contract:
    """With T and K enough, every oracle's implicit hypergradient of the proximal problem."""

    def check(case: Case, context: Context) -> ContractFinding:
        held = _held(case)
        method = factory(held.rule, held.steps, 2 * len(held.local.s), held.strength)
        result = method.estimate(case.problem, case.lam, context.draws)
        rounding = held.rounding(array(result.value))
        known = context.known(held.case, Estimand.IMPLICIT)
        comparisons = tuple(compare(result.value, truth, rounding) for truth in known.truths)
        judgement = Exact().judge(max(comparisons, key=margin))
        return ContractFinding(judgement, comparisons, cost=result.cost)

    return Contract(
        name=f"{name}: the proximal problem's implicit hypergradient",
        estimator=name,
        relation="Exact",
        claim="run until θ^T and CG are converged it is the implicit hypergradient of L_T + (ρ/2)‖θ − θ⁰‖²",
        claims=("field-imaml",),
        applies=_can_be_held,
        check=check,
    )


def geometric_in_products(name: str, factory: Proximal) -> Contract:
    """Off f_λ + J'(I + H/ρ)⁻¹f_θ by at most 2‖C − ρJ‖‖q‖_{H+ρI}/√(λ_min + ρ) · r^K."""

    def check(case: Case, context: Context) -> ContractFinding:
        held = _held(case)
        at = np.unique(np.geomspace(1, 2 * len(held.local.s), 6).astype(int)).astype(float)
        runs = [factory(held.rule, held.steps, int(count), held.strength) for count in at]
        found = [run.estimate(case.problem, case.lam, context.draws) for run in runs]
        # No case of this kind has a direct term: neither loss knows λ but through θ⁰.
        limit = held.indirect
        values = np.stack([array(result.value) for result in found]) - limit
        root = math.sqrt(held.condition)
        q = np.linalg.solve(held.local.H + held.strength * np.eye(len(held.local.s)), held.local.s)
        energy = math.sqrt(float(q @ held.local.s))
        constant = 2 * held.coupling * energy / math.sqrt(float(held.eigenvalues[0]))
        relation = Geometric((root - 1) / (root + 1), constant)
        noise = np.full(len(at), held.rounding(limit))
        size = float(np.linalg.norm(limit))
        errors = np.linalg.norm(values, axis=1) / size
        curve = Curve.of("K", case.name, at, errors, constant * relation.rate**at / size)
        judgement = relation.judge(ParameterSweep("K", at, values, noise))
        return ContractFinding(judgement, curves=(curve,), cost=found[-1].cost)

    return Contract(
        name=f"{name}: geometric in the products",
        estimator=name,
        relation="Geometric",
        claim="after K CG iterations its distance from f_λ + J'(I + H/ρ)⁻¹f_θ is at most "
        "c·((√κ − 1)/(√κ + 1))^K, κ of H + ρI",
        claims=("field-cg", "field-imaml"),
        applies=_can_be_held,
        check=check,
    )
