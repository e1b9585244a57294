"""Every case of the catalogue is what a case promises."""

import pytest
import torch

from refblo.errors import ArgumentError
from refblo.noise import Draws
from refblo.problems import build, catalogue
from refblo.validation import check_arguments

NAMES = tuple(catalogue())


@pytest.mark.parametrize("name", NAMES)
def test_a_case_has_its_name_and_can_be_used(name: str) -> None:
    case = build(name)
    assert case.name == name == case.problem.name
    assert case.lam.dtype == torch.float64
    check_arguments(case.problem, case.lam, Draws(0))


@pytest.mark.parametrize("name", NAMES)
def test_a_case_is_built_in_the_dtype_that_is_asked_for(name: str) -> None:
    case = build(name, dtype=torch.float32)
    assert case.lam.dtype == torch.float32
    check_arguments(case.problem, case.lam, Draws(0))


@pytest.mark.parametrize("name", NAMES)
def test_building_twice_gives_the_same_numbers(name: str) -> None:
    first, second = build(name), build(name)
    assert torch.equal(first.lam, second.lam)
    theta = first.problem.initial(first.lam)
    assert torch.equal(theta, second.problem.initial(second.lam))
    for loss, again in (
        (first.problem.inner, second.problem.inner),
        (first.problem.outer, second.problem.outer),
    ):
        batch = first.problem.inner_batches(Draws(0), 1, 0) if loss is first.problem.inner else None
        assert torch.equal(loss(first.lam, theta, batch), again(first.lam, theta, batch))


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ArgumentError, match=r"synth_1d, .*got 'sinth_1d'; did you mean 'synth_1d'"):
        build("sinth_1d")
    with pytest.raises(ArgumentError, match="got 'xyzzy'; choose one of these"):
        build("xyzzy")
