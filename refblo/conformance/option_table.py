"""What each estimand does with each option of `hypergradcheck`.

`TABLE` is what the documentation prints and what `refblo.conformance.options` enforces.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import final

from refblo.types import Estimand


class Use(Enum):
    """What an estimand does with an option."""

    USED = "used"
    WITHOUT_EFFECT = "no effect"
    REFUSED = "refused"


@final
@dataclass(frozen=True)
class Cell:
    """What one estimand does with one option.

    Attributes:
        use: what it does.
        text: how, or why not.
    """

    use: Use
    text: str = ""

    @property
    def markdown(self) -> str:
        """As the documentation prints it."""
        return f"{self.use.value}: {self.text}" if self.text else self.use.value


USED = Cell(Use.USED)


def _used(text: str) -> Cell:
    return Cell(Use.USED, text)


def _refused(text: str) -> Cell:
    return Cell(Use.REFUSED, text)


def _idle(text: str) -> Cell:
    return Cell(Use.WITHOUT_EFFECT, text)


_LEADS = _used("the run leads to the solution")
_SAME_SOLUTION = _used(
    "weight decay belongs to the inner problem; momentum, Adam, RMSprop and clipping leave its solution "
    "alone; decoupled decay beside a rule with buffers is refused, and weight decay beside clipping"
)
_ONE_PROBLEM = _used("all entries must be the same batch: that of the inner problem")
_ONE_DENSITY = _used("all entries must be the same batch: that of the density")
_DIAGNOSIS = _used("for the diagnosis alone")
_CHAIN = _idle("the density is that of an endless chain of small steps")

_ORDER = (Estimand.UNROLLED, Estimand.PATHWISE, Estimand.IMPLICIT, Estimand.GIBBS)


def _row(*cells: Cell) -> Mapping[Estimand, Cell]:
    """The cells of one option, in the order of `_ORDER`; one cell for all."""
    return dict(zip(_ORDER, cells * 4 if len(cells) == 1 else cells, strict=True))


TABLE: Mapping[str, Mapping[Estimand, Cell]] = {
    "steps": _row(USED, USED, _LEADS, _CHAIN),
    "step_size": _row(USED, USED, _LEADS, _CHAIN),
    "rule": _row(
        USED,
        USED,
        _SAME_SOLUTION,
        _used(
            "weight decay and τκ² belong to the density (κ = 0 counts as 1); momentum, Adam, RMSprop and "
            "clipping are refused"
        ),
    ),
    "step": _row(
        USED,
        USED,
        _used("the solution is the fixed point of the step with t = 0"),
        _refused("the density needs the inner loss"),
    ),
    "read": _row(
        _used("beside step"),
        _used("beside step"),
        _used("beside step"),
        _refused("it belongs to step"),
    ),
    "temperature": _row(
        _DIAGNOSIS, _DIAGNOSIS, _refused("the solution is that of temperature 0"), USED
    ),
    "noise": _row(
        USED,
        USED,
        _refused("the solution has no noise"),
        _refused("the density is not one chain's; give seeds for estimates by sampling"),
    ),
    "inner_batches": _row(USED, USED, _ONE_PROBLEM, _ONE_DENSITY),
    "outer_batches": _row(USED, USED, _used("the last entry"), _ONE_DENSITY),
    "burn_in": _row(
        _refused("it belongs to the pathwise mean"),
        USED,
        _refused("it belongs to the pathwise mean"),
        _refused("it belongs to the pathwise mean"),
    ),
    "directions": _row(USED, USED, USED, _refused("all coordinates are judged")),
    "floor": _row(USED),
    "tolerance": _row(USED),
    "terms": _row(_DIAGNOSIS, _DIAGNOSIS, _DIAGNOSIS, _DIAGNOSIS),
    "seed": _row(USED),
    "seeds": _row(
        _refused("it belongs to the Gibbs estimand"),
        _refused("it belongs to the Gibbs estimand"),
        _refused("it belongs to the Gibbs estimand"),
        USED,
    ),
    "stateful": _row(
        USED, USED, USED, _refused("the density does not depend on where a chain starts")
    ),
    "diagnosis_seconds": _row(USED),
}
"""What each estimand does with each option."""

ESTIMANDS = {
    "unrolled": Estimand.UNROLLED,
    "pathwise": Estimand.PATHWISE,
    "implicit": Estimand.IMPLICIT,
    "gibbs": Estimand.GIBBS,
}
"""The estimands by the names that callers give."""


def table_markdown() -> str:
    """`TABLE` as the documentation prints it."""
    lines = ["| option | " + " | ".join(ESTIMANDS) + " |", "| --- | --- | --- | --- | --- |"]
    for name, row in TABLE.items():
        cells = " | ".join(row[estimand].markdown for estimand in _ORDER)
        lines.append(f"| `{name}` | {cells} |")
    return "\n".join(lines)
