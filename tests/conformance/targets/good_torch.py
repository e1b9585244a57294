"""Right hypergradients in torch, as somebody who knows nothing of refblo would write them."""

from dataclasses import replace

import torch


def unrolled(problem):
    """Back-propagate through the whole run."""
    lam = problem.lam.clone().requires_grad_()
    theta = problem.initial(lam)
    first = second = torch.zeros_like(theta)
    total = 0.0
    for t in range(problem.steps):
        if not theta.requires_grad:
            theta = theta.clone().requires_grad_()
        loss = problem.inner(lam, theta, problem.inner_batch(t))
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        gradient = gradient + problem.weight_decay * theta
        if problem.betas is None:
            first = problem.momentum * first + gradient
            theta = theta - problem.step_size_at(lam) * first
        else:
            b1, b2 = problem.betas
            first = b1 * first + (1 - b1) * gradient
            second = b2 * second + (1 - b2) * gradient**2
            corrected = second / (1 - b2 ** (t + 1))
            # The derivative of the root at 0 is infinite: keep it out of the graph.
            safe = torch.where(corrected > 0, corrected, torch.ones_like(corrected))
            size = torch.where(corrected > 0, safe.sqrt(), torch.zeros_like(safe))
            step = first / (1 - b1 ** (t + 1)) / (size + problem.adam_epsilon)
            theta = theta - problem.step_size_at(lam) * step
        if problem.noise is not None:
            theta = theta + problem.noise[t]
        if t + 1 > problem.burn_in:
            total = total + problem.outer(lam, theta, problem.outer_batch(t + 1))
    (answer,) = torch.autograd.grad(total / problem.samples, lam)
    return answer


unrolled.estimands = {"unrolled", "pathwise"}
unrolled.capabilities = {
    "adam",
    "direct",
    "initial",
    "minibatches",
    "momentum",
    "noise",
    "pairs",
    "rule",
    "scalars",
    "weight_decay",
}


def implicit(problem):
    """Newton's method for the inner problem, then one dense solve."""
    lam, decay = problem.lam.clone(), problem.weight_decay

    def stationarity(at_lam, theta):
        return torch.func.grad(problem.inner, argnums=1)(at_lam, theta, None) + decay * theta

    theta = problem.theta0.clone()
    for _ in range(30):
        hessian = torch.func.jacrev(stationarity, argnums=1)(lam, theta)
        theta = theta - torch.linalg.solve(hessian, stationarity(lam, theta))
    hessian = torch.func.jacrev(stationarity, argnums=1)(lam, theta)
    mixed = torch.func.jacrev(stationarity, argnums=0)(lam, theta)
    direct, slope = torch.func.grad(problem.outer, argnums=(0, 1))(lam, theta, None)
    return direct - torch.linalg.solve(hessian.T, slope) @ mixed


implicit.estimands = "implicit"
implicit.capabilities = {"direct", "weight_decay"}


def single(problem):
    """The same as `unrolled`, in single precision."""
    return unrolled(problem)


single.estimands, single.capabilities, single.dtype = {"unrolled"}, unrolled.capabilities, "float32"


def with_own_noise(problem):
    """Draw the noise from the seed; right on average over it."""
    draw = torch.Generator().manual_seed(problem.seed)
    lam = problem.lam.clone().requires_grad_()
    theta = problem.initial(lam).clone().requires_grad_()
    spread = (2 * problem.temperature * problem.step_size) ** 0.5 * problem.noise_scale
    total = 0.0
    for t in range(problem.steps):
        (gradient,) = torch.autograd.grad(problem.inner(lam, theta, None), theta, create_graph=True)
        noise = torch.randn(theta.shape, dtype=theta.dtype, generator=draw)
        theta = theta - problem.step_size * gradient + spread * noise
        if t + 1 > problem.burn_in:
            total = total + problem.outer(lam, theta, None)
    return torch.autograd.grad(total / problem.samples, lam)[0]


