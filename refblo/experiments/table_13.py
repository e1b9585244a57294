"""Table 13 of Kim and Hospedales: the time of one outer iteration, on Synth-1D and on L1-Reg.

Times are of this machine, by processor time of one thread, each the median of some rounds in which all
methods take turns. At the paper's scale L1-Reg is ViT-B/16 with random weights, 86,567,656 of them and as
many λ, batch 8, B = M = 5 with noise: one hypergradient by HPO-SGLD, between two timings of its two gradients
after one that is not counted, since a gradient takes some 15 seconds of a core; the peak of memory that the
same run has on shapes alone; and the peak of the process before the problem, after the first gradients and
after the hypergradient. The other methods are left out there.
"""

import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
import torch

from refblo.chain import Langevin, Schedule
from refblo.cost import measure, shapes_only
from refblo.derivatives import inner_gradient, outer_theta_gradient
from refblo.estimators import HPOSGLD, RMD, Estimator, IFTConjugateGradient, IFTNeumann
from refblo.experiments import l1
from refblo.experiments.markdown import saved
from refblo.experiments.methods import conjugate_gradient, hpo_sgld, neumann, unrolled
from refblo.experiments.outer_loop import Descent
from refblo.experiments.printed_networks import TABLE_13
from refblo.experiments.report import (
    ExperimentReport,
    ExperimentRow,
    ExperimentVerdict,
    Progress,
    Scale,
    each_run,
    silent,
)
from refblo.experiments.store import Store, Values
from refblo.noise import Draws
from refblo.plotting import OURS, PRINTED, drawing
from refblo.problem import BilevelProblem
from refblo.problems.vit_b_16 import Attention, Size, vit_problem
from refblo.types import Lam

ROUNDS = {Scale.SMOKE: 3, Scale.SMALL: 15, Scale.PAPER: 1}
NOISY = Langevin(l1.INNER_RATE, 0.001, 1e-6)
"""(τ, κ) of Table 9."""
COLUMNS = ("Synth-1D", "L1-Reg")


def synth_methods() -> dict[str, Estimator]:
    """D.1."""
    competitors = {
        "HPO-SGLD": hpo_sgld("HPO-SGLD"),
        "IFT": neumann("IFT"),
        "IFT-CG": conjugate_gradient("IFT-CG"),
        "RMD": unrolled("RMD", "RMD", 100),
        "FMD": unrolled("FMD", "FMD", 100),
    }
    return {name: c.estimator for name, c in competitors.items() if c.estimator is not None}


