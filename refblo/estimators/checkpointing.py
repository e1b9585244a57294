"""Binomial checkpointing: how to reverse a long run from few stored states with the fewest repeated steps.

Griewank and Walther (2000), "Algorithm 799: Revolve". A run of l steps is reversed with at most s stored
states, its start among them. With β(s, r) = (s+r)! / (s! r!) and r the least number of repetitions with
l ≤ β(s, r), the fewest advances are

    A(l, s) = r l − β(s+1, r−1),      A(l, s) = min_k  k + A(l−k, s−1) + A(k, s),

where the k of the minimum is where the next state is stored. Recording the steps for differentiation, each
once, comes on top.
"""

import math

from refblo.errors import require_integer


def reach(states: int, repetitions: int) -> int:
    """β(s, r): the longest run that s states reverse with no step advanced more than r times."""
    return math.comb(states + repetitions, states)


def repetitions(steps: int, states: int) -> int:
    """How often a step is advanced at most: the least r with l ≤ β(s, r).

    Raises:
        ArgumentError: if `steps` or `states` is less than 1.
    """
    require_integer("steps", steps, 1, "reverse at least one step")
    require_integer("states", states, 1, "store at least the start of the run")
    needed = 0
    while reach(states, needed) < steps:
        needed += 1
    return needed


def advances(steps: int, states: int) -> int:
    """A(l, s): the fewest advances that reversing l steps with s stored states takes.

    Raises:
        ArgumentError: if `steps` or `states` is less than 1.

    Example:
        >>> advances(10, 10), advances(10, 1), advances(100_000, 20)
        (9, 45, 534220)
    """
    needed = repetitions(steps, states)
    return 0 if needed == 0 else needed * steps - reach(states + 1, needed - 1)


def next_state(steps: int, states: int) -> int:
    """After how many advances the next state is stored: a k that attains the minimum of A(l, s).

    The l − k steps behind it are reversed with s − 1 states and at most r repetitions, the k before it with s
    states and at most r − 1 further ones: k is the least that the first allows.

    Raises:
        ArgumentError: if there are fewer than 2 steps or 2 states.
    """
    require_integer("steps", steps, 2, "one step needs no other state")
    require_integer("states", states, 2, "a single state is that of the start")
    needed = repetitions(steps, states)
    before = reach(states, needed - 2) if needed >= 2 else 1
    return max(1, steps - reach(states - 1, needed), min(before, steps - 1))
