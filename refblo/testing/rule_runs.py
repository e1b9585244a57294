"""Random runs of a rule beside its twins in torch and optax, and how far they end up from each other.

A run is a start, gradients and the rule's numbers, all random; a third of the gradients' entries are exactly
zero, from the first step on for one entry. The distance is in units in the last place of the largest |θ| or
|move| of the entry along the run: what rounding each step once could do is one unit a step.
"""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float64

from refblo.testing.rules import STEPS, RuleVariant

Array = np.ndarray

SIZE = 4
"""n."""

ALLOWED = 50 * STEPS
"""Units in the last place by which a run may differ from its twin's: 50 a step."""


@final
@dataclass(frozen=True, eq=False)
class RandomRuns:
    """Runs of one rule.

    Attributes:
        numbers: of each run, the rule's numbers.
        starts: θ⁰ of each.
        gradients: of each, at each step.
    """

    numbers: Float64[Array, "runs k"]
    starts: Float64[Array, "runs n"]
    gradients: Float64[Array, "runs T n"]

    @staticmethod
    def of(variant: RuleVariant, count: int, seed: int = 0) -> "RandomRuns":
        """Random runs of a rule, the same for the same seed.

        Args:
            variant: the rule.
            count: how many runs.
            seed: of all draws.
        """
        draw = np.random.default_rng([seed, *variant.name.encode()])
        low, high = (np.log([bounds[i] for bounds in variant.ranges]) for i in range(2))
        numbers = np.exp(low + (high - low) * draw.random((count, len(variant.ranges))))
        scale = 10.0 ** draw.uniform(-4, 2, (count, 1, SIZE))
        gradients = scale * draw.standard_normal((count, STEPS, SIZE))
        gradients *= draw.random((count, STEPS, SIZE)) > 1 / 3
        gradients[:, :, 0] *= np.arange(STEPS) >= draw.integers(0, STEPS, (count, 1))
        return RandomRuns(numbers, draw.standard_normal((count, SIZE)), gradients)

    def by_rule(self, variant: RuleVariant) -> Float64[Array, "runs T n"]:
        """θ¹ … θ^T of each run, by the rule."""
        found = np.empty_like(self.gradients)
        for run, (numbers, start) in enumerate(zip(self.numbers, self.starts, strict=True)):
            rule = variant.rule(*numbers.tolist())
            state = rule.state(torch.tensor(start))
            for step in range(STEPS):
                gradient = torch.tensor(self.gradients[run, step])
                state = rule.advance(state, gradient, step, None, state[:0])
                found[run, step] = state[:SIZE].numpy()
        return found

    def by_torch(self, variant: RuleVariant) -> Float64[Array, "runs T n"]:
        """The same, by the twin in torch.

        Raises:
            LookupError: if it has none.
        """
        if isinstance(variant.in_torch, str):
            why = variant.in_torch
            raise LookupError(f"{variant.name} has no twin in torch: {why}")  # noqa: TRY004  (no type is wrong)
        found = np.empty_like(self.gradients)
        for run, (numbers, start) in enumerate(zip(self.numbers, self.starts, strict=True)):
            theta = torch.tensor(start, requires_grad=True)
            step_once = variant.in_torch(*numbers.tolist())(theta)
            for step in range(STEPS):
                theta.grad = torch.tensor(self.gradients[run, step])
                step_once()
                found[run, step] = theta.detach().numpy()
        return found

    def by_optax(self, variant: RuleVariant) -> Float64[Array, "runs T n"]:
        """The same, by the twin in optax: all runs side by side where optax can trace its numbers.

        Raises:
            LookupError: if it has none.
        """
        import jax

        if isinstance(variant.in_optax, str):
            why = variant.in_optax
            raise LookupError(f"{variant.name} has no twin in optax: {why}")  # noqa: TRY004  (likewise)
        make = variant.in_optax

        def one(numbers: Any, start: Any, gradients: Any) -> Any:
            twin = make(*numbers)

            def step(carried: Any, gradient: Any) -> Any:
                theta, state = carried
                moves, state = twin.update(gradient, state, theta)
                return (theta + moves, state), theta + moves

            return jax.lax.scan(step, (start, twin.init(start)), gradients)[1]

        given = (self.numbers, self.starts, self.gradients)
        with jax.enable_x64(True):
            try:
                result: Array = np.asarray(jax.jit(jax.vmap(one))(*given))
            except jax.errors.TracerBoolConversionError:  # a number decides about code
                result = np.stack([_one_by_one(make, *each) for each in zip(*given, strict=True)])
        return result

    def units(self, one: Array, other: Array) -> float:
        """The largest distance of two results, in units in the last place of what each entry went through."""
        path = np.concatenate([self.starts[:, None], one], axis=1)
        largest = np.maximum(np.abs(path), np.abs(np.diff(path, axis=1, prepend=0))).max(axis=1)
        return float((np.abs(one - other).max(axis=1) / np.spacing(largest)).max())


def _one_by_one(make: Any, numbers: Array, start: Array, gradients: Array) -> Array:
    """One run of a twin in optax, step after step."""
    import jax.numpy as jnp

    twin, theta, found = make(*numbers.tolist()), jnp.asarray(start), []
    state = twin.init(theta)
    for gradient in gradients:
        moves, state = twin.update(jnp.asarray(gradient), state, theta)
        theta = theta + moves
        found.append(np.asarray(theta))
    return np.stack(found)
