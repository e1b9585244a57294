"""Run the tests of a line on a copy of the repository in which that line has an error.

A mutant's tests run in a fork of a process that has imported what does not change: torch alone takes longer
to import than most tests take.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, final

import pytest

from tests.mutation.sites import Kind, Site

LIMIT = 150.0
"""Seconds after which a mutant that has not ended counts as found: it does not end."""


@final
class Outcome(Enum):
    """What became of a mutant."""

    FOUND = "found"
    TIME_LIMIT = "found by the time limit"
    SURVIVED = "survived"
    NOT_RUN = "no test runs the line"

    @property
    def found(self) -> bool:
        """Whether the tests noticed it."""
        return self in (Outcome.FOUND, Outcome.TIME_LIMIT)


@final
@dataclass(frozen=True)
class Verdict:
    """A mutant and what became of it.

    Attributes:
        site: the mutant.
        outcome: what became of it.
        tests: how many tests were asked, parameters not counted.
        seconds: how long that took.
    """

    site: Site
    outcome: Outcome
    tests: int
    seconds: float

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        site = {**asdict(self.site), "kind": self.site.kind.value}
        return {"site": site, "outcome": self.outcome.value, "tests": self.tests} | {
            "seconds": round(self.seconds, 1)
        }

    @staticmethod
    def of(plain: dict[str, Any]) -> "Verdict":
        """From JSON."""
        site = Site(**{**plain["site"], "kind": Kind(plain["site"]["kind"])})
        return Verdict(site, Outcome(plain["outcome"]), plain["tests"], plain["seconds"])


def copy_of(root: Path, to: Path) -> None:
    """A copy of the files that git knows."""
    shutil.rmtree(to, ignore_errors=True)
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True, text=True
    ).stdout.split("\0")
    for name in filter(None, names):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, to / name)


def require_passing(tests: Sequence[str], copy: Path, log: Path) -> None:
    """Check that tests pass on the copy without an error in it, so that one that fails has found something.

    Raises:
        RuntimeError: if they do not.
    """
    if _status(tests, copy, log) != pytest.ExitCode.OK:
        raise RuntimeError(f"the tests fail without a mutant:\n{log.read_text(encoding='utf-8')}")


def judge(site: Site, tests: Sequence[str], copy: Path, log: Path) -> Verdict:
    """Whether the tests fail on the mutant.

    Args:
        site: the mutant.
        tests: what to ask, as pytest takes them.
        copy: a copy of the repository, changed and changed back.
        log: where pytest's output goes.
    """
    if not tests:
        return Verdict(site, Outcome.NOT_RUN, 0, 0.0)
    file, begun = copy / site.path, time.monotonic()
    source = file.read_text(encoding="utf-8")
    file.write_text(site.applied(source), encoding="utf-8")
    try:
        status = _status(tests, copy, log)
    finally:
        file.write_text(source, encoding="utf-8")
    outcome = (
        Outcome.TIME_LIMIT
        if status is None
        else Outcome.SURVIVED
        if status == pytest.ExitCode.OK
        else Outcome.FOUND
    )
    return Verdict(site, outcome, len(tests), time.monotonic() - begun)


def _status(tests: Sequence[str], copy: Path, log: Path) -> int | None:
    """Of pytest in a fork; None if it took too long."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _run(tests, copy, log)
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            if code == _BROKEN:
                raise RuntimeError(f"pytest could not be run:\n{log.read_text(encoding='utf-8')}")
            return code
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _run(tests: Sequence[str], copy: Path, log: Path) -> None:
    """Of the fork: never returns."""
    status = _BROKEN
    try:
        os.setpgid(0, 0)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(copy)
        os.environ["PYTHONPATH"] = str(copy)
        sys.path[:] = [str(copy), *(entry for entry in sys.path if "refblo" not in entry)]
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
            del sys.modules[name]
        status = int(pytest.main([*_OPTIONS, *tests]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


_BROKEN = 70
"""The status of a fork in which pytest could not be run."""

# What was imported before the fork cannot be rewritten, which pytest warns of.
_OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")

OURS = {"refblo", "tests", "proofs_check", "asv_bench"}
"""Packages that a fork imports anew."""
