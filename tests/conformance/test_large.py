"""hypergradcheck where λ is large: few evaluations, the same verdicts."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from refblo.conformance import Rule, Verdict, hypergradient_report
from refblo.conformance.arguments import flat_problem
from refblo.conformance.options import Run
from refblo.conformance.truth import tangent
from refblo.conformance.truth.ladder import Ladder, Rung
from refblo.conformance.truth.reference import LARGE
from refblo.conformance.truth.symmetric import AsymmetricError, by_symmetry
from refblo.conformance.truth.tangent import Parts, Pusher, push_forward
from refblo.derivatives.differences import Frugal, directional_derivatives
from refblo.derivatives.rounding import _BLOCK, Perturbation, _uniform
from refblo.errors import OracleError
from refblo.noise import Draws
from refblo.types import Estimand

P = LARGE + 1
GAMMA, T = 0.25, 3
LAM = torch.linspace(-1, 1, P, dtype=torch.float64)
THETA = torch.linspace(1, 2, P, dtype=torch.float64)


def inner(lam: Tensor, theta: Tensor) -> Tensor:
    return 0.5 * (theta - lam).square().sum()


def outer(lam: Tensor, theta: Tensor) -> Tensor:
    return theta.sin().sum() + 0.5 * lam.square().sum()


def right(lam: Tensor) -> Tensor:
    """θ^T = λ + (1 − γ)^T (θ⁰ − λ), entry by entry."""
    kept = (1 - GAMMA) ** T
    theta = lam + kept * (THETA - lam)
    return theta.cos() * (1 - kept) + lam


def test_a_right_hypergradient_passes_with_few_evaluations() -> None:
    evaluations = 0

    def counted(lam: Tensor, theta: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return inner(lam, theta)

    report = hypergradient_report(counted, outer, LAM, THETA, right, steps=T, step_size=GAMMA)
    assert report.right
    assert report.confirmed < 1e-3
    # Five tangents and one near λ, nine runs for the noise and four for the difference; the first calls of
    # the loss and of one step, which is taken twice; two steps by forward mode, and a replica is a run.
    assert evaluations <= (5 + 1 + 9 + 8) * T + 3 + 2 + T


def test_what_is_kept_between_calls_is_seen() -> None:
    kept: list[Tensor] = []

    def stale(lam: Tensor) -> Tensor:
        kept.append(lam.clone())
        return right(kept[0])

    report = hypergradient_report(inner, outer, LAM, THETA, stale, steps=T, step_size=GAMMA)
    assert report.verdict is Verdict.WRONG

    def accumulating(lam: Tensor) -> Tensor:
        kept.append(right(lam))
        return torch.stack(kept[-2:]).sum(0)

    kept.clear()
    report = hypergradient_report(inner, outer, LAM, THETA, accumulating, steps=T, step_size=GAMMA)
    assert report.verdict is Verdict.WRONG
    assert any("two calls at the same lam" in text for text in report.findings)


@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6])
def test_a_wrong_one_is_seen_along_random_directions(size: float) -> None:
    report = hypergradient_report(
        inner, outer, LAM, THETA, lambda lam: right(lam) * (1 + size), steps=T, step_size=GAMMA
    )
    assert report.verdict is Verdict.WRONG
    assert report.relative_error == pytest.approx(size, rel=1e-3)


def test_a_loss_that_hides_a_path_from_autograd_has_no_verdict() -> None:
    def hiding(lam: Tensor, theta: Tensor) -> Tensor:
        return theta.sin().sum() + 0.5 * lam.detach().square().sum()

    with pytest.raises(OracleError, match=r"detach"):
        hypergradient_report(inner, hiding, LAM, THETA, right, steps=T, step_size=GAMMA)


def test_a_step_of_ones_own_that_calls_autograd_is_given_a_graph() -> None:
    def step(lam: Tensor, theta: Tensor, _: int) -> Tensor:
        (slope,) = torch.autograd.grad(inner(lam, theta), theta, create_graph=True)
        return theta - GAMMA * slope

    report = hypergradient_report(None, outer, LAM, THETA, right, steps=T, step=step)
    assert report.right


@pytest.mark.parametrize("expected", [1.0, 30.0, 1e-3, 0.0])
def test_frugal_differences_are_as_good_as_they_say(expected: float) -> None:
    """What the derivative is thought to be chooses the step; it must not choose the answer."""
    evaluations = 0

    def function(point: Tensor) -> float:
        nonlocal evaluations
        evaluations += 1
        return float(point.exp().sum())

    point, along = torch.zeros(3, dtype=torch.float64), torch.tensor([[1.0], [0.5], [-0.25]])
    frugal = Frugal(1e-4, np.array([expected]))
    found = directional_derivatives(function, point, along.double(), Draws(0), frugal=frugal)
    assert abs(found.values[0] - 1.25) <= found.errors[0]
    assert found.errors[0] <= 1e-4 * max(1.25, expected)
    assert evaluations <= 40
    assert evaluations <= 15 or expected != 1.0


RULES: dict[str, Rule] = {
    "plain": Rule(step_size=GAMMA),
    "weight decay": Rule(step_size=GAMMA, weight_decay=0.1),
    "decoupled decay": Rule(step_size=GAMMA, weight_decay=0.1, decoupled_decay=True),
    "momentum": Rule(step_size=GAMMA, momentum=0.5, weight_decay=0.1),
    "Nesterov": Rule(step_size=GAMMA, momentum=0.5, nesterov=True),
}
"""Every kind of rule whose next state is affine in the state and the gradient."""


@pytest.mark.parametrize("batched", [True, False], ids=["side by side", "at one point"])
@pytest.mark.parametrize("pusher", [None, push_forward], ids=["batched", "one by one"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_an_affine_rule_may_be_applied_to_the_tangents(
    rule: Rule, pusher: Pusher | None, batched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if all of the step were pushed: the two differ by some roundings a step."""
    theta = torch.tensor([1.0, -0.5, 2.0]).double()
    run: Run = {"steps": 4, "rule": rule, "noise": torch.linspace(-1, 1, 12).double().reshape(4, 3)}
    problem = flat_problem(
        lambda lam, theta: (theta.sin() * lam.sum()).sum() + theta.square().square().sum() / 8,
        lambda lam, theta: theta.exp().sum() * lam[0],
        torch.tensor([0.3, -0.7]).double(),
        theta,
        Estimand.UNROLLED,
        run,
    )
    directions = torch.tensor([[1.0, 0.0, 0.6], [0.0, 1.0, 0.8]]).double()
    if not batched:
        monkeypatch.setattr(tangent, "BATCHED_ENTRIES", 0)

    def derivatives() -> Parts:
        return tangent.directional(problem.program, directions, Draws(0), 2.0**-52, 2, pusher)

    whole = derivatives()
    monkeypatch.setattr(tangent, "AFFINE_ENTRIES", 0)
    apart = derivatives()
    assert float(whole.indirect.abs().min()) > 0.1
    torch.testing.assert_close(apart.direct, whole.direct, rtol=1e-13, atol=0)
    torch.testing.assert_close(apart.indirect, whole.indirect, rtol=1e-13, atol=0)
    by_reverse = by_symmetry(problem.program, directions, Draws(0), 2.0**-52, 2)
    torch.testing.assert_close(by_reverse.direct[0], whole.direct[0], rtol=1e-13, atol=0)
    torch.testing.assert_close(by_reverse.indirect[0], whole.indirect[0], rtol=1e-13, atol=0)
    replicas = by_reverse.indirect[1:] - by_reverse.indirect[:1]
    assert 2.0**-58 < float(replicas.abs().max()) < 2.0**-46


