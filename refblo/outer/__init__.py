"""The outer loop, and its checkpoints."""

from refblo.estimators.by_default import plainly
from refblo.outer.loop import OuterLoop
from refblo.outer.steps import Callback, OuterRun, OuterStep, outer_draws, progress_bar

__all__ = [
    "Callback",
    "OuterLoop",
    "OuterRun",
    "OuterStep",
    "outer_draws",
    "plainly",
    "progress_bar",
]
