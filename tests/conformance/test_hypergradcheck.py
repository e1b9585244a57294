"""hypergradcheck: right code passes, wrong code is named, and what cannot be decided is said."""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import refblo
from refblo import RMD, BilevelProblem, FixedInitial, Langevin, Schedule
from refblo.conformance import (
    HypergradientMismatch,
    Rule,
    Verdict,
    hypergradcheck,
    hypergradient_is_right,
    hypergradient_report,
)
from refblo.conformance.report import Report
from refblo.errors import ArgumentError, ArgumentTypeError, OracleError
from refblo.ravel import ravel_module

N, P, T = 5, 3, 8
_DRAW = torch.Generator().manual_seed(0)


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=_DRAW)


FACTOR = _normal(N, N)
HESSIAN = FACTOR @ FACTOR.T / N + torch.eye(N, dtype=torch.float64)
COUPLING, LAM, THETA = _normal(N, P), _normal(P), _normal(N)


def inner(lam: Tensor, theta: Tensor) -> Tensor:
    quartic = 0.1 * lam[0].exp() * theta.pow(4).sum()
    return 0.5 * theta @ HESSIAN @ theta - theta @ (COUPLING @ lam) + quartic


def outer(lam: Tensor, theta: Tensor) -> Tensor:
    return theta.sin().sum() + 0.5 * lam.square().sum()


def problem() -> BilevelProblem:
    return BilevelProblem(
        lambda lam, theta, _: inner(lam, theta),
        lambda lam, theta, _: outer(lam, theta),
        FixedInitial(THETA),
    )


def unrolled(lam: Tensor, steps: int = T) -> Tensor:
    return RMD(Langevin(0.1), Schedule.last(steps)).estimate(problem(), lam).value


def through(lam: Tensor, advance: Any, state: Any, read: Any) -> Tensor:
    """Back-propagation through any transition."""
    lam = lam.clone().requires_grad_()
    for t in range(T):
        state = advance(lam, state, t)
    return torch.autograd.grad(outer(lam, read(state)), lam)[0]


def test_a_right_hypergradient_passes_with_figures() -> None:
    report = hypergradcheck(inner, outer, LAM, THETA, unrolled, steps=T, step_size=0.1)
    assert report.verdict is Verdict.RIGHT
    assert report.relative_error < 1e-14
    assert report.floor <= 1e-9
    assert report.exhaustive
    assert report.miss_rate == 0
    assert "right" in report.describe()


def test_a_wrong_one_raises_with_error_bound_direction_and_diagnosis() -> None:
    def negative(lam: Tensor) -> Tensor:
        direct = lam
        return direct - (unrolled(lam) - direct)

    with pytest.raises(HypergradientMismatch, match="wrong sign of the indirect term") as caught:
        hypergradcheck(inner, outer, LAM, THETA, negative, steps=T, step_size=0.1)
    found = caught.value
    assert isinstance(found, AssertionError)
    assert found.error > found.bound
    assert found.diagnosis is not None
    assert found.diagnosis.name == "wrong sign of the indirect term"
    assert found.direction.shape == (P,)
    assert found.report.observed_slope - found.report.true_slope == pytest.approx(found.error)


@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6, 3e-9])
def test_errors_above_the_floor_are_seen(size: float) -> None:
    def off(lam: Tensor) -> Tensor:
        right = unrolled(lam)
        direction = torch.tensor([0.6, 0.0, -0.8], dtype=torch.float64)
        moved: Tensor = right + size * right.norm() * direction
        return moved

    options: dict[str, Any] = {"steps": T, "step_size": 0.1}
    assert not hypergradient_is_right(inner, outer, LAM, THETA, off, **options)


def test_a_finer_floor_can_be_asked_for() -> None:
    report = hypergradcheck(inner, outer, LAM, THETA, unrolled, steps=T, step_size=0.1, floor=1e-12)
    assert report.floor == pytest.approx(1e-12)


