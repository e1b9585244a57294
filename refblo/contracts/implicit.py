"""What implicit differentiation claims: geometric in K for the series, in T for the inner run."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float64

from refblo.chain import Langevin
from refblo.contracts.comparison import compare
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding, Curve
from refblo.contracts.exact import margin
from refblo.contracts.relations import Exact, Geometric, ParameterSweep
from refblo.contracts.rounding import ROUNDINGS_A_STEP, unit_roundoff
from refblo.contracts.selection import array, is_small
from refblo.derivatives import outer_gradients
from refblo.errors import OracleError
from refblo.estimators import Estimator, IFTConjugateGradient, IFTDense, IFTNeumann, NeumannScaling
from refblo.oracles.implicit_dense import newton
from refblo.problem import BilevelProblem, FixedInitial
from refblo.problems.case import Case
from refblo.theory.predictions import Local, local_derivatives
from refblo.types import Estimand, Theta

Array = np.ndarray


NEWTON_STEPS = 200
"""More than any catalogue problem needs; one that needs more has no minimiser to find."""


_minimisers: WeakKeyDictionary[Case, Theta | None] = WeakKeyDictionary()


def strict_minimiser(case: Case) -> Theta | None:
    """θ*, if Newton's method finds a strict minimiser from θ⁰; computed once for each case."""
    if case not in _minimisers:
        _minimisers[case] = _find(case)
    return _minimisers[case]


def _find(case: Case) -> Theta | None:
    if not (is_small(case) and isinstance(case.problem.initial, FixedInitial)):
        return None
    try:
        at = newton(case.problem, case.lam, NEWTON_STEPS)
    except OracleError:
        return None
    eigenvalues = torch.linalg.eigvalsh(at.hessian)
    singular = len(at.theta) * torch.finfo(case.lam.dtype).eps * float(eigenvalues[-1])
    return at.theta if float(eigenvalues[0]) > singular else None


def has_minimiser(case: Case) -> bool:
    """Whether there is a strict minimiser that Newton's method finds from θ⁰."""
    return strict_minimiser(case) is not None


def _at_minimiser(case: Case) -> tuple[BilevelProblem, Theta, Local]:
    """The problem started at θ*, θ*, and the derivatives there."""
    theta = strict_minimiser(case)
    assert theta is not None  # what `applies` selects by
    return case.problem.starting_at(theta), theta, local_derivatives(case.problem, case.lam, theta)


def _resting(case: Case) -> Langevin:
    """A noiseless rule under which a chain that starts at θ* stays there."""
    return Langevin(case.dynamics.step_size)


def _rounding(local: Local, case: Case, size: float) -> float:
    """A-priori rounding of a hypergradient whose solve has condition number κ(H)."""
    u = unit_roundoff(case.lam.dtype)
    condition = float(np.linalg.cond(local.H))
    scale = size + float(np.linalg.norm(local.C, 2) * np.linalg.norm(local.s))
    return ROUNDINGS_A_STEP * len(local.s) * u * condition * scale


def _direct(case: Case, theta: Theta) -> Float64[Array, " p"]:
    """f_λ(θ*)."""
    return array(outer_gradients(case.problem.outer, case.lam, theta, None)[0])


def _series(
    case: Case,
    context: Context,
    factory: Callable[[int], Estimator],
    limit: Float64[Array, " p"],
    relation: Geometric,
) -> ContractFinding:
    """Sweep the number of terms of a series at θ* against its predicted limit."""
    problem, _, local = _at_minimiser(case)
    rounding = _rounding(local, case, float(np.linalg.norm(limit)))
    at = np.unique(np.geomspace(1, 128 if context.full else 32, 8).astype(int))
    runs = [factory(int(terms)).estimate(problem, case.lam, context.draws).value for terms in at]
    values = np.stack([array(run) for run in runs]) - limit
    size = float(np.linalg.norm(limit))
    curve = Curve.of(
        "K",
        case.name,
        at.astype(float),
        np.linalg.norm(values, axis=1) / size,
        relation.constant * relation.rate**at / size,
    )
    sweep = ParameterSweep("K", at.astype(float), values, np.full(len(at), rounding))
    return ContractFinding(relation.judge(sweep), curves=(curve,))


