"""The committed history as data: the figures of each commit, and in which commits a count changed."""

import json
import math
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import final

from asv_bench.history import ANSWERS, ROOT

Figures = dict[str, dict[tuple[str, ...], float]]
"""Benchmark → values of its parameters → figure; what is n/a or failed is not there."""


@final
@dataclass(frozen=True)
class Commit:
    """What was measured at one commit.

    Attributes:
        hash: in full.
        date: when it was committed, in milliseconds since 1970.
        subject: the first line of its message.
        figures: counted figures of the commit.
    """

    hash: str
    date: int
    subject: str
    figures: Figures


@final
@dataclass(frozen=True)
class Change:
    """The largest change of one figure in one commit.

    Attributes:
        commit: hash of the commit.
        figure: the benchmark's name as asv shows it.
        where: the values of its parameters.
        before: at the measured commit before.
        after: at this one.
        others: how many further combinations of parameters changed.
    """

    commit: str
    figure: str
    where: tuple[str, ...]
    before: float
    after: float
    others: int

    @property
    def in_words(self) -> str:
        """One phrase."""
        share = f"{self.after / self.before - 1:+.1%}" if self.before else f"{self.after:+g}"
        where = ", ".join(word for word in self.where if not word.isdigit())
        more = f", and {self.others} more" if self.others else ""
        return f"{self.figure} {share} ({where}{more})"


def read(results: Path, machine: str) -> list[Commit]:
    """The commits that were measured under a machine's name, the oldest first."""
    found = []
    for path in results.joinpath(machine).glob("*-*.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        columns = {name: place for place, name in enumerate(document["result_columns"])}
        figures: Figures = {}
        for name, values in document["results"].items():
            combinations = product(*values[columns["params"]])
            figures[name] = {
                combination: value
                for combination, value in zip(
                    combinations, values[columns["result"]] or (), strict=False
                )
                if value is not None and not math.isnan(value)
            }
        commit = document["commit_hash"]
        found.append(Commit(commit, document["date"], subject(commit), figures))
    return sorted(found, key=lambda commit: commit.date)


def subject(commit: str) -> str:
    """The first line of a commit's message; nothing where the repository does not have it."""
    command = ["git", "-C", str(ROOT), "show", "--no-patch", "--format=%s", commit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def names(results: Path) -> dict[str, str]:
    """Benchmark → the name that asv shows."""
    listed = json.loads(results.joinpath("benchmarks.json").read_text(encoding="utf-8"))
    return {
        name: value.get("pretty_name", name)
        for name, value in listed.items()
        if isinstance(value, dict)
    }


def changes(commits: Sequence[Commit], shown: Mapping[str, str]) -> list[Change]:
    """What changed from one measured commit to the next, the largest change of each count.

    Args:
        commits: in their order.
        shown: benchmark → the name that is shown.
    """
    found = []
    for before, after in pairwise(commits):
        for name in sorted(before.figures.keys() & after.figures.keys()):
            if name == ANSWERS:
                continue
            old, new = before.figures[name], after.figures[name]
            changed = [key for key in old if key in new and old[key] != new[key]]
            if changed:
                largest = max(changed, key=lambda key: _size(old[key], new[key]))
                figures = (old[largest], new[largest])
                found.append(Change(after.hash, shown[name], largest, *figures, len(changed) - 1))
    return found


def _size(before: float, after: float) -> float:
    return abs(after - before) / max(abs(before), 1e-300)
