"""Every constant that the ledger certifies in balls, derived a second time.

Nothing here is shared with the ledger: mpmath in the place of python-flint, other formulas or methods (the
secant method on an angle for roots of polynomials and bisection, tanh-sinh for integrals in the plane, a
recursion for gamma functions, least squares over polynomials for conjugate gradients, differences of a run
for its tangents). A value is computed with 40 digits and with 80; what the two differ by is its radius.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import mpmath
from mpmath import mp

Number = Any
"""An mpf: mpmath has no types."""

Value = Callable[[], Number]


@final
@dataclass(frozen=True)
class TwoSides:
    """What a certified check compares, computed here.

    Attributes:
        left: its left side.
        right: its right side; None where that is a number of the statement.
    """

    left: Value
    right: Value | None = None


def agrees(printed: str, value: Value) -> bool:
    """Whether a printed ball, or a printed number, and a value have a point in common."""
    with mp.workdps(40):
        coarse = +value()
    with mp.workdps(80):
        fine = +value()
        middle, radius = read(printed)
        return bool(abs(middle - fine) <= radius + abs(fine - coarse))


def confirms(key: str, name: str, left: str, right: str) -> bool:
    """Whether both sides of a certified check are what is derived here.

    Raises:
        KeyError: if it is not derived here.
    """
    if (key, name) not in SECOND:
        raise KeyError(
            f"{name!r} of {key} must be derived a second time, got no entry; add one to SECOND in {__name__}"
        )
    second = SECOND[key, name]
    return agrees(left, second.left) and (second.right is None or agrees(right, second.right))


def read(printed: str) -> tuple[Number, Number]:
    """The middle and the radius of a ball as it is printed: "[1.25 +/- 3e-12]", "1.25", "[+/- 2e-15]"."""
    found = re.fullmatch(
        r"(?:(?:<|<=|contains) )?\[?(?P<mid>[-\d.e]*) ?(?:\+/- (?P<rad>[\d.e-]+)\])?", printed
    )
    if found is None:
        raise ValueError(f"printed must be a ball, got {printed!r}; print it with arb.str")
    middle, radius = mpmath.mpf(found["mid"] or 0), found["rad"]
    if radius is not None:
        return middle, mpmath.mpf(radius)
    # Without a radius it is exact in its twelve digits, or a number of float64 that was rounded a few times.
    return middle, abs(middle) * mpmath.mpf(2) ** -50


def _rational(top: int, bottom: int) -> Value:
    return lambda: mpmath.mpf(top) / bottom


# ---------------------------------------------------------------- Synth-1D: λ = cos a, θ = sin a


def _angle(slope: Callable[[Number], Number], near: float) -> Number:
    """The angle at which a function vanishes, by the secant method."""
    return mpmath.findroot(slope, (near, near + 0.01))


def _reduced(a: Number) -> Number:
    return (mpmath.cos(a) - mpmath.sin(a)) ** 2 + (mpmath.sin(a) - mpmath.mpf(1) / 2) ** 2


def _best() -> Number:
    """The minimum of F(cos a, sin a) = 1 − sin 2a + (sin a − ½)², where its derivative vanishes."""
    return _angle(
        lambda a: -2 * mpmath.cos(2 * a) + 2 * (mpmath.sin(a) - mpmath.mpf(1) / 2) * mpmath.cos(a),
        0.72,
    )


def _limit() -> Number:
    """Where f_θ vanishes on the circle: 4 sin a = 2 cos a + 1."""
    return _angle(lambda a: 4 * mpmath.sin(a) - 2 * mpmath.cos(a) - 1, 0.69)


def _fixed(steps: int) -> Number:
    """cos of the angle where f_λ − γm·f_θ·∂²L_T/∂λ∂θ vanishes, γ = 1/200, ∂²L_T/∂λ∂θ = 2λ."""
    weight = mpmath.mpf(steps) / 200

    def mean(a: Number) -> Number:
        x, t = mpmath.cos(a), mpmath.sin(a)
        return 2 * (x - t) - weight * 2 * x * (2 * (t - x) + 2 * t - 1)

    return mpmath.cos(_angle(mean, 0.69))


def _gap(steps: int) -> Value:
    return lambda: abs(mpmath.cos(_limit()) - _fixed(steps))


def _crossing() -> Number:
    """200/(2θ*), the mean number of steps at which the recursion's slope is that of the minimiser."""
    return 100 / mpmath.sin(_best())


