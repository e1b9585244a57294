"""The JSON document: valid under the published schema whatever is in it, and never half a file."""

import json
import math
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refblo.audit.json_report import schema, to_json
from refblo.audit.run import Audit, AuditOutcome, AuditRow
from refblo.contracts.contract import ContractFinding, Curve
from refblo.contracts.relations import RelationJudgement
from refblo.errors import ArgumentError
from refblo.files import write_atomically
from tests.audit import samples

VALIDATOR = jsonschema.Draft202012Validator(
    schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


def refuse(constant: str) -> float:
    raise AssertionError(f"{constant} is no JSON")


def written(audit: Audit, *, finished: bool = True) -> dict[str, object]:
    text = to_json(audit, finished=finished, written=samples.WRITTEN)
    loaded: dict[str, object] = json.loads(text, parse_constant=refuse)
    return loaded


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize(
    "audit",
    [samples.everything(), samples.audit(planned=3), samples.audit(samples.exact_row(), planned=3)],
    ids=["everything", "nothing yet", "a part"],
)
@pytest.mark.parametrize("finished", [True, False])
def test_documents_are_valid(audit: Audit, finished: bool) -> None:
    VALIDATOR.validate(written(audit, finished=finished))


def test_the_schema_refuses_what_is_no_document() -> None:
    good = written(samples.everything())
    for key in good:
        assert not VALIDATOR.is_valid({name: good[name] for name in good if name != key}), key
    assert not VALIDATOR.is_valid({**good, "surprise": 1})


@pytest.mark.parametrize(
    "change",
    [{"outcome": "perhaps"}, {"finding": None}, {"outcome": "error"}, {"seconds": -1.0}],
)
def test_the_schema_refuses_rows_that_contradict_themselves(change: dict[str, object]) -> None:
    good = written(samples.audit(samples.exact_row()))
    assert isinstance(good["rows"], list)
    assert VALIDATOR.is_valid(good)
    assert not VALIDATOR.is_valid({**good, "rows": [{**good["rows"][0], **change}]})


@given(
    margin=st.floats(),
    values=st.lists(st.floats(), max_size=4),
    words=st.text(alphabet=st.characters(codec="utf-8")),
)
def test_any_number_and_any_words_survive(margin: float, values: list[float], words: str) -> None:
    judgement = RelationJudgement(True, words, words, margin)
    curve = Curve("ε", words, tuple(values), tuple(values))
    finding = ContractFinding(judgement, curves=(curve,))
    row = AuditRow("c", "e", "Exact", words, "case", AuditOutcome.HOLDS, 1.0, finding)
    document = written(samples.audit(row))
    VALIDATOR.validate(document)
    assert isinstance(document["rows"], list)
    back = document["rows"][0]["finding"]
    assert back["measured"] == words
    for before, after in zip(
        [margin, *values], [back["margin"], *back["curves"][0]["at"]], strict=True
    ):
        assert float(after) == before or (math.isnan(float(after)) and math.isnan(before))


def test_completeness_is_told() -> None:
    whole = samples.audit(samples.exact_row())
    assert (written(whole)["complete"], written(whole)["passed"]) == (True, True)
    # All rows are there, but error budgets are still to come.
    assert written(whole, finished=False)["complete"] is False
    part = samples.audit(samples.exact_row(), planned=2)
    assert (written(part)["complete"], written(part)["passed"]) == (False, False)
    failed = samples.audit(samples.exact_row(distance=1.0))
    assert (written(failed)["complete"], written(failed)["passed"]) == (True, False)


def test_the_summary_counts_the_rows() -> None:
    assert written(samples.everything())["summary"] == {
        "planned": 9,
        "finished": 9,
        "holds": 5,
        "fails": 3,
        "error": 1,
        "seconds": pytest.approx(3 * 0.25 + 75 + 3 * 1.5 + 2 * 0.004),
    }


def test_the_command_repeats_the_audit() -> None:
    assert written(samples.everything())["command"] == (
        "refblo audit --quick --only 'FMD*' --only 'it'\"'\"'s' --seed 7 --device cpu --dtype float32"
    )


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "new" / "file.json"
    write_atomically(file, "old ε")
    assert file.read_text(encoding="utf-8") == "old ε"

    def interrupted(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(file, "new")
    assert file.read_text(encoding="utf-8") == "old ε"
    assert list(file.parent.iterdir()) == [file]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match=r"file must .*got .*file/report\.json.*another place"):
        write_atomically(tmp_path / "file" / "report.json", "x")
