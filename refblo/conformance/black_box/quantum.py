"""The number of which the values of a caller's function are multiples: see `refblo.conformance.rounded`."""

from refblo.conformance.black_box.objective import FINE, Objective, line_from
from refblo.conformance.rounded import steps
from refblo.errors import OracleError


def quantum(objective: Objective, precision: float) -> tuple[float, float]:
    """The number of which the function's values near λ are multiples, but for a shift, and its share of them.

    Zeros where there is none, or where it is as fine as what is known of the function.

    Args:
        objective: the function.
        precision: the relative spacing of the numbers that it is known to compute with.

    Raises:
        OracleError: for a function of float64 that is constant but for jumps, and has no such number.
    """
    at = line_from(objective)
    found = steps(lambda distance: objective(at(distance)))
    if found is None:
        return 0.0, 0.0
    if found.quantum > 0:
        share = found.quantum / max(abs(objective(objective.arrays.vector)), found.quantum)
        return (found.quantum, share) if share > precision else (0.0, 0.0)
    if precision <= FINE:
        raise OracleError(
            f"objective must move with lam, got one that is {found.describe()}: no verdict is possible; look "
            "for a number rounded inside, a count, a sort, or an early stop"
        )
    return 0.0, 0.0
