"""Other implementations in `refblo compare`: counted from outside as this package counts itself."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from refblo.chain import Langevin, Schedule
from refblo.commands.compare import compare
from refblo.equal_cost.methods import METHODS
from refblo.equal_cost.run import MethodComparison, compare_methods
from refblo.equal_cost.targets import Target, target
from refblo.errors import ArgumentError
from refblo.estimators import RMD, IFTNeumann, RMDFirstOrder
from refblo.noise import Draws
from refblo.problems import build, catalogue
from refblo.types import Estimand


def differentiated(problem: Any, *, graph: bool = True) -> torch.Tensor:
    """Gradient descent with a graph across its steps, or without one."""
    lam = problem.lam.clone().requires_grad_()
    theta = problem.initial(lam) if problem.moving_start else problem.theta0.requires_grad_()
    start = theta
    for t in range(problem.steps):
        loss = problem.inner(lam, theta, problem.inner_batch(t))
        (slope,) = torch.autograd.grad(loss, theta, create_graph=graph)
        theta = theta - problem.step_size * (slope if graph else slope.detach())
    outer = problem.outer(lam, theta, problem.outer_batch(problem.steps))
    return torch.autograd.grad(outer, (lam, start), materialize_grads=True)[0]


def reverse(problem: Any) -> torch.Tensor:
    """Reverse mode."""
    return differentiated(problem)


def first_order(problem: Any) -> torch.Tensor:
    """Reverse mode without the second derivatives."""
    return differentiated(problem, graph=False)


def series(problem: Any) -> torch.Tensor:
    """The implicit hypergradient at θ^T by a Neumann series, its products asked for one by one."""
    lam, theta = problem.lam.clone().requires_grad_(), problem.theta0.clone().requires_grad_()
    for t in range(problem.steps):
        (slope,) = torch.autograd.grad(problem.inner(lam, theta, problem.inner_batch(t)), theta)
        theta = (theta - problem.step_size * slope).detach().requires_grad_()
    outer = problem.outer(lam, theta, problem.outer_batch(problem.steps))
    direct, term = torch.autograd.grad(outer, (lam, theta), materialize_grads=True)
    inner = problem.inner(lam, theta, problem.inner_batch(problem.steps))
    (slope,) = torch.autograd.grad(inner, theta, create_graph=True)
    total = term.clone()
    for _ in range(problem.terms - 1):
        (image,) = torch.autograd.grad(slope, theta, term, retain_graph=True)
        term = term - problem.step_size * image
        total = total + term
    indirect: torch.Tensor = torch.autograd.grad(slope, lam, problem.step_size * total)[0]
    return direct - indirect


def broken(problem: Any) -> torch.Tensor:
    """Raises."""
    raise RuntimeError(f"on purpose, on {problem.name}")


for _function in (reverse, first_order, series, broken):
    _function.capabilities = {"direct", "initial", "minibatches"}  # type: ignore[attr-defined]  # how targets declare
series.estimands = "implicit"  # type: ignore[attr-defined]  # likewise


@pytest.mark.parametrize(
    "case",
    [
        "quadratic",
        "maml_sinusoid",
        "taylor_loss_iris",
        "noisy_synth_1d",
        "softmax_digits_minibatch",
    ],
)
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize(
    ("function", "ours"), [(reverse, RMD), (first_order, RMDFirstOrder)], ids=["RMD", "RMD-FO"]
)
def test_a_target_is_counted_as_the_same_method_here(
    case: str, steps: int, function: Callable[[Any], Any], ours: type[RMD] | type[RMDFirstOrder]
) -> None:
    built = build(case)
    value, cost = Target("it", function).run(built, steps)
    rule = Langevin(built.dynamics.step_size)
    known = ours(rule, Schedule.last(steps)).estimate(built.problem, built.lam)
    assert cost == known.cost
    # The same products in the same order, up to how autograd groups a sum.
    allowed = 64 * steps * torch.finfo(value.dtype).eps * (1 + float(known.value.norm()))
    assert float((value - known.value).norm()) <= allowed


@pytest.mark.parametrize("case", ["quadratic", "ridge_diabetes", "noisy_synth_1d"])
@pytest.mark.parametrize("terms", [1, 4])
def test_an_implicit_target_is_counted_product_by_product(case: str, terms: int) -> None:
    built, steps = build(case), 5
    value, cost = Target("it", series).run(built, steps, terms=terms)
    rule = Langevin(built.dynamics.step_size)
    known = IFTNeumann(rule, steps, rule.step_size, terms).estimate(built.problem, built.lam)
    assert cost == known.cost
    allowed = 64 * (steps + terms) * torch.finfo(value.dtype).eps * (1 + float(known.value.norm()))
    assert float((value - known.value).norm()) <= allowed


def test_a_target_sees_the_batches_of_the_draws_that_are_asked_for() -> None:
    case = build("noisy_synth_1d")
    one, other = (Target("it", reverse).run(case, 5, Draws(seed))[0] for seed in (0, 1))
    rule = Langevin(case.dynamics.step_size)
    known = RMD(rule, Schedule.last(5)).estimate(case.problem, case.lam, Draws(1)).value
    assert float((other - known).norm()) <= 64 * torch.finfo(other.dtype).eps * float(known.norm())
    assert float((one - known).norm()) > 1e6 * torch.finfo(other.dtype).eps * float(known.norm())


def test_without_the_capability_batches_are_not_handed_over() -> None:
    def plain(problem: Any) -> torch.Tensor:
        return reverse(problem)

    plain.capabilities = {"direct"}  # type: ignore[attr-defined]  # how targets declare
    assert Target("it", plain).applies(build("quadratic"))
    assert not Target("it", plain).applies(build("noisy_synth_1d"))
    assert Target("it", reverse).applies(build("noisy_synth_1d"))


def test_what_runs_beside_is_in_the_comparison_and_what_breaks_is_a_remark() -> None:
    targets = (Target("theirs", reverse), Target("broken", broken))
    *_, found = compare_methods(build("synth_1d"), 40, methods=METHODS[:1], targets=targets)
    assert isinstance(found, MethodComparison)
    assert found.targets == ("theirs", "broken")
    remarks = [point.remark for point in found.points if point.method == "broken"]
    assert remarks == ["RuntimeError: on purpose, on synth_1d"]
    assert found.best("theirs", 40) is not None


def test_without_noise_reverse_mode_is_the_unrolled_truth() -> None:
    case = build("maml_quadratic")
    *_, found = compare_methods(case, 100, methods=tuple(m for m in METHODS if m.name == "RMD"))
    assert isinstance(found, MethodComparison)
    (point,) = found.points
    assert point.error is not None
    assert point.error <= found.floor + 1e3 * torch.finfo(torch.float64).eps


def test_a_closed_form_is_run_once() -> None:
    method = tuple(m for m in METHODS if m.name == "closed-form head")
    *points, _ = compare_methods(build("quadratic"), 10_000, methods=method)
    assert len(points) == 1


def test_a_wrong_target_is_refused_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "gibbs.py"
    file.write_text("def f(problem):\n    return None\nf.estimands = 'gibbs'\n", encoding="utf-8")
    with pytest.raises(ArgumentError, match="target must be meant for the unrolled"):
        target(f"{file}:f")
    run = CliRunner().invoke(compare, ["quadratic", "--target", "nothing"])
    assert run.exit_code == 2
    assert "after a colon" in run.output


def targets() -> tuple[Target, ...]:
    """Reverse mode in plain torch, and the public libraries that REFBLO_TARGETS names."""
    named = os.environ.get("REFBLO_TARGETS", "").split()
    return (Target("plain torch", reverse), *(target(text) for text in named))


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", list(catalogue()))
def test_a_method_of_this_package_is_on_both_fronts_of_every_problem(case: str) -> None:
    *_, found = compare_methods(build(case), 200, targets=targets())
    assert isinstance(found, MethodComparison)
    ours = {method.name for method in METHODS}
    assert found.estimand in (Estimand.IMPLICIT, Estimand.UNROLLED)
    assert ours & found.front(lambda point: point.evaluations)
    assert ours & found.front(lambda point: point.bytes)
