"""The table of other libraries: its adapters exist, its page is what was found, nothing is unexplained.

The libraries themselves are run by `make peers`, in an environment of their own.
"""

import ast
import json
from pathlib import Path

import pytest

from refblo.conformance.catalogue import entries
from refblo.conformance.suite.rows import Expectations, Outcome, Result, Row
from tests.peers.page import render
from tests.peers.peers import PEERS, Cause, Peer, Whose
from tests.peers.run import PAGE, RESULTS, complaints

FOLDER = Path(__file__).parent / "targets"


def functions(file: str) -> set[str]:
    tree = ast.parse((FOLDER / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_adapter_exists_and_is_run_once() -> None:
    targets = [peer.target for peer in PEERS]
    assert len(set(targets)) == len(targets)
    for target in targets:
        file, _, name = target.partition(":")
        assert name in functions(file), target


def test_every_entry_exists() -> None:
    known = {entry.name for entry in entries()}
    for peer in PEERS:
        assert set(peer.entries) <= known, peer.target
        assert peer.cause is None or set(peer.cause.rows) <= set(peer.entries), peer.target


def test_the_page_is_what_was_found() -> None:
    records = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert PAGE.read_text(encoding="utf-8") == render(records)


def test_every_disagreement_is_explained_and_every_library_was_run() -> None:
    records = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert {record["target"] for record in records} == {peer.target for peer in PEERS}
    for record in records:
        assert record["complaints"] == [], record["target"]
        assert not record["disagrees"] or record["cause"] is not None, record["target"]


def test_at_least_six_mistakes_are_named() -> None:
    records = json.loads(RESULTS.read_text(encoding="utf-8"))
    mistakes = {
        record["cause"]["where"][0]
        for record in records
        if record["cause"]
        and record["cause"]["whose"] == Whose.THEIRS.value
        and record["diagnosis"]
    }
    assert len(mistakes) >= 6


def found(rows: list[Row]) -> Result:
    return Result("t", "torch", "quick", 0, None, tuple(rows), (), Expectations(), {}, 0.0)


RIGHT = Row("quadratic/unrolled", (), Outcome.RIGHT)
WRONG = Row("quadratic/unrolled", (), Outcome.WRONG)
CAUSE = Cause(Whose.THEIRS, ("json.decoder:JSONDecoder",), "text", ("zero",), ("quadratic",))


@pytest.mark.parametrize(
    ("cause", "row", "names", "expected"),
    [
        (None, RIGHT, [], []),
        (CAUSE, WRONG, ["zero"], []),
        (None, WRONG, [], ["accused on quadratic, and no cause is known"]),
        (
            CAUSE,
            RIGHT,
            ["zero"],
            [
                "a cause is given, but nothing disagrees",
                "was to disagree on quadratic, and does not",
            ],
        ),
        (CAUSE, WRONG, ["factor 2"], ["was to be diagnosed as zero, got ['factor 2']"]),
    ],
)
def test_a_cause_that_does_not_fit_is_said(
    cause: Cause | None, row: Row, names: list[str], expected: list[str]
) -> None:
    peer = Peer("json", "", "with_json.py:f", "m", ("quadratic",), cause=cause)
    assert complaints(peer, found([row]), [row], names) == expected


def test_a_place_that_the_library_does_not_have_is_said() -> None:
    cause = Cause(Whose.THEIRS, ("json.decoder:Missing", "json.nowhere:f"), "text")
    peer = Peer("json", "", "with_json.py:f", "m", ("quadratic",), cause=cause)
    told = complaints(peer, found([WRONG]), [WRONG], [])
    assert told == [
        "json.decoder:Missing is not in the library",
        "json.nowhere:f is not in the library",
    ]
