"""`hypergradcheck` on a user's own training with an optimiser whose numbers are λ. 5 s.

The user's code is written as people write it: tensors in dicts, moments by hand, autograd through the loop.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from refblo.chain import Schedule
from refblo.conformance import hypergradcheck, hypergradient_report
from refblo.estimators import RMD
from refblo.problem import BilevelProblem, FixedInitial
from refblo.rules import SGD, Adam, AdamW, Rule, rule_of, schedules

Tree = dict[str, Any]
STEPS = 4
DRAW = torch.Generator().manual_seed(5)
X, Y = (torch.randn(*shape, generator=DRAW).double() for shape in ((12, 3), (12,)))
LAM: Tree = {
    "lr": torch.tensor([-2.0, -3.0]).double(),
    "wd": torch.tensor(-1.0).double(),
    "mu": torch.tensor(0.3).double(),
}
THETA0: Tree = {"w": torch.zeros(3).double(), "b": torch.ones(1).double()}


def inner(lam: Tree, theta: Tree) -> Tensor:
    value: Tensor = (X @ theta["w"] + theta["b"] - Y).square().mean() * (1 + lam["wd"].square())
    return value


def outer(_: Tree, theta: Tree) -> Tensor:
    value: Tensor = (theta["w"] - 1).square().sum() + theta["b"].square().sum()
    return value


RULE = AdamW(
    lr=lambda lam: {"w": lam["lr"][0].exp(), "b": lam["lr"][1].exp()},
    betas=(lambda lam: torch.sigmoid(lam["mu"]), 0.9),
    eps=1e-3,
    weight_decay=lambda lam: lam["wd"].exp(),
)


def mine(lam: Tree, held: tuple[str, ...] = ()) -> Tree:
    """The user's hypergradient; what is held reaches the optimiser without its graph."""
    lam = {name: value.clone().requires_grad_() for name, value in lam.items()}
    seen = {name: value.detach() if name in held else value for name, value in lam.items()}
    theta = {name: value.clone().requires_grad_() for name, value in THETA0.items()}
    rates, beta = dict(zip(theta, seen["lr"].exp(), strict=True)), torch.sigmoid(seen["mu"])
    m, v = ({name: torch.zeros(1).double() for name in theta} for _ in range(2))
    for t in range(1, STEPS + 1):
        gradients = torch.autograd.grad(inner(lam, theta), list(theta.values()), create_graph=True)
        for name, g in zip(list(theta), gradients, strict=True):
            m[name], v[name] = beta * m[name] + (1 - beta) * g, 0.9 * v[name] + 0.1 * g * g
            move = m[name] / (1 - beta**t) / ((v[name] / (1 - 0.9**t)).sqrt() + 1e-3)
            kept = 1 - rates[name] * seen["wd"].exp()
            theta[name] = kept * theta[name] - rates[name] * move
    return _gradients(outer(lam, theta), lam)


def _gradients(value: Tensor, lam: Tree) -> Tree:
    found = torch.autograd.grad(
        value, list(lam.values()), allow_unused=True, materialize_grads=True
    )
    return dict(zip(lam, found, strict=True))


def test_numbers_for_each_tensor_that_are_lam_are_accepted() -> None:
    assert hypergradcheck(inner, outer, LAM, THETA0, mine, rule=RULE, steps=STEPS).right


def test_a_number_without_its_graph_is_named() -> None:
    """The decay is in the inner loss as well, so that its block is not zero."""
    wrong: Callable[[Tree], Tree] = lambda lam: mine(lam, ("wd",))  # noqa: E731  (one of several)
    report = hypergradient_report(inner, outer, LAM, THETA0, wrong, rule=RULE, steps=STEPS)
    assert report.diagnosis is not None
    assert report.diagnosis.name == "optimiser's numbers treated as constants"
    assert "weight_decay of the rule" in report.diagnosis.text
    assert [block.name for block in report.blocks if not block.right] == ["wd"]


def unrolled(rule: Rule, lam: Tree, **options: Any) -> Tree:
    """A hypergradient through a rule's own transitions, by plain autograd over the run."""
    steps, pick = options["steps"], options.get("pick", lambda _, m: m == options["steps"])
    lam = {name: value.clone().requires_grad_() for name, value in lam.items()}
    theta = torch.cat([value.reshape(-1) for value in THETA0.values()]).requires_grad_()
    state, total, count = rule.state(theta), torch.zeros(()).double(), 0
    for t in range(steps):
        at = {"w": state[:3], "b": state[3:4]}
        (g,) = torch.autograd.grad(inner(lam, at), state, create_graph=True, materialize_grads=True)
        state = rule.advance(state, g[:4], t, None, lam)
        if pick(state, t + 1):
            total, count = total + outer(lam, {"w": state[:3], "b": state[3:4]}), count + 1
    return _gradients(total / count, lam)


def test_losses_along_the_run_are_the_pathwise_mean_without_burn_in() -> None:
    rule = Adam(lambda lam: lam["lr"][0].exp(), eps=1e-3)
    along = unrolled(rule, LAM, steps=3, pick=lambda *_: True)
    options: dict[str, Any] = {"rule": rule, "steps": 3, "estimand": "pathwise"}
    assert hypergradcheck(inner, outer, LAM, THETA0, along, **options).right


