"""refblo's single-loop methods agree with the authors' benchmark, where that is at hand.

Set REFBLO_BENCHMARK_BILEVEL to a working tree of it, and install `requirements-agreement.txt`.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("agreement.py")
CHECKOUT = os.environ.get("REFBLO_BENCHMARK_BILEVEL", "")


@pytest.mark.full
@pytest.mark.skipif(not CHECKOUT, reason="REFBLO_BENCHMARK_BILEVEL names no working tree")
@pytest.mark.skipif(
    importlib.util.find_spec("benchopt") is None or importlib.util.find_spec("jax") is None,
    reason="benchopt or jax is not installed",
)
def test_rounding_explains_every_distance() -> None:
    # In a process of its own: the script switches JAX to double precision.
    run = subprocess.run(
        [sys.executable, str(SCRIPT), CHECKOUT], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    rows = [line for line in run.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 6
