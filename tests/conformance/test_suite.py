"""refblo check: right targets pass, wrong ones are named, and whatever a target does is a finding."""

import importlib.util
import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from refblo.cli import main
from refblo.conformance.catalogue import entries
from refblo.conformance.catalogue.entry import CAPABILITIES
from refblo.conformance.suite import expected
from refblo.conformance.suite import run as running
from refblo.conformance.suite.present import lines, to_html, to_json
from refblo.conformance.suite.process import Limits, Process
from refblo.conformance.suite.rows import Kind, Outcome, Result, Row
from refblo.conformance.suite.run import Settings, run
from refblo.conformance.suite.target import Declared, declared, load
from refblo.errors import ArgumentError

TARGETS = Path(__file__).parent / "targets"
needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason='JAX is not installed (pip install "refblo[jax]")',
)


def target(name: str) -> str:
    return f"{TARGETS}/{name}"


def row(result: Result, name: str) -> Row:
    (found,) = [row for row in result.rows if row.name == name]
    return found


def schema() -> dict[str, Any]:
    home = resources.files("refblo.conformance.suite")
    found: dict[str, Any] = json.loads(home.joinpath("check.schema.json").read_text("utf-8"))
    return found


def check_document(result: Result) -> None:
    jsonschema.validate(json.loads(to_json(result)), schema())
    page = to_html(result)
    assert "http" not in page
    assert "<script" not in page


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


def test_what_a_target_lacks_is_never_passed() -> None:
    settings, declares = Settings("none.py:at_all"), Declared(estimands=("gibbs",))
    planned = running._planned(settings, declares)
    # Nothing is asked of it, so there need be no such target.
    with Process(settings.target, "torch", settings.limits) as process:
        rows = tuple(running._rows(settings, declares, planned, process))
    result = running._result(settings, declares, rows, (), 0.0)
    assert {row.outcome for row in result.rows} == {Outcome.SKIPPED}
    assert not result.passed
    assert "nothing is known" in list(lines(result))[-1]


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("neumann_plus_one", ("quadratic-direct",)),
        pytest.param("neumann_plus_one", ("example-weights",), marks=pytest.mark.full),
        pytest.param("neumann", ("quadratic-direct", "example-weights"), marks=pytest.mark.full),
    ],
)
def test_either_meaning_of_k_terms_is_accepted_and_named(name: str, names: tuple[str, ...]) -> None:
    result = run(Settings(target(f"good_torch.py:{name}"), entries=names))
    assert result.passed
    conventions = {row.convention for row in result.rows if row.outcome is Outcome.RIGHT}
    assert conventions == {f"K = 5 means {'K + 1' if 'plus' in name else 'K'} terms"}


@pytest.mark.full
def test_a_series_without_its_factor_is_named() -> None:
    names = ("quadratic-direct", "example-weights")
    result = run(Settings(target("good_torch.py:neumann_unscaled"), entries=names))
    assert result.consensus()[0] == ("series not scaled", 2)


@pytest.mark.full
def test_single_precision_is_judged_as_such() -> None:
    result = run(Settings(target("good_torch.py:single"), entries=("network", "quadratic-direct")))
    assert result.passed
    assert all(row.floor is None or 1e-5 < row.floor < 1e-3 for row in result.rows)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("biased_with_own_noise", Outcome.WRONG),
        pytest.param("with_own_noise", Outcome.RIGHT, marks=pytest.mark.full),
    ],
)
def test_a_stochastic_target_is_judged_by_its_mean(name: str, outcome: Outcome) -> None:
    result = run(
        Settings(target(f"good_torch.py:{name}"), entries=("langevin",), estimand="unrolled")
    )
    (found,) = result.rows
    assert found.outcome is outcome
    assert found.statistics is not None
    assert found.statistics.seeds == 200
    assert found.statistics.error_rate == 1e-6
    assert found.statistics.power == 0.99
    assert found.error is not None
    assert (found.error > found.statistics.detectable) == (outcome is Outcome.WRONG)


@pytest.mark.full
def test_numpy_with_a_declared_tolerance() -> None:
    result = run(
        Settings(
            target("good_numpy.py:by_differences"),
            framework="numpy",
            entries=("quadratic-direct", "inner-minibatches"),
        )
    )
    assert result.passed, list(lines(result))
    assert result.count(Outcome.RIGHT) == 2


@needs_jax
@pytest.mark.parametrize(
    "names",
    [
        ("quadratic-direct",),
        pytest.param(("network-minibatches", "adam", "moving-mean"), marks=pytest.mark.full),
    ],
)
def test_a_right_target_in_jax_passes(names: tuple[str, ...]) -> None:
    result = run(Settings(target("good_jax.py:unrolled"), framework="jax", entries=names))
    assert result.passed, list(lines(result))
    assert result.count(Outcome.RIGHT) >= len(names)


