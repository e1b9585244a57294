"""Table 2 of Kim and Hospedales: Synth-1D solved by every method (Section 4.1, Supplement D.1)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
from matplotlib.ticker import MaxNLocator

from refblo.estimators import NeumannScaling
from refblo.experiments import landmarks
from refblo.experiments.markdown import saved
from refblo.experiments.methods import (
    Competitor,
    conjugate_gradient,
    hpo_sgld,
    neumann,
    unrolled,
)
from refblo.experiments.outer_loop import Descent
from refblo.experiments.printed import TABLE_2, TRUE_LAM, TRUE_THETA, Printed, error_column
from refblo.experiments.report import (
    ENOUGH_RUNS,
    ExperimentReport,
    ExperimentRow,
    ExperimentVerdict,
    Progress,
    Scale,
    agrees_to_printed_digits,
    deterministic_row,
    seeded_row,
    silent,
)
from refblo.experiments.solving import By, Solved, SolvingEffort, solve
from refblo.experiments.store import Store
from refblo.plotting import COLOURS, OURS, PRINTED, TRUE, drawing

NEAR = 0.7
"""The runs that reset θ end below this λ, too far away to be drawn with the others."""
NEAR_OPTIMUM = (0.7483, 0.7495)
LOOP = Descent()
"""200 outer steps of 0.005; the start and the warm start are not in print."""


def deterministic_competitors() -> tuple[Competitor, ...]:
    """The rows without randomness, under their printed names."""
    return (
        neumann("IFT-Neumann"),
        conjugate_gradient("IFT-CG"),
        *(unrolled(kind, kind, 100) for kind in ("RMD", "RMD-FO", "FMD")),
        *(
            unrolled(kind, f"{kind} (1000 inner iterations)", 1000)
            for kind in ("RMD", "RMD-FO", "FMD")
        ),
    )


def neumann_readings() -> tuple[Competitor, ...]:
    """Other readings of "α = 0.99, i = 10"."""
    scaled, unscaled = NeumannScaling.SCALED, NeumannScaling.UNSCALED
    return (
        neumann("IFT-Neumann, 11 terms, with the factor α", scaled),
        neumann("IFT-Neumann, 10 terms, without it", unscaled, terms=10),
        neumann("IFT-Neumann, 10 terms, with the factor α", scaled, terms=10),
    )


FITTING = 3
"""How many of the readings, from the first, give the printed row; a smoke run tries no others."""


def hpo_sgld_readings() -> tuple[tuple[Competitor, Descent], ...]:
    """HPO-SGLD at settings that differ from the stated ones in one thing each."""
    name = "HPO-SGLD"
    return (
        (hpo_sgld(f"{name}, γ = 0.01", step_size=0.01), LOOP),
        (hpo_sgld(f"{name}, ½ dropped in (22)", half=1.0), LOOP),
        (hpo_sgld(f"{name}, B = M = 100", burn_in=100, samples=100), LOOP),
        (hpo_sgld(f"{name}, B = 0, M = 100", burn_in=0, samples=100), LOOP),
        (hpo_sgld(f"{name}, B = 99, M = 1", burn_in=99, samples=1), LOOP),
        (hpo_sgld(f"{name}, κ = 0", noise_scale=0.0), LOOP),
        (hpo_sgld(f"{name}, τ = 1e-10", temperature=1e-10), LOOP),
        (hpo_sgld(f"{name}, η = 0.01"), Descent(outer_rate=0.01)),
        (hpo_sgld(f"{name}, 1000 outer steps"), Descent(outer_steps=1000)),
        (hpo_sgld(f"{name}, λ⁰ = θ⁰ = 0.5"), Descent(start=0.5)),
        (hpo_sgld(f"{name}, θ reset to 0.1"), Descent(warm=False)),
    )


def _seeds(scale: Scale) -> int:
    return {Scale.SMOKE: ENOUGH_RUNS, Scale.SMALL: 500, Scale.PAPER: 2000}[scale]


def _exact_effort(scale: Scale, *, long: bool) -> SolvingEffort:
    """Estimators wherever the scale affords them; else the recursion, checked on a few steps."""
    if scale is Scale.PAPER or (scale is Scale.SMALL and not long):
        return SolvingEffort(By.ESTIMATOR)
    return SolvingEffort(By.WRITTEN_OUT, 1, 1, 1 if long else 2)


def _seeded_effort(scale: Scale) -> SolvingEffort:
    steps = {Scale.SMOKE: 2, Scale.SMALL: 10, Scale.PAPER: LOOP.outer_steps}[scale]
    return SolvingEffort(By.WRITTEN_OUT, _seeds(scale), 2, steps)


@final
@dataclass(frozen=True)
class Table2:
    """Table 2."""

    name: str = field(default="table-2", init=False)
    what: str = field(
        default="Synth-1D solved by every method; where the HPO-SGLD row comes from", init=False
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
        rows = _true_rows()
        exact: dict[str, Solved] = {}
        for competitor in deterministic_competitors():
            if scale is Scale.SMOKE and "1000" in competitor.label:
                rows += _left_out(competitor)
                continue
            effort = _exact_effort(scale, long="1000" in competitor.label)
            exact[competitor.label] = solved = solve(store, competitor, LOOP, effort)
            printed = TABLE_2[competitor.label]
            rows += _exact_rows(competitor, LOOP, solved, printed, stated=True)
        for competitor in neumann_readings():
            solved = solve(store, competitor, LOOP, SolvingEffort(By.WRITTEN_OUT, 1, 1, 2))
            printed = TABLE_2["IFT-Neumann"]
            rows += _exact_rows(competitor, LOOP, solved, printed, stated=False)
        sampled: dict[str, Solved] = {}
        tried = hpo_sgld_readings()[: FITTING if scale is Scale.SMOKE else None]
        readings = ((hpo_sgld("HPO-SGLD"), LOOP), *tried)
        for index, (competitor, loop) in enumerate(readings):
            effort = (
                _seeded_effort(scale)
                if index == 0
                else SolvingEffort(By.WRITTEN_OUT, _seeds(scale))
            )
            sampled[competitor.label] = solved = solve(store, competitor, loop, effort)
            rows += _seeded_rows(competitor, loop, solved, stated=index == 0)
        plot = f"{self.name}.png"
        _draw(store.folder / plot, exact, sampled)
        findings = (*_findings(rows, exact), error_column(TABLE_2))
        took = time.monotonic() - began
        report = ExperimentReport(
            self.name,
            self.what,
            scale,
            seed,
            tuple(rows),
            findings,
            (f"{self.name}/{plot}",),
            took,
        )
        return saved(store, report)


def _true_rows() -> list[ExperimentRow]:
    grid, exact = landmarks.grid_optimum(), landmarks.optimum()
    setting = f"argmin of L_V(λ, √(1 − λ²)) on {landmarks.PRINTED_GRID} equally spaced λ in [0, 1]"
    note = f"not the optimum, which is λ* = {exact.lam_text}, θ* = {exact.theta_text}"
    label = "True from line search"
    return [
        deterministic_row(label, "λ*", TRUE_LAM, grid.lam, setting, note),
        deterministic_row(label, "θ*", TRUE_THETA, grid.theta, setting, note),
    ]


def _left_out(competitor: Competitor) -> list[ExperimentRow]:
    printed, setting = TABLE_2[competitor.label], f"{competitor.setting}; {LOOP.describe()}"
    return [
        ExperimentRow(competitor.label, quantity, paper, None, ExperimentVerdict.LEFT_OUT, setting)
        for quantity, paper in (("λ*", printed.lam), ("θ*", printed.theta))
    ]


def _exact_rows(
    competitor: Competitor, loop: Descent, solved: Solved, printed: Printed, *, stated: bool
) -> list[ExperimentRow]:
    setting = f"{competitor.setting}; {loop.describe()}"
    rows = []
    for quantity, paper, value in (
        ("λ*", printed.lam, float(solved.runs.lam[0])),
        ("θ*", printed.theta, float(solved.runs.theta[0])),
    ):
        if stated:
            row = deterministic_row(competitor.label, quantity, paper, value, setting, solved.note)
        else:
            fits = agrees_to_printed_digits(paper, value)
            verdict = ExperimentVerdict.OTHER_SETTINGS if fits else ExperimentVerdict.TRIED
            row = ExperimentRow(
                competitor.label, quantity, paper, value, verdict, setting, solved.note
            )
        rows.append(row)
    return rows


def _seeded_rows(
    competitor: Competitor, loop: Descent, solved: Solved, *, stated: bool
) -> list[ExperimentRow]:
    printed, setting = TABLE_2["HPO-SGLD"], f"{competitor.setting}; {loop.describe()}"
    finite = solved.runs.finite
    return [
        seeded_row(competitor.label, quantity, paper, values[finite], setting, solved.note, stated)
        for quantity, paper, values in (
            ("λ*", printed.lam, solved.runs.lam),
            ("θ*", printed.theta, solved.runs.theta),
        )
    ]


def indirect_weight(step_size: float, burn_in: int, samples: int, half: float = 0.5) -> float:
    """The weight that HPO-SGLD gives to f_θ·C at a standing θ, where the truth has 1/H = 1/(2θ*).

    g_m = −γ Σ_{i≤m} f_θ C there, and its mean over m = B + 1 … B + M is γ · mean(m).
    """
    return 2 * half * step_size * (burn_in + (samples + 1) / 2)


def fitting_labels(rows: Sequence[ExperimentRow], verdict: ExperimentVerdict) -> list[str]:
    """The labels all of whose rows have the verdict."""
    labels = dict.fromkeys(row.label for row in rows)
    return [
        label
        for label in labels
        if all(row.verdict is verdict for row in rows if row.label == label)
    ]


def _findings(rows: Sequence[ExperimentRow], exact: dict[str, Solved]) -> tuple[str, ...]:
    best, grid, drift = landmarks.optimum(), landmarks.grid_optimum(), landmarks.drift_limit()
    stated = [
        row
        for row in rows
        if row.label in TABLE_2 and row.label != "HPO-SGLD" and row.ours is not None
    ]
    reproduced = sum(row.verdict is ExperimentVerdict.REPRODUCED for row in stated)
    hpo = [row for row in rows if row.label == "HPO-SGLD"]
    fits = fitting_labels(
        [r for r in rows if r.label.startswith("HPO-SGLD,")], ExperimentVerdict.OTHER_SETTINGS
    )
    with_alpha = next(r for r in rows if r.label == "IFT-Neumann, 11 terms, with the factor α")
    without = float(exact["IFT-Neumann"].runs.lam[0])
    first_order = landmarks.first_order_limit()
    return (
        f"Deterministic rows: {reproduced} of {len(stated)} figures agree to every printed digit.",
        f"HPO-SGLD at the stated settings: λ* = {hpo[0].ours_text}, θ* = {hpo[1].ours_text} over "
        f"{hpo[0].runs} seeds; the printed λ* = {hpo[0].paper} lies at percentile "
        f"{hpo[0].percentile:g}: {hpo[0].verdict.value}.",
        f"The printed pair lies within the seeds' spread at: {'; '.join(fits) or 'none tried'}.",
        f"At a standing θ HPO-SGLD weighs f_θ·C by γ · mean(m) = {indirect_weight(0.005, 50, 50):.4f} where "
        f"the truth has 1/(2θ*) = {1 / (2 * best.point.theta):.4f}; with γ = 0.01 it is "
        f"{indirect_weight(0.01, 50, 50):.4f}, with the ½ dropped {indirect_weight(0.005, 50, 50, 1.0):.4f}, "
        f"with B = M = 100 {indirect_weight(0.005, 100, 100):.4f}.",
        f"The optimum is λ* = {best.lam_text}, θ* = {best.theta_text} (certified); the printed one is "
        f"the best of {landmarks.PRINTED_GRID} grid points, {abs(grid.lam - best.point.lam):.2e} off "
        "in λ.",
        f"IFT-Neumann misses the optimum by {abs(without - best.point.lam):.2e} in λ without the "
        f"factor α, and by {abs((with_alpha.ours or 0.0) - best.point.lam):.2e} with it.",
        f"RMD-FO keeps ∂_λ f alone, so its fixed point is 1/√2 = {first_order.lam_text}; the printed "
        "row is an iterate on the way there.",
        f"As the inner steps grow, HPO-SGLD drifts to λ = {drift.lam_text}, θ = {drift.theta_text} "
        "(certified; see figure-2).",
    )


def _draw(path: Path, exact: dict[str, Solved], sampled: dict[str, Solved]) -> None:
    best, grid = landmarks.optimum().point, landmarks.grid_optimum()
    printed_lam = float(TABLE_2["HPO-SGLD"].lam)
    with drawing(path, 3, 15, 4.4) as (left, middle, right):
        labels = ["HPO-SGLD", *exact]
        heights = np.arange(len(labels))[::-1]
        every = {"HPO-SGLD": sampled["HPO-SGLD"], **exact}
        ours = [float(np.nanmean(every[label].runs.lam)) for label in labels]
        printed = [float(TABLE_2[label].lam) for label in labels]
        left.axvline(best.lam, color=TRUE, lw=1, label=f"optimum {best.lam:.6f}")
        left.plot(printed, heights, "o", mfc="none", color=PRINTED, ms=9, label="printed")
        left.plot(ours, heights, "o", color=OURS, ms=4, label="ours")
        left.set_yticks(heights, [label.replace(" inner iterations", "") for label in labels])
        left.set(xlabel="λ*", title="Every row of Table 2")
        left.legend(loc="upper left")

        near = {k: s for k, s in sampled.items() if float(s.runs.lam.mean()) > NEAR}
        heights = np.arange(len(near))[::-1]
        middle.axvline(best.lam, color=TRUE, lw=1)
        middle.axvline(printed_lam, color=PRINTED, lw=1.2, ls="--")
        for height, solved in zip(heights, near.values(), strict=True):
            low, centre, high = np.percentile(solved.runs.lam, [0.5, 50, 99.5])
            middle.plot([low, high], [height, height], color=OURS, lw=6, solid_capstyle="butt")
            # A spread that is too small to be seen still has a place.
            middle.plot(centre, height, "|", color=OURS, ms=8, mew=1.5)
        texts = [label.removeprefix("HPO-SGLD, ") for label in near]
        middle.set_yticks(heights, ["stated settings", *texts[1:]])
        middle.set(xlabel="λ*", title="HPO-SGLD: central 99 % of the seeds")

        bins = [NEAR_OPTIMUM[0] + k * 5e-5 for k in range(25)]
        for label, colour in zip(list(sampled)[1 : 1 + FITTING], COLOURS[2:], strict=False):
            text = label.removeprefix("HPO-SGLD, ")
            right.hist(sampled[label].runs.lam, bins, histtype="step", color=colour, label=text)
        right.axvline(best.lam, color=TRUE, lw=1, label="optimum")
        right.axvline(grid.lam, color=TRUE, lw=1, ls=":", label='printed "true"')
        right.axvline(printed_lam, color=PRINTED, lw=1.2, ls="--", label="printed HPO-SGLD")
        right.set(
            xlim=NEAR_OPTIMUM, xlabel="λ*", ylabel="seeds", title="Where the printed row fits"
        )
        right.xaxis.set_major_locator(MaxNLocator(4))
        # Room above the histograms for the legend.
        right.set_ylim(0, right.get_ylim()[1] * 1.45)
        right.legend(loc="upper right", ncols=2)
