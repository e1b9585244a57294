"""Measure what drawing costs and what the draws are like: `python -m asv_bench.draws`.

Times are processor times of one thread, float32, each way and `torch.randn` in turns in one process, compared
round by round. The result is written to asv_bench/results/draws.json, and the page docs/draws.md from it; 1
is returned if a limit is missed. `--draws N` also draws N million numbers and looks at their distribution;
without it what was found before is kept.
"""

import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from asv_bench.core_costs import versions
from asv_bench.measuring.draws import (
    BYTES_LIMIT,
    PART,
    SHORT_LIMIT,
    SIZES,
    bytes_beyond,
    ratios,
    statistics,
)
from refblo.cost.predict import in_words
from refblo.files import write_atomically
from refblo.noise import SEED_CONTRACT

HERE = Path(__file__).resolve().parent
OUTPUT = HERE / "results" / "draws.json"
PAGE = HERE.parent / "docs" / "draws.md"

Document = dict[str, Any]


def measure(rounds: int) -> Document:
    """Times and bytes."""
    found = [each for n in SIZES for each in ratios(n, max(5, rounds if n < 50_000_000 else 5))]
    return {
        "seed contract": SEED_CONTRACT,
        "versions": versions(),
        "machine": platform.machine(),
        "measurements": [{**asdict(each), "holds": each.holds} for each in found],
        "bytes beyond the result": bytes_beyond(),
    }


def missed(document: Document) -> list[str]:
    """What is not within its limit."""
    rows = document["measurements"]
    found = [f"{each['name']}: {each['ratio']['median']:.2f}" for each in rows if not each["holds"]]
    short = rows[0]["numerator"]
    if short > SHORT_LIMIT:
        found.append(f"{rows[0]['name']}: {short * 1e6:.0f} µs")
    beyond = document["bytes beyond the result"]
    return found + [f"{way}: {size} bytes" for way, size in beyond.items() if size > BYTES_LIMIT]


def page(document: Document) -> str:
    """The page, in Markdown."""
    where = document["versions"]
    lines = [
        "# Draws",
        "",
        "Written by `python -m asv_bench.draws`; no figure is typed by hand.",
        "",
        "Every draw is a function of (seed, stream, step), under seed contract "
        f"{document['seed contract']} (`refblo.noise.SEED_CONTRACT`). Its words are those of Philox4x64-10, "
        "the same bits on every device: NumPy makes them on the CPU, torch operations on 64-bit integers "
        "elsewhere. Normal numbers are made of them by the method of Box and Muller, on the device and in "
        "the precision of the tensor they are for; they agree between devices to rounding. Compiled runs "
        "draw the default way too.",
        "",
        f"Processor time of one thread of {document['machine']}, torch {where['torch']}, NumPy "
        f"{where['numpy']}, float32; medians of rounds in which each way and `torch.randn` took turns, "
        "quartiles in parentheses.",
        "",
        "| what | µs | over `torch.randn` | limit | |",
        "| --- | ---: | --- | --- | --- |",
    ]
    for each in document["measurements"]:
        share, limit = each["ratio"], each["limit"]
        if limit is None:
            bound = f"{SHORT_LIMIT * 1e6:.0f} µs"
            holds = each["numerator"] <= SHORT_LIMIT
        else:
            bound, holds = f"{limit:g}", each["holds"]
        lines.append(
            f"| {each['name']} | {each['numerator'] * 1e6:,.0f} | {share['median']:.2f} "
            f"({share['lower_quartile']:.2f} … {share['upper_quartile']:.2f}) | {bound} | "
            f"{'holds' if holds else 'missed'} |"
        )
    beyond = document["bytes beyond the result"]
    lines += [
        "",
        "Most bytes alive besides the result, of 87,000,000 numbers, counted: "
        f"{in_words(beyond['default'])} the default way, {in_words(beyond['operations'])} in torch "
        f"operations on the CPU (limit {in_words(BYTES_LIMIT)}).",
    ]
    if "statistics" in document:
        sample = document["statistics"]
        lines += [
            "",
            f"What {sample['numbers']:,} numbers are like, drawn over seeds, streams and steps in turn. A "
            "right generator has a probability below 0.001 in one of these rows once in "
            f"{1000 // len(sample['found'])} such samples.",
            "",
            "| statistic | value | probability |",
            "| --- | ---: | ---: |",
            *(
                f"| {each['name']} | {each['value']:.4f} | {each['probability']:.3f} |"
                for each in sample["found"]
            ),
        ]
    return "\n".join([*lines, ""])


def load(path: Path) -> Document:
    """What was found before; nothing where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@click.command()
@click.option("--rounds", type=click.IntRange(min=5), default=15, show_default=True)
@click.option("--draws", "millions", type=click.IntRange(min=0), default=0, show_default=True)
def draws(rounds: int, millions: int) -> None:
    """Measure, print and write; about two minutes, and three more for 100 million draws."""
    torch.set_num_threads(1)
    document, before = measure(rounds), load(OUTPUT)
    if millions:
        found = [asdict(each) for each in statistics(millions)]
        document["statistics"] = {"numbers": millions * PART, "found": found}
    elif "statistics" in before and before["seed contract"] == SEED_CONTRACT:
        document["statistics"] = before["statistics"]
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(OUTPUT, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    write_atomically(PAGE, page(document))
    console = Console()
    console.print_json(data=document)
    for each in missed(document):
        console.print(f"missed: {each}")
    sys.exit(1 if missed(document) else 0)


if __name__ == "__main__":
    draws()
