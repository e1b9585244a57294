"""A table of training runs and its report: its rows, its claims with verdicts, what was tuned, a plot."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from refblo.experiments.markdown import saved
from refblo.experiments.paired import fewest_seeds, judge
from refblo.experiments.report import (
    ExperimentReport,
    ExperimentRow,
    ExperimentVerdict,
    Progress,
    Scale,
    each_run,
    silent,
)
from refblo.experiments.run_options import RunOptions
from refblo.experiments.store import Values
from refblo.experiments.study import Arm, StudyRuns, TrainingStudy, run_trials
from refblo.experiments.twins import TwinOf, paragraph, run_twins
from refblo.experiments.twins import draw as draw_twins
from refblo.plotting import COLOURS, OURS, drawing

WORST = 100.0
"""A run that diverged counts as wrong about everything."""


@dataclass(frozen=True)
class StudyTable(TrainingStudy):
    """A table of training runs as an experiment: a table states what `TrainingStudy` asks for, and runs.

    Args:
        options: data, seeds, processes.
    """

    options: RunOptions = field(default_factory=RunOptions)

    def configured(self, options: RunOptions) -> "StudyTable":
        """The same table with these options."""
        return replace(self, options=options)

    @property
    def twin(self) -> TwinOf | None:
        """None, unless a table has one."""
        return None

    def remarks(self) -> Sequence[str]:
        """Sentences of the table's own."""
        return ()

    def observed(self, runs: StudyRuns) -> Sequence[str]:  # noqa: ARG002
        """Sentences made from the runs."""
        return ()

    def pictures(self) -> Mapping[str, Callable[[Path, StudyRuns], None]]:
        """The end of a further plot's name, and what draws it from the runs."""
        return {}

    def run(
        self, scale: Scale, output: Path, progress: Progress = silent, seed: int = 0
    ) -> ExperimentReport:
        """Run it, or what of it is not stored yet, and write its report; see `Experiment.run`.

        Raises:
            ArgumentError, MissingExtraError: before any work, if the data, an option or the output cannot
                be used.
        """
        began = time.monotonic()
        store, runs = run_trials(self, self.options, scale, output, progress, seed)
        plan = runs.plan
        differences = [runs.difference(endpoint, WORST) for endpoint in plan.endpoints]
        plot = f"{self.name}.png"
        _draw(store.folder / plot, runs)
        why, plots = list[str](), [f"{self.name}/{plot}"]
        for suffix, draw in self.pictures().items():
            also_drawn = f"{self.name}-{suffix}.png"
            draw(store.folder / also_drawn, runs)
            plots.append(f"{self.name}/{also_drawn}")
        if (twin := self.twin) is not None:
            compared = run_twins(store, twin.make, {"twin": twin.description})
            draw_twins(store.folder / f"{self.name}-why.png", compared)
            why, plots = (
                [paragraph(compared, twin.description)],
                [*plots, f"{self.name}/{self.name}-why.png"],
            )
        report = ExperimentReport(
            self.name,
            self.what,
            scale,
            seed,
            tuple(row for arm in plan.arms for row in _rows(arm, runs)),
            (
                *_tuning(runs),
                *_budgets(runs),
                *_data(runs),
                *_diverged(runs),
                *self.observed(runs),
                *why,
                *self.remarks(),
            ),
            tuple(plots),
            time.monotonic() - began,
            judge(plan.endpoints, differences, scale),
        )
        return saved(store, report)


def _rows(arm: Arm, runs: StudyRuns) -> list[ExperimentRow]:
    rate = f"outer rate {runs.rates[arm.tuned_as]:g} (tuned)" if arm.rated else "no outer rate"
    rows = [_row(arm, runs.runs[arm.label], runs.plan.measure, rate)]
    if arm.label in runs.printed_rates:
        also = f"outer rate {arm.printed_rate:g} (printed)"
        label = f"{arm.label}, printed rate"
        rows.append(_row(arm, runs.printed_rates[arm.label], runs.plan.measure, also, label))
    return rows


def _row(
    arm: Arm, values: Sequence[Values], measure: str, setting: str, label: str = ""
) -> ExperimentRow:
    """The mean over the seeds that did not diverge."""
    numbers = np.array([float(each["test"][-1]) for each in values])
    finite = numbers[np.isfinite(numbers)]
    diverged = numbers.size - finite.size
    return ExperimentRow(
        label or arm.label,
        measure,
        None,
        float(finite.mean()) if finite.size else None,
        ExperimentVerdict.ELSEWHERE if arm.printed else ExperimentVerdict.MEASURED,
        setting,
        f"{diverged} of {numbers.size} runs diverged" if diverged else "",
        float(finite.std(ddof=1)) if finite.size > 1 else None,
        runs=numbers.size,
        elsewhere=arm.printed,
        digits=2,
        numbers=each_run(numbers),
    )


