"""Worker processes: every result arrives once, and a worker that ends early is an error, never a hang.

About 10 s of processor time: each worker is a fresh process that imports torch.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from refblo.parallel import WorkerError, stream


def squares(job: int) -> Iterator[int]:
    yield job**2
    yield -(job**2)


def ends_well_without_an_answer(job: int) -> Iterator[int]:
    if job:
        os._exit(0)
    yield job


def ends_badly(job: int) -> Iterator[int]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield job


def raises(job: int) -> Iterator[int]:
    yield job
    raise ZeroDivisionError("on purpose")


def yields_what_cannot_be_pickled(job: int) -> Iterator[object]:
    yield lambda: job


@pytest.mark.parametrize("workers", [1, 2])
def test_every_result_arrives_once(workers: int) -> None:
    results = list(stream(squares, range(1, 6), workers))
    assert sorted(results) == sorted(sign * k**2 for k in range(1, 6) for sign in (1, -1))


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (ends_well_without_an_answer, "exit code 0"),
        (ends_badly, "exit code -9"),
        (raises, "on purpose"),
        (yields_what_cannot_be_pickled, "pickle"),
    ],
)
@pytest.mark.timeout(60)
def test_a_worker_that_ends_early_is_an_error(
    work: Callable[[int], Iterator[object]], reason: str
) -> None:
    with pytest.raises(WorkerError, match=reason):
        list(stream(work, [1, 2], workers=2))


def told(job: int, delivered: int, reason: str) -> Iterator[str]:
    yield f"job {job} after {delivered}: {reason.splitlines()[0]}"


def one_of_three_ends(job: int) -> Iterator[int | str]:
    yield job
    if job == 2:
        os._exit(0)
    yield -job


@pytest.mark.timeout(60)
def test_what_stands_for_lost_results_lets_the_other_jobs_go_on() -> None:
    results = list(stream(one_of_three_ends, [1, 2, 3], workers=2, lost=told))
    lost = "job 2 after 1: its process ended with exit code 0"
    assert sorted(results, key=str) == sorted([1, -1, 2, 3, -3, lost], key=str)


@pytest.mark.timeout(60)
def test_a_worker_whose_work_raised_takes_the_next_job() -> None:
    results = list(stream(raises, [1, 2, 3], workers=2, lost=told))
    expected = [*(1, 2, 3), *(f"job {job} after 1: it raised:" for job in (1, 2, 3))]
    assert sorted(results, key=str) == sorted(expected, key=str)


PARENT = """
import os, signal, sys, time
from pathlib import Path
from refblo.parallel import stream
from tests.test_parallel import says_its_number
if __name__ == "__main__":
    for number in stream(says_its_number, [1, 2], 2):
        print(number, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def says_its_number(job: int) -> Iterator[int]:
    yield os.getpid()
    time.sleep(3600 * job)


@pytest.mark.full
def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT, encoding="utf-8")
    root = Path(__file__).resolve().parent.parent
    run = subprocess.run(
        [sys.executable, str(tmp_path / "parent.py")],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    number, end = int(run.stdout), time.monotonic() + 20
    while Path(f"/proc/{number}").exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not Path(f"/proc/{number}").exists()
