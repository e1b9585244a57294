"""Files written so that a reader never sees half of one, and folders that one process uses at a time."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from refblo.errors import ArgumentError

_MARK = ".partial"
"""In the name of a scratch file: a dot, the file's own name, random letters, this mark, the file's suffix."""
LOCK_NAME = ".refblo-lock"
"""The file in a folder that names the process that is using it."""


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A scratch file that becomes `path`, in one step, when the block ends without an error.

    Whatever interrupts it, the path names either the old file or the new one, whole. Missing folders are
    made; the scratch file lies beside the path and has its suffix. A scratch file whose writer was killed
    is removed by `sweep`.

    Args:
        path: the file to write; a link stays, and what it points to is replaced.
        durable: return only when the disk has the new file, which is then there after a power failure.

    Raises:
        ArgumentError: if the file cannot be written there.
    """
    path = path.resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, scratch = _scratch(path)
    except OSError as error:
        raise _unwritable(path, error) from error
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
        # Held until now: a scratch file that is not locked counts as left behind.
        os.close(descriptor)


def write_atomically(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Replace the file by one with this content, in one step; missing folders are made.

    A device or a pipe, which cannot be replaced, is written to.

    Args:
        path: the file.
        content: what it is to hold; text is written in UTF-8, and what UTF-8 has no bytes for is escaped.
        durable: see `replacing`.

    Raises:
        ArgumentError: if the file cannot be written there.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    if _is_special(path):
        _into_device(path, data)
        return
    with replacing(path, durable=durable) as scratch:
        scratch.write_bytes(data)


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _into_device(path: Path, data: bytes) -> None:
    """Write to a device or a pipe, which cannot be replaced."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise _unwritable(path, error) from error


def sweep(path: Path) -> None:
    """Remove what killed writers of a file, or of a folder's files, left; a living writer's part stays."""
    folder, name = (path, "*") if path.is_dir() else (path.parent, f"{_escaped(path.name)}.*")
    with contextlib.suppress(OSError):
        for partial in folder.glob(f".{name}{_MARK}*"):
            with contextlib.suppress(OSError), partial.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                partial.unlink(missing_ok=True)


def require_writable(files: Sequence[tuple[str, Path | None]]) -> None:
    """Try the places of a command's results before it begins: different, and each one can be written.

    Args:
        files: the option that names each file, and the file, or None where it was not given.

    Raises:
        ArgumentError: if two are the same file, or one cannot be written.
    """
    seen: dict[Path, str] = {}
    for option, path in files:
        if path is None:
            continue
        place = path.resolve()
        if place in seen:
            raise ArgumentError(
                f"{seen[place]} and {option} must be two files, got {path} for both; choose another "
                "name for one of them"
            )
        seen[place] = option
        _try_to_write(option, path)


def _try_to_write(option: str, path: Path) -> None:
    if path.is_dir():
        raise ArgumentError(
            f"{option} must be a file, got the folder {str(path)!r}; name a file in it"
        )
    if _is_special(path):
        return  # a device or a pipe: opening it now could wait for a reader
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        descriptor, scratch = _scratch(path.resolve())
        os.close(descriptor)
        scratch.unlink(missing_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"{option} must be a file that can be written, got {str(path)!r} ({error.strerror}); choose "
            "another place"
        ) from error


@contextmanager
def one_process(argument: str, folder: Path) -> Iterator[None]:
    """Use a folder alone; what a killed process left locked is free again.

    Args:
        argument: what the folder is called in an error.
        folder: is made when it is missing.

    Raises:
        ArgumentError: if another process is using it, or it cannot be written.
    """
    lock = folder / LOCK_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(lock)
    except OSError as error:
        raise ArgumentError(
            f"{argument} must be a folder that can be written, got {str(folder)!r} ({error.strerror}); "
            "choose another place"
        ) from error
    if descriptor is None:
        with contextlib.suppress(OSError):
            owner = lock.read_text(encoding="ascii", errors="replace").strip()
            raise ArgumentError(
                f"{argument} must be used by one process at a time, got {str(folder)!r}, which process "
                f"{owner} is using; wait for it, or choose another folder"
            )
        raise ArgumentError(
            f"{argument} must be used by one process at a time, got {str(folder)!r}, which another process "
            "is using; wait for it, or choose another folder"
        )
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(lock: Path) -> int | None:
    """The locked file, or None if another process holds it. The kernel frees what a dead process held."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _is_at(descriptor, lock):
            return descriptor
        # Its last owner removed it between the two calls.
        os.close(descriptor)


def _scratch(path: Path) -> tuple[int, Path]:
    """A new file beside this one, locked for as long as it is open."""
    while True:
        descriptor, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=_MARK + path.suffix
        )
        scratch = Path(name)
        try:
            # Where there are no locks there is nothing that sweeps.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, scratch):
                return descriptor, scratch
        except BaseException:
            os.close(descriptor)
            scratch.unlink(missing_ok=True)
            raise
        # Swept between the two calls.
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the path still names the file that is open."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _flush(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _escaped(name: str) -> str:
    """A file's name as a pattern that matches it alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _unwritable(path: Path, error: OSError) -> ArgumentError:
    return ArgumentError(
        f"file must be one that can be written, got {str(path)!r} ({error.strerror}); choose another place"
    )


def _umask() -> int:
    # There is no way to read it but to set it.
    current = os.umask(0o077)
    os.umask(current)
    return current
