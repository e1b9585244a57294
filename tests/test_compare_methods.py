"""`refblo compare`: costs are counted, the front is the front, and the command shows it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from refblo.commands.compare import compare
from refblo.equal_cost.methods import METHODS
from refblo.equal_cost.run import MethodComparison, Point, compare_methods, truth_of
from refblo.errors import ArgumentError
from refblo.noise import SEED_ZERO
from refblo.problems import build
from refblo.types import Estimand

FEW = tuple(m for m in METHODS if m.name in {"HPO-SGLD", "IFT-CG", "RMD-FO", "running solve"})


def test_the_front_is_what_no_other_run_beats() -> None:
    points = (
        Point("cheap", 1, 10, 100, 0.5),
        Point("good", 4, 40, 50, 0.1),
        Point("worse at the same cost", 4, 40, 60, 0.2),
        Point("dearer at the same error", 5, 50, 40, 0.1),
        Point("diverged", 1, 1, 1, None),
    )
    found = MethodComparison("none", Estimand.IMPLICIT, "none", 0.0, points)
    assert found.front(lambda point: point.evaluations) == {"cheap", "good"}
    assert found.front(lambda point: point.bytes) == {"dearer at the same error"}
    best = found.best("good", 40)
    assert best is not None
    assert best.error == 0.1
    assert found.best("good", 39) is None
    assert found.best("diverged", 100) is None


@pytest.mark.parametrize(("floor", "rounding"), [(1e-15, 0.0), (0.0, 1e-15)])
def test_errors_that_mean_nothing_are_equal_on_the_front(floor: float, rounding: float) -> None:
    points = (Point("one", 4, 40, 50, 2e-16), Point("other", 4, 40, 50, 3e-16))
    exact = MethodComparison("none", Estimand.IMPLICIT, "none", 0.0, points)
    assert exact.front(lambda point: point.evaluations) == {"one"}
    found = replace(exact, floor=floor, rounding=rounding)
    assert found.front(lambda point: point.evaluations) == {"one", "other"}


@pytest.mark.full
@pytest.mark.timeout(600)
def test_every_run_stays_within_the_budget_and_the_good_get_better() -> None:
    *points, comparison = compare_methods(build("quadratic"), 120, methods=FEW)
    assert isinstance(comparison, MethodComparison)
    assert comparison.points == tuple(points)
    assert comparison.estimand is Estimand.IMPLICIT
    assert all(point.evaluations <= 120 for point in comparison.points)
    errors = [p.error or 1.0 for p in comparison.points if p.method == "IFT-CG"]
    assert errors == sorted(errors, reverse=True)
    assert "IFT-CG" in comparison.front(lambda point: point.evaluations)


def test_a_problem_whose_start_is_lam_is_compared_with_the_unrolled_truth() -> None:
    case = build("maml_quadratic")
    *points, comparison = compare_methods(case, 1000, methods=FEW)
    assert isinstance(comparison, MethodComparison)
    assert comparison.estimand is Estimand.UNROLLED
    # What differentiates an implicit function has nothing to say there.
    assert {point.method for point in comparison.points} == {"HPO-SGLD", "RMD-FO"}
    assert len(points) == 2


def test_what_no_oracle_knows_is_refused() -> None:
    with pytest.raises(ArgumentError, match="must be one that some oracle answers"):
        truth_of(build("noisy_synth_1d"), Estimand.IMPLICIT, SEED_ZERO)
    with pytest.raises(ArgumentError, match="budget must be at least 8"):
        next(compare_methods(build("quadratic"), 1))


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_command_writes_table_plot_and_json(tmp_path: Path) -> None:
    plot, file = tmp_path / "plot.png", tmp_path / "found.json"
    arguments = ["synth_1d", "--budget", "60", "--plot", str(plot), "--json", str(file)]
    run = CliRunner().invoke(compare, arguments, env={"COLUMNS": "160"})
    assert run.exit_code == 0, run.output
    assert "running solve" in run.output
    assert plot.read_bytes().startswith(b"\x89PNG")
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["case"] == "synth_1d"
    assert {"method", "steps", "evaluations", "bytes", "error", "remark"} == set(found["points"][0])


def test_an_unknown_problem_is_a_usage_error_that_lists_the_known_ones() -> None:
    run = CliRunner().invoke(compare, ["nothing"])
    assert run.exit_code == 2
    assert "synth_1d" in run.output
