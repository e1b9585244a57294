"""The options of `hypergradcheck`: what each must be, and what it does to each estimand.

`TABLE` is what the documentation prints and what `checked` enforces: an option that an estimand cannot
obey is refused, and none is silently ignored.
"""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from numbers import Integral, Real
from typing import Any, TypedDict, cast, final

from torch import Tensor
from torch.optim import Optimizer

from refblo.errors import ArgumentError, ArgumentTypeError, require
from refblo.rules.named import rule_of
from refblo.rules.numbers import Number, check_number
from refblo.rules.rule import Rule
from refblo.types import Estimand


class Run(TypedDict, total=False):
    """The inner run: which one is differentiated.

    Attributes:
        steps: T, inner steps; 1 unless given.
        step_size: γ of gradient descent or Langevin dynamics, or a function of λ, or of λ and the step.
        rule: another known optimiser, instead of `step_size`: a `Rule`, such as refblo.rules.AdamW(lr=0.1),
            or an optimiser of torch.optim that has not stepped yet.
        step: any differentiable transition (lam, state, t) ↦ state, instead of both.
        read: state ↦ θ, for a `step` whose state holds more than θ. By default θ is the state if that
            is a tensor and its first part if it is a tuple or list.
        temperature: τ.
        noise: what is added to θ at each step, shape (T, n).
        inner_batches: entry t is the batch of transition t.
        outer_batches: entry m is the batch of the outer loss at iterate m, 0 … T.
        burn_in: B: how many of the T iterates the pathwise mean leaves out.
    """

    steps: int
    step_size: Number
    rule: Rule | Optimizer
    step: Callable[[Any, Any, int], Any]
    read: Callable[[Any], Any]
    temperature: float
    noise: Tensor
    inner_batches: Sequence[Any]
    outer_batches: Sequence[Any]
    burn_in: int


@final
class Options(Run, total=False):
    """All options of `hypergradcheck`; the run's are those of `Run`.

    Attributes:
        estimand: "unrolled", "pathwise", "implicit" or "gibbs".
        directions: how many random directions; None for all coordinates of a small λ, three
            directions of a large one.
        floor: the smallest relative error that must be seen, in [0, 1).
        tolerance: the relative error that the method itself declares, such as that of its solver, in [0, 1).
        terms: how many terms or iterations the method declares for its solve, for the diagnosis.
        seed: of the directions.
        seeds: for the Gibbs estimand by sampling: how many estimates hypergradient(lam, seed) to average.
            Without it hypergradient(lam) is judged as a number.
        stateful: whether the method is warm-started: hypergradient(lam) or hypergradient(lam, theta) then
            returns (hypergradient, theta), and each call is judged by the run from the θ of the one before.
        diagnosis_seconds: how long the diagnosis of a wrong hypergradient may take; 30 unless given.
    """

    estimand: str | Estimand
    directions: int | None
    floor: float | None
    tolerance: float
    terms: int | None
    seed: int
    seeds: int
    stateful: bool
    diagnosis_seconds: float


class BlackBoxOptions(TypedDict, total=False):
    """The options of `hypergradcheck(objective=...)`.

    Attributes:
        directions: how many random directions; None for all coordinates of a small λ, three of a large one.
        floor: the smallest relative error that must be seen, in [0, 1).
        tolerance: the relative error that the method itself declares, in [0, 1).
        seed: of the directions.
        diagnosis_seconds: how long the diagnosis of a wrong hypergradient may take; 30 unless given.
    """

    directions: int | None
    floor: float | None
    tolerance: float
    seed: int
    diagnosis_seconds: float


DIAGNOSIS_SECONDS = 30.0
"""How long a diagnosis may take unless `diagnosis_seconds` says otherwise."""


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


