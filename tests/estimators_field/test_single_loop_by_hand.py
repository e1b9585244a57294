"""The warm-started methods on noisy batches, against their published steps in numpy: 1 s of the quick suite.

On full batches most of the steps do not matter: averages are the directions themselves, θ is at its minimum.
Here every batch differs, inner and outer, θ starts away from θ*, λ moves between the calls, and γ ≠ α.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from refblo.chain import Langevin
from refblo.contracts.selection import array
from refblo.estimators.amigo import AmIGO
from refblo.estimators.fsla import FSLA
from refblo.estimators.mrbo import MRBO
from refblo.estimators.soba import SOBA
from refblo.estimators.stocbio import StocBiO
from refblo.estimators.vrbo import VRBO
from refblo.estimators.warm import WarmEstimator
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial, Minibatches
from refblo.types import Batch

Vector = NDArray[np.float64]

N, P, COUNT, SIZE = 3, 2, 8, 2
GAMMA, ALPHA, ETA = 0.07, 0.11, 0.3
RNG = np.random.default_rng(3)
ROOTS = RNG.normal(size=(COUNT, N, N))
HESSIANS = ROOTS @ ROOTS.transpose(0, 2, 1) / N + 0.5 * np.eye(N)
COUPLINGS = RNG.normal(size=(COUNT, N, P))
TARGETS = RNG.normal(size=(COUNT, N))
START = np.array([0.5, -1.0, 0.8])


def _problem() -> BilevelProblem:
    """Inner ½θ'Hθ - θ'Kλ, outer ½‖θ - t‖² + ½‖λ‖², with H and K, and t, means over a batch."""
    hessians, couplings, targets = map(torch.as_tensor, (HESSIANS, COUPLINGS, TARGETS))

    def inner(lam: torch.Tensor, theta: torch.Tensor, batch: Batch) -> torch.Tensor:
        assert batch is not None
        curved = theta @ hessians[batch].mean(dim=0) @ theta / 2
        return curved - theta @ couplings[batch].mean(dim=0) @ lam

    def outer(lam: torch.Tensor, theta: torch.Tensor, batch: Batch) -> torch.Tensor:
        assert batch is not None
        return (theta - targets[batch].mean(dim=0)).square().sum() / 2 + lam.square().sum() / 2

    batches = Minibatches(COUNT, SIZE)
    return BilevelProblem(inner, outer, FixedInitial(torch.as_tensor(START)), batches, batches)


PROBLEM = _problem()


@final
@dataclass
class ByHand:
    """The derivatives on one call's batches, and what a method carries on.

    Attributes:
        lam: λ of this call.
        theta: θ.
        q: q.
        draws: of this call.
        memory: of the method.
    """

    lam: Vector
    theta: Vector
    q: Vector
    draws: Draws
    memory: dict[str, Vector]

    def mean(self, what: Vector, stream: Stream, number: int) -> Vector:
        """The mean over one batch of the call."""
        source = PROBLEM.inner_batches if stream is Stream.INNER_BATCH else PROBLEM.outer_batches
        batch = source(self.draws, stream, number)
        assert batch is not None
        found: Vector = what[batch.numpy()].mean(axis=0)
        return found

    def hessian(self, k: int) -> Vector:
        """H on inner batch k."""
        return self.mean(HESSIANS, Stream.INNER_BATCH, k)

    def coupling(self, k: int) -> Vector:
        """K on inner batch k; C = -K."""
        return self.mean(COUPLINGS, Stream.INNER_BATCH, k)

    def slope(self, theta: Vector, k: int) -> Vector:
        """f_θ on outer batch k."""
        return theta - self.mean(TARGETS, Stream.OUTER_BATCH, k)

    def gradient(self, lam: Vector, theta: Vector, k: int) -> Vector:
        """∂_θ L_T on inner batch k."""
        return self.hessian(k) @ theta - self.coupling(k) @ lam

    def series(
        self, lam: Vector, theta: Vector, terms: int, first: int, outer: int
    ) -> tuple[Vector, Vector]:
        """D_θ on batch `first`, and λ + K'q with q the series on the next ones, K on the last."""
        term = total = self.slope(theta, outer)
        for k in range(1, terms):
            term = term - ALPHA * self.hessian(first + k) @ term
            total = total + term
        value = lam + self.coupling(first + terms).T @ (ALPHA * total)
        return self.gradient(lam, theta, first), value


def soba(at: ByHand) -> Vector:
    value = at.lam
    for k in range(3):
        value = at.lam + at.coupling(k).T @ at.q
        moved = at.theta - GAMMA * at.gradient(at.lam, at.theta, k)
        at.q = at.q - ALPHA * (at.hessian(k) @ at.q - at.slope(at.theta, k))
        at.theta = moved
    return value