def _tuning(runs: StudyRuns) -> list[str]:
    """What each method's rates gave on the tuning split."""
    parts = []
    for method, errors in runs.tuning.items():
        tried = ", ".join(f"{rate:g}: {error:.2f}" for rate, error in errors.items())
        parts.append(f"{method} {runs.rates[method]:g} ({tried})")
    seeds = runs.plan.tuning_seeds
    text = (
        f"Outer rates, each the best of the same {len(runs.plan.rates)} by the mean error on the tuning "
        f"split over {seeds} {'seed' if seeds == 1 else 'seeds'} that nothing else uses: {'; '.join(parts)}."
    )
    edges = [
        method
        for method, rate in runs.rates.items()
        if len(runs.plan.rates) > 1 and rate in (min(runs.plan.rates), max(runs.plan.rates))
    ]
    if edges:
        text += f" At the end of the grid: {', '.join(edges)}."
    return [text] if parts else []


def _budgets(runs: StudyRuns) -> list[str]:
    """How many derivative evaluations the runs took, and the errors where the cheapest one ends."""
    spent: Mapping[str, np.ndarray] = {
        label: np.mean([v["evaluations"] for v in values], axis=0)
        for label, values in runs.runs.items()
        if all("evaluations" in v and v["evaluations"].size > 1 for v in values)
    }
    if len(spent) < 2:
        return []
    budget = min(float(curve[-1]) for curve in spent.values())
    there = []
    for label, curve in spent.items():
        errors = np.mean([v["test"] for v in runs.runs[label]], axis=0)
        at = float(np.interp(budget, curve, errors))
        error = f"{at:.2f}" if np.isfinite(at) else "diverged"
        if budget < curve[0]:
            error = f"measured from {curve[0]:.0f} on"
        there.append(f"{label} {error} (of {curve[-1]:.0f})")
    return [
        f"{runs.plan.measure} at equal budgets, where each run has spent {budget:.0f} derivative evaluations "
        f"(of all that it makes): {'; '.join(there)}."
    ]


def _diverged(runs: StudyRuns) -> list[str]:
    """Which compared arms had runs that diverged, and what that does to the verdicts."""
    compared = {label for each in runs.plan.endpoints for label in (*each.ours, *each.theirs)}
    lost = {arm.label: int((~np.isfinite(runs.numbers(arm.label))).sum()) for arm in runs.plan.arms}
    named = [
        f"{label} {count} of {len(runs.runs[label])} runs"
        for label, count in lost.items()
        if count and label in compared
    ]
    if not named:
        return []
    return [
        f"Diverged at its method's tuned rate, which is that of the method's first option, and counted as "
        f"{WORST:g} in the claims: {'; '.join(named)}. The verdicts that compare them rest on that."
    ]


def _data(runs: StudyRuns) -> list[str]:
    settings = "; ".join(f"{name} {value}" for name, value in runs.plan.settings.items())
    enough = fewest_seeds(len(runs.plan.endpoints)) if runs.plan.endpoints else 0
    text = f"Run with: {settings}."
    if enough:
        text += f" The {len(runs.plan.endpoints)} claims need {enough} seeds or more to be judged."
    return [text]


def _draw(path: Path, runs: StudyRuns) -> None:
    """Every run as a dot, every arm's mean as a bar."""
    arms = runs.plan.arms
    methods = list(dict.fromkeys(arm.method for arm in arms))
    heights = np.arange(len(arms))[::-1]
    with drawing(path, 1, 7.5, 1.2 + 0.26 * len(arms)) as (axis,):
        for height, arm in zip(heights, arms, strict=True):
            numbers = runs.numbers(arm.label)
            finite = numbers[np.isfinite(numbers)]
            colour = COLOURS[methods.index(arm.method) % len(COLOURS)]
            axis.plot(finite, np.full(finite.size, height), "o", color=colour, ms=4, alpha=0.5)
            if finite.size:
                axis.plot(finite.mean(), height, "|", color=OURS, ms=13, mew=2)
        axis.set_yticks(heights, [arm.label for arm in arms])
        axis.set(xlabel=runs.plan.measure, ylim=(-0.7, len(arms) - 0.3))
        axis.tick_params(axis="y", length=0)
        axis.set_title(f"{runs.plan.measure}: each run (dot) and the mean (bar)")
