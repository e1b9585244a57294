"""Streams of results from worker processes: several jobs at once, each yielding results as it goes."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar, final

import torch

from refblo.errors import RefbloError

Job = TypeVar("Job")
Result = TypeVar("Result")
Lost = Callable[[Job, int, str], Iterable[Result]]
"""What stands for the results that did not come: from the job, how many came, and why there are no more."""

_RESULT, _DONE, _FAILED = "result", "done", "failed"
"""The kinds of message that a worker sends: a pickled result, the end of a job, a traceback."""


class WorkerError(RefbloError, RuntimeError):
    """A worker process ended before its work was done."""


@final
@dataclass(eq=False)
class _Worker(Generic[Job]):
    """A process with the job that it is at.

    Attributes:
        process: the worker process.
        pipe: to and from it, of its own: a worker that dies while it writes disturbs no other.
        job: what it is at.
        delivered: how many results of the job have come.
    """

    process: BaseProcess
    pipe: Connection
    job: Job
    delivered: int = 0

    def end(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.kill()
        self.process.join()


def stream(
    work: Callable[[Job], Iterable[Result]],
    jobs: Sequence[Job],
    workers: int,
    lost: Lost[Job, Result] | None = None,
) -> Iterator[Result]:
    """The results of all jobs, in the order in which they are finished.

    With one worker everything runs in this process. Workers are fresh processes with one torch thread
    each (a fork of a process that has started torch's threads can hang); closing the generator ends them.

    Args:
        work: a module-level function; jobs and results must be picklable.
        jobs: what to work on, the longest first.
        workers: how many processes.
        lost: makes results for those that a job still owed when its work raised or its worker ended; the
            other jobs go on. Without it that is an error.

    Raises:
        WorkerError: if a worker raises, dies, or ends without having finished its job, and `lost` is None.
    """
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield from work(job)
        return
    context = multiprocessing.get_context("spawn")
    waiting, running = deque(jobs), list[_Worker[Job]]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(_started(context, work, waiting.popleft()))
            for worker in _ready(running):
                kind, content = _message(worker)
                if kind == _RESULT:
                    worker.delivered += 1
                    result: Result = pickle.loads(content)
                    yield result
                    continue
                if kind == _FAILED:
                    reason = content.decode("utf-8", "replace")
                    if lost is None:
                        raise WorkerError(f"a worker process must finish its job, but {reason}")
                    yield from lost(worker.job, worker.delivered, reason)
                if not waiting or not _given(worker, waiting[0]):
                    running.remove(worker)
                    worker.end()
                else:
                    waiting.popleft()
    finally:
        for worker in running:
            worker.end()


def _started(
    context: SpawnContext, work: Callable[[Job], Iterable[object]], job: Job
) -> _Worker[Job]:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(work, theirs), daemon=True)
    process.start()
    # The worker holds the only other end: when it is gone, so is the pipe.
    theirs.close()
    worker = _Worker(process, ours, job)
    _given(worker, job)
    return worker


def _given(worker: _Worker[Job], job: Job) -> bool:
    """Give a worker its next job; whether it could be given, since the worker may be gone."""
    try:
        worker.pipe.send(job)
    except OSError:
        return False
    worker.job, worker.delivered = job, 0
    return True


def _ready(running: Sequence[_Worker[Job]]) -> list[_Worker[Job]]:
    """Wait for workers that have sent something, or have ended."""
    found = wait([each for worker in running for each in (worker.pipe, worker.process.sentinel)])
    return [
        worker for worker in running if worker.pipe in found or worker.process.sentinel in found
    ]


def _message(worker: _Worker[Any]) -> tuple[str, bytes]:
    """What a worker sent; a failure in its place if it ended without a word."""
    # What was sent before the end comes first.
    with contextlib.suppress(EOFError, OSError):
        if worker.pipe.poll(0):
            kind, content = worker.pipe.recv()
            return str(kind), bytes(content)
    worker.process.join()
    return _FAILED, f"its process ended with exit code {worker.process.exitcode}".encode()


def _serve(work: Callable[[Job], Iterable[object]], pipe: Connection) -> None:
    """Take jobs until there are none, and send their results."""
    # The parent alone answers an interruption: it ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(RuntimeError):
        torch.set_num_threads(1)
    while True:
        try:
            job: Job = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            for result in work(job):
                pipe.send((_RESULT, pickle.dumps(result)))
        except Exception:  # whatever it is, the parent is to know it
            pipe.send((_FAILED, f"it raised:\n{traceback.format_exc()}".encode()))
        else:
            pipe.send((_DONE, b""))


def _end_with_parent() -> None:
    """End when the parent has: a worker must not go on with a job that nobody waits for."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
