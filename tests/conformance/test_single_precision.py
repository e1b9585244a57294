"""float32 and bfloat16 code gets a verdict, with what rounding explains beside it.

The whole table of losses × layers, and the many seeds, are marked full; the quick sample takes 10 s of
processor time. Seeds are fixed: at least 95 % of the runs of each kind must have the right verdict, and
all of those here do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor

from refblo.conformance import Verdict, hypergradient_report
from refblo.conformance.report import Report
from refblo.errors import OracleError
from tests.conformance.ordinary.layers import LAYERS, LayerCase
from tests.conformance.ordinary.losses import LOSSES, LossCase
from tests.conformance.test_ladder import ALL, TWICE, check_both, check_right

SAMPLE = (
    *((LAYERS[(7 * i) % len(LAYERS)], loss) for i, loss in enumerate(TWICE) if i % 6 == 1),
    *((layer, LOSSES[i]) for i, layer in enumerate(LAYERS) if i % 6 == 1),
)


def _name(value: object) -> str:
    return value.name if isinstance(value, LayerCase | LossCase) else str(value)


@pytest.mark.parametrize(("layer", "loss"), SAMPLE, ids=_name)
def test_ordinary_float32_code_gets_the_right_verdict(layer: LayerCase, loss: LossCase) -> None:
    check_right(layer, loss, torch.float32)


@pytest.mark.full
@pytest.mark.parametrize(("layer", "loss"), ALL, ids=_name)
def test_all_ordinary_float32_code_gets_the_right_verdict(layer: LayerCase, loss: LossCase) -> None:
    check_both(layer, loss, torch.float32)


@final
@dataclass(frozen=True, eq=False)
class Problem:
    """A problem with data in a small dtype, on a flat λ and θ."""

    inner: Callable[[Tensor, Tensor], Tensor]
    outer: Callable[[Tensor, Tensor], Tensor]
    lam: Tensor
    theta0: Tensor
    step_size: float
    steps: int = 3

    def answer(self) -> Tensor:
        """The unrolled hypergradient by reverse mode in that dtype."""
        lam, theta = self.lam.clone().requires_grad_(), self.theta0.clone().requires_grad_()
        for _ in range(self.steps):
            (slope,) = torch.autograd.grad(self.inner(lam, theta), theta, create_graph=True)
            theta = theta - self.step_size * slope
        (gradient,) = torch.autograd.grad(self.outer(lam, theta), lam)
        return gradient

    def judged(self, factor: float = 1.0, **options: Any) -> Report:
        """The report on the answer times a factor."""
        run: dict[str, Any] = {"steps": self.steps, "step_size": self.step_size, **options}
        return hypergradient_report(
            self.inner,
            self.outer,
            self.lam,
            self.theta0,
            factor * self.answer(),
            diagnosis_seconds=0,
            **run,
        )


Draw = Callable[..., Tensor]


def _draw(seed: int, dtype: torch.dtype) -> Draw:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def least_squares(seed: int, dtype: torch.dtype = torch.float32, mean: float = 0.0) -> Problem:
    """Ridge regression, on features with a mean: the residuals cancel inside the loss."""
    draw = _draw(seed, dtype)
    x, xv, w = draw(20, 3) + mean, draw(20, 3) + mean, draw(3)
    y, yv = x @ w + draw(20), xv @ w + draw(20)
    return Problem(
        lambda lam, t: (x @ t - y).square().mean() + (lam.exp() * t * t).sum(),
        lambda lam, t: (xv @ t - yv).square().mean(),
        torch.full((3,), -1.0, dtype=dtype),
        draw(3),
        0.1 / max(1.0, mean**2),
    )


def batch_norm(seed: int) -> Problem:
    """BatchNorm of features with mean 300: the mean is taken off inside one operation of torch."""
    draw = _draw(seed, torch.float32)
    x, xv, y, yv = draw(20, 3) + 300, draw(20, 3) + 300, draw(20), draw(20)

    def network(t: Tensor, inputs: Tensor) -> Tensor:
        return F.batch_norm(inputs @ t[:9].view(3, 3), None, None, training=True) @ t[9:]

    return Problem(
        lambda lam, t: (network(t, x) - y).square().mean() + (lam.exp() * t * t).sum(),
        lambda lam, t: (network(t, xv) - yv).square().mean(),
        torch.full((12,), -1.0),
        draw(12),
        0.01,
    )


def first_order(seed: int) -> tuple[Problem, Tensor]:
    """A small classifier that learns its initial point, and its first-order answer: a third off or so."""
    draw = _draw(seed, torch.float32)
    labels = torch.arange(9) % 3
    x, xv = draw(6, 4), draw(9, 4)

    def network(t: Tensor, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(inputs @ t[:24].view(4, 6) + t[24:30])
        return hidden @ t[30:].view(6, 3)

    problem = Problem(
        lambda lam, t: F.cross_entropy(network(t, x), labels[:6]),
        lambda lam, t: F.cross_entropy(network(t, xv), labels),
        draw(48) / 2,
        draw(1),
        0.3,
    )
    theta = problem.lam.clone()
    for _ in range(3):
        theta.requires_grad_()
        (slope,) = torch.autograd.grad(problem.inner(problem.lam, theta), theta)
        theta = (theta - 0.3 * slope).detach()
    theta.requires_grad_()
    (answer,) = torch.autograd.grad(problem.outer(problem.lam, theta), theta)
    return problem, answer


def first_order_verdict(seed: int) -> Verdict:
    problem, answer = first_order(seed)
    return hypergradient_report(
        problem.inner,
        problem.outer,
        problem.lam,
        lambda lam: lam,
        answer,
        steps=3,
        step_size=0.3,
        seed=seed,
        diagnosis_seconds=0,
    ).verdict


def test_a_first_order_answer_is_wrong_in_float32() -> None:
    assert first_order_verdict(0) is Verdict.WRONG


@pytest.mark.full
def test_first_order_answers_are_wrong_for_every_seed() -> None:
    assert [first_order_verdict(seed) for seed in range(100)] == [Verdict.WRONG] * 100


CANCELLING: dict[str, Callable[[int], Problem]] = {
    "mean 100": lambda seed: least_squares(seed, mean=100.0),
    "BatchNorm at 300": batch_norm,
}


@pytest.mark.parametrize("kind", CANCELLING)
def test_right_code_whose_loss_cancels_is_not_accused(kind: str) -> None:
    problem = CANCELLING[kind](0)
    right = problem.judged()
    assert right.verdict is Verdict.RIGHT, right.describe()
    assert right.floor < 0.25, right.describe()


@pytest.mark.full
@pytest.mark.parametrize("kind", CANCELLING)
def test_right_code_whose_loss_cancels_is_not_accused_for_many_seeds(kind: str) -> None:
    problems = [CANCELLING[kind](seed) for seed in range(40)]
    assert all(problem.judged(seed=seed).right for seed, problem in enumerate(problems))
    assert problems[0].judged(1.3).verdict is Verdict.WRONG


def test_the_report_shows_what_float32_costs() -> None:
    precision = least_squares(0, mean=100.0).judged().precision
    assert precision is not None
    assert precision.dtype == "float32"
    assert 0 < precision.explained <= precision.digits < 8
    assert "float32 gives" in precision.sentence
    exact = least_squares(0, torch.float64).judged().precision
    assert exact is None


def test_bfloat16_gets_a_verdict() -> None:
    problem = least_squares(0, torch.bfloat16)
    right = problem.judged()
    assert right.verdict is Verdict.RIGHT, right.describe()
    assert right.precision is not None
    assert math.isclose(right.precision.digits, 2, abs_tol=1.5)
    assert right.floor < 0.5, right.describe()


def test_rounding_on_purpose_is_not_promoted_away() -> None:
    """The derivative that torch gives to a loss in half steps is not that of the loss: nobody's is right."""
    smooth = least_squares(0)
    draw = _draw(5, torch.float32)
    x, y = draw(20, 3), draw(20)

    def rounded(lam: Tensor, t: Tensor) -> Tensor:
        return ((x @ t).half().float() - y).square().mean() + (lam.exp() * t * t).sum()

    problem = Problem(rounded, smooth.outer, smooth.lam, smooth.theta0, 0.1)
    with pytest.raises(OracleError, match="no verdict is possible"):
        problem.judged()


