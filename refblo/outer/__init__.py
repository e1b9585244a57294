"""The outer loop, and its checkpoints."""

from refblo.outer.loop import (
    Callback,
    OuterLoop,
    OuterRun,
    OuterStep,
    outer_draws,
    progress_bar,
)

__all__ = [
    "Callback",
    "OuterLoop",
    "OuterRun",
    "OuterStep",
    "outer_draws",
    "progress_bar",
]