def _off(steps: int) -> Value:
    return lambda: abs(_fixed(steps) - mpmath.cos(_best()))


# ---------------------------------------------------------------- integrals


def _mass(energy: Callable[[Number], Number], low: int, high: int) -> Value:
    return lambda: mpmath.quad(lambda x: mpmath.exp(-energy(x)), [low, high])


def _cubic(x: Number) -> Number:
    return x**3 / 3 - 3 * x / 4


def _third_moment(n: int) -> Value:
    """E‖u‖³ of n standard normal numbers: by the duplication formula, products instead of gamma functions.

    With c_n = Γ((n + 1)/2)/Γ(n/2): c_1 = 1/√π, c_n c_{n+1} = n/2, and E‖u‖³ = √8 (n + 1)/2 · c_n.
    """

    def value() -> Number:
        ratio = 1 / mpmath.sqrt(mpmath.pi)
        for k in range(1, n):
            ratio = mpmath.mpf(k) / 2 / ratio
        return mpmath.sqrt(8) * mpmath.mpf(n + 1) / 2 * ratio

    return value


def _fourth_moment_bound(n: int) -> Value:
    """(E‖u‖⁴)^(3/4): ‖u‖² has the mean n and the variance 2n."""
    return lambda: mpmath.exp(mpmath.log(mpmath.mpf(n) ** 2 + 2 * n) * 3 / 4)


def _loose_bound(n: int) -> Value:
    return lambda: mpmath.mpf(n + 3) * mpmath.sqrt(n + 3)


# ---------------------------------------------------------------- linear systems

_V = (1, 2, -1, 3, 1)
_EIGENVALUES = (1, 3, 8, 20, 50)
_LOAD = (1, -2, 3, 1, 2)


def _weights() -> list[Number]:
    """(u_k·b)² for the eigenvectors u_k, the columns of I − 2vv'/‖v‖²."""
    square = sum(x * x for x in _V)
    along = sum(x * y for x, y in zip(_V, _LOAD, strict=True))
    parts = [
        mpmath.mpf(y) - mpmath.mpf(2 * x * along) / square for x, y in zip(_V, _LOAD, strict=True)
    ]
    return [part**2 for part in parts]


def _cg_error(steps: int) -> Value:
    """The least of (Σ w_k (1 − λ_k r(λ_k))²/λ_k)^½ over polynomials r of a degree below `steps`, relative.

    CG minimises it: here by the normal equations of that least-squares problem.
    """

    def value() -> Number:
        # Conditioned badly as a basis of powers is: some digits more.
        with mp.extradps(60):
            weights = _weights()
            size = sum(w / x for w, x in zip(weights, _EIGENVALUES, strict=True))
            rows = [[mpmath.mpf(x) ** k for k in range(1, steps + 1)] for x in _EIGENVALUES]
            scale = [w / x for w, x in zip(weights, _EIGENVALUES, strict=True)]
            normal = mpmath.matrix(steps, steps)
            right = mpmath.matrix(steps, 1)
            for i in range(steps):
                right[i] = sum(s * row[i] for s, row in zip(scale, rows, strict=True))
                for j in range(steps):
                    normal[i, j] = sum(
                        s * row[i] * row[j] for s, row in zip(scale, rows, strict=True)
                    )
            r = mpmath.lu_solve(normal, right)
            left = sum(
                s * (1 - sum(c * x for c, x in zip(r, row, strict=True))) ** 2
                for s, row in zip(scale, rows, strict=True)
            )
            return mpmath.sqrt(abs(left) / size)

    return value


def _cg_bound(steps: int) -> Value:
    """2r^k with r = tanh(½ artanh(1/√κ))-like: r + 1/r = 2(κ + 1)/(κ − 1), the root below 1."""

    def value() -> Number:
        middle = mpmath.mpf(51) / 49
        return 2 * (middle - mpmath.sqrt(middle**2 - 1)) ** steps

    return value