def test_where_float32_leaves_nothing_its_tensors_are_named() -> None:
    draw = _draw(0, torch.float32)
    features, targets = draw(20, 3), draw(20)

    def inner(lam: Tensor, t: Tensor) -> Tensor:
        if t.dtype is not torch.float32:
            raise TypeError("this code is for float32 alone")
        return (features @ t - targets).square().mean() + (lam.exp() * t * t).sum()

    def measured(lam: Tensor, t: Tensor) -> Tensor:
        # A large constant takes the objective's digits.
        return (features @ t + targets).square().mean() + 1e6

    problem = Problem(inner, measured, torch.full((3,), -1.0), draw(3), 0.1)
    with pytest.raises(
        OracleError, match=r"give the losses float64 data \(features, targets: float32\)"
    ):
        problem.judged()


def test_losses_that_cannot_be_promoted_say_why() -> None:
    """A loss that refuses float64, as a kernel of an extension does."""

    def kernel(lam: Tensor, theta: Tensor) -> Tensor:
        if theta.element_size() != 4:
            raise RuntimeError("kernel: expected scalar type Float")
        return (theta - lam).square().sum() / 2

    lam, theta0 = torch.tensor([1.0, -2.0]), torch.zeros(2)
    step, steps = 0.1, 3
    right = 2 * (1 - (1 - step) ** steps) ** 2 * lam
    report = hypergradient_report(
        kernel,
        lambda lam, theta: theta.square().sum(),
        lam,
        theta0,
        right,
        steps=steps,
        step_size=step,
    )
    assert report.verdict is Verdict.RIGHT
    (said,) = [finding for finding in report.findings if "promoted" in finding]
    assert "because there they raise LossError" in said
    assert "expected scalar type Float" in said
    assert "the verdict is that of float32" in said


