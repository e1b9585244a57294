"""The parts of a session on a device, the most valuable first: what each runs, and how long it may take."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

LIMIT = 480
"""Seconds that a part may take."""


@final
@dataclass(frozen=True)
class Part:
    """One command.

    Attributes:
        name: of its file in the archive.
        what: what it shows, in a few words.
        module: the module that is run, with its arguments; {device} and {result} are filled in.
        small: arguments that make it small enough for a CPU, to try the way from command to page.
        expected: seconds that it is expected to take on a current GPU.
        needs: packages beyond those of refblo.
    """

    name: str
    what: str
    module: tuple[str, ...]
    small: tuple[str, ...]
    expected: int
    needs: tuple[str, ...] = ()

    def command(self, device: str, result: str, *, small: bool) -> list[str]:
        """What is run; it writes its figures to `result`."""
        words = (*self.module, *(self.small if small else ()))
        filled = [word.format(device=device, result=result) for word in words]
        return [sys.executable, "-m", *filled]


def _at_scale(precision: str, *more: str) -> tuple[str, ...]:
    return (
        "asv_bench.at_scale",
        *("--device", "{device}", "--precision", precision, "--noise-scale", "1"),
        *("--output", "{result}", "--no-page", *more),
    )


TINY = ("--tiny", "--batch", "2", "--rounds", "2")

PARTS: Sequence[Part] = (
    Part(
        "closed-form",
        "answers, peak bytes and times of every estimator of the gate",
        ("asv_bench.gpu.closed_form", "--device", "{device}", "--output", "{result}"),
        ("--size", "20"),
        60,
    ),
    Part("at-scale-float32", "ViT-B/16, float32", _at_scale("float32"), TINY, 90),
    Part(
        "draws",
        "words bit by bit, normal numbers and their time",
        ("asv_bench.gpu.draws", "--device", "{device}", "--output", "{result}"),
        ("--numbers", "100000"),
        30,
    ),
    Part(
        "tests",
        "the tests that need a GPU",
        ("asv_bench.gpu.tests", "--output", "{result}"),
        (),
        120,
        ("pytest", "hypothesis", "beartype"),
    ),
    Part("at-scale-tf32", "ViT-B/16, TF32 products", _at_scale("tf32"), TINY, 90),
    Part("at-scale-bf16", "ViT-B/16, bfloat16 by autocast", _at_scale("bf16"), TINY, 90),
    Part(
        "at-scale-full",
        "ViT-B/16 at the largest batch that fits",
        _at_scale("bf16", "--batch", "fill"),
        TINY,
        200,
    ),
    Part(
        "asv",
        "the benchmarks of asv that need a GPU",
        ("asv_bench.gpu.with_asv", "--output", "{result}"),
        (),
        300,
        ("asv", "asv_runner"),
    ),
)


def chosen(names: Sequence[str]) -> list[Part]:
    """The parts with these names, all of them if none is given, in their order."""
    return [part for part in PARTS if not names or part.name in names]
