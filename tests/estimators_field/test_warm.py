"""AmIGO, T1–T2, the single-loop family: their contracts, and what their states promise."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from refblo.chain import Langevin, Schedule
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract
from refblo.contracts.minimiser import minimum
from refblo.contracts.registry import contracts
from refblo.contracts.rounding import unit_roundoff
from refblo.contracts.selection import array
from refblo.contracts.warm import geometric_in_calls, geometric_in_terms, one_step
from refblo.errors import ArgumentError
from refblo.estimators import RMD
from refblo.estimators.amigo import AmIGO
from refblo.estimators.fsla import FSLA
from refblo.estimators.mrbo import MRBO
from refblo.estimators.saba import SABA
from refblo.estimators.soba import SOBA
from refblo.estimators.stocbio import StocBiO
from refblo.estimators.t1_t2 import T1T2
from refblo.estimators.vrbo import VRBO
from refblo.estimators.warm import WarmEstimator, WarmState
from refblo.noise import Draws
from refblo.problem import BilevelProblem, FixedInitial, Minibatches
from refblo.problems import build
from refblo.types import Batch
from tests.estimators_field.instances import Mended

NAMES = ["AmIGO-SGD", "AmIGO-CG", "SOBA", "SABA", "FSLA", "stocBiO", "MRBO", "VRBO", "T1–T2"]


def contract_of(name: str) -> Contract:
    (found,) = (each for each in contracts() if each.estimator == name)
    return found


@pytest.mark.parametrize("case", ["synth_1d", "quadratic_curvature"])
@pytest.mark.parametrize("name", NAMES)
def test_contracts_hold(name: str, case: str) -> None:
    built, contract = build(case), contract_of(name)
    if contract.applies(built):
        judgement = contract.check(built, Context()).judgement
        assert judgement.holds, judgement


@pytest.mark.parametrize(
    "bug",
    [
        # Half the step on q, ε for γ, a start that is never left.
        lambda gamma: SOBA(gamma, gamma / 2),
        lambda gamma: AmIGO(Langevin(gamma), 1, 1, gamma / 2),
        lambda gamma: SOBA(gamma, 1e-9),
    ],
)
def test_slower_solves_are_rejected(bug: Callable[[float], WarmEstimator]) -> None:
    # With one parameter the bound is attained.
    contract = geometric_in_calls("bent", bug)
    assert not contract.check(build("synth_1d"), Context()).judgement.holds


@pytest.mark.parametrize(
    "bug",
    [
        lambda gamma, alpha, terms: StocBiO(gamma, alpha / 2, terms),
        lambda gamma, alpha, terms: MRBO(gamma, alpha, 1 + terms // 2),
        lambda gamma, alpha, _: VRBO(gamma, 2 * alpha, 1),
    ],
    ids=["half the scale", "half the terms", "one term"],
)
def test_wrong_series_are_rejected(bug: Callable[[float, float, int], WarmEstimator]) -> None:
    contract = geometric_in_terms("bent", bug)
    assert not contract.check(build("synth_1d"), Context()).judgement.holds


def test_another_step_in_t1_t2_is_rejected() -> None:
    case = build("quadratic")
    for bug in (
        lambda gamma: T1T2(Langevin(2 * gamma)),
        lambda gamma: Mended(T1T2(Langevin(gamma)), lambda _, __, h: 1.001 * h),
    ):
        assert not one_step("bent", bug).check(case, Context()).judgement.holds


@pytest.mark.parametrize("steps", [1, 7])
def test_t1_t2_is_truncated_rmd_with_one_transition(steps: int) -> None:
    case = build("quadratic_curvature")
    kept = RMD(case.dynamics, Schedule.last(steps), last_transitions=1)
    truth = kept.estimate(case.problem, case.lam).value
    found = T1T2(case.dynamics, steps).estimate(case.problem, case.lam).value
    # The same two products in another order.
    allowed = 8 * case.lam.numel() * unit_roundoff(case.lam.dtype) * float(truth.norm())
    assert float((found - truth).norm()) <= allowed


@pytest.mark.parametrize("momentum", [0.05, 0.9])
def test_without_noise_momentum_changes_nothing(momentum: float) -> None:
    """On full batches the corrected averages are the directions themselves, at every moving λ."""
    case = build("quadratic_curvature")
    gamma = case.dynamics.step_size
    pairs: list[tuple[WarmEstimator, WarmEstimator]] = [
        (FSLA(gamma, gamma, momentum), SOBA(gamma, gamma)),
        (MRBO(gamma, gamma, 4, momentum), MRBO(gamma, gamma, 4, 1.0)),
    ]
    for bent, plain in pairs:
        lam = case.lam
        left, right = bent.begin(case.problem, lam), plain.begin(case.problem, lam)
        for call in range(6):
            one, left = bent.advance(case.problem, lam, left, Draws(call))
            two, right = plain.advance(case.problem, lam, right, Draws(call))
            # A difference of equals, and one addition, a call.
            u, size = unit_roundoff(lam.dtype), float(two.value.norm())
            assert float((one.value - two.value).norm()) <= 64 * (call + 1) * u * size
            lam = lam - 0.01 * two.value


def test_saba_with_one_block_is_soba() -> None:
    case = build("quadratic")
    gamma = case.dynamics.step_size
    one, two = SABA(gamma, gamma, steps=9), SOBA(gamma, gamma, steps=9)
    left = one.estimate(case.problem, case.lam).value
    right = two.estimate(case.problem, case.lam).value
    u = unit_roundoff(case.lam.dtype)
    assert float((left - right).norm()) <= 64 * 9 * u * float(right.norm())


def finite_sum(blocks: int) -> tuple[BilevelProblem, torch.Tensor, torch.Tensor]:
    """A quadratic finite sum whose blocks disagree; λ and the implicit truth by a dense solve."""
    n, p, count = 3, 2, 8
    rng = np.random.default_rng(3)
    factors = torch.as_tensor(rng.standard_normal((count, n, n)))
    hessians = factors @ factors.transpose(1, 2) / n + 0.5 * torch.eye(n, dtype=torch.float64)
    couplings = torch.as_tensor(rng.standard_normal((count, n, p)))
    target = torch.as_tensor(rng.standard_normal(n))
    lam = torch.as_tensor(rng.standard_normal(p))

    def inner(lam: torch.Tensor, theta: torch.Tensor, batch: Batch) -> torch.Tensor:
        chosen = torch.arange(count) if batch is None else batch
        curved = theta @ hessians[chosen].mean(dim=0) @ theta / 2
        return curved - theta @ couplings[chosen].mean(dim=0) @ lam

    def outer(lam: torch.Tensor, theta: torch.Tensor, _: Batch) -> torch.Tensor:
        return (theta - target).square().sum() / 2 + lam.square().sum() / 2

    problem = BilevelProblem(
        inner,
        outer,
        FixedInitial(torch.zeros(n, dtype=torch.float64)),
        inner_batches=Minibatches(count, count // blocks),
    )
    mean, coupling = hessians.mean(dim=0), couplings.mean(dim=0)
    tangent = torch.linalg.solve(mean, coupling)
    truth = lam + tangent.T @ (tangent @ lam - target)
    return problem, lam, truth


def test_saba_reaches_the_truth_of_a_finite_sum_where_soba_stays_at_its_noise() -> None:
    problem, lam, truth = finite_sum(blocks=4)

    def off(method: WarmEstimator) -> float:
        carried = method.begin(problem, lam)
        result, carried = method.advance(problem, lam, carried, Draws(1))
        return float((result.value - truth).norm() / truth.norm())

    reduced = off(SABA(0.1, 0.1, blocks=4, steps=600))
    noisy = off(SOBA(0.1, 0.1, steps=600))
    # Ten digits against the floor O(α): nothing in between is expected.
    assert reduced < 1e-10
    assert noisy > 1e-3


@pytest.mark.full
def test_stocbio_is_unbiased_for_the_mean_series() -> None:
    """Given θ, products with independent batches have the mean of the series with mean H and C."""
    problem, lam, _ = finite_sum(blocks=8)
    count, terms, alpha = 4000, 5, 0.1
    problem = problem.starting_at(torch.ones(3, dtype=torch.float64))
    method = StocBiO(0.1, alpha, terms, steps=0)
    rows = np.stack(
        [array(method.estimate(problem, lam, Draws(seed)).value) for seed in range(count)]
    )
    full = BilevelProblem(problem.inner, problem.outer, problem.initial)
    truth = array(method.estimate(full, lam).value)
    error = rows.std(axis=0, ddof=1) / np.sqrt(count)
    # 5 standard errors: a false alarm in 10⁶.
    assert np.all(np.abs(rows.mean(axis=0) - truth) <= 5 * error)


def test_a_warm_start_goes_on_and_a_cold_one_does_not() -> None:
    case = build("quadratic")
    at_rest = minimum(case)
    method = AmIGO(at_rest.resting, 1, 2)
    _, carried = method.advance(at_rest.problem, case.lam, method.begin(at_rest.problem, case.lam))
    warm, _ = method.advance(at_rest.problem, case.lam, carried)
    cold = method.estimate(at_rest.problem, case.lam)
    truth = at_rest.implicit
    assert np.linalg.norm(array(warm.value) - truth) < np.linalg.norm(array(cold.value) - truth)


def test_a_state_of_another_method_is_refused() -> None:
    case = build("quadratic")
    theta = case.problem.initial(case.lam)
    foreign = WarmState(theta, torch.zeros_like(theta), {"something": theta})
    with pytest.raises(ArgumentError, match="was made by another method"):
        FSLA(0.1, 0.1).advance(case.problem, case.lam, foreign)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: SOBA(0.0, 0.1), "step_size must be positive"),
        (lambda: FSLA(0.1, 0.1, 1.5), "momentum must be at most 1"),
        (lambda: StocBiO(0.1, 0.1, 0), "terms must be at least 1"),
        (lambda: AmIGO(Langevin(0.1), 0, 1), "steps must be at least 1"),
        (lambda: VRBO(0.1, 0.1, 3, period=0), "period must be at least 1"),
    ],
)
def test_bad_arguments_say_what_to_do(make: Callable[[], object], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        make()


def test_saba_needs_blocks_of_equal_size() -> None:
    problem, lam, _ = finite_sum(blocks=4)
    with pytest.raises(ArgumentError, match="a multiple of 3 blocks"):
        SABA(0.1, 0.1, blocks=3).estimate(problem, lam)
