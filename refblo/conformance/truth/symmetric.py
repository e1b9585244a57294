"""The first oracle for a large λ: tangents whose Hessian products are taken by reverse mode.

s^{t+1} needs ġ = H s + C u, the derivative of g = ∂_θ L along (u, s). By symmetry of second derivatives

    ġ = ∂_θ (⟨∂_θ L, s⟩ + ⟨∂_λ L, u⟩),

one more pass through the graph of the gradient for each tangent, where torch's forward mode through a reverse
pass computes three times as many vectors. A gradient that torch is made to change (by `detach`, or by a
backward of somebody's own) need not be symmetric: then this is wrong. So ġ is compared with forward mode at
the first and at the last step; where they differ, or forward mode does not work, an error is raised and the
ladder goes on to the next way. In between, the differences that confirm the truth at λ would show it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.conformance.truth.guard import guarded
from refblo.conformance.truth.program import Program, leaf
from refblo.conformance.truth.tangent import (
    AFFINE_ENTRIES,
    BATCHED_ENTRIES,
    STAGES,
    Parts,
    push,
    push_forward,
)
from refblo.derivatives.rounding import Perturbation
from refblo.noise import Draws


class AsymmetricError(ValueError):
    """The derivative of a gradient is not symmetric."""


def is_for(program: Program, directions: Float[Tensor, "p k"], replicas: int) -> bool:
    """Whether the program is large, and its rule affine in θ and the gradient, so that this is worth it."""
    losses = program.losses
    if losses is None or not losses.rule.affine:
        return False
    entries = (replicas + 1) * directions.numel()
    return entries > BATCHED_ENTRIES and program.lam.numel() > AFFINE_ENTRIES


def by_symmetry(
    program: Program,
    directions: Float[Tensor, "p k"],
    draws: Draws,
    ulp: float,
    replicas: int,
) -> Parts:
    """Directional derivatives as `tangent.directional` gives them; replicas are of the first direction alone.

    Args:
        program: for which `is_for` holds.
        directions: columns u.
        draws: of the perturbations.
        ulp: their size, relative.
        replicas: how many perturbed runs.

    Raises:
        AsymmetricError: if the gradient's derivative is not symmetric.
        Exception: whatever torch raises where something cannot be differentiated in both modes.
    """
    columns = [column.contiguous() for column in directions.T]
    base = _run(program, columns, Perturbation(draws, 0.0), 0)
    again = [_run(program, columns, Perturbation(draws, ulp), 1 + r) for r in range(replicas)]

    def rows(part: int) -> Tensor:
        return torch.stack([run[part] for run in (base, *again)])

    return Parts(rows(0), rows(1))


def _run(
    program: Program, us: Sequence[Tensor], perturbation: Perturbation, row: int
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """The direct and the indirect parts along directions, by one run."""
    counter = row * STAGES * (program.schedule.steps + 1)

    def perturb(*tensors: Tensor) -> tuple[Tensor, ...]:
        nonlocal counter
        counter += 1
        return perturbation(counter, *tensors)

    if program.losses is None:
        raise AssertionError("the program has losses")
    lam, steps = program.lam, program.schedule.steps
    rule, frozen = program.losses.rule, program.losses.frozen
    compared = {0, steps - 1} if row == 0 else set[int]()
    nothing = torch.zeros_like(lam)
    state = program.start(leaf(lam)).detach()
    tangents = [push(lambda x, _: program.start(x), (lam, lam), (u, nothing))[1] for u in us]
    direct, indirect = lam.new_zeros(len(us)), lam.new_zeros(len(us))
    for step in range(steps):
        at_lam, at_state, *pushed = perturb(lam, state, *tangents)
        noise = None if frozen.noise is None else frozen.noise[step]
        gradient, slopes = _gradient_and_slopes(program, step, at_lam, at_state, us, pushed)
        if step in compared:
            _compare(program, step, (at_lam, at_state), (us[0], pushed[0]), slopes[0])
        state = rule.advance(at_state, gradient, step, noise)
        for j, slope in enumerate(slopes):
            pushed[j] = rule.advance(pushed[j], slope, step, None)
        state, *tangents = perturb(state, *pushed)
        if program.schedule.sampled(step + 1):
            at_lam, at_state, *pushed = perturb(lam, state, *tangents)
            by_lam, by_state = _outer_slopes(program, step + 1, at_lam, at_state)
            along_lam = torch.stack([by_lam @ u for u in us])
            along_state = torch.stack([by_state @ s for s in pushed])
            direct = direct + perturb(along_lam)[0]
            indirect = indirect + perturb(along_state)[0]
    return direct / program.schedule.samples, indirect / program.schedule.samples


def _gradient_and_slopes(
    program: Program,
    step: int,
    lam: Tensor,
    state: Tensor,
    us: Sequence[Tensor],
    tangents: Sequence[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """∂_θ L and its derivative along each (u, s)."""
    losses = program.losses
    if losses is None:
        raise AssertionError("the program has losses")

    def both(at: Tensor, theta: Tensor) -> tuple[Tensor, ...]:
        value = losses.inner(at, theta, losses.frozen.inner(step))
        return _pulled((value,), (at, theta), None, create_graph=True)

    size = program.size
    with torch.enable_grad():
        at, theta = leaf(lam), leaf(state[:size])
        by_lam, by_theta = guarded(both, losses.promotes)(at, theta)
        slopes: list[Tensor] = []
        for j, (u, s) in enumerate(zip(us, tangents, strict=True)):
            keep = j + 1 < len(us)
            weights = (u, s[:size])
            slopes += _pulled((by_lam, by_theta), (theta,), weights, keep=keep)
    return by_theta.detach(), slopes


def _outer_slopes(program: Program, step: int, lam: Tensor, state: Tensor) -> tuple[Tensor, ...]:
    """∂_λ f and ∂_z f at an iterate."""
    with torch.enable_grad():
        at, z = leaf(lam), leaf(state)
        return _pulled((program.outer(at, z, step),), (at, z), None)


def _pulled(
    outputs: Sequence[Tensor],
    inputs: tuple[Tensor, ...],
    weights: Sequence[Tensor] | None,
    *,
    create_graph: bool = False,
    keep: bool = False,
) -> tuple[Tensor, ...]:
    """Σ_i weights_i·∂outputs_i/∂inputs, zeros where there is no dependence."""
    known = [i for i, output in enumerate(outputs) if output.requires_grad]
    if not known:
        return tuple(torch.zeros_like(x) for x in inputs)
    return torch.autograd.grad(
        [outputs[i] for i in known],
        inputs,
        None if weights is None else [weights[i] for i in known],
        create_graph=create_graph,
        retain_graph=keep or create_graph,
        allow_unused=True,
        materialize_grads=True,
    )


def _compare(
    program: Program,
    step: int,
    at: tuple[Tensor, Tensor],
    along: tuple[Tensor, Tensor],
    slope: Tensor,
) -> None:
    """Compare a derivative of the gradient with that of forward mode.

    Raises:
        AsymmetricError: if they differ by more than rounding explains.
    """
    gradient = program.gradient_at(step)
    _, other = program.unrecorded(lambda: push_forward(gradient, at, along))
    size = float(slope.norm()) + float(other.norm())
    gap = float((slope - other).norm())
    if not gap <= torch.finfo(slope.dtype).eps ** 0.5 * size:
        raise AsymmetricError(
            f"the derivative of ∂_θ inner must be symmetric, got a difference of {gap:.1e} between forward "
            f"and reverse mode, of {size / 2:.1e}, at step {step}; use forward mode alone"
        )
