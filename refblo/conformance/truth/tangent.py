"""The first oracle: directional forward tangents, pushed along the run.

s⁰ = dz⁰/dλ u, s^{t+1} = ∂_zΦ_t s^t + ∂_λΦ_t u, and the derivative along u is
(1/M) Σ_{m>B} (∂_λ f_m u + ∂_z f_m s^m): memory O(N) for any p and T. The two sums, the direct and the
indirect part, are kept apart. Several tangents, and replicas of the run under perturbations of ulp
size (Monte Carlo arithmetic, see `refblo.derivatives.rounding`), go along side by side where torch can
batch the caller's functions, and one after another where it cannot.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

import torch
import torch.autograd.forward_ad as forward
from jaxtyping import Float
from torch import Tensor

from refblo.conformance.truth.program import Program, leaf
from refblo.derivatives import exclusive, told_shapes
from refblo.derivatives.rounding import Perturbation
from refblo.noise import Draws

Function = Callable[[Tensor, Tensor], Tensor]
Pusher = Callable[[Function, tuple[Tensor, Tensor], tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]
"""(function, at, along) ↦ the function's value and its derivative along a tangent."""


@final
@dataclass(frozen=True, eq=False)
class Parts:
    """Directional derivatives by part, a row a replica (row 0 unperturbed), shape (R + 1, k).

    Attributes:
        direct: ∂_λ f u, averaged over the samples.
        indirect: ∂_z f s, likewise.
    """

    direct: Float[Tensor, "runs k"]
    indirect: Float[Tensor, "runs k"]

    @property
    def finite(self) -> bool:
        """Whether all of them are finite."""
        return bool(self.direct.isfinite().all() & self.indirect.isfinite().all())


