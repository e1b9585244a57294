"""HPO-SGLD on ViT-B/16, one λ a weight, on the device at hand: `python -m asv_bench.at_scale`.

The setting is that of Table 13 of Kim and Hospedales: L1 weights, B = M = 5, batch 8. Everything is measured
in one process: a whole hypergradient, a step against the two gradients that it cannot do without, taken in
turns, the most bytes alive against what was predicted on shapes alone, and the rate of matrix products.

A row is added to asv_bench/results/at_scale.json, in the place of an earlier one of the same device and
setting, and the page docs/at-scale.md is written from all rows.
"""

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

import click
import torch
from rich.console import Console
from torch import Tensor

from asv_bench.benchmarks.problems import Setting
from asv_bench.benchmarks.timing import interleaved, ratio
from asv_bench.measuring import bare
from asv_bench.measuring.measures import steps_and_gradients
from refblo.chain import Langevin, Schedule
from refblo.cost import Cost, LiveBytes, measure, shapes_only
from refblo.cost.predict import in_words
from refblo.estimators import HPOSGLD
from refblo.files import write_atomically
from refblo.problem import BilevelProblem, Separable
from refblo.problems.vit_b_16 import Size, vit_problem
from refblo.types import Batch, Lam, Loss, Theta

HERE = Path(__file__).resolve().parent
OUTPUT = HERE / "results" / "at_scale.json"
PAGE = HERE.parent / "docs" / "at-scale.md"

Precision = Literal["float32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bf16")

SCHEDULE = Schedule(5, 5)
STEPS_TIMED = 2
"""Steps of a run that are timed together."""

RULE = Langevin(1e-3)
PRINTED_MS = 2325.3
"""Table 13, L1-Reg, HPO-SGLD, on a V100."""


@final
@dataclass(frozen=True)
class Row:
    """What was measured on one device in one setting.

    Attributes:
        device: in words.
        torch: the version of torch.
        precision: of the network: float32, TF32 products, or bfloat16 by autocast.
        batch: images that one gradient sees.
        n: parameters, and hyperparameters.
        seconds: of a hypergradient, B = M = 5.
        gradients: seconds of one inner and one outer gradient.
        step: a step's time over theirs, round by round: lower quartile, median, upper quartile.
        step_flops: a step's operations of matrix kernels over theirs.
        rate: operations a second of the hypergradient.
        roof: operations a second of a large matrix product in the same precision.
        peak: the most bytes alive.
        predicted: the peak counted on shapes alone, in bytes.
        error: ‖h − h in float32‖/‖h in float32‖; None in float32.
        noise_scale: κ; 0 without noise.
        step_operations: a step's operations of all kernels over theirs; None if not counted.
    """

    device: str
    torch: str
    precision: str
    batch: int
    n: int
    seconds: float
    gradients: float
    step: tuple[float, float, float]
    step_flops: float
    rate: float
    roof: float
    peak: int
    predicted: int
    error: float | None
    noise_scale: float = 0.0
    step_operations: float | None = None

    @property
    def setting(self) -> tuple[str, str, int, int, float]:
        """What an earlier row is replaced by."""
        return self.device, self.precision, self.batch, self.n, self.noise_scale


