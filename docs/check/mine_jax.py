"""The same hypergradient in JAX."""

from typing import Any

import jax


def hypergradient(problem: Any) -> jax.Array:
    """Differentiate the whole run."""

    def objective(lam: jax.Array) -> jax.Array:
        theta = problem.initial(lam)
        for t in range(problem.steps):
            batch = problem.inner_batch(t)
            theta = theta - problem.step_size * jax.grad(problem.inner, argnums=1)(
                lam, theta, batch
            )
        value: jax.Array = problem.outer(lam, theta, problem.outer_batch(problem.steps))
        return value

    answer: jax.Array = jax.grad(objective)(problem.lam)
    return answer


hypergradient.capabilities = {"direct", "initial", "minibatches"}  # type: ignore[attr-defined]
