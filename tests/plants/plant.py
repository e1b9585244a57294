"""Planted errors as data: where, what is replaced by what, and what that breaks.

One TOML file an area. A table `subjects.NAME` says what judges the code of that name:

    [subjects.SOBA]
    contracts = ["SOBA: *"]                              # of the audit; * stands for any text
    tests = ["tests/estimators_field/test_warm.py"]      # as pytest takes them

and each `[[plants]]` is one error in it, with the keys of `Plant`. The claims of the ledger that judge a
plant are those that the docstring of its file names.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, final

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent


@final
@dataclass(frozen=True)
class Subject:
    """A class or a function in which errors are planted.

    Attributes:
        name: its name; a class of the registry is named as in the source.
        contracts: names of contracts, as patterns.
        tests: files or tests, as pytest takes them.
    """

    name: str
    contracts: tuple[str, ...]
    tests: tuple[str, ...]


@final
@dataclass(frozen=True)
class Plant:
    """One error.

    Attributes:
        subject: name of the subject.
        file: the file, relative to the repository.
        old: text of the source, which occurs once in the file.
        new: what stands in its place.
        breaks: what is wrong then, in words; unique among the subject's plants.
        equivalent: why no check can reject it: the results stay within their stated errors. Empty for all but
            a few.
    """

    subject: str
    file: str
    old: str
    new: str
    breaks: str
    equivalent: str = ""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"{self.subject}: {self.breaks}"

    @property
    def source(self) -> str:
        """The file as it is."""
        return (ROOT / self.file).read_text(encoding="utf-8")

    def planted(self) -> str:
        """The file with the error in it.

        Raises:
            ValueError: unless the old text occurs exactly once.
        """
        source = self.source
        found = source.count(self.old)
        if found != 1:
            raise ValueError(
                f"old must occur once in {self.file}, got {found} times in the plant {self.name!r}; "
                "copy the text anew from the source, with as much around it as makes it unique"
            )
        return source.replace(self.old, self.new)


@cache
def subjects() -> dict[str, Subject]:
    """All subjects by name."""
    found: dict[str, Subject] = {}
    for document in _documents():
        for name, judges in document["subjects"].items():
            if name in found:
                raise ValueError(f"subject must stand in one file, got two of {name!r}; keep one")
            found[name] = Subject(name, tuple(judges["contracts"]), tuple(judges["tests"]))
    return found


@cache
def plants() -> tuple[Plant, ...]:
    """All plants, file after file."""
    return tuple(Plant(**entry) for document in _documents() for entry in document["plants"])


def _documents() -> list[dict[str, Any]]:
    files = sorted(FOLDER.glob("*.toml"))
    return [tomllib.loads(file.read_text(encoding="utf-8")) for file in files]
