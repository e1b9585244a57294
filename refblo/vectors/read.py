"""Reading test vectors: what is not as the schema says, or was changed, is refused.

Nothing in a file is ever executed: the formulas in sympy's srepr are text to this module.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, final

import jsonschema

from refblo.errors import ArgumentError
from refblo.vectors.document import checksum, identifier

Json = Any
_LARGEST = 2**24  # bytes of a file, far above any of ours: what is larger is no test vector


@final
@dataclass(frozen=True)
class KnownAnswer:
    """A known answer.

    Attributes:
        result: "valid", "acceptable" or "invalid".
        flags: the mistakes or the convention that give it.
        value: the known value, exactly as the file has it.
        radius: the truth lies within value ± radius, entry by entry.
    """

    result: str
    flags: tuple[str, ...]
    value: tuple[Fraction, ...]
    radius: tuple[Fraction, ...]


@final
@dataclass(frozen=True)
class Vector:
    """A question with its known answers.

    Attributes:
        id: of the vector, a hash of its content.
        problem: the problem's name.
        estimand: what is asked for.
        estimator: by which method; "exact" for none in particular.
        answers: the valid one first.
    """

    id: str
    problem: str
    estimand: str
    estimator: str
    answers: tuple[KnownAnswer, ...]


def shipped() -> dict[str, Vector]:
    """The vectors that come with refblo, by id."""
    home = resources.files("refblo.vectors").joinpath("data")
    files = sorted(home.iterdir(), key=lambda found: found.name)
    return _collected(found for found in files if found.name.endswith(".json"))


def in_directory(directory: Path) -> dict[str, Vector]:
    """The vectors of all .json files in a directory, by id.

    Raises:
        ArgumentError: if one of them is malformed or was tampered with, or there is none.
    """
    found = _collected(sorted(directory.glob("*.json")))
    if not found:
        raise ArgumentError(
            f"directory must hold test vectors, got {directory} without any; write them with refblo vectors"
        )
    return found


def _collected(paths: "Iterator[Traversable] | list[Path]") -> dict[str, Vector]:
    found: dict[str, Vector] = {}
    for path in paths:
        for vector in vectors_of(path.name, path.read_bytes()):
            if vector.id in found:
                raise ArgumentError(
                    f"{path.name} must have vectors of its own, got {vector.id} twice"
                )
            found[vector.id] = vector
    return found


def vectors_of(name: str, content: bytes) -> tuple[Vector, ...]:
    """The vectors of one file.

    Args:
        name: of the file, for messages.
        content: its bytes.

    Raises:
        ArgumentError: if it is no JSON, not as the schema says, or its checksum or an id is not that of
            its content.
    """
    body = checked(name, content, "vectors.schema.json")
    if body["checksum"] != checksum(body):
        raise ArgumentError(
            f"{name} must have the checksum of its content, got another: the file was changed; get "
            "the original file again"
        )
    for vector in body["vectors"]:
        if vector["id"] != identifier(body, vector):
            raise ArgumentError(
                f"{name} must have ids that follow from its content, got {vector['id']} for another "
                "content; a changed vector needs a new id"
            )
        size = len(body["lambda"])
        unknown = {flag for answer in vector["answers"] for flag in answer["flags"]} - set(
            body["flags"]
        )
        wrong = [a for a in vector["answers"] if not len(a["value"]) == len(a["radius"]) == size]
        if wrong or unknown or vector["answers"][0]["result"] != "valid":
            raise ArgumentError(
                f"{name} must have for each vector the valid answer first, {size} entries in each answer "
                f"and a description of each flag, got otherwise in {vector['id']}"
            )
    return tuple(_vector(body, vector) for vector in body["vectors"])


def results_of(name: str, content: bytes) -> dict[str, tuple[str, ...]]:
    """An implementation's results: id ↦ its numbers as decimal strings.

    Raises:
        ArgumentError: if the file is no JSON or not as the schema says.
    """
    body = checked(name, content, "results.schema.json")
    return {key: tuple(value) for key, value in body.items()}


def checked(name: str, content: bytes, schema: str) -> dict[str, Json]:
    """A JSON document that is as its schema says.

    Raises:
        ArgumentError: if it is not.
    """
    if len(content) > _LARGEST:
        raise ArgumentError(f"{name} must be at most {_LARGEST} bytes, got {len(content)}")
    try:
        body = json.loads(
            content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"{name} must be a JSON document in UTF-8: {error}") from error
    fault = jsonschema.exceptions.best_match(_validator(schema).iter_errors(body))
    if fault is not None:
        told = f"{fault.json_path}: {fault.message[:200]}"
        raise ArgumentError(f"{name} must follow {schema}, got an error at {told}")
    found: dict[str, Json] = body
    return found


@lru_cache
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    source = resources.files("refblo.vectors").joinpath(schema).read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(json.loads(source))


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """An object whose keys must differ: of two equal ones a reader would silently drop one."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def _no_number(text: str) -> Json:
    raise ValueError(f"{text} is not JSON")


def _vector(body: Mapping[str, Json], vector: Mapping[str, Json]) -> Vector:
    answers = tuple(
        KnownAnswer(
            answer["result"],
            tuple(answer["flags"]),
            tuple(Fraction(number) for number in answer["value"]),
            tuple(Fraction(number) for number in answer["radius"]),
        )
        for answer in vector["answers"]
    )
    return Vector(
        vector["id"], body["problem"]["name"], vector["estimand"], vector["estimator"], answers
    )