_USED = Cell(Use.USED)


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
    "steps": _row(_USED, _USED, _LEADS, _CHAIN),
    "step_size": _row(_USED, _USED, _LEADS, _CHAIN),
    "rule": _row(
        _USED,
        _USED,
        _SAME_SOLUTION,
        _used(
            "weight decay and τκ² belong to the density (κ = 0 counts as 1); momentum, Adam, RMSprop and "
            "clipping are refused"
        ),
    ),
    "step": _row(
        _USED,
        _USED,
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
        _DIAGNOSIS, _DIAGNOSIS, _refused("the solution is that of temperature 0"), _USED
    ),
    "noise": _row(
        _USED,
        _USED,
        _refused("the solution has no noise"),
        _refused("the density is not one chain's; give seeds for estimates by sampling"),
    ),
    "inner_batches": _row(_USED, _USED, _ONE_PROBLEM, _ONE_DENSITY),
    "outer_batches": _row(_USED, _USED, _used("the last entry"), _ONE_DENSITY),
    "burn_in": _row(
        _refused("it belongs to the pathwise mean"),
        _USED,
        _refused("it belongs to the pathwise mean"),
        _refused("it belongs to the pathwise mean"),
    ),
    "directions": _row(_USED, _USED, _USED, _refused("all coordinates are judged")),
    "floor": _row(_USED),
    "tolerance": _row(_USED),
    "terms": _row(_DIAGNOSIS, _DIAGNOSIS, _DIAGNOSIS, _DIAGNOSIS),
    "seed": _row(_USED),
    "seeds": _row(
        _refused("it belongs to the Gibbs estimand"),
        _refused("it belongs to the Gibbs estimand"),
        _refused("it belongs to the Gibbs estimand"),
        _USED,
    ),
    "stateful": _row(
        _USED, _USED, _USED, _refused("the density does not depend on where a chain starts")
    ),
    "diagnosis_seconds": _row(_USED),
}
"""What each estimand does with each option."""

_NAMES = {
    "unrolled": Estimand.UNROLLED,
    "pathwise": Estimand.PATHWISE,
    "implicit": Estimand.IMPLICIT,
    "gibbs": Estimand.GIBBS,
}

_OF_THE_RULE = {
    "momentum": "momentum=",
    "nesterov": "nesterov=True",
    "decoupled_decay": "decoupled_decay=True",
    "weight_decay": "weight_decay=",
    "betas": "betas=",
    "adam_epsilon": "adam_epsilon=",
    "eps": "adam_epsilon=",
    "noise_scale": "noise_scale=",
    "root_epsilon": "root_epsilon=",
    "eps_root": "root_epsilon=",
    "square_decay": "square_decay=",
    "clip_norm": "clip_norm=",
    "clip_value": "clip_value=",
}

_ALIASES = {
    "lr": "step_size",
    "learning_rate": "step_size",
    "rtol": "tolerance",
    "num_steps": "steps",
}


def table_markdown() -> str:
    """`TABLE` as the documentation prints it."""
    lines = ["| option | " + " | ".join(_NAMES) + " |", "| --- | --- | --- | --- | --- |"]
    for name, row in TABLE.items():
        cells = " | ".join(row[estimand].markdown for estimand in _ORDER)
        lines.append(f"| `{name}` | {cells} |")
    return "\n".join(lines)


def estimand_of(name: object) -> Estimand:
    """The estimand by its name.

    Raises:
        ArgumentError: for an unknown name.
    """
    if isinstance(name, Estimand):
        return name
    if not isinstance(name, str) or name not in _NAMES:
        raise ArgumentError(
            f"estimand must be one of {', '.join(_NAMES)}, got {name!r}; see docs/theory/four-truths.md"
        )
    return _NAMES[name]


def checked(options: Mapping[str, object]) -> tuple[Options, Estimand]:
    """The options that are given, each checked by itself and against the estimand.

    An option that is None counts as left out.

    Raises:
        ArgumentTypeError: for an unknown option, or a value of the wrong type.
        ArgumentError: for a value out of range, or an option that the estimand cannot obey.
    """
    for name in options:
        if name not in TABLE and name != "estimand":
            raise ArgumentTypeError(f"{name} must be an option of hypergradcheck; {_nearest(name)}")
    given = {name: value for name, value in options.items() if value is not None}
    estimand = estimand_of(given.get("estimand", "unrolled"))
    for name, value in given.items():
        if name != "estimand":
            _CHECKS[name](name, value)
    for name, value in given.items():
        cell = TABLE[name][estimand] if name != "estimand" else _USED
        # False and 0 say what is the case without the option.
        if cell.use is Use.REFUSED and not (isinstance(value, bool | int) and not value):
            raise ArgumentError(
                f"{name} must be left out for the {estimand.value} estimand, got {_short(value)}; "
                f"{cell.text}"
            )
    return cast("Options", given), estimand


