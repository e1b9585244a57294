"""Tables of training runs: tuning, pairs, interrupted runs. Four seconds of processor time."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refblo.errors import ArgumentError, ArgumentTypeError
from refblo.experiments import store
from refblo.experiments.endpoints import Endpoint, EndpointKind
from refblo.experiments.run_options import RunOptions
from refblo.experiments.study import StudyRuns
from refblo.outer import checkpoint
from tests.experiments.toy_study import PIECES, STEPS, ToyStudy, run, write_state


def numbers(runs: StudyRuns) -> dict[str, list[list[float]]]:
    return {
        label: [values["test"].tolist() for values in seeds] for label, seeds in runs.runs.items()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], StudyRuns]:
    output, lines = tmp_path_factory.mktemp("toy"), list[str]()
    return output, lines, run(output, lines.append)


def test_each_method_gets_the_rate_with_the_lowest_tuning_error(
    finished: tuple[Path, list[str], StudyRuns],
) -> None:
    runs = finished[2]
    for method, errors in runs.tuning.items():
        assert set(errors) == {0.001, 0.02}
        assert runs.rates[method] == min(errors, key=lambda rate: errors[rate])


def test_every_arm_has_every_seed_and_a_number_for_each_piece(
    finished: tuple[Path, list[str], StudyRuns],
) -> None:
    runs = finished[2]
    assert {label: len(seeds) for label, seeds in runs.runs.items()} == {
        "HPO-SGLD κ = 1": 2,
        "RMD": 2,
    }
    assert all(v["test"].size == PIECES for seeds in runs.runs.values() for v in seeds)
    spent = runs.runs["RMD"][0]["evaluations"]
    assert np.allclose(spent / spent[0], np.arange(1, PIECES + 1))
    assert [len(seeds) for seeds in runs.printed_rates.values()] == [1]


def test_a_second_run_makes_nothing_and_says_the_same(
    finished: tuple[Path, list[str], StudyRuns],
) -> None:
    output, first, runs = finished
    second: list[str] = []
    again = run(output, second.append)
    assert numbers(again) == numbers(runs)
    assert any("4 runs to make" in line and "0 taken" in line for line in first)
    assert all(" 0 runs to make" in line for line in second)
    assert any("left for them" in line for line in first)


def test_a_part_that_was_changed_is_made_again(
    finished: tuple[Path, list[str], StudyRuns], tmp_path: Path
) -> None:
    output, _, runs = finished
    subprocess.run(["cp", "-r", f"{output}/.", str(tmp_path)], check=True)
    path = next((tmp_path / "toy" / "parts").glob("rmd*seed-1-smoke.json"))
    path.write_text(path.read_text(encoding="utf-8").replace("0.", "1.", 1), encoding="utf-8")
    lines: list[str] = []
    assert numbers(run(tmp_path, lines.append)) == numbers(runs)
    assert sum("1 runs to make" in line for line in lines) == 1
    assert any(f"do not count: the digest of {path.name} does not match" in line for line in lines)


def test_runs_of_another_version_are_named_and_made_again(
    finished: tuple[Path, list[str], StudyRuns],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, _, runs = finished
    subprocess.run(["cp", "-r", f"{output}/.", str(tmp_path)], check=True)
    monkeypatch.setattr(store, "version", lambda _: "9.9.9")
    lines: list[str] = []
    assert numbers(run(tmp_path, lines.append)) == numbers(runs)
    assert any("was computed under another refblo; " in line for line in lines)
    assert any("more; what they hold is made again" in line for line in lines)


def test_a_piece_that_was_changed_is_named_where_its_run_was_not_finished(
    finished: tuple[Path, list[str], StudyRuns], tmp_path: Path
) -> None:
    output, _, runs = finished
    subprocess.run(["cp", "-r", f"{output}/.", str(tmp_path)], check=True)
    (whole,) = (tmp_path / "toy" / "parts").glob("rmd*0.02--seed-1-smoke.json")
    whole.unlink()
    step = STEPS // PIECES
    piece = whole.with_name(whole.name.replace("-smoke", f"--to-step-{step}-smoke"))
    piece.write_text(piece.read_text(encoding="utf-8").replace("0.", "1.", 1), encoding="utf-8")
    lines: list[str] = []
    assert numbers(run(tmp_path, lines.append)) == numbers(runs)
    assert any(f"do not count: the digest of {piece.name} does not match" in line for line in lines)


def path_of(runs: StudyRuns) -> list[float]:
    """λ along RMD's run with seed 1."""
    return list(runs.runs["RMD"][1]["lam along the run"].tolist())


def test_the_numbers_of_each_step_have_no_gap(
    finished: tuple[Path, list[str], StudyRuns],
) -> None:
    along = path_of(finished[2])
    assert len(along) == STEPS
    assert len(set(along)) == STEPS
    assert np.isfinite(along).all()


