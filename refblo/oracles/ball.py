"""Ball arithmetic: truths with a certified error, sharing nothing with autograd, not even the losses.

The problem is taken from its statement in sympy, differentiated symbolically and run in the interval
arithmetic of python-flint's `arb`. The numbers of the run are the exact doubles of the floating-point
run: λ, γ, the noise factor √ε κ, the draws and the batches. So the answer is the derivative of the
very program that the estimators run, in exact arithmetic.

- unrolled, pathwise: the forward recursion s ← s − γ (H s + C), eq. (50), in balls; of another rule its
  formula in balls that carry tangents;
- implicit: θ* by Newton's method, enclosed by Krawczyk's test (Krawczyk 1969): with x the approximate
  root, Y ≈ H(x)⁻¹ and a box X around x, the box K = x − Y g(x) + (I − Y H(X))(X − x) inside X's
  interior proves that X holds exactly one stationary point and K holds it. H(X) is proved positive definite
  by its LDLᵀ factors. Then f_λ − f_θ H⁻¹ C on that enclosure.

Precision is doubled until the radius is small enough, so an answer is wide only if it is refused. The
interval recursion loses up to log₂(1 + γ‖H‖) bits a step, whatever the true stability of the chain.

Claims: eq-50, eq-51, field-implicit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from flint import arb, arb_mat, ctx
from torch import Tensor

from refblo.balls.derivatives import (
    Derivatives,
    column,
    decimal,
    differentiate,
    exact,
    norm_bound,
    symmetric,
    upper_float,
)
from refblo.balls.graph import Balls
from refblo.balls.minimiser import enclose_minimiser
from refblo.balls.rule_run import RuleRun
from refblo.chain import Langevin, Schedule
from refblo.errors import ArgumentError, DivergenceError, OracleError, require
from refblo.noise import SEED_ZERO, Draws, Stream
from refblo.oracles.ball_gibbs import gibbs, gibbs_form
from refblo.oracles.protocol import (
    PROGRAMS,
    check_applies,
    gibbs_temperature,
    is_deterministic,
    program_schedule,
)
from refblo.problem import BilevelProblem
from refblo.problems.case import Case
from refblo.problems.symbolic import SymbolicProblem
from refblo.rules.rule import Rule
from refblo.types import Batch, ErrorKind, Estimand, Lam, Truth

Move = Callable[[Balls, arb_mat, Balls, arb_mat, int], tuple[Balls, arb_mat]]
"""(θ, dθ/dλ, ∂_θ L_T, its derivative along the run, step) ↦ the next θ and dθ/dλ, without noise."""

_FIRST_PRECISION = 128
_HUGE = math.ldexp(1.0, 1023)


@final
@dataclass(frozen=True)
class BallResult:
    """A hypergradient as intervals.

    Attributes:
        midpoints: decimal strings, p of them.
        radii: decimal strings: the truth lies within midpoint ± radius, entry by entry.
        precision: bits of the arithmetic.
    """

    midpoints: tuple[str, ...]
    radii: tuple[str, ...]
    precision: int


@final
@dataclass(frozen=True)
class Ball:
    """Interval arithmetic on the symbolic statement of a problem.

    Args:
        bits: the answer is refined until its radius is below 2^−bits of its norm (or of 2^−100, where
            the norm is smaller than that).
        max_precision: bits of arithmetic at which the oracle gives up.
        rule: the inner optimiser of the program, in place of the case's dynamics; its functions of λ are
            called with balls, see `refblo.balls.duals`.

    Raises:
        ArgumentError: if one is not positive.
    """

    bits: int = 64
    max_precision: int = 16384
    rule: Rule | None = None
    name: str = field(default="ball arithmetic", kw_only=True)

    def __post_init__(self) -> None:
        require(self.bits >= 1, "bits", "be at least 1", self.bits, "keep the default")
        least = self.max_precision >= _FIRST_PRECISION
        remedy = "keep the default"
        require(
            least, "max_precision", f"be at least {_FIRST_PRECISION}", self.max_precision, remedy
        )

    def applies(self, case: Case, estimand: Estimand) -> bool:
        """Where the case is stated in sympy; only programs may have batches, or another rule.

        The Gibbs truth is there for losses that are quadratic in θ, or polynomial with n = 1.
        """
        if case.symbolic is None or (self.rule is not None and estimand not in PROGRAMS):
            return False
        if estimand in PROGRAMS:
            return True
        if not is_deterministic(case.problem):
            return False
        if estimand is Estimand.GIBBS:
            return gibbs_temperature(case.dynamics) > 0 and gibbs_form(case.symbolic) is not None
        return True

    def truth(self, case: Case, estimand: Estimand, draws: Draws = SEED_ZERO) -> Truth:
        """The truth rounded to float64, shape (p,); the certified error includes that rounding.

        Raises:
            ArgumentError: if the oracle does not apply, or the two statements differ in sizes.
            DivergenceError: if the chain leaves the range of float64.
            OracleError: if no enclosure is found: see the message.
        """
        balls, precision = self._enclosure(case, estimand, draws)
        return as_truth(balls, precision, estimand, self.name)

    def digits(
        self, case: Case, estimand: Estimand, draws: Draws = SEED_ZERO, digits: int = 30
    ) -> BallResult:
        """The truth as decimal strings with rigorous radii, about `digits` digits of it.

        Raises:
            ArgumentError, DivergenceError, OracleError: as `truth`.
        """
        require(digits >= 1, "digits", "be at least 1", digits, "ask for at least one digit")
        bits = max(self.bits, math.ceil(digits * math.log2(10)) + 4)
        needed = Ball(bits, self.max_precision, self.rule)
        balls, precision = needed._enclosure(case, estimand, draws)
        with ctx.workprec(precision):
            strings = [decimal(ball, digits) for ball in balls]
        midpoints, radii = zip(*strings, strict=True)
        return BallResult(midpoints, radii, precision)

    def _enclosure(self, case: Case, estimand: Estimand, draws: Draws) -> tuple[Balls, int]:
        check_applies(self, case, estimand)
        symbolic, problem, lam = case.symbolic, case.problem, case.lam.detach()
        if symbolic is None:
            raise ArgumentError("case.symbolic must be given, got None; state the problem in sympy")
        _check_sizes(symbolic, problem, lam)
        derivatives = differentiate(symbolic)
        if estimand is Estimand.IMPLICIT:
            return refine(lambda: _implicit(derivatives, lam), self.bits, self.max_precision)
        form = gibbs_form(symbolic)
        if estimand is Estimand.GIBBS and form is not None:
            at_lam, temperature = exact_vector(lam), exact(gibbs_temperature(case.dynamics))
            return refine(lambda: gibbs(form, at_lam, temperature), self.bits, self.max_precision)
        schedule = program_schedule(case, estimand)
        run = _Run(derivatives, problem, lam, self.rule or case.dynamics, schedule, draws)
        return refine(run.hypergradient, self.bits, self.max_precision)


def refine(computation: Callable[[], Balls], bits: int, max_precision: int) -> tuple[Balls, int]:
    """The balls at the first precision, 128 bits or a double of it, that makes them small enough.

    Raises:
        OracleError: if none up to `max_precision` does.
    """
    precision = _FIRST_PRECISION
    failure = "the radius stayed too large"
    while precision <= max_precision:
        with ctx.workprec(precision):
            try:
                balls = computation()
            except OracleError as error:
                failure = str(error)
            else:
                radius = norm_bound([ball.rad() for ball in balls])
                size = norm_bound([ball.mid() for ball in balls]).max(arb(2) ** -100)
                if radius.is_finite() and radius < size * arb(2) ** -bits:
                    return balls, precision
        precision *= 2
    raise OracleError(
        f"max_precision must suffice for {bits} bits of the answer, got {max_precision}: {failure}; raise it "
        "if the radius was too large, else look at the problem"
    )


def as_truth(balls: Balls, precision: int, estimand: Estimand, oracle: str) -> Truth:
    """The balls rounded to float64, with a rigorous bound on the norm of the error."""
    rounded = [float(ball.mid()) for ball in balls]
    with ctx.workprec(precision):
        differences = [ball - exact(number) for ball, number in zip(balls, rounded, strict=True)]
        error = upper_float(norm_bound(differences))
    value = torch.tensor(rounded, dtype=torch.float64)
    return Truth(value, error, ErrorKind.CERTIFIED, estimand, oracle)


def exact_vector(tensor: Tensor) -> Balls:
    """The entries of a tensor, exactly."""
    return [exact(number) for number in tensor.detach().cpu().double().flatten().tolist()]


@final
@dataclass(frozen=True, eq=False)
class _Run:
    """The forward recursion of one program."""

    derivatives: Derivatives
    problem: BilevelProblem
    lam: Lam
    dynamics: Langevin | Rule
    schedule: Schedule
    draws: Draws

    def hypergradient(self) -> Balls:
        """(1/M) Σ_{m>B} (f_λ + f_θ s_m) at the current precision."""
        p, n = self.derivatives.p, self.derivatives.n
        inner, outer = self.derivatives.inner.compile(), self.derivatives.outer.compile()
        lam = exact_vector(self.lam)
        move = self._moves(lam, n)
        start = self.derivatives.initial.compile()(lam)
        theta, tangent = start[:n], arb_mat(n, p, start[n:])
        total = arb_mat(1, p)
        for t in range(1, self.schedule.steps + 1):
            parts = inner([*lam, *theta, *self._batch(Stream.INNER_BATCH, t - 1)])
            hessian = symmetric(parts[n : n + n * (n + 1) // 2], n)
            mixed = arb_mat(n, p, parts[n + n * (n + 1) // 2 :])
            change = hessian * tangent + mixed
            theta, tangent = move(theta, tangent, parts[:n], change, t - 1)
            theta = [at + kick for at, kick in zip(theta, self._noise(t - 1), strict=True)]
            if any(entry.abs_lower() > _HUGE for entry in theta):
                message = (
                    f"step_size must keep the inner run finite, got {self.dynamics.step_size}: the chain "
                    f"left the range of float64 at step {t}; lower it"
                )
                raise DivergenceError(message, t)
            if self.schedule.sampled(t):
                slopes = outer([*lam, *theta, *self._batch(Stream.OUTER_BATCH, t)])
                total = total + arb_mat(1, p, slopes[:p]) + arb_mat(1, n, slopes[p:]) * tangent
        return [entry / self.schedule.samples for entry in total.entries()]

    def _moves(self, lam: Balls, n: int) -> "Move":
        """The transition without its noise."""
        if isinstance(self.dynamics, Rule):
            return RuleRun(self.dynamics, lam, n).step
        gamma = exact(self.dynamics.step_size)

        def move(
            theta: Balls, tangent: arb_mat, gradient: Balls, change: arb_mat, _: int
        ) -> tuple[Balls, arb_mat]:
            moved = [at - gamma * slope for at, slope in zip(theta, gradient, strict=True)]
            return moved, tangent - change * gamma

        return move

    def _noise(self, step: int) -> Balls:
        n = self.derivatives.n
        if self.dynamics.noise == 0:
            return [arb(0)] * n
        like = torch.empty(n, dtype=torch.float64)
        factor = exact(self.dynamics.noise)
        return [factor * z for z in exact_vector(self.draws.normal(Stream.LANGEVIN, step, like))]

    def _batch(self, stream: Stream, step: int) -> Balls:
        source = (
            self.problem.inner_batches
            if stream is Stream.INNER_BATCH
            else self.problem.outer_batches
        )
        batch: Batch = source(self.draws, stream, step)
        return [] if batch is None else exact_vector(batch)


def _implicit(derivatives: Derivatives, lam: Lam) -> Balls:
    """f_λ − f_θ H⁻¹ C on an enclosure of θ*, at the current precision."""
    p, n = derivatives.p, derivatives.n
    at_lam = exact_vector(lam)
    theta = enclose_minimiser(derivatives, at_lam)
    parts = derivatives.inner.compile()([*at_lam, *theta])
    hessian = symmetric(parts[n : n + n * (n + 1) // 2], n)
    mixed = arb_mat(n, p, parts[n + n * (n + 1) // 2 :])
    slopes = derivatives.outer.compile()([*at_lam, *theta])
    try:
        adjoint = hessian.solve(column(slopes[p:]))
    except ZeroDivisionError as error:
        message = "the inner Hessian could not be proved invertible on the enclosure of theta*"
        raise OracleError(message) from error
    answer = arb_mat(1, p, slopes[:p]) - adjoint.transpose() * mixed
    return answer.entries()


def _check_sizes(symbolic: SymbolicProblem, problem: BilevelProblem, lam: Lam) -> None:
    """The two statements of the problem must be about vectors of the same lengths."""
    theta = problem.initial(lam)
    sizes: Sequence[tuple[str, int, int]] = (
        ("lam", len(symbolic.lam), lam.numel()),
        ("theta", len(symbolic.theta), theta.numel()),
        ("initial", len(symbolic.initial), theta.numel()),
        ("inner_batch", len(symbolic.inner_batch), _batch_size(problem, Stream.INNER_BATCH)),
        ("outer_batch", len(symbolic.outer_batch), _batch_size(problem, Stream.OUTER_BATCH)),
    )
    for name, got, expected in sizes:
        require(
            got == expected,
            f"symbolic.{name}",
            f"have as many entries as the tensor problem has ({expected})",
            got,
            "state both with the same sizes",
        )


def _batch_size(problem: BilevelProblem, stream: Stream) -> int:
    inner = stream is Stream.INNER_BATCH
    batch = (problem.inner_batches if inner else problem.outer_batches)(SEED_ZERO, stream, 1)
    return 0 if batch is None else batch.numel()