def dense_at_minimiser(name: str) -> Contract:
    """Started at θ*, the dense solve is the implicit hypergradient, within every oracle's bound."""

    def check(case: Case, context: Context) -> ContractFinding:
        problem, _, local = _at_minimiser(case)
        result = IFTDense(_resting(case), 1).estimate(problem, case.lam, context.draws)
        rounding = _rounding(local, case, float(result.value.norm()))
        known = context.known(case, Estimand.IMPLICIT)
        seen = known.seen(result.value)
        comparisons = tuple(compare(seen, truth, rounding) for truth in known.truths)
        judgement = Exact().judge(max(comparisons, key=margin))
        return ContractFinding(judgement, comparisons, cost=result.cost)

    return Contract(
        name=f"{name}: exact at the inner minimiser",
        estimator=name,
        relation="Exact",
        claim="at θ* it equals the implicit hypergradient, within the sum of the error bounds",
        claims=("field-implicit",),
        applies=has_minimiser,
        check=check,
    )


def neumann_series(name: str, scaling: NeumannScaling) -> Contract:
    """Error at θ* of C'(I − αH)^K H⁻¹s, at most ‖C‖‖H⁻¹s‖ q^K, q = max|1 − α·eig(H)|, α = 0.9/λ_max(H).

    Without the factor α the series converges, at the same rate, to the biased limit
    f_λ + (truth − f_λ)/α.
    """

    def check(case: Case, context: Context) -> ContractFinding:
        _, theta, local = _at_minimiser(case)
        eigenvalues = np.linalg.eigvalsh(local.H)
        # Not 1/λ_max, which would end the series of a scalar problem after one term.
        alpha = 0.9 / float(eigenvalues[-1])
        solution = np.linalg.solve(local.H, local.s)
        scale = 1.0 if scaling is NeumannScaling.SCALED else 1 / alpha
        constant = scale * float(np.linalg.norm(local.C, 2) * np.linalg.norm(solution))
        factor = np.eye(len(local.s)) - alpha * local.H

        def left(terms: float) -> Float64[Array, " p"]:
            power = np.linalg.matrix_power(factor, int(terms))
            error: Array = scale * (local.C.T @ power @ solution)
            return error

        return _series(
            case,
            context,
            lambda terms: IFTNeumann(_resting(case), 1, alpha, terms, scaling),
            _direct(case, theta) - scale * (local.C.T @ solution),
            Geometric(float(np.max(np.abs(1 - alpha * eigenvalues))), constant, left),
        )

    biased = scaling is NeumannScaling.UNSCALED
    limit = "f_λ + (truth − f_λ)/α, a predicted wrong limit," if biased else "the truth"
    return Contract(
        name=f"{name}: geometric in the terms",
        estimator=name,
        relation="Geometric",
        claim=f"with K terms its distance from {limit} is at most c·q^K, q = max|1 − α·eig(H)|",
        claims=("field-neumann", "text-neumann-factor") if biased else ("field-neumann",),
        applies=has_minimiser,
        check=check,
    )


def conjugate_gradients(name: str, damping: float) -> Contract:
    """Error at θ* at most 2‖C‖‖q*‖_H/√λ_min · ((√κ − 1)/(√κ + 1))^K, all of H + δI.

    Args:
        name: of the estimator.
        damping: δ over the mean eigenvalue of H; with δ > 0 the limit is a biased one.
    """

    def check(case: Case, context: Context) -> ContractFinding:
        _, theta, local = _at_minimiser(case)
        n = len(local.H)
        delta = damping * float(np.trace(local.H)) / n
        damped = local.H + delta * np.eye(n)
        eigenvalues = np.linalg.eigvalsh(damped)
        root = float(np.sqrt(eigenvalues[-1] / eigenvalues[0]))
        solution = np.linalg.solve(damped, local.s)
        energy = float(np.sqrt(solution @ damped @ solution))
        constant = 2 * float(np.linalg.norm(local.C, 2)) * energy / float(np.sqrt(eigenvalues[0]))
        return _series(
            case,
            context,
            lambda terms: IFTConjugateGradient(_resting(case), 1, terms, delta),
            _direct(case, theta) - local.C.T @ solution,
            Geometric((root - 1) / (root + 1), constant),
        )

    limit = "the truth" if damping == 0 else "f_λ − C·(H + δI)⁻¹f_θ, a predicted wrong limit,"
    return Contract(
        name=f"{name}: geometric in the iterations",
        estimator=name,
        relation="Geometric",
        claim=f"after K iterations its distance from {limit} is at most c·((√κ − 1)/(√κ + 1))^K",
        claims=("field-cg",),
        applies=has_minimiser,
        check=check,
    )


