"""Losses in NumPy: derivatives by complex step and by differences, and verdicts with them.

Share of the quick suite: about 3 s of processor time; the whole of the estimands and forms of arguments is
marked full. Every problem has its hypergradient by hand.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from refblo import hypergradient_report
from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.in_numpy.functions import HowDifferentiated, InTorch, NumericFunction
from refblo.conformance.report import Report, Verdict
from refblo.errors import ArgumentError, ArgumentTypeError, LossError, OracleError

Array = np.ndarray
DRAW = np.random.default_rng(4)
X, U = DRAW.normal(size=(12, 3)), DRAW.normal(size=(10, 3))
Y, V = X.sum(1) + 0.3 * DRAW.normal(size=12), U.sum(1) + 0.3 * DRAW.normal(size=10)
LAM, THETA = np.array([-1.0, -0.5, 0.2]), np.array([0.3, -0.2, 0.5])
STEPS, STEP_SIZE = 2, 0.2


def inner(lam: Array, theta: Array) -> Any:
    return np.mean((X @ theta - Y) ** 2) / 2 + np.sum(np.exp(lam) * theta**2) / 2


def outer(lam: Array, theta: Array) -> Any:
    return np.mean((U @ theta - V) ** 2) + 0.1 * lam[0] ** 2


def direct(lam: Array) -> Array:
    return np.array([0.2 * lam[0], 0, 0])


def hessian_at(lam: Array) -> Array:
    found: Array = X.T @ X / 12 + np.diag(np.exp(lam))
    return found


def unrolled(lam: Array, steps: int = STEPS) -> Array:
    theta, tangent, hessian = THETA, np.zeros((3, 3)), hessian_at(lam)
    for _ in range(steps):
        tangent = tangent - STEP_SIZE * (hessian @ tangent + np.diag(np.exp(lam) * theta))
        theta = theta - STEP_SIZE * (hessian @ theta - X.T @ Y / 12)
    found: Array = direct(lam) + 2 * (U @ theta - V) @ U / 10 @ tangent
    return found


def implicit(lam: Array) -> Array:
    theta = np.linalg.solve(hessian_at(lam), X.T @ Y / 12)
    solved = np.linalg.solve(hessian_at(lam), 2 * U.T @ (U @ theta - V) / 10)
    found: Array = direct(lam) - solved * np.exp(lam) * theta
    return found


def judged(hypergradient: Any, inner: Any = inner, outer: Any = outer, **options: Any) -> Report:
    run = {"steps": STEPS, "step_size": STEP_SIZE, "diagnosis_seconds": 0, **options}
    return hypergradient_report(inner, outer, LAM, THETA, hypergradient, **run)


# Derivatives.


def _function(of: Callable[[Array], Any]) -> NumericFunction:
    return NumericFunction(lambda _, x: np.asarray(of(x)).reshape(1), 3, HowDifferentiated("f"))


SMOOTH: dict[str, Callable[[Array], Any]] = {
    "polynomial": lambda x: np.sum(x**3) * x[0],
    "tanh": lambda x: np.tanh(3 * x).sum() * np.exp(x[1]),
    "solve": lambda x: np.linalg.solve(np.diag(2 + x) + x[0], x).sum(),
    "sort": lambda x: np.sort(x) @ np.array([1.0, 4.0, 9.0]),
    "maximum": lambda x: np.maximum(x, 0.1).sum() * x[0],
    "small entries": lambda x: np.log(x * np.array([1e-6, 1.0, 1e3]) + 1e-9).sum(),
}

BROKEN: dict[str, Callable[[Array], Any]] = {
    "abs": lambda x: np.abs(x - 3).sum() + x @ x,
    "norm": lambda x: np.linalg.norm(x) ** 3,
    "vdot": lambda x: np.vdot(x, np.sin(x)),
    "real": lambda x: np.sin(x).real @ x,
    "conj": lambda x: np.sin(x.conj()) @ x,
    "var": lambda x: np.var(np.sin(x)),
    "raises": lambda x: np.logaddexp(x[0], x[1]) * x[2],
    "float": lambda x: float(x[0]) * x[1] ** 2 + x[2],
    "returns real": lambda x: np.abs(np.sin(x).sum()),
}


@pytest.mark.parametrize("name", [*SMOOTH, *BROKEN])
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_both_derivatives_are_right_and_how_is_told(name: str) -> None:
    of, x = {**SMOOTH, **BROKEN}[name], np.array([0.3, 0.7, 0.4])
    function = _function(of)
    gradient = function.pulled(None, x, np.ones(1))
    steps = 1e-3 * np.array([1, -1, 2, -2])
    for unit, slope in zip(np.eye(3), gradient, strict=True):
        f = [float(np.real(of(x + step * unit))) for step in steps]
        assert slope == pytest.approx((8 * (f[0] - f[1]) - f[2] + f[3]) / 12e-3, rel=1e-7, abs=1e-9)
    assert bool(function.how.why_not_complex) is (name in BROKEN)

    at, v = torch.tensor(x, requires_grad=True), torch.tensor([1.0, -2.0, 0.5]).double()
    (slope,) = torch.autograd.grad(InTorch(function).on(None, at)[0], at, create_graph=True)
    (second,) = torch.autograd.grad(slope @ v, at)
    beside = [function.pulled(None, x + step * v.numpy(), np.ones(1)) for step in steps]
    expected = (8 * (beside[0] - beside[1]) - beside[2] + beside[3]) / 12e-3
    np.testing.assert_allclose(second.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_second_derivatives_have_eleven_digits() -> None:
    function = _function(lambda x: np.sum(np.exp(x) * np.sin(x[0])))
    x, w = np.array([0.3, 0.7, -0.4]), np.array([1.0, -2.0, 0.5])
    e, s, c = np.exp(x), np.sin(x[0]), np.cos(x[0])
    hessian = np.diag(e * s)
    hessian[0] += e * c
    hessian[:, 0] += e * c
    hessian[0, 0] -= e.sum() * s
    found, by_u = function.reverse().reverse()(None, x, np.ones(1), w)
    np.testing.assert_allclose(found, hessian @ w, rtol=1e-11)
    gradient = e * s
    gradient[0] += e.sum() * c
    np.testing.assert_allclose(by_u, [gradient @ w], rtol=1e-13)
    (pushed,) = function.reverse().forward()(None, x, np.ones(1), w, np.zeros(1))
    np.testing.assert_allclose(pushed, hessian @ w, rtol=1e-11)


def test_a_branch_that_drops_imaginary_parts_is_seen_when_it_is_reached() -> None:
    function = _function(lambda x: np.sum(np.where(x > 1, np.abs(x), x**2)))
    small, large = np.array([0.3, 0.7, 0.4]), np.array([0.3, 2.0, 0.4])
    np.testing.assert_allclose(function.pulled(None, small, np.ones(1)), 2 * small)
    assert not function.how.why_not_complex
    expected = [0.6, 1.0, 0.8]
    np.testing.assert_allclose(function.pulled(None, large, np.ones(1)), expected, rtol=1e-9)
    assert "differences give" in function.how.why_not_complex


# Verdicts.


def test_a_right_unrolled_hypergradient_is_right() -> None:
    report = judged(unrolled(LAM))
    assert report.right
    assert report.floor < 1e-8
    assert "complex steps" in report.describe()
    assert not any("not by complex step" in finding for finding in report.findings)


def _absolute(lam: Array, theta: Array) -> Any:
    return np.mean(np.abs(X @ theta - Y) ** 2) / 2 + np.sum(np.exp(lam) * theta**2) / 2


@pytest.mark.full
@pytest.mark.parametrize("share", [0.5, 2.0])
def test_the_floor_with_differences_alone_is_honest_and_told(share: float) -> None:
    truth = unrolled(LAM)
    floor = judged(truth, inner=_absolute).floor
    assert floor < 1e-6
    off = share * floor * np.linalg.norm(truth) * np.array([0.6, 0.0, 0.8])
    report = judged(truth + off, inner=_absolute)
    assert report.right is (share < 1)
    (said,) = [finding for finding in report.findings if "not by complex step" in finding]
    assert said.startswith("finding: inner was differentiated by differences")


@pytest.mark.full
@pytest.mark.parametrize(
    ("estimand", "right", "steps"), [("unrolled", unrolled, STEPS), ("implicit", implicit, 60)]
)
@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        (lambda g: g, None),
        (lambda g: -g, Mistake.WRONG_SIGN),
        (lambda g: g - direct(LAM), Mistake.MISSING_DIRECT),
        (lambda g: direct(LAM), Mistake.MISSING_INDIRECT),
        (lambda g: g * (1 + 1e-6), Mistake.SCALED),
    ],
)
def test_mistakes_are_named(
    estimand: str,
    right: Callable[[Array], Array],
    steps: int,
    change: Callable[[Array], Array],
    mistake: Mistake | None,
) -> None:
    answer = change(right(LAM))
    report = judged(answer, estimand=estimand, steps=steps, diagnosis_seconds=120)
    assert report.right is (mistake is None)
    if mistake is not None:
        assert report.diagnosis is not None
        assert mistake in report.diagnosis.mistakes, report.describe()


@pytest.mark.full
def test_trees_batches_and_a_step_of_ones_own() -> None:
    lam, theta = {"decay": LAM, "scale": 0.7}, [THETA[:2], THETA[2:]]

    def inner_of(lam: Any, theta: Any, rows: Array) -> Any:
        whole = np.concatenate(theta)
        fit = np.mean((X[rows] @ whole - Y[rows]) ** 2) / 2
        return lam["scale"] * fit + np.sum(np.exp(lam["decay"]) * whole**2) / 2

    def outer_of(_: Any, theta: Any) -> Any:
        return np.mean((U @ np.concatenate(theta) - V) ** 2)

    batches = [np.arange(6), np.arange(6, 12)]

    def gradient(lam: Any, whole: Array, rows: Array) -> Array:
        fit = X[rows].T @ (X[rows] @ whole - Y[rows]) / len(rows)
        found: Array = lam["scale"] * fit + np.exp(lam["decay"]) * whole
        return found

    def right(lam: Any) -> Any:
        whole, decay, scale = THETA, np.zeros((3, 3)), np.zeros(3)
        for rows in batches:
            hessian = lam["scale"] * X[rows].T @ X[rows] / 6 + np.diag(np.exp(lam["decay"]))
            fit = X[rows].T @ (X[rows] @ whole - Y[rows]) / 6
            decay = decay - STEP_SIZE * (hessian @ decay + np.diag(np.exp(lam["decay"]) * whole))
            scale = scale - STEP_SIZE * (hessian @ scale + fit)
            whole = whole - STEP_SIZE * gradient(lam, whole, rows)
        slope = 2 * (U @ whole - V) @ U / 10
        return {"decay": slope @ decay, "scale": slope @ scale}

    run: dict[str, Any] = {"steps": 2, "diagnosis_seconds": 0}
    report = hypergradient_report(
        inner_of, outer_of, lam, theta, right, inner_batches=batches, step_size=STEP_SIZE, **run
    )
    assert report.right, report.describe()

    def step(lam: Any, theta: Any, t: int) -> Any:
        whole = np.concatenate(theta)
        moved = whole - STEP_SIZE * gradient(lam, whole, batches[t])
        return [moved[:2], moved[2:]]

    report = hypergradient_report(
        None, outer_of, lam, theta, right, step=step, read=lambda theta: theta, **run
    )
    assert report.right, report.describe()
    wrong = hypergradient_report(
        None, outer_of, lam, theta, lambda lam: {**right(lam), "scale": 0.0}, step=step,
        read=lambda theta: theta, **run,
    )  # fmt: skip
    assert wrong.verdict is Verdict.WRONG


@pytest.mark.full
def test_single_precision_is_judged_in_double() -> None:
    lam, theta = LAM.astype(np.float32), THETA.astype(np.float32)
    run: dict[str, Any] = {"steps": STEPS, "step_size": STEP_SIZE, "diagnosis_seconds": 0}
    right = unrolled(LAM).astype(np.float32)
    assert hypergradient_report(inner, outer, lam, theta, right, **run).right
    wrong = hypergradient_report(inner, outer, lam, theta, 1.01 * right, **run)
    assert wrong.verdict is Verdict.WRONG


# Bad input.

BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "too large": ({"theta0": np.zeros(2000)}, ArgumentError, "at most 1000 entries together"),
    "integers": ({"theta0": np.zeros(3, dtype=int)}, ArgumentTypeError, "float64 or float32"),
    "no entries": ({"lam": np.zeros(0)}, ArgumentError, "lam must have at least one entry"),
    "a vector loss": ({"inner": lambda lam, theta: theta}, ArgumentError, "inner must return one"),
    "a text": ({"outer": lambda lam, theta: "x"}, ArgumentError, "outer must return one number"),
    "raises": ({"inner": lambda lam, theta: 1 / 0}, LossError, "inner .* ZeroDivisionError"),
    "random": (
        {"inner": lambda lam, theta: np.sum(theta**2) * np.random.default_rng().normal()},
        OracleError,
        "hidden randomness",
    ),
    "a state of two parts": (
        {
            "inner": None,
            "outer": lambda lam, state: np.sum((state[0] - state[1]) ** 2),
            "theta0": (THETA, THETA + 1),
            "step": lambda lam, state, t: (state[0] - 0.1 * state[1], state[1]),
            "step_size": None,
        },
        ArgumentError,
        "read must be given",
    ),
    "another shape": (
        {"hypergradient": np.ones(2)},
        ArgumentError,
        "hypergradient must have the shape",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_said_clearly(name: str) -> None:
    changed, error, text = BAD[name]
    given: dict[str, Any] = {
        "inner": inner, "outer": outer, "lam": LAM, "theta0": THETA, "hypergradient": unrolled, **changed,
    }  # fmt: skip
    given = {"step_size": STEP_SIZE, **given}
    with pytest.raises(error, match=text):
        hypergradient_report(**given, steps=STEPS, diagnosis_seconds=0)
