"""Random tangents and UORO: the right mean, the right variance, and bugs that change either."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.contracts.context import Context
from refblo.contracts.random_forward import Replica, Tangents, random_tangents, uoro
from refblo.contracts.rounding import rounding_error
from refblo.errors import ArgumentError
from refblo.estimators import RMD
from refblo.estimators.random_tangents import Law, RandomTangents
from refblo.estimators.uoro import UORO
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.problems import build
from refblo.types import Lam
from tests.estimators_field.instances import Mended

CASES = ["quadratic", "quadratic_curvature", "maml_quadratic"]


def tangents(
    rule: Langevin, schedule: Schedule, count: int, law: Law, groups: int
) -> RandomTangents:
    return RandomTangents(rule, schedule, count, law, groups, block=count * groups)


@dataclass(frozen=True)
class BentSampler:
    right: RandomTangents
    change: Callable[[Tensor], Tensor]

    def samples(self, problem: BilevelProblem, lam: Lam, draws: Draws) -> Tensor:
        return self.change(self.right.samples(problem, lam, draws))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("law", list(Law))
def test_random_tangents_have_the_predicted_moments(law: Law, case: str) -> None:
    built, contract = build(case), random_tangents("random tangents", tangents, law)
    assert contract.applies(built)
    judgement = contract.check(built, Context()).judgement
    assert judgement.holds, judgement


@pytest.mark.parametrize("case", ["quadratic", "quadratic_curvature"])
@pytest.mark.parametrize("balanced", [True, False])
def test_uoro_has_the_predicted_mean(case: str, balanced: bool) -> None:
    contract = uoro("UORO", UORO, balanced=balanced)
    judgement = contract.check(build(case), Context()).judgement
    assert judgement.holds, judgement


@pytest.mark.full
@pytest.mark.parametrize("case", ["quadratic", "quadratic_curvature"])
def test_uoro_has_the_predicted_variance(case: str) -> None:
    contract = uoro("UORO", UORO, balanced=False)
    judgement = contract.check(build(case), Context(full=True)).judgement
    assert judgement.holds, judgement


def test_the_variance_of_uoro_is_that_over_all_signs() -> None:
    """The formula against the mean over every one of the 2^N sign vectors, in integers: no rounding."""
    draws = np.random.default_rng(5)
    a, b = draws.integers(-9, 9, 8), draws.integers(-9, 9, (8, 3))
    signs = np.array(list(product([-1, 1], repeat=8)))
    values = (signs @ a)[:, None] * (signs @ b)
    mean = a @ b
    assert (values.sum(axis=0) == len(signs) * mean).all()
    predicted = (a @ a) * (b**2).sum(axis=0) + mean**2 - 2 * (a**2) @ (b**2)
    assert (((values - mean) ** 2).sum(axis=0) == len(signs) * predicted).all()


BUGS: dict[str, Tangents] = {
    # Two claimed, one pair or one direction too many or too few used.
    "other number": lambda r, s, _, law, groups: tangents(
        r, s, 4 if law is Law.ANTITHETIC else 1, law, groups
    ),
    "halved": lambda r, s, count, law, groups: BentSampler(
        tangents(r, s, count, law, groups), lambda rows: rows / 2
    ),
    "no variance": lambda r, s, count, law, groups: BentSampler(
        tangents(r, s, count, law, groups), lambda rows: rows.mean(dim=0).expand_as(rows)
    ),
    "other law": lambda r, s, count, law, groups: tangents(
        r, s, count, Law.ORTHOGONAL if law is not Law.ORTHOGONAL else Law.GAUSSIAN, groups
    ),
}


def rejected(bug: str, law: Law) -> bool:
    contract = random_tangents("bent", BUGS[bug], law)
    return not contract.check(build("quadratic"), Context()).judgement.holds


@pytest.mark.parametrize(("bug", "law"), list(zip(BUGS, Law, strict=True)))
def test_planted_bugs_in_random_tangents_are_rejected(bug: str, law: Law) -> None:
    assert rejected(bug, law)


@pytest.mark.full
@pytest.mark.parametrize("law", list(Law))
@pytest.mark.parametrize("bug", BUGS)
def test_every_planted_bug_is_rejected_under_every_law(bug: str, law: Law) -> None:
    assert rejected(bug, law)


@pytest.mark.parametrize(
    "bug",
    [
        lambda r, s, b, i: Mended(UORO(r, s, b, i), lambda _, __, h: -h),
        lambda r, s, b, _: UORO(r, s, b, 0),
        lambda r, s, b, i: Mended(UORO(r, s, b, i), lambda _, __, h: h / 8),
    ],
    ids=["sign", "same signs", "an eighth"],
)
def test_planted_bugs_in_uoro_are_rejected(bug: Replica) -> None:
    contract = uoro("bent", bug, balanced=True)
    assert not contract.check(build("quadratic"), Context()).judgement.holds


@pytest.mark.parametrize("case", ["quadratic", "maml_quadratic", "synth_1d"])
def test_p_orthogonal_directions_are_exact(case: str) -> None:
    built = build(case)
    method = RandomTangents(built.dynamics, built.schedule, built.lam.numel(), Law.ORTHOGONAL)
    found = method.estimate(built.problem, built.lam).value
    exact = RMD(built.dynamics, built.schedule)
    truth = exact.estimate(built.problem, built.lam).value
    allowed = rounding_error(
        exact, built.problem, built.lam, SEED_ZERO, truth, built.schedule.steps
    )
    assert float((found - truth).norm()) <= allowed


def test_pairs_add_nothing_to_the_directions_they_are_made_of() -> None:
    case = build("quadratic")
    single = RandomTangents(case.dynamics, Schedule.last(3), 2, Law.RADEMACHER)
    # The pairs' first halves are the very directions of the other.
    paired = RandomTangents(case.dynamics, Schedule.last(3), 4, Law.ANTITHETIC)
    one = single.estimate(case.problem, case.lam).value
    two = paired.estimate(case.problem, case.lam).value
    # The same sums in another order.
    assert float((one - two).norm()) <= 16 * torch.finfo(torch.float64).eps * float(one.norm())


def test_bad_arguments_say_what_to_do() -> None:
    case = build("maml_quadratic")
    with pytest.raises(ArgumentError, match="tangents must be even for pairs"):
        RandomTangents(case.dynamics, case.schedule, 3, Law.ANTITHETIC)
    with pytest.raises(ArgumentError, match="tangents must be at most p = 2"):
        RandomTangents(case.dynamics, case.schedule, 3, Law.ORTHOGONAL).estimate(
            case.problem, case.lam
        )
    with pytest.raises(
        ArgumentError, match=r"problem.initial must not depend on lam.*RandomTangents"
    ):
        UORO(case.dynamics, case.schedule).estimate(case.problem, case.lam)
