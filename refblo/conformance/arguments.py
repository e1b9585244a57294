"""From what a caller of `hypergradcheck` gives to a `Program` on flat vectors."""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar, final, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refblo.chain import Schedule
from refblo.conformance.first_calls import first_calls, own
from refblo.conformance.options import Run
from refblo.conformance.rule_of_run import on_vectors, rule_of_run
from refblo.conformance.trees import Form
from refblo.conformance.truth.program import Flat, Frozen, Losses, Program, build
from refblo.conformance.truth.widen import in_float64
from refblo.errors import ArgumentError, ArgumentTypeError, OracleError, require
from refblo.ravel import Tree
from refblo.types import Estimand

T = TypeVar("T")

Loss = Callable[..., Tensor]
"""(lam, theta) or (lam, theta, batch) ↦ scalar."""

Start = Tree | Callable[[Any], Tree]
"""θ⁰ (or the state at the start), fixed or as a function of lam."""

_Batched = Callable[[Any, Any, Any], Tensor]


@final
@dataclass(frozen=True, eq=False)
class FlatProblem:
    """A caller's problem on flat vectors.

    Attributes:
        program: in the dtype that the oracles compute in.
        lam: λ as a flat vector in the caller's dtype, a copy.
        form: the structure of λ.
        state_form: the structure of θ⁰, or of the state of a step.
        ulp: of the caller's dtype.
        finding: why the program is not in float64 as a whole; "" where it is.
    """

    program: Program
    lam: Float[Tensor, " p"]
    form: Form
    state_form: Form
    ulp: float
    finding: str = ""

    @property
    def findings(self) -> tuple[str, ...]:
        """What a report says of the arguments."""
        return (self.finding,) if self.finding else ()

    @property
    def blocks(self) -> dict[str, slice]:
        """The named parts of λ, where it is a tree."""
        return self.form.blocks

    def from_state(self, theta: Tensor) -> "FlatProblem":
        """The same problem started from another θ, whatever λ is."""
        return replace(self, program=_started_from(self.program, theta))


def _started_from(program: Program, theta: Tensor) -> Program:
    fixed = theta.detach().to(program.lam).clone()
    if program.losses is None:
        return replace(program, start=lambda _: fixed)
    losses = replace(program.losses, initial=lambda _: fixed)
    return build(losses, program.lam, program.schedule)


def flat_problem(
    inner: Loss | None, outer: Loss, lam: Tree, theta0: Start, estimand: Estimand, run: Run
) -> FlatProblem:
    """Put a caller's arguments together, and call each function once.

    Raises:
        ArgumentError, ArgumentTypeError: for arguments that do not fit together.
        LossError: if a loss, or the step, cannot be called or differentiated.
        OracleError: if a loss, or the step, has two values at the same arguments.
    """
    form = Form.of("lam", lam)
    flat = form.flatten(lam, "lam").detach().clone()
    _require_finite("lam", flat)
    state_forms: list[Form] = []

    def make(at: Tensor) -> Program:
        program, state_form = _program(inner, outer, at, form, theta0, estimand, run)
        state_forms.append(state_form)
        return program

    named = partial(first_calls, inner=_named("inner", run), outer=_named("outer", run))
    widened = in_float64(make, flat, named)
    ulp = float(torch.finfo(widened.dtype).eps)
    return FlatProblem(widened.program, flat, form, state_forms[-1], ulp, widened.finding)


def _named(loss: str, run: Run) -> str:
    """What errors call a loss: with its batches, as a mistake may be theirs."""
    read = " of what read returns" if loss == "outer" and "read" in run else ""
    given = f"with its {loss}_batches" if f"{loss}_batches" in run else f"without {loss}_batches"
    return f"{loss}{read} ({given})"


def _require_finite(name: str, vector: Tensor) -> None:
    good = bool(torch.isfinite(vector).all())
    require(good, name, "be finite", "entries that are not", "look for a division by zero")


def _program(
    inner: Loss | None,
    outer: Loss,
    lam: Tensor,
    form: Form,
    theta0: Start,
    estimand: Estimand,
    run: Run,
) -> tuple[Program, Form]:
    steps = run.get("steps", 1)
    start, state_form = _start(theta0, form, lam)
    frozen = _frozen(run, lam.dtype, steps, state_form.size)
    schedule = _schedule(estimand, steps, run.get("burn_in", 0))
    measured = _with_batch("outer", outer, given="outer_batches" in run)
    if "step" in run:
        program = _own_step(run, lam, form, state_form, start, measured, schedule, frozen)
        return program, state_form
    require("read" not in run, "read", "be left out without step", "a function", "leave it out")
    if inner is None:
        raise ArgumentError(
            "inner must be given unless step is given, got None; give the inner loss, or your own step"
        )
    trained = _with_batch("inner", inner, given="inner_batches" in run)
    rule = on_vectors(rule_of_run(run, estimand), lam, form, state_form, steps)

    def flat(loss: _Batched) -> Flat:
        return lambda at, theta, batch: loss(form.unflatten(at), state_form.unflatten(theta), batch)

    losses = Losses(flat(trained), flat(measured), start, rule, frozen)
    if estimand in (Estimand.IMPLICIT, Estimand.GIBBS):
        losses = _of_one_batch(losses, estimand)
    return build(losses, lam, schedule), state_form


