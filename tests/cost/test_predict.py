"""What fits in a memory, predicted from counts; and the command that prints it."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from refblo.cli import main
from refblo.cost.predict import in_words, largest_that_fits, parse_bytes
from refblo.equal_cost.methods import BY_SLUG
from refblo.equal_cost.price import price
from refblo.errors import ArgumentError
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient

BYTES = st.integers(1, 10**6)


@given(st.integers(0, 10**6), BYTES, st.integers(1, 50), st.integers(1, 10**9))
def test_on_a_line_the_largest_fits_and_the_next_does_not(
    constant: int, slope: int, size: int, memory: int
) -> None:
    def peak(at: int) -> int:
        return constant + slope * at

    found = largest_that_fits(peak, size, memory)
    assert found.slope == slope
    assert found.fits == (peak(size) <= memory)
    if found.largest:
        assert peak(found.largest) <= memory < peak(found.largest + 1)
    else:
        assert peak(1) > memory


@given(BYTES, BYTES)
def test_what_does_not_grow_fits_always_or_never(constant: int, memory: int) -> None:
    found = largest_that_fits(lambda _: constant, 3, memory)
    assert found.largest == (None if constant <= memory else 0)


@given(st.integers(1, 300), st.integers(2, 40))
def test_off_a_line_the_largest_is_searched_for(memory: int, size: int) -> None:
    found = largest_that_fits(lambda at: at * at, size, memory)
    assert found.slope is None
    assert found.largest is not None
    assert found.largest**2 <= memory < (found.largest + 1) ** 2


@pytest.mark.parametrize(
    ("text", "size"),
    [("16GiB", 16 * 2**30), ("16g", 16 * 2**30), ("2 kB", 2000), ("1e3", 1000), ("1.5 KiB", 1536)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "12xx", "-1GiB", "0", "1.2.3GiB", "nan", "inf"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="memory must"):
        parse_bytes(text)


def test_counts_are_written_with_the_prefix_that_fits() -> None:
    written = [in_words(n) for n in (5, 2048, 16 * 2**30, 1000 * 2**20)]
    assert written == ["5 B", "2.00 KiB", "16.0 GiB", "1000 MiB"]


@pytest.mark.full
def test_the_prediction_holds_when_it_is_counted() -> None:
    def needed(steps: int) -> int:
        return price("quadratic", "rmd-stored", steps).needed

    memory = needed(13) + 1
    found = largest_that_fits(needed, 4, memory)
    assert found.largest == 13
    assert needed(14) > memory


def test_the_command_writes_what_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cost.json"
    words = ["cost", "quadratic", "hpo-sgld", "--steps", "7", "--memory", "1GiB", "--json"]
    assert main([*words, str(path)]) == 0
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["evaluations"]["mixed_products"] == 7
    assert document["peak_bytes"] == price("quadratic", "hpo-sgld", 7).cost.peak_bytes
    assert document["fits"]["steps"]["largest"] is None
    printed = capsys.readouterr().out
    assert f"{document['flops']:,}" in printed
    assert "any number of steps fits in 1.00 GiB" in printed


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("nope rmd", "PROBLEM must be one of"),
        ("quadratic nope", "ESTIMATOR must be one of"),
        ("quadratic rmd --steps 0", "--steps"),
        ("quadratic rmd --memory much", "memory must be a positive number"),
        ("quadratic rmd --batch 2", "--batch is for vit-b-16 alone"),
        (
            "quadratic rmd --json pyproject.toml/all.json",
            "--json must be a file that can be written",
        ),
    ],
)
def test_bad_input_is_refused_with_a_reason(
    words: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cost", *words.split()]) == 2
    assert reason in capsys.readouterr().err


@final
@dataclass(frozen=True)
class Looking:
    """Reads λ, and leaves it at that."""

    name: str = "looking"
    estimand: Estimand = Estimand.UNROLLED

    def estimate(
        self,
        problem: BilevelProblem,
        lam: Tensor,
        draws: Draws = SEED_ZERO,  # noqa: ARG002  # the protocol's
    ) -> Hypergradient:
        lam.sum().item()
        return Hypergradient(lam, self.estimand, problem.initial(lam))


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BY_SLUG, "looking", lambda *_: Looking())


@pytest.mark.usefixtures("looking")
def test_a_look_is_printed_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "quadratic", "looking"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"host synchronisations\s*│\s*1 ", printed)
    assert re.search(r"transfers\s*│\s*0\s*│ none on the CPU", printed)
    assert re.search(r"tests/cost/test_predict.py:\d+ in estimate: _local_scalar_dense", printed)


@pytest.mark.full
@pytest.mark.usefixtures("looking")
def test_an_estimator_that_looks_at_numbers_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "vit-b-16", "looking", "--steps", "1"]) == 2
    assert "must not depend on numbers" in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.parametrize(
    ("words", "looks"), [("quadratic ift-cg", 10), ("vit-b-16 hpo-sgld --steps 2", 0)]
)
def test_the_command_counts_on_the_pretend_device(words: str, looks: int, tmp_path: Path) -> None:
    path = tmp_path / "cost.json"
    command = ["-m", "refblo", "cost", *words.split(), "--pretend-device", "--json", str(path)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["device"] == "pretend"
    assert (document["host_synchronisations"], document["transfers"]) == (looks, 0)