def _guess() -> tuple[Number, Number]:
    """‖q − x‖ and ‖3Hq − b‖ for q = (1/2, …, 1/6), in the eigenvectors' coordinates."""
    square = sum(x * x for x in _V)
    tried = [mpmath.mpf(1) / (j + 2) for j in range(5)]

    def turned(vector: list[Number]) -> list[Number]:
        along = sum(x * y for x, y in zip(_V, vector, strict=True))
        return [y - 2 * x * along / square for x, y in zip(_V, vector, strict=True)]

    q, b = turned(tried), turned([mpmath.mpf(y) for y in _LOAD])
    left = [3 * x * s - t for x, s, t in zip(_EIGENVALUES, q, b, strict=True)]
    error = [part / (3 * x) for x, part in zip(_EIGENVALUES, left, strict=True)]
    return mpmath.norm(error), mpmath.norm(left)


def _cubic_case(top: int, bottom: int) -> tuple[Value, Value]:
    """The error and the bound for L_T' = μt + bt²/2, C = −(1 + ct), f_θ = 1 + et at t from θ* = 0."""

    def parts() -> tuple[Number, Number]:
        t, r = mpmath.mpf(top) / bottom, mpmath.mpf(1) / 50
        mu, b, c, e = (mpmath.mpf(x) / y for x, y in ((3, 2), (1, 3), (1, 5), (1, 7)))
        curvature, coupling = mu + b * t, 1 + c * t
        q = (1 + e * t + r) / curvature
        delta = (mu * t + b * t**2 / 2) / mu
        error = abs(coupling * q - 1 / mu)
        at_root = coupling + c * delta  # an upper bound on C at the minimiser
        return error, q * c * delta + at_root * (r + b * delta * q + e * delta) / mu

    return (lambda: parts()[0]), (lambda: parts()[1])


def _power_of_t() -> Number:
    """log₂ of the ratio of a tangent's scaled errors at 2t and t, extrapolated; w ← w/2 + w²/4 from ¼.

    The tangent s is that of a push: dw/dp of w ← w/2 + w²/4 + p is (½ + w/2)s + 1, here as the sum over the
    steps of products of all later slopes.
    """
    with mp.workdps(600):
        slopes, w = [], mpmath.mpf(1) / 4
        for _ in range(800):
            slopes.append((1 + w) / 2)
            w = w / 2 + w**2 / 4
        scaled = {}
        for t in (200, 400, 800):
            total, product = mpmath.mpf(0), mpmath.mpf(1)
            for slope in reversed(slopes[:t]):
                total, product = total + product, product * slope
            scaled[t] = abs(total - 2) * mpmath.mpf(2) ** t
        first, second = scaled[400] / scaled[200], scaled[800] / scaled[400]
        return mpmath.log(2 * second - first, 2)


def _least_of_two() -> Number:
    """e^−x where it equals x/(1 − e^−x) − 1, by the secant method."""
    x = mpmath.findroot(lambda x: mpmath.exp(-x) - x / (1 - mpmath.exp(-x)) + 1, (0.7, 0.9))
    return mpmath.exp(-x)


# ---------------------------------------------------------------- ridge by gradient descent, in closed form


def _ridge(steps: int) -> tuple[Value, Value]:
    """|inf f_T − inf f| and sup |w_T − w|: w_T = w (1 − ρ^T), w = 3/(1 + λ), ρ = (2 − λ)/3."""

    def parts() -> tuple[Number, Number]:
        lams = [mpmath.mpf(1) / 2 + mpmath.mpf(k) / 16 for k in range(9)]
        exact = [3 / (1 + x) for x in lams]
        found = [w * (1 - ((2 - x) / 3) ** steps) for w, x in zip(exact, lams, strict=True)]
        away = max(w - v for w, v in zip(exact, found, strict=True))
        return 2 * abs(min(found) - min(exact)), away

    return (lambda: parts()[0]), (lambda: parts()[1])


# ---------------------------------------------------------------- the remainder of (16) on the exact world

_STEP = 25
"""Of the run: √ε = 1/5."""


def _score(lam: list[Number], t: list[Number]) -> list[Number]:
    (l1, l2), (t1, t2, t3) = lam, t
    return [
        -(2 * t1 + t2 + l1 * t2 + l2**2 + 3 * t1**2),
        -(4 * t2 + t1 - t3 + l1 * t1 - 2 * t2 * t3),
        -(6 * t3 - t2 + 2 * l2 * t3 - 2 * l1 - t2**2),
    ]


