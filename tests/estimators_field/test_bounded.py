"""The a posteriori bound holds in every instance; the adaptive method meets the error it is asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refblo.chain import Langevin
from refblo.contracts.bounded import holds, meets, quadratic_constants
from refblo.contracts.context import Context
from refblo.contracts.minimiser import minimum
from refblo.contracts.selection import array
from refblo.errors import ArgumentError
from refblo.estimators.adaptive import AdaptiveImplicit, BoundedImplicit
from refblo.estimators.error_bound import Constants, error_bound
from refblo.problems import build
from refblo.types import Status
from tests.estimators_field.instances import Member, Mended, quadratics

CASES = ["quadratic", "quadratic_curvature"]


@given(quadratics(), st.integers(1, 12), st.integers(1, 4))
def test_the_truth_is_within_the_bound_in_every_instance(
    member: Member, steps: int, iterations: int
) -> None:
    case = member.build()
    at_rest = minimum(case)
    constants = quadratic_constants(at_rest)
    method = BoundedImplicit(case.dynamics, steps, iterations, constants)
    result = method.estimate(case.problem, case.lam)
    assert result.error is not None
    distance = np.linalg.norm(array(result.value) - at_rest.implicit)
    assert distance <= result.error + at_rest.rounding(steps + iterations)


@pytest.mark.parametrize("case", CASES)
def test_contracts_hold(case: str) -> None:
    built = build(case)
    for contract in (holds("bounded", BoundedImplicit), meets("adaptive", AdaptiveImplicit)):
        judgement = contract.check(built, Context()).judgement
        assert judgement.holds, judgement


def test_a_value_that_is_off_by_more_than_its_error_is_rejected() -> None:
    case = build("quadratic")
    wrong = holds("bent", lambda *a: Mended(BoundedImplicit(*a), lambda _, __, h: -h))
    assert not wrong.check(case, Context()).judgement.holds
    careless = meets("bent", lambda rule, error, known: AdaptiveImplicit(rule, 10 * error, known))
    assert not careless.check(case, Context()).judgement.holds


@pytest.mark.parametrize("part", ["strong_convexity", "slope"])
def test_constants_that_promise_too_much_are_found_out(part: str) -> None:
    """Ten times too convex, or an f that does not curve: the bound no longer holds."""
    case = build("quadratic")
    known = quadratic_constants(minimum(case))
    values = {name: getattr(known, name) for name in Constants.__dataclass_fields__}
    values[part] = values[part] * 100 if part == "strong_convexity" else 0.0
    values["direct"] = 0.0
    bent = Constants(**values)
    contract = holds("bent", lambda rule, t, k, _: BoundedImplicit(rule, t, k, bent))
    assert not contract.check(case, Context()).judgement.holds


def test_the_bound_is_the_sum_of_its_parts() -> None:
    known = Constants(2.0, 3.0, 5.0, 7.0, 11.0, 13.0)
    parts = error_bound(known, gradient=4.0, residual=0.5, q=17.0)
    # By hand, with δ = 2: (13 + 17·7)·2 + 3·(5·17 + 11)·2/2 and 3·0.5/2.
    assert (parts.inner, parts.solve) == (552.0, 0.75)
    assert parts.total == 552.75


def test_what_cannot_be_reached_is_said() -> None:
    case = build("quadratic")
    known = quadratic_constants(minimum(case))
    rule = Langevin(case.dynamics.step_size)
    result = AdaptiveImplicit(rule, 1e-6, known, most_steps=3).estimate(case.problem, case.lam)
    assert result.status is Status.NOT_CONVERGED
    assert result.error is not None
    assert result.error > 1e-6
    assert "allow more steps" in result.status.value


def test_bad_arguments_say_what_to_do() -> None:
    known = Constants(1.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ArgumentError, match="strong_convexity must be positive"):
        Constants(0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ArgumentError, match="dynamics must have no noise"):
        AdaptiveImplicit(Langevin(0.1, 1.0, 1.0), 1e-3, known)
    with pytest.raises(ArgumentError, match="error must be positive"):
        AdaptiveImplicit(Langevin(0.1), 0.0, known)
    noisy = build("noisy_synth_1d")
    with pytest.raises(ArgumentError, match="problem must use full batches"):
        BoundedImplicit(Langevin(0.1), 1, 1, known).estimate(noisy.problem, noisy.lam)
