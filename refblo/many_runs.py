"""Many runs of one problem at once: other draws, or other λ, at little more than the price of one.

On small problems a step is mostly calls, and the calls are the same for every run. The runs' λ and θ are laid
end to end, the losses added; every estimator then works on all of them, because no derivative leads from
one run to another.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from refblo.errors import require_integer
from refblo.noise import Draws
from refblo.problem import (
    Batches,
    BilevelProblem,
    Composed,
    FixedInitial,
    Initial,
    LamInitial,
    RegulariserProducts,
    Separable,
)
from refblo.types import Batch, Loss

APART = 2**40
"""How far apart the seeds are that the runs take their batches from."""


def side_by_side(problem: BilevelProblem, runs: int) -> BilevelProblem:
    """So many runs of a problem as one problem, whose λ and θ are theirs, one after another.

    The hypergradient of the whole, reshaped to (runs, p), holds those of the runs: by FMD, RMD, HPO-SGLD,
    IFT-Neumann and every method that treats the entries of θ alike. (Conjugate gradients do not: they
    choose one step length for all runs, so that a fixed number of iterations gives something else.) If one
    run diverges, there is no hypergradient of the whole.

    Each run has draws of its own. Those of the first are the problem's; run number i takes its batches
    from `Draws(seed + i · 2^40)` and its noise from the numbers that follow those of the runs before it.

    Args:
        problem: the bilevel problem, whose losses torch.func.vmap can map: no `if` on a tensor, no `.item()`.
        runs: how many, at least 1.

    Raises:
        ArgumentError: if `runs` is less than 1.

    Example:
        >>> from refblo.chain import Langevin, Schedule
        >>> from refblo.estimators import HPOSGLD
        >>> from refblo.problems import build
        >>> case = build("quadratic")
        >>> method = HPOSGLD(Langevin(0.05, noise_scale=1.0), Schedule(5, 5))
        >>> many = method.estimate(side_by_side(case.problem, 8), case.lam.repeat(8))
        >>> each = many.value.view(8, -1)
        >>> alone = method.estimate(case.problem, case.lam)
        >>> bool(torch.allclose(each[0], alone.value, rtol=1e-12))
        True
    """
    require_integer("runs", runs, 1, "run the problem at least once")
    rows = _Rows(runs)
    return replace(
        problem,
        inner=rows.inner(problem.inner),
        outer=rows.loss(problem.outer),
        initial=rows.initial(problem.initial),
        inner_batches=_Each(problem.inner_batches, runs),
        outer_batches=_Each(problem.outer_batches, runs),
        name=f"{problem.name}, {runs} runs",
    )


@final
@dataclass(frozen=True)
class _Each(Batches):
    """The runs' batches, stacked."""

    batches: Batches
    runs: int

    def __call__(self, draws: Draws, stream: int, step: int) -> Batch:
        """One batch for each run, or none at all."""
        seeds = [(draws.seed + run * APART) % 2**63 for run in range(self.runs)]
        each = [self.batches(Draws(seed), stream, step) for seed in seeds]
        drawn = [batch for batch in each if batch is not None]
        return torch.stack(drawn) if drawn else None


@final
@dataclass(frozen=True)
class _Rows:
    """Functions of one run's vectors as functions of all runs' vectors, end to end."""

    runs: int

    def _map(self, function: Callable[..., Tensor], *vectors: Tensor, batch: Batch) -> Tensor:
        rows = [vector.reshape(self.runs, -1) for vector in vectors]
        return self._mapped(function, *rows, batch=batch)

    def _mapped(self, function: Callable[..., Tensor], *rows: Tensor, batch: Batch) -> Tensor:
        dims = (*(0 for _ in rows), None if batch is None else 0)
        found: Tensor = torch.func.vmap(function, dims)(*rows, batch)
        return found

    def loss(self, loss: Loss) -> Loss:
        def total(lam: Tensor, theta: Tensor, batch: Batch) -> Tensor:
            return self._map(loss, lam, theta, batch=batch).sum()

        return total

    def inner(self, inner: Loss | Separable | Composed) -> Loss | Separable | Composed:
        if isinstance(inner, Separable):
            return self._separable(inner)
        if isinstance(inner, Composed):
            return self._composed(inner)
        return self.loss(inner)

    def _separable(self, inner: Separable) -> Separable:
        def data(theta: Tensor, batch: Batch) -> Tensor:
            return self._map(inner.data, theta, batch=batch).sum()

        def regulariser(lam: Tensor, theta: Tensor) -> Tensor:
            return self._free(inner.regulariser)(lam, theta).sum()

        products = inner.products and RegulariserProducts(
            self._free(inner.products.gradient), self._free(inner.products.mixed)
        )
        return Separable(data, regulariser, products)

    def _free(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A function that takes no batch."""

        def each(*vectors: Tensor) -> Tensor:
            def without(*given: Tensor | None) -> Tensor:
                return function(*given[:-1])

            return self._map(without, *vectors, batch=None).reshape(-1)

        return each

    def _composed(self, inner: Composed) -> Composed:
        def outputs(theta: Tensor, batch: Batch) -> Tensor:
            return self._map(inner.outputs, theta, batch=batch)

        def loss(lam: Tensor, outputs: Tensor, batch: Batch) -> Tensor:
            lams = lam.reshape(self.runs, -1)
            return self._mapped(inner.loss, lams, outputs, batch=batch).sum()

        return Composed(outputs, loss)

    def initial(self, initial: Initial) -> Initial:
        if isinstance(initial, FixedInitial):
            return FixedInitial(initial.theta.repeat(self.runs))
        # Row by row: nothing says that it can be mapped, and it is computed once a run.
        vjp, jvp = initial.vjp, initial.jvp
        return LamInitial(
            self._row_by_row(initial.function),
            vjp and self._row_by_row(vjp),
            jvp and self._row_by_row(jvp),
        )

    def _row_by_row(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def each(*vectors: Tensor) -> Tensor:
            rows = zip(*(vector.reshape(self.runs, -1) for vector in vectors), strict=True)
            return torch.cat([function(*row) for row in rows])

        return each
