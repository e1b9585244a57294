"""The parent's side of a target's process: calls with a time limit, and what became of each."""

import contextlib
import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import numpy as np
from jaxtyping import Float64

from refblo.conformance.suite import guard
from refblo.conformance.suite.channel import CHANNEL_LOST, GarbledError, Message, parsed
from refblo.conformance.suite.target import Declared
from refblo.types import Estimand

Array = np.ndarray
_TEXT = 2000  # bytes of what a call prints that are kept, from its beginning
_ERRORS = 2**14  # bytes of the standard error that are kept, from its end
_GRACE = 2.0  # seconds that a process which closed its channel has to end by itself
_DRAINED = (
    2**20
)  # bytes that are read at most when an answer has come, of what was printed before it


@final
@dataclass(frozen=True, eq=False)
class Answer:
    """What became of one call.

    Attributes:
        status: "returned", "raised", "exits", "memory", "type", "hangs", "dies" or "garbled".
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
@dataclass(eq=False)
class _Child:
    """A running process.

    Attributes:
        process: the child process.
        answers: the descriptor that its messages come from.
        guardian: the program that ends it should this process be killed.
        tag: what it and all that it starts carry in their environment.
        printed: the beginning of what was printed since the last answer.
        errors: the end of its standard error.
        pending: what has come of the next message.
    """

    process: subprocess.Popen[bytes]
    answers: int
    guardian: subprocess.Popen[bytes]
    tag: str
    printed: bytes = b""
    errors: bytes = b""
    pending: bytes = b""

    @property
    def alive(self) -> bool:
        """Whether it runs; it is not waited for, so that its number stays its own."""
        if self.process.returncode is not None:
            return False
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.process.pid, flags) is None

    def outputs(self) -> list[int]:
        """The descriptors of its standard output and error."""
        streams = (self.process.stdout, self.process.stderr)
        return [stream.fileno() for stream in streams if stream is not None]

    def keep(self, descriptor: int, part: bytes) -> None:
        """Keep the beginning of what is printed, and the end of the standard error."""
        if self.process.stdout is not None and descriptor == self.process.stdout.fileno():
            self.printed = (self.printed + part)[:_TEXT]
        else:
            self.errors = (self.errors + part)[-_ERRORS:]

    def drain(self) -> None:
        """Take what was printed so far, up to a bound; what is beyond it counts as printed later."""
        for descriptor in self.outputs():
            with contextlib.suppress(BlockingIOError):
                for _ in range(_DRAINED // 65536):
                    part = os.read(descriptor, 65536)
                    if not part:
                        break
                    self.keep(descriptor, part)


@final
class Process:
    """A target in a process of its own, started again after it hangs or dies."""

    def __init__(self, target: str, framework: str, limits: Limits) -> None:
        self._target, self._framework, self._limits = target, framework, limits
        self._child: _Child | None = None
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

    def start(self) -> Declared | Answer:
        """Start it and import the target: what it declares, or why it cannot be imported."""
        self._stop()
        self._child = self._started()
        message = self._read(self._limits.start_seconds)
        if isinstance(message, Answer):
            return message
        self.printed_on_import = self._printed()
        if message["status"] == "ready":
            told = message["declared"]
            told["capabilities"] = tuple(told["capabilities"])
            told["estimands"] = tuple(told["estimands"])
            return Declared(**told)
        return _answer(message, "")

    def _started(self) -> _Child:
        tag = secrets.token_hex(16)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment |= {"JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"), guard.TAG: tag}
        ours, theirs = os.pipe()
        command = [
            *(sys.executable, "-m", "refblo.conformance.suite.worker"),
            *(self._target, self._framework, str(self._limits.memory)),
            *(str(os.getpid()), str(theirs)),
        ]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                pass_fds=(theirs,),
                # A group of its own, so that what the target starts ends with it.
                start_new_session=True,
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        # Run by its path, and isolated: it needs nothing of refblo.
        guardian = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", str(Path(guard.__file__))),
                *(str(process.pid), str(os.getpid()), tag),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        child = _Child(process, ours, guardian, tag)
        for descriptor in (*child.outputs(), ours):
            os.set_blocking(descriptor, False)
        return child

    @property
    def running(self) -> bool:
        """Whether there is a process to talk to."""
        return self._child is not None and self._child.alive

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
        if child is None or child.process.stdin is None:
            return Answer("dies", message="the process could not be started")
        try:
            child.process.stdin.write(json.dumps(request).encode() + b"\n")
            child.process.stdin.flush()
        except OSError:
            return self._died(child, time.monotonic() + _GRACE)
        return None

    def answer(self) -> Answer:
        """Wait for the answer to what was asked."""
        message = self._read(self._limits.seconds)
        return message if isinstance(message, Answer) else _answer(message, self._printed())

    def _read(self, seconds: float) -> Message | Answer:
        """One message from the process, or how it failed to come."""
        child = self._child
        if child is None:
            return Answer("dies", message="the process could not be started")
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            for descriptor in (*child.outputs(), child.answers):
                selector.register(descriptor, selectors.EVENT_READ)
            while True:
                try:
                    found = parsed(child.pending)
                except GarbledError as error:
                    return self._garbled(child, f"wrote into the channel of its answers ({error})")
                if found is not None:
                    message, child.pending = found
                    return message
                left = deadline - time.monotonic()
                events = selector.select(left) if left > 0 else []
                if not events:
                    printed = self._printed()
                    self._stop()
                    late = f"no answer within {seconds:g} s"
                    return Answer("hangs", message=late, printed=printed, seconds=seconds)
                for key, _ in events:
                    part = os.read(key.fd, 65536)
                    if key.fd != child.answers:
                        child.keep(key.fd, part)
                        if not part:
                            selector.unregister(key.fd)
                    elif part:
                        child.pending += part
                    else:
                        return self._died(child, min(deadline, time.monotonic() + _GRACE))

    def _printed(self) -> str:
        """What was printed since the last time."""
        child = self._child
        if child is None:
            return ""
        child.drain()
        printed, child.printed = child.printed, b""
        return printed.decode("utf-8", errors="replace")

    def _garbled(self, child: _Child, message: str) -> Answer:
        printed = self._printed()
        if self._child is child:
            self._stop()
        return Answer("garbled", message=message, printed=printed)

    def _died(self, child: _Child, deadline: float) -> Answer:
        """What became of a process whose channel is closed."""
        while child.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        if child.alive:
            return self._garbled(child, "closed the channel of its answers")
        printed, words = self._printed(), _last_words(child)
        self._stop()
        status = child.process.returncode
        if status == CHANNEL_LOST:
            return Answer("garbled", message="closed descriptors that are not its own")
        how = f"signal {_signal_name(-status)}" if status < 0 else f"exit status {status}"
        return Answer("dies", message=f"{how} {words}".strip(), printed=printed)

    def _stop(self) -> None:
        """End the process and all that it started, whether it runs or is gone."""
        child, self._child = self._child, None
        if child is None:
            return
        # Before it is waited for: until then nobody else can have its number.
        guard.end(child.process.pid, child.tag)
        child.process.wait()
        child.guardian.kill()
        child.guardian.wait()
        os.close(child.answers)
        process = child.process
        for stream in (process.stdin, process.stdout, process.stderr, child.guardian.stdin):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _last_words(child: _Child) -> str:
    """The last line that the process wrote to its standard error."""
    lines = child.errors.decode("utf-8", errors="replace").strip().splitlines()
    return f"({lines[-1][:300]})" if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return str(number)


def _answer(message: dict[str, Any], printed: str) -> Answer:
    value = message.get("value")
    return Answer(
        status=message["status"],
        value=None if value is None else np.array([float(x) for x in value], dtype=np.float64),
        shape=tuple(message.get("shape", ())),
        dtype=message.get("dtype", ""),
        message=message.get("message", ""),
        mutated=tuple(message.get("mutated", ())),
        printed=printed,
        seconds=float(message.get("seconds", 0.0)),
    )
