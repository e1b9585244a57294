"""refblo check: whatever a target does is a finding, and the rest of the suite still runs."""

import sys
from pathlib import Path

import pytest

from refblo.conformance.suite import run as running
from refblo.conformance.suite.process import Limits, Process
from refblo.conformance.suite.rows import Kind, Outcome
from refblo.conformance.suite.run import Settings, run
from refblo.conformance.suite.target import Declared, declared, load
from refblo.errors import ArgumentError
from tests.conformance.suite.targets_and_documents import check_document, row, target

MISBEHAVIOURS = [
    ("quadratic", Kind.RAISES, "ZeroDivisionError: on purpose (line"),
    ("quadratic-direct", Kind.PRINTS, "hello"),
    ("scaled-identity", Kind.SHAPE, "(2,), should be (3,)"),
    ("converges-at-once", Kind.TYPE, "builtins.list"),
    ("two-eigenvalues", Kind.NOT_FINITE, "entries [0, 1, 2, 3] of 4"),
    ("outer-constant", Kind.EXITS, "status 3"),
    ("curved-hessian", Kind.MUTATES, "lam"),
    ("ill-conditioned", Kind.STATE, "two calls at the same lam"),
    ("example-weights", Kind.STATE, "two calls at the same lam"),
    ("example-weights-direct", Kind.DIES, "exit status 7"),
    ("inner-minibatches", Kind.HANGS, "no answer within 6 s"),
    ("all-minibatches", Kind.MEMORY, "allocate"),
    ("decay-in-the-optimiser", Kind.RAISES, "EOFError"),
    ("network", Kind.DTYPE, "float32 for float64"),
]


def test_each_misbehaviour_is_a_finding(subtests: pytest.Subtests) -> None:
    """Fourteen ways to misbehave, and one entry on which the target does not: one run shows them all."""
    names = (*(name for name, _, _ in MISBEHAVIOURS), "momentum")
    limits = Limits(seconds=6, memory=2**31)
    result = run(
        Settings(target("bad.py:misbehaves"), estimand="unrolled", entries=names, limits=limits)
    )
    for name, kind, text in MISBEHAVIOURS:
        with subtests.test(name):
            found = row(result, f"{name}/unrolled").findings
            assert any(finding.kind is kind and text in finding.text for finding in found), found
    with subtests.test("the rest of the suite still runs"):
        assert row(result, "momentum/unrolled").outcome is Outcome.RIGHT
        assert row(result, "momentum/unrolled").findings == ()
        assert not result.passed
        check_document(result)
    with subtests.test("printing alone does not make a target wrong"):
        assert row(result, "quadratic-direct/unrolled").outcome is Outcome.RIGHT
        assert not row(result, "quadratic-direct/unrolled").bad
    with subtests.test("what is kept between calls is named"):
        diagnosis = row(result, "example-weights/unrolled").diagnosis
        assert diagnosis is not None
        assert diagnosis.name == "accumulated over calls"


@pytest.fixture
def _modules_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that is imported here must not stay for the tests that come after."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


UNUSABLE = [
    ("bad.py:two_arguments", "must take one argument"),
    ("bad.py:unknown_capability", "telepathy"),
    ("bad.py:missing", "which is not there"),
    ("bad.py:not_a_function", "must be a function"),
    ("nowhere.py:anything", "must name a file that exists"),
]


@pytest.mark.usefixtures("_modules_as_they_were")
@pytest.mark.parametrize(("name", "text"), UNUSABLE)
def test_what_is_no_target_is_refused(name: str, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        declared(load(target(name)))


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("bad.py:two_arguments", Kind.REFUSED, "must take one argument"),
        *(
            pytest.param(name, Kind.REFUSED, text, marks=pytest.mark.full)
            for name, text in UNUSABLE[1:]
        ),
    ],
)
def test_a_target_that_cannot_be_used_is_a_finding(name: str, kind: Kind, text: str) -> None:
    result = run(Settings(target(name)))
    (finding,) = result.findings
    assert finding.kind is kind
    assert text in finding.text
    assert not result.passed
    assert result.rows == ()
    check_document(result)


