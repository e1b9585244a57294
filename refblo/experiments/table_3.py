"""Table 3 of Kim and Hospedales: the noisy Synth-1D (27), over many seeds instead of one run."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np

from refblo.estimators import NeumannScaling
from refblo.experiments import landmarks
from refblo.experiments.markdown import saved
from refblo.experiments.methods import (
    STEP_SIZE,
    Competitor,
    conjugate_gradient,
    hpo_sgld,
    neumann,
    unrolled,
)
from refblo.experiments.outer_loop import Descent
from refblo.experiments.printed import TABLE_3, error_column
from refblo.experiments.report import (
    ENOUGH_RUNS,
    ExperimentReport,
    ExperimentRow,
    ExperimentVerdict,
    Progress,
    Scale,
    seeded_row,
    silent,
)
from refblo.experiments.solving import By, Solved, SolvingEffort, solve
from refblo.experiments.store import Store
from refblo.plotting import OURS, PRINTED, TRUE, drawing

TEMPERATURES = (1e-2, 1e-5, 1e-10)
LOOP = Descent(noisy=True)
"""As for Table 2; nothing else is printed."""
CLEAN_HESSIAN = "IFT-CG, Hessian without noise"
NOT_IN_SMOKE = ("1000", "½", "B = M")
"""What a smoke run leaves out, by a piece of the label."""
NEUMANN_CHECK = 5
"""Outer steps over which IFT-Neumann is compared: its series amplifies rounding at every step."""


def competitors() -> tuple[Competitor, ...]:
    """The printed rows, under their printed names."""
    return (
        *(hpo_sgld(f"HPO-SGLD, τ = {tau:.0e}", temperature=tau) for tau in TEMPERATURES),
        neumann("IFT-Neumann"),
        conjugate_gradient("IFT-CG"),
        *(unrolled(kind, kind, 100) for kind in ("RMD", "RMD-FO", "FMD")),
        *(
            unrolled(kind, f"{kind} (1000 inner iterations)", 1000)
            for kind in ("RMD", "RMD-FO", "FMD")
        ),
    )


def other_settings() -> tuple[tuple[Competitor, str | None], ...]:
    """What else was run, each with the printed row that it may explain."""
    runs: list[tuple[Competitor, str | None]] = []
    for tau in TEMPERATURES:
        row = f"HPO-SGLD, τ = {tau:.0e}"
        runs += [
            (hpo_sgld(f"{row}, γ = 0.01", tau, 0.01), row),
            (hpo_sgld(f"{row}, ½ dropped in (22)", tau, half=1.0), row),
            (hpo_sgld(f"{row}, B = M = 100", tau, burn_in=100, samples=100), row),
        ]
    scaled = neumann("IFT-Neumann, with the factor α", NeumannScaling.SCALED)
    return (
        *runs,
        (scaled, "IFT-Neumann"),
        (conjugate_gradient(CLEAN_HESSIAN, hessian_noise=False), None),
    )


def _effort(scale: Scale, competitor: Competitor) -> SolvingEffort:
    seeds = {Scale.SMOKE: ENOUGH_RUNS, Scale.SMALL: 500, Scale.PAPER: 2000}[scale]
    steps = {Scale.SMOKE: 1, Scale.SMALL: 3, Scale.PAPER: 10}[scale]
    if "1000" in competitor.label:
        steps = min(steps, 2)
    if "Neumann" in competitor.label:
        steps = min(steps, NEUMANN_CHECK)
    return SolvingEffort(By.WRITTEN_OUT, seeds, 2, steps)


@final
@dataclass(frozen=True)
class Table3:
    """Table 3."""

    name: str = field(default="table-3", init=False)
    what: str = field(
        default="noisy Synth-1D over many seeds: the printed rows among them, and what τ does",
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
        rows: list[ExperimentRow] = []
        solved: dict[str, Solved] = {}
        listed = [(c, c.label) for c in competitors()]
        for competitor, printed_label in (*listed, *other_settings()):
            stated = competitor.label == printed_label
            if scale is Scale.SMOKE and any(mark in competitor.label for mark in NOT_IN_SMOKE):
                rows += _rows(competitor, printed_label, None, stated=stated)
                continue
            found = solve(store, competitor, LOOP, _effort(scale, competitor))
            solved[competitor.label] = found
            rows += _rows(competitor, printed_label, found, stated=stated)
        plot = f"{self.name}.png"
        _draw(store.folder / plot, solved)
        report = ExperimentReport(
            self.name,
            self.what,
            scale,
            seed,
            tuple(rows),
            _findings(rows, solved),
            (f"{self.name}/{plot}",),
            time.monotonic() - began,
        )
        return saved(store, report)


def _rows(
    competitor: Competitor, printed_label: str | None, found: Solved | None, *, stated: bool
) -> list[ExperimentRow]:
    printed = None if printed_label is None else TABLE_3[printed_label]
    setting = f"{competitor.setting}; {LOOP.describe()}"
    rows = []
    for index, quantity in enumerate(("λ*", "θ*")):
        paper = None if printed is None else (printed.lam, printed.theta)[index]
        if found is None:
            rows.append(
                ExperimentRow(
                    competitor.label, quantity, paper, None, ExperimentVerdict.LEFT_OUT, setting
                )
            )
            continue
        values = (found.runs.lam, found.runs.theta)[index][found.runs.finite]
        note = found.note
        if found.diverged > 0:
            note = f"{found.diverged:.1%} of the runs diverged and are left out; {note}"
        rows.append(seeded_row(competitor.label, quantity, paper, values, setting, note, stated))
    return rows


@final
@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        """The two with two digits of the error."""
        return f"{self.value:.5f} ± {self.error:.5f}"


def mean(values: np.ndarray) -> Mean:
    """The mean of finite values and its standard error."""
    return Mean(float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size)))


def errors_by_temperature(solved: Mapping[str, Solved], suffix: str) -> list[tuple[Mean, Mean]]:
    """The mean |λ − λ*| and |θ − θ*| of HPO-SGLD for each τ, against the certified optimum."""
    best = landmarks.optimum().point
    found = []
    for tau in TEMPERATURES:
        runs = solved[f"HPO-SGLD, τ = {tau:.0e}{suffix}"].runs
        found.append((mean(abs(runs.lam - best.lam)), mean(abs(runs.theta - best.theta))))
    return found


def perturbation_temperature() -> float:
    """γσ²/2, what the noise of (27) adds to the temperature of the chain at the optimum.

    σ² = (9 θ⁴ + 1) Var U(−w, w) is the variance of the perturbed inner gradient.
    """
    theta, width = landmarks.optimum().point.theta, LOOP.half_width
    return STEP_SIZE * (9 * theta**4 + 1) * (width**2 / 3) / 2


def _findings(rows: Sequence[ExperimentRow], solved: Mapping[str, Solved]) -> tuple[str, ...]:
    best = landmarks.optimum().point
    stated = [row for row in rows if row.label in TABLE_3 and row.ours is not None]
    within = dict.fromkeys(row.label for row in stated)
    outside = [
        label
        for label in within
        if any(r.verdict is ExperimentVerdict.NOT_REPRODUCED for r in stated if r.label == label)
    ]
    neumann_runs = solved["IFT-Neumann"]
    noisy, clean = solved["IFT-CG"].runs, solved[CLEAN_HESSIAN].runs
    added = perturbation_temperature()
    swamped = [tau for tau in TEMPERATURES if tau < added]
    sentences = [
        f"{len(within) - len(outside)} of {len(within)} printed rows lie within the central 99 % of the "
        f"seeds in λ and in θ; outside: {', '.join(outside) or 'none'}.",
        f"IFT-Neumann diverges in {neumann_runs.diverged:.1%} of {neumann_runs.runs.lam.size} runs "
        f"(with the factor α: {solved['IFT-Neumann, with the factor α'].diverged:.1%}).",
        f"Mean |λ − λ*| of IFT-CG: {mean(abs(noisy.lam - best.lam))}; with the noise taken out of its "
        f"Hessian alone: {mean(abs(clean.lam - best.lam))}. Mean λ: {mean(noisy.lam)} and "
        f"{mean(clean.lam)}, λ* = {best.lam:.5f}: the noise in H moves it, not the non-zero gradient.",
        f"The perturbation adds γσ²/2 = {added:.2e} to the temperature and swamps τ = "
        f"{', '.join(f'{tau:.0e}' for tau in swamped)}.",
    ]
    for suffix, text in (("", "the stated settings"), (", γ = 0.01", "γ = 0.01")):
        sentences.append(_temperature_finding(errors_by_temperature(solved, suffix), text))
    ranking = sorted(
        (mean(abs(s.runs.lam[s.runs.finite] - best.lam)).value, label)
        for label, s in solved.items()
        if label in TABLE_3
    )
    sentences.append(
        "Mean |λ − λ*|, finite runs at the stated settings, from the smallest: "
        + "; ".join(f"{label} {value:.4f}" for value, label in ranking)
        + "."
    )
    return (*sentences, error_column(TABLE_3))


def _temperature_finding(errors: Sequence[tuple[Mean, Mean]], setting: str) -> str:
    """Whether the largest τ has the smallest error, at three standard errors of the difference."""
    parts = [
        f"τ = {tau:.0e}: {lam} in λ, {theta} in θ"
        for tau, (lam, theta) in zip(TEMPERATURES, errors, strict=True)
    ]
    verdicts = []
    for index, name in enumerate(("λ", "θ")):
        largest, smallest = errors[0][index], errors[-1][index]
        gap = largest.value - smallest.value
        noise = 3 * float(np.hypot(largest.error, smallest.error))
        how = "larger" if gap > noise else "smaller" if gap < -noise else "not different"
        verdicts.append(f"{how} in {name}")
    return (
        f"Mean error of HPO-SGLD at {setting}: {'; '.join(parts)}. At the largest τ it is "
        f"{' and '.join(verdicts)} than at the smallest (three standard errors): the claim that larger "
        f"τ is more accurate {_claim(verdicts)}."
    )


def _claim(verdicts: Sequence[str]) -> str:
    return "holds" if all(v.startswith("smaller") for v in verdicts) else "does not hold"


def _draw(path: Path, solved: Mapping[str, Solved]) -> None:
    best = landmarks.optimum().point
    labels = [label for label in TABLE_3 if label in solved]
    heights = np.arange(len(labels))[::-1]
    with drawing(path, 2, 11, 4.6) as axes:
        for axis, index, name, truth in (
            (axes[0], 0, "λ*", best.lam),
            (axes[1], 1, "θ*", best.theta),
        ):
            for height, label in zip(heights, labels, strict=True):
                runs = solved[label].runs
                values = (runs.lam, runs.theta)[index][runs.finite]
                low, middle, high = np.percentile(values, [0.5, 50, 99.5])
                axis.plot([low, high], [height, height], color=OURS, lw=5, alpha=0.35)
                axis.plot(middle, height, "|", color=OURS, ms=12, mew=2)
                printed = (TABLE_3[label].lam, TABLE_3[label].theta)[index]
                axis.plot(float(printed), height, "o", color=PRINTED, ms=5)
            axis.axvline(truth, color=TRUE, lw=1)
            axis.set(xlabel=name, ylim=(-0.7, len(labels) - 0.3))
            axis.set_yticks(heights, labels if index == 0 else [""] * len(labels))
            axis.tick_params(axis="y", length=0)
        axes[0].set_title("Table 3: central 99 % of our runs (bar), printed value (dot)")
        axes[1].set_title("vertical line: optimum without noise")
