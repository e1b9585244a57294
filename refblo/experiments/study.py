"""Many training runs of one table: tuned with equal budgets, paired by seed, kept part by part.

A run is a `Trial`: an arm (a method with its options), an outer rate and a seed. Each method's outer rate
is the one of a grid, the same for all methods, with the lowest mean error on the tuning split, over the
same tuning seeds, for the method's first arm; where a table has several tasks, each is tuned apart. The
test split is looked at by nothing but the report. Every trial is a part of the store of its own, made by
whichever process is free.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch

from refblo.errors import ArgumentError, ResumeError
from refblo.experiments.endpoints import Endpoint
from refblo.experiments.report import Progress, Scale, silent
from refblo.experiments.run_options import RunOptions
from refblo.experiments.store import Settings, Store, Values
from refblo.experiments.twins import TwinOf
from refblo.outer import checkpoint
from refblo.parallel import stream

SHOWN = 3
"""Stored parts that do not count are named up to this number; states that do not are named all."""


@final
@dataclass(frozen=True)
class Arm:
    """A method with its options.

    Attributes:
        method: the name that shares one tuned rate over its options.
        option: the options as the paper's table prints them; empty if there are none.
        task: the data set or task, where a table has several: each has tuned rates of its own.
        printed: what the paper prints for it, on its own data.
        printed_rate: the outer rate that the paper states; None where it states none.
        rated: whether there is an outer rate at all.
        weight: how long a run takes beside the others, for the estimate of the time left.
    """

    method: str
    option: str = ""
    printed: str = ""
    printed_rate: float | None = None
    rated: bool = True
    weight: float = 1.0
    task: str = ""

    @property
    def tuned_as(self) -> str:
        """What its outer rate is tuned for."""
        return f"{self.method} {self.task}".strip()

    @property
    def label(self) -> str:
        """The name of the row."""
        return " ".join(part for part in (self.method, self.option, self.task) if part)


@final
@dataclass(frozen=True)
class Trial:
    """One training run."""

    arm: Arm
    rate: float
    seed: int

    @property
    def key(self) -> str:
        """The name of its part."""
        rate = f", outer rate {self.rate:g}" if self.arm.rated else ""
        return f"{self.arm.label}{rate}, seed {self.seed}"


@final
@dataclass(frozen=True)
class StudyPlan:
    """What a table runs at one scale.

    Attributes:
        arms: the rows; those of one method follow each other, and its first one is tuned.
        rates: the grid of outer rates, the same for every method.
        tuning_seeds: runs a rate.
        seeds: pairs a comparison.
        endpoints: the claims.
        settings: everything else that the numbers depend on.
        measure: what `test` is, with its unit.
        at_printed_rates: how many seeds are run at the paper's own rates besides.
        rest_seeds: runs of an arm that no endpoint compares; as many as the others unless given.
    """

    arms: tuple[Arm, ...]
    rates: tuple[float, ...]
    tuning_seeds: int
    seeds: int
    endpoints: tuple[Endpoint, ...]
    settings: Settings
    measure: str
    at_printed_rates: int = 0
    rest_seeds: int | None = None

    def seeds_of(self, arm: Arm, seeds: int) -> int:
        """How many of the seeds an arm is run on."""
        if self.rest_seeds is None:
            return seeds
        compared = {label for each in self.endpoints for label in (*each.ours, *each.theirs)}
        return seeds if arm.label in compared else min(seeds, self.rest_seeds)


@final
@dataclass(frozen=True)
class TrialPlace:
    """Where a trial runs: the store that keeps its pieces, the data, the device, and who is told a line."""

    store: Store
    data: Path | None
    settings: Settings
    device: str = "cpu"
    tell: Progress = silent

    @property
    def scale(self) -> Scale:
        """How much is run."""
        return self.store.scale


@runtime_checkable
class TrainingStudy(Protocol):
    """What a table states about its training runs. An implementation can be pickled."""

    @property
    def name(self) -> str:
        """What a user types."""
        ...

    @property
    def what(self) -> str:
        """One sentence."""
        ...

    def plan(self, scale: Scale) -> StudyPlan:
        """What is run."""
        ...

    def require_data(self, scale: Scale, data: Path | None) -> None:
        """Look at the data before any work.

        Raises:
            ArgumentError, MissingExtraError: if something is missing, with where to get it.
        """
        ...

    @property
    def twin(self) -> TwinOf | None:
        """The shrunken twin that says why, where there is one."""
        ...

    def train(self, trial: Trial, place: TrialPlace) -> Values:
        """One run: at least `test` and `tuning`, each of one number, lower is better; NaN if it diverged."""
        ...


@final
@dataclass(frozen=True)
class _Job:
    study: TrainingStudy
    trial: Trial
    output: Path
    scale: Scale
    seed: int
    options: RunOptions
    settings: Settings


@final
@dataclass(eq=False)
class TrialRunner:
    """Runs trials, or takes them from the store, and says how long the rest will take.

    Args:
        study: the table.
        store: where parts are kept.
        options: data and processes.
        plan: what is run.
    """

    study: TrainingStudy
    store: Store
    options: RunOptions
    plan: StudyPlan
    _began: float = field(default_factory=time.monotonic, init=False)
    _done: float = field(default=0.0, init=False)

    def settings(self, trial: Trial) -> Settings:
        """Everything that the values of a trial depend on."""
        device = self.options.device
        return {
            **self.plan.settings,
            # Another device computes other bits.
            **({} if device == "cpu" else {"device": device}),
            "arm": trial.arm.label,
            "outer rate": trial.rate,
            "trial seed": trial.seed,
        }

    def run(self, trials: Sequence[Trial], what: str) -> dict[Trial, Values]:
        """The values of all of them."""
        values: dict[Trial, Values] = {}
        missing: list[Trial] = []
        for trial in dict.fromkeys(trials):
            found = self.store.find(trial.key, self.settings(trial))
            if found is None:
                missing.append(trial)
            else:
                values[trial] = found
        left = sum(trial.arm.weight for trial in missing)
        self.store.progress(
            f"{self.study.name}, {what}: {len(missing)} runs to make, {len(values)} taken from the store"
        )
        reasons = [
            reason
            for trial in missing
            for reason in self.store.refused(trial.key, self.settings(trial))
        ]
        if reasons:
            shown = "; ".join(reasons[:SHOWN])
            more = f"; and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
            self.store.progress(
                f"{self.study.name}, {what}: stored runs that do not count: {shown}{more}; what they hold "
                "is made again"
            )
        jobs = [self._job(trial) for trial in missing]
        for count, done in enumerate(stream(work, jobs, self.options.jobs), start=1):
            if isinstance(done, ArgumentError):
                raise done
            trial = done.trial
            left -= trial.arm.weight
            self._done += trial.arm.weight
            for line in done.told:
                self.store.progress(f"{self.study.name}, {what}: {line}")
            self.store.progress(
                f"{self.study.name}, {what}: {count} of {len(missing)} runs, "
                f"about {self._in_words(left)} left for them ({trial.key})"
            )
        for trial in missing:
            found = self.store.find(trial.key, self.settings(trial))
            if found is None:
                raise RuntimeError(f"the part of {trial.key} must be stored by now, got none")
            values[trial] = found
        return values

    def _job(self, trial: Trial) -> _Job:
        store = self.store
        return _Job(
            self.study,
            trial,
            store.output,
            store.scale,
            store.seed,
            self.options,
            self.settings(trial),
        )

    def _in_words(self, left: float) -> str:
        """The time for what is left, at the pace so far."""
        seconds = (time.monotonic() - self._began) * left / max(self._done, 1e-9)
        return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def unusable_state(path: Path) -> str:
    """What is wrong with the state of an unfinished run, which is then removed; empty if it can be used.

    Raises:
        ArgumentError: if it cannot be removed.
    """
    try:
        checkpoint.load(path)
    except ResumeError as error:
        return discarded(path, error)
    return ""


def discarded(path: Path, error: ResumeError) -> str:
    """Remove the state of an unfinished run that does not count, and say so, and why.

    Raises:
        ArgumentError: if it cannot be removed: a folder, say.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as cause:
        raise ArgumentError(
            f"{path} must be the state of an unfinished run, got what cannot be removed ({cause.strerror}); "
            "move it away"
        ) from cause
    reason = str(error).partition("; ")[0]
    return (
        f"the state {path.name} was removed, and its run begins again at its first step: {reason}"
    )


