"""One competitor solved on Synth-1D, kept in the store, with what vouches for the numbers."""

from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import final

import numpy as np

from refblo.estimators import Estimator
from refblo.experiments.methods import Competitor
from refblo.experiments.outer_loop import (
    Descent,
    Runs,
    final_state,
    largest_difference,
    many_seeds,
    with_estimator,
)
from refblo.experiments.store import Settings, Store, Values

CHUNK = 20
"""Outer steps that an estimator's run is stored by."""


class By(Enum):
    """What computes a run."""

    ESTIMATOR = "the package's estimator"
    WRITTEN_OUT = "the recursion written out"


@final
@dataclass(frozen=True)
class SolvingEffort:
    """How a competitor is run.

    Attributes:
        by: what computes it.
        runs: how many seeds (of the recursion written out; the estimator runs one).
        checked_seeds: on how many of them the recursion is compared with the estimator; 0 for none.
        checked_steps: over how many outer steps.
    """

    by: By
    runs: int = 1
    checked_seeds: int = 0
    checked_steps: int = 0


@final
@dataclass(frozen=True, eq=False)
class Solved:
    """Where the runs ended.

    Attributes:
        runs: λ after and θ before the last update, NaN where a run diverged.
        note: what computed them, and how far it is from the other form.
        difference: between recursion and estimator over the checked steps; None if not compared.
    """

    runs: Runs
    note: str
    difference: float | None

    @property
    def diverged(self) -> float:
        """The share of diverged runs."""
        return 1 - float(self.runs.finite.mean())


def solve(store: Store, competitor: Competitor, descent: Descent, effort: SolvingEffort) -> Solved:
    """Solve, or take from the store."""
    checked = effort.checked_seeds > 0 and competitor.estimator is not None

    settings: Settings = {
        "method": competitor.setting,
        "loop": descent.describe(),
        "by": effort.by.value,
        "runs": effort.runs,
        "checked seeds": effort.checked_seeds,
        "checked outer steps": effort.checked_steps,
    }

    def compute() -> Values:
        estimator, dynamics = competitor.estimator, competitor.dynamics
        if effort.by is By.ESTIMATOR:
            if estimator is None:
                raise ValueError(f"{competitor.label} has no estimator; run it written out")
            ended = _by_estimator(store, competitor.label, estimator, descent, settings)
        else:
            trajectory = many_seeds(
                competitor.written_out, dynamics, descent, effort.runs, store.seed
            )
            ended = final_state(trajectory)
        values = {"lam": ended.lam, "theta": ended.theta}
        if checked and estimator is not None:
            seeds = tuple(range(store.seed, store.seed + effort.checked_seeds))
            difference = largest_difference(
                competitor.written_out, estimator, dynamics, descent, seeds, effort.checked_steps
            )
            values["difference"] = np.array([difference])
        return values

    values = store.part(competitor.label, settings, compute)
    difference = float(values["difference"][0]) if "difference" in values else None
    return Solved(
        Runs(values["lam"], values["theta"]), _note(competitor, effort, difference), difference
    )


def _by_estimator(
    store: Store, label: str, estimator: Estimator, descent: Descent, settings: Settings
) -> Runs:
    """A run whose every `CHUNK` outer steps are a part of their own: the longest take many minutes."""
    now: Runs | None = None
    for first in range(0, descent.outer_steps, CHUNK):

        def compute(begin: Runs | None = now, first: int = first) -> Values:
            trajectory = with_estimator(estimator, descent, store.seed, first, begin)
            ended = final_state(islice(trajectory, CHUNK))
            return {"lam": ended.lam, "theta": ended.theta}

        last = min(first + CHUNK, descent.outer_steps)
        values = store.part(f"{label}, outer steps to {last}", settings, compute)
        now = Runs(values["lam"], values["theta"])
        if not now.finite.all():
            break
    if now is None:
        raise ValueError("descent must have at least one outer step, got none; raise outer_steps")
    return now


def _note(competitor: Competitor, effort: SolvingEffort, difference: float | None) -> str:
    if effort.by is By.ESTIMATOR:
        return "by the package's estimator"
    if difference is None:
        reason = "no estimator has these equations" if competitor.estimator is None else "unchecked"
        return f"by the recursion written out ({reason})"
    close = f"within {difference:.1g} of" if difference > 0 else "bit for bit"
    return (
        f"by the recursion written out, {close} the estimator over the first "
        f"{effort.checked_steps} outer steps of {effort.checked_seeds} run(s)"
    )
