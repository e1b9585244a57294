"""The time that is said before a run. A second of processor time."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from refblo.commands.reproduce import reproduce
from refblo.experiments.durations import (
    REST,
    announcement,
    duration,
    in_words,
    measure,
    measured,
    of_one_run,
    runs,
)
from refblo.experiments.registry import everything, find, registry
from refblo.experiments.report import Scale
from refblo.experiments.run_options import RunOptions
from refblo.experiments.study import TrainingStudy
from tests.experiments.toy_study import ToyStudy

MEASURED = [(name, Scale(scale)) for name, of in measured().items() for scale in of]


def test_every_smoke_run_was_measured() -> None:
    assert {name for name, scale in MEASURED if scale is Scale.SMOKE} == set(registry())


@pytest.mark.parametrize(("name", "scale"), MEASURED, ids=str)
def test_what_was_measured_is_what_is_run(name: str, scale: Scale) -> None:
    known, experiment = measured()[name][scale.value], find(name)
    if isinstance(experiment, TrainingStudy):
        arms = experiment.plan(scale).arms
        assert known.keys() == {REST, *(of_one_run(arm) for arm in arms)}
    else:
        assert known.keys() == {REST}
    assert all(seconds > 0 for seconds in known.values())
    assert duration(experiment, scale, RunOptions()) is not None


def test_the_runs_of_a_plan_are_counted() -> None:
    plan = ToyStudy().plan(Scale.SMOKE)
    # Two rates are tuned with one seed, two seeds follow, and one at the printed rate.
    assert runs(plan) == {"HPO-SGLD κ = 1": 2 + 2, "RMD": 2 + 2 + 1}
    assert runs(plan, seeds=5) == {"HPO-SGLD κ = 1": 2 + 5, "RMD": 2 + 5 + 1}


def test_more_seeds_take_longer_and_more_processes_less() -> None:
    table = find("table-4")
    one, seeds, processes = (
        duration(table, Scale.SMOKE, options)
        for options in (RunOptions(), RunOptions(seeds=9), RunOptions(jobs=2))
    )
    assert one is not None
    assert seeds is not None
    assert processes is not None
    assert processes < one < seeds


def test_all_says_the_sum() -> None:
    known = [duration(each, Scale.SMOKE, RunOptions()) for each in everything()]
    total = in_words(sum(seconds for seconds in known if seconds is not None))
    text = announcement(everything(), Scale.SMOKE, RunOptions())
    assert f"; {total} in all." in text
    assert "not measured" not in text


def test_what_was_not_measured_is_said() -> None:
    text = announcement([find("table-4")], Scale.PAPER, RunOptions())
    assert "table-4 not measured" in text
    assert "for those that were measured" in announcement(everything(), Scale.PAPER, RunOptions())


def test_a_measurement_has_every_method(tmp_path: Path) -> None:
    found = measure(ToyStudy(), Scale.SMOKE, tmp_path)
    assert found.keys() == {"HPO-SGLD κ = 1", "RMD", REST}


def test_the_time_is_said_before_the_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(reproduce, ["figure-1", "--output", str(tmp_path)])
    said = result.output.index("Time at the smoke scale on one free core")
    assert said < result.output.index("Settings")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (119.4, "119 s"), (600.0, "10 min"), (9000.0, "2.5 h")]
)
def test_seconds_in_words(seconds: float, text: str) -> None:
    assert in_words(seconds) == text
