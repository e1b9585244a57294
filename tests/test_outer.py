"""The outer loop: what it converges to, and that a resumed run is the uninterrupted one, bit by bit."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from refblo.chain import Langevin, Schedule
from refblo.errors import ArgumentError, ResumeError
from refblo.estimators import RMD, IFTConjugateGradient, IFTNeumann
from refblo.estimators.soba import SOBA
from refblo.outer.loop import OuterLoop
from refblo.outer.steps import OuterStep, progress_bar
from refblo.problem import BilevelProblem, FixedInitial
from refblo.problems import build
from refblo.types import Status
from tests.outer_child import STEPS, bits, loop

ROOT = Path(__file__).resolve().parent.parent
METHODS = ["hpo_sgld", "fsla"]


def toy(scale: float = 1.0) -> BilevelProblem:
    """The optimum is λ = 1 for both entries."""
    return BilevelProblem(
        inner=lambda lam, theta, _: scale * (theta - lam).square().sum() / 2,
        outer=lambda _, theta, __: (theta - 1).square().sum() / 2,
        initial=FixedInitial(torch.zeros(2, dtype=torch.float64)),
        name="toy",
    )


ZERO = torch.zeros(2, dtype=torch.float64)
EXACT = RMD(Langevin(0.5), Schedule.last(8))


def sgd(parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


@pytest.mark.parametrize(
    "optimiser",
    [
        lambda ps: torch.optim.SGD(ps, lr=0.5, momentum=0.5),
        lambda ps: torch.optim.Adam(ps, lr=0.1),
        lambda ps: torch.optim.RMSprop(ps, lr=0.02),
        lambda ps: torch.optim.LBFGS(ps, lr=0.5, max_iter=4),
    ],
    ids=["SGD", "Adam", "RMSprop", "L-BFGS"],
)
def test_any_optimiser_reaches_the_optimum(
    optimiser: Callable[[list[torch.Tensor]], torch.optim.Optimizer],
) -> None:
    start = OuterLoop(toy(), EXACT, optimiser, steps=0).run(ZERO)
    ended = OuterLoop(toy(), EXACT, optimiser, steps=150).run(ZERO)
    # From a distance of √2 to a hundredth of it: what each must do, whatever its own floor.
    assert float((start.lam - 1).norm()) == pytest.approx(2**0.5)
    assert float((ended.lam - 1).norm()) < 0.02


def test_plain_sgd_is_the_recursion_written_out() -> None:
    ended = OuterLoop(toy(), EXACT, sgd, steps=5).run(ZERO)
    lam, theta = ZERO, ZERO
    for _ in range(5):
        result = EXACT.estimate(toy().starting_at(theta), lam)
        lam, theta = lam.add(result.value, alpha=-0.1), result.theta
    assert torch.equal(ended.lam, lam)
    assert torch.equal(ended.theta, theta)
    assert torch.equal(ZERO, torch.zeros(2, dtype=torch.float64))


def test_a_method_with_a_state_is_continued() -> None:
    problem = build("quadratic").problem
    method, lam = SOBA(0.3, 0.3), build("quadratic").lam
    ended = OuterLoop(problem, method, sgd, steps=4).run(lam)
    carried = method.begin(problem, lam)
    for _ in range(4):
        result, carried = method.advance(problem, lam, carried)
        lam = lam.add(result.value, alpha=-0.1)
    assert torch.equal(ended.lam, lam)


def test_clipping_projection_and_scheduler_do_their_parts() -> None:
    seen: list[OuterStep] = []

    def watch(step: OuterStep) -> bool:
        seen.append(step)
        return False

    settings = OuterLoop(
        toy(),
        EXACT,
        lambda ps: torch.optim.SGD(ps, lr=1.0),
        steps=3,
        clip=0.01,
        scheduler=lambda optimiser: torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.5),
        callbacks=(watch,),
    )
    settings.run(ZERO)
    moves = [float(seen[0].lam.norm())]
    moves += [float((b.lam - a.lam).norm()) for a, b in pairwise(seen)]
    # Each move is the clipped length times the halved rate; clipping divides by the norm plus 1e-6.
    assert moves == pytest.approx([0.01, 0.005, 0.0025], rel=1e-5)
    bound = replace(settings, clip=None, steps=20, projection=lambda lam: lam.clamp(max=0.25))
    assert torch.equal(bound.run(ZERO).lam, torch.full((2,), 0.25, dtype=torch.float64))


def test_a_callback_can_end_the_loop_and_progress_is_shown() -> None:
    with progress_bar(10) as bar:
        ended = OuterLoop(
            toy(), EXACT, sgd, steps=10, callbacks=(bar, lambda step: step.step == 3)
        ).run(ZERO)
    assert ended.steps == 3


def test_a_divergence_ends_the_loop_with_its_status() -> None:
    wild = RMD(Langevin(3.0), Schedule.last(2000))
    ended = OuterLoop(toy(), wild, sgd, steps=5).run(ZERO + 0.5)
    assert ended.status is Status.CHAIN_DIVERGED
    assert ended.steps == 0
    assert torch.equal(ended.lam, ZERO + 0.5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop", [1, 17, STEPS - 1])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, method: str, stop: int) -> None:
    lam, file = build("quadratic").lam, tmp_path / "state"
    whole = loop(None, method).run(lam)
    replace(loop(file, method), steps=stop).run(lam)
    resumed = loop(file, method).run(lam, resume=True)
    assert bits(resumed.lam) == bits(whole.lam)
    assert bits(resumed.theta) == bits(whole.theta)
    assert resumed.cost == whole.cost
    # Done is done: nothing is computed again.
    assert bits(loop(file, method).run(lam, resume=True).lam) == bits(whole.lam)


def killed_runs(folder: Path, method: str, kills: int, seed: int) -> int:
    """Kill the loop at random steps, again and again, until it is through; how often it was."""
    file, result, draws, made = folder / "state", folder / "result", random.Random(seed), 0
    command = [sys.executable, "-m", "tests.outer_child", str(file), str(result), method]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    while not result.exists():
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        assert process.stdout is not None
        # A step or a few further each time, so that all the kills fit into the run.
        patience = draws.randint(1, max(1, 2 * STEPS // (kills + 1) - 1))
        for line in process.stdout:
            patience -= 1
            if patience == 0 and made < kills and int(line) < STEPS:
                process.send_signal(signal.SIGKILL)
                made += 1
        process.stdout.close()
        code = process.wait()
        assert code in {0, -signal.SIGKILL}, code
    return made


@pytest.mark.timeout(300)
def test_a_killed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    assert killed_runs(tmp_path, "fsla", kills=2, seed=1) == 2
    whole = loop(None, "fsla").run(build("quadratic").lam)
    assert (tmp_path / "result").read_text(encoding="ascii") == bits(whole.lam)


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    assert killed_runs(tmp_path, "hpo_sgld", kills=20, seed=2) >= 15
    whole = loop(None, "hpo_sgld").run(build("quadratic").lam)
    assert (tmp_path / "result").read_text(encoding="ascii") == bits(whole.lam)


def clamp_to(bound: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda lam: lam.clamp(-bound, bound)


def halving(factor: float) -> Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LambdaLR]:
    return lambda optimiser: torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: factor**k)


def saved(tmp_path: Path) -> OuterLoop:
    settings = OuterLoop(
        toy(),
        EXACT,
        sgd,
        steps=2,
        checkpoint=tmp_path / "state",
        projection=clamp_to(3.0),
        scheduler=halving(0.5),
    )
    settings.run(ZERO)
    return settings


CHANGES: dict[str, tuple[Callable[[OuterLoop], OuterLoop], torch.Tensor]] = {
    "problem": (lambda was: replace(was, problem=toy(2.0)), ZERO),
    "seed": (lambda was: replace(was, seed=1), ZERO),
    "starting lam": (lambda was: was, ZERO + 1e-16),
    "estimator": (
        lambda was: replace(was, estimator=RMD(Langevin(0.25), Schedule.last(8))),
        ZERO,
    ),
    "optimiser": (
        lambda was: replace(was, optimiser=lambda ps: torch.optim.SGD(ps, lr=0.2)),
        ZERO,
    ),
    "scheduler": (lambda was: replace(was, scheduler=halving(0.25)), ZERO),
    "projection": (lambda was: replace(was, projection=clamp_to(0.05)), ZERO),
    "warm start": (lambda was: replace(was, warm=False), ZERO),
    "clipping": (lambda was: replace(was, clip=1.0), ZERO),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_state_of_another_run_is_refused_with_the_reason(tmp_path: Path, what: str) -> None:
    change, lam = CHANGES[what]
    with pytest.raises(ResumeError, match=f"must come from the same {what} "):
        change(saved(tmp_path)).run(lam, resume=True)


def test_a_state_of_another_dtype_is_refused(tmp_path: Path) -> None:
    settings = saved(tmp_path)
    start = torch.zeros(2)
    single = replace(settings, problem=settings.problem.starting_at(start))
    with pytest.raises(ResumeError, match=r"must come from the same (dtype|problem)"):
        single.run(start, resume=True)


def test_a_state_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = saved(tmp_path)
    monkeypatch.setattr("refblo.outer.checkpoint.version", lambda name: f"{name} of tomorrow")
    with pytest.raises(ResumeError, match="must come from the same version of refblo"):
        settings.run(ZERO, resume=True)


@pytest.mark.parametrize("damage", ["empty", "half", "other"])
def test_a_damaged_state_is_refused(tmp_path: Path, damage: str) -> None:
    settings = saved(tmp_path)
    file = tmp_path / "state"
    whole = file.read_bytes()
    if damage == "other":
        torch.save({"format": 0}, file)
    else:
        file.write_bytes(b"" if damage == "empty" else whole[: len(whole) // 2])
    with pytest.raises(ResumeError, match="checkpoint must"):
        settings.run(ZERO, resume=True)


def test_a_half_written_state_does_not_count(tmp_path: Path) -> None:
    """A writer that dies leaves its partial file beside the last whole one; the next start removes it."""
    settings = saved(tmp_path)
    (tmp_path / ".state.x1y2.partial").write_bytes(b"half")
    longer = replace(settings, steps=4)
    whole = replace(longer, checkpoint=None).run(ZERO)
    assert torch.equal(longer.run(ZERO, resume=True).lam, whole.lam)
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_bad_arguments_say_what_to_do() -> None:
    with pytest.raises(ArgumentError, match="steps must lie in"):
        OuterLoop(toy(), EXACT, sgd, steps=-1)
    with pytest.raises(ArgumentError, match="clip must be positive"):
        OuterLoop(toy(), EXACT, sgd, steps=1, clip=0.0)
    with pytest.raises(ArgumentError, match="checkpoint must be a file to resume from"):
        OuterLoop(toy(), EXACT, sgd, steps=1).run(ZERO, resume=True)
    with pytest.raises(ArgumentError, match="lam must be finite"):
        OuterLoop(toy(), EXACT, sgd, steps=1).run(ZERO * np.nan)


def test_the_implicit_methods_work_in_the_loop_too() -> None:
    ended = OuterLoop(toy(), IFTConjugateGradient(Langevin(0.5), 8, 2), sgd, steps=60).run(ZERO)
    # (1 − 0.1)^60 of the distance √2 is left, up to the inner run's (1/2)^8.
    assert float((ended.lam - 1).norm()) < 2 * (0.9**60 * 2**0.5 + 0.5**8)


def test_a_diverged_series_is_followed_only_when_asked() -> None:
    # α·eig(H) = 3: the Neumann series grows, and has a finite sum all the same.
    method = IFTNeumann(Langevin(0.5), 5, 3.0, 60)
    lam = ZERO
    checked = OuterLoop(toy(), method, sgd, steps=2).run(lam)
    assert checked.status is Status.SERIES_DIVERGED
    assert checked.steps == 0
    unchecked = OuterLoop(toy(), method, sgd, steps=2, unchecked=True)
    assert unchecked.run(lam).steps == 2
    assert [step.step for step in unchecked.trajectory(lam)] == [1, 2]


def test_a_trajectory_can_be_taken_up_in_the_middle() -> None:
    loop = OuterLoop(toy(), EXACT, sgd, steps=4)
    whole = list(loop.trajectory(ZERO))
    second = whole[1]
    rest = list(loop.trajectory(second.lam, theta=second.result.theta, first=2))
    assert [step.step for step in rest] == [3, 4]
    assert bits(rest[-1].lam) == bits(whole[-1].lam)
    assert bits(rest[-1].lam) == bits(loop.run(ZERO).lam)
