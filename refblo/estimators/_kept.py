"""A cache of kernels: for each problem, and for each state of what its losses read besides their arguments.

A kernel holds the operations of the losses as they were when it was made. So the state is read again at the
start of each estimate (`refblo.kernel.read`), and only kernels of that state are used. The cache decides how
long an estimate takes, never its value.
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
"""The most states of a problem whose kernels are kept; the one that was used longest ago is dropped first."""


@final
@dataclass(frozen=True, eq=False)
class Kept:
    """The kernels of one state of one problem.

    Attributes:
        reading: the state: what the losses read besides their arguments.
        kernels: the kernels that were made in this state, by backend, function and the shapes of its
            arguments.
        refused: why the losses cannot be recorded, by the `Compiled` estimator that tried.
    """

    reading: Reading
    kernels: dict[Hashable, Kernel] = field(default_factory=dict)
    refused: dict[Hashable, str] = field(default_factory=dict)


@dataclass(eq=False)
class _OfProblem:
    states: OrderedDict[Hashable, Kept] = field(default_factory=OrderedDict)
    changes: str = ""  # why no kernel can be made in any state; empty if one can


_problems: WeakKeyDictionary[BilevelProblem, _OfProblem] = WeakKeyDictionary()


def kept_for(problem: BilevelProblem) -> Kept:
    """The kernels of a problem in its present state.

    Raises:
        UnwatchableError: if what the losses read cannot be compared, or the losses change it when called.
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
    """Check that calling the losses has not changed what they read.

    Raises:
        UnwatchableError: if it has; from then on no kernel of this problem is made or used.
    """
    if read(problem.inner, problem.outer).key != before.key:
        mine = _of(problem)
        mine.states.clear()
        mine.changes = "a loss that changes what it reads when it is called"
        raise UnwatchableError(mine.changes)


@contextmanager
def noting_changes(problem: BilevelProblem) -> Iterator[None]:
    """Note whether the losses change what they read when the block calls them; then they get no kernels.

    This makes no calls of its own: a loss that counts its calls counts the same with and without.
    """
    try:
        before = None if _of(problem).changes else read(problem.inner, problem.outer)
    except UnwatchableError:
        before = None  # the losses cannot get kernels anyway
    yield
    if before is not None:
        with suppress(UnwatchableError):
            check_unchanged(problem, before)


def is_new(problem: BilevelProblem) -> bool:
    """Whether the cache has no entry for a problem."""
    return problem.origin not in _problems


def _of(problem: BilevelProblem) -> _OfProblem:
    return _problems.setdefault(problem.origin, _OfProblem())
