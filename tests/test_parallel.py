"""Worker processes: every result arrives once, and a worker that ends early is an error, never a hang.

About 10 s of processor time: each worker is a fresh process that imports torch.
"""

import os
import signal
from collections.abc import Callable, Iterator

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
        (ends_well_without_an_answer, r"exit codes \[0, 0\]"),
        (ends_badly, "exit codes .*-9"),
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
