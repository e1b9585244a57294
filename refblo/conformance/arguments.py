"""From what a caller of `hypergradcheck` gives to a `Program`."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, final

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.chain import Schedule
from refblo.conformance.truth.program import Flat, Frozen, Losses, Program, build, leaf
from refblo.conformance.truth.rules import Rule
from refblo.errors import ArgumentError, ArgumentTypeError, require
from refblo.ravel import Tree, ravel_tree
from refblo.types import Estimand

Loss = Callable[..., Tensor]
"""(lam, theta) or (lam, theta, batch) ↦ scalar."""

Start = Tree | Callable[[Any], Tree]
"""θ⁰ (or the state at the start), fixed or as a function of lam."""

_NAMES = {
    "unrolled": Estimand.UNROLLED,
    "pathwise": Estimand.PATHWISE,
    "gibbs": Estimand.GIBBS,
    "implicit": Estimand.IMPLICIT,
}


class Run(TypedDict, total=False):
    """The inner run: which one is differentiated.

    Attributes:
        steps: T, inner steps; 1 unless given.
        step_size: γ of gradient descent or Langevin dynamics.
        rule: another known optimiser, instead of `step_size`.
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
    step_size: float
    rule: Rule
    step: Callable[[Any, Any, int], Any]
    read: Callable[[Any], Any]
    temperature: float
    noise: Tensor
    inner_batches: Sequence[Tensor]
    outer_batches: Sequence[Tensor]
    burn_in: int


@final
@dataclass(frozen=True, eq=False)
class Given:
    """A caller's problem on flat vectors.

    Attributes:
        program: in the dtype that the oracles compute in.
        lam: λ as a flat vector in the caller's dtype.
        unravel: from a flat λ to the caller's form.
        ulp: of the caller's dtype.
        blocks: the named parts of λ, where it is a dict.
    """

    program: Program
    lam: Float[Tensor, " p"]
    unravel: Callable[[Tensor], Tree]
    ulp: float
    blocks: dict[str, slice]


def estimand_of(name: str | Estimand) -> Estimand:
    """The estimand by its name.

    Raises:
        ArgumentError: for an unknown name.
    """
    if isinstance(name, Estimand):
        return name
    if name not in _NAMES:
        raise ArgumentError(
            f"estimand must be one of {', '.join(_NAMES)}, got {name!r}; see the four truths in the docs"
        )
    return _NAMES[name]


def given(
    inner: Loss | None, outer: Loss, lam: Tree, theta0: Start, estimand: Estimand, run: Run
) -> Given:
    """Put a caller's arguments together.

    Raises:
        ArgumentError, ArgumentTypeError: for arguments that do not fit together.
    """
    flat, unravel = _ravelled("lam", lam)
    flat = flat.detach()
    oracle = _double(flat)
    try:
        program = _program(inner, outer, oracle, unravel, theta0, estimand, run)
        _try_out(program)
    except (RuntimeError, TypeError):
        # Losses that hold float32 data cannot be run in float64: the oracles become as coarse.
        if oracle.dtype == flat.dtype:
            raise
        program = _program(inner, outer, flat, unravel, theta0, estimand, run)
        _try_out(program)
    return Given(program, flat, unravel, float(torch.finfo(flat.dtype).eps), _blocks(lam))


def _double(vector: Tensor) -> Tensor:
    return vector.to(torch.float64)


def _ravelled(name: str, tree: Tree) -> tuple[Tensor, Callable[[Tensor], Tree]]:
    if isinstance(tree, Tensor):
        if not tree.is_floating_point():
            raise ArgumentTypeError(
                f"{name} must have a floating-point dtype, got {tree.dtype}; convert it with .double()"
            )
        require(tree.numel() > 0, name, "have at least one entry", "none", "give it some")
        shape = tree.shape
        return tree.reshape(-1), lambda vector: vector.reshape(shape)
    return ravel_tree(tree)


def _blocks(lam: Tree) -> dict[str, slice]:
    if not isinstance(lam, dict):
        return {}
    found, first = {}, 0
    for name, part in lam.items():
        size = _ravelled(name, part)[0].numel()
        found[str(name)] = slice(first, first + size)
        first += size
    return found


def _try_out(program: Program) -> None:
    """One transition and one outer loss, so that what cannot be run is found out here.

    Raises:
        ArgumentError: for a loss that returns something else than a finite scalar of the state's dtype.
    """
    state = program.start(leaf(program.lam)).detach()
    moved = program.transition(leaf(program.lam), leaf(state), 0)
    require(
        moved.shape == state.shape,
        "step",
        f"return a state of the shape it is given ({state.numel()} entries)",
        f"{moved.numel()} entries",
        "return the whole state",
    )
    # A caller's function may return anything, whatever its annotation says.
    value: object = program.outer(leaf(program.lam), leaf(moved), program.schedule.steps)
    if not isinstance(value, Tensor) or value.ndim != 0:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ArgumentError(
            f"outer must return a scalar tensor, got {got}; sum or average its terms"
        )
    if value.dtype != state.dtype:
        raise ArgumentTypeError(
            f"outer must return the dtype of theta ({state.dtype}), got {value.dtype}; look for a "
            "constant of another "
            "dtype inside the losses"
        )


