"""Which way the words are made: NumPy on the CPU, torch operations on every other device."""

from dataclasses import dataclass, replace
from typing import Protocol, final, runtime_checkable

from jaxtyping import Int64
from torch import Tensor

from refblo.random_words.host import words_by_host
from refblo.random_words.operations import words_by_operations

BLOCK = 4
"""Words that the generator makes at a time."""


@runtime_checkable
class Words(Protocol):
    """Where words come from."""

    def words(
        self, steps: range, first: int, count: int, like: Tensor
    ) -> Int64[Tensor, "steps count"]:
        """Some consecutive words of some consecutive steps, as `Source.words`."""
        ...

    def further(self) -> "Words":
        """Where more bits of the same numbers come from."""
        ...


@final
@dataclass(frozen=True)
class Source:
    """The words of one (seed, stream).

    Args:
        seed: in [0, 2^63).
        stream: in [0, 2^63).
        plane: the counter's last word: another plane has other words, for more bits of the same numbers.
    """

    seed: int
    stream: int
    plane: int = 0

    def further(self) -> "Source":
        """The words of the next plane."""
        return replace(self, plane=self.plane + 1)

    def words(
        self, steps: range, first: int, count: int, like: Tensor
    ) -> Int64[Tensor, "steps count"]:
        """Some consecutive words of some consecutive steps, on the device of `like`.

        Args:
            steps: consecutive steps.
            first: the number of the first word, a multiple of 4.
            count: how many words of each step.
            like: a tensor on the device that is to compute them.
        """
        block, blocks = first // BLOCK, -(-count // BLOCK)
        if like.device.type == "cpu":
            drawn = words_by_host(self.seed, self.stream, self.plane, steps, block, blocks)
        else:
            drawn = words_by_operations(
                self.seed, self.stream, self.plane, steps, block, blocks, like.device
            )
        return drawn if count == BLOCK * blocks else drawn[:, :count]