def network_methods() -> dict[str, Estimator]:
    """D.2, with the series and the solve of D.1; FMD is left out, since p = n."""
    plain, steps = Langevin(l1.INNER_RATE), l1.INNER_STEPS
    return {
        "HPO-SGLD": HPOSGLD(NOISY, Schedule(steps // 2, steps // 2)),
        "IFT": IFTNeumann(plain, steps, 0.9, 11),
        "IFT-CG": IFTConjugateGradient(plain, steps, 10, 0.01),
        "RMD": RMD(plain, Schedule.last(l1.UNROLLED_STEPS)),
    }


def network(scale: Scale, method: str, size: Size | None = None) -> tuple[BilevelProblem, Lam]:
    """The problem of the L1-Reg column; fused attention where a method needs no Hessian."""
    attention: Attention = "fused" if method == "HPO-SGLD" else "plain"
    return vit_problem(l1.BATCH, size or l1.EFFORTS[scale].size, attention)


def timed(run: Callable[[], object]) -> float:
    """Milliseconds of processor time."""
    began = time.process_time()
    run()
    return 1000 * (time.process_time() - began)


def take_turns(runs: dict[str, Callable[[], object]], rounds: int) -> Values:
    """The milliseconds of each run in each round, after one round that is not counted."""
    for run in runs.values():
        run()
    counted: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            counted[name].append(timed(run))
    return {name: np.array(values) for name, values in counted.items()}


def synth_column(rounds: int) -> Values:
    """Synth-1D."""
    problem = Descent().problem
    lam = torch.full((1,), 0.5, dtype=torch.float64)
    runs: dict[str, Callable[[], object]] = {
        name: partial(estimator.estimate, problem, lam)
        for name, estimator in synth_methods().items()
    }
    return take_turns(runs, rounds)


def network_column(scale: Scale, rounds: int, size: Size | None = None) -> Values:
    """L1-Reg with each method, and HPO-SGLD's two gradients ("gradients")."""
    runs: dict[str, Callable[[], object]] = {}
    before = resident()
    for name, estimator in network_methods().items():
        if scale is Scale.PAPER and name != "HPO-SGLD":
            continue
        problem, lam = network(scale, name, size)
        runs[name] = partial(estimator.estimate, problem, lam, Draws(1))
        if name == "HPO-SGLD":
            runs["gradients"] = partial(two_gradients, problem, lam)
    if scale is Scale.PAPER:
        return {**once(runs["HPO-SGLD"], runs["gradients"]), "resident before": np.array([before])}
    return take_turns(runs, rounds)


def once(whole: Callable[[], object], gradients: Callable[[], object]) -> Values:
    """The milliseconds of one hypergradient, and of its gradients before and after it; resident bytes."""
    gradients()
    before = timed(gradients)
    peak = resident()
    between = timed(whole)
    return {
        "HPO-SGLD": np.array([between]),
        "gradients": np.array([before, timed(gradients)]),
        "resident with gradients": np.array([peak]),
        "resident with HPO-SGLD": np.array([resident()]),
    }


def resident() -> float:
    """The most bytes that this process has had in memory so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) * (1 if sys.platform == "darwin" else 1024)


def two_gradients(problem: BilevelProblem, lam: Lam) -> None:
    """∂_θ of the inner and of the outer loss at θ⁰."""
    theta = problem.initial(lam)
    inner_gradient(problem.inner, lam, theta, None)
    outer_theta_gradient(problem.outer, lam, theta, None)


def peaks(scale: Scale, size: Size | None = None) -> Values:
    """Bytes on shapes alone: the peak of a hypergradient, and of its two gradients; a vector's size."""
    with shapes_only():
        problem, lam = network(scale, "HPO-SGLD", size)
        estimator = network_methods()["HPO-SGLD"]
        whole = measure(lambda: estimator.estimate(problem, lam, Draws(1)).estimate)
        parts = measure(lambda: two_gradients(problem, lam))
    vector = lam.numel() * lam.element_size()
    return {
        "whole": np.array([float(whole.peak_bytes)]),
        "gradients": np.array([float(parts.peak_bytes)]),
        "vector": np.array([float(vector)]),
    }


@final
@dataclass(frozen=True)
class Table13:
    """Table 13.

    Args:
        size: of the network, in the place of the scale's own.
    """

    size: Size | None = None
    name: str = field(default="table-13", init=False)
    what: str = field(
        default="milliseconds of one outer iteration, on Synth-1D and on L1-Reg", init=False
    )

    def run(
        self, scale: Scale, output: Path, progress: Progress = silent, seed: int = 0
    ) -> ExperimentReport:
        """Run it; see `Experiment.run`.

        Raises:
            ArgumentError: for a negative seed, or an output folder that cannot be used.
        """
        began = time.monotonic()
        store = Store(output, self.name, scale, seed, progress)
        rounds = ROUNDS[scale]
        size = self.size or l1.EFFORTS[scale].size
        settings: dict[str, float | int | str] = {"machine": machine(), "rounds": rounds}
        settings["torch"] = str(torch.__version__)
        placed = {**settings, "network": repr(size), "batch": l1.BATCH}
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            synth = store.part("Synth-1D", settings, lambda: synth_column(rounds))
            memory = store.part("L1-Reg, memory", placed, lambda: peaks(scale, self.size))
            reg = store.part("L1-Reg", placed, lambda: network_column(scale, rounds, self.size))
        finally:
            torch.set_num_threads(threads)
        rows = [
            *_rows(synth, "Synth-1D", 0, "γ = 0.005, 100 inner steps (D.1)"),
            *_rows(reg, "L1-Reg", 1, f"{size}, batch {l1.BATCH}, γ = {l1.INNER_RATE:g} (D.2)"),
        ]
        plot = f"{self.name}.png"
        _draw(store.folder / plot, (synth, reg))
        report = ExperimentReport(
            self.name,
            self.what,
            scale,
            seed,
            tuple(rows),
            _findings(synth, reg, memory),
            (f"{self.name}/{plot}",),
            seconds=time.monotonic() - began,
        )
        return saved(store, report)


def machine() -> str:
    """Where times are of."""
    return f"one thread of {platform.machine()}"


def _rows(times: Values, column: str, index: int, setting: str) -> list[ExperimentRow]:
    made = []
    for name, printed in TABLE_13.items():
        label = f"{name}, {column}"
        if name not in times:
            verdict = ExperimentVerdict.LEFT_OUT
            made.append(
                ExperimentRow(label, "ms", None, None, verdict, setting, elsewhere=printed[index])
            )
            continue
        values = times[name]
        made.append(
            ExperimentRow(
                label,
                "ms",
                None,
                float(np.median(values)),
                ExperimentVerdict.ELSEWHERE,
                setting,
                machine(),
                float(values.std(ddof=1)) if values.size > 1 else None,
                runs=values.size,
                elsewhere=printed[index],
                digits=1,
                numbers=each_run(values),
            )
        )
    return made


def _findings(synth: Values, reg: Values, memory: Values) -> tuple[str, ...]:
    def slower(times: Values, printed: int) -> str:
        parts = []
        for name in ("IFT", "RMD"):
            if name in times:
                ours = statistics.median(times["HPO-SGLD"]) / statistics.median(times[name])
                theirs = float(TABLE_13["HPO-SGLD"][printed]) / float(TABLE_13[name][printed])
                parts.append(f"{ours:.2f} × {name} (printed: {theirs:.2f})")
        return ", ".join(parts) or "compared with no other method"

    steps = l1.INNER_STEPS
    step = statistics.median(reg["HPO-SGLD"] / steps / reg["gradients"])
    vectors = float((memory["whole"][0] - memory["gradients"][0]) / memory["vector"][0])
    return (
        f"HPO-SGLD takes {slower(synth, 0)} on Synth-1D, and {slower(reg, 1)} on L1-Reg.",
        f"A step of HPO-SGLD with noise takes {step:.2f} of its two gradients.",
        f"Its peak on shapes is {memory['whole'][0] / 1e6:.1f} MB, {vectors:.2f} vectors of n "
        f"numbers above that of the two gradients.",
        *_resident(reg, memory),
    )


def _resident(reg: Values, memory: Values) -> tuple[str, ...]:
    """What the process held at each stage, where the stages were looked at."""
    names = [f"resident {stage}" for stage in ("before", "with gradients", "with HPO-SGLD")]
    if not all(name in reg for name in names):
        return ()
    before, gradients, whole = (float(reg[name][0]) / 1e6 for name in names)
    vectors = 1e6 * (whole - gradients) / float(memory["vector"][0])
    return (
        f"The process had at most {before:.0f} MB before the problem was made, {gradients:.0f} MB after two "
        f"runs of the gradients, and {whole:.0f} MB after the hypergradient: {vectors:.2f} vectors more.",
    )


def _draw(path: Path, columns: tuple[Values, Values]) -> None:
    with drawing(path, 2, 9, 3) as axes:
        for index, (axis, times) in enumerate(zip(axes, columns, strict=True)):
            names = [name for name in TABLE_13 if name in times]
            heights = np.arange(len(names))[::-1]
            axis.barh(heights, [float(np.median(times[n])) for n in names], 0.5, color=OURS)
            for height, name in zip(heights, names, strict=True):
                axis.plot(float(TABLE_13[name][index]), height, "o", color=PRINTED, ms=5)
            axis.set_yticks(heights, names)
            # One bar alone is no thicker than one of five.
            axis.set_ylim(-0.6, max(len(names), 2) - 0.4)
            axis.set(xscale="log", xlabel=f"ms an outer iteration, {COLUMNS[index]}")
        axes[0].set_title("ours on this machine (bar), printed, on a GPU (dot)")
