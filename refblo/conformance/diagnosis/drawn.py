"""Randomness that is not the run's: noise or minibatches left out, shifted, or not shared."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import Trace, sweep
from refblo.conformance.truth.program import Frozen, rebuilt

Array = np.ndarray
NOISE, BATCH = "noise not shared", "minibatch not shared"


def candidates(subject: Subject) -> Iterator[Candidate]:
    """The program with other draws, and its own states linearised with other draws."""
    losses = subject.program.losses
    if subject.implicit or losses is None or not losses.frozen.anything:
        return
    for name, text, frozen in _variants(losses.frozen, subject.trace.steps):
        program = rebuilt(subject.program, frozen=frozen)
        if program is None:
            continue
        other = Trace.of(program)
        yield Candidate(name, other.direct() + sweep(other).total, text)
        if name == BATCH:
            # The run itself is right; only what is differentiated sees other batches.
            replayed = Trace(program, subject.trace.states)
            inner = subject.direct + sweep(subject.trace, replayed.pull).total
            yield Candidate(name, inner, f"{text}, in the backward pass only")

            def slopes(m: int, at: Trace = replayed) -> Array:
                return at.outer(m)[1]

            outer = replayed.direct() + sweep(subject.trace, slopes=slopes).total
            yield Candidate(name, outer, f"{text}, in the outer gradients only")


def _variants(frozen: Frozen, steps: int) -> Iterator[tuple[str, str, Frozen]]:
    if frozen.noise is not None:
        noise = frozen.noise
        yield NOISE, "the run without noise", replace(frozen, noise=None)
        yield NOISE, "the noise of the next step", replace(frozen, noise=torch.roll(noise, -1, 0))
        yield NOISE, "the noise of the step before", replace(frozen, noise=torch.roll(noise, 1, 0))
        turned = torch.cat([noise[:steps].flip(0), noise[steps:]])
        yield NOISE, "the noise in reversed order", replace(frozen, noise=turned)
        yield (
            NOISE,
            "the first noise at every step",
            replace(frozen, noise=noise[:1].expand_as(noise)),
        )
        yield NOISE, "the noise with the other sign", replace(frozen, noise=-noise)
    for field in ("inner_batches", "outer_batches"):
        batches: Sequence[Tensor] | None = getattr(frozen, field)
        if batches is None:
            continue
        kind = field.split("_")[0]
        first = 1 if kind == "outer" else 0
        used = list(batches)
        turned_batches = used[:first] + used[first : steps + first][::-1] + used[steps + first :]
        for text, changed in (
            ("of the first step at every step", [used[first]] * len(used)),
            ("of the last step at every step", [used[steps - 1 + first]] * len(used)),
            ("of the next step", [*used[1:], used[0]]),
            ("of the step before", [used[-1], *used[:-1]]),
            ("in reversed order", turned_batches),
        ):
            yield BATCH, f"the {kind} batch {text}", _with(frozen, field, changed)
        yield BATCH, f"all data instead of the {kind} batch", _with(frozen, field, None)


def _with(frozen: Frozen, field: str, batches: list[Tensor] | None) -> Frozen:
    if field == "inner_batches":
        return replace(frozen, inner_batches=batches)
    return replace(frozen, outer_batches=batches)
