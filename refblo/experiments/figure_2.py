"""Figure 2 of Kim and Hospedales: errors of the learned λ and θ against the number of inner iterations.

The figure has no printed numbers. It is drawn here with the settings of Table 2 and against the certified
optimum, and on to numbers of inner iterations at which HPO-SGLD's limit shows.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import final

import numpy as np

from refblo.experiments import landmarks
from refblo.experiments.markdown import saved
from refblo.experiments.methods import (
    Competitor,
    conjugate_gradient,
    hpo_sgld,
    neumann,
    unrolled,
)
from refblo.experiments.outer_loop import Descent, final_state, largest_difference, many_seeds
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
from refblo.plotting import COLOURS, TRUE, drawing

LOOP = Descent()
SEEDS = 20
"""Of HPO-SGLD, whose spread over seeds is below 10^−3 here; the other methods have no randomness."""
INNER = {
    Scale.SMOKE: (10, 50, 100),
    Scale.SMALL: (10, 20, 50, 100, 200, 500, 1000),
    Scale.PAPER: (4, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000),
}
CHECKED = 200
"""Up to this many inner iterations the recursions are compared with the estimators."""

METHODS: Mapping[str, Callable[[int], Competitor]] = {
    "HPO-SGLD": lambda n: hpo_sgld("HPO-SGLD", burn_in=n // 2, samples=n - n // 2),
    "IFT-Neumann": lambda n: neumann("IFT-Neumann", steps=n),
    "IFT-CG": lambda n: conjugate_gradient("IFT-CG", steps=n),
    "RMD": lambda n: unrolled("RMD", "RMD", n),
    "RMD-FO": lambda n: unrolled("RMD-FO", "RMD-FO", n),
    "FMD": lambda n: unrolled("FMD", "FMD", n),
}


def solve_one(name: str, inner: int, seed: int) -> Values:
    """λ and θ after the loop, one entry a seed; and the distance to the estimator where it is cheap."""
    competitor = METHODS[name](inner)
    seeds = SEEDS if name == "HPO-SGLD" else 1
    trajectory = many_seeds(competitor.written_out, competitor.dynamics, LOOP, seeds, seed)
    ended = final_state(trajectory)
    values = {"lam": ended.lam, "theta": ended.theta}
    if inner <= CHECKED and competitor.estimator is not None:
        gap = largest_difference(
            competitor.written_out, competitor.estimator, competitor.dynamics, LOOP, (seed,), 1
        )
        values["difference"] = np.array([gap])
    return values


@final
@dataclass(frozen=True)
class Figure2:
    """Figure 2."""

    name: str = field(default="figure-2", init=False)
    what: str = field(
        default="Synth-1D: errors against the number of inner iterations, and HPO-SGLD's drift",
        init=False,
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
        numbers = INNER[scale]
        curves: dict[str, dict[int, Values]] = {name: {} for name in METHODS}
        for name in METHODS:
            for inner in numbers:
                settings = {"method": METHODS[name](inner).setting, "loop": LOOP.describe()}
                curves[name][inner] = store.part(
                    f"{name}, {inner} inner iterations",
                    settings,
                    partial(solve_one, name, inner, seed),
                )
        plot = f"{self.name}.png"
        _draw(store.folder / plot, curves)
        report = ExperimentReport(
            self.name,
            self.what,
            scale,
            seed,
            tuple(_rows(curves)),
            _findings(curves),
            (f"{self.name}/{plot}",),
            time.monotonic() - began,
        )
        return saved(store, report)


def _rows(curves: Mapping[str, Mapping[int, Values]]) -> list[ExperimentRow]:
    best = landmarks.optimum().point
    rows = []
    for name, curve in curves.items():
        for inner, values in curve.items():
            setting = f"{METHODS[name](inner).setting}; {LOOP.describe()}"
            for quantity, ended, truth in (
                ("λ", values["lam"], best.lam),
                ("θ", values["theta"], best.theta),
            ):
                error = abs(ended - truth)
                several = error.size > 1
                row = ExperimentRow(
                    f"{name}, {inner} inner iterations",
                    f"|{quantity} − {quantity}*|",
                    None,
                    float(error.mean()),
                    ExperimentVerdict.MEASURED,
                    setting,
                    f"mean {quantity} = {ended.mean():.6f}",
                    spread=float(error.std()) if several else None,
                    runs=error.size,
                    numbers=each_run(error),
                )
                rows.append(row)
    return rows


def _findings(curves: Mapping[str, Mapping[int, Values]]) -> tuple[str, ...]:
    best, drift = landmarks.optimum().point, landmarks.drift_limit()
    most = max(curves["RMD"])
    hpo = {n: float(v["lam"].mean()) for n, v in curves["HPO-SGLD"].items()}
    path = ", ".join(f"{n}: {lam:.5f}" for n, lam in hpo.items())
    nearest = min(hpo, key=lambda n: abs(hpo[n] - best.lam))
    ends = ", ".join(
        f"{name} {abs(float(curve[most]['lam'].mean()) - best.lam):.1e}"
        for name, curve in curves.items()
    )
    gaps = [
        float(values["difference"][0])
        for curve in curves.values()
        for values in curve.values()
        if "difference" in values
    ]
    turned = nearest < max(hpo)
    course = (
        f"nearest to λ* = {best.lam:.5f} at {nearest}, and then away towards {drift.lam_text} (certified "
        "limit): more inner iterations help the exact gradients FMD and RMD, and not HPO-SGLD"
        if turned
        else f"nearest to λ* = {best.lam:.5f} at the last; a larger scale shows where it goes from there"
    )
    return (
        f"HPO-SGLD's mean λ by inner iterations: {path}; {course}.",
        f"|mean λ − λ*| at {most} inner iterations: {ends}. What is left of the exact gradients' error "
        f"is what {LOOP.outer_steps} outer steps leave.",
        f"Recursions and estimators agree within {max(gaps):.1g} over the first outer step, up to "
        f"{CHECKED} inner iterations.",
        "The figure has no printed numbers to compare with.",
    )


def _draw(path: Path, curves: Mapping[str, Mapping[int, Values]]) -> None:
    best, drift = landmarks.optimum().point, landmarks.drift_limit().point
    markers = ("o", "s", "^", "D", "v", "x")
    with drawing(path, 3, 13, 4.2) as axes:
        for axis, key, name, truth in (
            (axes[0], "lam", "λ", best.lam),
            (axes[1], "theta", "θ", best.theta),
        ):
            for (label, curve), colour, marker in zip(
                curves.items(), COLOURS, markers, strict=False
            ):
                errors = [float(abs(values[key] - truth).mean()) for values in curve.values()]
                # FMD lies on RMD: a dashed line lets both be seen.
                style = "--" if label == "FMD" else "-"
                axis.plot(
                    list(curve), errors, style, marker=marker, ms=4, color=colour, label=label
                )
            axis.set(
                xscale="log",
                yscale="log",
                xlabel="inner iterations",
                title=f"|{name} − {name}*|",
            )
        handles, texts = axes[0].get_legend_handles_labels()
        axes[0].figure.legend(handles, texts, loc="outside lower center", ncols=len(texts))
        last = axes[2]
        curve = curves["HPO-SGLD"]
        means = [float(values["lam"].mean()) for values in curve.values()]
        last.plot(list(curve), means, "o-", ms=4, color=COLOURS[0], label="HPO-SGLD")
        exact = [float(values["lam"].mean()) for values in curves["RMD"].values()]
        last.plot(list(curve), exact, "D-", ms=4, color=COLOURS[3], label="RMD = FMD")
        last.axhline(best.lam, color=TRUE, lw=1, label="optimum")
        last.axhline(drift.lam, color=TRUE, lw=1, ls=":", label="HPO-SGLD's limit")
        last.set(xscale="log", xlabel="inner iterations", title="λ that is found")
        last.legend(loc="lower right")
