"""Tests of `hypergradcheck(objective=…)`, which judges a hypergradient by differences of one function.

That function, λ ↦ outer loss after the training, may be written in any framework; here it is written in
torch, NumPy and JAX. Each test gives a right or a wrong hypergradient and states the verdict, the named
mistake or the error. The right one comes from a closed form or from autograd, never from differences, so that
the checker is compared with another method. The trainings are short for this reason and for speed.

`floor` of a report is the smallest relative error that the check can tell from a right answer. The bounds on
it here (1e-6 or 1e-7 in float64, 1e-5 to 0.2 in float32) say that it is neither useless nor too good to be
true. The tables WRONG and UNEQUAL take new cases. What has no verdict is
in test_black_box_refusals.py.

Share of the quick suite: about 20 s of processor time.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from refblo import (
    HypergradientMismatch,
    hypergradcheck,
    hypergradient_report,
)
from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.report import Report, Verdict
from refblo.errors import OracleError

STEPS, STEP_SIZE = 12, 0.1


def _data(dtype: torch.dtype) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    parts = [torch.randn(*shape, generator=generator) for shape in ((20, 4), (20,), (15, 4), (15,))]
    return tuple(part.to(dtype) for part in parts)


def losses(lam: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """The inner and the outer loss."""
    X, y, U, v = _data(theta.dtype)
    inner = (X @ theta - y).square().mean() + (lam.exp() * theta.square()).sum()
    return inner, (U @ theta - v).square().mean() + 0.01 * lam.square().sum()


@dataclass(frozen=True)
class Training:
    """A training by torch.optim (`objective`), and its hypergradient by reverse mode (`right`)."""

    optimiser: str = "sgd"
    dtype: torch.dtype = torch.float64

    def objective(self, lam: Tensor) -> float:
        theta = torch.zeros(4, dtype=self.dtype, requires_grad=True)
        lam = lam.detach().to(self.dtype)
        make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[self.optimiser]
        optimiser = make([theta], lr=STEP_SIZE)
        for _ in range(STEPS):
            (theta.grad,) = torch.autograd.grad(losses(lam, theta)[0], theta)
            optimiser.step()
        return losses(lam, theta)[1].item()

    def right(self, lam: Tensor) -> Tensor:
        leaf = lam.detach().to(self.dtype).requires_grad_()
        theta = torch.zeros(4, dtype=self.dtype, requires_grad=True)
        m, v = torch.zeros_like(theta), torch.zeros_like(theta)
        for t in range(1, STEPS + 1):
            (g,) = torch.autograd.grad(losses(leaf, theta)[0], theta, create_graph=True)
            if self.optimiser == "adam":
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
                g = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
            theta = theta - STEP_SIZE * g
        (gradient,) = torch.autograd.grad(losses(leaf, theta)[1], leaf)
        return gradient.to(lam.dtype)


LAM = torch.tensor([-1.0, -0.5, 0.0, 0.3], dtype=torch.float64)


def judged(objective: Callable[[Any], Any], lam: Any, hypergradient: Any, **options: Any) -> Report:
    """The report, with the three arguments by position."""
    return hypergradient_report(
        objective=objective, lam=lam, hypergradient=hypergradient, **options
    )


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_reverse_mode_through_a_training_is_right(optimiser: str) -> None:
    training = Training(optimiser)
    report = hypergradcheck(objective=training.objective, lam=LAM, hypergradient=training.right)
    assert report.right
    assert report.floor < 1e-7


def test_single_precision_is_right_with_a_floor_of_single_precision() -> None:
    training = Training(dtype=torch.float32)
    report = hypergradient_report(
        objective=training.objective, lam=LAM, hypergradient=training.right
    )
    assert report.verdict is Verdict.RIGHT
    assert 1e-5 < report.floor < 0.2
    assert any("single precision" in finding for finding in report.findings)


WRONG: dict[str, tuple[Callable[[Tensor], Tensor], Mistake]] = {
    "sign": (lambda g: -g, Mistake.WRONG_SIGN),
    "half": (lambda g: g / 2, Mistake.FACTOR_HALF),
    "scaled": (lambda g: 1.7 * g, Mistake.SCALED),
    "zero": (torch.zeros_like, Mistake.ZERO),
    "order": (lambda g: g.flip(0), Mistake.PERMUTED),
    "ones": (lambda g: g.sum().expand(4).clone(), Mistake.ONES_IN_EVERY_ENTRY),
    "entry": (lambda g: g * torch.tensor([1.0, 1.0, 1.5, 1.0]), Mistake.ONE_ENTRY),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_that_the_entries_show_is_named(name: str) -> None:
    change, mistake = WRONG[name]
    training = Training()
    truth = training.right(LAM)
    with pytest.raises(HypergradientMismatch) as caught:
        hypergradcheck(objective=training.objective, lam=LAM, hypergradient=change(truth))
    diagnosis = caught.value.diagnosis
    assert diagnosis is not None
    assert diagnosis.mistakes == (mistake,)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("share", "right"), [(0.5, True), (2.0, False)])
def test_only_errors_above_the_floor_are_wrong(
    dtype: torch.dtype, share: float, right: bool
) -> None:
    training = Training(dtype=dtype)
    truth = Training().right(LAM)
    report = judged(training.objective, LAM, truth)
    planted = torch.tensor([0.5, -0.5, 0.5, 0.5], dtype=torch.float64) * truth.norm()
    with_error = judged(training.objective, LAM, truth + share * report.floor * planted)
    assert with_error.right is right


# NumPy, numbers, trees.


def ridge(lam: dict[str, Any]) -> float:
    X, y, U, v = (part.numpy() for part in _data(torch.float64))
    weights = np.exp(lam["weights"])
    theta = np.linalg.solve(X.T @ X + np.diag(weights), X.T @ y)
    return float(lam["scale"] * np.mean((U @ theta - v) ** 2))


def ridge_hypergradient(lam: dict[str, Any]) -> dict[str, Any]:
    X, y, U, v = (part.numpy() for part in _data(torch.float64))
    weights = np.exp(lam["weights"])
    H = X.T @ X + np.diag(weights)
    theta = np.linalg.solve(H, X.T @ y)
    slope = 2 * lam["scale"] * U.T @ (U @ theta - v) / len(v)
    adjoint = np.linalg.solve(H, slope)
    return {"weights": -adjoint * weights * theta, "scale": float(np.mean((U @ theta - v) ** 2))}


TREE = {"weights": np.array([-1.0, 0.2, 0.5, 1.0]), "scale": 2.0}


def test_a_tree_of_numpy_arrays_and_numbers_is_right() -> None:
    assert judged(ridge, TREE, ridge_hypergradient).right


def test_a_wrong_block_is_wrong_and_named() -> None:
    def wrong(lam: dict[str, Any]) -> dict[str, Any]:
        right = ridge_hypergradient(lam)
        return {**right, "scale": 2 * right["scale"]}

    report = judged(ridge, TREE, wrong)
    assert report.verdict is Verdict.WRONG
    assert report.diagnosis is not None
    assert Mistake.ONE_BLOCK in report.diagnosis.mistakes
    assert "['scale']" in report.describe()


def test_an_error_in_one_of_many_entries_is_found_and_located() -> None:
    lam = np.linspace(1, 2, 500)

    def wrong(at: np.ndarray) -> np.ndarray:
        gradient = 3 * at**2
        gradient[77] *= 1.5
        return gradient

    report = judged(lambda at: float(np.sum(at**3)), lam, wrong)
    assert report.verdict is Verdict.WRONG
    assert "entries 77 of lam (1 of 500)" in report.describe()
    assert judged(lambda at: float(np.sum(at**3)), lam, lambda at: 3 * at**2).right


def test_a_hypergradient_that_keeps_state_between_calls_is_wrong() -> None:
    kept: list[float] = []

    def accumulating(lam: np.ndarray) -> np.ndarray:
        kept.append(1.0)
        return 2 * lam * len(kept)

    report = judged(lambda at: float(at @ at), np.array([1.0, 2.0]), accumulating)
    assert report.verdict is Verdict.WRONG
    assert any("two calls at the same lam differ" in finding for finding in report.findings)


def test_a_hypergradient_that_overwrites_lam_is_reported_and_leaves_the_truth() -> None:
    def overwriting(lam: np.ndarray) -> np.ndarray:
        gradient = 2 * lam
        lam *= 0
        return gradient

    report = judged(lambda at: float(at @ at), np.array([1.0, 2.0]), overwriting)
    assert report.right
    assert any("changes the lam" in finding for finding in report.findings)


@pytest.mark.parametrize("seed", range(4))
def test_single_precision_under_a_lambda_in_double_has_a_verdict(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    X, y = (torch.randn(*shape, generator=generator) for shape in ((20, 3), (20,)))

    def train(lam: Tensor) -> float:
        theta = torch.zeros(3)
        for _ in range(10):
            theta = theta - 0.1 * (2 * X.T @ (X @ theta - y) / 20 + 2 * lam.float().exp() * theta)
        return (X.flip(0) @ theta - y).square().mean().item()

    lam = torch.full((3,), -2.0, dtype=torch.float64)
    report = judged(train, lam, torch.zeros(3))
    assert report.verdict is not Verdict.RIGHT
    assert any("single precision" in finding for finding in report.findings)


@pytest.mark.parametrize(("keeps", "mistake"), [("sum", "ACCUMULATED"), ("last", "STALE_LAMBDA")])
def test_a_mistake_by_kept_state_is_named(keeps: str, mistake: str) -> None:
    kept: list[np.ndarray] = []

    def stateful(lam: np.ndarray) -> np.ndarray:
        kept.append(3 * lam**2)
        return np.sum(kept, axis=0) if keeps == "sum" else kept[max(0, len(kept) - 2)]

    report = judged(lambda at: float(np.sum(at**3)), np.array([1.0, 2.0, -1.5]), stateful)
    assert report.diagnosis is not None
    assert Mistake[mistake] in report.diagnosis.mistakes


# λ whose entries are small, or of unequal sizes.


def _log_of_positive(lam: np.ndarray) -> float:
    if (lam < 0).any():
        raise ValueError("lr must be positive")
    return float(np.log(lam).sum())


UNEQUAL: dict[str, tuple[list[float], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "log": ([1e-5, 1.0], lambda at: float(np.log(at).sum()), lambda at: 1 / at),
    "root": ([1e-6, 1.0], lambda at: float(np.sqrt(at).sum()), lambda at: 0.5 / np.sqrt(at)),
    "raises below 0": ([1e-4, 1.0], _log_of_positive, lambda at: 1 / at),
    "sixteen decades": ([1e-8, 1.0, 1e8], lambda at: float(np.log(at).sum()), lambda at: 1 / at),
    "small by chance": ([1e-17, 1.0], lambda at: float(np.sin(at).sum()), np.cos),
}


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", UNEQUAL)
def test_entries_of_unequal_sizes_have_a_floor_that_divides_right_from_wrong(name: str) -> None:
    entries, objective, right = UNEQUAL[name]
    lam = np.array(entries)
    truth = right(lam)
    report = judged(objective, lam, truth)
    assert report.right
    assert report.floor < 1e-6
    along = truth * np.where(np.arange(lam.size) % 2 == 0, 1, -1)
    assert judged(objective, lam, truth + 0.5 * report.floor * along).right
    assert not judged(objective, lam, truth + 2 * report.floor * along).right


def test_a_value_of_about_0_in_double_is_not_single_precision() -> None:
    lam = torch.linspace(-1, 1, 6, dtype=torch.float64)
    report = judged(lambda at: at.sin().sum(), lam, lam.cos())
    assert report.right
    assert report.floor < 1e-7


def test_a_kink_beside_lam_leaves_the_slope_at_lam() -> None:
    def objective(at: np.ndarray) -> float:
        return float(np.abs(at - 1e-4).sum())

    lam = np.array([0.0, 1.0])
    assert judged(objective, lam, np.array([-1.0, 1.0])).right
    assert not judged(objective, lam, np.ones(2)).right


def test_an_objective_that_overwrites_lam_is_reported() -> None:
    def writing(lam: np.ndarray) -> float:
        lam *= 2
        return float(lam @ lam)

    report = judged(writing, np.array([1.0, 2.0]), np.array([8.0, 16.0]))
    assert report.right
    assert any("objective changes the lam" in finding for finding in report.findings)


def test_a_requested_floor_below_the_noise_is_undecided() -> None:
    training = Training(dtype=torch.float32)
    report = judged(training.objective, LAM, training.right, floor=1e-7)
    assert report.verdict is Verdict.UNDECIDED
    with pytest.raises(OracleError, match="the floor asked for"):
        hypergradcheck(
            objective=training.objective, lam=LAM, hypergradient=training.right, floor=1e-7
        )


# JAX.


@pytest.mark.parametrize(
    ("mode", "fine"), [("x32", "False"), pytest.param("x64", "True", marks=pytest.mark.full)]
)
def test_jax_functions_are_judged(mode: str, fine: str) -> None:
    # Run in a new process, because JAX's precision can be set only once per process.
    code = """