def test_a_floor_below_rounding_leaves_it_undecided() -> None:
    report = hypergradient_report(
        inner, outer, LAM, THETA, unrolled, steps=T, step_size=0.1, floor=1e-18
    )
    assert report.verdict is Verdict.UNDECIDED
    assert "rounding alone" in report.describe()
    with pytest.raises(OracleError, match="rounding alone"):
        hypergradcheck(inner, outer, LAM, THETA, unrolled, steps=T, step_size=0.1, floor=1e-18)


def test_the_step_may_be_the_callers_own_with_momentum() -> None:
    def step(lam: Tensor, state: tuple[Tensor, Tensor], t: int) -> tuple[Tensor, Tensor]:
        theta, velocity = state
        if not theta.requires_grad:
            theta = theta.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(inner(lam, theta), theta, create_graph=True)
        velocity = 0.7 * velocity + gradient
        return theta - 0.05 * velocity, velocity

    start = (THETA, torch.zeros_like(THETA))
    right = lambda lam: through(lam, step, start, lambda s: s[0])  # noqa: E731
    assert hypergradcheck(None, outer, LAM, start, right, steps=T, step=step).right
    by_rule = hypergradcheck(
        inner, outer, LAM, THETA, right, steps=T, rule=Rule(0.05, momentum=0.7)
    )
    assert by_rule.right

    def detached(lam: Tensor) -> Tensor:
        return through(
            lam, lambda at, s, t: step(at, (s[0], s[1].detach()), t), start, lambda s: s[0]
        )

    report = hypergradient_report(None, outer, LAM, start, detached, steps=T, step=step)
    assert report.diagnosis is not None
    assert report.diagnosis.name == "optimiser state detached"


