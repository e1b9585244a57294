"""Judge planted errors, each in a fork of a process that has imported everything."""

import json
import math
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from tests.plants.checks import PlantCheck, Where, checks_of
from tests.plants.plant import Plant
from tests.plants.swap import changed_code, in_place

LIMIT = 60
"""Seconds of processor time within which a plant must be rejected."""

SHARE = {Where.AUDIT: 12.0, Where.LEDGER: 22.0, Where.TESTS: float(LIMIT)}
"""Seconds after which no further check of a kind is begun, so that each kind has its turn."""

STANDSTILL = 600.0
"""Seconds of wall time after which a fork that does not end is stopped, however little it computed."""


@final
@dataclass(frozen=True)
class PlantVerdict:
    """What became of a plant.

    Attributes:
        plant: the plant.
        by: the check that rejected it; None for a survivor.
        check_seconds: processor time of that check.
        seconds: wall time of all that were asked.
        timed_out: whether the time was up before a check rejected it.
    """

    plant: Plant
    by: PlantCheck | None
    check_seconds: float
    seconds: float
    timed_out: bool = False

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "plant": self.plant.name,
            "by": None if self.by is None else self.by.where.value,
            "check": None if self.by is None else self.by.name,
            "seconds": round(self.check_seconds, 2),
        }


def judge(plant: Plant) -> PlantVerdict:
    """Ask the checks of a plant one after another, until one rejects it or the time is up."""
    begun = time.monotonic()
    changed_code(plant)  # what cannot be planted is said here, not in the fork

    def ask(say: Callable[[object], None]) -> None:
        started = time.process_time()
        with in_place(plant):
            for check in checks_of(plant):
                if time.process_time() - started > SHARE[check.where]:
                    continue
                before = time.process_time()
                rejecting = check.rejecting()
                if rejecting is not None:
                    seconds = time.process_time() - before
                    say([rejecting.where.value, rejecting.name, seconds])
                    return

    said, timed_out = in_fork(ask)
    wall = time.monotonic() - begun
    if not said:
        return PlantVerdict(plant, None, 0.0, wall, timed_out)
    where, name, seconds = said[0]
    return PlantVerdict(plant, PlantCheck(Where(where), name), seconds, wall)


def in_fork(work: Callable[[Callable[[object], None]], None]) -> tuple[list[Any], bool]:
    """Run work in a fork, and take down what it says, line by line.

    Returns:
        What it said, and whether it was stopped because the time was up. A fork that ends by itself in
        any other way than by coming back said all that there is.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setpgid(0, 0)
            used = math.ceil(time.process_time())
            resource.setrlimit(resource.RLIMIT_CPU, (used + LIMIT, used + LIMIT))
            os.close(reading)

            def say(what: object) -> None:
                os.write(writing, (json.dumps(what) + "\n").encode())

            work(say)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    text, still = b"", False
    deadline = time.monotonic() + STANDSTILL
    while not still:
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        part = os.read(reading, 2**16) if ready else b""
        if ready and not part:
            break
        text, still = text + part, not ready
    os.close(reading)
    if still:
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    timed_out = still or os.waitstatus_to_exitcode(status) in (-signal.SIGXCPU, -signal.SIGKILL)
    return [json.loads(line) for line in text.decode().splitlines()], timed_out
