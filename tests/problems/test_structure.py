"""A declared structure changes the cost, never the numbers."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from refblo.chain import Schedule
from refblo.contracts.rounding import rounding_error, unit_roundoff
from refblo.derivatives import inner_gradient_and_mixed
from refblo.estimators import HPOSGLD, RMD
from refblo.noise import Draws, Stream
from refblo.problem import Composed, Separable
from refblo.problems import Case, build, catalogue
from refblo.testing.problems import random_composed, random_separable
from refblo.types import Batch

STRUCTURED = (
    *("ridge_diabetes", "softmax_digits", "softmax_digits_minibatch"),
    *("mlp_digits_l1", "taylor_loss_iris", "abml_regression"),
)
"""Written out: building the catalogue to find them takes seconds in every process that collects tests."""


def plain(case: Case) -> Case:
    """The same problem, its inner loss an opaque function."""
    inner = case.problem.inner

    def opaque(lam: Tensor, theta: Tensor, batch: Batch) -> Tensor:
        return inner(lam, theta, batch)

    return replace(case, problem=replace(case.problem, inner=opaque))


def check(case: Case, schedule: Schedule) -> None:
    """Gradient, mixed product, HPO-SGLD and RMD are the same with and without the structure."""
    opaque, draws = plain(case), Draws(3)
    lam, theta = case.lam, case.problem.initial(case.lam)
    batch = case.problem.inner_batches(draws, Stream.INNER_BATCH, 0)
    v = draws.normal(Stream.DIRECTIONS, 0, theta)
    gradient, mixed = inner_gradient_and_mixed(case.problem.inner, lam, theta, batch)
    same_gradient, same_mixed = inner_gradient_and_mixed(opaque.problem.inner, lam, theta, batch)
    # Sums of at most a few hundred terms, in another order.
    relative = 1000 * unit_roundoff(torch.float64)
    for one, other in ((gradient, same_gradient), (mixed(v), same_mixed(v))):
        assert (one - other).norm() <= relative * (other.norm() + theta.norm())
    for method in (HPOSGLD(case.dynamics, schedule), RMD(case.dynamics, schedule)):
        value = method.estimate(case.problem, lam, draws).value
        same = method.estimate(opaque.problem, lam, draws).value
        bound = rounding_error(method, opaque.problem, lam, draws, same, schedule.steps)
        # Either side rounds; a dot product of up to 200 terms rounds √200 times as much as one term.
        assert (value - same).norm() <= 2 * 200**0.5 * bound, method.name


@pytest.mark.parametrize("name", STRUCTURED)
def test_the_catalogue(name: str) -> None:
    case = build(name)
    check(case, Schedule(2, 3))


sizes = st.tuples(st.integers(1, 5), st.integers(1, 5)).filter(lambda size: size[0] != size[1])


@given(seed=st.integers(0, 10**6), size=sizes)
def test_random_separable_problems(seed: int, size: tuple[int, int]) -> None:
    check(random_separable(seed, *size), Schedule(1, 2))


@given(seed=st.integers(0, 10**6), size=sizes)
def test_random_composed_problems(seed: int, size: tuple[int, int]) -> None:
    check(random_composed(seed, *size), Schedule(1, 2))


def test_no_other_problem_of_the_catalogue_is_structured() -> None:
    structured = (Separable, Composed)
    found = {name for name in catalogue() if isinstance(build(name).problem.inner, structured)}
    assert found == set(STRUCTURED)
