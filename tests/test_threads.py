"""Calls from eight threads give the single-threaded answer, bit by bit: 5 s of processor time.

The quick suite makes a call from each thread to every sixth estimator and to the functions that take less
than a second so; the full one makes 200 calls to every estimator and every function.
"""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import Tensor

from refblo import (
    RMD,
    BilevelProblem,
    FixedInitial,
    Langevin,
    Schedule,
    check_assumptions,
    hypergradcheck,
    hypergradient_is_right,
    hypergradient_report,
    side_by_side,
)
from refblo.conformance.report import Report
from refblo.estimators.compiled import Compiled
from refblo.estimators.registry import EstimatorClass, estimator_classes
from refblo.noise import Draws
from refblo.testing import SMALL_CASES
from refblo.testing.check import applicable
from refblo.testing.instances import example
from refblo.types import Hypergradient

THREADS = 8
CALLS = 200
DYNAMICS, SCHEDULE = Langevin(0.1), Schedule.last(3)
LAM = torch.tensor([0.3, -0.4], dtype=torch.float64)
THETA = torch.tensor([0.5, 1.0, -1.5], dtype=torch.float64)

Figures = tuple[object, ...]
Subject = Callable[[], Figures]


def inner(lam: Tensor, theta: Tensor) -> Tensor:
    return (theta.sin() * lam.sum()).sum() + 0.5 * (1 + lam[0] ** 2) * theta.square().sum()


def outer(lam: Tensor, theta: Tensor) -> Tensor:
    return (theta - 1).square().sum() / 3 + lam.square().sum()


PROBLEM = BilevelProblem(
    lambda lam, theta, _: inner(lam, theta),
    lambda lam, theta, _: outer(lam, theta),
    FixedInitial(THETA),
)


def answer(lam: Tensor) -> Tensor:
    return RMD(DYNAMICS, SCHEDULE).estimate(PROBLEM, lam).value


def bits(tensor: Tensor | None) -> bytes:
    return b"" if tensor is None else tensor.detach().numpy().tobytes()


def of_report(report: Report) -> Figures:
    figures = (report.error, report.bound, report.confirmed, report.observed_slope)
    return (report.verdict, *map(float, figures), report.describe())


def of_estimate(found: Hypergradient) -> Figures:
    return (bits(found.estimate), bits(found.theta), found.status, found.cost)


def checked() -> Figures:
    return of_report(hypergradcheck(inner, outer, LAM, THETA, answer, steps=3, step_size=0.1))


def reported_wrong() -> Figures:
    report = hypergradient_report(
        inner,
        outer,
        LAM,
        THETA,
        lambda lam: 2 * answer(lam),
        steps=3,
        step_size=0.1,
        diagnosis_seconds=600.0,  # a family that time cuts off would be listed
    )
    return of_report(report)


def is_right() -> Figures:
    return (hypergradient_is_right(inner, outer, LAM, THETA, answer, steps=3, step_size=0.1),)


def assumptions() -> Figures:
    report = check_assumptions(PROBLEM, LAM, DYNAMICS, SCHEDULE, pairs=1)
    return (repr(report.error_found), *(repr(finding.value) for finding in report))


def several_runs() -> Figures:
    found = RMD(DYNAMICS, SCHEDULE).estimate(side_by_side(PROBLEM, 3), LAM.repeat(3))
    return of_estimate(found)


def compiled_first_call() -> Figures:
    method = Compiled(RMD(DYNAMICS, SCHEDULE), fused=2, backend="eager")
    return of_estimate(method.estimate(PROBLEM, LAM))


FUNCTIONS: dict[str, Subject] = {
    "hypergradcheck": checked,
    "hypergradient_report": reported_wrong,
    "hypergradient_is_right": is_right,
    "check_assumptions": assumptions,
    "side_by_side": several_runs,
    "Compiled's first call": compiled_first_call,
}
QUICK = ("hypergradient_is_right", "check_assumptions", "side_by_side", "Compiled's first call")


def estimating(cls: EstimatorClass) -> Subject:
    """An estimate by a new instance, on the last small problem that the class accepts."""
    build = applicable(lambda case: example(cls, case), SMALL_CASES)[-1]

    def estimate() -> Figures:
        case = build(torch.float64)
        return of_estimate(example(cls, case).estimate(case.problem, case.lam, Draws(3)))

    return estimate


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Threads take turns a thousand times more often than they do by default."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def differing(subject: Subject, calls: int) -> list[Figures]:
    """The results of so many calls from eight threads that are not the single-threaded one."""
    alone = subject()
    start = Barrier(THREADS)

    def several(count: int) -> list[Figures]:
        start.wait()
        return [subject() for _ in range(count)]

    share, left = divmod(calls, THREADS)
    with ThreadPoolExecutor(THREADS) as pool:
        done = list(pool.map(several, [share + (number < left) for number in range(THREADS)]))
    found = [figures for part in done for figures in part]
    assert len(found) == calls
    return [figures for figures in found if figures != alone]


@pytest.mark.usefixtures("often_switched")
def test_a_function_that_keeps_something_for_all_threads_is_found() -> None:
    kept: list[int] = []

    def shared() -> Figures:
        kept.append(1)
        length = len(kept)
        total = sum(range(2000))
        found = (total, len(kept) == length)
        kept.pop()
        return found

    assert differing(shared, 20 * CALLS)


@pytest.mark.usefixtures("often_switched")
@pytest.mark.parametrize("name", QUICK)
def test_a_function_called_once_from_each_thread(name: str) -> None:
    assert not differing(FUNCTIONS[name], THREADS)


@pytest.mark.usefixtures("often_switched")
@pytest.mark.parametrize("cls", estimator_classes()[::6], ids=lambda cls: cls.__name__)
def test_an_estimator_called_once_from_each_thread(cls: EstimatorClass) -> None:
    assert not differing(estimating(cls), THREADS)


@pytest.mark.full
@pytest.mark.usefixtures("often_switched")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_called_from_threads(name: str) -> None:
    assert not differing(FUNCTIONS[name], CALLS)


@pytest.mark.full
@pytest.mark.usefixtures("often_switched")
@pytest.mark.parametrize("cls", estimator_classes(), ids=lambda cls: cls.__name__)
def test_an_estimator_called_from_threads(cls: EstimatorClass) -> None:
    assert not differing(estimating(cls), CALLS)
