"""A test vector file: how a problem and its questions become JSON, byte for byte the same each time."""

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import sympy
from flint import ctx

from refblo.balls.derivatives import decimal
from refblo.files import sweep, write_atomically
from refblo.vectors.answers import VectorAnswer, VectorQuestion, questions
from refblo.vectors.flags import FLAGS
from refblo.vectors.problems import Posed, formulas, problems

Json = Any

SCHEMA_VERSION = 1
DIGITS = 25
"""Digits of every answer: beyond quadruple rounding of a sum, well within the precision below."""

_PRECISION = 256  # bits; the enclosures are some 70 digits wide, so DIGITS of them are certain


def documents() -> dict[str, str]:
    """Every file's text by its name."""
    return {f"{posed.name}.json": text(document(posed)) for posed in problems()}


def write(directory: Path) -> list[Path]:
    """Write all files, and return where they are.

    Args:
        directory: is made if there is none.
    """
    directory.mkdir(parents=True, exist_ok=True)
    sweep(directory)
    paths = []
    for name, content in documents().items():
        paths.append(directory / name)
        write_atomically(paths[-1], content)
    return paths


def document(posed: Posed) -> dict[str, Json]:
    """A problem and all its questions, as JSON has it."""
    with ctx.workprec(_PRECISION):
        asked = questions(posed)
        body = _statement(posed)
        body["vectors"] = [_vector(body, question) for question in asked]
    used = {flag for question in asked for answer in question.answers for flag in answer.flags}
    body["flags"] = {
        name: {"bug_type": kind, "description": meaning}
        for name, (kind, meaning) in FLAGS.items()
        if name in used
    }
    unknown = used - set(FLAGS)
    if unknown:
        raise KeyError(f"FLAGS must say what {sorted(unknown)} mean; add a line for each")
    body["checksum"] = checksum(body)
    return body


def canonical(value: Json) -> bytes:
    """One text for equal values: keys sorted, no spaces, ASCII alone."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode(
        "ascii"
    )


def checksum(body: Mapping[str, Json]) -> str:
    """SHA-256 of everything in a file but the checksum itself."""
    rest = {name: value for name, value in body.items() if name != "checksum"}
    return "sha256:" + hashlib.sha256(canonical(rest)).hexdigest()


def identifier(body: Mapping[str, Json], vector: Mapping[str, Json]) -> str:
    """A vector's id: its estimand and a hash of all that it says and of the problem that it is about."""
    problem = {name: body[name] for name in PROBLEM_PARTS}
    rest = {name: value for name, value in vector.items() if name != "id"}
    digest = hashlib.sha256(canonical([problem, rest])).hexdigest()
    return f"{vector['estimand']}-{digest[:16]}"


PROBLEM_PARTS = (
    "schema_version",
    "problem",
    "lambda",
    "theta0",
    "noise",
    "inner_batches",
    "outer_batches",
    "settings",
)
"""What a file says about its problem, all of which goes into every id."""


def text(body: Mapping[str, Json]) -> str:
    """A file's text: innermost lists on one line, for a person to read."""
    return _laid_out(body, 0) + "\n"


def _laid_out(value: Json, depth: int) -> str:
    pad, end = " " * (depth + 1), " " * depth
    if isinstance(value, Mapping) and value:
        items = [
            f"{pad}{json.dumps(key, ensure_ascii=False)}: {_laid_out(entry, depth + 1)}"
            for key, entry in value.items()
        ]
        return "{\n" + ",\n".join(items) + f"\n{end}}}"
    if isinstance(value, list) and any(isinstance(entry, list | Mapping) for entry in value):
        return (
            "[\n" + ",\n".join(pad + _laid_out(entry, depth + 1) for entry in value) + f"\n{end}]"
        )
    return json.dumps(value, ensure_ascii=False)


def _statement(posed: Posed) -> dict[str, Json]:
    found, settings = formulas(posed), posed.settings
    step = "theta^{t+1} = theta^t - step_size d inner(lambda, theta^t)/d theta"
    if posed.noise is not None:
        step += " + noise[t]"
    return {
        "schema_version": SCHEMA_VERSION,
        "problem": {
            "name": posed.name,
            "kind": posed.kind,
            "words": {**found.words, "step": step},
            "srepr": {
                "inner": sympy.srepr(found.inner),
                "outer": sympy.srepr(found.outer),
                "initial": [sympy.srepr(entry) for entry in found.initial],
            },
            "arrays": {name: _decimals(array) for name, array in posed.arrays.items()},
        },
        "lambda": _decimals(posed.lam),
        "theta0": _decimals(posed.theta0),
        "noise": None if posed.noise is None else _decimals(posed.noise),
        "inner_batches": None if posed.inner_batches is None else posed.inner_batches.tolist(),
        "outer_batches": None if posed.outer_batches is None else posed.outer_batches.tolist(),
        "settings": {
            "step_size": _decimal(settings.step_size),
            "steps": settings.steps,
            "burn_in": settings.burn_in,
            "samples": settings.samples,
            "temperature": _decimal(settings.temperature),
        },
    }


def _vector(body: Mapping[str, Json], question: VectorQuestion) -> dict[str, Json]:
    vector = {
        "estimand": question.estimand,
        "estimator": question.estimator,
        "terms": question.terms,
        "answers": [_answer(answer) for answer in question.answers],
    }
    return {"id": identifier(body, vector), **vector}


def _answer(answer: VectorAnswer) -> dict[str, Json]:
    pairs = [decimal(entry, DIGITS) for entry in answer.vector.entries()]
    return {
        "result": answer.result,
        "flags": list(answer.flags),
        "value": [middle for middle, _ in pairs],
        "radius": [radius for _, radius in pairs],
    }


def _decimals(array: np.ndarray) -> Json:
    if array.ndim == 0:
        return _decimal(float(array))
    return [_decimals(entry) if array.ndim > 1 else _decimal(float(entry)) for entry in array]


def _decimal(number: float) -> str:
    """The decimal string that the double is, all of it."""
    return format(Decimal(number), "f")
