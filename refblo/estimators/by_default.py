"""Estimates of an outer loop, traced without being asked for where that cannot be wrong.

The first steps of a loop run as the estimator is written. From step `TRACED_FROM` on its operations are
recorded and run one by one (`Compiled` with backend "eager"), if all of this holds:

- the estimator is one that can be traced, and keeps no limit on memory but `graph_bytes`;
- everything that the losses read besides their arguments can be compared, and is what it was when they were
  recorded: after a change they are recorded anew;
- a step's graph is small (`LARGEST_GRAPH`): where large matrix products take the time, there is little to
  gain.

Which way is taken depends on the step, the estimator, sizes and what the losses read; never on a measured
time or on what ran before. Both ways give the same bits. Traced reverse mode computes most iterates twice,
and CG may form up to `FUSED` − 1 products more; such evaluations are counted where they are made.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from refblo.chain import Chain, Langevin
from refblo.estimators._kept import looking_on
from refblo.estimators.compiled import Compiled, Method
from refblo.estimators.protocol import Estimator
from refblo.estimators.rmd import RMD, bytes_of_a_step
from refblo.kernel import UnwatchableError
from refblo.noise import Draws
from refblo.problem import BilevelProblem
from refblo.types import Hypergradient, Lam
from refblo.validation import check_arguments

TRACED_FROM = 8
"""The first outer step that is traced: to record takes about as long as so many steps."""

FUSED = 5
"""Transitions in a kernel: more take longer to record than they save."""

LARGEST_GRAPH = 2**26
"""Bytes of a step's graph up to which an estimate is traced."""

_plain: ContextVar[bool] = ContextVar("refblo_plain", default=False)


@contextmanager
def plainly() -> Iterator[None]:
    """Nothing inside the block is traced, unless `Compiled` asks for it."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def estimate_in_loop(
    estimator: Estimator, problem: BilevelProblem, lam: Lam, draws: Draws, step: int
) -> Hypergradient:
    """The estimate of an outer step, traced where that pays and cannot be wrong.

    Args:
        estimator: the estimator.
        problem: the bilevel problem, started where this step's inner run starts.
        lam: λ, shape (p,).
        draws: the step's randomness.
        step: k ≥ 0, the number of the outer step.

    Raises:
        ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used.
        MissingProductError: if a second-order product cannot be formed.
    """
    if step >= TRACED_FROM and not _plain.get():
        result = _traced(estimator, problem, lam, draws)
        if result is not None:
            return result
    if step == TRACED_FROM - 1 and isinstance(estimator, Method):
        with looking_on(problem):
            return estimator.estimate(problem, lam, draws)
    return estimator.estimate(problem, lam, draws)


def _traced(
    estimator: Estimator, problem: BilevelProblem, lam: Lam, draws: Draws
) -> Hypergradient | None:
    """The estimate by kernels; None where it is to run as it is written."""
    dynamics = getattr(estimator, "dynamics", None)
    if not isinstance(estimator, Method) or not isinstance(dynamics, Langevin):
        return None
    limits = ("checkpointed", "last_transitions", "states", "memory_bytes")
    if isinstance(estimator, RMD) and any(getattr(estimator, name) for name in limits):
        return None
    check_arguments(problem, lam, draws)
    fast = Compiled(estimator, FUSED, "eager")
    try:
        if not fast.is_refused(problem) and _is_small(problem, dynamics, lam, draws):
            result = fast.traced(problem, lam, draws)
            return result if isinstance(result, Hypergradient) else None
    except UnwatchableError:
        return None
    return None


def _is_small(problem: BilevelProblem, dynamics: Langevin, lam: Lam, draws: Draws) -> bool:
    chain = Chain(problem, dynamics, draws)
    return bytes_of_a_step(chain, lam.detach(), chain.initial(lam)) <= LARGEST_GRAPH