@pytest.mark.full
@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        ("import time; time.sleep(3600)", Kind.HANGS, "while it is imported: no answer within 6 s"),
        ("import os; os._exit(5)", Kind.DIES, "while it is imported: exit status 5"),
        ("raise SystemExit(4)", Kind.EXITS, "while it is imported: status 4"),
        ("x = bytearray(2**40)", Kind.MEMORY, "while it is imported: MemoryError"),
        ("import nothing_of_that_name", Kind.IMPORT, "nothing_of_that_name"),
        ("def f(problem: return", Kind.IMPORT, "SyntaxError"),
    ],
)
def test_what_happens_while_a_target_is_imported_is_a_finding(
    tmp_path: Path, code: str, kind: Kind, text: str
) -> None:
    (tmp_path / "mine.py").write_text(code + "\n", encoding="utf-8")
    limits = Limits(start_seconds=6 if kind is Kind.HANGS else 60)
    result = run(Settings(f"{tmp_path}/mine.py:f", limits=limits))
    (finding,) = result.findings
    assert (finding.kind, text in finding.text) == (kind, True), finding
    assert not result.passed
    check_document(result)


@pytest.mark.full
def test_odd_answers_are_findings_and_printing_at_import_is_noted(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        """
import torch

print("at your service")


def f(problem):
    match problem.name:
        case "quadratic":
            return problem.lam.to_sparse()
        case "network":
            return problem.lam.bfloat16()
        case "example-weights":
            return problem.lam.long()
        case "network-mean":
            problem.theta0.zero_()
            return problem.lam[None]
""",
        encoding="utf-8",
    )
    names = ("quadratic", "network", "example-weights", "network-mean")
    result = run(Settings(f"{tmp_path}/mine.py:f", estimand="unrolled", entries=names))
    kinds = {r.name.split("/")[0]: [f.kind for f in r.findings] for r in result.rows}
    assert kinds == {
        "quadratic": [Kind.TYPE],
        "network": [Kind.TYPE],
        "example-weights": [Kind.TYPE],
        "network-mean": [Kind.MUTATES, Kind.SHAPE],
    }
    (noted,) = result.findings
    assert noted.kind is Kind.PRINTS
    assert "at your service" in noted.text


def test_silence_three_times_in_a_row_is_enough() -> None:
    names = ("quadratic", "network", "example-weights", "network-moving-start", "network-mean")
    settings = Settings(target("bad.py:always_hangs"), estimand="unrolled", entries=names)
    # A process that is given no time to start is one that does not answer.
    with Process(settings.target, "torch", Limits(start_seconds=0.01)) as process:
        planned = running._planned(settings, Declared())
        rows = list(running._rows(settings, Declared(), planned, process))
    told = {row.name.split("/")[0]: (row.outcome, row.reason) for row in rows}
    # What an entry needs and the target does not declare is skipped all the same.
    assert told["network-moving-start"][0] is Outcome.SKIPPED
    assert [told[name] for name in (*names[:3], names[4])] == [
        *[(Outcome.FAILED, "")] * 3,
        (Outcome.FAILED, "not run: no answer 3 times in a row"),
    ]
    assert all(row.findings[0].kind is Kind.HANGS for row in rows if row.bad and not row.reason)


@pytest.mark.full
def test_a_target_that_always_hangs_is_not_waited_for_forever() -> None:
    names = ("quadratic", "network", "example-weights", "quadratic-direct", "network-mean")
    limits = Limits(seconds=1)
    settings = Settings(
        target("bad.py:always_hangs"), estimand="unrolled", entries=names, limits=limits
    )
    result = run(settings)
    assert result.count(Outcome.FAILED) == 4
    assert result.count(Outcome.SKIPPED) == 1
    waited = ["no answer 3 times in a row" in row.reason for row in result.rows if row.bad]
    assert waited == [False, False, False, True]
    assert not result.passed
