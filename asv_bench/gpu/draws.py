"""Draws on a device: the words are those of the CPU, the normal numbers agree to rounding, and their time."""

import json
from collections.abc import Callable
from pathlib import Path

import click
import torch

from asv_bench.at_scale import clock
from asv_bench.benchmarks.timing import interleaved, ratio
from refblo.files import write_atomically
from refblo.noise import Draws, Stream
from refblo.random_words.operations import words_by_operations
from refblo.random_words.source import Source

BLOCKS = 4096


def same_words(device: torch.device) -> bool:
    """Whether the device's words are those of NumPy, bit by bit."""
    steps, like = range(5, 7), torch.empty(0)
    there = words_by_operations(3, 1, 0, steps, 10, BLOCKS, device)
    here = Source(3, 1).words(steps, 40, 4 * BLOCKS, like)
    return torch.equal(there.cpu(), here)


def largest_difference(device: torch.device, dtype: torch.dtype, numbers: int) -> float:
    """Between normal numbers of the device and of the CPU, in units in the last place of 1."""
    there, here = (
        Draws(3).normal(Stream.LANGEVIN, 5, torch.empty(numbers, dtype=dtype, device=where))
        for where in (device, "cpu")
    )
    return float((there.cpu() - here).abs().max()) / torch.finfo(dtype).eps


def over_randn(device: torch.device, numbers: int, rounds: int) -> tuple[float, float, float]:
    """Seconds of a float32 draw over those of torch.randn: lower quartile, median, upper quartile."""
    like = torch.empty(numbers, device=device)
    functions: dict[str, Callable[[], object]] = {
        "ours": lambda: Draws(3).normal(Stream.LANGEVIN, 5, like),
        "torch.randn": lambda: torch.randn(numbers, device=device),
    }
    seconds = interleaved(functions, rounds, clock(device))
    found = ratio(seconds["ours"], seconds["torch.randn"])
    return found.lower_quartile, found.median, found.upper_quartile


@click.command()
@click.option("--device", "where", default="cuda", show_default=True)
@click.option("--numbers", type=click.IntRange(min=1), default=87_000_000, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(where: str, numbers: int, output: Path) -> None:
    """Compare, time, and write what was found; 1 if a word differs."""
    device = torch.device(where)
    same = same_words(device)
    document = {
        "numbers": numbers,
        "same words": same,
        "largest difference": {
            str(dtype).removeprefix("torch."): largest_difference(
                device, dtype, min(numbers, 10**6)
            )
            for dtype in (torch.float32, torch.float64)
        },
        "over torch.randn": over_randn(device, numbers, 7),
    }
    write_atomically(output, json.dumps(document, indent=1) + "\n")
    if not same:
        raise SystemExit(f"words on {where} must be those of the CPU, got others")


if __name__ == "__main__":
    main()
