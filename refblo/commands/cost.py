"""`refblo cost`: what a hypergradient costs, counted, and what fits in a given memory."""

import json
from dataclasses import asdict
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.table import Table

from refblo.cost.predict import Fit, in_words, parse_bytes
from refblo.equal_cost.fit import largest_settings
from refblo.equal_cost.methods import BY_SLUG
from refblo.equal_cost.price import VIT, CostedRun, price
from refblo.files import require_writable, write_atomically
from refblo.problems.catalogue import catalogue

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


@click.command()
@click.argument("problem")
@click.argument("estimator")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="T, the number of inner steps.",
)
@click.option(
    "--batch", type=click.IntRange(min=1), help=f"Images for one gradient, for {VIT}.  [default: 8]"
)
@click.option("--dtype", type=click.Choice(list(DTYPES)), help="The dtype of all vectors and data.")
@click.option(
    "--memory", help="Predict the largest problem that fits into this memory, e.g. 16GiB."
)
@click.option(
    "--pretend-device",
    is_flag=True,
    help="Count on a simulated device, where transfers and mixed devices are found.",
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
def cost(
    problem: str,
    estimator: str,
    steps: int,
    batch: int | None,
    dtype: str | None,
    memory: str | None,
    pretend_device: bool,
    json_file: Path | None,
) -> None:
    """Count what one hypergradient of PROBLEM by ESTIMATOR costs, and predict what fits in a memory.

    PROBLEM is a case of the catalogue or vit-b-16, which is counted on shapes alone.
    """
    known = [*catalogue(), VIT]
    if problem not in known:
        raise click.UsageError(f"PROBLEM must be one of {', '.join(known)}, got {problem!r}")
    if estimator not in BY_SLUG:
        raise click.UsageError(f"ESTIMATOR must be one of {', '.join(BY_SLUG)}, got {estimator!r}")
    if batch is not None and problem != VIT:
        raise click.UsageError(f"--batch is for {VIT} alone: {problem} has its own batches")
    require_writable((("--json", json_file),))
    available = None if memory is None else parse_bytes(memory)
    kind = None if dtype is None else DTYPES[dtype]
    images = batch or 8
    console = Console()
    with console.status(f"counting {estimator} on {problem}, T = {steps}") as status:
        run = price(problem, estimator, steps, images, kind, pretend_device)
        fits: dict[str, Fit] = {}
        if available is not None:
            fits = largest_settings(
                problem,
                estimator,
                steps,
                images,
                kind,
                available,
                lambda axis: status.update(f"counting at three sizes: {axis}"),
            )
    console.print(table(problem, estimator, steps, run, pretend_device))
    for place in run.cost.places:
        console.print(f"  {place}", highlight=False, markup=False)
    for axis, one in fits.items():
        console.print(sentence(axis, one, available or 0))
    if json_file is not None:
        document = {
            "problem": problem,
            "estimator": estimator,
            "steps": steps,
            "batch": images if problem == VIT else None,
            "n": run.n,
            "p": run.p,
            "held_bytes": run.held,
            **asdict(run.cost),
            "device": "pretend" if pretend_device else "cpu",
            "memory": available,
            "fits": {axis: asdict(one) for axis, one in fits.items()},
        }
        write_atomically(json_file, json.dumps(document, indent=2) + "\n")


def table(problem: str, estimator: str, steps: int, run: CostedRun, pretend: bool = False) -> Table:
    """One figure a row."""
    shown = Table("what", "count", "", title=f"{estimator} on {problem}, T = {steps}")
    counted, evaluations = run.cost, run.cost.evaluations
    rows: list[tuple[str, int, str]] = [
        ("parameters n", run.n, ""),
        ("hyperparameters p", run.p, ""),
        ("FLOPs of matrix kernels", counted.flops, in_words(counted.flops, "FLOP", 1000)),
        ("elements of other kernels", counted.elements, ""),
        ("bytes moved", counted.moved, in_words(counted.moved)),
        ("peak bytes of the run", counted.peak_bytes, in_words(counted.peak_bytes)),
        ("bytes held by the problem", run.held, in_words(run.held)),
        ("inner gradients", evaluations.inner_gradients, ""),
        ("outer gradients", evaluations.outer_gradients, ""),
        ("Hessian products", evaluations.hessian_products, ""),
        ("mixed products", evaluations.mixed_products, ""),
        ("host synchronisations", counted.host_synchronisations, ""),
        ("transfers", counted.transfers, "" if pretend else "none on the CPU: --pretend-device"),
    ]
    for name, number, words in rows:
        shown.add_row(name, f"{number:,}", words)
    if counted.uncountable:
        shown.caption = f"no formula for {', '.join(counted.uncountable)}: FLOPs are a lower bound"
    return shown


def sentence(axis: str, fit: Fit, memory: int) -> str:
    """What was found about one axis, in words."""
    counted = f"counted at {axis} = {', '.join(map(str, fit.sizes))}"
    room = in_words(memory)
    if fit.slope is not None and fit.slope <= 0:
        if fit.fits:
            return f"any number of {axis} fits in {room}: bytes do not grow ({counted})"
        return f"nothing fits in {room}, whatever {axis}: {in_words(fit.peaks[0])} are needed ({counted})"
    if not fit.largest:
        return f"nothing fits in {room}: {in_words(fit.peaks[0])} are needed at {axis} = {fit.sizes[0]}"
    if fit.slope is None:
        return f"largest {axis} found to fit in {room}: {fit.largest:,} (searched by counting)"
    growth = f"{in_words(fit.slope)} for each more"
    return f"largest {axis} that fits in {room}: {fit.largest:,} ({growth}; {counted})"
