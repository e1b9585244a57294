"""Errors of methods on Synth-1D and its noisy form, beside printed ones: what Tables 14 and 16 share."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np

from refblo.experiments.markdown import saved
from refblo.experiments.methods import Competitor
from refblo.experiments.outer_loop import Descent
from refblo.experiments.printed import TRUE_LAM, TRUE_THETA
from refblo.experiments.report import (
    ENOUGH_RUNS,
    ExperimentReport,
    ExperimentRow,
    ExperimentVerdict,
    Progress,
    Scale,
    deterministic_row,
    seeded_row,
)
from refblo.experiments.solving import By, Solved, SolvingEffort, solve
from refblo.experiments.store import Store
from refblo.plotting import OURS, PRINTED, drawing

LOOPS = {"Synth-1D": Descent(), "Noisy-Synth-1D": Descent(noisy=True)}
SEEDS = {Scale.SMOKE: ENOUGH_RUNS, Scale.SMALL: 500, Scale.PAPER: 2000}
CHECKED_STEPS = {Scale.SMOKE: 1, Scale.SMALL: 3, Scale.PAPER: 10}


@final
@dataclass(frozen=True)
class SynthRow:
    """A method with what is printed for it.

    Attributes:
        competitor: the method.
        printed: the label of the printed row, or None.
        random: whether it draws numbers on Synth-1D.
        stated: whether these are the paper's settings.
    """

    competitor: Competitor
    printed: str | None
    random: bool = False
    stated: bool = True


def run_errors(
    name: str,
    what: str,
    rows: Sequence[SynthRow],
    printed: Mapping[str, tuple[tuple[str, str], tuple[str, str]]],
    scale: Scale,
    output: Path,
    progress: Progress,
    seed: int,
    findings: Sequence[str] = (),
) -> ExperimentReport:
    """Solve every row on both problems, and place the printed errors among ours.

    Raises:
        ArgumentError: for a negative seed, or an output folder that cannot be used.
    """
    began = time.monotonic()
    store = Store(output, name, scale, seed, progress)
    made: list[ExperimentRow] = []
    solved: dict[tuple[str, str], Solved] = {}
    total = len(rows) * len(LOOPS)
    for number, (row, problem) in enumerate(((r, p) for r in rows for p in LOOPS), start=1):
        label, loop = row.competitor.label, LOOPS[problem]
        many = row.random or loop.noisy
        effort = SolvingEffort(By.WRITTEN_OUT, SEEDS[scale] if many else 1, 1, CHECKED_STEPS[scale])
        progress(f"{name}: {number} of {total}")
        ended = solve(store, _named(row.competitor, f"{label}, {problem}"), loop, effort)
        solved[label, problem] = ended
        column = list(LOOPS).index(problem)
        paper = None if row.printed is None else printed[row.printed][column]
        made += _rows(row, problem, ended, loop, paper, many=many)
    plot = f"{name}.png"
    _draw(store.folder / plot, rows, printed, solved)
    report = ExperimentReport(
        name,
        what,
        scale,
        seed,
        tuple(made),
        (*_findings(made), *findings),
        (f"{name}/{plot}",),
        seconds=time.monotonic() - began,
    )
    return saved(store, report)


def _named(competitor: Competitor, label: str) -> Competitor:
    return Competitor(
        label,
        competitor.dynamics,
        competitor.estimator,
        competitor.written_out,
        competitor.setting,
    )


def _errors(ended: Solved) -> tuple[np.ndarray, np.ndarray]:
    """|λ − λ*| and |θ − θ*| of the runs that did not diverge, against the printed optimum."""
    runs = ended.runs
    lam, theta = runs.lam[runs.finite], runs.theta[runs.finite]
    return np.abs(lam - float(TRUE_LAM)), np.abs(theta - float(TRUE_THETA))


def _rows(
    row: SynthRow,
    problem: str,
    ended: Solved,
    loop: Descent,
    paper: tuple[str, str] | None,
    *,
    many: bool,
) -> list[ExperimentRow]:
    label = f"{row.competitor.label}, {problem}"
    setting = f"{row.competitor.setting}; {loop.describe()}"
    note = ended.note
    if ended.diverged > 0:
        note = f"{ended.diverged:.1%} of the runs diverged and are left out; {note}"
    made = []
    for index, (quantity, values) in enumerate(
        zip(("λ error", "θ error"), _errors(ended), strict=True)
    ):
        stated = None if paper is None else paper[index]
        if values.size == 0:
            verdict = ExperimentVerdict.NOT_REPRODUCED
            made.append(ExperimentRow(label, quantity, stated, None, verdict, setting, note))
        elif many:
            made.append(seeded_row(label, quantity, stated, values, setting, note, row.stated))
        else:
            exact = deterministic_row(label, quantity, stated, float(values[0]), setting, note)
            made.append(exact if row.stated else replace(exact, verdict=_elsewhere(exact)))
    return made


def _elsewhere(row: ExperimentRow) -> ExperimentVerdict:
    """The verdict of a run without randomness at settings that are not the stated ones."""
    return ExperimentVerdict.OTHER_SETTINGS if row.agrees else ExperimentVerdict.TRIED


def _findings(rows: Sequence[ExperimentRow]) -> tuple[str, ...]:
    """Which printed pairs come out, and how much a pair that lies within the spread says."""
    fits = (ExperimentVerdict.REPRODUCED, ExperimentVerdict.WITHIN_SPREAD)
    tried = (ExperimentVerdict.OTHER_SETTINGS, ExperimentVerdict.TRIED)
    compared = [row for row in rows if row.paper is not None and row.verdict not in tried]
    labels = list(dict.fromkeys(row.label for row in compared))
    misses = [
        label
        for label in labels
        if any(row.label == label and row.verdict not in fits for row in compared)
    ]
    wide = [
        f"{row.label} {row.quantity} {row.spread:.2g}"
        for row in compared
        if row.verdict is ExperimentVerdict.WITHIN_SPREAD and row.spread is not None
    ]
    return (
        f"{len(labels) - len(misses)} of {len(labels)} printed pairs come out or lie within the central 99 % "
        f"of the seeds; the others: {'; '.join(misses) or 'none'}.",
        "A figure that lies within the spread of the seeds is compatible with it, no more; the standard "
        f"deviations are: {'; '.join(wide) or 'none'}.",
        f"Errors are distances from the printed optimum ({TRUE_LAM}, {TRUE_THETA}), which is the best of "
        "1000 grid points.",
    )


def _draw(
    path: Path,
    rows: Sequence[SynthRow],
    printed: Mapping[str, tuple[tuple[str, str], tuple[str, str]]],
    solved: Mapping[tuple[str, str], Solved],
) -> None:
    """The noisy problem: the central 99 % of the errors as bars, printed errors as dots."""
    problem = "Noisy-Synth-1D"
    heights = np.arange(len(rows))[::-1]
    with drawing(path, 2, 11, 1.4 + 0.34 * len(rows)) as axes:
        for index, (axis, name) in enumerate(zip(axes, ("λ", "θ"), strict=True)):
            for height, row in zip(heights, rows, strict=True):
                values = _errors(solved[row.competitor.label, problem])[index]
                if values.size:
                    low, middle, high = np.maximum(np.percentile(values, [0.5, 50, 99.5]), 1e-6)
                    axis.plot([low, high], [height, height], color=OURS, lw=5, alpha=0.35)
                    axis.plot(middle, height, "|", color=OURS, ms=12, mew=2)
                if row.printed is not None:
                    axis.plot(
                        float(printed[row.printed][1][index]), height, "o", color=PRINTED, ms=5
                    )
            axis.set(
                xscale="log", xlabel=f"error in {name}, {problem}", ylim=(-0.7, len(rows) - 0.3)
            )
            axis.set_yticks(heights, [r.competitor.label if index == 0 else "" for r in rows])
            axis.tick_params(axis="y", length=0)
        axes[0].set_title("central 99 % of our runs (bar), printed (dot)")
