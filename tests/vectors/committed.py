"""The files of vectors that the package carries, as the tests read them."""

import json
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from refblo.vectors.problems import problems
from refblo.vectors.read import Vector, shipped

Json = Any
DATA = resources.files("refblo.vectors") / "data"
POSED = {posed.name: posed for posed in problems()}


@cache
def vectors() -> dict[str, Vector]:
    """All vectors by their ids, read and checked once."""
    return shipped()


def committed(name: str) -> str:
    return (DATA / f"{name}.json").read_text(encoding="utf-8")


def body(name: str) -> dict[str, Json]:
    found: dict[str, Json] = json.loads(committed(name))
    return found


def floats(numbers: tuple[object, ...]) -> np.ndarray:
    return np.array([float(number) for number in numbers])  # type: ignore[arg-type]  # Fractions
