"""The truth of the implicit estimand: the root of a residual and its derivative.

θ*(λ) is the root of r(λ, z) = 0, with r = ∂_θ L_T + w θ where the losses are known (L_T the mean over
the batches given) and r = z − Φ_0(λ, z) where only a transition is; then dz*/dλ = −(∂_z r)⁻¹ ∂_λ r by a
dense solve. The second oracle finds the root again at displaced λ, by Newton's method, and takes
differences of f.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.conformance.truth.adjoint import Adjoint
from refblo.conformance.truth.guard import arithmetic
from refblo.conformance.truth.jacobian import jacobians_of
from refblo.conformance.truth.program import Batches, Program, Sample, gradient_by_theta, leaf
from refblo.conformance.truth.promotion import Arithmetic
from refblo.conformance.truth.refusal import singular, stuck
from refblo.derivatives import gradient_not_finite
from refblo.derivatives.rounding import Roundings
from refblo.errors import OracleError
from refblo.noise import Draws, Stream

Residual = Callable[[Tensor, Tensor], Tensor]

_NEWTON_STEPS = 60
_HALVINGS = 30
_HALVINGS_CLOSE = 2
_LARGEST = 2000  # entries of the state up to which a dense solve is made


def residual_of(program: Program) -> tuple[Residual, int]:
    """r, whose root is the minimiser, and the size of its argument.

    With batches given, L_T is the mean over the batches that the run sees: what its steps minimise.

    Raises:
        OracleError: for a rule whose fixed points are no minimisers.
    """
    losses = program.losses
    if losses is None:
        size = program.start(program.lam).numel()
        return (lambda lam, z: z - program.transition(lam, z, 0)), size
    rule = losses.rule
    if rule.decoupled_decay and (rule.betas is not None or rule.square_decay is not None):
        raise OracleError(
            f"rule must lead to a minimiser for the implicit estimand, got {rule.formula.name} "
            "with decoupled weight decay, whose fixed points minimise nothing; ask for the unrolled estimand"
        )
    weighted = distinct_batches(losses.frozen.inner_batches, program)

    def stationarity(lam: Tensor, theta: Tensor) -> Tensor:
        total: Tensor = rule.numbers(lam, 0).weight_decay * theta
        for batch, weight in weighted:
            total = total + weight * gradient_by_theta(losses.inner, lam, theta, batch)
        return total

    return stationarity, program.size


def distinct_batches(batches: Batches, program: Program) -> list[tuple[Sample | None, float]]:
    """The batches that the transitions see, each once, with the share of the transitions that see it."""
    if batches is None:
        return [(None, 1.0)]
    steps = program.schedule.steps
    found: list[tuple[Sample, int]] = []
    for batch in batches[:steps]:
        for position, (other, count) in enumerate(found):
            if batch is other or _same(batch, other):
                found[position] = (other, count + 1)
                break
        else:
            found.append((batch, 1))
    return [(batch, count / steps) for batch, count in found]


def _same(first: object, second: object) -> bool:
    """Whether two batches hold the same numbers."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and torch.equal(first, second)
    if isinstance(first, tuple | list) and isinstance(second, tuple | list):
        alike = len(first) == len(second)
        return alike and all(_same(a, b) for a, b in zip(first, second, strict=True))
    return False


def outer_of(program: Program) -> Callable[[Tensor, Tensor], Tensor]:
    """f at the root: the outer loss at the last iterate's batch."""
    last = program.schedule.steps

    def outer(lam: Tensor, z: Tensor) -> Tensor:
        value: Tensor = program.outer(lam, z, last)
        return value

    return outer


@final
@dataclass(frozen=True, eq=False)
class Linear:
    """The implicit problem at its root.

    Attributes:
        root: z*.
        hessian: ∂_z r, shape (N, N).
        mixed: ∂_λ r, shape (N, p).
        direct: ∂_λ f, shape (p,).
        slope: ∂_z f, shape (N,).
        residual: ‖r(λ, z*)‖ that is left.
    """

    root: Float[Tensor, " N"]
    hessian: Float[Tensor, "N N"]
    mixed: Float[Tensor, "N p"]
    direct: Float[Tensor, " p"]
    slope: Float[Tensor, " N"]
    residual: float

    def indirect(self) -> Float[Tensor, " p"]:
        """−∂_z f (∂_z r)⁻¹ ∂_λ r.

        Raises:
            OracleError: if ∂_z r is singular.
        """
        solved, info = torch.linalg.solve_ex(self.hessian.T, self.slope)
        if int(info):
            raise singular()
        indirect: Tensor = -solved @ self.mixed
        return indirect


def jacobians(
    residual: Residual, lam: Tensor, z: Tensor
) -> tuple[Tensor, Float[Tensor, "N N"], Float[Tensor, "N p"]]:
    """r, ∂_z r and ∂_λ r."""
    at_lam, at_z = leaf(lam), leaf(z)
    with torch.enable_grad():
        value = residual(at_lam, at_z)
    by_z, by_lam = jacobians_of(value, (at_z, at_lam))
    return value.detach(), by_z, by_lam