def _with_batch(name: str, loss: Loss) -> Callable[[Any, Any, Tensor | None], Tensor]:
    """The loss as a function of (lam, theta, batch), whatever the caller's takes."""
    if not callable(loss):
        raise ArgumentTypeError(
            f"{name} must be a function (lam, theta[, batch]), got {type(loss).__name__}; give the "
            "loss itself"
        )
    try:
        parameters = inspect.signature(loss).parameters.values()
    except (TypeError, ValueError):
        return loss
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if several or len(positional) >= 3:
        return loss
    require(
        len(positional) == 2,
        name,
        "take (lam, theta) or (lam, theta, batch)",
        f"{len(positional)} parameters",
        "add what is missing",
    )
    return lambda lam, theta, _: loss(lam, theta)


def _program(
    inner: Loss | None,
    outer: Loss,
    lam: Tensor,
    unravel_lam: Callable[[Tensor], Tree],
    theta0: Start,
    estimand: Estimand,
    run: Run,
) -> Program:
    dtype = lam.dtype
    example = theta0(unravel_lam(lam)) if callable(theta0) else theta0
    size, unravel = _unraveller(example)
    steps = run.get("steps", 1)
    require(steps >= 1, "steps", "be at least 1", steps, "run at least one inner step")
    schedule = _schedule(estimand, steps, run.get("burn_in", 0))

    def start(at: Tensor) -> Tensor:
        tree = theta0(unravel_lam(at)) if callable(theta0) else theta0
        return _ravelled("theta0", tree)[0].to(dtype)

    measured = _with_batch("outer", outer)
    frozen = _frozen(run, dtype, steps, size)
    if "step" in run:
        return _own_step(run, lam, unravel_lam, unravel, start, measured, schedule, frozen, size)
    if inner is None:
        raise ArgumentError(
            "inner must be given unless step is, got None; give the inner loss, or a step of your own"
        )
    trained = _with_batch("inner", inner)

    def flat(loss: Callable[[Any, Any, Tensor | None], Tensor]) -> Flat:
        return lambda at, theta, batch: loss(unravel_lam(at), unravel(theta), batch)

    losses = Losses(flat(trained), flat(measured), start, _rule(run), frozen)
    return build(losses, lam, schedule)


def _unraveller(example: Tree) -> tuple[int, Callable[[Tensor], Tree]]:
    vector, unravel = _ravelled("theta0", example)
    return vector.numel(), unravel


def _rule(run: Run) -> Rule:
    if "rule" in run:
        require("step_size" not in run, "step_size", "be left out beside rule", "both", "drop one")
        return run["rule"]
    if "step_size" not in run:
        raise ArgumentError(
            "step_size must be given (or rule, or step), got none of them; say how the inner run steps"
        )
    return Rule(run["step_size"], temperature=run.get("temperature", 1.0))


def _schedule(estimand: Estimand, steps: int, burn_in: int) -> Schedule:
    if estimand is not Estimand.PATHWISE:
        require(burn_in == 0, "burn_in", "be 0 here", burn_in, "it belongs to the pathwise mean")
        return Schedule.last(steps)
    good = 0 <= burn_in < steps
    require(good, "burn_in", f"lie in [0, steps = {steps})", burn_in, "leave a sample to average")
    return Schedule(burn_in, steps - burn_in)


def _frozen(run: Run, dtype: torch.dtype, steps: int, size: int) -> Frozen:
    noise = run.get("noise")
    if noise is not None:
        require(
            tuple(noise.shape) == (steps, size),
            "noise",
            f"have shape (steps, n) = ({steps}, {size})",
            tuple(noise.shape),
            "give what is added to theta at each step",
        )
        noise = noise.detach().to(dtype)
    inner, outer = run.get("inner_batches"), run.get("outer_batches")
    for name, batches, least in (
        ("inner_batches", inner, steps),
        ("outer_batches", outer, steps + 1),
    ):
        if batches is not None:
            need = f"have at least {least} entries"
            require(len(batches) >= least, name, need, len(batches), "give one for each")
    return Frozen(noise, inner, outer)


def _own_step(
    run: Run,
    lam: Tensor,
    unravel_lam: Callable[[Tensor], Tree],
    unravel: Callable[[Tensor], Tree],
    start: Callable[[Tensor], Tensor],
    outer: Callable[[Any, Any, Tensor | None], Tensor],
    schedule: Schedule,
    frozen: Frozen,
    size: int,
) -> Program:
    """The program of a caller's own transition."""
    taken = [name for name in ("step_size", "rule", "noise", "temperature") if name in run]
    alone = not taken and "inner_batches" not in run
    require(
        alone, "step", "come without a step rule of ours", taken or "inner_batches", "drop them"
    )
    step, read = run["step"], run.get("read", _first)

    def transition(at: Tensor, state: Tensor, t: int) -> Tensor:
        return _ravelled("the state that step returns", step(unravel_lam(at), unravel(state), t))[0]

    def measure(at: Tensor, state: Tensor, m: int) -> Tensor:
        return outer(unravel_lam(at), read(unravel(state)), frozen.outer(m))

    example = unravel(torch.zeros(size, dtype=lam.dtype))
    theta = size
    if "read" not in run:
        theta = _ravelled("theta", _first(example))[0].numel()
    return Program(lam, start, transition, measure, schedule, theta)


def _first(state: Tree) -> Tree:
    return state[0] if isinstance(state, tuple | list) else state
