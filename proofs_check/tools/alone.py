"""A condition of a theorem is needed if the theorem fails without it although every other condition holds.

So a counterexample is an instance that satisfies all conditions but one, and one that does not is refused.
"""

import sys
from functools import cache
from typing import Protocol

from proofs_check.claim import Assumption
from proofs_check.errors import ClaimRefusedError


class ConditionedInstance(Protocol):
    """One problem, of which it can be decided which conditions of a theorem it satisfies."""

    @property
    def name(self) -> str:
        """What it is."""
        ...

    def holds(self, condition: Assumption) -> bool:
        """Whether a condition of the theorem holds."""
        ...


@cache
def satisfies(instance: ConditionedInstance, conditions: tuple[Assumption, ...]) -> bool:
    """Whether an instance satisfies all of some conditions."""
    return all(instance.holds(condition) for condition in conditions)


@cache
def refuse_other_violations(
    instance: ConditionedInstance, condition: Assumption, conditions: tuple[Assumption, ...]
) -> None:
    """Refuse a counterexample without one condition that violates another one as well.

    Args:
        instance: the counterexample.
        condition: the condition that it is to show as needed.
        conditions: all conditions of the theorem.

    Raises:
        ClaimRefusedError: it satisfies the condition, or violates another.
    """
    violated = [each.key for each in conditions if not instance.holds(each)]
    if violated != [condition.key]:
        file = sys.modules[type(instance).__module__].__file__
        raise ClaimRefusedError(
            f"the counterexample {instance.name!r} in {file} must violate {condition.key!r} alone, got "
            f"{violated}; change it until the conditions {[c.key for c in conditions if c != condition]} hold"
        )
