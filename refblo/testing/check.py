"""Is an estimator a pure function of (problem, λ, draws), in the dtype of its arguments?

Each property below is one function of a `TestedEstimator`, which yields a sentence for everything that is
not as it should be. `check_estimator` runs all of them on small problems with p ≠ n.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import final

import numpy as np
import torch
from torch import Tensor

from refblo.errors import (
    ArgumentError,
    ArgumentTypeError,
    LossError,
    MissingProductError,
    RefbloError,
)
from refblo.estimators.protocol import Estimator
from refblo.estimators.warm import WarmEstimator
from refblo.noise import Draws, Stream
from refblo.problem import FixedInitial
from refblo.problems.case import Case
from refblo.testing.cases import SMALL_CASES, CaseBuilder
from refblo.types import Hypergradient

DRAWS = Draws(3)

REFUSED = (ArgumentError, LossError, MissingProductError)
"""How an estimator says that a problem is none of its own."""


@final
class EstimatorCheckError(RefbloError, AssertionError):
    """An estimator does not have a property that every estimator must have."""


@final
@dataclass(frozen=True, eq=False)
class TestedEstimator:
    """An estimator on one problem.

    Attributes:
        make: builds a new instance.
        build: builds the problem in a dtype.
    """

    make: Callable[[Case], Estimator]
    build: CaseBuilder

    def case(self, dtype: torch.dtype = torch.float64) -> Case:
        """The problem."""
        return self.build(dtype)

    def run(self, case: Case, lam: Tensor | None = None) -> Hypergradient:
        """One estimate by a new instance."""
        return self.make(case).estimate(case.problem, case.lam if lam is None else lam, DRAWS)


Property = Callable[[TestedEstimator], Iterator[str]]


def same_bits(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two tensors have the same dtype and the same numbers (or neither is there)."""
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and torch.equal(one.detach(), other.detach())


def _differ(one: Hypergradient, other: Hypergradient) -> Iterator[str]:
    """The names of what two results do not have in common."""
    if not same_bits(one.estimate, other.estimate):
        yield "estimate"
    if not same_bits(one.theta, other.theta):
        yield "theta"
    for name in ("status", "diverged_at", "error", "cost"):
        if getattr(one, name) != getattr(other, name):
            yield name


def has_a_result(subject: TestedEstimator) -> Iterator[str]:
    """The result is a finite vector of the shape of λ, with θ of the shape of θ⁰, without a graph."""
    case = subject.case()
    result = subject.run(case)
    if result.estimate is None:
        yield f"there is no estimate ({result.status.value}); give problems that it can work on"
        return
    if result.estimate.shape != case.lam.shape:
        yield (
            f"the estimate must have the shape of lam {tuple(case.lam.shape)}, got "
            f"{tuple(result.estimate.shape)}"
        )
    if result.theta.shape != case.problem.initial(case.lam).shape:
        yield f"theta must have the shape of initial(lam), got {tuple(result.theta.shape)}"
    if result.estimate.requires_grad or result.theta.requires_grad:
        yield "the estimate and theta must carry no graph; detach them"
    shared = {case.lam.data_ptr(), case.problem.initial(case.lam).data_ptr()}
    if shared & {result.estimate.data_ptr(), result.theta.data_ptr()}:
        yield "the result must not share memory with lam or the initial point; clone it"


def is_deterministic(subject: TestedEstimator) -> Iterator[str]:
    """The same arguments give the same bits, by one instance and by two."""
    case = subject.case()
    method = subject.make(case)
    first = method.estimate(case.problem, case.lam, DRAWS)
    again = method.estimate(case.problem, case.lam, DRAWS)
    for what in _differ(first, again):
        yield f"two calls with the same arguments differ in {what}; take all randomness from draws"
    for what in _differ(first, subject.run(case)):
        yield f"two instances with the same fields differ in {what} for the same arguments"