@needs_jax
@pytest.mark.full
def test_a_wrong_target_in_jax_is_named() -> None:
    wrong = run(
        Settings(
            target("good_jax.py:half_the_indirect_term"),
            framework="jax",
            entries=("quadratic-direct", "curved-hessian"),
            estimand="unrolled",
        )
    )
    assert wrong.consensus()[0] == ("factor 1/2 in the indirect term", 2)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "framework", "rows"),
    [
        ("good_torch.py:unrolled", "torch", 35),
        ("good_torch.py:implicit", "torch", 11),
        ("good_torch.py:single", "torch", 30),
        ("good_numpy.py:by_differences", "numpy", 20),
        pytest.param("good_jax.py:unrolled", "jax", 35, marks=needs_jax),
    ],
)
def test_right_targets_pass_the_thorough_profile(name: str, framework: str, rows: int) -> None:
    settings = Settings(target(name), framework, full=True, seed=1, limits=Limits(seconds=120))
    result = run(settings)
    assert result.passed, list(lines(result))
    assert result.count(Outcome.RIGHT) >= rows
    check_document(result)


class TestExpectedFailures:
    rows = (
        Row("a/unrolled", (), Outcome.WRONG),
        Row("a/pathwise", (), Outcome.RIGHT),
        Row("b/unrolled", (), Outcome.RIGHT),
    )

    def test_met_passed_and_unmatched_are_told_apart(self) -> None:
        found = expected.compare(
            self.rows, {"a/unrolled": "known", "b": "was wrong", "c/unrolled": "mistyped"}
        )
        assert found.met == {"a/unrolled": "known"}
        assert found.passed == ("b",)
        assert found.unmatched == ("c/unrolled",)

    def test_an_entry_s_name_stands_for_its_rows(self) -> None:
        assert expected.compare(self.rows, {"a": "known"}).met == {"a/unrolled": "known"}

    @pytest.mark.parametrize("text", ["[table]\nx = 1", '"a" = ""', "no toml", '"a" = 3'])
    def test_malformed_files_are_refused(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "expected.toml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ArgumentError, match="--expected-failures"):
            expected.read(path)


class TestTheCommand:
    def test_a_right_target_passes_and_what_it_lacks_is_counted(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["check", target("good_torch.py:unrolled")]
        for name in ("quadratic", "network-moving-start", "adam-zero-gradient", "everything-drawn"):
            words += ["--entry", name]
        words += ["--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")]
        assert main(words) == 0
        assert "nothing speaks against it" in capsys.readouterr().out
        assert (tmp_path / "a.html").read_text("utf-8").startswith("<!doctype html>")
        told = json.loads((tmp_path / "a.json").read_text("utf-8"))
        jsonschema.validate(told, schema())
        assert told["passed"] is True
        assert {row["name"]: row["outcome"] for row in told["rows"]} == {
            "quadratic/unrolled": "right",
            "quadratic/implicit": "skipped",
            "network-moving-start/unrolled": "right",
            "adam-zero-gradient/unrolled": "right",
            "everything-drawn/unrolled": "right",
            "everything-drawn/pathwise": "right",
        }
        assert all(row["digits"] > 12 for row in told["rows"] if row["digits"] is not None)

    def test_exit_status_one_for_what_speaks_against_it(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "a.json"
        assert main(["check", target("bad_import.py:anything"), "--json", str(path)]) == 1
        assert "verdict: it could not be run" in capsys.readouterr().out
        told = json.loads(path.read_text("utf-8"))
        jsonschema.validate(told, schema())
        (finding,) = told["findings"]
        assert finding["kind"] == "import"
        assert "broken on purpose" in finding["text"]

    def test_an_expected_failure_is_none(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["check", target("bad.py:misbehaves"), "--estimand", "unrolled"]
        words += ["--entry", "scaled-identity"]
        path = tmp_path / "expected.toml"
        path.write_text(
            '"scaled-identity/unrolled" = "drops an entry"\n"nothing" = "?"\n', encoding="utf-8"
        )
        words += ["--entry", "quadratic-direct", "--expected-failures", str(path)]
        assert main(words) == 0
        told = capsys.readouterr().out
        assert "returns the wrong shape" in told
        assert "expected to fail, and does: scaled-identity/unrolled (drops an entry)" in told
        assert "no row has the expected failure's name: nothing" in told

    @pytest.mark.parametrize(
        "words", [["check"], ["check", "no-colon"], ["check", "a:b", "--framework", "tensorflow"]]
    )
    def test_exit_status_two_for_a_wrong_command_line(
        self, words: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(words) == 2
        assert capsys.readouterr().err


class TestTheCatalogue:
    def test_every_trait_is_there(self) -> None:
        traits = set().union(*(entry.traits for entry in entries()))
        assert traits >= {
            "Hessian is c·I",
            "solver converges exactly before its last iteration",
            "several tensors coupled through the Hessian",
            "direct term",
            "step size is not 1",
            "weight decay in the optimiser",
            "momentum",
            "exactly zero gradient under Adam",
            "constant added to the outer loss",
            "one hyperparameter and one parameter",
            "a tensor without dimensions",
            "the step size depends on lam",
            "a batch is a pair of arrays",
            "many inner minimisers",
            "no inner minimiser",
        }

    def test_names_are_unique_and_sizes_differ(self) -> None:
        found = entries()
        assert len({entry.name for entry in found}) == len(found)
        one = "one hyperparameter and one parameter"
        assert all(
            (entry.lam.size != entry.theta0.size) != (one in entry.traits) for entry in found
        )
        assert all(entry.rule.step_size != 1 for entry in found)

    def test_every_capability_is_needed_somewhere(self) -> None:
        assert set().union(*(entry.needs for entry in entries())) == set(CAPABILITIES)

    def test_some_entries_need_nothing(self) -> None:
        assert sum(not entry.needs for entry in entries()) >= 3
