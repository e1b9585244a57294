"""Objectives whose values are rounded, as those of a training that prints its loss: never a false verdict.

A right hypergradient is right or has no verdict, half of it is wrong or has none. Share of the quick suite:
1 s of processor time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from refblo import hypergradient_report
from refblo.conformance import Report, Verdict
from refblo.conformance.black_box.arrays import FlatArrays
from refblo.conformance.black_box.objective import Objective
from refblo.conformance.black_box.quantum import quantum
from refblo.conformance.rounded import steps
from refblo.errors import ArgumentTypeError, OracleError

Array = np.ndarray
Function = Callable[[Array], float]

X = np.random.Generator(np.random.Philox(key=0)).normal(size=(20, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.3 * np.cos(np.arange(20))


def solution(lam: Array) -> tuple[Array, Array]:
    """H and the minimiser of ridge regression with the decays e^λ."""
    hessian: Array = X.T @ X / 20 + np.diag(np.exp(lam))
    return hessian, np.linalg.solve(hessian, X.T @ Y / 20)


def loss(lam: Array) -> float:
    _, theta = solution(lam)
    return float(np.mean((X @ theta - Y) ** 2) + 0.01 * np.sum(lam**2))


def right(lam: Array) -> Array:
    hessian, theta = solution(lam)
    slope = 2 * X.T @ (X @ theta - Y) / 20
    answer: Array = 0.02 * lam - np.linalg.solve(hessian, slope) * np.exp(lam) * theta
    return answer


def decimals(count: int) -> Callable[[float], float]:
    return lambda value: round(value, count)


def digits(count: int) -> Callable[[float], float]:
    return lambda value: float(f"{value:.{count}g}")


def fixed_point(bits: int) -> Callable[[float], float]:
    return lambda value: float(np.floor(value * 2**bits) / 2**bits)


ROUNDINGS = {
    **{f"{count} decimals": decimals(count) for count in range(2, 15)},
    **{f"{count} digits": digits(count) for count in range(3, 15)},
    **{f"{bits} bits": fixed_point(bits) for bits in (8, 16, 20, 32, 40, 48)},
}
"""How the values are rounded."""

QUICK = ("4 decimals", "6 decimals", "13 decimals", "20 bits")


def judged(objective: Function, lam: Array, factor: float) -> Report | None:
    try:
        return hypergradient_report(
            objective=objective, lam=lam, hypergradient=lambda at: factor * right(at)
        )
    except OracleError:
        return None


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.full, id=name)
        for name in ROUNDINGS
    ],
)
def test_rounded_values_make_no_verdict_false(name: str) -> None:
    rounding = ROUNDINGS[name]
    verdicts = {1.0: Verdict.RIGHT, 0.5: Verdict.WRONG}
    seen = 0
    for seed in range(6):
        lam = np.random.Generator(np.random.Philox(key=seed)).normal(size=3)
        for factor, verdict in verdicts.items():
            report = judged(lambda at: rounding(loss(at)), lam, factor)
            if report is not None:
                assert report.verdict is verdict, report.describe()
                seen += 1
    assert seen > 0 or name in ("2 decimals", "3 decimals", "3 digits", "4 digits", "8 bits")


def test_the_multiple_is_found_and_told() -> None:
    lam = np.array([0.3, -0.4, 0.7])
    report = judged(lambda at: round(loss(at), 6), lam, 1.0)
    assert report is not None
    assert any("multiples of 1e-06" in told for told in report.findings), report.describe()
    arrays = FlatArrays.of(lam, "lam")
    for bits in (16, 20, 32):
        rounded = fixed_point(bits)

        def objective(at: Array, rounded: Callable[[float], float] = rounded) -> float:
            return rounded(loss(at))

        found, _ = quantum(Objective(objective, arrays), 1e-15)
        assert found == pytest.approx(2.0**-bits, rel=1e-3)


@pytest.mark.parametrize(
    "smooth",
    [
        loss,
        lambda lam: float(lam.sum()),
        lambda lam: loss(lam) + 1e9,
        lambda lam: max(loss(lam), 10.0),
        lambda lam: max(float(lam.sum()), float(np.sum([0.3, -0.4, 0.7])) - 1e-9),
    ],
    ids=["ridge", "linear", "large", "constant", "limited below"],
)
def test_what_is_not_rounded_has_no_multiple(smooth: Function) -> None:
    arrays = FlatArrays.of(np.array([0.3, -0.4, 0.7]), "lam")
    assert quantum(Objective(smooth, arrays), 1e-15) == (0, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_lam_that_is_rounded_inside_makes_no_verdict_false(dtype: type) -> None:
    for seed in range(3):
        lam = np.random.Generator(np.random.Philox(key=seed)).normal(size=3)
        for factor, verdict in ((1.0, Verdict.RIGHT), (0.5, Verdict.WRONG)):
            report = judged(lambda at: loss(at.astype(dtype).astype(float)), lam, factor)
            assert report is None or report.verdict is verdict
            assert report is not None or dtype is np.float16


def test_a_limit_close_to_lam_has_no_verdict() -> None:
    limit = 0.6 + 1e-6

    def limited(lam: Array) -> float:
        return max(float(lam.sum()), limit)

    with pytest.raises(OracleError, match="kink"):
        hypergradient_report(
            objective=limited, lam=np.array([0.3, -0.4, 0.7]), hypergradient=np.ones(3)
        )


def lopsided(lam: Tensor, theta: Tensor) -> Tensor:
    fit: Tensor = (torch.from_numpy(X) @ theta - torch.from_numpy(Y)).square().mean()
    return fit + lam.exp() @ theta.square()


def validation(_: Tensor, theta: Tensor) -> Tensor:
    loss: Tensor = (torch.from_numpy(X[:9]) @ theta - torch.from_numpy(Y[:9])).square().mean()
    return loss


TORCH_ROUNDINGS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "the outer loss": (
        lopsided,
        lambda lam, theta: torch.round(validation(lam, theta), decimals=6),
    ),
    "theta in the outer loss": (
        lopsided,
        lambda lam, theta: validation(lam, torch.round(theta * 512) / 512),
    ),
    "the inner loss": (
        lambda lam, theta: torch.round(lopsided(lam, theta), decimals=6),
        validation,
    ),
}


@pytest.mark.parametrize("factor", [0.0, 1.0])
@pytest.mark.parametrize("name", TORCH_ROUNDINGS)
def test_a_truth_of_zero_that_rounding_makes_is_refused(name: str, factor: float) -> None:
    inner, outer = TORCH_ROUNDINGS[name]
    lam, theta0 = torch.tensor([-2.0, -1.0, -1.5]).double(), torch.zeros(3).double()
    with pytest.raises(OracleError, match="no verdict is possible"):
        hypergradient_report(inner, outer, lam, theta0, factor * lam, steps=4, step_size=0.1)


@pytest.mark.parametrize("power", [2, 4, 6])
def test_a_stationary_point_is_no_step(power: int) -> None:
    """The slope is zero, and so are the changes of the values up to a distance."""
    at = np.array([0.3, -0.4, 0.7])
    assert steps(lambda distance: 1.0 + distance**power) is None
    for factor, verdict in ((0.0, Verdict.RIGHT), (1.0, Verdict.WRONG)):
        report = hypergradient_report(
            objective=lambda lam: 1 + float(np.sum((lam - at) ** power)),
            lam=at,
            hypergradient=lambda lam, c=factor: power * (lam - at) ** (power - 1) + c,
        )
        assert report.verdict is verdict, report.describe()


def test_a_small_answer_is_not_called_zero() -> None:
    """The truth is 10⁶ times the answer, and known to a thousandth."""
    lam = np.array([0.3, -0.4, 0.7])
    report = judged(lambda at: int(1e6 * loss(at)), lam, 1.0)
    assert report is not None
    assert report.verdict is Verdict.WRONG
    assert report.diagnosis is not None
    assert "zero" not in report.diagnosis.names


def test_a_tolerance_of_the_training_is_told_where_nothing_explains_a_small_error() -> None:
    def stopped(lam: Array) -> float:
        hessian, _ = solution(lam)
        theta = np.zeros(3)
        while np.linalg.norm(slope := hessian @ theta - X.T @ Y / 20) > 1e-5:
            theta = theta - 0.3 * slope
        return float(np.mean((X @ theta - Y) ** 2) + 0.01 * np.sum(lam**2))

    report = judged(stopped, np.array([0.3, -0.4, 0.7]), 1.0)
    assert report is not None
    assert report.verdict is Verdict.WRONG
    assert any("stops at a tolerance" in told for told in report.findings)


NUMPY_ROUNDINGS: dict[str, Callable[[Any], Any]] = {
    "6 decimals": lambda value: np.round(value, 6),
    "10 decimals": lambda value: np.round(value, 10),
    "printed": lambda value: float(f"{np.real(value):.9f}"),
    "float32": lambda value: np.float32(np.real(value)),
}


@pytest.mark.parametrize("where", ["inner", "outer"])
@pytest.mark.parametrize("name", NUMPY_ROUNDINGS)
def test_rounded_losses_in_numpy_are_refused(name: str, where: str) -> None:
    rounding = NUMPY_ROUNDINGS[name]
    losses: dict[str, Callable[..., Any]] = {
        "inner": lambda lam, theta: ((X @ theta - Y) ** 2).mean() + np.exp(lam) @ theta**2,
        "outer": lambda lam, theta: ((X[:9] @ theta - Y[:9]) ** 2).mean() + 0.01 * (lam**2).sum(),
    }
    exact = losses[where]
    losses[where] = lambda lam, theta: rounding(exact(lam, theta))
    with pytest.raises(OracleError, match=rf"{where} must return its values as they are"):
        hypergradient_report(
            losses["inner"],
            losses["outer"],
            np.array([0.3, -0.4, 0.7]),
            np.zeros(3),
            np.ones(3),
            steps=2,
            step_size=0.1,
        )


def test_a_value_on_the_meta_device_is_refused_by_name() -> None:
    with pytest.raises(ArgumentTypeError, match="objective must return a number, got a tensor on"):
        hypergradient_report(
            objective=lambda _: torch.empty((), device="meta"),
            lam=torch.ones(2),
            hypergradient=torch.ones(2),
        )
