"""What fits in a memory: the number of steps, and the batch size where the problem takes one."""

from collections.abc import Callable

import torch

from refblo.cost.predict import Fit, largest_that_fits
from refblo.equal_cost.price import VIT, price


def largest_settings(
    problem: str,
    estimator: str,
    steps: int,
    batch: int,
    dtype: torch.dtype | None,
    memory: int,
    starting: Callable[[str], None] = lambda _axis: None,
) -> dict[str, Fit]:
    """The largest T, and for `vit-b-16` the largest batch, whose run fits in a memory.

    Args:
        problem: as `price` takes it.
        estimator: as `price` takes it.
        steps: T, from which the search starts; held while the batch is searched for.
        batch: images a gradient, from which the search starts; held while T is searched for.
        dtype: as `price` takes it.
        memory: bytes that may be used.
        starting: called with the name of each axis before it is searched.

    Returns:
        "steps", and for `vit-b-16` "batch": how bytes grow with it and the largest that fits.
    """
    needs: dict[str, tuple[Callable[[int], int], int]] = {
        "steps": (lambda k: price(problem, estimator, k, batch, dtype).needed, steps)
    }
    if problem == VIT:
        needs["batch"] = (lambda k: price(problem, estimator, steps, k, dtype).needed, batch)
    fits = {}
    for axis, (needed, size) in needs.items():
        starting(axis)
        fits[axis] = largest_that_fits(needed, size, memory, 1)
    return fits
