"""Every estimator of the package is a pure function, found by walking its files: 10 s of processor time.

A new estimator is covered without a line here.
"""

from collections.abc import Iterator

import pytest
import torch

from refblo.estimators.registry import EstimatorClass, estimator_classes
from refblo.noise import Draws
from refblo.problems.case import Case
from refblo.testing import SMALL_CASES, check_estimator
from refblo.testing.cases import CaseBuilder
from refblo.testing.check import applicable
from refblo.testing.instances import example, examples


def _cases(cls: EstimatorClass) -> tuple[CaseBuilder, ...]:
    used = applicable(lambda case: example(cls, case), SMALL_CASES)
    assert used, f"{cls.__name__} refuses every problem of refblo/testing/cases.py: add one there"
    return used


def _options(cls: EstimatorClass, case: Case) -> Iterator[str]:
    return (name for name, _ in examples(cls, case))


# Tracing takes seconds a problem: the quick suite leaves it out, the full one below does not.
QUICK = [cls for cls in estimator_classes() if cls.__name__ != "Compiled"]


@pytest.mark.parametrize("cls", QUICK, ids=lambda cls: cls.__name__)
def test_it_is_a_pure_function(cls: EstimatorClass) -> None:
    # The last that it accepts has minibatches and noise, if any has; the full suite takes them all.
    check_estimator(lambda case: example(cls, case), _cases(cls)[-1:])


# Full batches and no noise are asked of the first two; the third sees its one block whole.
NOTHING_DRAWN = {"AdaptiveImplicit", "BoundedImplicit", "SABA"}


@pytest.mark.parametrize(
    "cls", [cls for cls in QUICK if cls.__name__ not in NOTHING_DRAWN], ids=lambda cls: cls.__name__
)
def test_other_draws_give_another_result(cls: EstimatorClass) -> None:
    # Those that are taken where none are given are among them.
    case = _cases(cls)[-1](torch.float64)
    method = example(cls, case)
    one, other = (method.estimate(case.problem, case.lam, Draws(seed)) for seed in (0, 1))
    # FSLA's first value is f_λ whatever is drawn; where it leads is another point.
    assert not (torch.equal(one.value, other.value) and torch.equal(one.theta, other.theta))


@pytest.mark.full
@pytest.mark.parametrize("cls", estimator_classes(), ids=lambda cls: cls.__name__)
def test_it_is_a_pure_function_with_every_value_of_every_option(cls: EstimatorClass) -> None:
    used = _cases(cls)
    for option in _options(cls, used[0](torch.float64)):
        check_estimator(lambda case, option=option: dict(examples(cls, case))[option], used)  # type: ignore[misc]  # option is bound now


def test_the_walk_finds_the_estimators_and_their_options() -> None:
    classes = {cls.__name__: cls for cls in estimator_classes()}
    assert {"RMD", "HPOSGLD", "UORO", "AmIGO", "Compiled", "EvolutionStrategies"} <= set(classes)
    assert not {"FMDDirectional", "Estimator", "WarmEstimator", "Stein"} & set(classes)
    case = SMALL_CASES[0](torch.float64)
    options = set(_options(classes["EvolutionStrategies"], case))
    assert options == {
        "EvolutionStrategies",
        "EvolutionStrategies, variant=printed",
        "EvolutionStrategies, variant=baseline",
    }
    assert "RMD, checkpointed=True" in set(_options(classes["RMD"], case))