def checked_black_box(options: Mapping[str, object]) -> BlackBoxOptions:
    """The options of a check of an objective, each checked by itself; None counts as left out.

    Raises:
        ArgumentTypeError: for an unknown option, one that describes the run, or a value of the wrong type.
        ArgumentError: for a value out of range.
    """
    names = BlackBoxOptions.__annotations__
    for name in options:
        if name in TABLE and name not in names:
            raise ArgumentTypeError(
                f"{name} must be left out beside objective, which is the whole run; the options are "
                f"{', '.join(names)}"
            )
        if name not in names:
            raise ArgumentTypeError(f"{name} must be an option of hypergradcheck; {_nearest(name)}")
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        _CHECKS[name](name, value)
    return cast("BlackBoxOptions", given)


def _nearest(name: str) -> str:
    if name in _OF_THE_RULE:
        return f"the optimiser is described by rule=Rule(step_size, {_OF_THE_RULE[name]}…), from refblo"
    if name in ("optimizer", "optimiser", "optim", "opt"):
        return "the optimiser is given as rule=, such as rule=refblo.rules.AdamW(lr=0.1)"
    known = _ALIASES.get(name) or next(
        iter(difflib.get_close_matches(name, [*TABLE, "estimand"], 1, 0.5)), None
    )
    if known is not None:
        return f"did you mean {known}?"
    return f"the options are {', '.join(['estimand', *TABLE])}"


def _short(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    shown = repr(value)
    return shown if len(shown) <= 40 else type(value).__name__


def _integer(least: int) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ArgumentTypeError(
                f"{name} must be an integer, got {_short(value)}; give a Python int"
            )
        require(int(value) >= least, name, f"be at least {least}", value, "give a larger number")

    return check


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentTypeError(
            f"{name} must be a real number, got {_short(value)}; give a Python number"
        )
    return float(value)


def _positive(name: str, value: object) -> None:
    number = _number(name, value)
    good = math.isfinite(number) and number > 0
    require(good, name, "be positive and finite", value, "choose a positive number")


def _share(name: str, value: object) -> None:
    number = _number(name, value)
    good = 0 <= number < 1  # also false for what is no number
    require(
        good,
        name,
        "be non-negative, finite and below 1",
        value,
        "use a relative error such as 1e-6",
    )


def _seconds(name: str, value: object) -> None:
    number = _number(name, value)
    require(
        number >= 0,
        name,
        "be non-negative",
        value,
        "give a number of seconds, or 0 for no diagnosis",
    )


def _callable(name: str, value: object) -> None:
    if not callable(value):
        raise ArgumentTypeError(
            f"{name} must be a function, got {_short(value)}; give the function itself"
        )


def _step_size(name: str, value: object) -> None:
    if isinstance(value, Tensor):
        raise ArgumentTypeError(
            f"{name} must be a real number or a function of lam, got {_short(value)}; if it is λ, or depends "
            'on λ, give a function such as lambda lam: lam["lr"].exp()'
        )
    check_number(name, value, "give a Python number")


def _rule(_: str, value: object) -> None:
    rule_of(value)


def _tensor(name: str, value: object) -> None:
    good = isinstance(value, Tensor) and value.is_floating_point() and not value.is_meta
    if not good:
        got = value.dtype if isinstance(value, Tensor) else _short(value)
        raise ArgumentTypeError(
            f"{name} must be a floating-point tensor, got {got}; give the noise that is added to theta at "
            "each step, of shape (steps, n)"
        )


def _sequence(name: str, value: object) -> None:
    listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    stacked = isinstance(value, Tensor) and value.ndim >= 1
    if not (listed or stacked):
        raise ArgumentTypeError(
            f"{name} must be a list with one batch for each step, got {_short(value)}; make it a list"
        )
    if any(batch is None for batch in cast("Sequence[object]", value)):
        raise ArgumentError(
            f"{name} must hold a batch for each step, got None for one; give a batch for every step"
        )


def _bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ArgumentTypeError(f"{name} must be True or False, got {_short(value)}; choose one")


_CHECKS: Mapping[str, Callable[[str, object], None]] = {
    "steps": _integer(1),
    "step_size": _step_size,
    "rule": _rule,
    "step": _callable,
    "read": _callable,
    "temperature": _positive,
    "noise": _tensor,
    "inner_batches": _sequence,
    "outer_batches": _sequence,
    "burn_in": _integer(0),
    "directions": _integer(1),
    "floor": _share,
    "tolerance": _share,
    "terms": _integer(0),
    "seed": _integer(0),
    "seeds": _integer(2),
    "stateful": _bool,
    "diagnosis_seconds": _seconds,
}