def push(
    function: Function, at: tuple[Tensor, Tensor], along: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """A function's value and its derivative along a tangent, for any function that torch differentiates.

    Forward mode; where that fails, the derivative of the reverse pass by its weight.
    """
    try:
        return push_forward(function, at, along)
    except Exception:  # whatever torch raises where an operation has no forward mode
        return push_by_reverse(function, at, along)


@exclusive
def push_forward(
    function: Function, at: tuple[Tensor, Tensor], along: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """`push` by forward mode."""
    with told_shapes(), forward.dual_level():
        duals = [_dual(x, t) for x, t in zip(at, along, strict=True)]
        value, tangent = _parts(function(duals[0], duals[1]))
        if tangent is None:
            tangent = torch.zeros_like(value)
        return value.detach(), tangent.detach()


def _dual(x: Tensor, tangent: Tensor) -> Tensor:
    dual: Tensor = forward.make_dual(leaf(x), tangent.detach())  # type: ignore[no-untyped-call]  # torch's own
    return dual


def _parts(dual: Tensor) -> tuple[Tensor, Tensor | None]:
    parts: tuple[Tensor, Tensor | None] = forward.unpack_dual(dual)  # type: ignore[no-untyped-call]  # torch's own
    return parts


@torch.enable_grad()
def push_by_reverse(
    function: Function, at: tuple[Tensor, Tensor], along: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """`push` by the derivative of the reverse pass by its weight, in which that pass is linear."""
    inputs = tuple(leaf(x) for x in at)
    value = function(inputs[0], inputs[1])
    weight = torch.zeros_like(value, requires_grad=True)
    if not value.requires_grad:
        return value.detach(), torch.zeros_like(value).detach()
    pulled = torch.autograd.grad(
        value, inputs, weight, create_graph=True, allow_unused=True, materialize_grads=True
    )
    inner = sum(((x * t).sum() for x, t in zip(pulled, along, strict=True)), value.new_zeros(()))
    if not inner.requires_grad:
        return value.detach(), torch.zeros_like(value).detach()
    (tangent,) = torch.autograd.grad(inner, weight, allow_unused=True, materialize_grads=True)
    return value.detach(), tangent.detach()


def directional(
    program: Program,
    directions: Float[Tensor, "p k"],
    draws: Draws,
    ulp: float,
    replicas: int,
    pusher: Pusher | None,
) -> Parts:
    """Directional derivatives of the program, with replicas that show what rounding does to them.

    Args:
        program: the program.
        directions: columns u.
        draws: of the perturbations.
        ulp: their size, relative.
        replicas: how many perturbed runs.
        pusher: pushes one tangent; None to push all of them side by side by torch.func.
    """
    large = (replicas + 1) * directions.numel() > BATCHED_ENTRIES
    many: Pusher = _batched if pusher is None else _one_after_another(pusher)
    if large:
        many = _shared if pusher is None else many
        return _one_by_one(program, directions, draws, ulp, replicas, many)
    runs = replicas + 1
    rows = [(r, j) for r in range(runs) for j in range(directions.shape[1])]
    lams = torch.stack([program.lam for _ in rows])
    tangents = torch.stack([directions[:, j] for _, j in rows])
    parts = _run(program, lams, tangents, draws, ulp, directions.shape[1], many)
    direct, indirect = (part.reshape(runs, -1) for part in parts)
    return Parts(direct, indirect)


def _one_by_one(
    program: Program,
    directions: Float[Tensor, "p k"],
    draws: Draws,
    ulp: float,
    replicas: int,
    pusher: Pusher,
) -> Parts:
    """The same for a large λ: memory stays that of k tangents, and replicas are made of the first alone.

    The directions are drawn alike, so what rounding does along one it does along the others.
    """

    def one(row: int, j: int, *, spare: bool) -> tuple[Tensor, Tensor]:
        lams, tangents = program.lam[None], directions[:, j][None]
        return _run(program, lams, tangents, draws, ulp, int(spare), pusher, row)

    count = directions.shape[1]
    if pusher is _shared:
        lams = program.lam.expand(count, -1)
        base = [_run(program, lams, directions.T, draws, ulp, count, pusher)]
    else:
        base = [one(0, j, spare=True) for j in range(count)]
    if pusher is _shared and 0 < replicas * program.lam.numel() <= BATCHED_ENTRIES:
        lams, tangents = (v.repeat(replicas, 1) for v in (program.lam, directions[:, 0]))
        pair = _run(program, lams, tangents, draws, ulp, 0, _batched, 1)
        again = list(zip(*(torch.split(part, 1) for part in pair), strict=True))
    else:
        again = [one(row, 0, spare=False) for row in range(1, replicas + 1)]

    def rows(part: int) -> Tensor:
        first = torch.cat([found[part] for found in base])
        moved = [first + (found[part] - first[:1]) for found in again]
        return torch.stack([first, *moved])

    return Parts(rows(0), rows(1))


AFFINE_ENTRIES = 2**15
"""Hyperparameters above which the rule is applied to tangents outside of torch's forward mode."""

BATCHED_ENTRIES = 2**18
"""Up to how many entries of λ, over all rows, the rows are pushed side by side."""


STAGES = 6
"""Perturbations of a step, at most."""


@exclusive
def _batched(
    function: Function, at: tuple[Tensor, Tensor], along: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """`push` for rows at once by torch.func."""

    def one(x: Tensor, y: Tensor, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        pushed: tuple[Tensor, Tensor] = torch.func.jvp(function, (x, y), (u, s))  # type: ignore[assignment]  # annotated for has_aux too
        return pushed

    with told_shapes():
        result: tuple[Tensor, Tensor] = torch.func.vmap(one)(*at, *along)
    return result[0].detach(), result[1].detach()


@exclusive
def _shared(
    function: Function, at: tuple[Tensor, Tensor], along: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """`push` for rows of tangents at one and the same point, whose value is computed once."""
    point = (at[0][0], at[1][0])

    def one(u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        pushed: tuple[Tensor, Tensor] = torch.func.jvp(function, point, (u, s))  # type: ignore[assignment]  # annotated for has_aux too
        return pushed

    with told_shapes():
        value, tangents = torch.func.vmap(one, out_dims=(None, 0))(*along)  # type: ignore[arg-type]  # None is allowed in it
    return value.detach().expand(tangents.shape), tangents.detach()


def _one_after_another(pusher: Pusher) -> Pusher:
    """A pusher for rows from one for a single tangent."""

    def many(
        function: Function, at: tuple[Tensor, Tensor], along: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        pushed = [pusher(function, (x, y), (u, s)) for x, y, u, s in zip(*at, *along, strict=True)]
        return torch.stack([value for value, _ in pushed]), torch.stack([t for _, t in pushed])

    return many


def _move(
    program: Program,
    step: int,
    pusher: Pusher,
    at: tuple[Tensor, Tensor],
    along: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """The next states and their tangents."""

    def advance(x: Tensor, z: Tensor) -> Tensor:
        return program.transition(x, z, step)

    return program.unrecorded(lambda: pusher(advance, at, along))


def _large_and_affine(program: Program, lams: Float[Tensor, "rows p"]) -> bool:
    """Whether `_move_of_an_affine_rule` can be taken, and is worth it."""
    losses = program.losses
    return losses is not None and losses.rule.affine and lams.shape[1] > AFFINE_ENTRIES


def _move_of_an_affine_rule(
    program: Program,
    step: int,
    pusher: Pusher,
    at: tuple[Tensor, Tensor],
    along: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """`_move` where the next state is affine in the state and the gradient: the gradient alone is pushed.

    The rule then takes tangents of both to the next tangent, without noise: by a few operations on large
    vectors, of which torch's forward mode makes three times as many.
    """
    if program.losses is None:
        raise AssertionError("the program has losses")
    rule, frozen = program.losses.rule, program.losses.frozen
    noise = None if frozen.noise is None else frozen.noise[step]
    gradients, slopes = program.unrecorded(lambda: pusher(program.gradient_at(step), at, along))
    # Where the state is θ alone, the next tangents take the place of the gradient's: memory of k vectors.
    tangents = slopes if slopes.shape == along[1].shape else torch.empty_like(along[1])
    for row, (s, g) in enumerate(zip(along[1], slopes, strict=True)):
        tangents[row] = rule.advance(s, g, step, None)
    if pusher is _shared:
        states = rule.advance(at[1][0], gradients[0], step, noise)[None].expand(tangents.shape)
    else:
        moved = (rule.advance(z, g, step, noise) for z, g in zip(at[1], gradients, strict=True))
        states = _rows(moved)
    return states, tangents


def _rows(vectors: Iterable[Tensor]) -> Tensor:
    """The vectors as the rows of a matrix; of one vector no copy is made."""
    rows = list(vectors)
    return rows[0][None] if len(rows) == 1 else torch.stack(rows)


def _run(
    program: Program,
    lams: Float[Tensor, "rows p"],
    us: Float[Tensor, "rows p"],
    draws: Draws,
    ulp: float,
    spared: int,
    pusher: Pusher,
    row: int = 0,
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    counter = row * STAGES * (program.schedule.steps + 1)
    perturbation = Perturbation(draws, ulp if spared < len(lams) else 0.0, spared)

    def perturb(*tensors: Tensor) -> tuple[Tensor, ...]:
        nonlocal counter
        counter += 1
        return perturbation(counter, *tensors)

    zeros = torch.zeros_like(lams)
    states, tangents = pusher(lambda x, _: program.start(x), (lams, lams), (us, zeros))
    direct = lams.new_zeros(len(lams))
    indirect = lams.new_zeros(len(lams))
    none = torch.zeros_like(states)
    for step in range(program.schedule.steps):
        at_lam, at_state, s = perturb(lams, states, tangents)
        move = _move_of_an_affine_rule if _large_and_affine(program, lams) else _move
        pushed = move(program, step, pusher, (at_lam, at_state), (us, s))
        states, tangents = perturb(*pushed)
        if program.schedule.sampled(step + 1):

            def measure(x: Tensor, z: Tensor, now: int = step + 1) -> Tensor:
                return program.outer(x, z, now)

            at_lam, at_state, s = perturb(lams, states, tangents)
            direct = direct + perturb(pusher(measure, (at_lam, at_state), (us, none))[1])[0]
            indirect = indirect + perturb(pusher(measure, (at_lam, at_state), (zeros, s))[1])[0]
    return direct / program.schedule.samples, indirect / program.schedule.samples
