"""The terminal: readable at any width, and with none at all."""

import io

import pytest
from rich.console import Console

from refblo.audit.summary import duration, figure, headline, used
from refblo.audit.terminal import Board, Lines, show
from refblo.commands.console import standard_output
from tests.audit import samples


def printed(width: int, *, terminal: bool) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    show(console, samples.everything())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("width", "terminal"), [(90, True), (120, True), (200, True), (180, False)]
)
def test_everything_is_there_at_any_width(width: int, terminal: bool) -> None:
    text = " ".join(printed(width, terminal=terminal).split())
    for expected in ("✓ holds", "✗ fails", "! error", "slope 2.0003 ± 1e-3", "constant 3"):
        assert expected in text
    assert "<depend> on theta" in text
    assert "[constant]" in text  # it is no markup of the terminal library
    assert "ball arithmetic" in text
    assert "5 of 9 rows hold" in text
    assert text.index("quadratic_ill_conditioned") < text.index("3 rows failed")


def test_output_that_is_no_terminal_is_wide_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    show(standard_output(), samples.everything())
    text = capsys.readouterr().out
    assert "\x1b" not in text
    holds = [line for line in text.splitlines() if "✓ holds" in line]
    assert len(holds) == 5
    assert all("distance" in line or "slope 2, constant 3" in line for line in holds)


def test_no_line_is_wider_than_the_terminal() -> None:
    for width in (60, 100, 160):
        assert max(map(len, printed(width, terminal=True).splitlines())) <= width


def test_a_log_has_one_line_a_row() -> None:
    console = Console(file=io.StringIO(), width=40)
    rows = samples.everything().rows
    lines = Lines(console, len(rows))
    for row in rows:
        lines.take(row)
    lines.take(samples.budget())
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert len(text.splitlines()) == len(rows) + 1
    assert "[3/9] error FMD: exact, last iterate | synth_1d 1m 15s" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("height", [3, 8, 40])
def test_the_board_keeps_the_bar_in_sight(height: int) -> None:
    rows = samples.everything().rows
    board = Board([row.contract for row in rows], 1)
    for row in reversed(rows[2:6]):  # results come in any order
        board.take(row)
    console = Console(file=io.StringIO(), width=90, height=height, force_terminal=True)
    with console.capture() as shown:
        console.print(board)
    lines = shown.get().splitlines()
    assert "audit 4/9" in lines[0]
    assert "latest: error FMD: exact, last iterate | synth_1d" in lines[1]
    if height == 40:
        assert "1/4" in next(line for line in lines if "FMD: exact, last iterate " in line[:40])


def test_a_low_terminal_shows_what_is_not_done() -> None:
    rows = samples.everything().rows
    done, failed, waiting = rows[3], rows[6], "RMD: exact"
    board = Board([done.contract, failed.contract, waiting], 0, [done, failed])
    for height, shown in ((7, (False, True, True)), (8, (True, True, True))):
        console = Console(file=io.StringIO(), width=90, height=height, force_terminal=True)
        with console.capture() as capture:
            console.print(board)
        table = capture.get().split("contract", 1)[1]
        found = [name in table for name in (done.contract, failed.contract, waiting)]
        assert tuple(found) == shown


def test_the_board_tells_what_comes_before_and_after_the_rows() -> None:
    rows = samples.everything().rows[:1]
    board = Board([rows[0].contract], 2)
    assert board._latest() == "starting the worker processes"
    board.take(rows[0])
    assert board._latest() == "error budgets 0/2"
    board.take(samples.budget("ridge"))
    assert board._latest() == "error budgets 1/2"


@pytest.mark.parametrize(
    ("margin", "text"),
    [
        (0.0, "< 0.1 %"),
        (0.5, "50 %"),
        (1.5, "150 %"),
        (40.0, "40 ×"),
        (3.2e7, "3e+07 ×"),
        (float("inf"), "∞"),
        (float("nan"), "–"),
    ],
)
def test_margins_are_readable(margin: float, text: str) -> None:
    assert used(margin) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0042, "4.2 ms"), (0.5, "500 ms"), (5.04, "5.0 s"), (125.3, "2m 05s")]
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_figures_have_three_digits() -> None:
    assert [figure(it) for it in (0.12345, float("-inf"), float("nan"))] == ["0.123", "−∞", "–"]


def test_headlines() -> None:
    assert headline(samples.audit(samples.exact_row())) == "Every contract holds"
    assert headline(samples.audit(planned=2)) == "Unfinished: 0 of 2 rows"
    assert headline(samples.everything()) == "3 rows failed; 1 row could not be checked"
