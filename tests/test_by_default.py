"""Traces that nobody asked for: the same bits as the plain way, and the plain way where they could be wrong.

Takes about 4 s.
"""

import ast
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

import refblo
from refblo.chain import Langevin, Schedule
from refblo.estimators import (
    HPOSGLD,
    RMD,
    Compiled,
    Estimator,
    IFTConjugateGradient,
    IFTNeumann,
    by_default,
)
from refblo.estimators.by_default import TRACED_FROM
from refblo.outer import OuterLoop, OuterStep, plainly
from refblo.problem import BilevelProblem, FixedInitial
from refblo.problems import build

RULE = Langevin(0.05, noise_scale=0.1)
METHODS: dict[str, Estimator] = {
    "RMD": RMD(RULE, Schedule(1, 6)),
    "HPO-SGLD": HPOSGLD(RULE, Schedule(1, 6)),
    "IFT-Neumann": IFTNeumann(RULE, 7, 0.05, 6),
    "IFT-CG": IFTConjugateGradient(RULE, 7, 6),
}
STEPS = TRACED_FROM + 2
TRACING = (
    "refblo.kernel",
    "refblo.outer",
    "refblo.estimators.compiled",
    "refblo.estimators.by_def",
)


def loop(problem: BilevelProblem, estimator: Estimator, **settings: object) -> OuterLoop:
    return OuterLoop(
        problem,
        estimator,
        lambda lams: torch.optim.SGD(lams, lr=0.01),
        **{"steps": STEPS, **settings},  # type: ignore[arg-type]  # settings of the loop
    )


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Mock:
    watched = Mock(side_effect=Compiled.traced, autospec=True)
    monkeypatch.setattr(Compiled, "traced", lambda *given: watched(*given))  # noqa: PLW0108  (binds)
    return watched


@pytest.mark.parametrize("estimator", METHODS.values(), ids=METHODS)
def test_a_loop_has_the_bits_of_the_plain_way(estimator: Estimator, traced: Mock) -> None:
    case = build("quadratic")
    found = loop(case.problem, estimator).run(case.lam)
    assert traced.call_count == STEPS - TRACED_FROM
    plain = loop(build("quadratic").problem, estimator, plain=True).run(case.lam)
    assert torch.equal(found.lam, plain.lam)
    assert torch.equal(found.theta, plain.theta)
    assert traced.call_count == STEPS - TRACED_FROM


def test_nothing_is_traced_inside_the_context(traced: Mock) -> None:
    case = build("quadratic")
    with plainly():
        loop(case.problem, METHODS["RMD"]).run(case.lam)
    assert traced.call_count == 0


@pytest.mark.parametrize("estimator", METHODS.values(), ids=METHODS)
def test_with_a_long_theta_only_the_first_step_is_plain(
    estimator: Estimator, traced: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = build("quadratic")
    monkeypatch.setattr(by_default, "LONG", case.problem.initial(case.lam).numel())
    result = loop(case.problem, estimator, steps=3).run(case.lam)
    assert traced.call_count == 2
    plain = loop(build("quadratic").problem, estimator, plain=True, steps=3).run(case.lam)
    assert torch.equal(result.lam, plain.lam)
    assert torch.equal(result.theta, plain.theta)


@pytest.mark.parametrize(
    "estimator",
    [
        RMD(RULE, Schedule.last(4), checkpointed=True),
        RMD(RULE, Schedule.last(4), last_transitions=2),
        RMD(RULE, Schedule.last(4), states=2),
    ],
)
def test_a_limit_on_memory_is_kept(estimator: Estimator, traced: Mock) -> None:
    case = build("quadratic")
    loop(case.problem, estimator).run(case.lam)
    assert traced.call_count == 0


def test_a_large_graph_is_not_traced(traced: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_default, "LARGEST_GRAPH", 8)
    case = build("quadratic")
    loop(case.problem, METHODS["RMD"]).run(case.lam)
    assert traced.call_count == 0


def counted(step: Callable[[list[int]], None]) -> tuple[BilevelProblem, list[int]]:
    calls = [0]

    def inner(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        step(calls)
        return 0.5 * (theta - lam).square().sum()

    start = FixedInitial(torch.ones(2, dtype=torch.float64))
    return BilevelProblem(inner, lambda _, theta, __: theta.square().sum(), start), calls


def test_a_loss_that_counts_its_calls_is_called_as_often() -> None:
    def step(calls: list[int]) -> None:
        calls[0] += 1

    lam, totals = torch.zeros(2, dtype=torch.float64), []
    for plain in (False, True):
        problem, calls = counted(step)
        loop(problem, METHODS["RMD"], plain=plain).run(lam)
        totals.append(calls[0])
    assert totals[0] == totals[1]


def test_a_change_in_the_middle_is_followed() -> None:
    ended = []
    for plain in (False, True):
        scale = 1.0

        def inner(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
            return 0.5 * scale * (theta - lam).square().sum()  # noqa: B023  (it is to be read late)

        def change(step: OuterStep) -> None:
            nonlocal scale
            scale = 1.0 + 0.1 * step.step

        start = FixedInitial(torch.ones(2, dtype=torch.float64))
        problem = BilevelProblem(inner, lambda _, theta, __: theta.square().sum(), start)
        run = loop(problem, METHODS["IFT-CG"], callbacks=(change,), plain=plain)
        ended.append(run.run(torch.zeros(2, dtype=torch.float64)).lam)
    assert torch.equal(*ended)


@pytest.mark.full
def test_a_run_that_goes_on_takes_the_way_of_the_step(traced: Mock, tmp_path: Path) -> None:
    case, at = build("quadratic"), tmp_path / "state"
    whole = loop(case.problem, METHODS["RMD"]).run(case.lam)
    loop(case.problem, METHODS["RMD"], steps=3, checkpoint=at).run(case.lam)
    problem = build("quadratic").problem
    ended = loop(problem, METHODS["RMD"], checkpoint=at).run(case.lam, resume=True)
    assert torch.equal(ended.lam, whole.lam)
    assert traced.call_count == 2 * (STEPS - TRACED_FROM)


def test_no_truth_comes_from_a_trace() -> None:
    root = Path(refblo.__file__).parent
    files = [
        file
        for package in ("balls", "conformance", "oracles", "theory", "derivatives")
        for file in (root / package).rglob("*.py")
    ]
    assert len(files) > 50
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += (
                [each.name for each in node.names]
                if isinstance(node, ast.Import | ast.ImportFrom)
                else []
            )
            assert not {"Compiled", "OuterLoop"} & set(names), file
            assert not any(name.startswith(TRACING) for name in names), file