@final
@dataclass(frozen=True)
class _Done:
    trial: Trial
    told: tuple[str, ...]


def work(job: _Job) -> Iterator[_Done | ArgumentError]:
    """One trial, in whichever process; with one thread, since the number of threads may change bits.

    What a user can mend (a full disk) is yielded: raised in a worker, it would be shown as a traceback.
    """
    threads, told = torch.get_num_threads(), list[str]()
    torch.set_num_threads(1)
    try:
        store = Store(job.output, job.study.name, job.scale, job.seed, silent)
        place = TrialPlace(store, job.options.data, job.settings, job.options.device, told.append)
        store.part(job.trial.key, job.settings, lambda: job.study.train(job.trial, place))
    except ArgumentError as error:
        yield error
        return
    finally:
        torch.set_num_threads(threads)
    yield _Done(job.trial, tuple(told))


@final
@dataclass(frozen=True)
class StudyRuns:
    """All runs of a table.

    Attributes:
        plan: what was planned.
        rates: the tuned outer rate of each method, or of each arm that is tuned alone.
        tuning: mean tuning error of each of them at each rate.
        runs: the values of each arm, one a seed, at its method's tuned rate.
        printed_rates: the values of each arm that has a printed rate, one a seed, at that rate.
    """

    plan: StudyPlan
    rates: Mapping[str, float]
    tuning: Mapping[str, Mapping[float, float]]
    runs: Mapping[str, Sequence[Values]]
    printed_rates: Mapping[str, Sequence[Values]]

    def numbers(self, label: str, quantity: str = "test") -> np.ndarray:
        """One number a seed of an arm."""
        return np.array([float(values[quantity][-1]) for values in self.runs[label]])

    def difference(self, endpoint: Endpoint, worst: float) -> np.ndarray:
        """Ours − theirs for each seed; a run that diverged counts as `worst`."""

        def side(labels: tuple[str, ...]) -> np.ndarray:
            table = np.stack([self.numbers(label, endpoint.quantity) for label in labels])
            table = np.where(np.isfinite(table), table, worst)
            if not endpoint.spread:
                mean: np.ndarray = table.mean(axis=0)
                return mean
            # Options that give the same number on a small test split have a spread of one image at least.
            floor = 100.0 / float(self.plan.settings["test images"]) / 2
            logs: np.ndarray = np.log(np.maximum(table.std(axis=0, ddof=1), floor))
            return logs

        difference: np.ndarray = side(endpoint.ours) - side(endpoint.theirs)
        return difference


