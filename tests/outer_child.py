"""A long outer loop to be killed: `python -m tests.outer_child CHECKPOINT RESULT METHOD`.

It says a line after each step, and writes the last λ, bit by bit, when it is through.
"""

import sys
from pathlib import Path

import torch

from refblo.chain import Langevin, Schedule
from refblo.estimators import HPOSGLD
from refblo.estimators.fsla import FSLA
from refblo.estimators.protocol import Estimator
from refblo.outer.loop import OuterLoop
from refblo.outer.steps import OuterStep
from refblo.problems import build

STEPS = 40


def methods(step_size: float) -> dict[str, Estimator]:
    """One that starts cold but draws noise, and one with a memory."""
    return {
        "hpo_sgld": HPOSGLD(Langevin(step_size, 0.1, 1.0), Schedule(2, 2)),
        "fsla": FSLA(step_size, step_size, momentum=0.3),
    }


def loop(checkpoint: Path | None, method: str, say: bool = False) -> OuterLoop:
    """The loop, with an optimiser and a scheduler that have states of their own."""
    case = build("quadratic")

    def report(step: OuterStep) -> bool:
        if say:
            sys.stdout.write(f"{step.step}\n")
            sys.stdout.flush()
        return False

    return OuterLoop(
        case.problem,
        methods(case.dynamics.step_size)[method],
        lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        steps=STEPS,
        scheduler=lambda optimiser: torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.97),
        projection=lambda lam: lam.clamp(-5.0, 5.0),
        clip=3.0,
        seed=7,
        callbacks=(report,),
        checkpoint=checkpoint,
    )


def bits(lam: torch.Tensor) -> str:
    """The exact bytes."""
    return lam.numpy().tobytes().hex()


if __name__ == "__main__":
    torch.set_num_threads(1)
    ended = loop(Path(sys.argv[1]), sys.argv[3], say=True).run(build("quadratic").lam, resume=True)
    Path(sys.argv[2]).write_text(bits(ended.lam), encoding="ascii")
