"""Reverse mode and implicit differentiation against the public libraries: `python -m asv_bench.speed`.

One interleaved run for each method and size, on processor time of one thread; every contender's answer is
compared with refblo's before it is timed. Run it with an interpreter that has the libraries: what cannot be
imported is left out, and said. The result is written to asv_bench/results/speed.json, and the page
docs/speed.md from it.
"""

import importlib.util
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import click
import torch
from rich.console import Console
from rich.table import Table

from asv_bench.benchmarks.peers import Hypergradient, available
from asv_bench.benchmarks.peers_implicit import available_implicit
from asv_bench.benchmarks.peers_jax import available_jax
from asv_bench.benchmarks.problems import Setting, separable
from asv_bench.benchmarks.timing import interleaved, ratio
from refblo.chain import Langevin, Schedule
from refblo.estimators import RMD, Compiled, Estimator, IFTConjugateGradient, IFTNeumann

HERE = Path(__file__).resolve().parent
OUTPUT, PAGE = HERE / "results" / "speed.json", HERE.parent / "docs" / "speed.md"
STEPS, STEP_SIZE, ITERATIONS, TERMS = 100, 0.5, 10, 20
LIBRARIES = ("hypergrad", "torchopt", "higher", "betty", "boat_torch", "jax")
MINE = ("refblo", "refblo, compiled")
SAME = 1e-8
"""How far an answer may be off: a hundred steps of rounding, and that of ten iterations of CG."""

SIZES = (100, 10_000, 1_000_000)


def estimators() -> dict[str, Estimator]:
    """What is compared, by name."""
    rule = Langevin(STEP_SIZE)
    return {
        "RMD": RMD(rule, Schedule.last(STEPS)),
        "IFT-CG": IFTConjugateGradient(rule, STEPS, ITERATIONS),
        "IFT-Neumann": IFTNeumann(rule, STEPS, STEP_SIZE, TERMS),
    }


def contenders(method: str, setting: Setting) -> dict[str, Hypergradient]:
    """The libraries' ways to the same answer, those in torch first."""
    if method == "RMD":
        return available(setting, STEPS, STEP_SIZE)
    solve, terms = ("CG", ITERATIONS) if method == "IFT-CG" else ("Neumann", TERMS)
    return available_implicit(solve, setting, STEPS, STEP_SIZE, terms)


def compare(method: str, n: int, rounds: int, compiled: bool = True) -> dict[str, object]:
    """One method at one size; who gives another answer than refblo is named, and not timed.

    Returns:
        Medians by contender; refblo's faster way, how many times as fast as the fastest library it is, and
        how many times as long as jitted JAX it takes; what compiling took.
    """
    setting = separable(n)
    estimator = estimators()[method]

    def plain() -> torch.Tensor:
        return estimator.estimate(setting.problem, setting.lam).value

    reference = plain()
    mine: dict[str, Hypergradient] = {"refblo": plain}
    found: dict[str, object] = {"method": method, "n": n}
    if compiled and isinstance(estimator, RMD | IFTConjugateGradient | IFTNeumann):
        fast = Compiled(estimator)
        # The second problem is new to refblo, and its kernels are known to torch.
        for name, new in (("compile_seconds", setting), ("cached_seconds", separable(n))):
            started = time.perf_counter()
            fast.estimate(new.problem, new.lam)
            found[name] = time.perf_counter() - started
        mine["refblo, compiled"] = lambda: fast.estimate(setting.problem, setting.lam).value
    others = contenders(method, setting)
    jitted = available_jax(method, n, STEPS, STEP_SIZE, ITERATIONS, TERMS)
    everybody = {**mine, **others, **jitted}
    gaps = {
        name: float((run() - reference).norm() / reference.norm())
        for name, run in everybody.items()
    }
    found["wrong"] = {name: gap for name, gap in gaps.items() if not gap <= SAME}
    seconds = interleaved({k: run for k, run in everybody.items() if gaps[k] <= SAME}, rounds)
    medians = {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}
    ours = min((name for name in mine if name in medians), key=medians.__getitem__)
    found |= {"seconds": medians, "ours": ours}
    libraries = [name for name in others if name in medians]
    if libraries:
        fastest = min(libraries, key=medians.__getitem__)
        shares = ratio(seconds[fastest], seconds[ours])
        found |= {"fastest": fastest, "times_faster": shares.median}
        found["quartiles"] = (shares.lower_quartile, shares.upper_quartile)
    for name in jitted:
        if name in seconds:
            found["over_jax"] = ratio(seconds[ours], seconds[name]).median
    return found


