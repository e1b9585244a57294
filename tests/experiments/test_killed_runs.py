"""Ten kills of a table's smoke run at random moments. Full only: some three minutes of processor time."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

KILLS = 10
TABLE = ("table-8", "--scale", "smoke", "--seeds", "2")


def command(output: Path) -> list[str]:
    return [sys.executable, "-m", "refblo", "reproduce", *TABLE, "--output", str(output)]


def contents(output: Path) -> dict[str, Any]:
    """Every part, and the report without its wall time."""
    folder = output / TABLE[0]
    held = {p.name: json.loads(p.read_text(encoding="utf-8")) for p in folder.glob("parts/*.json")}
    held["report"] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    del held["report"]["seconds"]
    return held


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a_smoke_run_that_is_killed_ten_times_ends_with_the_same_bits(tmp_path: Path) -> None:
    began = time.monotonic()
    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    whole = time.monotonic() - began
    expected = contents(tmp_path / "whole")
    draws, kills, folder = random.Random(1), 0, 0
    while kills < KILLS:
        output = tmp_path / f"killed-{folder}"
        child = subprocess.Popen(
            command(output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            code = child.wait(timeout=draws.uniform(0.1, 0.9) * whole)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
            kills += 1
            continue
        assert code == 0
        # A run that came to its end between two kills: it is looked at, and a new one begins.
        assert contents(output) == expected
        folder += 1
    output = tmp_path / f"killed-{folder}"
    subprocess.run(command(output), check=True, capture_output=True)
    assert contents(output) == expected
    left = [p.name for p in (output / TABLE[0] / "parts").iterdir() if p.suffix != ".json"]
    assert not left