import sys, jax
jax.config.update("jax_enable_x64", sys.argv[1] == "x64")
import jax.numpy as jnp
from refblo import hypergradient_report
X = jax.random.normal(jax.random.key(0), (20, 3)); y = X @ jnp.ones(3) + 0.1
def train(lam):
    def inner(theta): return jnp.mean((X @ theta - y) ** 2) + jnp.sum(jnp.exp(lam["decay"]) * theta**2)
    step = lambda theta, _: (theta - lam["rate"] * jax.grad(inner)(theta), None)
    theta, _ = jax.lax.scan(step, jnp.zeros(3, X.dtype), None, length=10)
    return jnp.mean((X @ theta - 1.1 * y) ** 2)
lam = {"decay": -1.0 * jnp.ones(3), "rate": jnp.asarray(0.1)}
train = jax.jit(train)
right = hypergradient_report(objective=train, lam=lam, hypergradient=jax.grad(train))
wrong = hypergradient_report(
    objective=train, lam=lam, hypergradient=lambda at: jax.tree.map(lambda g: 1.5 * g, jax.grad(train)(at))
)
print(right.verdict.value, wrong.verdict.value, wrong.diagnosis.name, right.floor < 1e-7)
print(right.describe())
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, mode],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first == f"right wrong scaled {fine}"
    assert ("jax_enable_x64" in "\n".join(rest)) is (mode == "x32")


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda lam, right, draw: right / np.exp(lam), Mistake.CHAIN_FACTOR),
        (lambda lam, right, draw: right * np.array([0.0, 1, 0, 1]), Mistake.SOME_ZERO),
        (lambda lam, right, draw: right * (1 + 0.01 * draw.normal(size=4)), Mistake.ANSWER_CHANGES),
        (lambda lam, right, draw: right * (1 + 0.01 * draw.normal()), Mistake.ANSWER_CHANGES),
    ],
)
def test_a_mistake_that_the_calls_show_is_named(
    wrong: Callable[[Any, Any, np.random.Generator], Any], name: Mistake
) -> None:
    draw = np.random.default_rng(0)
    lam = np.array([-1.0, 0.3, 0.7, 1.2])
    report = hypergradient_report(
        objective=lambda at: float(np.sin(np.exp(at)).sum()),
        lam=lam,
        hypergradient=lambda at: wrong(at, np.cos(np.exp(at)) * np.exp(at), draw),
    )
    assert report.diagnosis is not None
    assert report.diagnosis.name == name.printed