@pytest.mark.parametrize("piece", range(1, PIECES + 1))
def test_a_run_that_was_killed_between_a_state_and_its_part_has_every_step(
    piece: int, finished: tuple[Path, list[str], StudyRuns], tmp_path: Path
) -> None:
    output, _, runs = finished
    subprocess.run(["cp", "-r", f"{output}/.", str(tmp_path)], check=True)
    parts, rate = tmp_path / "toy" / "parts", runs.rates["RMD"]
    name = f"rmd--outer-rate-{rate:g}--seed-1"
    for done in range(piece, PIECES + 1):
        (parts / f"{name}--to-step-{STEPS * done // PIECES}-smoke.json").unlink()
    (parts / f"{name}-smoke.json").unlink()
    state = parts / f"{name}-smoke.state.pt"
    write_state(state, "RMD", STEPS * piece // PIECES, rate, 1)
    again = run(tmp_path, lambda _: None)
    assert path_of(again) == path_of(runs)
    assert numbers(again) == numbers(runs)
    assert not state.exists()


def test_a_run_that_diverged_counts_as_the_worst(
    finished: tuple[Path, list[str], StudyRuns],
) -> None:
    runs = finished[2]
    claim = Endpoint("c", "m", ("RMD",), ("HPO-SGLD κ = 1",), EndpointKind.LOWER, 1.0)
    lost = {**runs.runs, "RMD": [{"test": np.full(PIECES, np.nan)}] * 2}
    broken = StudyRuns(runs.plan, runs.rates, runs.tuning, lost, {})
    ours = runs.numbers("HPO-SGLD κ = 1")
    assert np.array_equal(broken.difference(claim, 100.0), 100.0 - ours)


@pytest.mark.parametrize("options", [{"jobs": 0}, {"seeds": 1}])
def test_options_that_cannot_be_used_are_named(options: dict[str, Any]) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError), match=next(iter(options))):
        RunOptions(**options)


def killed(output: Path, kills: int, seed: int) -> int:
    """Run the table in processes that are killed at random lines; how many were."""
    draws, made = random.Random(seed), 0
    while True:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.experiments.toy_study", str(output)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        patience = draws.randint(1, 3)
        for _ in child.stdout:
            patience -= 1
            if patience == 0 and made < kills:
                os.kill(child.pid, signal.SIGKILL)
                made += 1
                break
        child.stdout.close()
        if child.wait() == 0:
            return made


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_a_table_that_is_killed_ten_times_ends_where_an_uninterrupted_one_does(
    finished: tuple[Path, list[str], StudyRuns], tmp_path: Path
) -> None:
    assert killed(tmp_path, kills=10, seed=3) >= 5
    lines: list[str] = []
    assert numbers(run(tmp_path, lines.append)) == numbers(finished[2])
    assert all(" 0 runs to make" in line for line in lines)


def test_a_run_goes_on_from_a_finished_piece(
    finished: tuple[Path, list[str], StudyRuns], tmp_path: Path
) -> None:
    """All parts but those of the first pieces are gone, and so is the state."""
    output, _, runs = finished
    subprocess.run(["cp", "-r", f"{output}/.", str(tmp_path)], check=True)
    for path in (tmp_path / "toy" / "parts").glob("*.json"):
        if f"to-step-{STEPS // PIECES}-" not in path.name:
            path.unlink()
    assert numbers(run(tmp_path, lambda _: None)) == numbers(runs)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("another arm's", "must come from the same estimator"),
        ("another version's", "must come from the same version of refblo"),
        ("cut short", "must be a state that was saved here"),
        ("foreign", "must be a state that was saved here"),
    ],
)
def test_a_state_that_is_not_this_runs_is_named_and_not_used(
    what: str,
    reason: str,
    finished: tuple[Path, list[str], StudyRuns],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything of one run is gone, and a state lies there that belongs to no piece of it."""
    output, _, runs = finished
    subprocess.run(["cp", "-r", f"{output}/.", str(tmp_path)], check=True)
    parts = tmp_path / "toy" / "parts"
    gone = list(parts.glob("rmd*seed-1*-smoke.json"))
    rate = f"{runs.rates['RMD']:g}"
    state = parts / f"rmd--outer-rate-{rate}--seed-1-smoke.state.pt"
    assert any(path.name == state.name.replace(".state.pt", ".json") for path in gone)
    for path in gone:
        path.unlink()
    with monkeypatch.context() as patched:
        if what == "another version's":
            patched.setattr(checkpoint, "version", lambda _: "9.9.9")
        write_state(state, "HPO-SGLD" if what == "another arm's" else "RMD", 2, 0.02, 1)
    if what in {"cut short", "foreign"}:
        content = state.read_bytes()
        state.write_bytes(content[: len(content) // 2] if what == "cut short" else b"no state")
    lines: list[str] = []
    assert numbers(run(tmp_path, lines.append)) == numbers(runs)
    assert sum("1 runs to make" in line for line in lines) >= 1
    (told,) = [line for line in lines if state.name in line]
    assert f"the state {state.name} was removed, and its run begins again at its first step" in told
    assert reason in told
    # What the file alone shows is said before anything runs.
    if what != "another arm's":
        assert told == lines[0]
    assert not state.exists()


def test_a_folder_in_the_place_of_a_state_is_said_before_anything_runs(tmp_path: Path) -> None:
    folder = tmp_path / "toy" / "parts" / "rmd-smoke.state.pt"
    folder.mkdir(parents=True)
    lines: list[str] = []
    with pytest.raises(
        ArgumentError, match=r"rmd-smoke\.state\.pt must be the state .* move it away"
    ):
        run(tmp_path, lines.append)
    assert not lines


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.full)])
def test_a_part_that_cannot_be_written_is_named_by_whichever_process_makes_it(
    jobs: int, tmp_path: Path
) -> None:
    (tmp_path / "toy" / "parts" / "rmd--outer-rate-0.001--seed-1000-smoke.json").mkdir(parents=True)
    with pytest.raises(
        ArgumentError, match=r"^file must be one that can be written, got .*rmd--outer"
    ):
        run(tmp_path, lambda _: None, jobs=jobs)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_two_processes_make_the_numbers_of_one(
    finished: tuple[Path, list[str], StudyRuns], tmp_path: Path
) -> None:
    assert numbers(run(tmp_path, lambda _: None, jobs=2)) == numbers(finished[2])


def test_the_toy_is_a_study() -> None:
    from refblo.experiments.study import TrainingStudy

    assert isinstance(ToyStudy(), TrainingStudy)
