"""The kernels that are kept for a problem: a set for each state of what its losses read.

A kernel holds the operations of the losses as they were when it was made. So what they read besides their
arguments is compared at the start of each estimate, and kernels of another state are not used. Which kernels
there are depends on that state alone: what ran before decides how long an estimate takes, never what it is.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import final
from weakref import WeakKeyDictionary

from refblo.kernel import Kernel, Reading, UnwatchableError, read
from refblo.problem import BilevelProblem

MOST_STATES = 4
"""Of which kernels are kept, for each problem; a state that comes again later is recorded again."""


@final
@dataclass(frozen=True, eq=False)
class Kept:
    """What is kept for one state of one problem.

    Attributes:
        reading: the state.
        kernels: the kernels that were made in this state.
        refused: why there are none, by what asked for them.
    """

    reading: Reading
    kernels: dict[Hashable, Kernel] = field(default_factory=dict)
    refused: dict[Hashable, str] = field(default_factory=dict)


@dataclass(eq=False)
class _OfProblem:
    states: OrderedDict[Hashable, Kept] = field(default_factory=OrderedDict)
    changes: str = ""  # why there can be no kernels, whatever the state


_problems: WeakKeyDictionary[BilevelProblem, _OfProblem] = WeakKeyDictionary()


def kept_for(problem: BilevelProblem) -> Kept:
    """What is kept for a problem and what its losses read now.

    Raises:
        UnwatchableError: if that cannot be compared, or changes when they are called.
    """
    mine = _of(problem)
    if mine.changes:
        raise UnwatchableError(mine.changes)
    reading = read(problem.inner, problem.outer)
    kept = mine.states.get(reading.key)
    if kept is None or not kept.reading.is_current():
        kept = mine.states[reading.key] = Kept(reading)
    mine.states.move_to_end(reading.key)
    while len(mine.states) > MOST_STATES:
        mine.states.popitem(last=False)
    return kept


def check_unchanged(problem: BilevelProblem, before: Reading) -> None:
    """Check that the losses, which have just been called, left what they read as it was.

    Raises:
        UnwatchableError: if they did not; then there are no kernels of this problem any more.
    """
    if read(problem.inner, problem.outer).key != before.key:
        mine = _of(problem)
        mine.states.clear()
        mine.changes = "a loss that changes what it reads when it is called"
        raise UnwatchableError(mine.changes)


@contextmanager
def looking_on(problem: BilevelProblem) -> Iterator[None]:
    """Find out whether the losses change what they read while they are called inside the block.

    Nothing is called for it: a loss that counts its calls counts the same with and without.
    """
    try:
        before = None if _of(problem).changes else read(problem.inner, problem.outer)
    except UnwatchableError:
        before = None  # there will be no kernels
    yield
    if before is not None:
        with suppress(UnwatchableError):
            check_unchanged(problem, before)


def is_new(problem: BilevelProblem) -> bool:
    """Whether nothing is known of a problem."""
    return problem.origin not in _problems


def _of(problem: BilevelProblem) -> _OfProblem:
    return _problems.setdefault(problem.origin, _OfProblem())
