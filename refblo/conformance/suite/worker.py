"""The process that a target runs in: one JSON line in, one framed message out, nothing pickled.

The messages have their own file descriptors: standard output and error are for the target, and it has no
standard input to wait on. Started by `refblo.conformance.suite.process`.
"""

import contextlib
import dataclasses
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from refblo.conformance.catalogue import Entry, entries
from refblo.conformance.suite.channel import CHANNEL_LOST, Message, framed
from refblo.conformance.suite.target import declared, load
from refblo.conformance.suite.view import Framework, Views, arrays_of, as_numpy, framework
from refblo.errors import RefbloError
from refblo.types import Estimand

_LONGEST = 10_000  # entries of an answer that are passed on
_TEXT = 2000  # characters of a message that are kept


def main(arguments: list[str]) -> int:
    """Serve calls until the input ends.

    Args:
        arguments: the target, the framework, the bytes that it may allocate, the parent's process number and
            the descriptor for the messages.
    """
    text, library_name = arguments[:2]
    memory, parent, channel = map(int, arguments[2:])
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # What the target starts by another program must not hold it open.
    os.set_inheritable(channel, False)
    try:
        _serve(text, library_name, memory, _own_input(), channel)
    except OSError:
        # The target's own errors are caught where it is called: these are of the channels.
        os._exit(CHANNEL_LOST)
    return 0


def _end_with(parent: int) -> None:
    """End the process group when the parent has: nothing must outlive a check that was killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _own_input() -> IO[str]:
    """Move the requests away from what a target may read from."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout = os.fdopen(
        1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )
    return requests


def _serve(
    text: str,
    library_name: str,
    memory: int,
    requests: IO[str],
    channel: int,
) -> None:
    # The library comes first: what it takes is not the target's.
    library = framework(library_name, "float64")
    _limit(memory)
    terms = None
    function, first = _guarded(lambda: load(text))
    if function is not None:
        found, first = _guarded(lambda: declared(function))
        if found is not None:
            first = {"status": "ready", "declared": dataclasses.asdict(found)}
            library = framework(library_name, found.dtype)
            terms = found.terms
    _send(channel, first)
    if first["status"] != "ready":
        return
    known = {entry.name: entry for entry in entries()}
    kept: dict[str, Views] = {}
    own = os.getpid()
    for line in requests:
        request: Message = json.loads(line)
        entry = known[request["entry"]]
        if entry.name not in kept:
            kept[entry.name] = Views(entry, library, terms)
        answer = _answer(function, kept[entry.name], entry, library, request)
        if os.getpid() != own:
            # A child that the target forked came back here: the call is its parent's to answer.
            os._exit(0)
        _send(channel, answer)


def _answer(
    function: Callable[[Any], Any],
    views: Views,
    entry: Entry,
    library: Framework,
    request: Message,
) -> Message:
    estimand = Estimand(request["estimand"])
    lam = np.array([float(number) for number in request["lam"]], dtype=np.float64)
    view = views.at(lam, estimand, request["seed"], own_noise=request["own_noise"])
    before = arrays_of(view)
    data = {name: array.copy() for name, array in entry.statement.data.items()}
    started = time.perf_counter()
    result, answer = _guarded(lambda: function(view))
    answer["seconds"] = time.perf_counter() - started
    if answer["status"] == "returned":
        answer |= _described(result, library, () if entry.scalars else lam.shape)
    after = arrays_of(view)
    answer["mutated"] = [
        name
        for name, array in before.items()
        if not np.array_equal(array, after[name], equal_nan=True)
    ] + [
        f"data[{name!r}]"
        for name, array in data.items()
        if not np.array_equal(array, entry.statement.data[name])
    ]
    return answer


def _described(result: object, library: Framework, shape: tuple[int, ...]) -> Message:
    """The returned vector, or what it is instead."""
    kind = f"{type(result).__module__}.{type(result).__qualname__}"
    expected = {"torch": "torch.", "jax": "jax", "numpy": "numpy."}[library.name]
    if not kind.startswith(expected) or not hasattr(result, "shape"):
        return {"status": "type", "message": kind}
    try:
        array = as_numpy(result)
    except (TypeError, RuntimeError, ValueError) as error:
        # A sparse tensor, one without data, one of a dtype that NumPy has not.
        return {"status": "type", "message": f"{kind} that is no dense array: {error}"[:_TEXT]}
    if not np.issubdtype(array.dtype, np.floating):
        return {"status": "type", "message": f"{kind} of dtype {array.dtype}"}
    if shape == () and array.size == 1:
        if array.shape != ():
            told = f"{kind} of shape {array.shape} where lam has the shape ()"
            return {"status": "type", "message": told}
        # One number is told as a vector of one.
        array = array.reshape(1)
    if array.size > _LONGEST:
        # No entry of the catalogue is nearly as long: its shape says what is wrong.
        return {"shape": list(array.shape), "dtype": str(array.dtype)}
    return {
        "value": [repr(float(x)) for x in array.astype(np.float64).ravel()],
        "shape": list(array.shape),
        "dtype": str(array.dtype),
    }


def _guarded(call: Callable[[], Any]) -> tuple[Any, Message]:
    """The result of a call, and how it ended."""
    try:
        return call(), {"status": "returned"}
    except SystemExit as error:
        return None, {"status": "exits", "message": f"status {error.code!r}"}
    except RefbloError as error:
        # Said by `target`, about the target: nobody needs to know where.
        return None, {"status": "refused", "message": str(error)[:_TEXT]}
    except MemoryError as error:
        return None, {"status": "memory", "message": _told(error)}
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        out_of_memory = "allocate memory" in str(error) or "RESOURCE_EXHAUSTED" in str(error)
        return None, {"status": "memory" if out_of_memory else "raised", "message": _told(error)}


def _told(error: BaseException) -> str:
    """The exception and where it was raised, in a line or two."""
    frames = traceback.extract_tb(error.__traceback__)
    # The last frame of the target's own: what comes after it is a library's.
    where = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"[:_TEXT]


def _limit(memory: int) -> None:
    """Let the process grow by so many bytes from here."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = 0
    statm = Path("/proc/self/statm")
    if statm.exists():
        used = int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))


def _send(channel: int, message: Message) -> None:
    """Write a message after all that was printed before it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError, OSError, AttributeError):
            stream.flush()
    data = framed(message)
    while data:
        data = data[os.write(channel, data) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
