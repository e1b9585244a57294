"""The measurement at the scale of a vision transformer, on a small one: what it says, not how fast it is."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from asv_bench import at_scale
from asv_bench.at_scale import (
    PRECISIONS,
    Precision,
    Row,
    counted,
    load,
    operations_of_a_step,
    page,
    posed,
    row,
)
from refblo.chain import Schedule
from refblo.problems.vit_b_16 import Size

SMALL = Size(image=16, patch=8, layers=1, width=8, heads=2, hidden=16, classes=4)


def some_row(device: str = "one thread of x86_64", seconds: float = 1.25) -> Row:
    share = (0.9, 1.0, 1.05)
    return Row(device, "2", "float32", 8, 10, seconds, 0.1, share, 1.0, 2e9, 4e9, 100, 100, None)


@pytest.mark.full
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_small_network_needs_what_was_predicted(precision: Precision) -> None:
    found = row(torch.device("cpu"), 2, precision, SMALL, 2, 64)
    assert found.peak == found.predicted
    assert found.step_flops <= 1.1
    assert (found.error is None) == (precision == "float32")


@pytest.mark.full
def test_peak_memory_is_the_same_for_every_number_of_steps() -> None:
    few, many = (counted(2, SMALL, Schedule(T - 2, 2)).peak_bytes for T in (3, 9))
    assert few == many


@pytest.mark.full
def test_noise_needs_no_vector_and_few_operations() -> None:
    quiet, noisy = (
        counted(2, SMALL, Schedule(1, 2), noise_scale=kappa).peak_bytes for kappa in (0.0, 1.0)
    )
    # A network of 600 parameters: its draws are made in one chunk of 128 numbers and what they are made of.
    assert noisy <= quiet + 2**15
    assert operations_of_a_step(8, Size(), 1.0)[1] <= 1.1


def test_bf16_changes_the_numbers_and_not_the_problem() -> None:
    exact, rounded = (posed(2, SMALL, precision) for precision in ("float32", "bf16"))
    theta = exact.problem.initial(exact.lam)
    a, b = (one.problem.inner(one.lam, theta, None) for one in (exact, rounded))
    assert a.dtype == b.dtype == torch.float32
    assert 0 < abs(float(a - b)) < 2**-7 * float(a)  # a few units of bfloat16, whose unit is 2⁻⁸


def test_the_page_says_what_is_missing(tmp_path: Path) -> None:
    assert "No GPU was at hand" in page([some_row()])
    both = page([some_row(), some_row("NVIDIA something", 0.08)])
    assert "No GPU" not in both
    assert "| NVIDIA something | float32 | 8 | 0 | 80.0 | 1.000 (0.900 … 1.050) |" in both
    assert load(tmp_path / "nothing") == []


def test_the_page_is_what_the_results_say() -> None:
    assert at_scale.PAGE.read_text(encoding="utf-8") == page(load(at_scale.OUTPUT))
    stored = json.loads(at_scale.OUTPUT.read_text(encoding="utf-8"))["rows"]
    assert all(one["n"] == 86_567_656 for one in stored)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said() -> None:
    result = CliRunner().invoke(at_scale.at_scale, ["--device", "cuda"])
    assert result.exit_code == 2
    assert "torch sees no GPU" in result.output
