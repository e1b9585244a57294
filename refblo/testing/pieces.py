"""The checks of one new piece, an estimator or a problem, as a contributor runs them."""

from collections.abc import Iterator

import numpy as np
import torch

from refblo.contracts.context import Context
from refblo.contracts.contract import Contract
from refblo.contracts.registry import contracts
from refblo.errors import ArgumentError, RefbloError
from refblo.estimators.registry import EstimatorClass, estimator_classes
from refblo.noise import SEED_ZERO, Stream
from refblo.problems.case import Case
from refblo.problems.catalogue import build, catalogue
from refblo.testing.check import EstimatorCheckError, check_estimator
from refblo.testing.instances import example
from refblo.testing.registry import by_estimator, is_wrapper
from refblo.validation import check_arguments

MOST_ENTRIES = 100
"""The largest n·p of a catalogue problem on which the contracts of an estimator are checked here."""


def check_piece(name: str) -> Iterator[str]:
    """What is wrong with an estimator class or a problem of the catalogue.

    Args:
        name: of the class, such as "RMD", or of the problem, such as "ridge_diabetes".

    Raises:
        ArgumentError: if there is neither.
    """
    classes = {cls.__name__: cls for cls in estimator_classes()}
    if name in classes:
        yield from of_estimator(classes[name])
    elif name in catalogue():
        yield from of_problem(name)
    else:
        raise ArgumentError(
            f"name must be an estimator class ({', '.join(sorted(classes))}) or a problem "
            f"({', '.join(catalogue())}), got {name!r}; correct the name, or register it"
        )


def of_estimator(cls: EstimatorClass) -> Iterator[str]:
    """A property that `check_estimator` misses, or a contract that does not hold or is never checked."""
    try:
        check_estimator(lambda case: example(cls, case))
    except EstimatorCheckError as error:
        yield str(error)
    if is_wrapper(cls):
        return
    cases = [case for case in map(build, catalogue()) if _entries(case) <= MOST_ENTRIES]
    for contract in by_estimator(estimator_classes(), contracts())[cls]:
        yield from _of_contract(contract, cases)


def _entries(case: Case) -> int:
    return case.lam.numel() * case.problem.initial(case.lam).numel()


def _of_contract(contract: Contract, cases: list[Case]) -> Iterator[str]:
    used = [case for case in cases if contract.applies(case)]
    if not used:
        yield f"{contract.name}: applies to no problem of the catalogue with n·p ≤ {MOST_ENTRIES}"
    context = Context(SEED_ZERO)
    for case in used:
        judgement = contract.check(case, context).judgement
        if not judgement.holds:
            yield (
                f"{contract.name}: does not hold on {case.name}: {judgement.measured}, predicted "
                f"{judgement.predicted}"
            )


def of_problem(name: str) -> Iterator[str]:
    """A wrong dtype or name, losses unlike their statement in NumPy, or oracles that do not agree."""
    for dtype in (torch.float32, torch.float64):
        case = build(name, dtype)
        start = case.problem.initial(case.lam)
        if case.name != name:
            yield f"its name must be that of the function, {name!r}, got {case.name!r}"
        if not case.lam.dtype == start.dtype == dtype:
            yield f"in {dtype} lam is of {case.lam.dtype}, the initial point of {start.dtype}"
        try:
            check_arguments(case.problem, case.lam, SEED_ZERO)
        except RefbloError as error:
            yield str(error)
    case = build(name)
    yield from _unlike_its_statement(case)
    context = Context(SEED_ZERO)
    applicable = [it for it in contracts() if it.estimator == "oracles" and it.applies(case)]
    if not applicable:
        yield "no truth of it has two oracles; see refblo/oracles for what they need"
    for contract in applicable:
        judgement = contract.check(case, context).judgement
        if not judgement.holds:
            yield f"{contract.name}: {judgement.measured}, predicted {judgement.predicted}"


def _unlike_its_statement(case: Case) -> Iterator[str]:
    """Losses in torch and in NumPy that are two functions."""
    if case.statement is None:
        return
    stated = case.statement.losses(np, np.asarray)
    theta = case.problem.initial(case.lam)
    for which, ours, theirs, batches, stream in (
        ("inner", case.problem.inner, stated.inner, case.problem.inner_batches, Stream.INNER_BATCH),
        ("outer", case.problem.outer, stated.outer, case.problem.outer_batches, Stream.OUTER_BATCH),
    ):
        batch = batches(SEED_ZERO, stream, 0)
        one = float(ours(case.lam, theta, batch))
        other = float(
            theirs(case.lam.numpy(), theta.numpy(), None if batch is None else batch.numpy())
        )
        # Sums of at most some thousand terms, in any order.
        if abs(one - other) > 1e-12 * max(abs(one), abs(other), 1.0):
            yield f"{which} is {one} in torch and {other} in NumPy at θ⁰"
