"""`check_estimator` rejects planted violations, each by the property it breaks: 3 s of processor time."""

import random
import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from refblo.chain import Langevin, Schedule
from refblo.errors import ArgumentError, ArgumentTypeError
from refblo.estimators import HPOSGLD, SOBA, WarmState
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem, FixedInitial
from refblo.problems.case import Case
from refblo.testing import SMALL_CASES, EstimatorCheckError, check_estimator
from refblo.testing.instances import example
from refblo.types import Estimand, Hypergradient, Lam

RIGHT = HPOSGLD(Langevin(0.05, noise_scale=0.3), Schedule(1, 2))


@dataclass
class Planted:
    """HPO-SGLD with something that an estimator must not do."""

    name: str = "planted"
    estimand: Estimand = Estimand.UNROLLED
    calls: int = field(default=0, init=False)

    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        return RIGHT.estimate(problem, lam, draws)


def scaled(result: Hypergradient, factor: float) -> Hypergradient:
    return replace(result, estimate=result.value * factor)


class WritesLam(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        result = super().estimate(problem, lam, draws)
        lam.detach().mul_(1.0)  # the same numbers: what counts is that it was written to
        return result


class WritesTheStart(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        result = super().estimate(problem, lam, draws)
        if isinstance(problem.initial, FixedInitial):
            problem.initial.theta.add_(0.5)
        return result


class WritesGrad(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        if lam.requires_grad and lam.is_leaf:
            torch.autograd.backward(lam.square().sum())
        return super().estimate(problem, lam, draws)


class CountsCalls(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        self.calls += 1
        return super().estimate(problem, lam, draws)


class RemembersTheFirstAnswer(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        result = super().estimate(problem, lam, draws)
        kept: Hypergradient = self.__dict__.setdefault("_kept", result)
        return kept


class UsesTorchsGenerator(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        return scaled(super().estimate(problem, lam, draws), 1 + float(torch.rand(())))


class UsesNumPysGenerator(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        factor = 1 + float(np.random.rand())  # noqa: NPY002  # that is the mistake
        return scaled(super().estimate(problem, lam, draws), factor)


class UsesPythonsGenerator(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        return scaled(super().estimate(problem, lam, draws), 1 + random.random())


class Seeds(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        torch.manual_seed(0)
        return scaled(super().estimate(problem, lam, draws), 1 + float(torch.rand(())))


class AlwaysSingle(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        result = super().estimate(problem, lam, draws)
        return replace(result, estimate=result.value.float())


class SingleInside(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        result = super().estimate(problem, lam, draws)
        return replace(result, estimate=result.value.float().to(lam.dtype))


class ReturnsLam(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        return replace(super().estimate(problem, lam, draws), estimate=lam.detach())


class ReturnsAGraph(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        result = super().estimate(problem, lam, draws)
        return replace(result, estimate=result.value + 0.0 * lam.detach().requires_grad_())


class Transposed(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        result = super().estimate(problem, lam, draws)
        return replace(result, estimate=torch.zeros_like(result.theta))


class ReadsTheMemoryOfLam(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        flat = lam.detach().as_strided((lam.numel(),), (1,))
        return super().estimate(problem, flat.clone(), draws)


class FailsWithoutGradMode(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        leaf = lam.detach().clone().requires_grad_()
        torch.autograd.grad(leaf.square().sum(), leaf)
        return super().estimate(problem, lam, draws)


class Raises(Planted):
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        if lam.dtype == torch.float32:
            raise ZeroDivisionError("no such thing")
        return super().estimate(problem, lam, draws)


PLANTED: dict[type[Planted], str] = {
    WritesLam: "changes_no_argument.*lam was written to",
    WritesTheStart: "changes_no_argument.*the initial point was written to",
    WritesGrad: r"changes_no_argument.*lam\.grad was written to",
    CountsCalls: "keeps_no_state.*attribute 'calls'",
    RemembersTheFirstAnswer: "keeps_no_state.*after a call at another lam, estimate differs",
    UsesTorchsGenerator: "leaves_global_state_alone.*torch's global generator was changed",
    UsesNumPysGenerator: "leaves_global_state_alone.*NumPy's global generator was changed",
    UsesPythonsGenerator: "leaves_global_state_alone.*estimate depends on a global random generator",
    Seeds: "leaves_global_state_alone.*torch's global generator was changed",
    AlwaysSingle: "keeps_the_dtype.*must be of torch.float64, got torch.float32",
    SingleInside: "keeps_the_dtype.*every entry of estimate is a float32 number",
    ReturnsLam: "has_a_result.*must not share memory with lam",
    ReturnsAGraph: "has_a_result.*must carry no graph",
    Transposed: "has_a_result.*must have the shape of lam",
    ReadsTheMemoryOfLam: "takes_any_layout.*lam that is not contiguous",
    FailsWithoutGradMode: "keeps_the_grad_mode_apart.*must work or raise an ArgumentError",
    Raises: "keeps_the_dtype.*it raised ZeroDivisionError: no such thing",
}


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.__name__)
def test_a_planted_violation_is_rejected_by_the_property_it_breaks(bug: type[Planted]) -> None:
    with pytest.raises(EstimatorCheckError, match="planted is not a pure function") as caught:
        check_estimator(bug(), SMALL_CASES[:1])
    lines = str(caught.value).splitlines()

    assert any(re.search(PLANTED[bug], line) for line in lines), str(caught.value)


class ForgetsToCopy(SOBA):  # type: ignore[misc]  # final, for those who do not test
    def advance(
        self, problem: BilevelProblem, lam: Lam, carried: WarmState, draws: Draws = SEED_ZERO
    ) -> tuple[Hypergradient, WarmState]:
        result, after = super().advance(problem, lam, carried, draws)
        carried.theta.copy_(after.theta)
        return result, after


def test_a_warm_method_that_writes_to_its_state_is_rejected() -> None:
    with pytest.raises(EstimatorCheckError, match="advance wrote to 'theta'"):
        check_estimator(lambda case: example(ForgetsToCopy, case), SMALL_CASES[:1])
    check_estimator(lambda case: example(SOBA, case), SMALL_CASES[:1])


def test_a_pure_estimator_passes_by_itself_and_by_a_function_that_builds_it() -> None:
    check_estimator(Planted(), SMALL_CASES[:1])
    check_estimator(lambda case: HPOSGLD(case.dynamics, case.schedule), SMALL_CASES[-1:])


def test_an_estimator_that_refuses_every_problem_is_no_success() -> None:
    def refuse(case: Case) -> HPOSGLD:
        raise ArgumentError("case must be another")

    with pytest.raises(EstimatorCheckError, match="cases must hold a problem that the estimator"):
        check_estimator(refuse)


def test_a_lam_made_in_inference_mode_is_refused_in_words_that_say_what_to_do() -> None:
    case = SMALL_CASES[0](torch.float64)
    with torch.inference_mode():
        lam = case.lam.clone()
    with pytest.raises(ArgumentError, match=r"lam must be a tensor that autograd.*\.clone\(\)"):
        RIGHT.estimate(case.problem, lam)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (HPOSGLD, "method must be an estimator.*lambda case"),
        (lambda case: case.lam, "method must build an estimator, got Tensor"),
    ],
)
def test_what_is_no_estimator_is_refused_by_name(method: Any, said: str) -> None:
    with pytest.raises(ArgumentTypeError, match=said):
        check_estimator(method)
