"""The small invariance problem: one objective for both, and the marginal likelihood."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.differentiate import derivative

from refblo.chain import Langevin, Schedule
from refblo.contracts.context import Context
from refblo.contracts.joint_objective import envelope, geometric_in_steps
from refblo.contracts.laplace_evidence import gaussian_evidence
from refblo.contracts.minimiser import minimum
from refblo.contracts.selection import array
from refblo.errors import ArgumentError
from refblo.estimators import Estimator, IFTDense
from refblo.estimators.joint_objective import JointObjective, joint
from refblo.estimators.laplace_evidence import LaplaceEvidence, laplace
from refblo.oracles import ImplicitDense
from refblo.problem import BilevelProblem, FixedInitial
from refblo.problems import build
from refblo.problems.case import Case
from refblo.types import Estimand
from tests.estimators_field.instances import Mended


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


def assert_derivative(surprise: Callable[[np.ndarray], np.ndarray], case: Case, tau: float) -> None:
    """LaplaceEvidence at rest is the derivative of a function of λ that is known by its values."""
    known = derivative(surprise, float(case.lam[0]))
    at_rest = minimum(case)
    method = LaplaceEvidence(Langevin(case.dynamics.step_size, tau), 1)
    found = float(method.estimate(at_rest.problem, case.lam).value[0])
    assert known.success
    # The differences' own estimate, and what rounding does to values of this size.
    size = float(np.abs(surprise(array(case.lam))).max())
    assert abs(found - known.df) <= known.error + 1e3 * np.finfo(float).eps * size


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

    assert_derivative(surprise, case, tau)


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


def evidence_of_laplace_torch(
    features: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    likelihood: str,
    precision: torch.Tensor,
    noise: float = 1.0,
) -> torch.Tensor:
    """Its log marginal likelihood of a linear model without bias, by the full Gauss-Newton matrix."""
    library = pytest.importorskip("laplace", reason="laplace-torch is not installed")
    model = torch.nn.Linear(features.shape[1], len(weights), bias=False, dtype=features.dtype)
    with torch.no_grad():
        model.weight.copy_(weights)
    data = torch.utils.data.TensorDataset(features, targets)
    before = torch.get_default_dtype()
    # It rounds the noise and the prior to the default, whatever the model's numbers are.
    torch.set_default_dtype(features.dtype)
    try:
        fitted = library.Laplace(
            model,
            likelihood,
            subset_of_weights="all",
            hessian_structure="full",
            sigma_noise=noise,
            prior_precision=precision,
            backend=library.curvature.CurvlinopsGGN,
            enable_backprop=True,
        )
        fitted.fit(torch.utils.data.DataLoader(data, batch_size=len(data)))
        evidence: torch.Tensor = fitted.log_marginal_likelihood(prior_precision=precision)
    finally:
        torch.set_default_dtype(before)
    return evidence


def test_laplace_torch_finds_the_same_evidence_of_the_invariance_problem() -> None:
    """Its value, differentiated numerically: it has no derivative by what the data depend on."""
    case = build("invariance")
    assert case.statement is not None
    data, tau = case.statement.data, case.dynamics.temperature
    points, decay = len(data["train"]), torch.as_tensor(data["decay"])

    def evidence(features: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        targets = torch.as_tensor(data["train_targets"])[:, None]
        noise = np.sqrt(points * tau)
        return evidence_of_laplace_torch(
            features, targets, theta[None], "regression", decay / tau, noise
        )

    def surprise(lam: np.ndarray) -> np.ndarray:
        values = []
        for each in np.ravel(lam):
            at = replace(case, lam=torch.tensor([each]))
            theta = minimum(at).problem.initial(at.lam)
            features = data["train"] * np.exp(data["exponents"] * each).mean(axis=1)
            values.append(-float(evidence(torch.as_tensor(features), theta).detach()))
        return np.reshape(values, np.shape(lam))

    inputs = torch.as_tensor(data["train"]).requires_grad_()
    value = evidence(inputs, minimum(case).problem.initial(case.lam))
    assert value.requires_grad
    reached = torch.autograd.grad(value, inputs, allow_unused=True)
    assert [each is not None for each in reached] == [False]

    assert_derivative(surprise, case, tau)


def test_laplace_torch_differentiates_the_direct_term_alone() -> None:
    """Logistic regression with λ the log of its weight decay: H moves with θ*, theirs does not."""
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(20, 2, generator=draws, dtype=torch.float64)
    labels = (features[:, 0] + torch.randn(20, generator=draws, dtype=torch.float64) > 0).long()
    points, size = features.shape

    def inner(lam: torch.Tensor, theta: torch.Tensor, _: torch.Tensor | None) -> torch.Tensor:
        logits = features @ theta.reshape(2, size).T
        loss = torch.nn.functional.cross_entropy(logits, labels)
        return loss + torch.exp(lam[0]) * (theta @ theta) / 2

    start = FixedInitial(torch.zeros(2 * size, dtype=torch.float64))
    rule = Langevin(0.1, temperature=1 / points)
    lam = torch.tensor([-2.0], dtype=torch.float64)
    case = Case("logistic", BilevelProblem(inner, inner, start), lam, rule, Schedule.last(1))

    def theirs(at: torch.Tensor) -> torch.Tensor:
        """−log Z but for a constant: theirs has the prior's normaliser too."""
        theta = minimum(replace(case, lam=at.detach())).problem.initial(at.detach())
        precision = points * torch.exp(at[0])
        weights = theta.reshape(2, size)
        evidence = evidence_of_laplace_torch(features, labels, weights, "classification", precision)
        return -evidence + size * at[0]

    at_rest = minimum(case)
    whole, direct = (
        float(
            LaplaceEvidence(rule, 1, through_minimiser=through)
            .estimate(at_rest.problem, lam)
            .value[0]
        )
        for through in (True, False)
    )
    leaf = lam.clone().requires_grad_()
    value = theirs(leaf)
    (own,) = torch.autograd.grad(value, leaf)
    slack = at_rest.rounding(1) / rule.temperature
    assert abs(float(own[0]) - direct) <= slack < abs(whole - direct)

    def surprise(lams: np.ndarray) -> np.ndarray:
        values = [float(theirs(torch.tensor([each])).detach()) for each in np.ravel(lams)]
        return np.reshape(values, np.shape(lams))

    refitted = derivative(surprise, float(lam[0]))
    assert refitted.success
    allowed = refitted.error + 1e3 * np.finfo(float).eps * abs(float(value.detach()))
    assert abs(refitted.df - whole) <= allowed < abs(whole - direct)


def test_bad_arguments_say_what_to_do() -> None:
    case = build("invariance")
    with pytest.raises(ArgumentError, match="temperature must be positive"):
        laplace(case.problem, 0.0)
    for make in (JointObjective, LaplaceEvidence):
        with pytest.raises(ArgumentError, match="steps must be at least 1"):
            make(Langevin(0.1), 0)
