"""What the adapters of JAX libraries share."""

import functools

import jax
import jax.numpy as jnp
from solving import target

__all__ = ["inner_of", "slope_of", "solution", "target", "tree_outer"]


def inner_of(problem):
    """(parts, λ) ↦ the inner loss."""
    return lambda parts, lam: problem.inner(lam, problem.join(parts), None)


def tree_outer(problem):
    """(λ, parts) ↦ the outer loss."""
    return lambda lam, parts: problem.outer(lam, problem.join(parts), None)


def slope_of(problem):
    """(λ, θ) ↦ the gradient that the optimiser sees: with its weight decay."""
    gradient = jax.grad(problem.inner, argnums=1)
    return lambda lam, theta: gradient(lam, theta, None) + problem.weight_decay * theta


@functools.cache
def _newton(inner, decay):
    def slope(lam, theta):
        return jax.grad(inner, argnums=1)(lam, theta, None) + decay * theta

    @jax.jit
    def step(lam, theta):
        hessian = jax.jacobian(slope, argnums=1)(lam, theta)
        return theta - jnp.linalg.solve(hessian, slope(lam, theta))

    return step


def solution(problem):
    """Where the inner gradient vanishes, by Newton's method from the initial point."""
    lam, theta = problem.lam, problem.theta0
    step = _newton(problem.inner, problem.weight_decay)
    for _ in range(15):
        theta = step(lam, theta)
    return theta
