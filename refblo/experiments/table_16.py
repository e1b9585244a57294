"""Table 16 of Kim and Hospedales: evolutionary search on Synth-1D. The other rows are those of Table 14."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from refblo.experiments.methods import evolution
from refblo.experiments.printed_networks import TABLE_16
from refblo.experiments.report import ExperimentReport, Progress, Scale, silent
from refblo.experiments.synth_errors import SynthRow, run_errors

PRINTED = "Evolutionary Search"


def rows(scale: Scale) -> tuple[SynthRow, ...]:
    """As printed; above the smoke scale also with a difference of two values in the place of one."""
    listed = (SynthRow(evolution(PRINTED), PRINTED, random=True),)
    if scale is Scale.SMOKE:
        return listed
    pairs = evolution(f"{PRINTED}, pairs z and −z", paired=True)
    return (
        *listed,
        SynthRow(pairs, PRINTED, random=True, stated=False),
    )


@final
@dataclass(frozen=True)
class Table16:
    """Table 16."""

    name: str = field(default="table-16", init=False)
    what: str = field(default="Synth-1D and its noisy form: evolutionary search", init=False)

    def run(
        self, scale: Scale, output: Path, progress: Progress = silent, seed: int = 0
    ) -> ExperimentReport:
        """Run it; see `Experiment.run`.

        Raises:
            ArgumentError: for a negative seed, or an output folder that cannot be used.
        """
        return run_errors(
            self.name, self.what, rows(scale), TABLE_16, scale, output, progress, seed
        )
