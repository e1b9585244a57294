"""The dashboards: what has no curve is left out, planted regressions are found. 0.1 s quick, 20 s full."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from asv_bench.history import RESULTS
from asv_bench.machine import ANY
from asv_bench.publish import PublishError, publish, with_a_curve

PLACE = ("dense quadratic, n = 100, p = 60", "RMD", "100")
LAST = 6
"""Measured commits from the planted one on."""


def result(folder: Path, commit: str, figures: dict[str, list[float | None] | None]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "commit_hash": commit,
        "result_columns": ["result"],
        "results": {name: [values] for name, values in figures.items()},
    }
    (folder / f"{commit}-existing.json").write_text(json.dumps(document), encoding="utf-8")


def test_a_curve_has_figures_of_two_commits_on_one_machine(tmp_path: Path) -> None:
    nan = float("nan")
    result(tmp_path / "one", "a", {"curve": [1], "point": [1], "failed": None, "none": [nan]})
    result(tmp_path / "one", "b", {"curve": [nan, 2], "failed": None, "none": [nan]})
    result(tmp_path / "two", "b", {"point": [2]})
    assert with_a_curve(tmp_path) == {"curve"}


def test_without_results_there_is_no_site(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="make asv"):
        publish(tmp_path, tmp_path / "site")


def plant(results: Path, benchmark: str, factor: float) -> str:
    """Make one figure worse in the last commits of a copy of the history; the first of them."""
    paths = {
        path: json.loads(path.read_text(encoding="utf-8")) for path in results.glob("*-*.json")
    }
    newest = sorted(paths, key=lambda path: paths[path]["date"])[-LAST:]
    for path in newest:
        document = paths[path]
        columns = {name: place for place, name in enumerate(document["result_columns"])}
        values, params = (
            document["results"][benchmark][columns[key]] for key in ("result", "params")
        )
        values[place_of(params)] *= factor
        path.write_text(json.dumps(document), encoding="utf-8")
    commit: str = paths[newest[0]]["commit_hash"]
    return commit


def place_of(params: list[list[str]]) -> int:
    """Where the figure of `PLACE` stands among the combinations."""
    place = 0
    for values, value in zip(params, PLACE, strict=False):
        place = place * len(values) + values.index(value)
    return place


def listed(site: Path) -> dict[str, list[Any]]:
    """Name with parameters → the commits of its jumps, as the page of regressions lists them."""
    found = json.loads((site / "regressions.json").read_text(encoding="utf-8"))["regressions"]
    index = json.loads((site / "index.json").read_text(encoding="utf-8"))
    revisions = index["revision_to_hash"]
    return {entry[0]: [revisions[str(jump[1])] for jump in entry[6]] for entry in found}


@pytest.mark.full
@pytest.mark.parametrize(
    ("benchmark", "factor"),
    [
        ("counts.Counts.track_flops", 1.01),
        ("counts.Counts.track_peak_bytes", 1.05),
        ("counts.Counts.track_kernels", 2.0),
        ("counts.Counts.track_evaluations", 1.1),
    ],
)
def test_a_planted_regression_is_listed_at_its_commit(
    benchmark: str, factor: float, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    shutil.copytree(RESULTS, results)
    commit = plant(results / ANY, benchmark, factor)
    publish(results, tmp_path / "site")
    jumps = listed(tmp_path / "site")
    assert commit in jumps[f"{benchmark}({', '.join(PLACE)})"]


@pytest.mark.full
def test_every_tile_shows_a_curve(tmp_path: Path) -> None:
    """The tile's curve is what asv draws of it: at least two points with a figure."""
    tiles = publish(RESULTS, tmp_path / "site")
    assert tiles
    known = json.loads((tmp_path / "site" / "index.json").read_text(encoding="utf-8"))["benchmarks"]
    assert set(tiles) == set(known)
    for name in tiles:
        summary = tmp_path / "site" / "graphs" / "summary" / f"{name}.json"
        points = json.loads(summary.read_text(encoding="utf-8"))
        assert sum(value is not None for _, value in points) >= 2, name
        assert known[name]["pretty_name"] != name
