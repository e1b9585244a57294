"""The way from `make gpu` to its page, on the CPU: parts, archive, resuming, refusals. About 4 s."""

import ast
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from click import BadParameter
from click.testing import CliRunner

from asv_bench import at_scale
from asv_bench.at_scale import TINY, largest_batch
from asv_bench.gpu import __main__ as command
from asv_bench.gpu.archive import Archive, MachineFacts, PartResult, archives, facts
from asv_bench.gpu.closed_form import on_device
from asv_bench.gpu.draws import largest_difference, same_words
from asv_bench.gpu.page import page
from asv_bench.gpu.parts import LIMIT, PARTS, Part
from refblo.cost import Cost, Evaluations
from refblo.errors import ArgumentError

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
MACHINE = MachineFacts("NVIDIA H100 80GB HBM3", "550.1", "12.4", "2.11", "3.12", 2**36, "a" * 40)

WRITES = """
import json, sys, pathlib
pathlib.Path(sys.argv[1]).write_text(json.dumps({"answer": 42}))
print("done")
"""


def part(tmp_path: Path, body: str, name: str = "a-part", needs: tuple[str, ...] = ()) -> Part:
    """A part that runs some lines."""
    path = tmp_path / f"lines_{name.replace('-', '_')}.py"
    path.write_text(body, encoding="utf-8")
    return Part(name, "runs some lines", ("runpy_module", "{result}"), (), 5, needs)


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are files of tmp_path instead of modules."""

    def of(self: Part, device: str, result: str, *, small: bool) -> list[str]:
        return [sys.executable, str(tmp_path / f"lines_{self.name.replace('-', '_')}.py"), result]

    monkeypatch.setattr(Part, "command", of)


def call(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(command.main, ["--device", "cpu", "--no-page", *words])
    return result.exit_code, result.output


def test_all_parts_end_within_the_session() -> None:
    assert sum(each.expected for each in PARTS) <= 25 * 60
    assert all(each.expected <= LIMIT for each in PARTS)
    assert len({each.name for each in PARTS}) == len(PARTS)


@pytest.mark.usefixtures("lines")
def test_what_ended_is_not_run_again_and_what_failed_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = part(tmp_path, WRITES, "good"), part(tmp_path, "raise SystemExit(3)", "bad")
    monkeypatch.setattr(command, "PARTS", (good, bad))
    monkeypatch.setattr(command, "chosen", lambda _: [good, bad])
    folder = tmp_path / "archive"
    words = ("--archive", str(folder), "--commit", "b" * 40)
    status, output = call(*words)
    assert status == 1
    assert "status 3" in output
    found = Archive(folder).load("good")
    assert found is not None
    assert found.ended
    assert found.found == {"answer": 42}
    part(tmp_path, WRITES, "bad")
    status, output = call(*words)
    assert status == 0
    assert "good" in output
    assert "there already" in output


@pytest.mark.usefixtures("lines")
def test_a_part_that_takes_too_long_is_ended_and_said(tmp_path: Path) -> None:
    slow = part(tmp_path, "import time\nprint('begun', flush=True)\ntime.sleep(600)", "slow")
    result = command.run(slow, "cpu", small=True, limit=1.0)
    assert result.status is None
    assert "begun" in result.output
    assert not result.ended


def test_a_missing_package_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = Part("lacks", "needs what is not there", ("none",), (), 5, ("no_such_package",))
    monkeypatch.setattr(command, "chosen", lambda _: [lacking])
    status, output = call("--archive", str(tmp_path / "archive"), "--commit", "c")
    assert status == 2
    assert "got no no_such_package" in output
    assert not (tmp_path / "archive").exists()


@pytest.mark.parametrize("change", ["driver", "commit", "torch", "device"])
def test_an_archive_of_another_machine_is_refused(tmp_path: Path, change: str) -> None:
    archive = Archive(tmp_path / "archive")
    archive.begin(MACHINE)
    archive.begin(MACHINE)
    with pytest.raises(ArgumentError, match=rf"--archive must be of this machine.*{change}"):
        archive.begin(MachineFacts(**{**asdict(MACHINE), change: "another"}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said() -> None:
    result = CliRunner().invoke(command.main, ["--device", "cuda", "--no-page"])
    assert result.exit_code == 2
    assert "got cuda and no GPU" in result.output


def test_an_unknown_part_is_refused_with_the_known_ones() -> None:
    status, output = call("nothing")
    assert status == 2
    assert "closed-form" in output


@pytest.mark.parametrize("name", ["RMD", "HPO-SGLD, with noise"])
def test_estimators_agree_with_the_closed_form(name: str) -> None:
    found = on_device(name, CPU, 6, 1e9)
    assert found.holds
    assert found.seconds is not None
    assert found.peak == found.counted
    assert (found.transfers, found.host_synchronisations) == (0, 0)


def test_a_wrong_answer_publishes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asv_bench.gpu.closed_form.ROUNDING", 0.0)
    found = on_device("RMD", CPU, 10, 1e9)
    assert not found.holds
    assert found.seconds is None


def test_draws_of_this_device_are_those_of_the_cpu() -> None:
    assert same_words(CPU)
    assert largest_difference(CPU, torch.float32, 1000) == 0


def test_the_largest_batch_is_the_one_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def counted(batch: int, *_: object) -> Cost:
        return Cost(0, 0, 0, 0, 100 + 50 * batch, Evaluations())

    monkeypatch.setattr(at_scale, "counted", counted)
    assert largest_batch(CPU, TINY, "float32", 1000) == 16  # 900 bytes are 0.9 of the memory
    assert largest_batch(CPU, TINY, "float32", 999) == 8
    with pytest.raises(BadParameter, match="must hold one image, got 100 bytes"):
        largest_batch(CPU, TINY, "float32", 100)
    with pytest.raises(BadParameter, match="does not say how much memory"):
        largest_batch(CPU, TINY, "float32", 0)


def test_the_page_shows_each_machine_by_itself(tmp_path: Path) -> None:
    assert "No GPU has run this yet." in page([])
    archive = Archive(tmp_path / MACHINE.folder)
    archive.begin(MACHINE)
    now = datetime(2026, 11, 28, tzinfo=UTC).timestamp()
    row = {
        "estimator": "RMD",
        "error": 1e-15,
        "seconds": 0.002,
        "roof": 0.001,
        "peak": 1712,
        "counted": 1712,
        "transfers": 0,
        "host_synchronisations": 0,
    }
    closed = {"size": 1000, "steps": 10, "rows": [row, {**row, "seconds": None}]}
    archive.save(PartResult("closed-form", 9.0, now - 3 * 86400, 0, "", closed))
    archive.save(PartResult("tests", 9.0, now - 4 * 86400, None, "", {}))
    text = page(archives(tmp_path))
    assert "Last measured {ago}`2026-11-25`" in text
    assert "wrong answer" in text
    assert "ran out of time" in text
    assert MACHINE.device in text


def test_what_is_known_of_a_cpu() -> None:
    found = facts(CPU, "abc")
    assert found.driver == "none"
    assert json.loads(json.dumps(found.folder)) == found.folder


def test_asv_can_import_every_benchmark() -> None:
    # asv puts the folder of the benchmarks on the path, and the repository only where it is told to.
    for path in sorted((ROOT / "asv_bench" / "benchmarks").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert not (node.module or "").startswith("asv_bench"), path.name