def _start(theta0: Start, form: Form, lam: Tensor) -> tuple[Callable[[Tensor], Tensor], Form]:
    """The function λ ↦ z⁰ on flat vectors, and the structure of z⁰."""
    if isinstance(theta0, nn.Module) or not callable(theta0):
        state_form = Form.of("theta0", theta0)
        # A copy: the caller's function may train the tensors that it was made from.
        fixed = state_form.flatten(theta0, "theta0").detach().to(lam).clone()
        _require_finite("theta0", fixed)
        return lambda _: fixed, state_form
    function = theta0
    example = own("theta0", lambda: function(form.unflatten(lam)))
    state_form = Form.of("theta0(lam)", example)
    _require_finite("theta0(lam)", state_form.flatten(example, "theta0(lam)"))

    def start(at: Tensor) -> Tensor:
        return state_form.flatten(function(form.unflatten(at)), "theta0(lam)").to(at.dtype)

    return start, state_form


def _with_batch(name: str, loss: Loss, *, given: bool) -> _Batched:
    """The loss as a function of (lam, theta, batch), whatever the caller's takes.

    A third parameter is the batch if batches are given, or if it has no default: a default binds a value.
    """
    if isinstance(loss, nn.Module) or not callable(loss):
        raise ArgumentTypeError(
            f"{name} must be a function (lam, theta[, batch]), got {type(loss).__name__}; give the "
            "loss itself"
        )
    most, least = _positional(loss)
    if given:
        need = "take (lam, theta, batch), as batches are given for it"
        require(
            most >= 3 and least <= 3,
            name,
            need,
            _count(least, most),
            "take batch too, or give none",
        )
        return loss
    need = "take (lam, theta) or (lam, theta, batch)"
    require(most >= 2 and least <= 3, name, need, _count(least, most), "give it these parameters")
    if least == 3:
        return loss
    return lambda lam, theta, _: loss(lam, theta)


def needs_batch(loss: Loss) -> bool:
    """Whether a loss cannot be called without a batch."""
    return _positional(loss)[1] == 3


