"""Philox4x64-10 on the CPU, by NumPy's C code, as one operation of torch.

It is an operation so that what it makes is counted, and so that it runs on tensors without numbers too: there
it makes a tensor without numbers.
"""

import threading
from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor


class _Generator(threading.local):
    """One generator a thread: setting its state takes a tenth of the time that making one takes.

    The state is given in lists, of which NumPy reads an item in a third of the time of an array's.
    """

    def __init__(self) -> None:
        self.generator = np.random.Philox(key=0)
        self.key, self.counter = [0, 0], [0, 0, 0, 0]
        words = {"key": self.key, "counter": self.counter}
        self.state: Any = {**self.generator.state, "state": words, "buffer": [0, 0, 0, 0]}


_OF_THREAD = _Generator()

_LIBRARY = torch.library.Library("refblo", "DEF")  # type: ignore[no-untyped-call]  # torch leaves it unannotated


def register(
    signature: str, on_numbers: Callable[..., Tensor], on_shapes: Callable[..., Tensor]
) -> None:
    """Make a function that returns a tensor on the CPU an operation of torch, named `refblo::NAME`.

    Args:
        signature: its name, and its arguments as torch's schemas have them.
        on_numbers: the function.
        on_shapes: what it returns where tensors have no numbers.
    """
    name = signature.partition("(")[0]
    _LIBRARY.define(f"{signature} -> Tensor")  # type: ignore[no-untyped-call]  # likewise
    _LIBRARY.impl(name, on_numbers, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]  # likewise
    torch.library.register_fake(f"refblo::{name}", on_shapes, lib=_LIBRARY)


class _Operation(Protocol):
    def __call__(
        self,
        seed: int,
        stream: int,
        plane: int,
        first_step: int,
        steps: int,
        first: int,
        blocks: int,
    ) -> Tensor: ...


def raw_words(
    seed: int, stream: int, plane: int, first_step: int, steps: int, first: int, blocks: int
) -> Int64[np.ndarray, "steps words"]:
    """The words of consecutive blocks of some steps, four to a block, as an array."""
    of_thread = _OF_THREAD
    generator, state, counter = of_thread.generator, of_thread.state, of_thread.counter
    of_thread.key[0], counter[0], counter[2], counter[3] = seed, first, stream, plane
    rows: list[Any] = []
    count = 4 * blocks
    for step in range(first_step, first_step + steps):
        counter[1] = step
        generator.state = state
        rows.append(generator.random_raw(count))
    # Joined as bytes, which takes half the time of NumPy's own way.
    words = rows[0] if steps == 1 else np.frombuffer(bytearray().join(rows), np.uint64)
    drawn: Int64[np.ndarray, "steps words"] = words.view(np.int64).reshape(steps, -1)
    return drawn


def _words(
    seed: int, stream: int, plane: int, first_step: int, steps: int, first: int, blocks: int
) -> Int64[Tensor, "steps words"]:
    return torch.from_numpy(raw_words(seed, stream, plane, first_step, steps, first, blocks))


def _shape(
    seed: int,  # noqa: ARG001  # the operation's signature
    stream: int,  # noqa: ARG001
    plane: int,  # noqa: ARG001
    first_step: int,  # noqa: ARG001
    steps: int,
    first: int,  # noqa: ARG001
    blocks: int,
) -> Int64[Tensor, "steps words"]:
    return torch.empty((steps, 4 * blocks), dtype=torch.int64)


register(
    "philox_words(int seed, int stream, int plane, int first_step, int steps, int first, int blocks)",
    _words,
    _shape,
)

_OPERATION = cast("_Operation", torch.ops.refblo.philox_words.default)


def dispatched() -> bool:
    """Whether somebody counts or traces. If not, the dispatch of an operation is time for nothing."""
    return bool(torch._C._len_torch_dispatch_stack())


def unwatched() -> bool:
    """Whether nobody counts, traces or transforms what is computed: then any library may compute it."""
    return (
        not dispatched()
        and not torch._C._len_torch_function_stack()
        # A transform of torch.func lets nobody write to memory that was there before.
        and torch._C._functorch.peek_interpreter_stack() is None
    )


def words_by_host(
    seed: int, stream: int, plane: int, steps: range, first: int, blocks: int
) -> Int64[Tensor, "steps words"]:
    """The words of consecutive blocks of some steps, four to a block, on the CPU.

    Args:
        seed: the key, in [0, 2^63).
        stream: the counter's third word.
        plane: the counter's fourth word.
        steps: consecutive steps, the counter's second word.
        first: the number of the first block.
        blocks: how many blocks.
    """
    make = _OPERATION if dispatched() else _words
    return make(seed, stream, plane, steps.start, len(steps), first, blocks)
