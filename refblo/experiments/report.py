"""What an experiment answers: rows that stand beside the printed ones, findings, plots."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Float64

from refblo.errors import require
from refblo.experiments.endpoints import JudgedEndpoint

Progress = Callable[[str], None]
"""Takes one line to show while an experiment runs."""

REPORT_FORMAT = 2
"""Of report.json, which states it. Format 1 stated none, and had no number for each run."""
MOST_NUMBERS = 100
"""A row of more runs than this holds their mean and spread alone; their numbers are in the stored parts."""


class Scale(Enum):
    """How much of an experiment is run."""

    SMOKE = "smoke"
    SMALL = "small"
    PAPER = "paper"


class ExperimentVerdict(Enum):
    """How a printed figure and ours stand."""

    REPRODUCED = "reproduced"
    """Every printed digit, at the stated settings."""
    WITHIN_SPREAD = "within the seeds' spread"
    """The printed figure lies in the central 99 % of our runs at the stated settings."""
    NOT_REPRODUCED = "not reproduced"
    """Neither, at the stated settings; the report names what was tried."""
    OTHER_SETTINGS = "fits at other settings"
    """As the first two, but at settings that differ from the stated ones."""
    TRIED = "does not fit either"
    """Another setting that was tried in vain."""
    MEASURED = "measured"
    """Nothing is printed to compare with."""
    LEFT_OUT = "left out at this scale"
    ELSEWHERE = "measured on other data"
    """The printed figure belongs to other data and another network: only the claims are compared."""


TAIL = 0.005
"""Cut off at each end: a printed figure that is one more of our runs is accused in 1 % of the cases."""
ENOUGH_RUNS = 200
"""With fewer runs no figure, however far off, can lie beyond a rank probability of `TAIL`."""


@final
@dataclass(frozen=True)
class ExperimentRow:
    """One printed figure and ours.

    Attributes:
        label: the printed row, or what was run instead.
        quantity: which figure of the row.
        paper: the figure as printed, or None where nothing is printed.
        ours: our figure (the mean over runs where there are several), or None when it was left out.
        verdict: how the two stand.
        setting: every setting that the figure depends on.
        note: how it was computed, and what else there is to know.
        spread: the standard deviation over runs, where there are several.
        percentile: the share of our runs below the printed figure, in percent.
        runs: how many runs.
        elsewhere: what is printed for other data; shown, and compared with nothing.
        digits: shown of ours where nothing is printed to compare with.
        numbers: the figure of each run, in the order of the seeds, None for a run that diverged; empty where
            there are more than `MOST_NUMBERS` of them, or one.
    """

    label: str
    quantity: str
    paper: str | None
    ours: float | None
    verdict: ExperimentVerdict
    setting: str
    note: str = ""
    spread: float | None = None
    percentile: float | None = None
    runs: int = 1
    elsewhere: str = ""
    digits: int = 6
    numbers: tuple[float | None, ...] = ()

    @property
    def printed_text(self) -> str:
        """What the paper prints."""
        return self.paper or self.elsewhere

    @property
    def agrees(self) -> bool | None:
        """Whether ours, rounded to the printed digits, is the printed figure; None where one lacks."""
        if self.paper is None or self.ours is None:
            return None
        return agrees_to_printed_digits(self.paper, self.ours)

    @property
    def ours_text(self) -> str:
        """Our figure with two digits more than the printed one has (`digits` where none is printed)."""
        if self.ours is None:
            return "–"
        digits = self.digits if self.paper is None else decimals(self.paper) + 2
        text = f"{self.ours:.{digits}f}" if abs(self.ours) >= 10.0**-digits else f"{self.ours:.3g}"
        return text if self.spread is None else f"{text} ± {self.spread:.2g}"


@final
@dataclass(frozen=True)
class ExperimentReport:
    """The outcome of one experiment.

    Attributes:
        experiment: the experiment's name.
        what: one sentence on what was run.
        scale: how much of it was run.
        seed: of all its draws.
        rows: the printed figures and ours.
        findings: sentences with figures computed from the results.
        plots: the files written, relative to the output folder.
        seconds: wall time of this call, with what was taken from the store for nothing.
        claims: the comparisons that were stated before the runs, and their verdicts.
    """

    experiment: str
    what: str
    scale: Scale
    seed: int
    rows: tuple[ExperimentRow, ...]
    findings: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)
    claims: tuple[JudgedEndpoint, ...] = ()

    def to_json(self) -> str:
        """The report as a JSON document: its format, the version of refblo, and the fields of this class."""
        content = {"format": REPORT_FORMAT, "refblo": version("refblo"), **asdict(self)}
        content["scale"] = self.scale.value
        for row, source in zip(content["rows"], self.rows, strict=True):
            row["verdict"] = source.verdict.value
            row["agrees to the printed digits"] = source.agrees
        for claim, judged in zip(content["claims"], self.claims, strict=True):
            claim["endpoint"]["kind"] = judged.endpoint.kind.value
            if math.isinf(judged.detectable):
                claim["detectable"] = None
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


@runtime_checkable
class Experiment(Protocol):
    """One table or figure of a paper."""

    @property
    def name(self) -> str:
        """What a user types."""
        ...

    @property
    def what(self) -> str:
        """One sentence."""
        ...

    def run(
        self, scale: Scale, output: Path, progress: Progress = ..., seed: int = ...
    ) -> ExperimentReport:
        """Run it, or what of it is not stored in `output` yet; write plots and a JSON report there.

        Raises:
            ArgumentError: for a negative seed, or an output folder that cannot be used.
        """
        ...


def silent(line: str) -> None:
    """Show nothing."""


def each_run(values: Float64[np.ndarray, " s"]) -> tuple[float | None, ...]:
    """The numbers of a row of these runs.

    Example:
        >>> each_run(np.array([0.5, np.nan])), each_run(np.array([0.5]))
        ((0.5, None), ())
    """
    if not 1 < values.size <= MOST_NUMBERS:
        return ()
    return tuple(float(x) if math.isfinite(x) else None for x in values)


def decimals(printed: str) -> int:
    """How many digits follow the point of a printed figure.

    Raises:
        ArgumentError: if it is no decimal number.
    """
    whole, _, fraction = printed.lstrip("-").partition(".")
    require(
        whole.isdecimal() and (not fraction or fraction.isdecimal()),
        "printed",
        "be a decimal number as printed",
        repr(printed),
        "copy it from the paper without units",
    )
    return len(fraction)


def agrees_to_printed_digits(printed: str, ours: float) -> bool:
    """Whether `ours` rounds to the printed figure.

    Example:
        >>> agrees_to_printed_digits("0.7360", 0.73598), agrees_to_printed_digits("0.7360", 0.7361)
        (True, False)
    """
    return f"{ours:.{decimals(printed)}f}" == printed


def deterministic_row(
    label: str, quantity: str, paper: str | None, ours: float, setting: str, note: str = ""
) -> ExperimentRow:
    """A row of one run without randomness."""
    if paper is None:
        verdict = ExperimentVerdict.MEASURED
    else:
        agrees = agrees_to_printed_digits(paper, ours)
        verdict = ExperimentVerdict.REPRODUCED if agrees else ExperimentVerdict.NOT_REPRODUCED
    return ExperimentRow(label, quantity, paper, ours, verdict, setting, note)


def seeded_row(
    label: str,
    quantity: str,
    paper: str | None,
    values: Float64[np.ndarray, " s"],
    setting: str,
    note: str = "",
    stated: bool = True,
) -> ExperimentRow:
    """A row of many runs; the printed figure is placed among them.

    A printed figure stands for every number that rounds to it, so it is placed by the run counts below
    either end of that interval. `stated` says whether these are the paper's settings.
    """
    ours, spread = float(values.mean()), float(values.std())
    if paper is None:
        verdict = ExperimentVerdict.MEASURED
        return ExperimentRow(
            label,
            quantity,
            None,
            ours,
            verdict,
            setting,
            note,
            spread,
            None,
            values.size,
            numbers=each_run(values),
        )
    half = 0.5 * 10.0 ** -decimals(paper)
    below = int((values < float(paper) - half).sum())
    upto = int((values <= float(paper) + half).sum())
    # The rank of one more run of the same settings is uniform, whatever their distribution.
    tail = min(upto + 1, values.size - below + 1) / (values.size + 1)
    fits = tail >= TAIL
    if stated:
        verdict = ExperimentVerdict.WITHIN_SPREAD if fits else ExperimentVerdict.NOT_REPRODUCED
    else:
        verdict = ExperimentVerdict.OTHER_SETTINGS if fits else ExperimentVerdict.TRIED
    middle = 100 * (below + upto) / (2 * values.size)
    return ExperimentRow(
        label,
        quantity,
        paper,
        ours,
        verdict,
        setting,
        note,
        spread,
        middle,
        values.size,
        numbers=each_run(values),
    )
