"""Writing a file so that a reader never sees half of it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refblo.errors import ArgumentError


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A scratch file that becomes `path`, in one step, when the block ends without an error.

    Whatever interrupts it, the path names either the old file or the new one, whole. Missing folders are
    made; the scratch file lies beside the path and has its suffix.

    Args:
        path: the file to write.
        durable: return only when the disk has the new file, which is then there after a power failure.

    Raises:
        ArgumentError: if the file cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix
        )
    except OSError as error:
        raise _unwritable(path, error) from error
    os.close(descriptor)
    scratch = Path(name)
    try:
        yield scratch
        # mkstemp makes a file that its owner alone may read: a report is for whoever may read its folder.
        scratch.chmod(0o666 & ~_umask())
        if durable:
            _flush(scratch)
        scratch.replace(path)
        if durable:
            # The folder holds the name: without this the old file may come back.
            _flush(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        scratch.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace the file by one with this text, in one step; missing folders are made.

    Raises:
        ArgumentError: if the file cannot be written there.
    """
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def _flush(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> ArgumentError:
    return ArgumentError(
        f"file must be one that can be written, got {str(path)!r} ({error.strerror}); choose another place"
    )


def _umask() -> int:
    # There is no way to read it but to set it.
    current = os.umask(0o077)
    os.umask(current)
    return current
