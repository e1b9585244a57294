"""A rule's transition in balls, with its tangent: the formula under interval arithmetic with tangents."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, final

from flint import arb, arb_mat

from refblo.balls.duals import BallDual, BallOperations
from refblo.balls.graph import Balls
from refblo.rules.formulas import StepNumbers
from refblo.rules.rule import Rule

_OPERATIONS = BallOperations()


@final
class RuleRun:
    """The transitions of one run of a rule, one after another; it holds the buffers.

    Args:
        rule: the rule; its functions are called with λ as a `BallDual`.
        lam: λ, p exact numbers.
        size: n.
    """

    def __init__(self, rule: Rule, lam: Balls, size: int) -> None:
        self._rule = rule
        self._lam = BallDual.of_lam(lam)
        self._buffers = tuple(BallDual([arb(0)] * size) for _ in range(rule.buffers))

    def step(
        self, theta: Balls, tangent: arb_mat, gradient: Sequence[arb], change: arb_mat, step: int
    ) -> tuple[Balls, arb_mat]:
        """θ without noise and its tangent after one step.

        Args:
            theta: θ^t, n balls.
            tangent: dθ^t/dλ, n × p.
            gradient: ∂_θ L_T there.
            change: its derivative by λ along the run, H·tangent + C.
            step: t.

        Raises:
            OracleError: at a point where the rule has no derivative, or one may lie in an enclosure.
        """
        numbers = _exact(self._rule.numbers(self._lam, step))
        moved, self._buffers = self._rule.move(
            _OPERATIONS,
            numbers,
            BallDual(theta, tangent.tolist()),
            BallDual(gradient, change.tolist()),
            self._buffers,
            step,
        )
        rows = moved.tangent(len(self._lam))
        return moved.values, arb_mat(len(rows), len(self._lam), [e for row in rows for e in row])


def _exact(numbers: StepNumbers) -> StepNumbers:
    """Every number as exact balls: arithmetic of Python's own floats would be rounded."""

    def ball(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(ball, value))
        return None if value is None else BallDual.of(value)

    return StepNumbers(**{each.name: ball(getattr(numbers, each.name)) for each in fields(numbers)})
