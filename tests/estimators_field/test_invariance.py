"""The small invariance problem: one objective for both, and the marginal likelihood."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.differentiate import derivative

from refblo.chain import Langevin
from refblo.contracts.joint_objective import envelope, geometric_in_steps
from refblo.contracts.laplace_evidence import gaussian_evidence
from refblo.contracts.minimiser import minimum
from refblo.contracts.selection import array
from refblo.errors import ArgumentError
from refblo.estimators import Estimator, IFTDense
from refblo.estimators.joint_objective import JointObjective, joint
from refblo.estimators.laplace_evidence import LaplaceEvidence, laplace
from refblo.oracles import ImplicitDense
from refblo.problems import build
from refblo.types import Estimand
from tests.estimators_field.instances import Context, Mended


def test_one_objective_is_the_envelope_theorem_and_geometric_in_the_steps() -> None:
    for contract, name in (
        (envelope("joint", JointObjective), "invariance"),
        (geometric_in_steps("joint", JointObjective), "quadratic"),
    ):
        case = build(name)
        assert contract.applies(case)
        judgement = contract.check(case, Context()).judgement
        assert judgement.holds, judgement


def test_planted_bugs_in_the_joint_objective_are_rejected() -> None:
    case = build("invariance")

    def bilevel(rule: Langevin, steps: int) -> Estimator:
        """The outer loss of the bilevel problem, which the method must not look at."""
        return IFTDense(rule, steps)

    def doubled(rule: Langevin, steps: int) -> Estimator:
        return Mended(JointObjective(rule, steps), lambda _, __, h: 2 * h)

    for bug in (bilevel, doubled):
        assert not envelope("bent", bug).check(case, Context()).judgement.holds

    def stuck(rule: Langevin, steps: int) -> Estimator:
        """Takes one step, whatever it is asked."""
        return JointObjective(rule, min(steps, 1))

    bent = geometric_in_steps("bent", stuck)
    assert not bent.check(build("quadratic"), Context()).judgement.holds


def test_the_joint_objective_says_nothing_of_the_bilevel_problem() -> None:
    """On the same λ the two pull apart, by far more than rounding: they are different objectives."""
    case = build("invariance")
    at_rest = minimum(case)
    found = JointObjective(at_rest.resting, 1).estimate(at_rest.problem, case.lam).value
    bilevel = ImplicitDense().truth(case, Estimand.IMPLICIT)
    held = ImplicitDense().truth(
        replace(case, problem=joint(case.problem), symbolic=None), Estimand.IMPLICIT
    )
    assert float((found - held.value).norm()) <= held.error + at_rest.rounding(1)
    assert float((found - bilevel.value).norm()) > 1e6 * (bilevel.error + at_rest.rounding(1))


@pytest.mark.parametrize("through", [True, False])
def test_the_evidence_of_a_gaussian_is_laplaces(through: bool) -> None:
    def method(rule: Langevin, steps: int) -> Estimator:
        return LaplaceEvidence(rule, steps, through_minimiser=through)

    for name in ("invariance", "quadratic_curvature"):
        judgement = gaussian_evidence("evidence", method).check(build(name), Context()).judgement
        assert judgement.holds, judgement


def test_the_evidence_is_the_normal_density_of_the_targets() -> None:
    """y ~ N(0, Nτ I + (τ/α) ΦΦ'): scipy's density, differentiated numerically, knows no Hessian."""
    case = build("invariance")
    assert case.statement is not None
    data, tau = case.statement.data, case.dynamics.temperature
    points = len(data["train"])

    def surprise(lam: np.ndarray) -> np.ndarray:
        values = []
        for each in np.ravel(lam):
            features = data["train"] * np.exp(data["exponents"] * each).mean(axis=1)
            covariance = points * tau * np.eye(points) + tau / data["decay"] * features @ features.T
            density = stats.multivariate_normal(np.zeros(points), covariance)
            values.append(-density.logpdf(data["train_targets"]))
        return np.reshape(values, np.shape(lam))

    known = derivative(surprise, float(case.lam[0]))
    at_rest = minimum(case)
    method = LaplaceEvidence(Langevin(case.dynamics.step_size, tau), 1)
    found = float(method.estimate(at_rest.problem, case.lam).value[0])
    assert known.success
    # The differences' own estimate, and what rounding does to densities of this size.
    size = float(np.abs(surprise(array(case.lam))).max())
    assert abs(found - known.df) <= known.error + 1e3 * np.finfo(float).eps * size


def test_planted_bugs_in_the_evidence_are_rejected() -> None:
    case = build("invariance")

    def no_determinant(rule: Langevin, steps: int) -> Estimator:
        return Mended(
            LaplaceEvidence(rule, steps),
            lambda problem, lam, _: (
                JointObjective(rule, steps).estimate(problem, lam).value / rule.temperature
            ),
        )

    def another_temperature(rule: Langevin, steps: int) -> Estimator:
        return LaplaceEvidence(Langevin(rule.step_size, 2 * rule.temperature), steps)

    def whole_determinant(rule: Langevin, steps: int) -> Estimator:
        def bent(problem: object, lam: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
            fit = JointObjective(rule, steps).estimate(minimum(case).problem, lam).value
            return 2 * h - fit / rule.temperature

        return Mended(LaplaceEvidence(rule, steps), bent)

    for bug in (no_determinant, another_temperature, whole_determinant):
        assert not gaussian_evidence("bent", bug).check(case, Context()).judgement.holds


def test_what_published_versions_drop_matters_where_the_hessian_moves() -> None:
    """On Synth-1D H = 2θ*, so that ½ log det H moves with θ*: the whole against autograd by hand."""
    case = build("synth_1d")
    at_rest = minimum(case)
    rule = Langevin(case.dynamics.step_size, case.dynamics.temperature)
    whole = LaplaceEvidence(rule, 1).estimate(at_rest.problem, case.lam)
    direct = LaplaceEvidence(rule, 1, through_minimiser=False).estimate(at_rest.problem, case.lam)
    lam = float(case.lam[0])
    # θ*² = 1 − λ², so that ½ d/dλ log 2θ* = −λ / (2 (1 − λ²)).
    missing = -lam / (2 * (1 - lam**2))
    found = float(whole.value[0] - direct.value[0])
    slack = at_rest.rounding(1) / rule.temperature
    assert abs(found - missing) <= slack < abs(missing)


def test_bad_arguments_say_what_to_do() -> None:
    case = build("invariance")
    with pytest.raises(ArgumentError, match="temperature must be positive"):
        laplace(case.problem, 0.0)
    for make in (JointObjective, LaplaceEvidence):
        with pytest.raises(ArgumentError, match="steps must be at least 1"):
            make(Langevin(0.1), 0)
