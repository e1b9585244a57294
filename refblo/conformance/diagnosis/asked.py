"""Further calls of the implementation: as few as will do, and none for which there is no time.

A caller's hypergradient may take as long as a training, so an answer at a λ that was asked before is kept.
"""

import time
from collections.abc import Callable, Iterable
from typing import final

import numpy as np
from jaxtyping import Float64

from refblo.conformance.diagnosis.budget import check_time

Array = np.ndarray
Vector = Float64[Array, " p"]


@final
class Asked:
    """An implementation and its answers so far.

    Args:
        call: λ ↦ the answer.
        known: (λ, answer) of calls that were made before.
        seconds: how long one of them took.
    """

    def __init__(
        self,
        call: Callable[[Vector], Vector],
        known: Iterable[tuple[Vector, Vector]] = (),
        seconds: float = 0.0,
    ) -> None:
        self._call, self._seconds = call, seconds
        self._answers: dict[bytes, list[Vector]] = {}
        for lam, answer in known:
            self._answers.setdefault(_key(lam), []).append(answer)

    def at(self, lam: Vector) -> Vector:
        """The answer at λ: the first of those that are known, or of a call."""
        return self.repeated(lam, 1)[0]

    def repeated(self, lam: Vector, count: int) -> list[Vector]:
        """Answers to as many calls at one λ, in order.

        Raises:
            OutOfTime: if a call would not end within the time for the diagnosis.
        """
        answers = self._answers.setdefault(_key(lam), [])
        while len(answers) < count:
            check_time(self._seconds)
            begun = time.monotonic()
            answers.append(self._call(lam))
            self._seconds = time.monotonic() - begun
        return answers[:count]


def _key(lam: Vector) -> bytes:
    return (np.asarray(lam, dtype=np.float64) + 0.0).tobytes()  # so that -0 is 0
