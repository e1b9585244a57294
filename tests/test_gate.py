"""The gate sees what it is there to see, and nothing else."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, final

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from asv_bench import gate as module
from asv_bench.benchmarks import counted
from asv_bench.benchmarks.counted import ESTIMATORS, Row, WrongAnswerError, key, posed, row
from asv_bench.gate import BASELINE, Difference, compare, load
from refblo.chain import Chain
from refblo.estimators import Estimator
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient

PROBLEM, STEPS = "quadratic 100 x 60", 10


@final
@dataclass(frozen=True)
class Planted:
    """An estimator with something done to it: more operations, or an answer a little off."""

    method: Estimator
    more_flops: int = 0
    less_accurate: float = 0.0
    reads: int = 0
    name: str = field(default="planted", kw_only=True)

    @property
    def estimand(self) -> Estimand:
        return self.method.estimand

    def estimate(
        self, problem: BilevelProblem, lam: Tensor, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        found = self.method.estimate(problem, lam, draws)
        for _ in range(self.reads):
            lam.sum().item()
        if not (self.more_flops or self.less_accurate):
            return found
        if self.more_flops:
            ones = torch.ones(self.more_flops // 2)
            torch.dot(ones, ones)
        off = torch.zeros_like(lam)
        off[0] = self.less_accurate * found.value.norm()
        return replace(found, estimate=found.value + off)


def of(estimator: str) -> Estimator:
    return ESTIMATORS[estimator](posed(PROBLEM).rule, STEPS)


def unharmed(estimator: str) -> Row:
    return row(PROBLEM, of(estimator), STEPS)


before = cache(unharmed)
"""The same, measured once."""


def differences(then: Row, now: Row) -> list[Difference]:
    """What differs from the same row without anything planted.

    Measured here, not read from the committed baseline: the shape checker of the tests holds on to
    arguments for a moment longer, so bytes are not those of a run without it.
    """
    return compare({"a row": plain(then)}, {"a row": plain(now)})


def plain(found: Row) -> dict[str, Any]:
    """Through JSON, as in a file."""
    rows: dict[str, Any] = json.loads(json.dumps(asdict(found)))
    return rows


SOME = ["HPO-SGLD", "RMD, a step at a time", "IFT-CG"]


@pytest.mark.parametrize("estimator", SOME)
def test_nothing_planted_nothing_found(estimator: str) -> None:
    assert differences(before(estimator), unharmed(estimator)) == []


@pytest.mark.parametrize("estimator", SOME)
def test_one_per_cent_more_operations_are_found(estimator: str) -> None:
    planted = Planted(of(estimator), more_flops=before(estimator).flops // 100)
    found = differences(before(estimator), row(PROBLEM, planted, STEPS))
    assert any(one.figure == "flops" and one.worse for one in found)


@pytest.mark.parametrize("estimator", SOME)
def test_a_vector_kept_at_each_step_is_found(
    estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row_before = before(estimator)
    kept: list[Tensor] = []
    advance = Chain.advance

    def leaking(
        self: Chain, theta: Tensor, gradient: Tensor, step: int, overwrite: bool = False
    ) -> Tensor:
        moved = advance(self, theta, gradient, step, overwrite)
        kept.append(moved.detach().clone())
        return moved

    monkeypatch.setattr(Chain, "advance", leaking)
    found = differences(row_before, unharmed(estimator))
    leaks = [one for one in found if one.figure == "peak_bytes"]
    assert leaks
    assert leaks[0].worse


@pytest.mark.parametrize("estimator", SOME)
def test_a_millionth_less_accuracy_is_found(estimator: str) -> None:
    planted = Planted(of(estimator), less_accurate=1e-6)
    found = differences(before(estimator), row(PROBLEM, planted, STEPS))
    assert any(one.figure in {"error", "value"} and one.worse for one in found)


@pytest.mark.parametrize("estimator", SOME)
def test_one_host_synchronisation_is_found(estimator: str) -> None:
    planted = Planted(of(estimator), reads=1)
    found = differences(before(estimator), row(PROBLEM, planted, STEPS))
    (one,) = [each for each in found if each.figure == "host_synchronisations"]
    assert one.worse
    assert one.now == one.was + 1  # type: ignore[operator]  # both are integers


@pytest.fixture(scope="module")
def device_rows() -> dict[str, dict[str, Any]]:
    """Rows on the pretend device, which has a process of its own."""
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "tests.gate_child"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if "without it" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    rows: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.mark.parametrize(
    ("plant", "figure"), [("looked_at", "host_synchronisations"), ("moved", "transfers")]
)
def test_one_synchronisation_and_one_transfer_are_found_on_a_device(
    plant: str, figure: str, device_rows: dict[str, dict[str, Any]]
) -> None:
    assert device_rows["plain"][figure] == 0
    found = compare({"a": device_rows["plain"]}, {"a": device_rows[plant]})
    assert Difference("a", figure, 0, 1, worse=True) in found
    others = {"host_synchronisations", "transfers"} - {figure}
    assert not others & {one.figure for one in found}


def test_a_device_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, "", "torch must have what it has not")

    monkeypatch.setattr(subprocess, "run", failing)
    counted.rows_on_a_device.cache_clear()
    with pytest.raises(WrongAnswerError, match=r"torch must have what it has not; run -m"):
        counted.measured(counted.ON_A_DEVICE, "RMD", 10)


def test_a_wrong_answer_has_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    make = ESTIMATORS["RMD"]
    monkeypatch.setitem(
        counted.ESTIMATORS, "RMD", lambda rule, T: Planted(make(rule, T), less_accurate=1e-6)
    )
    with pytest.raises(WrongAnswerError, match="must agree with the closed form"):
        counted.measured(PROBLEM, "RMD", STEPS)


ROW: dict[str, Any] = asdict(Row(100, 10, 1000, 5, 80, 1, 1, 1, 1, 2, 2, 0.5, (1.0, 2.0, 3.0)))


@pytest.mark.parametrize("figure", counted.COUNTS)
@pytest.mark.parametrize("change", [1, -1])
def test_every_count_is_compared_exactly(figure: str, change: int) -> None:
    now = {**ROW, figure: ROW[figure] + change}
    (found,) = compare({"a": ROW}, {"a": now})
    assert found == Difference("a", figure, ROW[figure], now[figure], worse=change > 0)


@pytest.mark.parametrize("error", [0.5 + 1e-6, float("nan"), None])
def test_an_error_that_grows_or_vanishes_is_a_regression(error: float | None) -> None:
    (found,) = compare({"a": ROW}, {"a": {**ROW, "error": error}})
    assert found.figure == "error"
    assert found.worse


def test_rounding_is_none() -> None:
    now = copy.deepcopy(ROW)
    now["error"] += 1e-12
    now["value"] = [entry + 1e-12 for entry in now["value"]]
    assert compare({"a": ROW}, {"a": now}) == []


def test_the_committed_baseline_has_the_rows_that_are_measured() -> None:
    assert set(load(BASELINE)["rows"]) == {key(*where) for where in counted.grid()}


def test_a_row_that_comes_or_goes_is_said() -> None:
    (gone,) = compare({"a": ROW}, {})
    (new,) = compare({}, {"a": ROW})
    assert gone.worse
    assert not new.worse


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(module.gate, list(words))
    return result.exit_code, result.output


@pytest.fixture
def two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def grid() -> Iterator[tuple[str, str, int]]:
        yield "quadratic 10 x 6", "RMD", 10
        yield "quadratic 10 x 6", "HPO-SGLD", 10

    monkeypatch.setattr(module, "grid", grid)


@pytest.mark.usefixtures("two_rows")
def test_the_command_writes_compares_and_says_what_changed(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    assert run("--update", "--baseline", str(path))[0] == 0
    status, output = run("--baseline", str(path))
    assert (status, "2 rows as in the baseline" in output) == (0, True)
    document = json.loads(path.read_text(encoding="utf-8"))
    document["rows"]["quadratic 10 x 6 | RMD | T = 10"]["flops"] -= 1
    path.write_text(json.dumps(document), encoding="utf-8")
    status, output = run("--baseline", str(path))
    assert status == 1
    assert "WORSE" in output
    assert "--update" in output


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "there is no baseline"), ("{", "cannot be read"), ("[]", "has no rows")],
)
def test_a_baseline_that_is_missing_or_damaged_is_said(
    text: str | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "baseline.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    status, output = run("--baseline", str(path))
    assert status == 2
    assert reason in output
    assert "--update" in output


@pytest.mark.usefixtures("two_rows")
def test_an_interrupted_run_leaves_the_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Row:
        raise KeyboardInterrupt

    path = tmp_path / "baseline.json"
    path.write_text("kept", encoding="utf-8")
    monkeypatch.setattr(module, "measured", interrupted)
    status, output = run("--update", "--baseline", str(path))
    assert status == 130
    assert "as it was" in output
    assert path.read_text(encoding="utf-8") == "kept"