def run_trials(
    study: TrainingStudy,
    options: RunOptions,
    scale: Scale,
    output: Path,
    progress: Progress,
    seed: int,
) -> tuple[Store, StudyRuns]:
    """Tune every method, then run every arm on every seed.

    Raises:
        ArgumentError, MissingExtraError: before any work, if the data, an option or what is stored cannot be
            used.
    """
    study.require_data(scale, options.data)
    plan = study.plan(scale)
    seeds = plan.seeds if options.seeds is None else options.seeds
    store = Store(output, study.name, scale, seed, progress)
    for state in store.states():
        if reason := unusable_state(state):
            progress(f"{study.name}: {reason}")
    runner = TrialRunner(study, store, options, plan)
    first = {arm.tuned_as: arm for arm in reversed(plan.arms) if arm.rated}
    # Tuning has seeds of its own: no split of it is one that is reported.
    apart = range(1000, 1000 + plan.tuning_seeds)
    grid = {
        method: {rate: [Trial(arm, rate, s) for s in apart] for rate in plan.rates}
        for method, arm in first.items()
    }
    every = [t for rates in grid.values() for trials in rates.values() for t in trials]
    tried = runner.run(every, "tuning")
    tuning = {
        method: {rate: _mean_error(tried, trials) for rate, trials in rates.items()}
        for method, rates in grid.items()
    }
    rates = {method: min(errors, key=lambda r: errors[r]) for method, errors in tuning.items()}
    # Seed by seed, so that what is finished early is a whole comparison and every arm has been timed.
    chosen = {
        arm: [Trial(arm, rates.get(arm.tuned_as, 0.0), s) for s in range(plan.seeds_of(arm, seeds))]
        for arm in plan.arms
    }
    stated = {
        arm: [Trial(arm, arm.printed_rate, s) for s in range(min(plan.at_printed_rates, seeds))]
        for arm in plan.arms
        if arm.rated and arm.printed_rate is not None
    }
    order = [t for s in range(seeds) for trials in chosen.values() for t in trials[s : s + 1]]
    made = runner.run(order, "runs at the tuned rates")
    also = runner.run(
        [t for trials in stated.values() for t in trials], "runs at the printed rates"
    )
    return store, StudyRuns(
        plan,
        rates,
        tuning,
        {arm.label: [made[t] for t in trials] for arm, trials in chosen.items()},
        {arm.label: [also[t] for t in trials] for arm, trials in stated.items() if trials},
    )


def _mean_error(tried: Mapping[Trial, Values], trials: Sequence[Trial]) -> float:
    """The mean tuning error; infinite if a run diverged."""
    errors = np.array([float(tried[trial]["tuning"][-1]) for trial in trials])
    return float(errors.mean()) if np.isfinite(errors).all() else float("inf")
