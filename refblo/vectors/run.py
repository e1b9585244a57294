"""A run and its linearisation in ball arithmetic: what right answers and wrong ones are put together from.

With J_t = I − γH and G_t = −γC at θ^t, a slope a_m = ∂_θ f and a direct term d_m = ∂_λ f at every sample m
of weight w_m, the right answer is Σ_m w_m d_m + Σ_t α_{t+1}·G_t + α_0·dθ⁰/dλ with
α_t = α_{t+1}·J_t + w_t a_t.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from flint import arb, arb_mat

from refblo.balls.derivatives import Derivatives, differentiate, exact, symmetric
from refblo.balls.graph import Balls
from refblo.vectors.problems import Posed, symbolic

Row = arb_mat
"""One row: an element of λ's or θ's dual."""

Pull = Callable[[int, Row], tuple[Row, Row]]
"""(t, v) ↦ (v·J_t, v·G_t)."""


@final
@dataclass(frozen=True, eq=False)
class Model:
    """A problem's derivatives as functions of balls, at the current precision.

    Attributes:
        posed: the problem.
        derivatives: of its statement.
        lam: λ, exactly.
        gamma: γ, exactly.
    """

    posed: Posed
    derivatives: Derivatives
    lam: Balls
    gamma: arb

    @staticmethod
    def of(posed: Posed) -> "Model":
        """From its statement."""
        found = differentiate(symbolic(posed))
        lam = [exact(float(entry)) for entry in posed.lam]
        return Model(posed, found, lam, exact(posed.settings.step_size))

    @property
    def n(self) -> int:
        """Entries of θ."""
        return self.derivatives.n

    @property
    def p(self) -> int:
        """Entries of λ."""
        return self.derivatives.p

    def start(self) -> tuple[Balls, arb_mat]:
        """θ⁰ and dθ⁰/dλ."""
        parts = self.derivatives.initial.compile()(self.lam)
        return parts[: self.n], arb_mat(self.n, self.p, parts[self.n :])

    def inner(self, theta: Balls, batch: Sequence[int] | None) -> tuple[Balls, arb_mat, arb_mat]:
        """∂_θ L_T, H and C at a point."""
        weights = self._weights("features", batch, self.posed.inner_batches is not None)
        parts = self.derivatives.inner.compile()([*self.lam, *theta, *weights])
        size = self.n * (self.n + 1) // 2
        mixed = arb_mat(self.n, self.p, parts[self.n + size :])
        return parts[: self.n], symmetric(parts[self.n : self.n + size], self.n), mixed

    def linear(self, theta: Balls, t: int) -> tuple[arb_mat, arb_mat]:
        """(J, G) of transition t as if it were at this point."""
        _, hessian, mixed = self.inner(theta, self.inner_batch(t))
        return _identity(self.n) - hessian * self.gamma, mixed * -self.gamma

    def inner_batch(self, t: int) -> list[int] | None:
        """The examples that transition t sees."""
        batches = self.posed.inner_batches
        return None if batches is None else [int(i) for i in batches[t]]

    def outer(self, theta: Balls, batch: Sequence[int] | None) -> tuple[Row, Row]:
        """∂_λ f and ∂_θ f at a point."""
        weights = self._weights("held_features", batch, self.posed.outer_batches is not None)
        parts = self.derivatives.outer.compile()([*self.lam, *theta, *weights])
        return arb_mat(1, self.p, parts[: self.p]), arb_mat(1, self.n, parts[self.p :])

    def _weights(self, array: str, batch: Sequence[int] | None, batched: bool) -> Balls:
        """The examples' weights, for a loss that is stated with them."""
        if not batched:
            return []
        count = len(self.posed.arrays[array])
        chosen = range(count) if batch is None else batch
        return [arb(1) / len(chosen) if i in chosen else arb(0) for i in range(count)]