def _positional(function: Callable[..., Any]) -> tuple[int, int]:
    """How many positional arguments a function takes at most, and how many it needs."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 3, 2
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p for p in parameters if p.kind in kinds]
    required = [p for p in positional if p.default is p.empty]
    demanded = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if demanded:
        return 0, 0
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return (max(3, len(positional)) if several else len(positional)), len(required)


def _count(least: int, most: int) -> str:
    return f"{least} parameters" if least == most else f"{least} to {most} parameters"


def _of_one_batch(losses: Losses, estimand: Estimand) -> Losses:
    """The losses of the one batch that all steps see: a minimiser, or a density, belongs to one problem.

    Raises:
        ArgumentError: if batches differ.
    """
    frozen, inner, outer = losses.frozen, losses.inner, losses.outer
    changed = losses
    if frozen.inner_batches is not None:
        batch = _single("inner_batches", frozen.inner_batches, estimand)
        changed = replace(changed, inner=lambda lam, theta, _: inner(lam, theta, batch))
    if frozen.outer_batches is not None:
        entries = frozen.outer_batches
        if estimand is Estimand.IMPLICIT:
            last = entries[len(entries) - 1]
        else:
            last = _single("outer_batches", entries, estimand)
        changed = replace(changed, outer=lambda lam, theta, _: outer(lam, theta, last))
    return replace(changed, frozen=Frozen())


def _single(name: str, batches: Sequence[Any], estimand: Estimand) -> Any:
    first = batches[0]
    for index in range(1, len(batches)):
        if not _same(first, batches[index]):
            raise ArgumentError(
                f"{name} must be the same batch at every step for the {estimand.value} estimand, got "
                f"different ones at steps 0 and {index}, which make different inner problems; give all data "
                "at every step, or ask for the unrolled estimand"
            )
    return first


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one is other or bool(one == other)


def _schedule(estimand: Estimand, steps: int, burn_in: int) -> Schedule:
    if estimand is not Estimand.PATHWISE:
        return Schedule.last(steps)
    good = 0 <= burn_in < steps
    require(good, "burn_in", f"lie in [0, steps = {steps})", burn_in, "leave at least one sample")
    return Schedule(burn_in, steps - burn_in)


@final
class _Batches(Sequence[T]):
    """The batches that the caller gave; asked for another one, they say so."""

    def __init__(self, name: str, batches: Sequence[T]) -> None:
        self._name = name
        self._batches = list(batches)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[T]:
        return iter(self._batches)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, int) and not 0 <= index < len(self._batches):
            raise OracleError(
                f"{self._name} must have a batch for each step, got {len(self._batches)} batches and a call "
                f"for step {index}; give one more for each further step"
            )
        return self._batches[index]


def _frozen(run: Run, dtype: torch.dtype, steps: int, size: int) -> Frozen:
    noise = run.get("noise")
    if noise is not None:
        require(
            tuple(noise.shape) == (steps, size),
            "noise",
            f"have shape (steps, n) = ({steps}, {size})",
            tuple(noise.shape),
            "give the noise that is added to theta at each step",
        )
        noise = noise.detach().to(dtype)
        _require_finite("noise", noise)
    return Frozen(
        noise,
        _batches("inner_batches", run.get("inner_batches"), steps),
        _batches("outer_batches", run.get("outer_batches"), steps + 1),
    )


def _batches(name: str, batches: Sequence[Any] | None, count: int) -> Sequence[Any] | None:
    if batches is None:
        return None
    given: object = batches  # a tensor is no sequence to a type checker
    if isinstance(given, Tensor) and given.ndim == 1 and not given.is_floating_point():
        raise ArgumentTypeError(
            f"{name} must be a list with one batch for each step, got a tensor of {given.numel()} integers; "
            f"give a list, such as [batch] * {count} for the same batch at every step"
        )
    which = "inner step" if name == "inner_batches" else "iterate from theta0 to the last"
    need = f"have at least {count} entries, one for each {which}"
    epochs = -(-count // max(1, len(batches)))
    todo = f"for several epochs over the same list give {name}=batches * {epochs}"
    require(len(batches) >= count, name, need, len(batches), todo)
    return _Batches(name, batches)


def _own_step(
    run: Run,
    lam: Tensor,
    form: Form,
    state_form: Form,
    start: Callable[[Tensor], Tensor],
    outer: _Batched,
    schedule: Schedule,
    frozen: Frozen,
) -> Program:
    """The program of a caller's own transition."""
    taken = ("step_size", "rule", "noise", "temperature", "inner_batches")
    besides = [name for name in taken if name in run]
    need = f"be given without {', '.join(taken)}, which describe refblo's own steps"
    require(not besides, "step", need, ", ".join(besides), "leave these out")
    step, read = run["step"], run.get("read", _first)

    def transition(at: Tensor, state: Tensor, t: int) -> Tensor:
        if not 0 <= t < schedule.steps:
            raise OracleError(
                f"t must be in 0 … {schedule.steps - 1} when step is called, got {t}; call step only for the "
                "steps of the run"
            )
        moved = step(form.unflatten(at), state_form.unflatten(state), t)
        return state_form.flatten(moved, "the state that step returns")

    def measure(at: Tensor, state: Tensor, m: int) -> Tensor:
        return outer(form.unflatten(at), read(state_form.unflatten(state)), frozen.outer(m))

    theta = state_form.size
    if "read" not in run and isinstance(state_form.tree, list | tuple):
        at, batch = form.unflatten(lam), frozen.outer(schedule.steps)
        require_read(lambda state: outer(at, state, batch), state_form.tree)
        theta = Form.of("theta", state_form.tree[0]).size
    return Program(lam, start, transition, measure, schedule, theta)


def require_read(outer: Callable[[Any], Any], state: Sequence[Any]) -> None:
    """Check that outer does not take a state of several parts as a whole: its first part is another loss.

    Args:
        outer: the outer loss as a function of the state.
        state: the initial state.

    Raises:
        ArgumentError: if it does.
    """
    if len(state) < 2:
        return
    try:
        whole = float(outer(state))
    except Exception:  # an outer loss of theta alone fails in any way on a tuple
        return
    try:
        part = float(outer(state[0]))
    except Exception:
        part = math.nan
    require(
        whole == part,
        "read",
        "be given for an outer that accepts a state of several parts as a whole",
        "none",
        "write read=lambda state: state if outer takes the whole state, and read=lambda state: state[0] if "
        "it takes the first part alone",
    )


def _first(state: Tree) -> Tree:
    return state[0] if isinstance(state, tuple | list) else state