def _implicit_jets(case: Case, theta: Theta, local: Local) -> tuple[float, float]:
    """‖h'‖₂ and a bound on ‖h''‖ at θ, h(θ) = f_λ(θ) − C(θ)'H⁻¹f_θ(θ) with H constant, by forward mode."""
    problem, lam = case.problem, case.lam
    inverse = torch.linalg.inv(torch.as_tensor(local.H).to(theta))

    def implicit(at: torch.Tensor) -> torch.Tensor:
        direct = torch.func.grad(problem.outer, argnums=0)(lam, at, None)
        q = inverse @ torch.func.grad(problem.outer, argnums=1)(lam, at, None)
        slope = torch.func.grad(problem.inner, argnums=1)
        pull = torch.func.vjp(lambda where: slope(where, at, None), lam)[1]
        value: torch.Tensor = direct - pull(q)[0]
        return value

    first = torch.func.jacfwd(implicit)(theta)
    second = torch.func.jacfwd(torch.func.jacfwd(implicit))(theta)
    # The Frobenius norm bounds every norm of a trilinear form.
    return float(torch.linalg.matrix_norm(first, 2)), float(torch.linalg.vector_norm(second))


def geometric_in_steps(name: str) -> Contract:
    """For quadratic L_T and f: the error of the dense solve at θ^T is at most c·q^T, q = max|1 − γ·eig(H)|.

    The hypergradient as a function h of θ is a polynomial of degree 2 there (C, f_θ and f_λ move with θ), so
    that c = ‖h'(θ*)‖‖θ⁰ − θ*‖ + ½‖h''‖‖θ⁰ − θ*‖².
    """

    def check(case: Case, context: Context) -> ContractFinding:
        _, theta, local = _at_minimiser(case)
        rule = _resting(case)
        eigenvalues = np.linalg.eigvalsh(local.H)
        q = float(np.max(np.abs(1 - rule.step_size * eigenvalues)))
        first, second = _implicit_jets(case, theta, local)
        away = float((case.problem.initial(case.lam) - theta).norm())
        constant = (first + second / 2 * away) * away
        limit = _direct(case, theta) - local.C.T @ np.linalg.solve(local.H, local.s)
        size = float(np.linalg.norm(limit))
        at = np.unique(np.geomspace(1, 256 if context.full else 64, 7).astype(int))
        runs = [
            IFTDense(rule, int(steps)).estimate(case.problem, case.lam, context.draws).value
            for steps in at
        ]
        values = np.stack([array(run) for run in runs]) - limit
        relation = Geometric(q, constant)
        curve = Curve.of(
            "T",
            case.name,
            at.astype(float),
            np.linalg.norm(values, axis=1) / size,
            constant * q**at / size,
        )
        noise = np.full(len(at), _rounding(local, case, size))
        return ContractFinding(
            relation.judge(ParameterSweep("T", at.astype(float), values, noise)), curves=(curve,)
        )

    return Contract(
        name=f"{name}: geometric in the inner steps",
        estimator=name,
        relation="Geometric",
        claim="after T inner steps its distance from the implicit hypergradient is at most c·q^T",
        claims=("field-aid",),
        applies=lambda case: "quadratic" in case.tags and has_minimiser(case),
        check=check,
    )
