"""Files of vectors: their identifiers, flags and kinds of answers; changed files are refused."""

import json
from typing import Any

import numpy as np
import pytest

from refblo.errors import ArgumentError
from refblo.vectors.document import canonical, checksum, identifier
from refblo.vectors.flags import FLAGS
from refblo.vectors.read import vectors_of
from tests.vectors.committed import POSED, body, floats, vectors


def test_ids_follow_from_the_content() -> None:
    told = body("quadratic")
    vector = told["vectors"][0]
    assert vector["id"] == identifier(told, vector)
    answer = vector["answers"][0]
    changed = {**vector, "answers": [{**answer, "value": [*answer["value"][:-1], "1"]}]}
    assert identifier(told, changed) != vector["id"]
    moved = {**told, "lambda": ["1", "2", "3"]}
    assert identifier(moved, vector) != vector["id"]


def test_all_ids_differ() -> None:
    assert len(vectors()) == sum(len(body(name)["vectors"]) for name in POSED)


def test_every_flag_is_described_and_used() -> None:
    used = {flag for v in vectors().values() for a in v.answers for flag in a.flags}
    assert used == set(FLAGS)


def test_each_kind_of_answer_is_there() -> None:
    results = {a.result for v in vectors().values() for a in v.answers}
    assert results == {"valid", "acceptable", "invalid"}


def test_a_wrong_answer_is_no_valid_one() -> None:
    for vector in vectors().values():
        right = floats(vector.answers[0].value)
        for answer in vector.answers[1:]:
            gap = np.abs(floats(answer.value) - right).max()
            assert gap > 0.9e-6 * np.abs(right).max(), vector.id


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda told: told["lambda"].__setitem__(0, "0.5"), "checksum"),
        (
            lambda told: told["vectors"][0]["answers"][0]["value"].__setitem__(0, "1"),
            "checksum",
        ),
        (lambda told: told["vectors"][0]["answers"][0].update(result="fine"), r"\$\.vectors"),
        (lambda told: told["vectors"][0]["answers"][0]["value"].__setitem__(0, 0.1), "schema"),
        (lambda told: told["settings"].update(step_size="1e999999999"), "step_size"),
        (lambda told: told.update(extra=1), "extra"),
        (lambda told: told.pop("flags"), "flags"),
        (lambda told: told["problem"]["srepr"].update(inner="__import__['os']"), "srepr"),
    ],
)
def test_a_changed_file_is_refused(change: Any, text: str) -> None:
    told = body("quadratic")
    change(told)
    with pytest.raises(ArgumentError, match=text):
        vectors_of("changed.json", json.dumps(told).encode())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        # The checksum made to fit again: the id still tells.
        (lambda told: told["lambda"].__setitem__(0, "0.5"), "new id"),
        (lambda told: told["flags"].pop("wrong sign"), "description of each flag"),
    ],
)
def test_a_change_with_a_new_checksum_is_refused_too(change: Any, text: str) -> None:
    told = body("quadratic")
    change(told)
    told["checksum"] = checksum(told)
    with pytest.raises(ArgumentError, match=text):
        vectors_of("changed.json", json.dumps(told).encode())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04K\x01.",  # a pickle
        b"[]",
        b'{"schema_version": NaN}',
        b'{"a": 1, "a": 1}',
        b"[" * 100_000,
        b"\xff\xfe",
        b" " * (2**24 + 1),
    ],
)
def test_what_is_no_vector_file_is_refused(content: bytes) -> None:
    with pytest.raises(ArgumentError, match=r"bad\.json must (be|follow)"):
        vectors_of("bad.json", content)


def test_equal_values_have_one_text() -> None:
    assert canonical({"b": [1, "é"], "a": None}) == b'{"a":null,"b":[1,"\\u00e9"]}'
