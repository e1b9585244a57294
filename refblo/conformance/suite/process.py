"""The parent's side of a target's process: calls with a time limit, and what became of each."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, final

import numpy as np
from jaxtyping import Float64

from refblo.conformance.suite.target import Declared
from refblo.types import Estimand

Array = np.ndarray


@final
@dataclass(frozen=True, eq=False)
class Answer:
    """What became of one call.

    Attributes:
        status: "returned", "raised", "exits", "memory", "type", "hangs" or "dies".
        value: the returned vector, flat, if there is one.
        shape: as it was returned.
        dtype: as it was returned.
        message: what was raised, returned instead, or how the process ended.
        mutated: the inputs that the call changed.
        printed: what it printed.
        seconds: wall time.
    """

    status: str
    value: Float64[Array, " v"] | None = None
    shape: tuple[int, ...] = ()
    dtype: str = ""
    message: str = ""
    mutated: tuple[str, ...] = ()
    printed: str = ""
    seconds: float = 0.0


@final
@dataclass(frozen=True)
class Limits:
    """What a target may use.

    Attributes:
        seconds: for one call.
        start_seconds: for importing it.
        memory: bytes that its process may grow by.
    """

    seconds: float = 20.0
    start_seconds: float = 60.0
    memory: int = 4 * 2**30


@final
class Process:
    """A target in a process of its own, started again after it hangs or dies."""

    def __init__(self, target: str, framework: str, limits: Limits) -> None:
        self._command = [
            *(sys.executable, "-m", "refblo.conformance.suite.worker"),
            *(target, framework, str(limits.memory)),
        ]
        self._limits = limits
        self._child: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as this object)
        self.printed_on_import = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        self._errors.close()

    def start(self) -> Declared | Answer:
        """Start it and import the target: what it declares, or why it cannot be imported."""
        self._stop()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment |= {"JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu")}
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            # A group of its own, so that what the target starts ends with it.
            start_new_session=True,
        )
        message = self._read(self._limits.start_seconds)
        if isinstance(message, Answer):
            return message
        self.printed_on_import = str(message.get("printed", ""))
        if message["status"] == "ready":
            told = message["declared"]
            told["capabilities"] = tuple(told["capabilities"])
            told["estimands"] = tuple(told["estimands"])
            return Declared(**told)
        return _answer(message)

    @property
    def running(self) -> bool:
        """Whether there is a process to talk to."""
        return self._child is not None and self._child.poll() is None

    def call(
        self,
        entry: str,
        estimand: Estimand,
        lam: Float64[Array, " p"],
        seed: int,
        *,
        own_noise: bool,
    ) -> Answer:
        """Call the target once, in a new process if the last one is gone."""
        failed = self.ask(entry, estimand, lam, seed, own_noise=own_noise)
        return self.answer() if failed is None else failed

    def ask(
        self,
        entry: str,
        estimand: Estimand,
        lam: Float64[Array, " p"],
        seed: int,
        *,
        own_noise: bool,
    ) -> Answer | None:
        """Begin a call, whose answer `answer` waits for; an answer already if it cannot be begun."""
        if not self.running:
            begun = self.start()
            if isinstance(begun, Answer):
                return begun
        request = {
            "entry": entry,
            "estimand": estimand.value,
            "lam": [repr(float(x)) for x in lam],
            "seed": seed,
            "own_noise": own_noise,
        }
        child = self._child
        if child is None or child.stdin is None:
            return Answer("dies", message="the process could not be started")
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
        except (BrokenPipeError, OSError):
            return self._died()
        return None

    def answer(self) -> Answer:
        """Wait for the answer to what was asked."""
        message = self._read(self._limits.seconds)
        return message if isinstance(message, Answer) else _answer(message)

    def _read(self, seconds: float) -> dict[str, Any] | Answer:
        """One line from the process, or how it failed to come."""
        child = self._child
        if child is None or child.stdout is None:
            return Answer("dies", message="the process could not be started")
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    self._stop()
                    return Answer(
                        "hangs", message=f"no answer within {seconds:g} s", seconds=seconds
                    )
                part = os.read(child.stdout.fileno(), 65536)
                if not part:
                    return self._died()
                self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _died(self) -> Answer:
        child = self._child
        status = None if child is None else child.wait()
        self._stop()
        if status is not None and status < 0:
            how = f"signal {signal.Signals(-status).name}"
        else:
            how = f"exit status {status}"
        return Answer("dies", message=f"{how} {self._last_words()}".strip())

    def _last_words(self) -> str:
        """The end of what the process wrote to its standard error."""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", errors="replace").strip().splitlines()
        self._errors.seek(0)
        self._errors.truncate()
        return f"({lines[-1][:300]})" if lines else ""

    def _stop(self) -> None:
        child, self._child, self._buffer = self._child, None, b""
        if child is None:
            return
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _answer(message: dict[str, Any]) -> Answer:
    value = message.get("value")
    return Answer(
        status=message["status"],
        value=None if value is None else np.array([float(x) for x in value], dtype=np.float64),
        shape=tuple(message.get("shape", ())),
        dtype=message.get("dtype", ""),
        message=message.get("message", ""),
        mutated=tuple(message.get("mutated", ())),
        printed=message.get("printed", ""),
        seconds=float(message.get("seconds", 0.0)),
    )
