"""The targets that the tests of `refblo check` judge, and what its documents must be."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema

from refblo.conformance.suite.present import to_html, to_json
from refblo.conformance.suite.rows import Result, Row

TARGETS = Path(__file__).parents[1] / "targets"


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
