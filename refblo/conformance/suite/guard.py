"""Ending a target's process with all that it started, also when the check itself is killed.

A target's process leads a group of its own, and its environment carries a tag that everything it starts
inherits. So what left the group (`setsid`, a daemon that forked twice) is found by its tag where the platform
shows environments (/proc, on Linux), and elsewhere only the group is ended.

Run as a program, it waits for its parent to end and then does this. It imports the standard library alone, so
that it starts in milliseconds.
"""

import contextlib
import os
import select
import signal
import sys
from pathlib import Path

TAG = "REFBLO_CHECK_TAG"
"""The environment variable that marks a target's process and all that it starts."""

_ROUNDS = 20
"""How often processes are looked for again, since one may start another while it is being ended."""


def end(group: int, tag: str) -> None:
    """End a process group, and every process with the tag.

    Args:
        group: its number; the leader must not have been waited for, so that the number is still its own.
        tag: the value of the tag.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    for _ in range(_ROUNDS):
        found = [process for process in tagged(tag) if process not in (group, os.getpid())]
        if not found:
            return
        for process in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)


def tagged(tag: str) -> list[int]:
    """The living processes that were started with the tag in their environment."""
    entry = f"{TAG}={tag}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # A process that has ended and was not yet waited for has no environment left.
            if entry in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def main(arguments: list[str]) -> None:
    """Wait for the end of the parent, or of the standard input that it holds; then end everything.

    Args:
        arguments: the group, the parent's process number, and the tag.
    """
    group, parent, tag = int(arguments[0]), int(arguments[1]), arguments[2]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.getppid() == parent:
        ready, _, _ = select.select([0], [], [], 1.0)
        if ready and not os.read(0, 1):
            break
    end(group, tag)


if __name__ == "__main__":
    main(sys.argv[1:])