def describe(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"one thread of {platform.machine()}"


def clock(device: torch.device) -> Callable[[], float]:
    """Processor time on a CPU; on a GPU the time after what was asked of it is done."""
    if device.type != "cuda":
        return time.process_time

    def now() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def posed(
    batch: int, size: Size, precision: Precision, device: torch.device | str = "cpu"
) -> Setting:
    """The problem; in bf16 the network runs under autocast, and θ stays in float32."""
    problem, lam = vit_problem(batch, size, device=device)
    if precision != "bf16":
        return Setting(problem, lam)
    kind = torch.device(device).type

    def cast(loss: Loss) -> Loss:
        def run(lam: Lam, theta: Theta, batch: Batch) -> Tensor:
            with torch.autocast(kind, torch.bfloat16):
                return loss(lam, theta, batch)

        return run

    inner = problem.inner
    assert isinstance(inner, Separable)
    data = cast(lambda _, theta, batch: inner.data(theta, batch))
    lower = Separable(
        lambda theta, batch: data(lam, theta, batch), inner.regulariser, inner.products
    )
    return Setting(BilevelProblem(lower, cast(problem.outer), problem.initial), lam)


def counted(
    batch: int,
    size: Size,
    schedule: Schedule,
    precision: Precision = "float32",
    noise_scale: float = 0.0,
) -> Cost:
    """A hypergradient on shapes alone."""
    with shapes_only():
        setting = posed(batch, size, precision)
        return measure(lambda: _estimate(setting, schedule, noise_scale))


def _rule(noise_scale: float) -> Langevin:
    return replace(RULE, noise_scale=noise_scale)


def _estimate(setting: Setting, schedule: Schedule, noise_scale: float) -> Tensor:
    method = HPOSGLD(_rule(noise_scale), schedule)
    return method.estimate(setting.problem, setting.lam).value


def operations_of_a_step(batch: int, size: Size, noise_scale: float) -> tuple[float, float]:
    """A step's over those of the two gradients: of matrix kernels, and of all, on shapes alone.

    The difference of two runs is one step.
    """
    with shapes_only():
        setting = posed(batch, size, "float32")
        gradients = measure(lambda: bare.inner_and_outer_gradient(setting))
    few, more = (counted(batch, size, Schedule.last(T), noise_scale=noise_scale) for T in (2, 3))
    flops, operations = more.flops - few.flops, more.operations - few.operations
    return flops / gradients.flops, operations / gradients.operations


def matrix_rate(device: torch.device, precision: Precision, size: int) -> float:
    """Operations a second of a square product, the best of some rounds."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
    out, now = torch.empty_like(left), clock(device)
    seconds = interleaved({"product": lambda: torch.mm(left, right, out=out)}, 7, now)
    return 2 * size**3 / min(seconds["product"])


def _peak(device: torch.device, run: Callable[[], object]) -> int:
    """The most bytes alive during a run, beyond what was before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    with LiveBytes() as memory:
        run()
    return int(memory.peak)


def _seconds(now: Callable[[], float], run: Callable[[], object]) -> float:
    start = now()
    run()
    return now() - start


def row(
    device: torch.device,
    batch: int,
    precision: Precision,
    size: Size,
    rounds: int,
    roof: int,
    noise_scale: float = 0.0,
) -> Row:
    """Measure everything on one device.

    Args:
        device: where.
        batch: images that one gradient sees.
        precision: of the network.
        size: of the network.
        rounds: in which a step and the two gradients are taken in turns.
        roof: side of the matrix product whose rate is measured.
        noise_scale: κ.
    """
    setting, now = posed(batch, size, precision, device), clock(device)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        value: list[Tensor] = []
        # The first run looks at the losses and warms up.
        peak = _peak(device, lambda: value.append(_estimate(setting, SCHEDULE, noise_scale)))
        whole = [
            _seconds(now, lambda: _estimate(setting, SCHEDULE, noise_scale))
            for _ in range(rounds if device.type == "cuda" else 1)
        ]
        pair = steps_and_gradients(setting, _rule(noise_scale), STEPS_TIMED)
        seconds = interleaved(pair, rounds, now)
        rate = matrix_rate(device, precision, roof)
    finally:
        torch.set_float32_matmul_precision("highest")
    error = None
    if precision != "float32":
        exact = _estimate(posed(batch, size, "float32", device), SCHEDULE, noise_scale)
        error = float((value[0] - exact).norm() / exact.norm())
    share = ratio(seconds["step"], seconds["gradients"])
    cost = counted(batch, size, SCHEDULE, noise_scale=noise_scale)
    step_flops, step_operations = operations_of_a_step(batch, size, noise_scale)
    return Row(
        device=describe(device),
        torch=torch.__version__,
        precision=precision,
        batch=batch,
        n=setting.lam.numel(),
        seconds=statistics.median(whole),
        gradients=statistics.median(seconds["gradients"]) / STEPS_TIMED,
        step=(share.lower_quartile, share.median, share.upper_quartile),
        step_flops=step_flops,
        rate=cost.flops / statistics.median(whole),
        roof=rate,
        peak=peak,
        predicted=counted(batch, size, SCHEDULE, precision, noise_scale).peak_bytes,
        error=error,
        noise_scale=noise_scale,
        step_operations=step_operations,
    )


def load(path: Path) -> list[Row]:
    """The rows that were written before; none where there is no file."""
    if not path.exists():
        return []
    stored: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
    return [Row(**{**one, "step": tuple(one["step"])}) for one in stored["rows"]]


def page(rows: Sequence[Row]) -> str:
    """The page, in Markdown."""
    lines = [
        "# At the scale of a vision transformer",
        "",
        "Written by `python -m asv_bench.at_scale`; no figure is typed by hand. HPO-SGLD on ViT-B/16 with "
        "one L1 weight a parameter ($n = p = 86\\,567\\,656$), B = M = 5, float32 vectors. *Step* is the "
        "time of a step over that of one inner and one outer gradient, taken in turns (median and "
        "quartiles), *its FLOPs* and *all operations* the same of counted operations, of matrix products and "
        "of all kernels, and κ the noise scale; *rate* is what the hypergradient's counted operations come "
        "to a second, and its share of the rate of a large matrix product in the same process and "
        "precision; *predicted* is the peak counted on shapes alone; *error* is the distance of the "
        "hypergradient from that in float32, relatively.",
        "",
        "| device | precision | batch | κ | ms | step | its FLOPs | all operations | rate | peak | predicted "
        "| error |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: | ---: | --- | ---: | --- | ---: |",
        f"| V100, as printed in Table 13 | not said | not said | not said | {PRINTED_MS:,} | – | – | – | – "
        "| – | – | – |",
    ]
    for one in rows:
        low, median, high = one.step
        cells = (
            one.device,
            one.precision,
            str(one.batch),
            f"{one.noise_scale:g}",
            f"{one.seconds * 1e3:,.1f}",
            f"{median:.3f} ({low:.3f} … {high:.3f})",
            f"{one.step_flops:.4f}",
            "–" if one.step_operations is None else f"{one.step_operations:.4f}",
            f"{in_words(one.rate, 'FLOP/s', 1000)}, {one.rate / one.roof:.0%}",
            f"{one.peak:,} B",
            f"{one.predicted:,} B ({one.peak / one.predicted - 1:+.2%})",
            "–" if one.error is None else f"{one.error:.1e}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    if not any("one thread" not in one.device for one in rows):
        lines += [
            "",
            "No GPU was at hand when this page was written: the rows of a GPU, which are what Table 13 is to",
            "be compared with, are missing. The same command measures them where there is one.",
        ]
    return "\n".join([*lines, ""])


TINY = Size(image=16, patch=8, layers=1, width=8, heads=2, hidden=16, classes=4)
"""A network of a few thousand weights, to try the way from the command to the page."""


def largest_batch(device: torch.device, size: Size, precision: Precision, memory: int) -> int:
    """The largest batch, a power of two, whose predicted peak fits in nine tenths of a memory.

    Args:
        device: where the network will run.
        size: of the network.
        precision: of the network.
        memory: bytes.

    Raises:
        BadParameter: if the device does not say how much memory it has, or not even one image fits.
    """
    if memory <= 0:
        raise click.BadParameter(
            f"--batch fill must be used on a GPU, got {device}, which does not say how much memory it has"
        )
    batch = 1
    while counted(2 * batch, size, Schedule(1, 1), precision).peak_bytes <= 0.9 * memory:
        batch *= 2
    if counted(batch, size, Schedule(1, 1), precision).peak_bytes > 0.9 * memory:
        raise click.BadParameter(f"{device} must hold one image, got {memory:,} bytes of memory")
    return batch


@click.command()
@click.option(
    "--batch", default="8", show_default=True, help="Images, or fill: as many as the GPU holds."
)
@click.option("--precision", type=click.Choice(PRECISIONS), default="float32", show_default=True)
@click.option("--noise-scale", type=click.FloatRange(min=0), default=0.0, show_default=True)
@click.option("--rounds", type=click.IntRange(min=2), default=5, show_default=True)
@click.option(
    "--device", "where", default=None, help="cpu or cuda; a GPU where there is one if not given."
)
@click.option("--tiny", is_flag=True, help="A network of a few thousand weights.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=OUTPUT,
    show_default=True,
    help="The rows.",
)
@click.option("--page/--no-page", "write_page", default=True, help="Write docs/at-scale.md.")
def at_scale(
    batch: str,
    precision: Precision,
    noise_scale: float,
    rounds: int,
    where: str | None,
    output: Path,
    *,
    tiny: bool,
    write_page: bool,
) -> None:
    """Measure, print and write a row and the page; some minutes on a CPU."""
    found = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(where or found)
    if device.type == "cuda" and found == "cpu":
        raise click.BadParameter("must be cpu on this machine, got cuda: torch sees no GPU")
    if device.type == "cpu":
        torch.set_num_threads(1)
    console = Console()
    waiting = console.status("measuring") if sys.stdout.isatty() else nullcontext()
    with waiting:
        roof = 8192 if device.type == "cuda" else 2048
        size, roof = (TINY, 256) if tiny else (Size(), roof)
        images = _images(batch, device, size, precision)
        measured = row(device, images, precision, size, rounds, roof, noise_scale)
    rows = [one for one in load(output) if one.setting != measured.setting] + [measured]
    rows.sort(key=lambda one: one.setting)
    document = {"rows": [asdict(one) for one in rows]}
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    write_atomically(output, text)
    if write_page:
        write_atomically(PAGE, page(rows))
    console.print_json(data=asdict(measured))


def _images(batch: str, device: torch.device, size: Size, precision: Precision) -> int:
    """The batch that was asked for."""
    if batch == "fill":
        on_gpu = device.type == "cuda"
        memory = int(torch.cuda.get_device_properties(device).total_memory) if on_gpu else 0
        return largest_batch(device, size, precision, memory)
    if not batch.isdigit() or int(batch) < 1:
        raise click.BadParameter(f"--batch must be a positive integer or fill, got {batch!r}")
    return int(batch)


if __name__ == "__main__":
    at_scale()
