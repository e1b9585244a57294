"""Wrong hypergradients that people have met, and the name that each must be given.

Made small from public reports. The quick ones take about 10 s of processor time, most of it in the oracles.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from refblo.conformance import Report, Rule, Verdict, hypergradient_report
from refblo.conformance.diagnosis import Mistake

Loss = Callable[..., Tensor]


def _draw(seed: int) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator).double()


def _names(report: Report) -> tuple[str, ...]:
    assert report.verdict is Verdict.WRONG
    assert report.diagnosis is not None
    assert report.diagnosis.cut_off == ()
    return report.diagnosis.names


def _name(report: Report) -> str:
    return _names(report)[0]


def test_a_difference_quotient_multiplied_by_its_step() -> None:
    """(p − n) / 2 · ε where (p − n) / (2ε) belongs."""
    normal = _draw(1)
    x, y, xv, yv = normal(12, 3), normal(12), normal(9, 3), normal(9)
    w0, lam, eta = normal(3), normal(2), 0.3

    def net(a: Tensor, w: Tensor, data: Tensor) -> Tensor:
        linear = data @ w
        values: Tensor = torch.tanh(linear) * a[0].exp() + a[1] * linear**2
        return values

    def inner(a: Tensor, w: Tensor) -> Tensor:
        return (net(a, w, x) - y).square().mean()

    def outer(a: Tensor, w: Tensor) -> Tensor:
        return (net(a, w, xv) - yv).square().mean()

    def slip(a: Tensor) -> Tensor:
        a, w = a.clone().requires_grad_(), w0.clone().requires_grad_()
        moved = w - eta * torch.autograd.grad(inner(a, w), w)[0]
        w1 = moved.detach().requires_grad_()
        by_a, by_w = torch.autograd.grad(outer(a, w1), (a, w1))
        eps = 1e-4 / by_w.norm()
        up, down = (
            torch.autograd.grad(inner(a, (w + sign * eps * by_w).detach()), a)[0]
            for sign in (1, -1)
        )
        wrong: Tensor = by_a - eta * ((up - down) / 2.0 * eps)
        return wrong

    report = hypergradient_report(
        inner, outer, lam, w0, slip, steps=1, step_size=eta, tolerance=1e-6
    )
    assert _names(report) == (Mistake.DIFFERENCE_TIMES_EPS_SQUARED.printed,)
    assert report.diagnosis is not None
    assert "3.23e-08" in report.diagnosis.text


TAU, A, W, LAM = 0.5, 2.0, 3.0, 0.75


def _gibbs(value: float, **options: Any) -> Report:
    """L = a/2 (θ − λ)², f = λθ²: the hypergradient is 3 (aλ / (a + w))² + τ / (a + w)."""
    lam = torch.tensor([LAM]).double()
    return hypergradient_report(
        lambda at, theta: A / 2 * (theta - at).square().sum(),
        lambda at, theta: (at * theta * theta).sum(),
        lam,
        torch.zeros(1).double(),
        torch.tensor([value], dtype=torch.float64),
        estimand="gibbs",
        **options,
    )


def _density(decay: float, temperature: float) -> float:
    return 3 * (A / (A + decay)) ** 2 * LAM**2 + temperature / (A + decay)


@pytest.mark.parametrize(
    ("mistake", "value", "rule"),
    [
        (Mistake.TEMPERATURE_INVERTED, _density(0, 1 / TAU), Rule(0.1, temperature=TAU)),
        pytest.param(
            Mistake.TEMPERATURE_IGNORED,
            _density(0, 1.0),
            Rule(0.1, temperature=TAU),
            marks=pytest.mark.full,
        ),
        pytest.param(
            Mistake.NOISE_SCALED,
            _density(0, TAU / 0.1),
            Rule(0.1, temperature=TAU),
            marks=pytest.mark.full,
        ),
        pytest.param(
            Mistake.DECAY_FORGOTTEN,
            _density(0, TAU),
            Rule(0.1, weight_decay=W, temperature=TAU),
            marks=pytest.mark.full,
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Mistake) else "",
)
def test_another_density(mistake: Mistake, value: float, rule: Rule) -> None:
    assert _name(_gibbs(value, rule=rule)) == mistake.printed
    right = _density(rule.constant("weight_decay"), TAU)
    assert _gibbs(right, rule=rule).right


def test_conjugate_gradients_without_an_iteration_lose_the_indirect_term() -> None:
    lam, start = torch.tensor(0.5).double(), torch.tensor(0.0).double()

    def inner(at: Tensor, theta: Tensor) -> Tensor:
        return theta**4 / 4 + (1 + at**2) * theta**2 / 2 - theta * at

    report = hypergradient_report(
        inner,
        lambda at, theta: (theta - 2).square() + 0 * at,
        lam,
        start,
        torch.zeros_like,
        steps=60,
        step_size=0.1,
        estimand="implicit",
    )
    assert _name(report) == Mistake.MISSING_INDIRECT.printed
    assert report.diagnosis is not None
    assert Mistake.SCALED not in report.diagnosis.mistakes, "a factor fits every number"


@pytest.mark.parametrize(
    "which",
    [
        0,
        pytest.param(1, marks=pytest.mark.full),
        pytest.param(2, marks=pytest.mark.full),
        pytest.param(3, marks=pytest.mark.full),
    ],
)
def test_noise_and_drift_of_another_size(which: int) -> None:
    normal = _draw(18)
    x, y, theta0 = normal(50, 2), normal(50), normal(2)
    lam, gamma, steps, burn_in = torch.tensor([-1.0, 0.5]).double(), 0.05, 30, 10
    drawn, size = normal(steps, 2), (2 * gamma) ** 0.5

    def inner(at: Tensor, theta: Tensor) -> Tensor:
        return (x @ theta - y).square().mean() + (at.exp() * theta**4).sum()

    def outer(_: Tensor, theta: Tensor) -> Tensor:
        return (theta**3).sum() + (theta * theta).sum()

    def chain(at: Tensor, noise: float, drift: float) -> Tensor:
        at, theta = at.clone().requires_grad_(), theta0.clone().requires_grad_()
        total = torch.zeros(()).double()
        for k in range(steps):
            (slope,) = torch.autograd.grad(inner(at, theta), theta, create_graph=True)
            theta = theta - gamma * drift * slope + noise * drawn[k]
            if k >= burn_in:
                total = total + outer(at, theta) / (steps - burn_in)
        return torch.autograd.grad(total, at)[0]

    noise, drift, mistake = (
        (gamma, 1.0, Mistake.NOISE_SCALED),
        (gamma**0.5, 1.0, Mistake.NOISE_SCALED),
        (0.0, 1.0, Mistake.NOISE_NOT_SHARED),
        (size, 0.5, Mistake.DRIFT_SCALED),
    )[which]
    report = hypergradient_report(
        inner,
        outer,
        lam,
        theta0,
        lambda at: chain(at, noise, drift),
        steps=steps,
        step_size=gamma,
        noise=size * drawn,
        burn_in=burn_in,
        estimand="pathwise",
    )
    assert _name(report) == mistake.printed


@pytest.mark.parametrize(
    ("used", "asked", "mistake"),
    [
        ("decoupled", Rule(0.05, betas=(0.9, 0.99), weight_decay=0.3), Mistake.DECOUPLED_DECAY),
        (
            "coupled",
            Rule(0.05, betas=(0.9, 0.99), weight_decay=0.3, decoupled_decay=True),
            Mistake.DECOUPLED_DECAY,
        ),
        ("nesterov", Rule(0.05, momentum=0.9), Mistake.NESTEROV),
        ("plain", Rule(0.05, momentum=0.9, nesterov=True), Mistake.NESTEROV),
    ],
)
def test_another_form_of_decay_or_momentum(used: str, asked: Rule, mistake: Mistake) -> None:
    normal = _draw(21)
    x, y, xv, yv, theta0 = normal(12, 3), normal(12), normal(9, 3), normal(9), normal(3)
    lam = torch.tensor([0.2, -0.3, 0.1]).double()

    def inner(at: Tensor, theta: Tensor) -> Tensor:
        return (x @ theta - y).square().mean() + (at.exp() * theta * theta).sum()

    def outer(_: Tensor, theta: Tensor) -> Tensor:
        return (xv @ theta - yv).square().mean()

    def mine(at: Tensor) -> Tensor:
        at, theta = at.clone().requires_grad_(), theta0.clone().requires_grad_()
        m = v = torch.zeros(3).double()
        for k in range(1, 6):
            (d,) = torch.autograd.grad(inner(at, theta), theta, create_graph=True)
            if used in ("nesterov", "plain"):
                v = 0.9 * v + d
                theta = theta - 0.05 * (d + 0.9 * v if used == "nesterov" else v)
                continue
            d = d if used == "decoupled" else d + 0.3 * theta
            m, v = 0.9 * m + 0.1 * d, 0.99 * v + 0.01 * d * d
            kept = 1 - 0.05 * 0.3 if used == "decoupled" else 1.0
            root = (v / (1 - 0.99**k)).sqrt() + 1e-8
            theta = theta * kept - 0.05 * (m / (1 - 0.9**k)) / root
        return torch.autograd.grad(outer(at, theta), at)[0]

    report = hypergradient_report(inner, outer, lam, theta0, mine, rule=asked, steps=5)
    assert _name(report) == mistake.printed


def test_what_couples_two_tensors_of_a_callers_dict_is_missed_by_name() -> None:
    normal = _draw(4)
    x, y = normal(9, 4), normal(9)
    lam = torch.tensor([0.2, -0.3]).double()
    start = {"first": torch.zeros(2).double(), "second": torch.zeros(2).double()}

    def inner(at: Tensor, theta: dict[str, Tensor]) -> Tensor:
        flat = torch.cat([theta["first"], theta["second"]])
        misfit = (x @ flat - y).square().mean()
        ridge: Tensor = at[0].exp() * flat.square().sum() + at[1] * flat.sum()
        return misfit + ridge

    def outer(_: Tensor, theta: dict[str, Tensor]) -> Tensor:
        return theta["first"].sum() ** 2 + theta["second"].pow(3).sum()

    def blockwise(at: Tensor) -> Tensor:
        weight = at[0].exp()
        hessian = 2 * x.T @ x / 9 + 2 * weight * torch.eye(4).double()
        theta = torch.linalg.solve(hessian, 2 * x.T @ y / 9 - at[1])
        slope = torch.cat([2 * theta[:2].sum().expand(2), 3 * theta[2:] ** 2])
        mixed = torch.stack([2 * weight * theta, torch.ones(4).double()], dim=1)
        blocks = hessian.clone()
        blocks[:2, 2:] = blocks[2:, :2] = 0
        wrong: Tensor = -torch.linalg.solve(blocks, slope) @ mixed
        return wrong

    report = hypergradient_report(
        inner, outer, lam, start, blockwise, estimand="implicit", steps=100, step_size=0.1
    )
    assert _name(report) == Mistake.HESSIAN_BLOCKS.printed


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.full) for s in (1, 2, 3))])
def test_a_sum_over_the_rows_of_a_loss_is_no_nameless_factor(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = int(torch.randint(5, 40, (), generator=generator))
    draw = _draw(seed)
    x, y = draw(rows, 3), draw(rows)
    lam, start = torch.linspace(-2, 0, 3).double(), torch.zeros(3).double()

    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        return (theta - 1).square().sum() + lam.exp() @ theta.square()

    def outer(_: Tensor, theta: Tensor) -> Tensor:
        return torch.nn.functional.mse_loss(x @ theta, y)

    def scaled(lam: Tensor, factor: int) -> Tensor:
        lam, theta = lam.clone().requires_grad_(), start.clone().requires_grad_()
        for _ in range(3):
            (slope,) = torch.autograd.grad(inner(lam, theta), theta, create_graph=True)
            theta = theta - 0.07 * slope
        return factor * torch.autograd.grad(outer(lam, theta), lam)[0]

    for factor, mistake in ((rows, Mistake.SUM_FOR_MEAN), (rows + 1, Mistake.SCALED)):
        answer = partial(scaled, factor=factor)
        report = hypergradient_report(inner, outer, lam, start, answer, steps=3, step_size=0.07)
        assert _name(report) == mistake.printed, report.describe()
