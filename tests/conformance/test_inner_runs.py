"""hypergradcheck on every way to describe the inner run: steps, rules, modules, batches, starts, many λ."""

from typing import Any

import torch
from torch import Tensor

from refblo import RMD, BilevelProblem, FixedInitial, Langevin, Schedule
from refblo.conformance import (
    Rule,
    Verdict,
    hypergradcheck,
    hypergradient_report,
)
from refblo.ravel import ravel_module
from tests.conformance.coupled_problem import COUPLING, LAM, THETA, N, T, inner, outer

_DRAW = torch.Generator().manual_seed(0)


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=_DRAW)


def through(lam: Tensor, advance: Any, state: Any, read: Any) -> Tensor:
    """Back-propagation through any transition."""
    lam = lam.clone().requires_grad_()
    for t in range(T):
        state = advance(lam, state, t)
    return torch.autograd.grad(outer(lam, read(state)), lam)[0]


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
