"""A small table of training runs: `python -m tests.experiments.toy_study OUTPUT` runs it to its end.

It says a line whenever something is finished, so that it can be killed in between.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
import torch

from refblo.chain import Langevin, Schedule
from refblo.estimators import HPOSGLD, RMD, Estimator
from refblo.experiments.endpoints import Endpoint, EndpointKind
from refblo.experiments.report import Scale
from refblo.experiments.run_options import RunOptions
from refblo.experiments.store import Values
from refblo.experiments.study import Arm, StudyPlan, StudyRuns, Trial, TrialPlace, run_trials
from refblo.experiments.training import descend
from refblo.outer import OuterLoop, OuterRun, OuterStep
from refblo.problems import build

STEPS, PIECES = 9, 3


def methods() -> dict[str, Estimator]:
    """By name."""
    gamma = build("quadratic").dynamics.step_size
    return {
        "HPO-SGLD": HPOSGLD(Langevin(gamma, 0.1, 1.0), Schedule(2, 2)),
        "RMD": RMD(Langevin(gamma), Schedule.last(4)),
    }


@final
@dataclass(frozen=True)
class ToyStudy:
    """Two methods on the quadratic problem; the error is the outer loss, less at the rate 0.02."""

    name: str = field(default="toy", init=False)
    what: str = field(default="a toy", init=False)

    def plan(self, scale: Scale) -> StudyPlan:  # noqa: ARG002
        """Two arms, three rates, two seeds."""
        arms = (Arm("HPO-SGLD", "κ = 1"), Arm("RMD", printed_rate=0.01))
        claim = Endpoint("Lower.", "loss", ("HPO-SGLD κ = 1",), ("RMD",), EndpointKind.LOWER, 1.0)
        settings: dict[str, float | int | str] = {"test images": 10, "outer steps": STEPS}
        return StudyPlan(arms, (0.001, 0.02), 1, 2, (claim,), settings, "loss", at_printed_rates=1)

    def require_data(self, scale: Scale, data: Path | None) -> None:
        """None is needed."""

    @property
    def twin(self) -> None:
        """None."""

    def train(self, trial: Trial, place: TrialPlace) -> Values:
        """One run in pieces."""
        case = build("quadratic")

        def measure(ended: OuterRun) -> Values:
            loss = np.array([float(case.problem.outer(ended.lam, ended.theta, None))])
            return {"test": loss, "tuning": loss}

        def along(step: OuterStep) -> dict[str, float]:
            return {"lam along the run": float(step.lam[0])}

        method = methods()[trial.arm.method]
        return descend(
            case.problem, method, case.lam, STEPS, PIECES, trial, place, measure, along=along
        )


def write_state(path: Path, method: str, steps: int, rate: float, seed: int) -> None:
    """The state that a method's run with this rate and seed has after some steps."""
    case = build("quadratic")
    loop = OuterLoop(
        case.problem,
        methods()[method],
        lambda ps: torch.optim.SGD(ps, lr=rate),
        steps=steps,
        seed=seed,
        checkpoint=path,
        unchecked=True,
        plain=True,
    )
    loop.run(case.lam)


def run(output: Path, progress: Callable[[str], None], jobs: int = 1) -> StudyRuns:
    """The whole table."""
    options = RunOptions(jobs=jobs)
    return run_trials(ToyStudy(), options, Scale.SMOKE, output, progress, 0)[1]


if __name__ == "__main__":

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    run(Path(sys.argv[1]), say)