def find_root(residual: Residual, lam: Tensor, z: Tensor) -> Tensor:
    """The root by Newton's method with halved steps, from z.

    Raises:
        OracleError: if the method gets stuck away from a root.
    """
    value, by_z, _ = jacobians(residual, lam, z)
    norm, stalled = float(value.norm()), 0
    for _ in range(_NEWTON_STEPS):
        if norm == 0 or stalled >= 2:
            break
        step, info = torch.linalg.solve_ex(by_z, value)
        if int(info):
            raise singular()
        # What is left close to the root is rounding, which no shorter step makes smaller.
        close, length = norm <= _allowed(by_z, z), 1.0
        for _ in range(_HALVINGS_CLOSE if close else _HALVINGS):
            candidate = z - length * step
            trial = residual(leaf(lam), leaf(candidate)).detach()
            if float(trial.norm()) < norm:
                break
            length /= 2
        else:
            break
        slow = float(trial.norm()) > norm / 4
        stalled = stalled + 1 if slow and (close or length == 1.0) else 0
        z, value = candidate, trial
        if not close:
            value, by_z, _ = jacobians(residual, lam, z)
        norm = float(value.norm())
    if not norm <= _allowed(by_z, z):
        raise stuck(lambda at: residual(leaf(lam), leaf(at)).detach(), z, by_z)
    return z.detach()


def _allowed(by_z: Tensor, z: Tensor) -> float:
    """How large the residual of a root may be: what rounding leaves of it."""
    size = float(by_z.abs().max()) * max(1.0, float(z.abs().max()))
    return 1e3 * torch.finfo(z.dtype).eps * size * z.numel()


def linearise(program: Program) -> Linear:
    """The root that the run leads to, and the derivatives there.

    Raises:
        OracleError: if there is none, or the state is too large for a dense solve.
    """
    residual, size = residual_of(program)
    if size > _LARGEST:
        raise OracleError(
            f"theta must have at most {_LARGEST} entries for the implicit estimand, got {size}; "
            "check a smaller instance of the same code"
        )
    start = program.growth.end[:size]
    root = find_root(residual, program.lam, start)
    value, by_z, by_lam = jacobians(residual, program.lam, root)
    if not bool(by_z.isfinite().all() & by_lam.isfinite().all()):
        raise OracleError(gradient_not_finite("the derivative of ∂_θ inner", "the solution"))
    smallest = torch.linalg.svdvals(by_z)
    if float(smallest[-1]) <= by_z.shape[0] * torch.finfo(by_z.dtype).eps * float(smallest[0]):
        raise singular()
    eigenvalues = torch.linalg.eigvals(by_z).real
    if bool((eigenvalues < 0).any()) and program.losses is not None:
        raise OracleError(
            "the inner run must lead to a minimum, got a saddle point; start nearer to one, "
            "or ask for the unrolled estimand"
        )
    direct, slope = outer_gradients(program, program.lam, root)
    return Linear(root, by_z, by_lam, direct, slope, float(value.norm()))


def outer_gradients(program: Program, lam: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """(∂_λ f, ∂_z f) at the last iterate's batch."""
    at_lam, at_z = leaf(lam), leaf(z)
    value = outer_of(program)(at_lam, at_z)
    if not value.requires_grad:
        return torch.zeros_like(lam), torch.zeros_like(z)
    by_lam, by_z = torch.autograd.grad(
        value, (at_lam, at_z), allow_unused=True, materialize_grads=True
    )
    return by_lam, by_z


def replicas(
    program: Program, base: Linear, draws: Draws, ulp: float, count: int
) -> list[tuple[Tensor, Tensor]]:
    """(direct, indirect) again with everything that enters the solve perturbed by ulps."""
    residual, _ = residual_of(program)
    found = []
    for replica in range(count):

        def moved(x: Tensor, which: int, now: int = replica) -> Tensor:
            noise = draws.uniform(Stream.ROUNDING, 8 * now + which, tuple(x.shape), -ulp, ulp)
            return x * (1 + noise.to(x))

        lam, root = moved(program.lam, 0), moved(base.root, 1)
        _, by_z, by_lam = jacobians(residual, lam, root)
        direct, slope = outer_gradients(program, lam, root)
        linear = Linear(root, moved(by_z, 2), moved(by_lam, 3), direct, moved(slope, 4), 0.0)
        found.append((moved(direct, 5), linear.indirect()))
    return found


def solved(root: Tensor, program: Program, noise: Roundings | None = None) -> Adjoint:
    """The implicit hypergradient as code in the program's own dtype has it, at the root that it finds.

    That root is one step of Newton's method from the given one, whose residual rounding changes. With noise,
    every operation of the losses is rounded at random as well.
    """
    if noise is None:
        return _solved(root.to(program.lam), program, lambda x: x)
    with arithmetic(Arithmetic(program.promotes, noise)):
        return _solved(root, program, noise.rounded)


def _solved(root: Tensor, program: Program, rounded: Callable[[Tensor], Tensor]) -> Adjoint:
    residual, _ = residual_of(program)
    lam = rounded(program.lam)
    value, by_z, _ = jacobians(residual, lam, rounded(root))
    step, info = torch.linalg.solve_ex(by_z, value)
    if int(info):
        raise singular()
    root = rounded(root - step)
    _, by_z, by_lam = jacobians(residual, lam, root)
    direct, slope = outer_gradients(program, lam, root)
    linear = Linear(root, rounded(by_z), rounded(by_lam), rounded(direct), rounded(slope), 0.0)
    objective = float(outer_of(program)(leaf(lam), leaf(root)).detach())
    return Adjoint(linear.direct, linear.indirect(), objective)


def implicit_objective(program: Program, base: Linear) -> Callable[[Tensor], float]:
    """λ ↦ f(λ, z*(λ)), the root found again from the one at the program's own λ."""
    residual, _ = residual_of(program)
    outer = outer_of(program)

    def objective(lam: Tensor) -> float:
        try:
            root = find_root(residual, lam, base.root)
        except OracleError:
            return float("nan")
        return float(outer(leaf(lam), leaf(root)).detach())

    return objective
