"""The checks are checked: a planted bug is caught, and correct code is not accused."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import refblo.estimators.hpo_sgld
from refblo.chain import Langevin, Schedule
from refblo.estimators import (
    FMD,
    HPOSGLD,
    RMD,
    Estimator,
    FMDDirectional,
    IFTConjugateGradient,
    IFTDense,
    IFTNeumann,
    NeumannScaling,
    RMDFirstOrder,
)
from refblo.noise import Draws
from refblo.testing.explicit import (
    ExplicitAnswer,
    ExplicitNumbers,
    first_order,
    hpo_sgld,
    linearised,
    pathwise,
)
from refblo.testing.tensor_problem import Instance, Structure, tensor_problem
from tests.estimators.mutants import (
    FMD_MUTANTS,
    HPO_SGLD_MUTANTS,
    IFT_MUTANTS,
    RMD_MUTANTS,
    SHARED_MUTANTS,
)
from tests.estimators.mutation import Mutant, planted

AGREEMENT = 1e-12  # as in test_unrolled.py


def instances() -> list[Instance]:
    """Each structure with a fixed and with a moving start, minibatches, noise, B and M above 1."""
    found = []
    for index, structure in enumerate(Structure):
        for moving in (False, True):
            numbers = ExplicitNumbers.random(index, 2, 3, moving)
            lam = torch.tensor([0.3, -0.6], dtype=torch.float64)
            rate = 0.5 / numbers.largest_curvature(np.array(lam.tolist()))
            problem = tensor_problem(numbers, structure, minibatches=True)
            rule = Langevin(rate, temperature=0.5, noise_scale=0.3)
            found.append(Instance(numbers, problem, lam, rule, Schedule(3, 2), Draws(index)))
    return found


def close(found: Tensor, answer: ExplicitAnswer) -> None:
    off = float(np.linalg.norm(np.array(found.tolist()) - answer.value)) / answer.scale
    assert off <= AGREEMENT


def check_hpo_sgld(instance: Instance) -> None:
    method = HPOSGLD(instance.dynamics, instance.schedule)
    found = method.estimate(instance.problem, instance.lam, instance.draws)
    close(found.value, hpo_sgld(instance.numbers, instance.lam_numbers, instance.run))


def check_fmd(instance: Instance) -> None:
    answer = pathwise(instance.numbers, instance.lam_numbers, instance.run)
    for block in (None, 1):
        method = FMD(instance.dynamics, instance.schedule, block)
        close(method.estimate(instance.problem, instance.lam, instance.draws).value, answer)


def check_fmd_directional(instance: Instance) -> None:
    answer = pathwise(instance.numbers, instance.lam_numbers, instance.run)
    method = FMDDirectional(instance.dynamics, instance.schedule)
    u = torch.tensor([0.4, 0.9], dtype=torch.float64)
    found = method.derivative(instance.problem, instance.lam, u, instance.draws)
    expected = answer.value @ np.array(u.tolist())
    assert abs(found - expected) <= AGREEMENT * answer.scale


def check_rmd(instance: Instance) -> None:
    arguments = (instance.problem, instance.lam, instance.draws)
    for kept in (None, 1, 3):
        answer = pathwise(instance.numbers, instance.lam_numbers, instance.run, keep=kept)
        for checkpointed, graph_bytes in ((False, 2**28), (False, 0), (True, 0)):
            method = RMD(instance.dynamics, instance.schedule, checkpointed, kept, graph_bytes)
            close(method.estimate(*arguments).value, answer)


def check_first_order(instance: Instance) -> None:
    method = RMDFirstOrder(instance.dynamics, instance.schedule)
    found = method.estimate(instance.problem, instance.lam, instance.draws)
    close(found.value, first_order(instance.numbers, instance.lam_numbers, instance.run))


def check_ift(instance: Instance) -> None:
    rule, steps = instance.dynamics, instance.schedule.steps
    linear = linearised(instance.numbers, instance.lam_numbers, instance.run)
    n, alpha = len(linear.slope), 1 / float(np.linalg.eigvalsh(linear.hessian)[-1])
    damped = linear.hessian + 0.3 * np.eye(n)
    shrinking = np.eye(n) - alpha * linear.hessian
    series = linear.slope + shrinking @ linear.slope + shrinking @ shrinking @ linear.slope
    cases: list[tuple[Estimator, np.ndarray]] = [
        (IFTDense(rule, steps), np.linalg.solve(linear.hessian, linear.slope)),
        (IFTConjugateGradient(rule, steps, 2 * n, 0.3), np.linalg.solve(damped, linear.slope)),
        (IFTNeumann(rule, steps, alpha, 3), alpha * series),
        (IFTNeumann(rule, steps, alpha, 3, NeumannScaling.UNSCALED), series),
    ]
    for method, q in cases:
        found = method.estimate(instance.problem, instance.lam, instance.draws).estimate
        assert found is not None
        expected = linear.hypergradient(np.asarray(q, dtype=np.float64))
        # As solve_error of test_ift.py.
        scale = linear.scale * max(1.0, 1 / alpha)
        bound = 16 * n * n * np.finfo(np.float64).eps * linear.condition * scale
        assert float(np.linalg.norm(np.array(found.tolist()) - expected)) <= bound


Check = Callable[[Instance], None]
FORWARD: list[Check] = [check_fmd, check_fmd_directional]
REVERSE: list[Check] = [check_rmd, check_first_order]
TABLE: list[tuple[list[Mutant], list[Check]]] = [
    (HPO_SGLD_MUTANTS, [check_hpo_sgld]),
    (FMD_MUTANTS, FORWARD),
    (RMD_MUTANTS, REVERSE),
    (IFT_MUTANTS, [check_ift]),
    (SHARED_MUTANTS, [check_hpo_sgld, check_first_order, *FORWARD]),
]
PAIRS = [(mutant, checks) for mutants, checks in TABLE for mutant in mutants]


@pytest.mark.parametrize(
    "check",
    [check_hpo_sgld, *FORWARD, *REVERSE, check_ift],
    ids=lambda check: check.__name__,
)
def test_correct_code_is_not_accused(check: Check) -> None:
    for instance in instances():
        check(instance)


@pytest.mark.parametrize(
    ("mutant", "checks"),
    PAIRS,
    ids=[f"{mutant.module.rpartition('.')[2]}: {mutant.name}" for mutant, _ in PAIRS],
)
def test_a_planted_bug_is_caught(mutant: Mutant, checks: list[Check]) -> None:
    with planted(mutant):
        for instance in instances():
            for check in checks:
                try:
                    check(instance)
                except AssertionError:
                    return
    pytest.fail(f"nothing notices: {mutant.name}")


def test_a_mutant_leaves_nothing_behind() -> None:
    names = vars(refblo.estimators.hpo_sgld)
    method, function = HPOSGLD.step, names["inner_gradient_and_mixed"]
    (of_the_same, *_) = (one for one in SHARED_MUTANTS if one.module == function.__module__)
    with planted(HPO_SGLD_MUTANTS[0]):
        assert HPOSGLD.step is not method
    with planted(of_the_same):
        assert names["inner_gradient_and_mixed"] is not function
    assert HPOSGLD.step is method
    assert names["inner_gradient_and_mixed"] is function


def test_a_mutant_that_no_longer_applies_is_said() -> None:
    stale = replace(HPO_SGLD_MUTANTS[0], old="no such line")
    with pytest.raises(LookupError, match="must occur once"):
        stale.source()
