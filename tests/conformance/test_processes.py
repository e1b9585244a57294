"""What a target does by accident to processes and descriptors is a finding, and nothing that it starts stays.

About 10 s of processor time: one run of the suite with one restart, the rest without torch.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from refblo.cli import main
from refblo.conformance.suite import guard
from refblo.conformance.suite.channel import LARGEST, GarbledError, framed, parsed
from refblo.conformance.suite.present import lines, to_html, to_json
from refblo.conformance.suite.process import Limits, Process
from refblo.conformance.suite.rows import (
    Expectations,
    Finding,
    Kind,
    Outcome,
    Result,
    Row,
    Statistics,
)
from refblo.conformance.suite.run import Settings, _with_resolution, run
from refblo.conformance.suite.target import Declared
from refblo.conformance.suite.visible import visible
from refblo.types import Estimand

ROOT = Path(__file__).resolve().parents[2]
CARELESS = f"{Path(__file__).parent}/targets/careless.py"
NASTY = "\x1b[31mred\x1b[0m, half \udc80, <b>"


def found(names: tuple[str, ...]) -> dict[str, tuple[Outcome, list[tuple[Kind, str]]]]:
    result = run(
        Settings(
            f"{CARELESS}:careless",
            estimand="unrolled",
            entries=names,
            limits=Limits(seconds=30),
        )
    )
    return {
        row.name.split("/")[0]: (row.outcome, [(each.kind, each.text) for each in row.findings])
        for row in result.rows
    }


def test_accidents_with_descriptors_are_failed_rows_and_the_check_goes_on() -> None:
    rows = found(("quadratic", "scaled-identity", "outer-constant", "curved-hessian"))
    outcome, ((kind, text),) = rows["quadratic"]
    assert (outcome, kind) == (Outcome.FAILED, Kind.CHANNEL)
    assert "a line of a log" in text
    outcome, ((kind, text),) = rows["scaled-identity"]
    assert (outcome, kind) == (Outcome.RIGHT, Kind.PRINTS)
    assert "straight to the descriptor" in text
    # A child that it forked came back from the function as well.
    assert rows["outer-constant"] == (Outcome.RIGHT, [])
    outcome, ((kind, text),) = rows["curved-hessian"]
    assert (outcome, kind) == (Outcome.FAILED, Kind.RAISES)
    assert "\x1b[31mred" in text
    assert "\udc80" in text


@pytest.mark.full
def test_the_other_accidents() -> None:
    names = ("quadratic-direct", "converges-at-once", "two-eigenvalues", "ill-conditioned")
    rows = found((*names, "split-parameters", "example-weights"))
    assert rows["quadratic-direct"][0] is Outcome.FAILED
    assert rows["quadratic-direct"][1][0][0] is Kind.CHANNEL
    # Six megabytes of output.
    assert rows["converges-at-once"][0] is Outcome.RIGHT
    assert len(rows["converges-at-once"][1][0][1]) < 100
    assert rows["two-eigenvalues"] == (Outcome.RIGHT, [])
    assert rows["ill-conditioned"][1] == [(Kind.CHANNEL, "closed the channel of its answers")]
    assert rows["split-parameters"] == (Outcome.RIGHT, [])
    assert not processes_with("987654")
    assert rows["example-weights"][1] == [(Kind.SHAPE, "(3000000,), should be (9,)")]


def processes_with(word: str) -> list[int]:
    """The processes with this word on their command line."""
    return [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if word.encode() in _command_line(folder)
    ]


def _command_line(folder: Path) -> list[bytes]:
    try:
        return (folder / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def gone(word: str, seconds: float = 10.0) -> bool:
    """Whether no process has this word on its command line, within some seconds."""
    end = time.monotonic() + seconds
    while processes_with(word) and time.monotonic() < end:
        time.sleep(0.05)
    return not processes_with(word)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="processes are looked up in /proc"
)


@needs_proc
@pytest.mark.parametrize("leader", ["exit 0", "wait"])
def test_a_group_is_ended_whether_its_leader_lives_or_not(leader: str) -> None:
    tag, word = f"test-{os.getpid()}-{leader[0]}", f"9000{os.getpid()}"
    script = f"sleep {word} & setsid sleep {word} & sleep 0.2; {leader}"
    process = subprocess.Popen(
        ["sh", "-c", script], start_new_session=True, env={**os.environ, guard.TAG: tag}
    )
    while len(processes_with(word)) < 2:
        time.sleep(0.02)
    time.sleep(0.4)
    guard.end(process.pid, tag)
    process.wait()
    assert gone(word)
    assert guard.tagged(tag) == []


PARENT = """
import os, signal, subprocess, sys
tag, word, guardian = sys.argv[1:]
started = subprocess.Popen(
    ["sh", "-c", f"setsid sleep {word} & sleep {word} & wait"],
    start_new_session=True, env={**os.environ, "REFBLO_CHECK_TAG": tag},
)
words = [sys.executable, "-I", "-S", guardian, str(started.pid), str(os.getpid()), tag]
subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)
import time; time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""


