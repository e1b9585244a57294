"""The first call of each function that a caller gives, so that what cannot be run is found out by name."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from refblo.conformance.buffers import restore_written
from refblo.conformance.truth.program import Program, leaf
from refblo.errors import (
    ArgumentError,
    ArgumentTypeError,
    LossError,
    OracleError,
    RefbloError,
    require,
)

T = TypeVar("T")

_NAMED = 3
"""How many buffers an error names."""

_REPEATABLE = 1e3
"""Units in the last place by which two calls with the same arguments may differ: sums in another order."""


def own(name: str, call: Callable[[], T]) -> T:
    """A call of a caller's function, by its name if it raises.

    Raises:
        ArgumentError: if it writes to a module's buffers.
        LossError: if it raises anything else.
    """
    try:
        return call()
    except RefbloError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0] or 'no text'}"
        if "in-place" in said and "mutate" in said:
            raise ArgumentError(
                f"{name} must not write to tensors outside it, got a module that updates its buffers (such "
                "as the running statistics of batch normalisation); make it a function with "
                "refblo.ravel.ravel_module(module), or call module.eval(), or build the layer with "
                "track_running_stats=False"
            ) from error
        raise LossError(
            f"{name} must be a function that can be called and differentiated at the given lam and theta0, "
            f"got {said}; {_remedy(said)}"
        ) from error


def _remedy(said: str) -> str:
    """What to do about an error of torch's, some of which come under torch.func alone."""
    if "nference tensors" in said:
        return "make its data outside torch.inference_mode, or give it clones of them"
    if "sparse" in said:
        return "use dense gradients, such as nn.Embedding(..., sparse=False)"
    if "inplace" in said or "in-place" in said:
        return "do not change lam or theta in place; write t = t.clamp(-1, 1) instead of t.clamp_(-1, 1)"
    return "call it alone, and its gradient, with the same arguments to see the whole error"


def first_calls(program: Program, inner: str = "inner", outer: str = "outer") -> None:
    """The losses, one transition and the outer loss; twice, as they must be functions of their arguments.

    Args:
        program: whose functions are called.
        inner: what errors call the inner loss.
        outer: what errors call the outer loss.

    Raises:
        ArgumentError, ArgumentTypeError: for a loss that returns something else than a scalar of the state's
            dtype.
        LossError: for a function that raises.
        OracleError: for one with hidden randomness.
    """
    lam = program.lam
    state = own("theta0", lambda: program.start(leaf(lam))).detach()
    losses = program.losses
    trained = "step" if losses is None else inner
    if losses is not None:
        batch = losses.frozen.inner(0)
        theta = leaf(state[: program.size])
        value = own(inner, lambda: losses.inner(leaf(lam), theta, batch))
        start = _require_scalar(inner, value, state.dtype)
        if not bool(torch.isfinite(start)):
            raise LossError(
                f"{inner} must be finite at the given lam and theta0, got {float(start)}; look for a "
                "logarithm or a division of zero in it, or start at another theta0"
            )

    # Transitions are compared, not values of the inner loss: at θ⁰ = 0 a random factor may not show.
    def move() -> Tensor:
        return own(trained, lambda: program.transition(leaf(lam), leaf(state), 0)).detach()

    moved = move()
    if moved.dtype != state.dtype:
        raise ArgumentTypeError(
            f"{trained} must keep the dtype of theta ({state.dtype}), got {moved.dtype}; look for a constant "
            "of another dtype inside it"
        )
    require(
        moved.shape == state.shape,
        trained,
        f"return a state of the shape that it is given ({state.numel()} entries)",
        f"{moved.numel()} entries",
        "return the whole state",
    )

    def measure() -> object:
        return own(outer, lambda: program.outer(leaf(lam), leaf(moved), program.schedule.steps))

    value = _require_scalar(outer, measure(), state.dtype)

    def value_now() -> Tensor:
        return _require_scalar(outer, measure(), state.dtype)

    _require_same(trained, moved, move(), move)
    _require_same(outer, value, value_now(), value_now, between=trained)


def _require_scalar(name: str, value: object, dtype: torch.dtype) -> Tensor:
    """A caller's function may return anything, whatever its annotation says."""
    if not isinstance(value, Tensor) or value.ndim != 0:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ArgumentError(
            f"{name} must return a scalar tensor, got {got}; sum or average its terms"
        )
    if value.is_meta:
        raise ArgumentTypeError(
            f"{name} must return a number, got a tensor on the device meta; look for a meta tensor in its "
            "data"
        )
    if value.dtype != dtype:
        raise ArgumentTypeError(
            f"{name} must return the dtype of theta ({dtype}), got {value.dtype}; look for a constant of "
            "another dtype inside the losses"
        )
    return value.detach()


def _differ(one: Tensor, other: Tensor) -> float:
    """By how much two values of one function differ; 0 where rounding explains it."""
    gap = float((one - other).abs().max())
    size = float(torch.maximum(one.abs(), other.abs()).max())
    return gap if gap > _REPEATABLE * torch.finfo(one.dtype).eps * size else 0.0


def _require_same(
    name: str, one: Tensor, other: Tensor, again: Callable[[], Tensor], between: str = ""
) -> None:
    """Check that two calls agree; `between` names a function that was called between them."""
    gap = _differ(one, other)
    if gap == 0:
        return
    must = (
        f"{name} must return the same value at every call with the same arguments, got two values at the "
        f"same lam and theta that differ by {gap:.1e}"
    )
    written = restore_written()
    if written:
        first = again()
        restore_written()
        if _differ(first, again()) == 0:
            some = ", ".join(written[:_NAMED]) + (", ..." if len(written) > _NAMED else "")
            raise OracleError(
                f"{must}: hidden state in {some}, buffers that a module in training mode writes at each "
                "call, so that no verdict is possible; give functional_call a fixed copy of the buffers, or "
                "use the batch's own statistics everywhere (training mode, or track_running_stats=False)"
            )
    if between and _differ(again(), again()) == 0:
        raise OracleError(
            f"{must} because {between} was called between them: it keeps something that {name} reads, "
            "so that no verdict is possible; make what it keeps part of the state, with step= and read="
        )
    raise OracleError(
        f"{must}: hidden randomness, so that no verdict is possible; draw masks and minibatches beforehand "
        "and give them as inner_batches or outer_batches, or call module.eval()"
    )
