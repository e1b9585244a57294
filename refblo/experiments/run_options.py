"""What a run of a table with training runs can be told besides its scale, output folder and seed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final, runtime_checkable

from refblo.errors import require_integer
from refblo.experiments.report import Experiment


@final
@dataclass(frozen=True)
class RunOptions:
    """Options of `refblo reproduce` that only the tables with training runs have.

    Args:
        data: a folder with the paper's data sets, for the paper's scale.
        seeds: pairs of runs a comparison; None for the number that the table states for its scale.
        jobs: processes at a time.

    Raises:
        ArgumentError, ArgumentTypeError: if a number is out of range.
    """

    data: Path | None = None
    seeds: int | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        require_integer("jobs", self.jobs, 1, "run one process or more")
        if self.seeds is not None:
            require_integer("seeds", self.seeds, 2, "a comparison needs two pairs or more")


@runtime_checkable
class ConfigurableExperiment(Protocol):
    """An experiment that takes `RunOptions`."""

    @property
    def name(self) -> str:
        """What a user types."""
        ...

    def configured(self, options: RunOptions) -> Experiment:
        """The same experiment with these options."""
        ...
