"""A proof of where the inner minimiser is: Newton's method, then Krawczyk's test.

Newton's method runs on midpoints from θ⁰, its Hessian shifted until it is positive definite and its
steps shortened until the loss falls, so that it goes down to a minimiser and not to a saddle. What it
returns is only a guess; the test proves it, see `ball`.
"""

from collections.abc import Callable, Sequence

from flint import arb, arb_mat, ctx

from refblo.balls.derivatives import (
    Derivatives,
    column,
    positive_definite,
    symmetric,
)
from refblo.balls.graph import Balls
from refblo.errors import OracleError

_NEWTON_STEPS = 500
_INFLATIONS = 8
_ARMIJO = arb(1) / 10000  # the customary share of the predicted decrease

Evaluate = Callable[[Sequence[arb]], Balls]


def enclose_minimiser(derivatives: Derivatives, lam: Balls) -> Balls:
    """Balls that hold exactly one zero of ∂_θ L_T(λ, ·), at which the Hessian is positive definite.

    Raises:
        OracleError: if Newton's method or the proof fails.
    """
    n = derivatives.n
    inner, loss = derivatives.inner.compile(), derivatives.value.compile()
    start = [entry.mid() for entry in derivatives.initial.compile()(lam)[:n]]
    point = _newton(inner, loss, lam, start)
    gradient, hessian = _local(inner, lam, point)
    preconditioner = _inverse(hessian.mid())
    correction = (preconditioner * column(gradient)).entries()
    tiny = arb(2) ** (8 - ctx.prec)
    radii = [
        2 * c.abs_upper() + tiny * (1 + x.abs_upper())
        for c, x in zip(correction, point, strict=True)
    ]
    for _ in range(_INFLATIONS):
        box = [x + _symmetric_ball(r) for x, r in zip(point, radii, strict=True)]
        _, over_box = _local(inner, lam, box)
        contraction = _identity(n) - preconditioner * over_box
        spread = (contraction * column([_symmetric_ball(r) for r in radii])).entries()
        moves = [s - c for s, c in zip(spread, correction, strict=True)]
        if all(move.abs_upper() < r for move, r in zip(moves, radii, strict=True)):
            enclosure = [x + move for x, move in zip(point, moves, strict=True)]
            if not positive_definite(over_box):
                raise OracleError(
                    "inner must have a positive definite Hessian at its stationary point, got one that could "
                    "not be proved to be; the implicit hypergradient needs a strict minimiser"
                )
            return enclosure
        radii = [4 * r for r in radii]
    raise OracleError(
        "inner must have a stationary point with an invertible Hessian, got a point by Newton's method that "
        "could not be proved to be one, with a singular or nearly singular Hessian; choose another lam"
    )


def _newton(inner: Evaluate, loss: Evaluate, lam: Balls, start: Balls) -> Balls:
    """An approximate minimiser: exact numbers (balls of radius 0)."""
    point = start
    negligible = arb(2) ** -(ctx.prec * 3 // 4)
    for _ in range(_NEWTON_STEPS):
        gradient, hessian = _local(inner, lam, point)
        step = (_shifted_inverse(hessian.mid()) * column(gradient)).mid().entries()
        length = sum((s * s for s in step), arb(0)).sqrt().mid()
        size = 1 + sum((x * x for x in point), arb(0)).sqrt().mid()
        if not length.is_finite():
            break
        slope = sum((g * s for g, s in zip(gradient, step, strict=True)), arb(0)).mid()
        value, fraction = loss([*lam, *point])[0].mid(), arb(1)
        candidate = [(x - s).mid() for x, s in zip(point, step, strict=True)]
        if length < negligible * size:
            return candidate
        # Near the minimiser the loss cannot resolve the decrease any more; whole steps converge there.
        small = length < arb(2) ** -(ctx.prec // 4) * size
        while (
            not small
            and not loss([*lam, *candidate])[0].mid() <= value - _ARMIJO * fraction * slope
        ):
            fraction = fraction / 2
            if fraction < negligible:
                break
            candidate = [(x - fraction * s).mid() for x, s in zip(point, step, strict=True)]
        point = candidate
    raise OracleError(
        f"inner must have a minimiser that Newton's method reaches from the initial point, got none in "
        f"{_NEWTON_STEPS} steps; start nearer to it, or check that it exists"
    )


def _local(inner: Evaluate, lam: Balls, theta: Balls) -> tuple[Balls, arb_mat]:
    n = len(theta)
    parts = inner([*lam, *theta])
    return parts[:n], symmetric(parts[n : n + n * (n + 1) // 2], n)


def _shifted_inverse(hessian: arb_mat) -> arb_mat:
    """The inverse of H + μ I with the first μ = 0, 2^−10 ‖H‖, 2^−8 ‖H‖, … that makes it positive definite."""
    n = hessian.nrows()
    scale = sum((abs(entry) for entry in hessian.entries()), arb(0)).mid() + arb(2) ** -100
    shift = arb(0)
    while shift < 4 * scale:
        shifted = (hessian + _identity(n) * shift).mid()
        if positive_definite(shifted):
            return _inverse(shifted)
        shift = 4 * shift if shift > 0 else scale / 1024
    raise OracleError("inner must have a finite Hessian, got one that is not; look at the loss")


def _inverse(matrix: arb_mat) -> arb_mat:
    try:
        return matrix.inv().mid()
    except ZeroDivisionError as error:
        raise OracleError(
            "inner must have an invertible Hessian at its stationary point, got a singular one; choose "
            "another lam, or add a regulariser"
        ) from error


def _identity(n: int) -> arb_mat:
    identity = arb_mat(n, n)
    for i in range(n):
        identity[i, i] = arb(1)
    return identity


def _symmetric_ball(radius: arb) -> arb:
    """[−radius, radius]."""
    return arb(0, radius.upper())