@needs_proc
def test_the_guardian_ends_everything_when_its_parent_is_killed() -> None:
    word = f"8000{os.getpid()}"
    words = [sys.executable, "-S", "-c", PARENT, f"test-{os.getpid()}", word, str(guard.__file__)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert gone(word)


@needs_proc
@pytest.mark.full
def test_nothing_stays_of_a_target_that_dies_or_of_a_check_that_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    word = f"7000{os.getpid()}"
    monkeypatch.setenv("REFBLO_TEST_SLEEP", word)
    target = f"{CARELESS}:starts_and_dies"
    with Process(target, "torch", Limits()) as process:
        import numpy as np

        answer = process.call("quadratic", Estimand.UNROLLED, np.zeros(3), 0, own_noise=False)
        assert answer.status == "dies"
        assert answer.message.startswith("exit status 7")
        assert gone(word)
    check = subprocess.Popen(
        [sys.executable, "-m", "refblo", "check", target, "--entry", "network"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    while len(processes_with(word)) < 2:
        time.sleep(0.1)
        assert check.poll() is None
    check.kill()
    check.wait()
    assert gone(word)
    assert gone("refblo.conformance.suite.worker")


MESSAGE = {"status": "returned", "value": ["1.5"], "message": NASTY}


def test_a_message_arrives_as_it_was_sent_and_in_any_pieces() -> None:
    data = framed(MESSAGE) + b"more"
    for length in range(len(data) - 4):
        assert parsed(data[:length]) is None
    assert parsed(data) == (MESSAGE, b"more")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"x" + data,
        lambda data: data[:5] + b"x" + data[5:],
        lambda data: data[:-1] + b"x",
        lambda data: data[:8] + (LARGEST + 1).to_bytes(8, "big") + data[16:],
        lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
        lambda _: b"Traceback (most recent call last):\n",
        lambda _: b"{}\n",
    ],
)
def test_what_is_no_frame_is_noticed(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(GarbledError):
        parsed(spoil(framed(MESSAGE)))


def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(GarbledError, match="must have at most"):
        framed({"text": "x" * LARGEST})


ROW = Row("quadratic/unrolled", (), Outcome.RIGHT, error=1e-12, floor=1e-9, digits=12.0)


def a_result(*rows: Row, target: str = "mine.py:f", tolerance: float = 0.0) -> Result:
    declared = Declared(tolerance=tolerance)
    return Result(target, "torch", "quick", 0, declared, rows, (), Expectations(), {}, 1.0)


def test_control_characters_are_shown_escaped_and_kept_in_json() -> None:
    row = replace(ROW, outcome=Outcome.FAILED, findings=(Finding(Kind.RAISES, NASTY),))
    result = a_result(row, target=f"{NASTY}.py:f")
    shown = "\n".join(lines(result))
    assert "\\x1b[31mred\\x1b[0m, half \\udc80" in shown
    assert all(line.isprintable() for line in lines(result))
    page = to_html(result)
    assert "\x1b" not in page
    assert "\\x1b[31mred\\x1b[0m, half \\udc80, &lt;b&gt;" in page
    page.encode("utf-8")
    text = to_json(result)
    text.encode("ascii")
    assert json.loads(text)["rows"][0]["findings"][0]["text"] == f"raises: {NASTY}"
    assert visible("plain, ε, θ⁰") == "plain, ε, θ⁰"


def test_the_declared_tolerance_is_shown() -> None:
    assert any("tolerance of 1.0e-02" in line for line in lines(a_result(ROW, tolerance=0.01)))
    assert not any("tolerance" in line for line in lines(a_result(ROW)))


@pytest.mark.parametrize("statistics", [None, Statistics(200, 1e-6, 2.0, 0.99)])
def test_a_row_on_which_zero_would_pass_is_undecided(statistics: Statistics | None) -> None:
    assert _with_resolution(ROW) == ROW
    blind = _with_resolution(replace(ROW, floor=1.0, statistics=statistics))
    assert blind.outcome is Outcome.UNDECIDED
    assert "hides everything" in blind.reason
    result = a_result(ROW, blind)
    assert not result.passed
    assert list(lines(result))[-1].startswith("verdict: 1 rows are undecided")


@pytest.mark.full
def test_a_stochastic_target_whose_noise_hides_everything_is_undecided() -> None:
    (row,) = run(Settings(f"{CARELESS}:hidden_by_noise", entries=("quadratic-direct",))).rows
    assert row.outcome is Outcome.UNDECIDED
    assert "noise" in row.reason


class TestTheCommandLine:
    """Whatever is wrong with it is seen before a process is started."""

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (["--entry", "quadratc"], "did you mean 'quadratic'?"),
            (["--json", "{0}/a", "--html", "{0}/a"], "--json and --html must be two files"),
            (["--json", "{0}/a", "--html", "{0}/./b/../a"], "must be two files"),
            (["--json", "{0}"], "--json must be a file, got the folder"),
            (["--html", "{0}/file/a"], "--html must be a file that can be written"),
        ],
    )
    def test_a_mistake_has_exit_status_two(
        self,
        tmp_path: Path,
        words: list[str],
        text: str,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (tmp_path / "file").write_text("", encoding="utf-8")
        monkeypatch.setattr(Process, "start", None)
        placed = [word.format(tmp_path) for word in words]
        assert main(["check", "nowhere.py:f", *placed]) == 2
        assert text in capsys.readouterr().err
        assert [file.name for file in tmp_path.iterdir()] in (
            ["file"],
            ["b", "file"],
            ["file", "b"],
        )
