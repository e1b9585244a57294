"""Methods of this package agree with public implementations: the page says so, and can be made again.

The page is held to what this package computes now. To make it again, set REFBLO_BENCHMARK_BILEVEL and
HYPERTORCH to working trees of the two, and install `requirements-agreement.txt`.
"""

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from refblo.problems import build
from tests.peers import agreement_torch as in_torch

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "agreement.md"
CHECKOUT = os.environ.get("REFBLO_BENCHMARK_BILEVEL", "")
NEEDED = ("benchopt", "higher", "jax", "torchopt")
HEADS = 2

DIGITS = 15
"""As many as the page prints."""


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[HEADS:]]


def off(printed: str, computed: float) -> float:
    """Beyond what printing rounds."""
    return abs(float(printed) - computed) - 10.0 ** (1 - DIGITS) * abs(computed)


def test_rounding_explains_every_distance_on_the_page() -> None:
    found = rows(PAGE.read_text(encoding="utf-8"))
    assert {row[0] for row in found} >= {"MAML", "IFT-Neumann", "IFT-CG", "SOBA", "MRBO", "VRBO"}
    for row in found:
        *_, distance, allowed, _ = row
        assert float(distance) <= float(allowed), row
        assert off(row[4], float(row[5])) <= float(allowed), row


def test_the_page_has_what_this_package_computes_in_torch() -> None:
    found = [row for row in rows(PAGE.read_text(encoding="utf-8")) if row[1] != "benchmark_bilevel"]
    assert [(row[0], row[1], row[2].strip("`"), row[3]) for row in found] == [
        (pair.method, pair.library, pair.case, pair.what) for pair in in_torch.PAIRS
    ]
    for pair, row in zip(in_torch.PAIRS, found, strict=True):
        assert off(row[5], in_torch.ours(pair, build(pair.case))[0]) <= float(row[7]), row


def test_the_page_has_what_this_package_computes_of_the_single_loop_methods() -> None:
    pytest.importorskip("jax", reason="jax is not installed")
    from tests.peers import agreement_single_loop as single_loop

    found = [row for row in rows(PAGE.read_text(encoding="utf-8")) if row[1] == "benchmark_bilevel"]
    assert [row[0] for row in found] == [peer.name for peer in single_loop.PEERS]
    for peer, row in zip(single_loop.PEERS, found, strict=True):
        assert off(row[5], single_loop.ours(peer, build(single_loop.CASE))[0]) <= float(row[7]), row


def test_the_iterate_that_hypertorch_returns_is_the_one_before() -> None:
    said = PAGE.read_text(encoding="utf-8").splitlines()[-1]
    match = re.search(
        r"on `(\w+)`, it answers (\S+); .* is (\S+), that of (\d+) iterations (\S+), (\S+) away, "
        r"where rounding allows (\S+)\.$",
        said,
    )
    assert match is not None, said
    name, theirs, converged, count, before, distance, allowed = match.groups()
    case = build(name)
    assert int(count) == in_torch.converged_after(case) - 1
    pair = in_torch.hypertorch_converging(name)
    early = float(in_torch.ours(replace(pair, terms=int(count)), case)[0])
    last = float(in_torch.ours(pair, case)[0])
    assert float(distance) <= float(allowed) < abs(early - last)
    assert max(off(before, early), off(theirs, early), off(converged, last)) <= float(allowed)


@pytest.mark.full
@pytest.mark.skipif(not CHECKOUT, reason="REFBLO_BENCHMARK_BILEVEL names no working tree")
@pytest.mark.skipif("HYPERTORCH" not in os.environ, reason="HYPERTORCH names no working tree")
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED),
    reason=f"one of {', '.join(NEEDED)} is not installed",
)
def test_rounding_explains_every_distance() -> None:
    # In a process of its own: the script switches JAX to double precision.
    run = subprocess.run(
        [sys.executable, "-m", "tests.peers.agreement", CHECKOUT],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert [row[:4] for row in rows(run.stdout)] == [
        row[:4] for row in rows(PAGE.read_text(encoding="utf-8"))
    ]
