"""Optimistix: solvers with an adjoint to choose."""

import jax
import jax.numpy as jnp
import optimistix
from solving_jax import inner_of, slope_of, solution, target, tree_outer

TINY = 1e-300
"""A tolerance that is met by an exact fixed point alone: the number of steps is what was asked for."""


@target("unrolled", "direct", "initial")
def gradient_descent_unrolled(problem):
    """minimise(GradientDescent), whose first step evaluates the initial point: T + 1 steps for T updates."""
    inner, outer = inner_of(problem), tree_outer(problem)
    solver = optimistix.GradientDescent(problem.step_size, rtol=TINY, atol=TINY)

    @jax.jit
    def objective(lam):
        found = optimistix.minimise(
            inner,
            solver,
            problem.split(problem.initial(lam)),
            args=lam,
            max_steps=problem.steps + 1,
            adjoint=optimistix.RecursiveCheckpointAdjoint(),
            throw=False,
        )
        return outer(lam, found.value)

    return jax.grad(objective)(problem.lam)


@target("unrolled", "direct", "initial", "weight_decay")
def fixed_point_unrolled(problem):
    slope = slope_of(problem)
    solver = optimistix.FixedPointIteration(rtol=TINY, atol=TINY)

    @jax.jit
    def objective(lam):
        found = optimistix.fixed_point(
            lambda theta, at: theta - problem.step_size * slope(at, theta),
            solver,
            problem.initial(lam),
            args=lam,
            max_steps=problem.steps,
            adjoint=optimistix.RecursiveCheckpointAdjoint(),
            throw=False,
        )
        return problem.outer(lam, found.value, None)

    return jax.grad(objective)(problem.lam)


IMPLICIT = ("direct", "weight_decay", "momentum")


@target("implicit", "direct")
def minimise_implicit(problem):
    """minimise(BFGS) with the implicit adjoint."""
    inner, outer = inner_of(problem), tree_outer(problem)
    solver = optimistix.BFGS(rtol=1e-12, atol=1e-12)

    @jax.jit
    def objective(lam):
        start = problem.split(jnp.asarray(solution(problem)))
        found = optimistix.minimise(inner, solver, start, args=lam, throw=False)
        return outer(lam, found.value)

    return jax.grad(objective)(problem.lam)


@target("implicit", *IMPLICIT)
def root_implicit(problem):
    """root_find(Newton)."""
    slope = slope_of(problem)
    solver = optimistix.Newton(rtol=1e-12, atol=1e-12)

    @jax.jit
    def objective(lam):
        found = optimistix.root_find(
            lambda theta, at: slope(at, theta), solver, problem.theta0, args=lam, throw=False
        )
        return problem.outer(lam, found.value, None)

    return jax.grad(objective)(problem.lam)


@target("implicit", *IMPLICIT)
def fixed_point_implicit(problem):
    """fixed_point with the inner optimiser's own step as the map, momentum included."""
    slope = slope_of(problem)
    solver = optimistix.FixedPointIteration(rtol=1e-12, atol=1e-12)

    def advance(state, lam):
        theta, velocity = state
        velocity = problem.momentum * velocity + slope(lam, theta)
        return theta - problem.step_size * velocity, velocity

    @jax.jit
    def objective(lam):
        theta = jnp.asarray(solution(problem))
        found = optimistix.fixed_point(
            advance, solver, (theta, jnp.zeros_like(theta)), args=lam, throw=False
        )
        return problem.outer(lam, found.value[0], None)

    return jax.grad(objective)(problem.lam)
