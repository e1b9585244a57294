"""Estimates in an outer loop: traced from a certain step on, by default, with the same bits as untraced.

`OuterLoop` calls `estimate_in_loop`. Before step `traced_from` the estimator runs as it is written. From that
step on its operations are recorded and run one by one, which is faster (`Compiled` with backend "eager"), if
all of this holds:

- the estimator can be traced (`Compiled`), and an RMD has no limit on its memory other than `graph_bytes`;
- everything that the losses read besides their arguments can be compared (`refblo.kernel.watch`); after a
  change the losses are recorded anew;
- the losses do not change what they read when they are called; the last untraced step is
  watched for that;
- the graph of a step takes at most `LARGEST_GRAPH` bytes: above, large matrix products take most of the time,
  and tracing gains little.

What must hold: both ways give the same bits (tests/test_by_default.py). Which one is taken depends only on
the step, the estimator, sizes and what the losses read, never on a measured time or on what ran before; so a
resumed run takes the same way. Traced reverse mode computes most iterates twice, and CG may form up to
`FUSED` − 1 more products; such evaluations are counted in the cost.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from refblo.chain import Chain, Langevin
from refblo.estimators._kept import noting_changes
from refblo.estimators.compiled import Compiled, Method
from refblo.estimators.protocol import Estimator
from refblo.estimators.rmd import RMD, bytes_of_a_step
from refblo.kernel import UnwatchableError
from refblo.noise import Draws
from refblo.problem import BilevelProblem
from refblo.types import Hypergradient, Lam
from refblo.validation import check_arguments

TRACED_FROM = 8
"""The first outer step that is traced for short θ. Recording takes about as long as this many estimates."""

LONG = 100_000
"""Entries of θ from which recording, which does the same work once, takes about as long as one estimate."""

FUSED = 5
"""Transitions in one kernel. More would take longer to record than they save."""

LARGEST_GRAPH = 2**26
"""The most bytes of a step's graph with which an estimate is traced."""

_plain: ContextVar[bool] = ContextVar("refblo_plain", default=False)


@contextmanager
def plainly() -> Iterator[None]:
    """Trace no estimates inside the block, except those of a `Compiled` estimator."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def estimate_in_loop(
    estimator: Estimator, problem: BilevelProblem, lam: Lam, draws: Draws, step: int
) -> Hypergradient:
    """The estimate of an outer step, traced if the conditions of the module hold.

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
    if not isinstance(estimator, Method) or _plain.get():
        return estimator.estimate(problem, lam, draws)
    first = traced_from(problem, lam)
    if step >= first:
        result = _traced(estimator, problem, lam, draws)
        if result is not None:
            return result
    if step == first - 1:
        # Find out whether the losses change what they read: then they are not traced in the next step.
        with noting_changes(problem):
            return estimator.estimate(problem, lam, draws)
    return estimator.estimate(problem, lam, draws)


def traced_from(problem: BilevelProblem, lam: Lam) -> int:
    """The number of the first outer step that is traced, by the size of θ."""
    return 1 if problem.initial(lam.detach()).numel() >= LONG else TRACED_FROM


def _traced(
    estimator: Estimator, problem: BilevelProblem, lam: Lam, draws: Draws
) -> Hypergradient | None:
    """The traced estimate; None if the estimator has to run as it is written."""
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