def test_several_tasks_in_one_outer_loss_are_one_theta_with_a_part_for_each() -> None:
    """A rule steps entry by entry, so that tasks do not mix; clipping by norm would mix them."""
    lam = {"lr": torch.tensor(-2.0).double(), "target": torch.tensor(0.4).double()}
    tasks = {"first": torch.ones(2).double(), "second": torch.full((3,), -0.5).double()}
    rule = Adam(lambda lam: lam["lr"].exp(), eps=1e-2)

    def loss(lam: Tree, theta: Tree) -> Tensor:
        one = (theta["first"] - lam["target"]).square().sum()
        value: Tensor = one + (theta["second"] + lam["target"]).pow(4).sum()
        return value

    def mean(_: Tree, theta: Tree) -> Tensor:
        value: Tensor = (theta["first"].square().sum() + theta["second"].cos().sum()) / 2
        return value

    def task_by_task(lam: Tree) -> Tree:
        lam = {name: value.clone().requires_grad_() for name, value in lam.items()}
        total = torch.zeros(()).double()
        for name, start in tasks.items():
            others = {other: value.detach() for other, value in tasks.items() if other != name}
            state = rule.state(start.clone().requires_grad_())
            size = start.numel()
            for t in range(3):
                value = loss(lam, others | {name: state[:size]})
                (g,) = torch.autograd.grad(value, state, create_graph=True)
                state = rule.advance(state, g[:size], t, None, lam)
            zeros = {other: torch.zeros(0).double() for other in others}
            total = total + mean(lam, zeros | {name: state[:size]})
        return _gradients(total, lam)

    assert hypergradcheck(loss, mean, lam, tasks, task_by_task, rule=rule, steps=3).right


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_an_optimiser_of_torch_is_read(name: str) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    options: dict[str, Any] = {"SGD": {"momentum": 0.9}, "RMSprop": {"momentum": 0.5}}.get(name, {})
    made = getattr(torch.optim, name)(parameters, lr=0.01, weight_decay=0.1, **options)
    start = torch.tensor([1.0, -2.0], dtype=torch.float64)

    def loss(lam: Tensor, theta: Tensor) -> Tensor:
        return (theta * lam).square().sum() + theta.pow(4).sum()

    lam = torch.tensor([0.5, 1.5], dtype=torch.float64)
    answers = {}
    for h in (0.0, 1e-4, -1e-4):
        theta = start.clone().requires_grad_()
        again = type(made)([theta], lr=0.01, weight_decay=0.1, **options)
        for _ in range(3):
            again.zero_grad()
            loss(lam + h, theta).backward()  # type: ignore[no-untyped-call]  # torch's own
            again.step()
        answers[h] = float(theta.detach().sum())
    slope = (answers[1e-4] - answers[-1e-4]) / 2e-4
    run = RMD(rule_of(made), Schedule.last(3))
    problem = BilevelProblem(
        lambda lam, theta, _: loss(lam, theta),
        lambda _, theta, __: theta.sum(),
        FixedInitial(start),
    )
    found = run.estimate(problem, lam).value
    assert abs(float(found.sum()) - slope) <= 1e-6 * abs(slope)
    checked = hypergradcheck(
        loss, lambda _, theta: theta.sum(), lam, start, found, rule=made, steps=3
    )
    assert checked.right


@pytest.mark.parametrize("estimand", ["implicit", pytest.param("gibbs", marks=pytest.mark.full)])
def test_a_decay_that_is_lam_belongs_to_the_solution_and_to_the_density(estimand: str) -> None:
    """L = (θ − 1)²/2 + e^λ θ²/2, f = θ²: θ* = 1/(1 + e^λ); the density has variance τ/(1 + e^λ)."""
    lam, theta = torch.tensor([0.3]).double(), torch.tensor([0.2]).double()
    rule = SGD(0.1, weight_decay=lambda lam: lam[0].exp())
    tau = 0.2

    def loss(_: Tensor, theta: Tensor) -> Tensor:
        return (theta - 1).square().sum() / 2

    def square(_: Tensor, theta: Tensor) -> Tensor:
        return theta.square().sum()

    precision = 1 + lam.exp()
    solution = -2 * lam.exp() / precision**3
    density = solution - tau * lam.exp() / precision**2
    implicit = estimand == "implicit"
    answer = solution if implicit else density
    checked: dict[str, Any] = {"rule": rule, "estimand": estimand, "diagnosis_seconds": 0}
    checked |= {"steps": 60} if implicit else {"temperature": tau}
    assert hypergradcheck(loss, square, lam, theta, answer, **checked).right
    assert not hypergradient_report(loss, square, lam, theta, 1.01 * answer, **checked).right


@pytest.mark.full
def test_a_run_in_float32_is_judged_in_its_own_precision() -> None:
    lam, start = torch.tensor([-2.0, 0.5]), torch.tensor([1.0, -2.0])
    rule = SGD(schedules.cosine(lambda lam: lam[0].exp(), 4), momentum=0.5)

    def loss(lam: Tensor, theta: Tensor) -> Tensor:
        return (theta - lam[1]).pow(2).sum() + theta.pow(4).sum() / 10

    problem = BilevelProblem(
        lambda lam, theta, _: loss(lam, theta),
        lambda _, theta, __: theta.square().sum(),
        FixedInitial(start),
    )
    found = RMD(rule, Schedule.last(3)).estimate(problem, lam).value
    assert found.dtype is torch.float32
    report = hypergradcheck(
        loss, lambda _, theta: theta.square().sum(), lam, start, found, rule=rule, steps=3
    )
    assert report.right
    assert report.floor < 1e-3