def _path(lam: list[Number]) -> list[list[Number]]:
    l1, l2 = lam
    path = [[l1 * l2 + 1, l1 + 2, l2**2 - 1]]
    for m in range(5):
        score = _score(lam, path[-1])
        noise = [mpmath.mpf((3 * m + 5 * i) % 7 - 3) / 4 for i in range(3)]
        path.append(
            [t + s / (2 * _STEP) + z / 5 for t, s, z in zip(path[-1], score, noise, strict=True)]
        )
    return path


def _columns(function: Callable[[list[Number]], list[Number]], at: list[Number]) -> mpmath.matrix:
    """A Jacobian by central differences, far finer than the digits that are asked for."""
    with mp.extradps(2 * mp.dps):
        h = mpmath.mpf(10) ** (-mp.dps // 3)
        found = mpmath.matrix(3, len(at))
        for j in range(len(at)):
            up, down = list(at), list(at)
            up[j], down[j] = up[j] + h, down[j] - h
            for i, (a, b) in enumerate(zip(function(up), function(down), strict=True)):
                found[i, j] = (a - b) / (2 * h)
        return found


def _size(matrix: mpmath.matrix) -> Number:
    return mpmath.mnorm(matrix, mpmath.inf)


def _remainder() -> tuple[Number, Number]:
    lam = [mpmath.mpf(1) / 2, -mpmath.mpf(1) / 3]
    path = _path(lam)
    first = _columns(lambda at: _path(at)[0], lam)
    last = _columns(lambda at: _path(at)[5], lam)
    stated, x, rest = first.copy(), mpmath.mpf(0), mpmath.mpf(0)
    for theta in path[:5]:
        curvature = _columns(lambda t: _score(lam, t), theta)
        mixed = _columns(lambda at, t=theta: _score(at, t), lam)  # type: ignore[misc]  # t is bound now
        stated += (curvature * first + mixed) / (2 * _STEP)
        x += _size(curvature) / (2 * _STEP)
        rest += _size(mixed) / (2 * _STEP)
    bound = (mpmath.exp(x) - 1 - x) * _size(first) + rest * (mpmath.exp(x) - 1)
    return _size(last - stated), bound


# ---------------------------------------------------------------- all of them


def _all() -> dict[tuple[str, str], TwoSides]:
    zero = _rational(0, 1)
    found = {
        ("eq-2", "mass of [-6, -5] against that of [-3, -2]"): TwoSides(
            _mass(lambda x: x**2 / 2, -6, -5), _mass(lambda x: x**2 / 2, -3, -2)
        ),
        ("eq-16", "remainder against its bound, m = 5"): TwoSides(
            lambda: _remainder()[0], lambda: _remainder()[1]
        ),
        ("fig-2", "the crossing is at a positive number of steps"): TwoSides(
            _rational(2, 1), _crossing
        ),
        ("fig-2", "fixed point one step before the crossing"): TwoSides(
            lambda: _fixed(149), lambda: mpmath.cos(_best())
        ),
        ("fig-2", "and one step after it"): TwoSides(
            lambda: mpmath.cos(_best()), lambda: _fixed(152)
        ),
        ("fig-2", "error of HPO-SGLD at mean(m) = 150 against 10 000"): TwoSides(
            _off(150), _off(10_000)
        ),
        ("text-synth-grid", "the optimum itself rounds to another λ"): TwoSides(
            lambda: mpmath.cos(_best())
        ),
        ("text-synth-optimum", "it solves the equation before squaring"): TwoSides(
            lambda: (
                4 * mpmath.cos(_best()) ** 2
                + mpmath.cos(_best())
                - 2
                - 2 * mpmath.sin(2 * _best()) / 2
            )
        ),
        ("text-synth-optimum", "λ*"): TwoSides(lambda: mpmath.cos(_best())),
        ("text-synth-optimum", "θ*"): TwoSides(lambda: mpmath.sin(_best())),
        ("text-synth-optimum", "F(λ*) against F(0)"): TwoSides(
            lambda: _reduced(_best()), lambda: _reduced(mpmath.pi / 2)
        ),
        ("text-synth-optimum", "F(λ*) against F(1)"): TwoSides(
            lambda: _reduced(_best()), lambda: _reduced(mpmath.mpf(0))
        ),
        ("text-drift", "the limit solves it on the circle"): TwoSides(zero),
        ("text-drift", "limit of λ"): TwoSides(lambda: mpmath.cos(_limit())),
        ("text-drift", "limit of θ"): TwoSides(lambda: mpmath.sin(_limit())),
        ("text-drift", "gap to the limit at a million steps"): TwoSides(
            _gap(10**6), _rational(1, 10**4)
        ),
        ("text-existence", "Z on [0, 1] at τ = 1"): TwoSides(_mass(_cubic, 0, 1)),
        ("text-existence", "mass of [-6, -5], where the box ends at 0"): TwoSides(
            zero, _mass(_cubic, 0, 1)
        ),
        ("text-rotation-angle", "the angle of a quarter turn, in radians"): TwoSides(
            lambda: 2 * mpmath.atan(1)
        ),
        ("text-rotation-angle", "degrees of the printed 1.04"): TwoSides(
            lambda: mpmath.degrees(mpmath.mpf(104) / 100)
        ),
        ("text-rotation-angle", "the printed 1.04 against a quarter turn"): TwoSides(
            _rational(104, 100), lambda: 2 * mpmath.atan(1)
        ),
        ("text-assumptions-2-3", "the smaller of the two errors at best"): TwoSides(_least_of_two),
        ("field-cg", "and after n = 5"): TwoSides(_cg_error(5), _rational(1, 10**40)),
        ("field-itd", "power of t in a tangent's error over q^t"): TwoSides(_power_of_t),
        ("field-posteriori", "one guess, least eigenvalue 3: error against the bound"): TwoSides(
            lambda: _guess()[0], lambda: _guess()[1] / 3
        ),
        ("field-posteriori", "and not below residual over the largest, 150"): TwoSides(
            lambda: _guess()[1] / 150, lambda: _guess()[0]
        ),
    }
    steps = (100, 1000, 10_000, 100_000, 1_000_000)
    for before, now in pairwise(steps):
        name = f"gap to the limit at mean(m) = {now}, γ = 0.005"
        found["text-drift", name] = TwoSides(_gap(now), _gap(before))
    for step in range(1, 5):
        name = f"error of CG after {step} steps, κ = 50"
        found["field-cg", name] = TwoSides(_cg_error(step), _cg_bound(step))
    for size, kappa in (("easy", 10), ("hard", 1000)):
        # (√κ - 1)/(√κ + 1) = exp(-2 artanh(1/√κ)).
        name = f"ρ_N at the printed iterations and the {size} condition number"
        found["text-warm-solve", name] = TwoSides(
            lambda kappa=kappa: 2 * mpmath.exp(-20 * mpmath.atanh(1 / mpmath.sqrt(kappa)))  # type: ignore[misc]  # bound now
        )
    below = "whether that is below 1, which no step at all gives"
    found["text-warm-solve", below] = found["text-warm-solve", name]
    for n in (1, 4, 100, 10_000):
        moment, bound = _third_moment(n), _fourth_moment_bound(n)
        found["field-es", f"E‖u‖³ against the bound, n = {n}"] = TwoSides(moment, bound)
        name = f"and that against the source's (n + 3)^(3/2), n = {n}"
        found["field-es", name] = TwoSides(bound, _loose_bound(n))
    for top, bottom in ((1, 2), (1, 10), (1, 1000)):
        name = f"a cubic inner loss, θ̂ - θ* = {top}/{bottom}"
        found["field-a-posteriori", name] = TwoSides(*_cubic_case(top, bottom))
    for T in (2, 5, 9):
        gap, away = _ridge(T)
        name = f"|inf f_T - inf f| against its bound, T = {T}"
        found["franceschi-convergence", name] = TwoSides(gap, lambda away=away: 2 * away())  # type: ignore[misc]  # bound now
        name = f"sup|w_T - w| against its bound, T = {T}"
        found["franceschi-convergence", name] = TwoSides(away, _rational(2, 2**T))
    return found


SECOND = _all()
"""By claim and check."""