def keeps_no_state(subject: TestedEstimator) -> Iterator[str]:
    """A call at another λ with other draws changes neither the object nor a later result."""
    case, elsewhere = subject.case(), subject.case().lam + 0.125
    method = subject.make(case)
    before = _fields(method)
    first = method.estimate(case.problem, case.lam, DRAWS)
    moved = method.estimate(case.problem, elsewhere, DRAWS)
    for what in _differ(moved, subject.run(case, elsewhere)):
        yield f"after a call at another lam, {what} differs from that of a new instance; keep no state"
    method.estimate(case.problem, case.lam, Draws(DRAWS.seed + 1))
    for what in _differ(first, method.estimate(case.problem, case.lam, DRAWS)):
        yield f"after calls with other arguments, {what} differs; keep no state"
    after = _fields(method)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"the attribute {name!r} of the estimator changed in a call; keep no state"


def _fields(method: Estimator) -> dict[str, str]:
    """What the object holds, as text: attributes that are not fields included."""
    held: dict[str, object] = dict(getattr(method, "__dict__", {}))
    shape: object = type(method)
    if is_dataclass(shape):  # with slots there is no __dict__
        held |= {each.name: getattr(method, each.name) for each in fields(shape)}
    return {name: repr(value) for name, value in held.items()}


def changes_no_argument(subject: TestedEstimator) -> Iterator[str]:
    """λ, θ⁰ and the losses are after a call what they were; nothing is written to `.grad`."""
    case = subject.case()
    lam = case.lam.clone().requires_grad_()
    kept, version = lam.detach().clone(), lam._version
    start = case.problem.initial(kept).detach().clone()
    losses = _losses(case, kept, start)
    subject.run(case, lam)
    if not torch.equal(lam.detach(), kept) or lam._version != version:
        yield "lam was written to; work on a copy"
    if lam.grad is not None:
        yield "lam.grad was written to; use torch.autograd.grad, or refblo.derivatives"
    if not lam.requires_grad or not lam.is_leaf:
        yield "lam.requires_grad was changed; work on lam.detach()"
    if not torch.equal(case.problem.initial(kept).detach(), start):
        yield "the initial point was written to; work on a copy"
    if _losses(case, kept, start) != losses:
        yield "the data of a loss were written to"


def _losses(case: Case, lam: Tensor, theta: Tensor) -> tuple[float, ...]:
    inner = case.problem.inner_batches(DRAWS, Stream.INNER_BATCH, 0)
    outer = case.problem.outer_batches(DRAWS, Stream.OUTER_BATCH, 0)
    return (
        case.problem.inner(lam, theta, inner).item(),
        case.problem.outer(lam, theta, outer).item(),
    )


def leaves_global_state_alone(subject: TestedEstimator) -> Iterator[str]:
    """The global generators, the grad mode and the default dtype are neither changed nor used."""
    case = subject.case()
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002  # the global state is what is looked at
    results, changed = [], set()
    try:
        for seed in (1729, 2718):
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002  # as above
            random.seed(seed)
            before = _global_state()
            results.append(subject.run(case))
            after = _global_state()
            changed |= {name for name, was in before.items() if after[name] != was}
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002  # as above
        random.setstate(kept[2])
    for name in sorted(changed):
        yield f"{name} was changed; take all randomness from draws, and set nothing global"
    for what in _differ(*results):
        yield f"{what} depends on a global random generator; take all randomness from draws"