def fsla(at: ByHand) -> Vector:
    value = at.lam + at.coupling(0).T @ at.q
    if at.memory:
        before = at.memory["lam"] + at.coupling(0).T @ at.memory["q"]
        value = value + (1 - ETA) * (at.memory["average"] - before)
    at.memory = {"lam": at.lam, "q": at.q, "average": value}
    moved = at.theta - GAMMA * at.gradient(at.lam, at.theta, 0)
    at.q = at.q - ALPHA * (at.hessian(0) @ at.q - at.slope(at.theta, 0))
    at.theta = moved
    return value


def stocbio(at: ByHand) -> Vector:
    for k in range(2):
        at.theta = at.theta - GAMMA * at.gradient(at.lam, at.theta, k)
    return at.series(at.lam, at.theta, 4, 2, 2)[1]


def mrbo(at: ByHand) -> Vector:
    inner, value = at.series(at.lam, at.theta, 4, 0, 0)
    if at.memory:
        old = at.series(at.memory["lam"], at.memory["theta"], 4, 0, 0)
        inner = inner + (1 - ETA) * (at.memory["inner"] - old[0])
        value = value + (1 - ETA) * (at.memory["outer"] - old[1])
    at.memory = {"lam": at.lam, "theta": at.theta, "inner": inner, "outer": value}
    at.theta = at.theta - GAMMA * inner
    return value


def vrbo(at: ByHand) -> Vector:
    """K = 4, two inner steps, a refreshment from two batches at every second call."""

    def on(lam: Vector, theta: Vector, number: int) -> tuple[Vector, Vector]:
        return at.series(lam, theta, 4, 5 * number, number)

    inner: Vector
    value: Vector
    if not at.memory or at.memory["calls"][0] % 2 == 0:
        both = [on(at.lam, at.theta, number) for number in (0, 1)]
        inner, value = (sum(parts) / 2 for parts in zip(*both, strict=True))
    else:
        new, old = on(at.lam, at.theta, 2), on(at.memory["lam"], at.memory["theta"], 2)
        inner = at.memory["inner"] + new[0] - old[0]
        value = at.memory["outer"] + new[1] - old[1]
    for number in (3, 4):
        moved = at.theta - GAMMA * inner
        new, old = on(at.lam, moved, number), on(at.lam, at.theta, number)
        inner, value, at.theta = inner + new[0] - old[0], value + new[1] - old[1], moved
    calls = at.memory["calls"] + 1 if at.memory else np.ones(1)
    at.memory = {
        "lam": at.lam, "theta": at.theta, "inner": inner, "outer": value, "calls": calls
    }  # fmt: skip
    return value


def amigo(at: ByHand) -> Vector:
    for k in range(3):
        at.theta = at.theta - GAMMA * at.gradient(at.lam, at.theta, k)
    slope = at.slope(at.theta, 3)
    for i in range(2):
        at.q = at.q - ALPHA * (at.hessian(3 + i) @ at.q - slope)
    return at.lam + at.coupling(5).T @ at.q


METHODS: list[tuple[WarmEstimator, Callable[[ByHand], Vector]]] = [
    (SOBA(GAMMA, ALPHA, steps=3), soba),
    (FSLA(GAMMA, ALPHA, ETA), fsla),
    (StocBiO(GAMMA, ALPHA, 4, steps=2), stocbio),
    (MRBO(GAMMA, ALPHA, 4, ETA), mrbo),
    (VRBO(GAMMA, ALPHA, 4, steps=2, period=2, refresh=2), vrbo),
    (AmIGO(Langevin(GAMMA), 3, 2, ALPHA), amigo),
]


@pytest.mark.parametrize(("method", "by_hand"), METHODS, ids=lambda each: getattr(each, "name", ""))
def test_three_calls_are_the_published_steps(
    method: WarmEstimator, by_hand: Callable[[ByHand], Vector]
) -> None:
    lam = np.array([0.4, -0.7])
    carried = method.begin(PROBLEM, torch.as_tensor(lam))
    at = ByHand(lam, START, np.zeros(N), Draws(0), {})
    for call in range(3):
        at.lam, at.draws = lam, Draws(call)
        result, carried = method.advance(PROBLEM, torch.as_tensor(lam), carried, at.draws)
        expected = by_hand(at)
        # Some hundred roundings on numbers of order one.
        np.testing.assert_allclose(array(result.value), expected, rtol=0, atol=1e-13)
        np.testing.assert_allclose(carried.theta.numpy(), at.theta, rtol=0, atol=1e-13)
        lam = lam - 0.1 * expected
