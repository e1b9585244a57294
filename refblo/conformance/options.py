"""The options of `hypergradcheck`: their names, and the checks that they pass together.

Each value is checked by itself (`refblo.conformance.option_values`) and against the estimand
(`refblo.conformance.option_table`): an option that an estimand cannot obey is refused, and none is silently
ignored.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, cast, final

from torch import Tensor
from torch.optim import Optimizer

from refblo.conformance.option_table import ESTIMANDS, TABLE, USED, Use
from refblo.conformance.option_values import VALUE_CHECKS, short
from refblo.errors import ArgumentError, ArgumentTypeError
from refblo.rules.numbers import Number
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
            is a tensor and its first part if it is a tuple or list; give it if outer takes a tuple or list.
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


def estimand_of(name: object) -> Estimand:
    """The estimand by its name.

    Raises:
        ArgumentError: for an unknown name.
    """
    if isinstance(name, Estimand):
        return name
    if not isinstance(name, str) or name not in ESTIMANDS:
        raise ArgumentError(
            f"estimand must be one of {', '.join(ESTIMANDS)}, got {name!r}; see docs/theory/four-truths.md"
        )
    return ESTIMANDS[name]


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
            VALUE_CHECKS[name](name, value)
    for name, value in given.items():
        cell = TABLE[name][estimand] if name != "estimand" else USED
        # False and 0 say what is the case without the option.
        if cell.use is Use.REFUSED and not (isinstance(value, bool | int) and not value):
            raise ArgumentError(
                f"{name} must be left out for the {estimand.value} estimand, got {short(value)}; "
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
        VALUE_CHECKS[name](name, value)
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
