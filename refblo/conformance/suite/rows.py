"""What the suite finds: a row for each entry and estimand, and the whole."""

from dataclasses import dataclass, field
from enum import Enum
from typing import final

from refblo.conformance.diagnosis import Diagnosis
from refblo.conformance.suite.target import Declared


class Outcome(Enum):
    """What became of one row."""

    RIGHT = "right"
    WRONG = "wrong"
    FAILED = "failed"
    UNDECIDED = "undecided"
    SKIPPED = "skipped"


class Kind(Enum):
    """What can be noticed about a target beside its numbers; the value is what a report says."""

    IMPORT = "cannot be imported"
    REFUSED = "cannot be used"
    RAISES = "raises"
    TYPE = "returns the wrong type"
    SHAPE = "returns the wrong shape"
    NOT_FINITE = "returns entries that are not finite"
    HANGS = "does not answer in time"
    MEMORY = "exhausts its memory"
    DIES = "ends its process"
    EXITS = "calls exit"
    CHANNEL = "writes to descriptors that are not its own, or closes them"
    MUTATES = "changes its inputs"
    STATE = "answers the same question differently: it keeps state, or is not deterministic"
    PRINTS = "prints"
    DTYPE = "returns another dtype than it was given"


NOTES = frozenset({Kind.PRINTS, Kind.DTYPE})
"""What is reported but does not make a target wrong."""


@final
@dataclass(frozen=True)
class Finding:
    """Something noticed.

    Attributes:
        kind: of it.
        text: the particulars.
    """

    kind: Kind
    text: str

    @property
    def describe(self) -> str:
        """One line."""
        return f"{self.kind.value}: {self.text}" if self.text else self.kind.value


@final
@dataclass(frozen=True)
class Statistics:
    """How a stochastic target was judged.

    Attributes:
        seeds: how many estimates were averaged.
        error_rate: the chance that an unbiased target is accused, over all its coordinates.
        detectable: the relative bias that is found with a chance of `power`.
        power: the chance of finding a bias of `detectable`.
    """

    seeds: int
    error_rate: float
    detectable: float
    power: float


@final
@dataclass(frozen=True)
class Row:
    """One entry and one estimand.

    Attributes:
        name: "entry/estimand".
        traits: of the entry.
        outcome: what became of it.
        error: relative error of the worst call; None where nothing could be compared.
        floor: the smallest relative error that would have been accused.
        digits: correct decimal digits.
        seconds: wall time of the slowest call.
        reason: why it was skipped, could not be judged, or is undecided.
        diagnosis: the mistake, where it is wrong.
        findings: what else was noticed.
        statistics: for a stochastic target.
        convention: which of two accepted conventions it follows, where there are two.
    """

    name: str
    traits: tuple[str, ...]
    outcome: Outcome
    error: float | None = None
    floor: float | None = None
    digits: float | None = None
    seconds: float = 0.0
    reason: str = ""
    diagnosis: Diagnosis | None = None
    findings: tuple[Finding, ...] = ()
    statistics: Statistics | None = None
    convention: str = ""

    @property
    def doubtful(self) -> bool:
        """Whether it only is not known to be right: undecided, and nothing else was noticed."""
        serious = any(finding.kind not in NOTES for finding in self.findings)
        return self.outcome is Outcome.UNDECIDED and not serious

    @property
    def bad(self) -> bool:
        """Whether it speaks against the target."""
        serious = any(finding.kind not in NOTES for finding in self.findings)
        return serious or self.outcome in (Outcome.WRONG, Outcome.FAILED, Outcome.UNDECIDED)


@final
@dataclass(frozen=True)
class Expectations:
    """How the rows compare with what was expected to fail.

    Attributes:
        met: expected failures that failed, with the reason given for each.
        passed: expected failures that did not fail.
        unmatched: names that belong to no row.
    """

    met: dict[str, str] = field(default_factory=dict)
    passed: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class Result:
    """All that one run of the suite found.

    Attributes:
        target: the target's name.
        framework: the target's array library.
        profile: "quick" or "full".
        seed: of the run.
        declared: what the target declares; None if it could not be imported.
        rows: the rows.
        findings: what concerns the target as a whole.
        expectations: the expected failures.
        environment: versions.
        seconds: wall time.
    """

    target: str
    framework: str
    profile: str
    seed: int
    declared: Declared | None
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    expectations: Expectations
    environment: dict[str, str]
    seconds: float

    def count(self, outcome: Outcome) -> int:
        """How many rows came out so."""
        return sum(row.outcome is outcome for row in self.rows)

    @property
    def unexpected(self) -> tuple[Row, ...]:
        """The rows that speak against the target and were not expected to."""
        return tuple(row for row in self.rows if row.bad and row.name not in self.expectations.met)

    @property
    def passed(self) -> bool:
        """Whether something was judged right, and nothing speaks against the target unexpectedly."""
        serious = any(finding.kind not in NOTES for finding in self.findings)
        return self.count(Outcome.RIGHT) > 0 and not self.unexpected and not serious

    def consensus(self) -> tuple[tuple[str, int], ...]:
        """The mistakes by how many wrong rows each explains: what is the same everywhere is the bug."""
        counts: dict[str, int] = {}
        for row in self.rows:
            for name in row.diagnosis.names if row.diagnosis else ():
                counts[name] = counts.get(name, 0) + 1
        return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
