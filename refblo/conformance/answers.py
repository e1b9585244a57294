"""What a caller's function returns when it is called, and what its calls leave behind."""

import dis
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.conformance.arguments import FlatProblem
from refblo.conformance.calls import Call, gap, points
from refblo.conformance.trees import DEEPEST, text
from refblo.conformance.truth.program import leaf
from refblo.errors import ArgumentError, RefbloError
from refblo.ravel import Tree

Array = np.ndarray

Subjected = Callable[..., Any] | Tree
"""A function lam ↦ hypergradient of lam's shape, or a hypergradient that was computed before."""

WHICH = ("first call (at lam)", "second call (near lam)", "third call (at lam again)")
"""What errors call the calls of a caller's function."""


@final
@dataclass(frozen=True, eq=False)
class Answers:
    """The calls that were made.

    Attributes:
        calls: in order.
        findings: what was noticed beside the numbers.
        constant: whether one and the same tensor was returned each time; then only the first call is kept.
        seconds: how long the last call took.
    """

    calls: list[Call]
    findings: tuple[str, ...]
    constant: bool = False
    seconds: float = 0.0

    def between(self, allowed: float) -> tuple[str, ...]:
        """Whether two answers at the same λ differ by more than is allowed."""
        distance = gap([call for call in self.calls if call.start is None])
        if distance <= allowed:
            return ()
        return (
            f"finding: two calls at the same lam differ by {distance:.1e}: it is not deterministic, or "
            "keeps state between calls",
        )


def vector_of(result: object, problem: FlatProblem) -> Float64[Array, " p"]:
    """What was returned, as a flat float64 vector.

    Raises:
        ArgumentError, ArgumentTypeError: if it does not have λ's keys and shapes, or is no real tensor.
    """
    _require_path(result, "hypergradient")
    flat = problem.form.flatten_answer(result, "hypergradient")
    array: Array = flat.detach().cpu().to(torch.float64).numpy().copy()
    return array


def _require_path(result: object, name: str, depth: int = 0) -> None:
    """What torch.autograd.grad gives where there is no path is None, alone or inside a tree."""
    if depth > DEEPEST:
        return  # refused by its structure
    if result is None:
        raise ArgumentError(
            f"{name} must be a tensor, got None: autograd found no path from lam to the outer loss; look for "
            "a copied or detached initial point, or return zeros if the derivative is zero"
        )
    if isinstance(result, dict):
        for key, part in result.items():
            _require_path(part, name + text((key,)), depth + 1)
    elif isinstance(result, list | tuple):
        for index, part in enumerate(result):
            _require_path(part, name + text((index,)), depth + 1)


def caller_of(hypergradient: Subjected, problem: FlatProblem) -> Callable[[Array], Array] | None:
    """The caller's function on flat NumPy vectors; None for a hypergradient computed before."""
    if not callable(hypergradient):
        return None
    function = hypergradient

    def call(lam: Array) -> Array:
        tensor = torch.as_tensor(lam, device="cpu").to(problem.lam)
        return vector_of(
            called(function, (problem.form.unflatten(tensor),), "call at a further lam"), problem
        )

    return call


def answers(hypergradient: Subjected, problem: FlatProblem, *, stateful: bool = False) -> Answers:
    """Call at λ, near λ, and at λ again.

    Raises:
        ArgumentError, ArgumentTypeError: if a call raises, or does not return what λ is made of.
    """
    here = problem.lam.double().cpu().numpy().copy()
    if not callable(hypergradient):
        if stateful:
            raise ArgumentError(
                "hypergradient must be a function if stateful is True, got a hypergradient; give the "
                "function that computes it"
            )
        call = Call(here, vector_of(hypergradient, problem))
        return Answers([call], _not_finite([call]))
    if stateful:
        return _warm_started(hypergradient, problem, here)
    calls: list[Call] = []
    findings: list[str] = []
    first, constant, seconds = None, True, 0.0
    for which, point in zip(WHICH, points(here), strict=True):
        # A copy of its own: the truth must not depend on what the caller does to it.
        tensor = torch.as_tensor(point, device="cpu").to(problem.lam).clone()
        before = tensor.clone()
        begun = time.monotonic()
        result = called(hypergradient, (problem.form.unflatten(tensor),), which)
        seconds = time.monotonic() - begun
        first = result if first is None else first
        constant = constant and result is first
        calls.append(Call(point, vector_of(result, problem)))
        if not findings and not torch.equal(tensor.detach(), before):
            findings.append("finding: it changes the lam that it is given in place")
    answer = calls[0].answer
    unchanged = all(np.array_equal(call.answer, answer, equal_nan=True) for call in calls)
    if unchanged and constant and only_returns(hypergradient):
        # A number computed before, in a function: `lambda lam: value`.
        return Answers(calls[:1], (*findings, *_not_finite(calls[:1])), constant=True)
    return Answers(calls, (*findings, *_not_finite(calls)), seconds=seconds)


