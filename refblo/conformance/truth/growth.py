"""How far an inner run goes: a run that diverges has no hypergradient worth judging.

One forward run tells, before anything that takes longer. Its errors name the option that sets the step size.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.errors import OracleError

_LEAST_BOUND = 6e4
"""The bound for float16, whose largest number is 65504: sizes of a few hundred are ordinary there."""

LARGEST_BOUND = 1e100
"""The bound for float64: what is judged are products of a loss with its sensitivities, and their squares."""

_GROWTH = 1e8
"""From which growth of |θ| on an oracle that cannot answer is explained by it."""


def bound_of(dtype: torch.dtype) -> float:
    """The size from which on a number of this dtype, or what is computed from it, has no finite square."""
    root = math.sqrt(float(torch.finfo(dtype).max))
    return min(max(root, _LEAST_BOUND), LARGEST_BOUND)


@final
@dataclass(frozen=True, eq=False)
class Growth:
    """How large θ becomes along a run.

    Attributes:
        first: |θ⁰|, the largest absolute value of its entries.
        last: |θ| at the last step at which it is finite and below the bound, or first above it.
        step: number of the step whose |θ| is `last`.
        steps: how many steps the run has.
        bound: the size at which it was stopped.
        finite: whether the state after `step`, if there is one, is finite.
        end: the last state.
    """

    first: float
    last: float
    step: int
    steps: int
    bound: float
    finite: bool
    end: Float[Tensor, " N"]

    @classmethod
    def of(
        cls, states: Iterable[Float[Tensor, " N"]], size: int, steps: int, bound: float
    ) -> "Growth":
        """Follow a run until it ends, is not finite, or is too large.

        Args:
            states: z⁰, z¹, …; no more of them are computed than needed.
            size: how many entries of a state are θ.
            steps: how many transitions there are.
            bound: how large |θ| may be.
        """
        first = last = 0.0
        step = 0
        end: Tensor | None = None
        for index, state in enumerate(states):
            # The whole state decides whether it is finite; the optimiser's buffers may be large.
            whole, now = float(state.abs().sum()), float(state[:size].abs().max())
            if not math.isfinite(whole) and not bool(state.isfinite().all()):
                return cls(first, last, step, steps, bound, False, state)
            first = now if index == 0 else first
            last, step, end = now, index, state
            if now > bound:
                break
        if end is None:
            raise AssertionError("a run has a first state")
        return cls(first, last, step, steps, bound, True, end)

    @property
    def diverges(self) -> bool:
        """Whether θ becomes so large, or too large for its dtype, that nothing can be judged."""
        return self.last > self.bound or (not self.finite and self.grows)

    @property
    def grows(self) -> bool:
        """Whether θ becomes so large that an oracle may fail because of it."""
        least = 1e3 if not self.finite else _GROWTH
        return self.last > least * max(1.0, self.first)

    def error(self, option: str) -> OracleError:
        """What to say of a run that diverges.

        Args:
            option: what sets the size of the steps: step_size, rule or step.
        """
        after = "" if self.finite else f", and is not finite at step {self.step + 1}"
        remedy = {
            "rule": "lower the step size of rule",
            "step": "lower the step size inside step",
        }.get(option, "lower step_size")
        return OracleError(
            f"{option} must keep the inner run bounded, got one that diverges: {self.describe()}{after}; "
            f"{remedy}"
        )

    def describe(self) -> str:
        """How far it goes."""
        return f"|theta| grows from {self.first:.2g} to {self.last:.1e} by step {self.step} of {self.steps}"
