"""Reverse mode and implicit differentiation against the public libraries: `make speed`.

One interleaved run for each method and size, on processor time of one thread; every contender's answer is
compared with refblo's before it is timed. Run it with an interpreter that has the libraries: what cannot be
imported is left out, and said. The result is written to asv_bench/results/speed.json, and the page
docs/speed.md from it.
"""

import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import click
import torch
from rich.table import Table

from asv_bench.benchmarks.problems import Setting, separable
from asv_bench.benchmarks.timing import interleaved, ratio
from asv_bench.comparison import ResultFile, begin
from asv_bench.measuring.peers import Hypergradient, available
from asv_bench.measuring.peers_implicit import available_implicit
from asv_bench.measuring.peers_jax import available_jax
from refblo.chain import Langevin, Schedule
from refblo.estimators import RMD, Compiled, Estimator, IFTConjugateGradient, IFTNeumann
from refblo.estimators.rmd import MOST_MEMORY
from refblo.kernel import Backend

HERE = Path(__file__).resolve().parent
OUTPUT, PAGE = HERE / "results" / "speed.json", HERE.parent / "docs" / "speed.md"
STEPS, STEP_SIZE, ITERATIONS, TERMS = 100, 0.5, 10, 20
WAYS: dict[str, Backend | None] = {"refblo": None, "traced": "eager", "compiled": "inductor"}
"""Ours: as it is; its operations recorded and run one by one; the same by torch's compiler."""
SAME = 1e-8
"""How far an answer may be off: a hundred steps of rounding, and that of ten iterations of CG."""

SIZES = (100, 10_000, 1_000_000)


def estimators() -> dict[str, RMD | IFTConjugateGradient | IFTNeumann]:
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


def ways(
    method: str, setting: Setting, compiled: bool
) -> tuple[dict[str, Hypergradient], dict[str, tuple[float, float]]]:
    """Ours, and for those that prepare something: what the first call takes, and in a later process."""
    estimator = estimators()[method]
    # The second problem is new to refblo, and its kernels are known to torch.
    new = separable(setting.lam.numel())
    run: dict[str, Hypergradient] = {}
    first: dict[str, tuple[float, float]] = {}
    for name, backend in WAYS.items():
        if backend == "inductor" and not compiled:
            continue
        mine = estimator if backend is None else Compiled(estimator, backend=backend)
        if backend is not None:
            first[name] = seconds_of(mine, setting), seconds_of(mine, new)
        run[name] = partial(value, mine, setting)
    return run, first


def value(estimator: Estimator, setting: Setting) -> torch.Tensor:
    """The hypergradient."""
    return estimator.estimate(setting.problem, setting.lam).value


def seconds_of(estimator: Estimator, setting: Setting) -> float:
    """How long one estimate takes."""
    started = time.perf_counter()
    value(estimator, setting)
    return time.perf_counter() - started


