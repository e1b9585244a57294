"""The same three hypergradients in a few lines of jitted JAX, in float64; where it is installed."""

import importlib
import importlib.util
from typing import Any

import torch.utils.dlpack
from torch import Tensor

from asv_bench.benchmarks.problems import separable_numbers
from asv_bench.measuring.peers import Hypergradient


def available_jax(
    method: str, n: int, steps: int, step_size: float, iterations: int, terms: int
) -> dict[str, Hypergradient]:
    """The hypergradient of `problems.separable`, compiled once before it is returned."""
    if importlib.util.find_spec("jax") is None:
        return {}
    jax: Any = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    jnp, lax = jax.numpy, jax.lax
    weights, target, start = (jnp.asarray(one.numpy()) for one in separable_numbers(n))
    at = jnp.asarray(start)

    def inner(lam: Any, theta: Any) -> Any:
        return 0.5 * (weights * (theta - lam) ** 2).sum() + 0.1 * jnp.cos(theta).sum()

    def outer(theta: Any) -> Any:
        return 0.5 * ((theta - target) ** 2).sum()

    slope = jax.grad(inner, argnums=1)

    def run(lam: Any) -> Any:
        def step(theta: Any, _: Any) -> Any:
            return theta - step_size * slope(lam, theta), None

        return lax.scan(step, jnp.zeros(n), None, length=steps)[0]

    def implicit(lam: Any) -> Any:
        theta = run(lam)
        right = jax.grad(outer)(theta)

        def product(v: Any) -> Any:
            return jax.jvp(lambda t: slope(lam, t), (theta,), (v,))[1]

        if method == "IFT-CG":
            q = jax.scipy.sparse.linalg.cg(product, right, tol=0.0, maxiter=iterations)[0]
        else:

            def add(carry: Any, _: Any) -> Any:
                term, total = carry
                term = term - step_size * product(term)
                return (term, total + term), None

            q = step_size * lax.scan(add, (right, right), None, length=terms - 1)[0][1]
        return -jax.vjp(lambda at: slope(at, theta), lam)[1](q)[0]

    function = jax.jit(jax.grad(lambda lam: outer(run(lam))) if method == "RMD" else implicit)

    def hypergradient() -> Tensor:
        return torch.utils.dlpack.from_dlpack(function(at).block_until_ready())

    hypergradient()
    return {"JAX, jitted": hypergradient}
