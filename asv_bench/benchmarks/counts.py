"""asv's benchmarks of what does not depend on the machine: counts, and errors against closed forms.

All of it is measured once, in `setup_cache`; a benchmark looks up its figure. They run against the refblo of
earlier commits too: a row whose estimator or argument a commit does not know is "n/a", and a row with a wrong
answer is "failed", without a figure for the others to lose.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch

from .counted import (
    AT_SCALE,
    ESTIMATORS,
    SIZES,
    STEPS,
    Row,
    UnknownHereError,
    WrongAnswerError,
    key,
    measured,
)
from .naming import shown_as, words
from .timing import quick_collections

Rows = dict[str, dict[str, Any] | str]
"""A row's name → its figures, or what is wrong with its answer. A row that is n/a is not there."""

PROBLEMS = {f"dense quadratic, n = {n}, p = {p}": name for name, (n, p) in SIZES.items()}
"""What a person reads → the problem's name in `counted`."""

LEAST_ERROR = 1e-12
"""Errors below are shown as this: rounding of 100 steps, which another order of additions changes."""

VIT, VIT_STEPS = "vit-b-16", 2
WITHOUT_NOISE = tuple(name for name in AT_SCALE if "noise" not in name)
"""On ViT-B/16 noise changes neither figure that is kept; the gate counts its kernels."""


def rows(wanted: Iterable[tuple[str, str, int]]) -> Rows:
    """Measure rows, each on its own."""
    torch.set_num_threads(1)
    measured_rows: Rows = {}
    with quick_collections():
        for where in wanted:
            try:
                measured_rows[key(*where)] = asdict(measured(*where))
            except UnknownHereError:
                continue
            except WrongAnswerError as error:
                measured_rows[key(*where)] = str(error)
    return measured_rows


def figure(found: Rows, name: str, problem: str, estimator: str, steps: int) -> float:
    """One figure of a row; not a number, which asv shows as n/a, if the commit does not have it.

    Raises:
        WrongAnswerError: if the row's answer is wrong.
    """
    row = found.get(key(problem, estimator, steps))
    if isinstance(row, str):
        raise WrongAnswerError(row)
    if row is None:
        return math.nan
    value: float | None = Row(**row).evaluations if name == "evaluations" else row[name]
    return math.nan if value is None else value


class Counts:
    """One hypergradient on a dense quadratic; a figure that changes is a change of the code."""

    params = (words(PROBLEMS), words(ESTIMATORS), STEPS)
    param_names = ("problem", "estimator", "inner steps")
    timeout = 600
    version = "1"

    def setup_cache(self) -> Rows:
        return rows((name, one, T) for name in SIZES for one in ESTIMATORS for T in STEPS)

    @shown_as("Operations of a hypergradient", "FLOP")
    def track_flops(self, found: Rows, problem: str, estimator: str, steps: int) -> float:
        return figure(found, "flops", PROBLEMS[problem], estimator, steps)

    @shown_as("Peak memory of a hypergradient", "bytes")
    def track_peak_bytes(self, found: Rows, problem: str, estimator: str, steps: int) -> float:
        return figure(found, "peak_bytes", PROBLEMS[problem], estimator, steps)

    @shown_as("Bytes read and written", "bytes")
    def track_bytes_moved(self, found: Rows, problem: str, estimator: str, steps: int) -> float:
        return figure(found, "moved", PROBLEMS[problem], estimator, steps)

    @shown_as("Calls of kernels", "calls")
    def track_kernels(self, found: Rows, problem: str, estimator: str, steps: int) -> float:
        return figure(found, "kernels", PROBLEMS[problem], estimator, steps)

    @shown_as("Gradients and products evaluated", "evaluations")
    def track_evaluations(self, found: Rows, problem: str, estimator: str, steps: int) -> float:
        return figure(found, "evaluations", PROBLEMS[problem], estimator, steps)

    @shown_as("Error against the closed form", "relative error")
    def track_error(self, found: Rows, problem: str, estimator: str, steps: int) -> float:
        error = figure(found, "error", PROBLEMS[problem], estimator, steps)
        return error if math.isnan(error) else max(error, LEAST_ERROR)


class Synchronisations:
    """Looks of the host at numbers in IFT-CG, which stops on a tolerance; other estimators have none."""

    params = (words(PROBLEMS),)
    param_names = ("problem",)
    timeout = 600
    version = "1"

    def setup_cache(self) -> Rows:
        return rows((name, "IFT-CG", STEPS[0]) for name in SIZES)

    @shown_as("Host synchronisations of IFT-CG", "synchronisations")
    def track_host_synchronisations(self, found: Rows, problem: str) -> float:
        return figure(found, "host_synchronisations", PROBLEMS[problem], "IFT-CG", STEPS[0])


class AtScale:
    """Two steps of ViT-B/16, batch 8, counted on shapes alone."""

    params = (words(WITHOUT_NOISE),)
    param_names = ("estimator",)
    timeout = 600
    version = "1"

    def setup_cache(self) -> Rows:
        return rows((VIT, estimator, VIT_STEPS) for estimator in WITHOUT_NOISE)

    @shown_as("ViT-B/16: operations", "FLOP")
    def track_flops(self, found: Rows, estimator: str) -> float:
        return figure(found, "flops", VIT, estimator, VIT_STEPS)

    @shown_as("ViT-B/16: peak memory", "bytes")
    def track_peak_bytes(self, found: Rows, estimator: str) -> float:
        return figure(found, "peak_bytes", VIT, estimator, VIT_STEPS)
