"""Which tests run a line, and how long they take: read from a run of the suite under coverage.

coverage run --rcfile=tests/mutation/coverage.ini -m pytest --durations=0 > durations.txt
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import final

from coverage import CoverageData

_DURATION = re.compile(r"^\s*(?P<seconds>[\d.]+)s (call|setup)\s+(?P<test>[^\s\[]+)", re.MULTILINE)

SECONDS = 40.0
"""How long the tests of one mutant may take together, but for the first."""


@final
@dataclass(frozen=True)
class Selection:
    """The tests that run each line.

    Attributes:
        tests: path and line → names of tests as pytest takes them, without parameters.
        seconds: name of a test → what all its parameters take.
    """

    tests: dict[tuple[str, int], frozenset[str]]
    seconds: dict[str, float]

    def of(self, path: str, line: int) -> list[str]:
        """Tests that run a line, the shortest first, as many as fit in `SECONDS`."""
        known = self.tests.get((path, line), frozenset())
        chosen, total = list[str](), 0.0
        for test in sorted(known, key=lambda name: (self.seconds.get(name, 0.0), name)):
            total += self.seconds.get(test, 0.0)
            if chosen and total > SECONDS:
                break
            chosen.append(test)
        return chosen


def read(data: Path, durations: Path, root: Path) -> Selection:
    """What a run under coverage left behind.

    Args:
        data: coverage's file, combined.
        durations: what pytest printed.
        root: the folder that holds the tests.
    """
    found = CoverageData(str(data))
    found.read()
    tests = {}
    for measured in found.measured_files():
        path = "refblo/" + measured.rpartition("/refblo/")[2]
        for line, contexts in found.contexts_by_lineno(measured).items():
            names = {name for context in contexts if (name := as_pytest(context, root))}
            tests[path, line] = frozenset(names)
    seconds: dict[str, float] = defaultdict(float)
    for match in _DURATION.finditer(durations.read_text(encoding="utf-8")):
        seconds[match["test"]] += float(match["seconds"])
    return Selection(tests, dict(seconds))


def as_pytest(context: str, root: Path) -> str | None:
    """`tests.test_noise.test_a` as tests/test_noise.py::test_a; None for what is no test of the suite."""
    parts = context.split(".")
    for length in range(len(parts) - 1, 0, -1):
        path = Path(*parts[:length]).with_suffix(".py")
        if (root / path).is_file() and parts[0] == "tests":
            return "::".join([path.as_posix(), *parts[length:]])
    return None
