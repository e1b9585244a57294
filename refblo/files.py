"""Writing a file so that a reader never sees half of it."""

import os
import tempfile
from pathlib import Path

from refblo.errors import ArgumentError


def write_atomically(path: Path, text: str) -> None:
    """Replace the file by one with this text, in one step; missing folders are made.

    Whatever interrupts it, the path names either the old file or the new one, whole.

    Raises:
        ArgumentError: if the file cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _unwritable(path, error) from error
    scratch = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp makes a file that its owner alone may read: a report is for whoever may read its folder.
        scratch.chmod(0o666 & ~_umask())
        scratch.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        scratch.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> ArgumentError:
    return ArgumentError(
        f"file must be one that can be written, got {str(path)!r} ({error.strerror}); choose another place"
    )


def _umask() -> int:
    # There is no way to read it but to set it.
    current = os.umask(0o077)
    os.umask(current)
    return current
