"""Streams of results from worker processes: several jobs at once, each yielding results as it goes."""

import contextlib
import multiprocessing
import queue
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch

from refblo.errors import RefbloError

Job = TypeVar("Job")
Result = TypeVar("Result")

_PATIENCE = 0.2
"""Seconds between looks at whether the workers are still alive."""


class WorkerError(RefbloError, RuntimeError):
    """A worker process ended before its work was done."""


def stream(
    work: Callable[[Job], Iterable[Result]], jobs: Sequence[Job], workers: int
) -> Iterator[Result]:
    """The results of all jobs, in the order in which they are finished.

    With one worker everything runs in this process. Workers are fresh processes with one torch thread
    each; closing the generator ends them.

    Args:
        work: a module-level function; jobs and results must be picklable.
        jobs: what to work on, the longest first.
        workers: how many processes.

    Raises:
        WorkerError: if a worker dies.
    """
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield from work(job)
        return
    context = multiprocessing.get_context("spawn")
    waiting, done = context.Queue(), context.Queue()
    for job in jobs:
        waiting.put(job)
    count = min(workers, len(jobs))
    processes = [
        context.Process(target=_serve, args=(work, waiting, done), daemon=True)
        for _ in range(count)
    ]
    for process in processes:
        waiting.put(None)
        process.start()
    try:
        finished = 0
        while finished < len(jobs):
            try:
                result = done.get(timeout=_PATIENCE)
            except queue.Empty:
                # A worker that ends well has no job left to take; with jobs unfinished, one that is gone
                # with a bad exit took its job along.
                if any(process.exitcode for process in processes):
                    codes = [process.exitcode for process in processes]
                    raise WorkerError(
                        f"worker processes must finish their jobs, got exit codes {codes}; run with one "
                        "worker to see why"
                    ) from None
                continue
            if result is None:
                finished += 1
            else:
                yield result
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _serve(
    work: Callable[[Job], Iterable[Result]],
    waiting: "multiprocessing.Queue[Job | None]",
    done: "multiprocessing.Queue[Result | None]",
) -> None:
    """Take jobs until there are none; None after the results of each."""
    # The parent alone answers an interruption: it ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(RuntimeError):
        torch.set_num_threads(1)
    while (job := waiting.get()) is not None:
        for result in work(job):
            done.put(result)
        done.put(None)