def _global_state() -> dict[str, object]:
    # Python's own generator is not here: run-time shape checkers draw from it. That a result depends on it
    # is found all the same.
    _, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  # as above
    return {
        "torch's global generator": torch.get_rng_state().numpy().tobytes(),
        "NumPy's global generator": (np.asarray(keys).tobytes(), *rest),
        "the grad mode": torch.is_grad_enabled(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's number of threads": torch.get_num_threads(),
    }


def keeps_the_dtype(subject: TestedEstimator) -> Iterator[str]:
    """The result has the dtype of λ, and in float64 more digits than float32 has."""
    for dtype in (torch.float32, torch.float64):
        case = subject.case(dtype)
        result = subject.run(case)
        for name, tensor in (("estimate", result.estimate), ("theta", result.theta)):
            if tensor is not None and tensor.dtype != dtype:
                yield f"for lam of {dtype} the {name} must be of {dtype}, got {tensor.dtype}"
            elif tensor is not None and dtype is torch.float64 and _is_rounded(tensor):
                yield f"in float64 every entry of {name} is a float32 number; compute in lam's dtype"


def _is_rounded(tensor: Tensor) -> bool:
    """Whether numbers that are no simple fractions have no more bits than float32 has."""
    simple = torch.equal(tensor * 2**10, (tensor * 2**10).round())
    return not simple and torch.equal(tensor.float().double(), tensor)


def takes_any_layout(subject: TestedEstimator) -> Iterator[str]:
    """A λ or θ⁰ that is not contiguous in memory, or collects gradients, gives the same bits."""
    case = subject.case()
    first = subject.run(case)
    wide = torch.stack([case.lam, torch.zeros_like(case.lam)], dim=1)[:, 0]
    for what in _differ(first, subject.run(case, wide)):
        yield f"{what} differs for a lam that is not contiguous"
    leaf = case.lam.clone().requires_grad_()
    for what in _differ(first, subject.run(case, leaf)):
        yield f"{what} differs for a lam that requires a gradient"
    of_a_graph = leaf * 1.0
    for what in _differ(first, subject.run(case, of_a_graph)):
        yield f"{what} differs for a lam that is computed from another tensor"
    initial = case.problem.initial
    if isinstance(initial, FixedInitial):
        start = initial(case.lam)
        start = torch.stack([start, torch.zeros_like(start)], dim=1)[:, 0]
        moved = replace(case, problem=replace(case.problem, initial=FixedInitial(start)))
        for what in _differ(first, subject.run(moved)):
            yield f"{what} differs for an initial point that is not contiguous"


def keeps_the_grad_mode_apart(subject: TestedEstimator) -> Iterator[str]:
    """Without grad mode it gives the same bits, or refuses with an error that names the grad mode."""
    case = subject.case()
    method = subject.make(case)
    first = method.estimate(case.problem, case.lam, DRAWS)
    modes: tuple[tuple[str, Callable[[], AbstractContextManager[object]]], ...] = (
        ("torch.no_grad()", torch.no_grad),
        ("torch.inference_mode()", torch.inference_mode),
    )
    for name, mode in modes:
        try:
            with mode():
                result = method.estimate(case.problem, case.lam, DRAWS)
        except ArgumentError as error:
            if "grad mode" not in str(error):
                yield f"the error under {name} must name the grad mode, got: {error}"
        except Exception as error:  # whatever else it raises is what this looks for
            yield f"under {name} it must work or raise an ArgumentError, got {error!r}"
        else:
            for what in _differ(first, result):
                yield f"{what} differs under {name}"
    with torch.inference_mode():
        lam = case.lam.clone()
    try:
        for what in _differ(first, method.estimate(case.problem, lam, DRAWS)):
            yield f"{what} differs for a lam that was made in torch.inference_mode()"
    except ArgumentError as error:
        if "inference" not in str(error):
            yield f"the error for a lam made in torch.inference_mode() must say so, got: {error}"
    except Exception as error:  # as above
        yield f"a lam made in torch.inference_mode() must work or be refused, got {error!r}"


def carries_its_state_outside(subject: TestedEstimator) -> Iterator[str]:
    """`advance` of a warm-started method leaves the state that it is given as it was."""
    case = subject.case()
    method = subject.make(case)
    if not isinstance(method, WarmEstimator):
        return
    state = method.begin(case.problem, case.lam, DRAWS)
    tensors = {"theta": state.theta, "q": state.q, **state.memory}
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    first, after = method.advance(case.problem, case.lam, state, DRAWS)
    again, after_again = method.advance(case.problem, case.lam, state, DRAWS)
    for what in _differ(first, again):
        yield f"two calls of advance from the same state differ in {what}"
    if not same_bits(after.theta, after_again.theta) or not same_bits(after.q, after_again.q):
        yield "two calls of advance from the same state end in different states"
    if state.memory.keys() != kept.keys() - {"theta", "q"}:
        yield "advance changed the memory that it was given; return a new one"
    for name, tensor in tensors.items():
        if not torch.equal(tensor, kept[name]):
            yield f"advance wrote to {name!r} of the state that it was given; return a new one"


PROPERTIES: tuple[Property, ...] = (
    has_a_result,
    is_deterministic,
    keeps_no_state,
    changes_no_argument,
    leaves_global_state_alone,
    keeps_the_dtype,
    takes_any_layout,
    keeps_the_grad_mode_apart,
    carries_its_state_outside,
)
"""What every estimator must be."""


def applicable(
    make: Callable[[Case], Estimator], cases: Sequence[CaseBuilder]
) -> tuple[CaseBuilder, ...]:
    """The problems that an estimator does not refuse with an error of refblo's own."""
    return tuple(build for build in cases if not _refuses(make, build))


def _refuses(make: Callable[[Case], Estimator], build: CaseBuilder) -> bool:
    try:
        TestedEstimator(make, build).run(build(torch.float64))
    except REFUSED:
        return True
    return False


def check_estimator(
    method: Estimator | Callable[[Case], Estimator],
    cases: Sequence[CaseBuilder] = SMALL_CASES,
    properties: Sequence[Property] = PROPERTIES,
) -> None:
    """Check that an estimator is a pure function of its arguments, in their dtype.

    Checked are: the shape of the result; the same bits for the same arguments; that no state is kept; that
    no argument is changed and no `.grad` written; that global generators are neither used nor changed;
    that float32 stays float32 and float64 float64; λ that is not contiguous, requires a gradient, or was made
    in inference mode; calls without grad mode; and for warm-started methods that the state is an argument.

    Args:
        method: an estimator, or a function that builds one for a problem; the latter where the right
            step size, say, is the problem's.
        cases: functions that build a problem in a dtype. Those that the method refuses with an
            `ArgumentError`, a `LossError` or a `MissingProductError` are passed over, but not all of them.
        properties: which of `PROPERTIES`.

    Raises:
        EstimatorCheckError: an AssertionError that names every property that fails, with the problem.

    Example:
        >>> from refblo.chain import Langevin, Schedule
        >>> from refblo.estimators import HPOSGLD
        >>> check_estimator(HPOSGLD(Langevin(0.05), Schedule(2, 2)))
        >>> check_estimator(lambda case: HPOSGLD(case.dynamics, case.schedule))
    """
    make = _maker(method)
    # A problem is checked by refblo when it is first used, which takes longer than a run: it is built once.
    used = applicable(make, [cache(build) for build in cases])
    if not used:
        raise EstimatorCheckError(
            f"cases must hold a problem that the estimator accepts, got {len(cases)} that it refuses; "
            "give a function that builds one of its own"
        )
    failed = [
        f"{claim.__name__} ({build(torch.float64).name}): {what}"
        for build in used
        for claim in properties
        for what in _failures(claim, TestedEstimator(make, build))
    ]
    if failed:
        name = make(used[0](torch.float64)).name
        raise EstimatorCheckError("\n  ".join([f"{name} is not a pure function:", *failed]))


def _maker(method: Estimator | Callable[[Case], Estimator]) -> Callable[[Case], Estimator]:
    given: object = method  # a caller may give anything; a class has an estimator's attributes, too
    if isinstance(given, type) or not (isinstance(given, Estimator) or callable(given)):
        raise ArgumentTypeError(
            "method must be an estimator, or a function that builds one for a problem, got "
            f"{given!r}; write HPOSGLD(Langevin(0.05), Schedule(2, 2)), or "
            "lambda case: HPOSGLD(case.dynamics, case.schedule)"
        )
    if isinstance(method, Estimator):
        unused = deepcopy(method)
        return lambda _: deepcopy(unused)

    def make(case: Case) -> Estimator:
        built: object = method(case)
        if not isinstance(built, Estimator):
            raise ArgumentTypeError(
                f"method must build an estimator, got {type(built).__name__}; return an instance that has "
                "name, estimand and estimate(problem, lam, draws)"
            )
        return built

    return make


def _failures(claim: Property, subject: TestedEstimator) -> list[str]:
    """What fails; an exception fails too."""
    try:
        return list(claim(subject))
    except Exception as error:  # an estimator may raise anything
        return [f"it raised {type(error).__name__}: {error}"]
