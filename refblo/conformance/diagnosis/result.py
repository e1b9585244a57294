"""What a diagnosis says."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from refblo.conformance.diagnosis.choose import Choice
from refblo.conformance.diagnosis.mistakes import Mistake


@final
@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a hypergradient.

    Attributes:
        name: of the mistake that explains it, or None.
        text: what that means.
        unexplained: the share of the error that it leaves: ‖observed − candidate‖ / ‖observed − truth‖.
        runner_up: the name of the best other explanation, or "".
        runner_up_unexplained: what that one leaves.
        also: names of mistakes that give the same vector here.
        components: where the error sits, in words.
        tried: how many candidates were compared.
        failed: the families of mistakes that could not be evaluated, each with the reason.
        cut_off: the families that the time limit kept from being evaluated, or from being finished.
    """

    name: str | None
    text: str
    unexplained: float
    runner_up: str
    runner_up_unexplained: float
    also: tuple[str, ...]
    components: tuple[str, ...]
    tried: int
    failed: tuple[str, ...] = ()
    cut_off: tuple[str, ...] = ()

    @staticmethod
    def of(
        choice: Choice,
        tried: int,
        components: Sequence[str] = (),
        failed: Sequence[str] = (),
        cut_off: Sequence[str] = (),
    ) -> "Diagnosis":
        """The diagnosis that a choice among candidates makes, with what else was found."""
        best, second = choice.best, choice.second
        return Diagnosis(
            name=None if best is None else best.name,
            text="" if best is None else best.text,
            unexplained=1.0 if best is None else best.unexplained,
            runner_up="" if second is None else second.name,
            runner_up_unexplained=math.inf if second is None else second.unexplained,
            also=choice.same,
            components=tuple(components),
            tried=tried,
            failed=tuple(failed),
            cut_off=tuple(cut_off),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All names that fit equally well, the preferred one first."""
        return () if self.name is None else (self.name, *self.also)

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """The mistakes that have these names."""
        return tuple(dict.fromkeys(Mistake.named(name) for name in self.names))

    def describe(self) -> str:
        """The diagnosis in a few lines."""
        lines = [self._named() if self.name is not None else self._unnamed(), *self.components]
        lines += [f"could not be evaluated: {reason}" for reason in self.failed]
        if self.cut_off:
            lines.append(f"not finished within the time limit: {', '.join(self.cut_off)}")
        return "\n  ".join(lines)

    def _named(self) -> str:
        same = f" (the same here: {', '.join(self.also)})" if self.also else ""
        second = f"; next best {self.runner_up!r} leaves {self.runner_up_unexplained:.1%}"
        return (
            f"{self.name}: {self.text}{same}. It explains all but {self.unexplained:.1e} of the error"
            f"{second if self.runner_up else ''}."
        )

    def _unnamed(self) -> str:
        if self.tried == 0:
            return "no known mistake was compared with it."
        best = f" The nearest, {self.runner_up!r}, leaves {self.runner_up_unexplained:.1%} of the error."
        return f"none of {self.tried} known mistakes explains it.{best if self.runner_up else ''}"