_F32 = torch.float32
NARROWING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    # A scalar of float64 and a tensor of float32 make a tensor of float32.
    "eye": lambda a, t: (a * torch.eye(3)).double() @ t.square(),
    "ones": lambda a, t: (a * torch.ones(3)).double() @ t.square(),
    "sum": lambda a, t: (
        ((a + torch.linspace(0, 1, 3)) @ torch.ones(3, 1)).double() * t.square().sum()
    ),
    "float": lambda a, t: (a.float() * torch.full((3,), 0.7)).double() @ t.square(),
    "to": lambda a, t: (t.to(_F32) * 0.9).square().sum().double() * a,
    "where": lambda a, t: (
        torch.where(torch.tensor([True, False, True]), a, torch.ones(3)).double() @ t**2
    ),
}
EXACT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a mask": lambda a, t: a * (t.square() * (t.detach() > 0).float()).sum(),
    "float32 data": lambda a, t: a * ((t * torch.full((3,), 0.25)).square().sum()),
    "a count": lambda a, t: a * t.square().sum() / torch.ones(3, dtype=_F32).sum(),
    "a number": lambda a, t: a * t.square().sum() * float(torch.tensor(0.1)),
}


def _in_places(penalty: Callable[[Tensor, Tensor], Tensor], factor: float) -> Report:
    normal = torch.Generator().manual_seed(2)
    x, xv = (torch.randn(9, 3, generator=normal).double() for _ in range(2))
    y, yv = (torch.randn(9, generator=normal).double() for _ in range(2))

    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        terms = penalty(lam[0].exp(), theta)
        fit: Tensor = (x @ theta - y).square().mean() * lam[1].exp() + terms.sum()
        return fit

    def outer(_: Tensor, theta: Tensor) -> Tensor:
        return (xv @ theta - yv).square().mean()

    problem = Problem(inner, outer, torch.tensor([-1.0, 0.2]).double(), torch.ones(3).double(), 0.1)
    return hypergradient_report(
        inner,
        outer,
        problem.lam,
        problem.theta0,
        factor * problem.answer(),
        steps=problem.steps,
        step_size=0.1,
        diagnosis_seconds=0,
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("eye", "to") else pytest.mark.full)
        for name in NARROWING
    ],
)
def test_float32_in_places_of_float64_code_is_told_and_allowed_for(name: str) -> None:
    right, wrong = (_in_places(NARROWING[name], factor) for factor in (1.0, 1.01))
    assert right.verdict is Verdict.RIGHT, right.describe()
    assert any("the losses compute in float32" in finding for finding in right.findings)
    assert right.floor > 1e-7
    assert wrong.verdict is Verdict.WRONG


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == "a mask" else pytest.mark.full) for name in EXACT],
)
def test_float32_that_rounds_nothing_costs_nothing(name: str) -> None:
    right, wrong = (_in_places(EXACT[name], factor) for factor in (1.0, 1.0 + 1e-8))
    assert right.verdict is Verdict.RIGHT, right.describe()
    assert right.findings == ()
    assert right.floor < 2e-9
    assert wrong.verdict is Verdict.WRONG