with_own_noise.stochastic = True
with_own_noise.estimands = {"unrolled", "pathwise"}
with_own_noise.capabilities = {"direct", "noise"}


def biased_with_own_noise(problem):
    """The same with a fifth of the direct term missing."""
    lam = problem.lam.clone().requires_grad_()
    (direct,) = torch.autograd.grad(problem.outer(lam, problem.theta0, None), lam)
    return with_own_noise(problem) - 0.2 * direct


biased_with_own_noise.stochastic = True
biased_with_own_noise.estimands = {"unrolled"}
biased_with_own_noise.capabilities = {"direct", "noise"}


def neumann(problem):
    """Newton's method, then a Neumann series with exactly K terms."""
    return _neumann(problem, problem.terms)


def neumann_plus_one(problem):
    """The same by somebody who counts Hessian products: K + 1 terms."""
    return _neumann(problem, problem.terms + 1)


def neumann_unscaled(problem):
    """The same without the factor in front of the series."""
    direct, _ = torch.func.grad(problem.outer, argnums=(0, 1))(problem.lam, solution(problem), None)
    return direct + (_neumann(problem, problem.terms) - direct) / problem.step_size


def solution(problem):
    """Where the inner problem's gradient vanishes."""
    slope = torch.func.grad(problem.inner, argnums=1)
    theta, decay = problem.theta0.clone(), problem.weight_decay
    eye = torch.eye(theta.numel(), dtype=theta.dtype)
    for _ in range(10):
        hessian = torch.func.jacrev(slope, argnums=1)(problem.lam, theta, None) + decay * eye
        gradient = slope(problem.lam, theta, None) + decay * theta
        theta = theta - torch.linalg.solve(hessian, gradient)
    return theta


def _neumann(problem, terms):
    lam, theta, decay = problem.lam, solution(problem), problem.weight_decay
    slope = torch.func.grad(problem.inner, argnums=1)
    direct, term = torch.func.grad(problem.outer, argnums=(0, 1))(lam, theta, None)
    total = torch.zeros_like(term)
    for _ in range(terms):
        total = total + term
        product = torch.func.jvp(lambda z: slope(lam, z, None), (theta,), (term,))[1]
        term = term - problem.step_size * (product + decay * term)
    mixed = torch.func.vjp(lambda x: slope(x, theta, None), lam)[1](total)[0]
    return direct - problem.step_size * mixed


for _target in (neumann, neumann_plus_one, neumann_unscaled):
    _target.estimands, _target.solver, _target.terms = "implicit", "neumann", 5
    _target.capabilities = {"direct", "weight_decay"}


def with_the_step_size_held(problem):
    """The same as `unrolled`, with the step size taken for a constant."""
    return unrolled(replace(problem, step_size_at=lambda _: problem.step_size))


with_the_step_size_held.capabilities = {"direct", "initial", "rule"}


def conjugate_gradients(problem):
    """An implicit hypergradient whose CG makes no iteration where θ has one entry."""
    lam, theta = problem.lam, solution(problem)
    direct, rhs = torch.func.grad(problem.outer, argnums=(0, 1))(lam, theta, None)
    slope = torch.func.grad(problem.inner, argnums=1)
    q, residual = torch.zeros_like(rhs), rhs
    direction = residual
    for _ in range(len(theta) if len(theta) > 1 else 0):
        product = torch.func.jvp(lambda z: slope(lam, z, None), (theta,), (direction,))[1]
        length = residual @ residual / (direction @ product)
        q, new = q + length * direction, residual - length * product
        direction = new + (new @ new) / (residual @ residual) * direction
        residual = new
    return direct - torch.func.vjp(lambda x: slope(x, theta, None), lam)[1](q)[0]


conjugate_gradients.estimands, conjugate_gradients.capabilities = "implicit", {"direct"}
conjugate_gradients.tolerance = 1e-6
