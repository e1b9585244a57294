"""Files that are never half written, what killed writers leave behind, and folders for one process at a time.

About 2 s of processor time.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from refblo.errors import ArgumentError
from refblo.files import (
    LOCK_NAME,
    one_process,
    replacing,
    require_writable,
    sweep,
    write_atomically,
)

ROOT = Path(__file__).resolve().parent.parent

KILLED = """
import os, signal, sys
from pathlib import Path
from refblo.files import one_process, replacing
folder = Path(sys.argv[1])
with one_process("folder", folder), replacing(folder / "a.json") as scratch:
    scratch.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""

HOLDING = """
import sys
from pathlib import Path
from refblo.files import one_process
with one_process("folder", Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_writer_left_is_swept_and_its_lock_is_free(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert run.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / "other.json").write_text("whole", encoding="utf-8")
    sweep(tmp_path / "other.json")
    assert len(list(tmp_path.iterdir())) == 3
    sweep(tmp_path / "a.json")
    with one_process("folder", tmp_path):
        assert (tmp_path / LOCK_NAME).read_text(encoding="ascii") == f"{os.getpid()}\n"
    assert [file.name for file in tmp_path.iterdir()] == ["other.json"]


def test_a_living_writer_is_not_swept(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.json") as scratch:
        scratch.write_text("half", encoding="utf-8")
        sweep(tmp_path)
        sweep(tmp_path / "a.json")
        assert scratch.exists()
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "half"


def test_a_second_process_is_refused_by_the_number_of_the_first(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        with (
            pytest.raises(ArgumentError, match=f"which process {first.pid} is using"),
            one_process("--output", tmp_path),
        ):
            pass
        first.communicate()
    with one_process("--output", tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with (
        pytest.raises(ArgumentError, match="--output must be a folder that can be written"),
        one_process("--output", tmp_path / "file" / "below"),
    ):
        pass


def test_a_link_stays_and_a_device_is_written_to(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "a.json")
    write_atomically(link, "text")
    assert link.is_symlink()
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "text"
    write_atomically(Path(os.devnull), "text")
    assert not Path(os.devnull).is_file()


def test_a_lone_surrogate_is_written_escaped(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "half \udc80")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "half \\udc80"


def test_outputs_are_tried_and_leave_no_trace(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text("old", encoding="utf-8")
    require_writable((("--json", old), ("--html", tmp_path / "new.html"), ("--plot", None)))
    require_writable((("--json", Path("/dev/stdout")),))
    assert [file.name for file in tmp_path.iterdir()] == ["old.json"]
    assert old.read_text(encoding="utf-8") == "old"
