"""What is allowed: by tensor of λ, along random directions, of a zero truth, and never the zero answer.

Error rates: right code at its tolerance is accused with chance 10⁻⁶ a run along random directions.

Share of the quick suite: about 12 s of processor time.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from refblo.conformance import HypergradientMismatch, Report, Verdict, hypergradcheck
from refblo.conformance import hypergradient_report as report_of
from refblo.conformance.margins import judge, margin
from refblo.conformance.truth.ladder import Rung
from refblo.conformance.truth.reference import Reference
from refblo.errors import OracleError

DRAW = torch.Generator().manual_seed(16)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=DRAW)


class TestBlocks:
    """A learning rate beside a weight decay: derivatives apart by nine orders of magnitude."""

    X, Y, THETA = normal(20, 3), normal(20), normal(3)
    LAM: ClassVar = {"lr": torch.tensor(1e-9).double(), "wd": torch.tensor(1e-4).double()}

    def step(self, lam: dict[str, Tensor], theta: Tensor, _: int) -> Tensor:
        slope = 2 * self.X.T @ (self.X @ theta - self.Y) / 20
        return theta - lam["lr"] * (slope + lam["wd"] * theta)

    def outer(self, _: dict[str, Tensor], theta: Tensor) -> Tensor:
        return (self.X.flip(0) @ theta - self.Y).square().mean()

    def mine(self, lam: dict[str, Tensor], factor: float = 1.0) -> dict[str, Tensor]:
        leaves = {name: value.clone().requires_grad_() for name, value in lam.items()}
        theta = self.THETA
        for t in range(3):
            theta = self.step(leaves, theta, t)
        rate, decay = torch.autograd.grad(self.outer(leaves, theta), list(leaves.values()))
        return {"lr": rate, "wd": factor * decay}

    def report(self, factor: float, **options: Any) -> Report:
        return report_of(
            None,
            self.outer,
            self.LAM,
            self.THETA,
            lambda lam: self.mine(lam, factor),
            step=self.step,
            steps=3,
            diagnosis_seconds=0.0,
            **options,
        )

    @pytest.mark.parametrize("factor", [-1.0, 0.0, 1.001])
    def test_a_small_wrong_block_is_wrong(self, factor: float) -> None:
        found = self.report(factor)
        assert found.verdict is Verdict.WRONG
        assert found.block == "wd"
        assert found.relative_error == pytest.approx(abs(1 - factor), rel=1e-6)
        assert "block wd of lam is wrong" in found.describe().splitlines()[0]
        assert found.error > found.bound

    def test_right_blocks_are_right(self) -> None:
        found = self.report(1.0)
        assert found.right
        assert all(block.right and block.seen for block in found.blocks)

    def test_a_block_that_the_tolerance_hides_is_said_in_the_first_line(self) -> None:
        found = self.report(-1.0, tolerance=1e-3)
        assert found.right
        assert "block wd of lam was not seen" in found.describe().splitlines()[0]
        assert any("block wd was not seen" in line for line in found.describe().splitlines())

    def test_a_small_block_beside_a_large_one_gets_a_direction(self) -> None:
        lam = {"large": normal(40), "small": torch.tensor([0.3]).double()}

        def inner(lam: dict[str, Tensor], theta: Tensor) -> Tensor:
            return (theta - lam["large"]).square().sum() + 1e-9 * lam["small"].sum() * theta.sum()

        def outer(_: dict[str, Tensor], theta: Tensor) -> Tensor:
            return theta.square().sum()

        def mine(lam: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
            # One step from 0: θ¹ = γ (2 λ − 10⁻⁹ s).
            theta = 0.1 * (2 * lam["large"] - 1e-9 * lam["small"])
            small = -2 * 0.1 * 1e-9 * theta.sum()
            return {"large": 2 * 0.2 * theta, "small": factor * small.reshape(1)}

        for factor, verdict in ((1.0, Verdict.RIGHT), (-1.0, Verdict.WRONG)):
            found = report_of(
                inner,
                outer,
                lam,
                torch.zeros(40).double(),
                lambda at, factor=factor: mine(at, factor),
                step_size=0.1,
                diagnosis_seconds=0.0,
            )
            assert not found.exhaustive
            assert found.verdict is verdict
            assert (found.block == "small") is (verdict is Verdict.WRONG)


def reference_along(truth: np.ndarray, k: int, seed: int) -> Reference:
    """A truth known along k random directions without error."""
    draws = np.random.Generator(np.random.Philox(key=seed)).standard_normal((truth.size, k))
    directions = draws / np.linalg.norm(draws, axis=0)
    value, none = truth @ directions, np.zeros(k)
    return Reference(directions, False, none, value, none, none, 0.0, Rung.BATCHED, none)


class TestRandomDirections:
    """A tolerance declares a norm, and a direction shows one component of it."""

    @pytest.mark.parametrize("p", [33, 40, 500])
    @pytest.mark.parametrize("k", [1, 3, 16])
    def test_right_code_at_its_tolerance_is_not_accused(self, p: int, k: int) -> None:
        draw = np.random.Generator(np.random.Philox(key=p))
        truth = draw.standard_normal(p)
        for seed in range(200):
            error = draw.standard_normal(p)
            near = truth + 0.999e-3 * np.linalg.norm(truth) * error / np.linalg.norm(error)
            assert margin(near, reference_along(truth, k, seed), 1e-9, 1e-3).right

    def test_wrong_code_is_accused(self) -> None:
        """Five times the tolerance along 16 directions is missed with chance 3·10⁻⁵ a run."""
        draw = np.random.Generator(np.random.Philox(key=1))
        truth = draw.standard_normal(100)
        for seed in range(200):
            error = draw.standard_normal(100)
            off = truth + 5e-3 * np.linalg.norm(truth) * error / np.linalg.norm(error)
            assert not margin(off, reference_along(truth, 16, seed), 1e-9, 1e-3).right

    @pytest.mark.parametrize("factor", [0.0, -1.0, 1e3, 1e12, float("nan"), float("inf")])
    def test_an_answer_of_any_size_is_accused(self, factor: float) -> None:
        truth = np.linspace(-1, 2, 100)
        with np.errstate(all="ignore"):
            answer = factor * truth
        for seed in range(20):
            assert not margin(answer, reference_along(truth, 3, seed), 1e-9, 1e-3).right

    @pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e300])
    def test_by_the_whole_check_where_the_answer_is_not_finite(self, factor: float) -> None:
        lam = normal(40)
        found = report_of(
            lambda lam, theta: (theta - lam).square().sum(),
            lambda _, theta: theta.square().sum(),
            lam,
            torch.zeros(40).double(),
            lambda lam: factor * 0.08 * lam,
            step_size=0.1,
            diagnosis_seconds=0.0,
        )
        assert found.verdict is Verdict.WRONG

    @pytest.mark.parametrize(
        ("p", "seeds"), [(40, range(4)), pytest.param(500, range(20), marks=pytest.mark.full)]
    )
    def test_by_the_whole_check(self, p: int, seeds: range) -> None:
        x, y, held, targets = normal(p + 20, p), normal(p + 20), normal(p, p), normal(p)
        lam, theta0 = torch.full((p,), -1.0).double(), torch.zeros(p).double()

        def inner(lam: Tensor, theta: Tensor) -> Tensor:
            return (x @ theta - y).square().mean() + lam.exp() @ theta.square()

        def outer(_: Tensor, theta: Tensor) -> Tensor:
            return (held @ theta - targets).square().mean()

        def right(lam: Tensor) -> Tensor:
            at, theta = lam.clone().requires_grad_(), theta0.clone().requires_grad_()
            for _ in range(5):
                (slope,) = torch.autograd.grad(inner(at, theta), theta, create_graph=True)
                theta = theta - 0.02 * slope
            return torch.autograd.grad(outer(at, theta), at)[0]

        truth = right(lam)
        for seed in seeds:
            error = normal(p)
            near = truth + 0.7e-3 * truth.norm() * error / error.norm()
            options: dict[str, Any] = {"steps": 5, "step_size": 0.02, "seed": seed}
            options |= {"tolerance": 1e-3, "diagnosis_seconds": 0.0}
            assert report_of(inner, outer, lam, theta0, near, **options).right
            assert not report_of(inner, outer, lam, theta0, 1.01 * truth, **options).right


class TestZero:
    """A truth of zero has a verdict, and what would pass an answer of zero is none."""

    X, Y = normal(9, 3), normal(9)
    LAM, THETA = torch.tensor([-1.0, -1.3]).double(), torch.zeros(3).double()

    def inner(self, lam: Tensor, theta: Tensor) -> Tensor:
        return (self.X @ theta - self.Y).square().mean() + 0 * lam.sum()

    def outer(self, _: Tensor, theta: Tensor) -> Tensor:
        return theta.square().sum()

    def report(self, answer: Callable[[Tensor], Tensor]) -> Report:
        options: dict[str, Any] = {"steps": 8, "step_size": 0.1, "diagnosis_seconds": 0.0}
        return report_of(self.inner, self.outer, self.LAM, self.THETA, answer, **options)

    @pytest.mark.parametrize("dust", [0.0, 1e-18, -2e-17])
    def test_rounding_dust_is_right(self, dust: float) -> None:
        found = self.report(lambda lam: torch.zeros_like(lam) + torch.tensor([dust, 0.0]).double())
        assert found.right
        assert "the truth is zero within its own error" in found.describe().splitlines()[0]
        assert "inf" not in found.describe()

    @pytest.mark.parametrize("size", [1e-12, 1e-3])
    def test_what_is_more_than_dust_is_wrong(self, size: float) -> None:
        assert self.report(lambda lam: torch.full_like(lam, size)).verdict is Verdict.WRONG

    def test_a_check_that_would_pass_zero_is_undecided(self) -> None:
        """The two terms cancel to a millionth of each, and a tolerance is of a thousandth of the terms."""
        offset = 1e-6

        def inner(lam: Tensor, theta: Tensor) -> Tensor:
            return (theta - lam).square().sum() / 2

        def outer(lam: Tensor, theta: Tensor) -> Tensor:
            return theta.sum() - (1 - offset) * lam.sum()

        def check(answer: Tensor) -> Report:
            return report_of(
                inner,
                outer,
                self.LAM,
                torch.zeros(2).double(),
                answer,
                step_size=1.0,
                tolerance=0.1,
                diagnosis_seconds=0.0,
            )

        for answer in (torch.full((2,), offset).double(), torch.zeros(2).double()):
            found = check(answer)
            assert found.verdict is Verdict.UNDECIDED
            assert "it cannot tell your answer from zero" in found.describe().splitlines()[0]
        with pytest.raises(OracleError, match="cannot tell your answer from zero"):
            hypergradcheck(
                inner,
                outer,
                self.LAM,
                torch.zeros(2).double(),
                torch.zeros(2).double(),
                step_size=1.0,
                tolerance=0.1,
            )
        assert check(torch.ones(2).double()).verdict is Verdict.WRONG

    def test_a_wrong_block_raises_with_its_name(self) -> None:
        lam = {"a": torch.ones(2).double(), "b": torch.ones(1).double()}

        def outer(lam: dict[str, Tensor], theta: Tensor) -> Tensor:
            return lam["a"].sum() + 1e-12 * lam["b"].sum() + 0 * theta.sum()

        def inner(lam: dict[str, Tensor], theta: Tensor) -> Tensor:
            return theta.square().sum() + 0 * lam["a"].sum()

        answer = {"a": torch.ones(2).double(), "b": torch.zeros(1).double()}
        with pytest.raises(HypergradientMismatch, match="block b of lam is wrong"):
            hypergradcheck(inner, outer, lam, self.THETA, answer, step_size=0.1)


def test_a_judgement_is_right_only_if_every_block_is() -> None:
    none = np.zeros(3)
    truth = np.array([1.0, 1.0, 1e-12])
    reference = Reference(np.eye(3), True, truth, none, none, none, 0.0, Rung.BATCHED, none)
    blocks = {"large": slice(0, 2), "small": slice(2, 3)}
    assert judge(truth, reference, 1e-9, 0.0, blocks).right
    off = judge(truth * np.array([1, 1, 2]), reference, 1e-9, 0.0, blocks)
    assert off.whole.right
    assert not off.right
    assert off.wrong_block is not None
    assert off.wrong_block.name == "small"


def deep(theta: Tensor, X: Tensor) -> Tensor:
    h = X
    for w in theta.reshape(40, 4, 4):
        h = h + torch.tanh(h @ w)
    return h.sum(1)


@pytest.mark.parametrize("answer", [0.0, pytest.param(1e9, marks=pytest.mark.full)])
def test_a_run_whose_roundings_grow_to_its_size_has_no_truth_of_zero(answer: float) -> None:
    """A derivative that float64 cannot tell from zero is no truth of zero: undecided, never right."""
    torch.manual_seed(0)
    X, y, W = (torch.randn(*s).double() for s in ((16, 4), (16,), (40 * 16,)))
    lam, theta = torch.full((4,), -3.0).double(), 0.6 * W

    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        weights = (lam.exp() * theta.reshape(-1, 4).square()).sum()
        return (deep(theta, X) - y).square().mean() + weights

    def outer(lam: Tensor, theta: Tensor) -> Tensor:
        return (deep(theta, X) + y).square().mean()

    given = torch.full((4,), answer).double()
    try:
        report = report_of(inner, outer, lam, theta, given, steps=14, step_size=0.002)
    except OracleError:
        return
    assert report.verdict is Verdict.UNDECIDED


class TestLossesThatDoNotReadLam:
    """A truth of zero because nothing depends on λ is said to be that, right answer or wrong."""

    LAM, THETA = torch.tensor([0.3, -0.2]).double(), torch.ones(3).double()

    @staticmethod
    def deaf(_: Tensor, theta: Tensor) -> Tensor:
        return (theta - 2).square().sum()

    @staticmethod
    def added(lam: Tensor, theta: Tensor) -> Tensor:
        """λ is in the loss, and in no derivative of it by θ."""
        return (theta - 2).square().sum() + lam.square().sum()

    @staticmethod
    def cancelling(lam: Tensor, theta: Tensor) -> Tensor:
        """λ is read, and the derivative vanishes by symmetry."""
        return (theta - 2).square().sum() + (lam.sum() - lam.sum()) * theta.sum()

    def report(self, inner: Any, answer: float, estimand: str = "unrolled") -> Report:
        return report_of(
            inner,
            self.deaf,
            self.LAM,
            self.THETA,
            torch.full((2,), answer).double(),
            steps=2,
            step_size=0.1,
            estimand=estimand,
        )

    @pytest.mark.parametrize("estimand", ["unrolled", "implicit"])
    @pytest.mark.parametrize("inner", ["deaf", "added"])
    def test_they_are_said_not_to_depend_on_it(self, inner: str, estimand: str) -> None:
        loss = getattr(self, inner)
        right, wrong = (self.report(loss, answer, estimand) for answer in (0.0, 0.7))
        assert right.verdict is Verdict.RIGHT
        assert "neither a step of the run nor outer depends on lam" in right.reason
        assert wrong.verdict is Verdict.WRONG
        assert any("depends on lam" in text for text in wrong.findings)

    def test_losses_that_read_it_are_not(self) -> None:
        right, wrong = (self.report(self.cancelling, answer) for answer in (0.0, 0.7))
        assert right.verdict is Verdict.RIGHT
        assert "depends on lam" not in right.describe()
        assert "depends on lam" not in wrong.describe()

    def test_a_start_or_a_step_that_reads_it_counts(self) -> None:
        def step(lam: Tensor, theta: Tensor, _: int) -> Tensor:
            return theta - 0.1 * (theta - (lam - lam).sum())

        def moved(lam: Tensor) -> Tensor:
            return self.THETA + (lam - lam).sum()

        zero = torch.zeros(2).double()
        for inner, start, options in (
            (self.deaf, moved, {"step_size": 0.1}),
            (None, self.THETA, {"step": step}),
        ):
            found = report_of(inner, self.deaf, self.LAM, start, zero, **options)
            assert found.verdict is Verdict.RIGHT
            assert "depends on lam" not in found.reason
