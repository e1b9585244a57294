"""What the methods for a learnt initial point share."""

from refblo.errors import require
from refblo.problem import BilevelProblem, LamInitial


def require_moving_start(problem: BilevelProblem) -> None:
    """Refuse a problem whose θ⁰ is fixed: these methods learn nothing but θ⁰(λ).

    Raises:
        ArgumentError: unless `problem.initial` is a `LamInitial`.
    """
    require(
        isinstance(problem.initial, LamInitial),
        "problem.initial",
        "depend on lam",
        type(problem.initial).__name__,
        "use identity_initial() for θ⁰ = λ, or RMD where θ⁰ is fixed",
    )
