"""Each relation accepts what it claims and rejects what differs from it by little."""

import numpy as np
import pytest

from refblo.contracts.comparison import Comparison
from refblo.contracts.relations import (
    Biased,
    Exact,
    Geometric,
    Order,
    ParameterSweep,
    RelationJudgement,
    Replicates,
    Unbiased,
)
from refblo.errors import ArgumentError
from refblo.types import ErrorKind

AT = 0.1 * 0.5 ** np.arange(8)
CONSTANT = np.array([2.0, -1.0])


def order(slope: float, factor: float) -> RelationJudgement:
    """Judge errors factor·c·s^slope·(1 + s) against c·s²."""
    errors = factor * (AT**slope * (1 + AT))[:, None] * CONSTANT
    sweep = ParameterSweep("s", AT, errors, np.full(len(AT), 1e-16))
    return Order(2.0, CONSTANT, 1.0).judge(sweep)


def test_order_holds() -> None:
    assert order(2.0, 1.0).holds


@pytest.mark.parametrize(
    ("slope", "factor"),
    [(2.0, 1.001), (2.0, -1.0), (2.0, 0.5), (1.5, 1.0), (2.01, 1.0), (3.0, 1.0)],
)
def test_order_rejects(slope: float, factor: float) -> None:
    assert not order(slope, factor).holds


def test_order_rejects_pure_noise() -> None:
    rows = 1e-3 * np.random.default_rng(0).standard_normal((8, 2))
    assert (
        not Order(2.0, CONSTANT, 1.0).judge(ParameterSweep("s", AT, rows, np.full(8, 1e-3))).holds
    )


def biased(limit: float) -> RelationJudgement:
    values = (3.0 + AT)[:, None]
    relation = Biased(np.array([limit]), 1e-12, np.array([2.0]), 1.0)
    return relation.judge(ParameterSweep("s", AT, values, np.full(8, 1e-15)))


def test_biased_needs_the_predicted_limit() -> None:
    assert biased(3.0).holds
    assert not biased(3.0001).holds


def test_biased_does_not_confirm_the_truth() -> None:
    relation = Biased(np.array([2.0]), 1e-12, np.array([2.0]), 1.0)
    sweep = ParameterSweep("s", AT, (2.0 + AT)[:, None], np.full(8, 1e-15))
    assert not relation.judge(sweep).holds


@pytest.mark.parametrize(("rate", "holds"), [(0.5, True), (0.499, True), (0.51, False)])
def test_geometric(rate: float, holds: bool) -> None:
    at = np.arange(1.0, 20.0)
    sweep = ParameterSweep("K", at, (rate**at)[:, None], np.full(19, 1e-15))
    assert Geometric(0.5, 1.0).judge(sweep).holds is holds


@pytest.mark.parametrize(("ahead", "holds"), [(0, True), (1, False)])
def test_geometric_with_its_error_known_is_met_by_that_alone(ahead: int, holds: bool) -> None:
    # One term more is within the bound, and no error of this method.
    at = np.arange(1.0, 20.0)
    sweep = ParameterSweep("K", at, (0.5 ** (at + ahead))[:, None], np.full(19, 1e-15))
    assert Geometric(0.5, 1.0).judge(sweep).holds
    assert Geometric(0.5, 1.0, lambda count: np.array([0.5**count])).judge(sweep).holds is holds


def test_geometric_needs_a_rate_below_one() -> None:
    with pytest.raises(ArgumentError, match="rate"):
        Geometric(1.0, 1.0)


def test_unbiased() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((400, 3))
    # Error rate 1e-6 by construction; a shift of one standard deviation is 20 standard errors.
    assert Unbiased().judge(Replicates(values, np.zeros(3), 0.0)).holds
    assert not Unbiased().judge(Replicates(values, np.array([0.0, 1.0, 0.0]), 0.0)).holds


def test_exact() -> None:
    close = Comparison(1e-15, 2e-15, 1.0, 1.0, "oracle", ErrorKind.CERTIFIED)
    far = Comparison(3e-15, 2e-15, 1.0, 1.0, "oracle", ErrorKind.CERTIFIED)
    assert Exact().judge(close).holds
    assert not Exact().judge(far).holds


def test_a_sweep_must_be_geometric() -> None:
    sweep = ParameterSweep("s", np.linspace(1, 0.1, 8), np.ones((8, 2)), np.full(8, 1e-16))
    with pytest.raises(ArgumentError, match="geometric"):
        Order(2.0, CONSTANT, 1.0).judge(sweep)