def called(function: Callable[..., Any], arguments: tuple[Any, ...], which: str) -> Any:
    """One call, by its number if it raises.

    Raises:
        ArgumentError: if it raises.
    """
    try:
        return function(*arguments)
    except RefbloError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0] or 'no text'}"
        remedy = "the traceback above this one shows the line that raised"
        if "_attention" in said and "not implemented" in said:
            remedy = (
                "fused attention has one derivative only: compute the hypergradient inside "
                "torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)"
            )
        raise ArgumentError(
            f"hypergradient must be a function that returns the derivative by lam, got {said} in the "
            f"{which}; {remedy}"
        ) from error


def _not_finite(calls: list[Call]) -> tuple[str, ...]:
    for which, call in zip(WHICH, calls, strict=False):
        if not call.finite:
            entries = np.flatnonzero(~np.isfinite(call.answer))
            listed = ", ".join(map(str, entries[:5])) + (", …" if entries.size > 5 else "")
            where = f" in the {which}" if len(calls) > 1 else ""
            return (
                f"finding: it returns entries that are not finite{where}: {entries.size} of "
                f"{call.answer.size} (entries {listed})",
            )
    return ()


def _warm_started(
    function: Callable[..., Any], problem: FlatProblem, here: Float64[Array, " p"]
) -> Answers:
    """The same calls of a method that starts from the θ at which its last call ended.

    Raises:
        ArgumentError: if θ is not returned by a function of lam alone.
    """
    size = problem.state_form.size
    theta = problem.program.start(leaf(problem.program.lam)).detach()[:size]
    takes_theta = _takes_two(function)
    calls: list[Call] = []
    for which, point in zip(WHICH, points(here), strict=True):
        lam = torch.as_tensor(point, device="cpu").to(problem.lam).clone()
        given: tuple[Tree, ...] = (problem.form.unflatten(lam),)
        if takes_theta:
            start = theta.to(problem.lam.dtype).clone()
            given = (*given, problem.state_form.unflatten(start))
        result = called(function, given, which)
        pair = _pair(result, problem)
        if pair is None and not takes_theta:
            raise ArgumentError(
                "hypergradient must return (hypergradient, theta) if stateful is True, got "
                f"{type(result).__name__}; return also the last theta of the inner run, or take the first "
                "theta of the inner run as a second argument"
            )
        answer, ended = (result, None) if pair is None else pair
        calls.append(Call(point, vector_of(answer, problem), theta))
        if ended is None:
            # It was told where to start; the next call starts where the right run from there ends.
            run = problem.from_state(theta).program
            ended = run.states(torch.as_tensor(point, device="cpu").to(run.lam))[-1][:size]
        theta = ended.detach().to(problem.program.lam).clone()
    return Answers(calls, _not_finite(calls))


def _pair(result: object, problem: FlatProblem) -> tuple[object, Tensor] | None:
    """(hypergradient, θ as a vector) if that is what was returned."""
    if not (isinstance(result, tuple) and len(result) == 2):
        return None
    try:
        vector_of(result, problem)
    except RefbloError:
        return result[0], problem.state_form.flatten(result[1], "theta")
    # A pair that is a hypergradient of two tensors by itself.
    return None


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p for p in parameters if p.kind in kinds]
    # theta may have a default, for a first call without a warm start.
    theta = [p for p in positional[1:] if p.default is p.empty or p.default is None]
    return len(positional) >= 2 and len(theta) >= 1


_RETURNING = frozenset(
    {
        *("RESUME", "COPY_FREE_VARS", "MAKE_CELL", "NOP", "CACHE", "RETURN_VALUE", "RETURN_CONST"),
        *("LOAD_DEREF", "LOAD_GLOBAL", "LOAD_NAME", "LOAD_CONST"),
        *("BUILD_MAP", "BUILD_CONST_KEY_MAP", "BUILD_TUPLE", "BUILD_LIST"),
    }
)
"""The instructions of a function that returns what it holds: no argument, call, look-up or branch."""


def only_returns(function: Callable[..., Any]) -> bool:
    """Whether a function is `lambda lam: value`: a number computed before, and no cache that went stale."""
    code = getattr(function, "__code__", None)
    return code is not None and all(
        instruction.opname in _RETURNING for instruction in dis.get_instructions(code)
    )
