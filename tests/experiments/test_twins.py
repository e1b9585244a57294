"""HPO-SGLD beside the exact and the implicit hypergradient on a twin. One second of processor time."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from refblo.chain import Langevin, Schedule
from refblo.estimators import HPOSGLD, RMD
from refblo.experiments import twins
from refblo.experiments.report import Scale
from refblo.experiments.store import Store
from refblo.experiments.twins import LEADERS, OfLength, Twin, compare, descent, implicit, whole
from refblo.noise import Draws
from refblo.problem import BilevelProblem, FixedInitial, identity_initial

HESSIAN = torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
MIXED = torch.tensor([[1.0, 0.5], [0.0, 1.0], [2.0, -1.0]], dtype=torch.float64)
TARGET = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
LAM = torch.tensor([0.3, -0.2], dtype=torch.float64)


def quadratic(hessian: torch.Tensor = HESSIAN) -> BilevelProblem:
    return BilevelProblem(
        inner=lambda lam, theta, _: 0.5 * theta @ hessian @ theta - theta @ MIXED @ lam,
        outer=lambda lam, theta, _: 0.5 * (theta - TARGET).square().sum() + 0.1 * lam.sum(),
        initial=FixedInitial(torch.zeros(3, dtype=torch.float64)),
    )


def twin(steps: int = 4) -> Twin:
    problem = quadratic()
    method = HPOSGLD(Langevin(0.1, 0.01, 0.1), Schedule(steps - 1, 1))
    return Twin(
        problem,
        whole(problem),
        method,
        descent(0.1),
        LAM,
        lambda lam, t: problem.outer(lam, t, None),
    )


def test_the_cosine_and_the_ratio_are_those_of_the_vectors() -> None:
    one, other = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0])
    assert compare(one, other) == pytest.approx((0.8, 2.5))
    assert all(math.isnan(number) for number in compare(one, torch.zeros(2)))


def test_the_implicit_hypergradient_is_the_closed_form() -> None:
    theta = torch.tensor([0.2, 0.1, -0.3], dtype=torch.float64)
    found = implicit(quadratic(), LAM, theta)
    assert found is not None
    expected = 0.1 + MIXED.T @ torch.linalg.solve(HESSIAN, theta - TARGET)
    torch.testing.assert_close(found, expected)


def test_directions_without_curvature_are_left_out() -> None:
    theta = torch.tensor([0.2, 0.1, -0.3], dtype=torch.float64)
    flat = torch.diag(torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64))
    found = implicit(quadratic(flat), LAM, theta)
    assert found is not None
    torch.testing.assert_close(found, 0.1 + MIXED[0] * (theta - TARGET)[0])
    assert implicit(quadratic(-HESSIAN), LAM, theta) is None


def test_there_is_no_implicit_hypergradient_where_lam_is_the_start() -> None:
    problem = BilevelProblem(
        inner=lambda _, theta, __: 0.5 * theta.square().sum(),
        outer=lambda _, theta, __: theta.sum(),
        initial=identity_initial(),
    )
    assert implicit(problem, LAM, LAM) is None


def test_a_rescaled_estimate_has_one_direction_and_the_other_length() -> None:
    each = twin()
    one, other, mixed = (
        estimator.estimate(each.problem, LAM, Draws(3)).value
        for estimator in (each.ours, each.exact, OfLength(each.ours, each.exact))
    )
    assert compare(mixed, one)[0] == pytest.approx(1)
    assert compare(mixed, other)[1] == pytest.approx(1)
    assert compare(one, other)[1] != pytest.approx(1, abs=1e-3)


def test_the_exact_one_is_reverse_mode_through_the_same_noise() -> None:
    each = twin()
    assert each.exact == RMD(each.ours.dynamics, each.ours.schedule)
    ends = [e.estimate(each.problem, LAM, Draws(3)).theta for e in (each.ours, each.exact)]
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-14)


def test_what_is_noted_along_a_run_is_what_the_estimators_say() -> None:
    each = twin()
    values = twins.along(each, 3, 5)
    ours, exact = (
        e.estimate(each.problem, LAM, Draws(5 << 20)).value for e in (each.ours, each.exact)
    )
    cosine, ratio = compare(ours, exact)
    assert values["cosine, ours to exact"][0] == pytest.approx(cosine)
    assert values["norm ratio, ours to exact"][0] == pytest.approx(ratio)
    assert values["cosine, ours to exact"].size == 3
    assert values["cosine, ours to implicit"].size == 1
    # With long inner runs the exact hypergradient is the implicit one, up to the noise.
    long = twins.along(twin(steps=120), 1, 5)
    assert long["cosine, exact to implicit"][0] > 0.99
    assert long["norm ratio, exact to implicit"][0] == pytest.approx(1, abs=0.1)
    # The recursion counts every step's term as if nothing were forgotten.
    assert long["norm ratio, ours to implicit"][0] > 3


def test_a_second_run_of_the_twins_computes_nothing(tmp_path: Path) -> None:
    lines: list[str] = []
    store = Store(tmp_path, "toy", Scale.SMOKE, 0, lines.append)
    first = twins.run_twins(store, lambda _: twin(), {})
    again = twins.run_twins(store, lambda _: twin(), {})
    for name, numbers in first[0].items():
        np.testing.assert_array_equal(numbers, again[0][name])
    assert "taken from" in lines[-1]
    assert "1 seed, 2 outer steps" in twins.paragraph(first, "toy")


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((1.0, 2.0, 2.0, 2.0), "because of its biased direction"),
        ((1.0, 2.0, 2.0, 1.0), "by the length of its steps"),
        ((2.0, 1.0, 2.0, 1.0), "its bias costs it"),
        ((1.0, 1.0, 1.0, 1.0), "neither helps"),
        ((1.0, 1.0, 1.0, 2.0), "its direction helps at equal lengths"),
        ((math.nan, 1.0, 1.0, 1.0), "diverged"),
    ],
)
def test_the_reason_is_that_of_the_ends(ends: tuple[float, ...], said: str) -> None:
    values = []
    for seed in range(4):
        jitter = 0.01 * seed
        numbers = {
            f"test loss, {n}": np.array([e + jitter]) for n, e in zip(LEADERS, ends, strict=True)
        }
        pairs = {
            f"{kind}, {what}": np.array([0.5])
            for kind in ("cosine", "norm ratio")
            for what in ("ours to exact", "ours to implicit", "exact to implicit")
        }
        values.append({**numbers, **pairs, "test loss, start": np.array([3.0])})
    assert said in twins.paragraph(values, "a toy")