class OneWay(torch.autograd.Function):
    """½ Σ θ_i², with a backward pass of its own: θ_i + θ_{i−1}/2, which is the gradient of no function."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor) -> Tensor:
        ctx.save_for_backward(theta)
        ctx.save_for_forward(theta)
        return 0.5 * theta.square().sum()

    @staticmethod
    def backward(ctx: Any, *weights: Tensor) -> Tensor:
        (theta,) = ctx.saved_tensors
        pulled: Tensor = weights[0] * (theta + 0.5 * theta.roll(1))
        return pulled

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        (theta,) = ctx.saved_tensors
        return torch.dot(theta, tangents[0])


def test_a_gradient_whose_derivative_is_not_symmetric_is_pushed_forward() -> None:
    def one_way(lam: Tensor, theta: Tensor) -> Tensor:
        value: Tensor = OneWay.apply(theta)  # type: ignore[no-untyped-call]  # torch's own
        return value - torch.dot(lam, theta)

    asked: Run = {"steps": T, "rule": Rule(step_size=GAMMA)}
    problem = flat_problem(one_way, outer, LAM, THETA, Estimand.UNROLLED, asked)
    directions = torch.stack([LAM.cos(), LAM.sin(), LAM], dim=1) / P**0.5
    with pytest.raises(AsymmetricError, match="symmetric"):
        by_symmetry(problem.program, directions, Draws(0), 2.0**-52, 0)
    ladder = Ladder(problem.program, directions, Draws(0), 2.0**-52, 1)
    rung, parts = next(ladder.climb())
    assert rung is Rung.FORWARD
    theta, tangent = THETA, torch.zeros_like(THETA)
    for _ in range(T):
        slope = theta - LAM + 0.5 * theta.roll(1)
        tangent = tangent - GAMMA * (tangent + 0.5 * tangent.roll(1) - directions[:, 0])
        theta = theta - GAMMA * slope
    expected = torch.dot(theta.cos(), tangent)
    torch.testing.assert_close(parts.indirect[0, 0], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(step_size=GAMMA, betas=(0.9, 0.999)),
        Rule(step_size=GAMMA, square_decay=0.9),
        Rule(step_size=GAMMA, clip_norm=1.0),
        Rule(step_size=GAMMA, clip_value=1.0),
        Rule(step_size=lambda lam: lam[0].exp()),
        Rule(step_size=GAMMA, weight_decay=lambda lam: lam[0].exp()),
    ],
    ids=["Adam", "RMSprop", "clipped norm", "clipped entries", "rate of lam", "decay of lam"],
)
def test_what_is_not_affine_is_pushed_whole(rule: Rule) -> None:
    assert not rule.affine


def test_a_large_perturbation_is_a_block_with_other_signs() -> None:
    size = 3 * _BLOCK + 5
    drawn = _uniform(Draws(1), 0, size, 0.5)
    assert drawn.shape == (size,)
    assert float(drawn.abs().max()) <= 0.5
    # As uncorrelated draws: a sum of n of them is some √(n/12) in size, not n.
    assert abs(float(drawn.sum())) < 5 * (size / 12) ** 0.5
    blocks = drawn[: 3 * _BLOCK].reshape(3, _BLOCK)
    assert torch.equal(blocks.abs(), blocks[:1].abs().expand(3, -1))
    assert torch.equal(_uniform(Draws(1), 0, size, 0.5), drawn)
    assert not torch.equal(_uniform(Draws(1), 1, size, 0.5), drawn)


def test_large_perturbations_differ_from_step_to_step_and_spare_rows() -> None:
    perturb = Perturbation(Draws(1), 0.5, spared=1)
    one = torch.ones(2, _BLOCK, dtype=torch.float64)
    first, second = perturb(3, one, one)
    again, _ = Perturbation(Draws(1), 0.5, spared=1)(3, one, one)
    later, _ = perturb(4, one, one)
    assert torch.equal(first, again)
    assert torch.equal(first[0], one[0])
    drawn = [moved[1] - 1 for moved in (first, second, later)]
    assert all(0.49 < float(row.abs().max()) <= 0.5 for row in drawn)
    sizes = torch.stack(drawn) / (0.5 / 3**0.5)
    # Three uncorrelated rows: their correlations are some 1/√n, of which five are allowed.
    off = sizes @ sizes.T / _BLOCK - torch.eye(3, dtype=torch.float64)
    assert float(off.abs().max()) < 5 / _BLOCK**0.5


def test_tangents_without_replicas_are_pushed_side_by_side() -> None:
    problem = flat_problem(
        inner, outer, LAM, THETA, Estimand.UNROLLED, Run(steps=T, step_size=GAMMA)
    )
    directions = torch.eye(P, 3, dtype=torch.float64)
    parts = tangent.directional(problem.program, directions, Draws(0), 1e-16, 0, None)
    assert torch.allclose((parts.direct + parts.indirect)[0], right(LAM)[:3], rtol=1e-12, atol=0)


@pytest.mark.parametrize(("place", "evaluations"), [("usual", 9), ("zeros", 18), ("ones", 18)])
def test_noise_is_measured_beside_a_special_point_too(place: str, evaluations: int) -> None:
    at = {"usual": LAM[-7:] / 3, "zeros": torch.zeros(7), "ones": torch.ones(7)}[place].double()
    points: list[Tensor] = []

    def function(point: Tensor) -> float:
        points.append(point)
        return float(point.exp().sum())

    found = directional_derivatives(function, at, torch.eye(7, 1, dtype=torch.float64), Draws(0))
    close = [point for point in points if not torch.equal(point[1:], at[1:])]
    assert len(close) + 1 == evaluations
    assert sum(torch.equal(point, at) for point in points) == 2
    assert found.here == (float(at.exp().sum()),) * 2
