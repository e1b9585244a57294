"""A commit's figures, from the benchmarks to asv's files. 1 s of processor time."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from asv_bench.benchmarks import counted, counts, times
from asv_bench.benchmarks.naming import Words
from asv_bench.machine import ANY
from asv_bench.record import keep
from refblo import estimators
from refblo.chain import Schedule

PROBLEM = "quadratic 10 x 6"
SHOWN = "dense quadratic, n = 10, p = 6"


def test_an_argument_that_a_commit_does_not_know_is_not_available(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(rule: Any, steps: int) -> Any:
        return estimators.RMD(rule, Schedule.last(steps), bytes_of_the_future=1)  # type: ignore[call-arg]

    monkeypatch.setitem(counted.ESTIMATORS, "RMD", unknown)
    found = counts.rows([(PROBLEM, "RMD", 10), (PROBLEM, "RMD-FO", 10)])
    benchmark = counts.Counts()
    assert math.isnan(benchmark.track_flops(found, SHOWN, "RMD", 10))
    assert math.isnan(benchmark.track_error(found, SHOWN, "RMD", 10))
    assert benchmark.track_flops(found, SHOWN, "RMD-FO", 10) > 0


def test_an_estimator_that_a_commit_lacks_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(estimators, "IFTDense")
    assert counts.rows([(PROBLEM, "IFT-dense", 10)]) == {}


def test_a_wrong_answer_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "ROUNDING", -1.0)
    found = counts.rows([(PROBLEM, "RMD", 10), (PROBLEM, "RMD-FO", 10)])
    with pytest.raises(counted.WrongAnswerError, match="closed form"):
        counts.figure(found, "flops", PROBLEM, "RMD", 10)
    assert counts.figure(found, "flops", PROBLEM, "RMD-FO", 10) > 0


def test_rounding_is_not_shown_as_a_change_of_the_error() -> None:
    found: counts.Rows = {counted.key(PROBLEM, "RMD", 10): {"error": 3e-16}}
    assert counts.Counts().track_error(found, SHOWN, "RMD", 10) == counts.LEAST_ERROR


def test_what_a_commit_does_not_count_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    row = counted.measured(PROBLEM, "RMD", 10)
    earlier = replace(row, host_synchronisations=None)
    monkeypatch.setattr(counts, "measured", lambda *_: earlier)
    found = counts.rows([(PROBLEM, "IFT-CG", counted.STEPS[0])])
    assert math.isnan(counts.Synchronisations().track_host_synchronisations(found, SHOWN))


def test_times_are_in_inner_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "ESTIMATORS", {"RMD-FO": None})
    monkeypatch.setattr(
        times,
        "interleaved",
        lambda functions, rounds: dict(
            zip(functions, ([2.0] * rounds, [3.0] * rounds), strict=True)
        ),
    )
    assert times.times(PROBLEM, rounds=2) == {"RMD-FO": 150.0}


def test_asv_shows_words_without_quotes() -> None:
    assert repr(Words("IFT-CG")) == "IFT-CG"
    known: dict[str, int] = {Words("IFT-CG"): 1}
    assert known["IFT-CG"] == 1


def test_figures_are_kept_beside_those_of_the_same_commit(tmp_path: Path) -> None:
    def answer(name: str, values: list[float | None]) -> dict[str, Any]:
        described = {"name": name, "params": [["a", "b"]], "param_names": ["x"], "version": "1"}
        return {"benchmarks": [described], "figures": {name: values}}

    begun = datetime(2026, 1, 1, tzinfo=UTC)
    figures: dict[str, list[float | None]] = {"one": [1, math.nan], "two": [2, None]}
    for name, values in figures.items():
        keep(tmp_path, "a" * 40, 1000, ANY, answer(name, values), begun)
    (path,) = tmp_path.glob(f"{ANY}/aaaaaaaa-*.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    assert set(document["results"]) == {"one", "two"}
    assert document["results"]["two"][0] == [2, None]
    assert document["params"]["cpu"] == "any"
    assert "two" in json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))
