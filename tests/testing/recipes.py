"""Reads a recipe of CONTRIBUTING.md and applies it to a copy of the tree."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

ROOT = Path(__file__).resolve().parents[2]

_STEP = re.compile(
    r"^(?P<kind>Create|In) `(?P<path>[^`]+)`(?:, after `(?P<after>[^`]+)`, add)?:\n\n"
    r"```(?:python|text)\n(?P<text>.*?)^```$",  # text: a part of a file, which no formatter may touch
    re.MULTILINE | re.DOTALL,
)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@final
@dataclass(frozen=True)
class Edit:
    """A file to create, or lines to add after a line.

    Attributes:
        path: of the file, from the repository's root.
        after: the line that the text follows, or None for a new file.
        text: the file, or the lines.
    """

    path: str
    after: str | None
    text: str

    def apply(self, tree: Path) -> None:
        """Make the edit in a copy of the tree."""
        path = tree / self.path
        if self.after is None:
            assert not path.exists(), f"{self.path} is there already"
            path.write_text(self.text, encoding="utf-8")
            return
        text = path.read_text(encoding="utf-8")
        assert text.count(f"{self.after}\n") == 1, f"{self.path} must have the line {self.after!r}"
        path.write_text(
            text.replace(f"{self.after}\n", f"{self.after}\n{self.text}"), encoding="utf-8"
        )


@final
@dataclass(frozen=True)
class Recipe:
    """What a recipe asks for: edits, and then commands."""

    edits: tuple[Edit, ...]
    commands: tuple[str, ...]


def recipe(name: str, page: str | None = None) -> Recipe:
    """The recipe between the two comments that name it."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8") if page is None else page
    _, _, rest = text.partition(f"<!-- recipe: {name} -->")
    body, end, _ = rest.partition(f"<!-- end of recipe: {name} -->")
    assert end, f"CONTRIBUTING.md has no recipe {name!r}"
    edits = tuple(
        Edit(found["path"], found["after"], found["text"]) for found in _STEP.finditer(body)
    )
    commands = tuple(
        line.removeprefix("$ ")
        for block in _CONSOLE.findall(body)
        for line in block.splitlines()
        if line.startswith("$ ")
    )
    return Recipe(edits, commands)


def copy_of_the_tree(folder: Path) -> Path:
    """The package, without anything that a recipe does not touch."""
    shutil.copytree(
        ROOT / "refblo", folder / "refblo", ignore=shutil.ignore_patterns("__pycache__")
    )
    return folder


def run(tree: Path, commands: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run commands in the copy until one fails."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    for command in commands:
        program, *words = command.split()
        assert program == "python", f"a recipe's command must start with python, got {command!r}"
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=110,
        )
        if done.returncode:
            return done
    return done
