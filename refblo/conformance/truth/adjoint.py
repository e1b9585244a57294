"""Plain reverse mode: one adjoint sweep along the run, and replicas of it under random roundings.

α_T = 0, α_t ← α_{t+1}·∂_zΦ_t + w_t ∂_z f_t, and the hypergradient's indirect part is
Σ_t α_{t+1}·∂_λΦ_t + α_0·dz⁰/dλ, its direct part Σ_m w_m ∂_λ f_m. This is how most people compute the
derivative themselves, so it is no truth of its own: differences have to confirm it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.conformance.truth.guard import arithmetic
from refblo.conformance.truth.program import Program, leaf
from refblo.conformance.truth.promotion import Arithmetic
from refblo.conformance.truth.tangent import Parts
from refblo.derivatives.rounding import Roundings
from refblo.noise import Draws

_BANKS = (
    2**20
)  # where the numbers of the sequences of roundings start, apart from all other draws of roundings
_KEPT_ENTRIES = 2**22  # of all states together, up to which graphs are kept instead of made again


@final
@dataclass(frozen=True, eq=False)
class Adjoint:
    """A hypergradient by reverse mode.

    Attributes:
        direct: Σ_m w_m ∂_λ f_m, shape (p,).
        indirect: the rest, shape (p,).
        objective: the outer objective.
    """

    direct: Float[Tensor, " p"]
    indirect: Float[Tensor, " p"]
    objective: float


def adjoint(program: Program, noise: Roundings | None = None) -> Adjoint:
    """One sweep; with noise, every operation is rounded at random.

    Raises:
        Exception: whatever torch raises where something cannot be differentiated twice.
    """
    if noise is None:
        return _sweep(program, None)
    with arithmetic(Arithmetic(program.promotes, noise)):
        return _sweep(program, noise)


Way = Callable[[Program, Roundings | None], Adjoint]
"""A way to a program's hypergradient, under random roundings where they are given."""


def replicated(
    program: Program, draws: Draws, ulp: float, count: int, way: Way = adjoint
) -> list[Adjoint]:
    """Runs with random roundings of the given size in every operation, the losses' own included."""

    def one(number: int, *, inward: bool) -> Adjoint:
        return way(program, Roundings(draws, _BANKS + number, ulp, inward=inward))

    try:
        return [one(number, inward=False) for number in range(count)]
    except Exception:  # an operation that refuses what is above 1, such as a cross-entropy
        return [one(number, inward=True) for number in range(count)]


def along(sweeps: Sequence[Adjoint], directions: Float[Tensor, "p k"]) -> Parts:
    """The derivatives along directions, a row a sweep."""
    direct = torch.stack([sweep.direct @ directions for sweep in sweeps])
    indirect = torch.stack([sweep.indirect @ directions for sweep in sweeps])
    return Parts(direct, indirect)


@torch.enable_grad()
def _sweep(program: Program, noise: Roundings | None) -> Adjoint:
    def rounded(tensor: Tensor) -> Tensor:
        return tensor if noise is None else noise.rounded(tensor)

    schedule = program.schedule
    lam = leaf(rounded(program.lam))
    first = program.start(lam)
    states = [leaf(rounded(first.detach()))]
    keep = states[0].numel() * schedule.steps <= _KEPT_ENTRIES
    moves: list[Tensor | None] = []
    total = 0.0
    for step in range(schedule.steps):
        moved = program.transition(lam, states[-1], step)
        moves.append(moved if keep else None)
        states.append(leaf(rounded(moved.detach())))
    direct, indirect = torch.zeros_like(lam), torch.zeros_like(lam)
    alpha = torch.zeros_like(states[0])
    for step in range(schedule.steps, 0, -1):
        if schedule.sampled(step):
            value = program.outer(lam, states[step], step)
            total += float(value.detach()) / schedule.samples
            by_lam, by_state = _pulled(value, (lam, states[step]), None)
            direct = direct + rounded(by_lam) / schedule.samples
            alpha = alpha + rounded(by_state) / schedule.samples
        kept = moves.pop()
        moved = program.transition(lam, states[step - 1], step - 1) if kept is None else kept
        by_lam, alpha = _pulled(moved, (lam, states[step - 1]), alpha)
        indirect, alpha = indirect + rounded(by_lam), rounded(alpha)
    (by_lam,) = _pulled(first, (lam,), alpha)
    return Adjoint(direct, indirect + by_lam, total)


def _pulled(value: Tensor, inputs: tuple[Tensor, ...], weight: Tensor | None) -> tuple[Tensor, ...]:
    """Weight·∂value/∂inputs, zeros where there is no dependence."""
    if not value.requires_grad:
        return tuple(torch.zeros_like(x) for x in inputs)
    return torch.autograd.grad(value, inputs, weight, allow_unused=True, materialize_grads=True)
