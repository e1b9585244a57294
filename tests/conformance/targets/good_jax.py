"""A right hypergradient in JAX, and a wrong one."""

from functools import partial

import jax
import jax.numpy as jnp


@partial(jax.jit, static_argnames=("inner", "outer", "initial", "settings"))
def objective_gradient(lam, noise, inner_batches, outer_batches, inner, outer, initial, settings):
    """Differentiate the run, compiled once for each problem: its losses are the same objects at every call."""
    step_size, momentum, decay, betas, adam_epsilon, steps, burn_in = settings

    def run(lam):
        theta = initial(lam)

        def advance(state, t):
            theta, first, second = state
            batch = None if inner_batches is None else inner_batches[t]
            gradient = jax.grad(inner, argnums=1)(lam, theta, batch) + decay * theta
            if betas is None:
                first = momentum * first + gradient
                theta = theta - step_size * first
            else:
                b1, b2 = betas
                first = b1 * first + (1 - b1) * gradient
                second = b2 * second + (1 - b2) * gradient**2
                corrected = second / (1 - b2 ** (t + 1))
                safe = jnp.where(corrected > 0, corrected, 1.0)
                size = jnp.where(corrected > 0, jnp.sqrt(safe), 0.0)
                step = first / (1 - b1 ** (t + 1)) / (size + adam_epsilon)
                theta = theta - step_size * step
            if noise is not None:
                theta = theta + noise[t]
            seen = None if outer_batches is None else outer_batches[t + 1]
            return (theta, first, second), outer(lam, theta, seen)

        start = (theta, jnp.zeros_like(theta), jnp.zeros_like(theta))
        _, values = jax.lax.scan(advance, start, jnp.arange(steps))
        return values[burn_in:].mean()

    return jax.grad(run)(lam)


def unrolled(problem):
    """The derivative of the run."""
    settings = (
        problem.step_size,
        problem.momentum,
        problem.weight_decay,
        problem.betas,
        problem.adam_epsilon,
        problem.steps,
        problem.burn_in,
    )
    return objective_gradient(
        problem.lam,
        problem.noise,
        problem.inner_batches,
        problem.outer_batches,
        problem.inner,
        problem.outer,
        problem.initial,
        settings,
    )


unrolled.estimands = {"unrolled", "pathwise"}
unrolled.capabilities = {
    "adam",
    "direct",
    "initial",
    "minibatches",
    "momentum",
    "noise",
    "weight_decay",
}


def half_the_indirect_term(problem):
    """The same with a mistake in it."""
    theta = problem.theta0
    for t in range(problem.steps):
        gradient = jax.grad(problem.inner, argnums=1)(problem.lam, theta, problem.inner_batch(t))
        theta = theta - problem.step_size * gradient
    batch = problem.outer_batch(problem.steps)
    direct = jax.grad(problem.outer)(problem.lam, theta, batch)
    return direct + 0.5 * (unrolled(problem) - direct)


half_the_indirect_term.capabilities = {"direct"}
