"""`refblo cost`: what a hypergradient costs, counted, and what fits in a given memory."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException

from refblo.chain import Langevin, Schedule
from refblo.cost import Cost, LiveBytes, measure, shapes_only
from refblo.cost.predict import Fit, in_words, largest_that_fits, parse_bytes
from refblo.equal_cost.methods import METHODS, Make
from refblo.errors import ArgumentError
from refblo.estimators import FMD, RMD
from refblo.problem import BilevelProblem
from refblo.problems import build
from refblo.problems.catalogue import catalogue
from refblo.problems.vit_b_16 import Attention, vit_problem

VIT = "vit-b-16"
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


def _slug(name: str) -> str:
    return name.lower().replace(", ", "-").replace(" ", "-").replace("–", "-")


ESTIMATORS: dict[str, Make] = {
    **{_slug(method.name): method.make for method in METHODS},
    "rmd-stored": lambda g, t: RMD(Langevin(g), Schedule.last(t), graph_bytes=0),
    "rmd-checkpointed": lambda g, t: RMD(
        Langevin(g), Schedule.last(t), checkpointed=True, graph_bytes=0
    ),
    "fmd-columns": lambda g, t: FMD(Langevin(g), Schedule.last(t), block=1),
}
"""Name on the command line → γ and T to an estimator; the settings are those of `refblo compare`."""

NEEDS_PLAIN_ATTENTION = frozenset(ESTIMATORS) - {"hpo-sgld", "hpo-sgld-averaged", "rmd-fo"}


@final
@dataclass(frozen=True)
class Priced:
    """A run that was counted.

    Attributes:
        cost: its counts.
        held: bytes of tensors that the problem and λ hold before it starts.
        n: entries of θ.
        p: entries of λ.
    """

    cost: Cost
    held: int
    n: int
    p: int

    @property
    def needed(self) -> int:
        """Bytes that must be there: held and peak."""
        return self.held + self.cost.peak_bytes


def price(
    problem: str, estimator: str, steps: int, batch: int = 8, dtype: torch.dtype | None = None
) -> Priced:
    """Count one hypergradient.

    Args:
        problem: a case of the catalogue, run with its numbers, or `vit-b-16`, run on shapes alone.
        estimator: a key of `ESTIMATORS`.
        steps: T.
        batch: images a gradient, for `vit-b-16`.
        dtype: float32 for `vit-b-16` and float64 for the catalogue by default.

    Raises:
        ArgumentError: for a name that is not known, or an estimator that needs numbers at this scale.
        MissingProductError: if the estimator cannot form a product for this problem.
    """
    if estimator not in ESTIMATORS:
        known = ", ".join(ESTIMATORS)
        raise ArgumentError(f"estimator must be one of {known}, got {estimator!r}; choose one")
    scale = problem == VIT
    with shapes_only() if scale else nullcontext():
        with LiveBytes() as holding:
            if scale:
                plain = estimator in NEEDS_PLAIN_ATTENTION
                attention: Attention = "plain" if plain else "fused"
                kind = dtype or torch.float32
                bilevel, lam = vit_problem(batch, attention=attention, dtype=kind)
                step_size = 1e-3
            else:
                case = build(problem, dtype=dtype or torch.float64)
                bilevel, lam, step_size = case.problem, case.lam, case.dynamics.step_size
        method = ESTIMATORS[estimator](step_size, steps)
        try:
            cost = measure(lambda: method.estimate(bilevel, lam))
        except DataDependentOutputException as error:
            raise ArgumentError(
                f"estimator must not depend on numbers for {problem}, which has none, got {estimator!r}; "
                "choose hpo-sgld, rmd, rmd-fo, ift-cg or ift-neumann, or a problem of the catalogue"
            ) from error
        held, n = max(holding.live, _vectors(bilevel, lam)), bilevel.initial(lam).numel()
    return Priced(cost, held, n, lam.numel())


def _vectors(problem: BilevelProblem, lam: Tensor) -> int:
    """Bytes of λ and θ⁰: the least that a problem holds (data may be shared with NumPy)."""
    theta = problem.initial(lam)
    return lam.numel() * lam.element_size() + theta.numel() * theta.element_size()


@click.command()
@click.argument("problem")
@click.argument("estimator")
@click.option("--steps", type=click.IntRange(min=1), default=10, show_default=True, help="T.")
@click.option(
    "--batch", type=click.IntRange(min=1), help=f"Images a gradient, for {VIT}.  [default: 8]"
)
@click.option("--dtype", type=click.Choice(list(DTYPES)), help="Of all vectors and data.")
@click.option("--memory", help="Predict what fits, e.g. 16GiB.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
def cost(
    problem: str,
    estimator: str,
    steps: int,
    batch: int | None,
    dtype: str | None,
    memory: str | None,
    json_file: Path | None,
) -> None:
    """Count what one hypergradient of PROBLEM by ESTIMATOR costs, and predict what fits in a memory.

    PROBLEM is a case of the catalogue or vit-b-16, which is counted on shapes alone.
    """
    known = [*catalogue(), VIT]
    if problem not in known:
        raise click.UsageError(f"PROBLEM must be one of {', '.join(known)}, got {problem!r}")
    if estimator not in ESTIMATORS:
        raise click.UsageError(
            f"ESTIMATOR must be one of {', '.join(ESTIMATORS)}, got {estimator!r}"
        )
    if batch is not None and problem != VIT:
        raise click.UsageError(f"--batch is for {VIT} alone: {problem} has its own batches")
    available = None if memory is None else parse_bytes(memory)
    kind = None if dtype is None else DTYPES[dtype]
    images = batch or 8
    console = Console()
    with console.status(f"counting {estimator} on {problem}, T = {steps}") as status:
        found = price(problem, estimator, steps, images, kind)
        fits: dict[str, Fit] = {}
        if available is not None:

            def fit(axis: str, at: Callable[[int], Priced], size: int) -> None:
                status.update(f"counting at three sizes: {axis}")
                fits[axis] = largest_that_fits(lambda k: at(k).needed, size, available, 1)

            fit("steps", lambda k: price(problem, estimator, k, images, kind), steps)
            if problem == VIT:
                fit("batch", lambda k: price(problem, estimator, steps, k, kind), images)
    console.print(table(problem, estimator, steps, found))
    for axis, one in fits.items():
        console.print(sentence(axis, one, available or 0))
    if json_file is not None:
        document = {
            "problem": problem,
            "estimator": estimator,
            "steps": steps,
            "batch": images if problem == VIT else None,
            "n": found.n,
            "p": found.p,
            "held_bytes": found.held,
            **asdict(found.cost),
            "memory": available,
            "fits": {axis: asdict(one) for axis, one in fits.items()},
        }
        try:
            json_file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise click.UsageError(
                f"--json must name a file that can be written: {error}"
            ) from error


def table(problem: str, estimator: str, steps: int, found: Priced) -> Table:
    """One figure a row."""
    shown = Table("what", "count", "", title=f"{estimator} on {problem}, T = {steps}")
    counted, evaluations = found.cost, found.cost.evaluations
    rows: list[tuple[str, int, str]] = [
        ("parameters n", found.n, ""),
        ("hyperparameters p", found.p, ""),
        ("FLOPs of matrix kernels", counted.flops, in_words(counted.flops, "FLOP", 1000)),
        ("elements of other kernels", counted.elements, ""),
        ("bytes moved", counted.moved, in_words(counted.moved)),
        ("peak bytes of the run", counted.peak_bytes, in_words(counted.peak_bytes)),
        ("bytes held by the problem", found.held, in_words(found.held)),
        ("inner gradients", evaluations.inner_gradients, ""),
        ("outer gradients", evaluations.outer_gradients, ""),
        ("Hessian products", evaluations.hessian_products, ""),
        ("mixed products", evaluations.mixed_products, ""),
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