def page(document: dict[str, Any]) -> str:
    """The results as a page, in Markdown."""
    lines = [
        "# Speed",
        "",
        "Written by `python -m asv_bench.speed`; no figure is typed by hand. Milliseconds of processor "
        f"time a hypergradient (medians), T = {document['steps']}, float64, one thread of "
        f"{document['machine']}, torch {document['torch']}; the problem is "
        "½ Σ w (θ − λ)² + 0.1 Σ cos θ with n = p, so that small n is all calls and large n all memory "
        "traffic. Every contender's answer was first compared with refblo's; all ran in turns in one "
        "process. *Times faster* is refblo's faster way against the fastest library, round by round "
        "(quartiles); *over JAX* is its time over that of a few lines of jitted JAX; *compile* is what a "
        "first call takes, and what it takes a later process: torch keeps what it compiled on disk.",
        "",
        "| method | n = p | refblo | compiled | fastest library | its time | times faster | over JAX "
        "| compile |",
        "| --- | ---: | ---: | ---: | --- | ---: | --- | ---: | ---: |",
    ]
    for one in document["results"]:
        seconds, fastest = one["seconds"], one.get("fastest")
        low, high = one.get("quartiles", (0.0, 0.0))
        cells = (
            one["method"],
            f"{one['n']:,}",
            _ms(seconds.get("refblo")),
            _ms(seconds.get("refblo, compiled")),
            fastest or "–",
            _ms(seconds.get(fastest)),
            f"{one['times_faster']:.1f} ({low:.1f} … {high:.1f})" if fastest else "–",
            f"{one['over_jax']:.2f}" if "over_jax" in one else "–",
            f"{one['compile_seconds']:.0f} s, {one['cached_seconds']:.1f} s"
            if "compile_seconds" in one
            else "–",
        )
        lines.append("| " + " | ".join(cells) + " |")
    timed = sorted({name for one in document["results"] for name in one["seconds"]} - set(MINE))
    lines += ["", f"Timed: {'; '.join(timed) or 'no library'}."]
    wrong = [
        f"{name} is not timed on {one['method']} at n = {one['n']:,}: its answer differs from refblo's by "
        f"{gap:.1e}, relatively."
        for one in document["results"]
        for name, gap in one["wrong"].items()
    ]
    lines += ["", *(f"- {line}" for line in wrong)] if wrong else []
    return "\n".join([*lines, ""])


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:,.2f}"


@click.command()
@click.option("--rounds", type=click.IntRange(min=3), default=15, show_default=True)
@click.option("--largest", type=click.IntRange(min=100), default=SIZES[-1], show_default=True)
@click.option("--compiled/--eager", default=True, help="Run the compiled estimators as well.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=OUTPUT)
def speed(rounds: int, largest: int, compiled: bool, output: Path) -> None:
    """Compare the speeds, print them, write them; 1 if a library is faster."""
    torch.set_num_threads(1)
    # What earlier processes compiled is not to be found.
    kept = tempfile.TemporaryDirectory()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = kept.name
    console = Console(width=None if sys.stdout.isatty() else 140)
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        console.print(f"not installed, and left out: {', '.join(missing)}")
    shown = Table(
        *("method", "n = p", "refblo", "compiled", "fastest library", "its time"),
        *("times faster", "over JAX"),
    )
    results = []
    slower = False
    for n in (size for size in SIZES if size <= largest):
        for method in estimators():
            with console.status(f"{method}, n = {n}"):
                fewer = rounds if n < SIZES[-1] else max(3, rounds // 3)
                found = compare(method, n, fewer, compiled)
            results.append(found)
            output.parent.mkdir(parents=True, exist_ok=True)
            document = {
                "machine": platform.machine(),
                "torch": torch.__version__,
                "steps": STEPS,
                "results": results,
            }
            output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            if output == OUTPUT:
                PAGE.write_text(page(document), encoding="utf-8")
            seconds = found["seconds"]
            assert isinstance(seconds, dict)
            fastest = str(found.get("fastest", "—"))
            faster, over = found.get("times_faster"), found.get("over_jax")
            slower = slower or (isinstance(faster, float) and faster < 1)
            shown.add_row(
                method,
                f"{n:,}",
                f"{seconds['refblo'] * 1e3:.2f} ms",
                f"{seconds['refblo, compiled'] * 1e3:.2f} ms"
                if "refblo, compiled" in seconds
                else "—",
                fastest,
                f"{seconds[fastest] * 1e3:.2f} ms" if fastest in seconds else "—",
                f"{faster:.2f}" if isinstance(faster, float) else "—",
                f"{over:.1f}" if isinstance(over, float) else "—",
            )
    console.print(shown)
    for one in results:
        wrong = one["wrong"]
        assert isinstance(wrong, dict)
        for name, gap in wrong.items():
            console.print(
                f"{name} was not timed on {one['method']} at n = {one['n']}: its answer differs from "
                f"refblo's by {gap:.1e} (relative)"
            )
    sys.exit(1 if slower else 0)


if __name__ == "__main__":
    speed()
