"""`hypergradcheck(objective=…)`: names where λ has many entries, λ in half precision, a truth of zero.

Share of the quick suite: about 5 s of processor time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from refblo import hypergradient_report
from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.report import Report, Verdict
from refblo.errors import OracleError

MANY = np.linspace(0.3, 1.4, 120)
BLOCKS = {"a": np.linspace(0.3, 0.9, 50), "b": np.linspace(-1, 1, 40), "c": np.array([0.7, 0.2])}


def judged(objective: Callable[[Any], Any], lam: Any, hypergradient: Any, **options: Any) -> Report:
    return hypergradient_report(
        objective=objective, lam=lam, hypergradient=hypergradient, **options
    )


def cubes(lam: np.ndarray) -> float:
    return float(np.sum(lam**3) + lam[0] * lam.sum())


def right(lam: np.ndarray) -> np.ndarray:
    gradient: np.ndarray = 3 * lam**2 + lam[0]
    gradient[0] += lam.sum()
    return gradient


def _without(entries: slice) -> Callable[[np.ndarray], np.ndarray]:
    def changed(gradient: np.ndarray) -> np.ndarray:
        gradient[entries] = 0
        return gradient

    return changed


def _one(gradient: np.ndarray) -> np.ndarray:
    gradient[33] *= 3
    return gradient


WRONG: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Mistake]] = {
    "zero": (lambda g: 0 * g, Mistake.ZERO),
    "sign": (lambda g: -g, Mistake.WRONG_SIGN),
    "two": (lambda g: 2 * g, Mistake.FACTOR_TWO),
    "half": (lambda g: g / 2, Mistake.FACTOR_HALF),
    "scaled": (lambda g: 1.01 * g, Mistake.SCALED),
    "far scaled": (lambda g: 1e4 * g, Mistake.SCALED),
    "sum": (lambda g: np.full_like(g, g.sum()), Mistake.ONES_IN_EVERY_ENTRY),
    "mean": (lambda g: np.full_like(g, g.mean()), Mistake.ONES_IN_EVERY_ENTRY),
    "half of the entries": (_without(slice(0, None, 2)), Mistake.SOME_ZERO),
    "one entry": (_one, Mistake.ONE_ENTRY),
    "exp left out": (lambda g: g / np.exp(MANY), Mistake.CHAIN_FACTOR),
    "tanh twice": (lambda g: g * (1 - np.tanh(MANY) ** 2), Mistake.CHAIN_FACTOR),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_named_above_32_hyperparameters(name: str) -> None:
    change, mistake = WRONG[name]
    report = judged(cubes, MANY, change(right(MANY)))
    assert report.verdict is Verdict.WRONG
    assert report.diagnosis is not None
    assert report.diagnosis.mistakes[0] is mistake, report.describe()


@pytest.mark.parametrize("seed", range(6))
def test_errors_of_no_kind_get_no_name_above_32_hyperparameters(seed: int) -> None:
    """The chance that one of the six is named is below 1 %, by the bound on a share left by chance."""
    draw = np.random.default_rng(seed)
    g = right(MANY)
    error = 10.0 ** -draw.integers(0, 6) * np.linalg.norm(g) * draw.normal(size=g.size) / 10
    report = judged(cubes, MANY, g + error)
    assert report.verdict is Verdict.WRONG
    assert report.diagnosis is not None
    assert report.diagnosis.name is None, report.describe()


@pytest.mark.parametrize("name", ["a", "c"])
def test_a_wrong_tensor_is_named_above_32_hyperparameters(name: str) -> None:
    def objective(lam: dict[str, np.ndarray]) -> float:
        return float(sum(np.sin(part).sum() for part in lam.values()) + lam["c"] @ lam["b"][:2])

    def answer(lam: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = {key: np.cos(part) for key, part in lam.items()}
        found["c"] += lam["b"][:2]
        found["b"][:2] += lam["c"]
        return {**found, name: -found[name]}

    report = judged(objective, BLOCKS, answer)
    assert report.diagnosis is not None
    assert report.diagnosis.mistakes == (Mistake.ONE_BLOCK,)
    assert f"lam['{name}'] has the wrong sign" in report.describe()


def test_answers_of_earlier_calls_are_named_above_32_hyperparameters() -> None:
    kept: list[np.ndarray] = []

    def first_again(lam: np.ndarray) -> np.ndarray:
        kept.append(right(lam))
        return kept[0]

    report = judged(cubes, MANY, first_again)
    assert report.diagnosis is not None
    assert Mistake.STALE_LAMBDA in report.diagnosis.mistakes


HALVES = ["bfloat16", "float16"]


@pytest.mark.parametrize("name", HALVES)
def test_a_lambda_in_half_precision_is_judged_in_a_wider_dtype(name: str) -> None:
    lam = torch.linspace(-1, 1, 6, dtype=getattr(torch, name))
    report = judged(lambda at: at.sin().sum(), lam, lambda at: at.cos())
    assert report.right
    assert report.floor < 0.3
    assert any("half precision" in finding for finding in report.findings)
    wrong = judged(lambda at: at.sin().sum(), lam, lambda at: -at.cos())
    assert wrong.diagnosis is not None
    assert Mistake.WRONG_SIGN in wrong.diagnosis.mistakes


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize(("share", "verdict"), [(0.5, True), (2.0, False)])
def test_the_floor_in_half_precision(name: str, share: float, verdict: bool) -> None:
    lam = torch.linspace(-1, 1, 6, dtype=getattr(torch, name))
    truth = lam.double().cos()
    report = judged(lambda at: at.sin().sum(), lam, truth)
    off = share * report.floor * truth.norm() * torch.ones(6).double() / 6**0.5
    assert judged(lambda at: at.sin().sum(), lam, truth + off).right is verdict


def test_a_floor_below_what_half_precision_allows_is_no_verdict() -> None:
    lam = torch.linspace(-1, 1, 6, dtype=torch.bfloat16)
    with pytest.raises(OracleError, match="no verdict"):
        judged(lambda at: at.sin().sum(), lam, lam.cos(), floor=1e-3)


def test_another_function_in_a_wider_dtype_is_not_the_truth() -> None:
    def by_dtype(lam: torch.Tensor) -> torch.Tensor:
        return lam.sin().sum() if lam.dtype == torch.bfloat16 else lam.square().sum()

    with pytest.raises(OracleError, match="resolvable by differences"):
        judged(by_dtype, torch.linspace(-1, 1, 6).bfloat16(), lambda at: 2 * at)


def test_a_truth_of_zero_is_said() -> None:
    report = judged(lambda at: 3.0, np.array([1.0, 2.0]), lambda at: at)
    assert report.verdict is Verdict.WRONG
    assert "the truth is zero within its own error, and the answer is not" in report.describe()
    assert "relative error" not in report.describe()