def test_adam_written_by_the_caller() -> None:
    def step(
        lam: Tensor, state: tuple[Tensor, Tensor, Tensor], t: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        theta, m, v = state
        gradient = torch.func.grad(inner, argnums=1)(lam, theta)
        m, v = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient.square()
        size = (v / (1 - 0.99 ** (t + 1))).sqrt() + 1e-8
        return theta - 0.02 * (m / (1 - 0.9 ** (t + 1))) / size, m, v

    start = (THETA, torch.zeros_like(THETA), torch.zeros_like(THETA))
    right = lambda lam: through(lam, step, start, lambda s: s[0])  # noqa: E731
    assert hypergradcheck(None, outer, LAM, start, right, steps=T, step=step).right
    rule = Rule(0.02, betas=(0.9, 0.99))
    assert hypergradcheck(inner, outer, LAM, THETA, right, steps=T, rule=rule).right


def test_modules_and_dicts_of_hyperparameters() -> None:
    torch.manual_seed(1)
    theta0, net = ravel_module(torch.nn.Linear(2, 1).double())
    x, y = _normal(7, 2), _normal(7, 1)
    lam = {"decay": torch.tensor(-1.0).double(), "weights": _normal(7)}

    def train(lam: dict[str, Tensor], theta: Tensor) -> Tensor:
        misfit = (net(theta, x) - y).square().squeeze(1)
        return (lam["weights"].sigmoid() * misfit).mean() + lam["decay"].exp() * theta @ theta

    def validate(lam: dict[str, Tensor], theta: Tensor) -> Tensor:
        return (net(theta, x) - y).abs().pow(3).mean()

    def right(lam: dict[str, Tensor]) -> dict[str, Tensor]:
        leaves = {name: value.clone().requires_grad_() for name, value in lam.items()}
        theta = theta0.clone().requires_grad_()
        for _ in range(T):
            (gradient,) = torch.autograd.grad(train(leaves, theta), theta, create_graph=True)
            theta = theta - 0.1 * gradient
        found = torch.autograd.grad(validate(leaves, theta), list(leaves.values()))
        return dict(zip(leaves, found, strict=True))

    assert hypergradcheck(train, validate, lam, theta0, right, steps=T, step_size=0.1).right

    def one_block_wrong(lam: dict[str, Tensor]) -> dict[str, Tensor]:
        found = right(lam)
        return found | {"decay": 3.7 * found["decay"]}

    report = hypergradient_report(
        train, validate, lam, theta0, one_block_wrong, steps=T, step_size=0.1
    )
    assert report.diagnosis is not None
    assert report.diagnosis.name == "one block wrong"
    assert report.diagnosis.text.startswith("block decay")
    where = "\n".join(report.diagnosis.components)
    assert "block decay: 100.0% of the error" in where
    assert "block weights: 0.0% of the error" in where


def test_minibatches_noise_and_the_pathwise_mean() -> None:
    x, y = _normal(10, N), _normal(10)
    batches = [torch.randperm(10, generator=_DRAW)[:4] for _ in range(T + 1)]
    noise = 0.1 * _normal(T, N)

    def train(lam: Tensor, theta: Tensor, batch: Tensor | None) -> Tensor:
        chosen = slice(None) if batch is None else batch
        decay = lam.exp().sum() * theta.square().sum()
        return (x[chosen] @ theta - y[chosen]).square().mean() + 0.1 * decay

    def right(lam: Tensor, back: list[Tensor] = batches) -> Tensor:
        lam = lam.clone().requires_grad_()
        theta, total = THETA.clone().requires_grad_(), torch.zeros((), dtype=torch.float64)
        for t in range(T):
            loss = train(lam, theta, back[t])
            (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
            theta = theta - 0.05 * gradient + noise[t]
            if t >= 3:
                total = total + outer(lam, theta)
        return torch.autograd.grad(total / (T - 3), lam)[0]

    options: dict[str, Any] = {
        "estimand": "pathwise",
        "steps": T,
        "burn_in": 3,
        "step_size": 0.05,
        "noise": noise,
        "inner_batches": batches,
    }
    assert hypergradcheck(train, outer, LAM, THETA, right, **options).right
    moved = lambda lam: right(lam, batches[1:] + batches[:1])  # noqa: E731
    report = hypergradient_report(train, outer, LAM, THETA, moved, **options)
    assert report.diagnosis is not None
    assert report.diagnosis.name == "batch advanced one too far"


def test_the_implicit_estimand_and_an_inner_solver_that_stopped() -> None:
    def at(lam: Tensor, newton_steps: int) -> Tensor:
        theta = THETA
        slope = torch.func.grad(inner, argnums=1)
        for _ in range(newton_steps):
            theta = theta - torch.linalg.solve(
                torch.func.jacrev(slope, argnums=1)(lam, theta), slope(lam, theta)
            )
        hessian = torch.func.jacrev(slope, argnums=1)(lam, theta)
        mixed = torch.func.jacrev(slope, argnums=0)(lam, theta)
        direct, by_theta = torch.func.grad(outer, argnums=(0, 1))(lam, theta)
        value: Tensor = direct - torch.linalg.solve(hessian.T, by_theta) @ mixed
        return value

    options: dict[str, Any] = {"estimand": "implicit", "steps": T, "step_size": 0.1}
    assert hypergradcheck(inner, outer, LAM, THETA, lambda lam: at(lam, 20), **options).right
    report = hypergradient_report(inner, outer, LAM, THETA, lambda lam: at(lam, 0), **options)
    assert report.diagnosis is not None
    assert report.diagnosis.name == "inner solver not converged"
    assert "after 0 inner steps, residual" in report.diagnosis.text
    loose = hypergradcheck(
        inner, outer, LAM, THETA, lambda lam: at(lam, 3), tolerance=1e-2, **options
    )
    assert loose.right


def test_an_initial_point_that_depends_on_lam() -> None:
    def start(lam: Tensor) -> Tensor:
        return COUPLING @ lam

    def right(lam: Tensor) -> Tensor:
        lam = lam.clone().requires_grad_()
        theta = start(lam)
        for _ in range(T):
            (gradient,) = torch.autograd.grad(inner(lam, theta), theta, create_graph=True)
            theta = theta - 0.05 * gradient
        return torch.autograd.grad(outer(lam, theta), lam)[0]

    assert hypergradcheck(inner, outer, LAM, start, right, steps=T, step_size=0.05).right


def test_random_directions_for_many_hyperparameters() -> None:
    lam = 0.3 * _normal(4000)

    def train(lam: Tensor, theta: Tensor) -> Tensor:
        return (lam.reshape(-1, N) * (theta - 1).square()).sum() / 400 + theta @ theta

    def test(lam: Tensor, theta: Tensor) -> Tensor:
        return theta.pow(3).sum() + 0.01 * lam.square().sum()

    pb = BilevelProblem(
        lambda lam, theta, _: train(lam, theta),
        lambda lam, theta, _: test(lam, theta),
        FixedInitial(THETA),
    )

    def right(lam: Tensor) -> Tensor:
        return RMD(Langevin(0.1), Schedule.last(T)).estimate(pb, lam).value

    options: dict[str, Any] = {"steps": T, "step_size": 0.1}
    report = hypergradcheck(train, test, lam, THETA, right, **options)
    assert not report.exhaustive
    assert report.directions == 3
    assert 0 < report.miss_rate < 2e-3

    def half(lam: Tensor) -> Tensor:
        return right(lam) - 0.01 * lam

    wrong = hypergradient_report(train, test, lam, THETA, half, **options)
    assert wrong.verdict is Verdict.WRONG
    assert wrong.diagnosis is not None
    assert wrong.diagnosis.name == "factor 1/2 in the direct term"


def test_single_precision_is_judged_by_what_it_can_do() -> None:
    report = hypergradcheck(
        lambda lam, theta: inner(lam.double(), theta.double()).to(lam.dtype),
        outer,
        LAM.float(),
        THETA.float(),
        lambda lam: unrolled(lam.double()).float(),
        steps=T,
        step_size=0.1,
    )
    assert report.right
    assert report.floor == pytest.approx(1e-4)


def test_a_hypergradient_computed_before_may_be_given() -> None:
    assert hypergradient_is_right(inner, outer, LAM, THETA, unrolled(LAM), steps=T, step_size=0.1)
    assert not hypergradient_is_right(inner, outer, LAM, THETA, LAM, steps=T, step_size=0.1)


class TestWhatIsKeptBetweenCalls:
    options: ClassVar[dict[str, Any]] = {"steps": T, "step_size": 0.1}

    def report(self, function: Any) -> Report:
        return hypergradient_report(inner, outer, LAM, THETA, function, **self.options)

    def test_an_accumulating_buffer(self) -> None:
        buffer = torch.zeros(P, dtype=torch.float64)

        def accumulating(lam: Tensor) -> Tensor:
            buffer.add_(unrolled(lam))
            return buffer.clone()

        report = self.report(accumulating)
        assert report.diagnosis is not None
        assert report.diagnosis.name == "accumulated over calls"
        assert any("two calls at the same lam" in text for text in report.findings)

    def test_a_stale_lambda(self) -> None:
        kept: list[Tensor] = []

        def stale(lam: Tensor) -> Tensor:
            kept.append(lam.clone())
            return unrolled(kept[0])

        report = self.report(stale)
        assert report.diagnosis is not None
        assert report.diagnosis.name == "stale lambda"

    def test_a_direct_term_at_a_stale_lambda(self) -> None:
        kept: list[Tensor] = []

        def stale(lam: Tensor) -> Tensor:
            kept.append(lam.clone())
            return unrolled(lam) - lam + kept[0]

        report = self.report(stale)
        assert report.diagnosis is not None
        assert report.diagnosis.name == "stale lambda"
        assert "∂_λ f" in report.diagnosis.text

    def test_an_input_changed_in_place(self) -> None:
        def changing(lam: Tensor) -> Tensor:
            answer = unrolled(lam)
            lam.mul_(2)
            return answer

        report = self.report(changing)
        assert report.right
        assert any("in place" in text for text in report.findings)

    def test_single_precision_inside(self) -> None:
        def single(lam: Tensor) -> Tensor:
            return lam + (unrolled(lam) - lam).float().double()

        report = self.report(single)
        assert report.diagnosis is not None
        assert report.diagnosis.name == "float32 inside"

    def test_entries_that_are_not_finite(self) -> None:
        report = self.report(lambda lam: unrolled(lam) * float("nan"))
        assert report.verdict is Verdict.WRONG
        assert any("not finite" in text for text in report.findings)


class TestNoVerdict:
    def test_a_detached_loss(self) -> None:
        def detached(lam: Tensor, theta: Tensor) -> Tensor:
            return outer(lam, theta.detach())

        with pytest.raises(OracleError, match=r"no verdict is possible; look for \.detach"):
            hypergradcheck(inner, detached, LAM, THETA, LAM, steps=T, step_size=0.1)

    def test_a_random_loss(self) -> None:
        def random(lam: Tensor, theta: Tensor) -> Tensor:
            return outer(lam, theta) + 1e-3 * torch.rand(()).double() * theta.sum()

        with pytest.raises(OracleError, match="no verdict is possible"):
            hypergradcheck(inner, random, LAM, THETA, LAM, steps=T, step_size=0.1)

    def test_a_run_that_diverges(self) -> None:
        with pytest.raises(OracleError, match="lower step_size"):
            hypergradcheck(inner, outer, LAM, THETA, LAM, steps=40, step_size=50.0)

    def test_an_inner_problem_without_a_solution(self) -> None:
        def flat(lam: Tensor, theta: Tensor) -> Tensor:
            return (lam.sum() * theta).sum()

        with pytest.raises(OracleError, match=r"isolated solution|depends on theta"):
            hypergradcheck(
                flat, outer, LAM, THETA, LAM, steps=1, step_size=0.1, estimand="implicit"
            )


def test_the_gibbs_estimand_of_a_large_problem_cannot_be_decided() -> None:
    with pytest.raises(OracleError, match="at most two parameters"):
        hypergradcheck(inner, outer, LAM, THETA, unrolled, steps=T, step_size=0.1, estimand="gibbs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"step_size": -1.0}, "step_size must be positive"),
        ({"estimand": "exact"}, "estimand must be one of"),
        ({"burn_in": 2}, "pathwise mean"),
        ({"noise": torch.zeros(2, 2)}, r"noise must have shape \(steps, n\)"),
        ({"inner_batches": [torch.arange(2)]}, "inner_batches must have at least 8"),
        ({"directions": 0}, "directions must be at least 1"),
        ({"floor": -1.0}, "floor must be non-negative"),
        ({"rule": Rule(0.1)}, "beside rule"),
        ({"step": lambda lam, state, t: state}, "step must be given without"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    options: dict[str, Any] = {"steps": T, "step_size": 0.1} | change
    with pytest.raises(ArgumentError, match=message):
        hypergradcheck(inner, outer, LAM, THETA, unrolled, **options)


def test_results_that_are_no_hypergradient_are_refused() -> None:
    options: dict[str, Any] = {"steps": T, "step_size": 0.1}
    with pytest.raises(ArgumentError, match=r"must have the shape of lam, \(3,\), got \(2,\)"):
        hypergradcheck(inner, outer, LAM, THETA, lambda lam: lam[:2], **options)
    with pytest.raises(ArgumentError, match="no path from lam to the outer loss"):
        hypergradcheck(inner, outer, LAM, THETA, lambda lam: None, **options)
    with pytest.raises(ArgumentTypeError, match="floating-point"):
        hypergradcheck(inner, outer, torch.arange(3), THETA, unrolled, **options)


def test_it_is_exported() -> None:
    assert refblo.hypergradcheck is hypergradcheck