def compare(method: str, n: int, rounds: int, compiled: bool = True) -> dict[str, Any]:
    """One method at one size; who gives another answer than refblo is named, and not timed.

    Returns:
        Medians by contender; for each way of ours how many times as fast as the fastest library it is
        (median and quartiles), how many times as long as jitted JAX the fastest of ours takes, and what
        the first calls took.
    """
    setting = separable(n)
    mine, first = ways(method, setting, compiled)
    reference = mine["refblo"]()
    others = contenders(method, setting)
    jitted = available_jax(method, n, STEPS, STEP_SIZE, ITERATIONS, TERMS)
    everybody = {**mine, **others, **jitted}
    gaps = {
        name: float((run() - reference).norm() / reference.norm())
        for name, run in everybody.items()
    }
    wrong = {name: gap for name, gap in gaps.items() if not gap <= SAME}
    seconds = interleaved({k: run for k, run in everybody.items() if k not in wrong}, rounds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    found: dict[str, Any] = {"method": method, "n": n, "seconds": medians}
    found |= {"first_call": first, "wrong": wrong}
    # One of ours that is wrong is named like any other; the reference itself is never that.
    timed = [name for name in mine if name in medians]
    libraries = [name for name in others if name in medians]
    if libraries:
        fastest = min(libraries, key=medians.__getitem__)
        shares = {name: asdict(ratio(seconds[fastest], seconds[name])) for name in timed}
        found |= {"fastest": fastest, "times_faster": shares}
    ours = min(timed, key=medians.__getitem__)
    for name in jitted:
        if name in seconds:
            found["over_jax"] = ratio(seconds[ours], seconds[name]).median
    return found


def is_slower(found: dict[str, Any]) -> bool:
    """Whether a library is faster than each of our ways."""
    times = found.get("times_faster", {}).values()
    return bool(times) and max(ratio["median"] for ratio in times) < 1


def cells(found: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    seconds, fastest, times = found["seconds"], found.get("fastest"), found.get("times_faster", {})
    return (
        found["method"],
        f"{found['n']:,}",
        *(_way(seconds.get(name), times.get(name)) for name in WAYS),
        fastest or "–",
        _ms(seconds.get(fastest)),
        f"{found['over_jax']:.2f}" if "over_jax" in found else "–",
    )


def not_timed(results: list[dict[str, Any]]) -> list[str]:
    """Who gave another answer."""
    return [
        f"{name} is not timed on {one['method']} at n = {one['n']:,}: its answer differs from refblo's by "
        f"{gap:.1e}, relatively."
        for one in results
        for name, gap in one["wrong"].items()
    ]


def page(document: dict[str, Any]) -> str:
    """The results as a page, in Markdown."""
    lines = [
        "# Speed",
        "",
        "Written by `make speed`; no figure is typed by hand. Milliseconds of processor "
        f"time a hypergradient (medians), T = {document['steps']}, float64, one thread of "
        f"{document['machine']}, torch {document['torch']}; the problem is "
        "½ Σ w (θ − λ)² + 0.1 Σ cos θ with n = p, so that small n is all calls and large n all memory "
        "traffic. Every contender's answer was first compared with refblo's; all ran in turns in one "
        "process.",
        "",
        "*refblo* is an estimator as it is; *traced* the same in "
        '`Compiled(…, backend="eager")`, which records its operations once and needs no compiler; *compiled* '
        'with `backend="inductor"`. Behind each time stands how many times as fast as the fastest library it '
        "is, round by round (median; its quartiles are in asv_bench/results/speed.json). *Over JAX* is the "
        "time of the fastest way over that of a few lines of jitted JAX.",
        "",
        "An outer loop runs its first eight estimates as they are and the later ones traced, unless told "
        "otherwise.",
        "",
        "As it is, refblo makes the calls that the libraries make. Its reverse mode keeps up to "
        f"{MOST_MEMORY // 2**30} GiB of graphs (`graph_bytes`) and computes what does not fit again, where "
        "the libraries keep all.",
        "",
        "| method | n = p | refblo | traced | compiled | fastest library | its time | over JAX |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    lines += [f"| {' | '.join(cells(one))} |" for one in document["results"]]
    lines += [
        "",
        "What the first call takes, in seconds: to trace, or to compile, and to compile in a later process "
        "(torch keeps what it compiled on disk).",
        "",
        "| method | n = p | traced | compiled | compiled before |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for one in document["results"]:
        traced, compiled = (one["first_call"].get(name) for name in ("traced", "compiled"))
        later = (f"{compiled[0]:.0f}", f"{compiled[1]:.1f}") if compiled else ("–", "–")
        lines.append(f"| {one['method']} | {one['n']:,} | {traced[0]:.1f} | {' | '.join(later)} |")
    timed = sorted({name for one in document["results"] for name in one["seconds"]} - set(WAYS))
    lines += ["", f"Timed: {'; '.join(timed) or 'no library'}."]
    wrong = not_timed(document["results"])
    lines += ["", *(f"- {line}" for line in wrong)] if wrong else []
    return "\n".join([*lines, ""])


def _way(seconds: float | None, times: dict[str, float] | None) -> str:
    return _ms(seconds) if times is None else f"{_ms(seconds)} ({times['median']:.1f}\u00a0×)"


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:,.{0 if seconds >= 0.1 else 2}f}"


@click.command()
@click.option("--rounds", type=click.IntRange(min=3), default=15, show_default=True)
@click.option("--largest", type=click.IntRange(min=100), default=SIZES[-1], show_default=True)
@click.option("--compiled/--eager", default=True, help="Run the compiled estimators as well.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=OUTPUT)
def speed(rounds: int, largest: int, compiled: bool, output: Path) -> None:
    """Compare the speeds, print them, write them; 1 if a library is faster."""
    # What earlier processes compiled is not to be found.
    kept = tempfile.TemporaryDirectory()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = kept.name
    console = begin()
    file = ResultFile(output, OUTPUT, PAGE, page, STEPS)
    shown = Table("method", "n = p", *WAYS, "fastest library", "its time", "over JAX")
    results = []
    slower = False
    for n in (size for size in SIZES if size <= largest):
        for method in estimators():
            with console.status(f"{method}, n = {n}"):
                fewer = rounds if n < SIZES[-1] else max(3, rounds // 3)
                found = compare(method, n, fewer, compiled)
            results.append(found)
            file.write(results)
            slower = slower or is_slower(found)
            shown.add_row(*cells(found))
    console.print(shown)
    for line in not_timed(results):
        console.print(line)
    sys.exit(1 if slower else 0)


if __name__ == "__main__":
    speed()
