"""Table 14 of Kim and Hospedales: the Synth-1D columns with AmIGO. Those of L1-Reg are rows of Table 4."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from refblo.experiments.methods import amigo, conjugate_gradient, hpo_sgld, neumann, unrolled
from refblo.experiments.printed_networks import TABLE_14
from refblo.experiments.report import ExperimentReport, Progress, Scale, silent
from refblo.experiments.synth_errors import SynthRow, run_errors

SOLVE_STEPS = (0.005, 0.1, 0.5)
"""α of AmIGO-SGD: the inner rate of D.1, and two more, since none is printed."""
NOISY_TEMPERATURE = 1e-2
"""The τ of Table 3 with the errors that Table 14 prints for HPO-SGLD on the noisy problem."""


def rows(scale: Scale) -> tuple[SynthRow, ...]:
    """The printed rows; above the smoke scale also AmIGO-SGD and HPO-SGLD at other settings."""
    stated = (
        neumann("IFT-Neumann"),
        conjugate_gradient("IFT-CG"),
        unrolled("RMD", "RMD", 100),
        unrolled("FMD", "FMD", 100),
        amigo("AmIGO-SGD", SOLVE_STEPS[0]),
        amigo("AmIGO-CG", None),
    )
    listed = (
        *(SynthRow(competitor, competitor.label) for competitor in stated),
        SynthRow(hpo_sgld("HPO-SGLD"), "HPO-SGLD", random=True),
    )
    if scale is Scale.SMOKE:
        return listed
    others = [
        SynthRow(amigo(f"AmIGO-SGD, α = {alpha:g}", alpha), "AmIGO-SGD", stated=False)
        for alpha in SOLVE_STEPS[1:]
    ]
    hotter = hpo_sgld(f"HPO-SGLD, τ = {NOISY_TEMPERATURE:g}", NOISY_TEMPERATURE)
    return (*listed, *others, SynthRow(hotter, "HPO-SGLD", random=True, stated=False))


@final
@dataclass(frozen=True)
class Table14:
    """Table 14, the columns that need no data."""

    name: str = field(default="table-14", init=False)
    what: str = field(
        default="Synth-1D and its noisy form: AmIGO beside the others (L1-Reg: table-4)", init=False
    )

    def run(
        self, scale: Scale, output: Path, progress: Progress = silent, seed: int = 0
    ) -> ExperimentReport:
        """Run it; see `Experiment.run`.

        Raises:
            ArgumentError: for a negative seed, or an output folder that cannot be used.
        """
        same = TABLE_14["AmIGO-CG"] == TABLE_14["IFT-CG"]
        findings = (
            "The printed pairs of AmIGO-CG and IFT-CG are "
            f"{'the same in both columns' if same else 'different'}: in one dimension CG ends after one "
            "iteration, so that the two differ by IFT-CG's damping alone.",
        )
        return run_errors(
            self.name, self.what, rows(scale), TABLE_14, scale, output, progress, seed, findings
        )
