"""The pytest fixture, in a run of pytest of its own."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

TESTS = """
import pytest
import torch

pytest_plugins = ["refblo.pytest_plugin"]
LAM, THETA = torch.ones(2).double(), torch.zeros(3).double()


def inner(lam, theta):
    return (theta - lam.sum()).square().sum() / 2


def outer(lam, theta):
    return theta.square().sum() + lam.square().sum()


def run(hypergradcheck, factor, **options):
    def mine(lam):
        return 3 * 2 * 0.1**2 * lam.sum().expand(2) + 2 * lam * factor

    return hypergradcheck(inner, outer, LAM, THETA, mine, steps=1, step_size=0.1, **options)


def test_right(hypergradcheck):
    assert run(hypergradcheck, 1).right


def test_wrong(hypergradcheck):
    run(hypergradcheck, 0)


def test_undecided(hypergradcheck):
    run(hypergradcheck, 1, floor=1e-18)
"""


def test_a_wrong_hypergradient_fails_the_test_with_its_diagnosis(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS, encoding="utf-8")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."]
    done = subprocess.run(
        [*words, "--junitxml", "junit.xml", "test_mine.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "2 failed" in done.stdout
    assert "diagnosis: missing direct term" in done.stdout
    assert "OracleError" in done.stdout
    # The report alone: no frame of refblo's in the test that is wrong.
    wrong = done.stdout.split("test_wrong", maxsplit=1)[1].split("test_undecided")[0]
    assert "hypergradcheck.py" not in wrong
    recorded = {entry.get("name") for entry in ET.parse(tmp_path / "junit.xml").iter("property")}
    assert recorded == {"hypergradcheck relative error", "hypergradcheck floor"}
