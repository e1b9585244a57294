"""Streams of results from worker processes: several jobs at once, each yielding results as it goes."""

import contextlib
import multiprocessing
import pickle
import queue
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from typing import TypeVar

import torch

from refblo.errors import RefbloError

Job = TypeVar("Job")
Result = TypeVar("Result")

_SECONDS_BETWEEN_CHECKS = 0.2
"""How long the parent waits for a result before it looks whether the workers are still alive."""

_RESULT, _DONE, _FAILED = "result", "done", "failed"
"""The kinds of message that a worker sends: a pickled result, the end of a job, a traceback."""

_Message = tuple[str, bytes | str]


class WorkerError(RefbloError, RuntimeError):
    """A worker process ended before its work was done."""


def stream(
    work: Callable[[Job], Iterable[Result]], jobs: Sequence[Job], workers: int
) -> Iterator[Result]:
    """The results of all jobs, in the order in which they are finished.

    With one worker everything runs in this process. Workers are fresh processes with one torch thread
    each (a fork of a process that has started torch's threads can hang); closing the generator ends them.

    Args:
        work: a module-level function; jobs and results must be picklable.
        jobs: what to work on, the longest first.
        workers: how many processes.

    Raises:
        WorkerError: if a worker raises, dies, or ends without having finished its job.
    """
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield from work(job)
        return
    context = multiprocessing.get_context("spawn")
    waiting, messages = context.Queue(), context.Queue()
    for job in jobs:
        waiting.put(job)
    count = min(workers, len(jobs))
    processes = [
        context.Process(target=_serve, args=(work, waiting, messages), daemon=True)
        for _ in range(count)
    ]
    for process in processes:
        waiting.put(None)
        process.start()
    try:
        finished = 0
        while finished < len(jobs):
            kind, content = _next_message(messages, processes)
            if kind == _DONE:
                finished += 1
            elif kind == _FAILED:
                raise WorkerError(
                    f"a worker process must finish its job, but it raised:\n{content!s}"
                )
            elif isinstance(content, bytes):
                result: Result = pickle.loads(content)
                yield result
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _next_message(
    messages: "multiprocessing.Queue[_Message]", processes: Sequence[BaseProcess]
) -> _Message:
    """Wait for a message from a worker.

    Raises:
        WorkerError: if none can come any more: a worker died, or all of them have ended.
    """
    while True:
        # Asked before the wait: what a worker sent before it ended is then received by the wait.
        codes = [process.exitcode for process in processes]
        try:
            return messages.get(timeout=_SECONDS_BETWEEN_CHECKS)
        except queue.Empty:
            # A worker ends with status 0 when no job is left. With jobs unfinished, one with another status
            # took its job along; and so did somebody if all have ended, whatever their status.
            if any(codes) or None not in codes:
                raise WorkerError(
                    f"worker processes must finish their jobs, got exit codes {codes}; run with one "
                    "worker to see why"
                ) from None


def _serve(
    work: Callable[[Job], Iterable[Result]],
    waiting: "multiprocessing.Queue[Job | None]",
    messages: "multiprocessing.Queue[_Message]",
) -> None:
    """Take jobs until there are none, and send their results."""
    # The parent alone answers an interruption: it ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(RuntimeError):
        torch.set_num_threads(1)
    while (job := waiting.get()) is not None:
        try:
            for result in work(job):
                # Pickled here: the queue would do it in a thread that loses the result when it cannot.
                messages.put((_RESULT, pickle.dumps(result)))
        except Exception:  # whatever it is, the parent is to know it
            messages.put((_FAILED, traceback.format_exc()))
            return
        messages.put((_DONE, b""))