@final
@dataclass(frozen=True, eq=False)
class LinearisedRun:
    """The linearisation along a run.

    Attributes:
        model: what is run.
        states: θ⁰ … θ^T.
        steps: (J_t, G_t) for each transition.
        moved: dθ⁰/dλ, shape (n, p).
        weights: w_m of every iterate, w_0 = 0.
        seen: (d_m, a_m) at every iterate.
    """

    model: Model
    states: tuple[Balls, ...]
    steps: tuple[tuple[arb_mat, arb_mat], ...]
    moved: arb_mat
    weights: tuple[arb, ...]
    seen: tuple[tuple[Row, Row], ...]

    @property
    def samples(self) -> list[int]:
        """The iterates that count."""
        return [m for m, weight in enumerate(self.weights) if weight > 0]

    def pull(self, t: int, v: Row) -> tuple[Row, Row]:
        """(v·J_t, v·G_t)."""
        jacobian, mixed = self.steps[t]
        return v * jacobian, v * mixed

    def mean(self, rows: Sequence[Row]) -> Row:
        """Σ_m w_m r_m for a row at every iterate."""
        total = rows[0] * self.weights[0]
        for weight, row in zip(self.weights[1:], rows[1:], strict=True):
            total = total + row * weight
        return total

    @property
    def direct(self) -> Row:
        """Σ_m w_m d_m."""
        return self.mean([direct for direct, _ in self.seen])

    @property
    def slopes(self) -> list[Row]:
        """a_m at every iterate."""
        return [slope for _, slope in self.seen]


@final
@dataclass(frozen=True, eq=False)
class AdjointSweep:
    """An adjoint sweep: what each transition and the start contribute.

    Attributes:
        terms: α_{t+1}·G_t for each transition.
        start: α_0·dθ⁰/dλ.
    """

    terms: tuple[Row, ...]
    start: Row

    @property
    def total(self) -> Row:
        """The indirect term."""
        return sum(self.terms, self.start)


def _identity(n: int) -> arb_mat:
    return arb_mat(n, n, [int(i == j) for i in range(n) for j in range(n)])


def run(
    model: Model,
    *,
    last_only: bool,
    steps: int | None = None,
    noisy: bool = True,
    batched: bool = True,
) -> LinearisedRun:
    """Run the inner problem and linearise it.

    Args:
        model: the problem.
        last_only: whether the last iterate alone counts (unrolled), or the mean over the samples (pathwise).
        steps: T, if it is not to be the problem's own.
        noisy: False leaves the noise out, which is a mistake.
        batched: False shows the inner loss all the data at every step, which is one too.
    """
    posed, settings = model.posed, model.posed.settings
    count = settings.steps if steps is None else steps
    theta, moved = model.start()
    states, linear = [theta], []
    for t in range(count):
        gradient, hessian, mixed = model.inner(theta, model.inner_batch(t) if batched else None)
        linear.append((_identity(model.n) - hessian * model.gamma, mixed * -model.gamma))
        theta = [at - model.gamma * slope for at, slope in zip(theta, gradient, strict=True)]
        if posed.noise is not None and noisy:
            kicks = [exact(float(entry)) for entry in posed.noise[t]]
            theta = [at + kick for at, kick in zip(theta, kicks, strict=True)]
        states.append(theta)
    first = count if last_only else count - settings.samples + 1
    number = count - first + 1
    weights = [arb(1) / number if m >= first else arb(0) for m in range(count + 1)]
    seen = [
        model.outer(at, None if posed.outer_batches is None else posed.outer_batches[m].tolist())
        for m, at in enumerate(states)
    ]
    return LinearisedRun(model, tuple(states), tuple(linear), moved, tuple(weights), tuple(seen))


def sweep(found: LinearisedRun, pull: Pull | None = None) -> AdjointSweep:
    """The adjoint sweep, or with `pull` in place of the transitions' own one with a mistake in it."""
    pull = found.pull if pull is None else pull
    alpha = arb_mat(1, found.model.n)
    terms: list[Row] = []
    for t in range(len(found.steps), 0, -1):
        alpha = alpha + found.slopes[t] * found.weights[t]
        alpha, term = pull(t - 1, alpha)
        terms.append(term)
    return AdjointSweep(tuple(reversed(terms)), alpha * found.moved)
