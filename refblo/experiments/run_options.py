"""What a run of a table with training runs can be told besides its scale, output folder and seed."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from refblo.errors import ArgumentError, require_integer


@final
@dataclass(frozen=True)
class RunOptions:
    """Options of `refblo reproduce` that only the tables with training runs have.

    Args:
        data: a folder with the paper's data sets, for the paper's scale.
        seeds: pairs of runs a comparison; None for the number that the table states for its scale.
        jobs: processes at a time.
        device: where networks are trained.

    Raises:
        ArgumentError, ArgumentTypeError: if a number is out of range, or the device is not there.
    """

    data: Path | None = None
    seeds: int | None = None
    jobs: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        require_integer("jobs", self.jobs, 1, "run one process or more")
        if self.seeds is not None:
            require_integer("seeds", self.seeds, 2, "a comparison needs two pairs or more")
        try:
            torch.zeros((), device=self.device).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise ArgumentError(
                f"--device must be a torch device of this machine that holds numbers, got {self.device!r} "
                f"({reason}); use cpu"
            ) from error
