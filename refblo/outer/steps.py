"""The steps of an outer loop: what a callback gets, what a run returns, and what each step draws from."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from refblo.cost import Evaluations
from refblo.noise import Draws
from refblo.types import Hypergradient, Status

SEED_BITS = 20
"""Outer step k draws from `Draws(seed · 2^20 + k)`, so that no two steps, and no two seeds, share a draw."""


@final
@dataclass(frozen=True, eq=False)
class OuterStep:
    """One outer step, as a callback gets it.

    Attributes:
        step: the number of steps made so far: k + 1 after step k.
        lam: λ after the step, shape (p,).
        result: the hypergradient of the step, at λ before it.
    """

    step: int
    lam: Float[Tensor, " p"]
    result: Hypergradient


@runtime_checkable
class Callback(Protocol):
    """A function that is called after each outer step; the loop ends if it returns True."""

    def __call__(self, step: OuterStep) -> bool | None:
        """Called with the step that was just made; True ends the loop."""
        ...


@final
@dataclass(frozen=True, eq=False)
class OuterRun:
    """The result of an outer loop.

    Attributes:
        lam: the last λ, shape (p,).
        theta: the last inner iterate, shape (n,).
        steps: the number of outer steps made, including those before a resumption.
        status: the status of the last hypergradient; the loop stops at a divergence.
        cost: the derivative evaluations, including those before a resumption.
    """

    lam: Float[Tensor, " p"]
    theta: Float[Tensor, " n"]
    steps: int
    status: Status
    cost: Evaluations


def outer_draws(seed: int, step: int) -> Draws:
    """The randomness of one outer step."""
    return Draws((seed << SEED_BITS) + step)


@contextmanager
def progress_bar(steps: int, description: str = "outer steps") -> Iterator[Callback]:
    """A callback that shows a progress bar in the terminal.

    Args:
        steps: K, the number of outer steps.
        description: the text beside the bar.
    """
    from rich.progress import Progress

    with Progress(transient=True) as shown:
        task = shown.add_task(description, total=steps)

        def callback(step: OuterStep) -> bool | None:
            shown.update(task, completed=step.step)
            return None

        yield callback
