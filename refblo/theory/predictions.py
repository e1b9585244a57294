"""What theory predicts of the estimators' errors: leading constants and limits, as computed numbers.

Derived (and checked symbolically) in `proofs_check`. Notation: at θ⁰, a = ∂_θ L_T (n), H = ∂²L_T/∂θ²
(n × n), C = ∂²L_T/∂θ∂λ (n × p), J = dθ⁰/dλ (n × p), s = ∂_θ f (n), Q = ∂²f/∂θ² (n × n).

Claims: eq-22, text-alignment, text-start-error, thm-1, thm-3.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import scipy
import torch
from jaxtyping import Float64

from refblo.chain import Schedule
from refblo.derivatives import (
    gradient_and_tangent,
    gradient_and_tangents,
    initial_jvp,
    initial_vjp,
    mixed_product,
    outer_gradients,
    outer_theta_gradient,
)
from refblo.errors import require
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial, FullBatch
from refblo.types import Lam, Theta

Array = np.ndarray


@final
@dataclass(frozen=True, eq=False)
class Local:
    """The derivatives of a problem at one point, dense, in NumPy."""

    a: Float64[Array, " n"]
    H: Float64[Array, "n n"]
    C: Float64[Array, "n p"]
    J: Float64[Array, "n p"]
    s: Float64[Array, " n"]
    Q: Float64[Array, "n n"]


def local_derivatives(problem: BilevelProblem, lam: Lam, theta: Theta) -> Local:
    """All first and second derivatives of a small full-batch problem at (λ, θ), by forward mode.

    Raises:
        ArgumentError: if the problem samples batches (there is no one function to differentiate).
    """
    full = isinstance(problem.inner_batches, FullBatch)
    full = full and isinstance(problem.outer_batches, FullBatch)
    require(full, "problem", "use full batches", problem.name, "give the full-batch problem")
    n, p = theta.numel(), lam.numel()
    eye = torch.eye(p + n).to(theta)
    # One pass for both blocks: the first p columns are directions in λ, the others in θ.
    a, blocks = gradient_and_tangents(problem.inner, lam, theta, None, eye[:p], eye[p:])
    C, H = blocks[:, :p], blocks[:, p:]
    s, Q = gradient_and_tangents(problem.outer, lam, theta, None, eye[:p, p:], eye[p:, p:])
    J = torch.stack([initial_jvp(problem.initial, lam, column) for column in eye[:p, :p]], dim=1)
    return Local(*(tensor.cpu().to(torch.float64).numpy() for tensor in (a, H, C, J, s, Q)))


def recursion_error_deterministic(
    problem: BilevelProblem, lam: Lam, schedule: Schedule
) -> Float64[Array, " p"]:
    """Lim (HPO-SGLD − pathwise)/γ² as γ → 0 at fixed B and M, without noise, shape (p,).

    With w = Σ_{m>B} m(m−1)/2 / M,

        −w · (Q a + H s)ᵀ (C + H J),

    exact to leading order when θ⁰ does not depend on λ (J = 0) for any smooth full-batch problem, and
    for J ≠ 0 when L_T and f are quadratic. No matrix is formed.

    Claims: text-start-error, thm-1.
    """
    theta = problem.initial(lam)
    resting = torch.zeros_like(lam)
    s = outer_theta_gradient(problem.outer, lam, theta, None)
    a, hessian_s = gradient_and_tangent(problem.inner, lam, theta, None, resting, s)
    _, outer_hessian_a = gradient_and_tangent(problem.outer, lam, theta, None, resting, a)
    v = outer_hessian_a + hessian_s
    _, hessian_v = gradient_and_tangent(problem.inner, lam, theta, None, resting, v)
    through = mixed_product(problem.inner, lam, theta, None, v)
    through = through + initial_vjp(problem.initial, lam, hessian_v)
    w = sum(m * (m - 1) / 2 for m in range(schedule.burn_in + 1, schedule.steps + 1))
    return _array(-(w / schedule.samples) * through)


def recursion_error_noise(
    problem: BilevelProblem, lam: Lam, schedule: Schedule, draws: Draws
) -> Float64[Array, " p"]:
    """Lim (HPO-SGLD − pathwise)/(γ √ε κ) as ε → 0 at fixed B and M with frozen noise, shape (p,).

    (1/M) Σ_{m>B} (Σ_{1≤j<m} j z^j)ᵀ Q C, for θ⁰ independent of λ: zero when f is linear in θ.
    """
    theta = problem.initial(lam)
    partial, total = torch.zeros_like(theta), torch.zeros_like(theta)
    for m in range(1, schedule.steps + 1):
        if m > 1:
            partial = partial + (m - 1) * draws.normal(Stream.LANGEVIN, m - 1, theta)
        if schedule.sampled(m):
            total = total + partial
    resting = torch.zeros_like(lam)
    _, v = gradient_and_tangent(problem.outer, lam, theta, None, resting, total)
    return _array(mixed_product(problem.inner, lam, theta, None, v) / schedule.samples)


def _array(vector: torch.Tensor) -> Float64[Array, " p"]:
    converted: Array = vector.detach().cpu().to(torch.float64).numpy()
    return converted


@final
@dataclass(frozen=True, eq=False)
class HorizonLimit:
    """Limits as γ → 0 with S = Tγ fixed, M = 1, κ = 0, along the gradient flow θ' = −∂_θ L_T.

    Attributes:
        recursion: of HPO-SGLD: f_λ(θ(S)) − ∫₀^S f_θ(θ(s))·C(θ(s)) ds, shape (p,).
        unrolled: of the truth: f_λ + f_θ(θ(S))·Z(S), Z' = −(H Z + C), Z(0) = 0, shape (p,).
        error: estimate of what the integrator's tolerances leave, absolute.
    """

    recursion: Float64[Array, " p"]
    unrolled: Float64[Array, " p"]
    error: float


RELATIVE_TOLERANCE = 1e-9
ABSOLUTE_TOLERANCE = 1e-10
"""Of the integrator: well below what the sweeps that are compared with it can resolve."""
FINEST_TOLERANCE = 100.0
"""In units of roundoff: the least that the integrator is asked for, whatever the dtype."""


def fixed_horizon_limit(problem: BilevelProblem, lam: Lam, horizon: float) -> HorizonLimit:
    """Both limits at a fixed horizon, by high-order adaptive integration (scipy's DOP853).

    For a linear f and a scalar Hessian h their indirect terms have the ratio hS / (1 − e^{−hS}).

    Args:
        problem: a full-batch problem with a θ⁰ that does not depend on λ.
        lam: λ, shape (p,).
        horizon: S > 0.

    Raises:
        ArgumentError: if θ⁰ depends on λ, batches are sampled or S ≤ 0.
    """
    require(horizon > 0, "horizon", "be positive", horizon, "give S = T·γ")
    require(
        isinstance(problem.initial, FixedInitial),
        "problem.initial",
        "not depend on lam",
        type(problem.initial).__name__,
        "use a problem with FixedInitial",
    )
    theta = problem.initial(lam)
    n, p = theta.numel(), lam.numel()
    directions = torch.eye(p).to(lam)

    def flow(_: float, state: Float64[Array, " k"]) -> Float64[Array, " k"]:
        at = torch.as_tensor(state[:n]).to(theta)
        tangent = torch.as_tensor(state[n : n + n * p]).to(theta).reshape(n, p)
        gradient, change = gradient_and_tangents(problem.inner, lam, at, None, directions, tangent)
        slope = outer_theta_gradient(problem.outer, lam, at, None)
        increment = mixed_product(problem.inner, lam, at, None, slope)
        return -np.concatenate([gradient.numpy(), change.numpy().ravel(), increment.numpy()])

    start = np.concatenate([theta.detach().numpy(), np.zeros(n * p + p)])
    # An integrator that is asked for more than the field's own rounding allows creeps.
    finest = FINEST_TOLERANCE * torch.finfo(lam.dtype).eps / 2
    relative, absolute = max(RELATIVE_TOLERANCE, finest), max(ABSOLUTE_TOLERANCE, finest)
    run = scipy.integrate.solve_ivp(
        flow,
        (0.0, horizon),
        start,
        method="DOP853",
        rtol=relative,
        atol=absolute,
        t_eval=[horizon],
    )
    end = run.y[:, -1]
    direct, slope = outer_gradients(problem.outer, lam, torch.as_tensor(end[:n]).to(theta), None)
    recursion = direct.numpy() + end[n + n * p :]
    unrolled = direct.numpy() + slope.numpy() @ end[n : n + n * p].reshape(n, p)
    # Local errors add up over the steps taken (DOP853 needs 12 evaluations a step); a non-expansive
    # flow does not amplify them.
    taken = run.nfev / 12
    local = relative * float(np.linalg.norm(end)) + absolute
    return HorizonLimit(recursion, unrolled, taken * local * (1 + float(slope.norm())))
