"""The optimiser's own part forgotten: its buffers, its weight decay, its form of momentum."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import Trace, numpy_of, sweep
from refblo.conformance.truth.program import Losses, Program, rebuilt
from refblo.conformance.truth.stationary import linearise
from refblo.errors import OracleError

Array = np.ndarray


def candidates(subject: Subject) -> Iterator[Candidate]:
    """Sweeps that see only θ, and sweeps through another rule along the run's own states."""
    losses = subject.program.losses
    trace, direct, size = subject.trace, subject.direct, subject.program.size
    if not subject.implicit and trace.states[0].numel() > size:

        def theta_only(t: int, v: Array) -> tuple[Array, Array]:
            through, mixed = trace.pull(t, v)
            through = through.copy()
            through[size:] = 0
            return through, mixed

        yield Candidate(
            "optimiser state detached",
            direct + sweep(trace, theta_only).total,
            "the optimiser's buffers are treated as constants",
        )
    if losses is None:
        return
    rule = losses.rule
    if rule.weight_decay > 0 and not subject.implicit:
        yield _decayed_before(subject, losses)
    if rule.weight_decay > 0:
        bare = rebuilt(subject.program, rule=replace(rule, weight_decay=0.0))
        if bare is not None and not subject.implicit:
            replayed = Trace(bare, trace.states)
            yield Candidate(
                "weight decay not differentiated",
                direct + sweep(trace, replayed.pull).total,
                "the run decays the weights, what is differentiated does not",
            )
            other = Trace.of(bare)
            yield Candidate(
                "weight decay ignored",
                other.direct() + sweep(other).total,
                "the optimiser's weight decay is missing from the run",
            )
        if bare is not None and subject.implicit:
            yield from _implicit_without_decay(subject, bare, rule.weight_decay)
    if rule.buffers > 0 and rule.betas is None and not subject.implicit:
        plain = rebuilt(subject.program, rule=replace(rule, momentum=0.0))
        if plain is not None:
            other = Trace.of(plain)
            yield Candidate(
                "momentum ignored", other.direct() + sweep(other).total, "the run without momentum"
            )


def _decayed_before(subject: Subject, losses: Losses) -> Candidate:
    """The run after one step with a zero gradient, as a careless way to fill the buffers makes it."""
    program, size = subject.program, subject.program.size

    def start(lam: Tensor) -> Tensor:
        state = program.start(lam)
        return losses.rule.advance(state, torch.zeros_like(state[:size]), 0, None)

    other = Trace.of(replace(program, start=start, losses=None))
    return Candidate(
        "weight decay applied before the run",
        other.direct() + sweep(other).total,
        "one step with a zero gradient comes before the run: the weights decay once too often",
    )


def _implicit_without_decay(subject: Subject, bare: Program, decay: float) -> Iterator[Candidate]:
    root = subject.root
    if root is not None:
        hessian = numpy_of(root.hessian)
        lighter = hessian - decay * np.eye(len(hessian))
        solved = np.linalg.solve(lighter.T, numpy_of(root.slope))
        yield Candidate(
            "weight decay not differentiated",
            subject.direct - solved @ numpy_of(root.mixed),
            "the solution is with weight decay, the Hessian in the solve without",
        )
    try:
        other = linearise(bare)
    except OracleError:
        return
    yield Candidate(
        "weight decay ignored",
        numpy_of(other.direct + other.indirect()),
        "the optimiser's weight decay is missing from the inner problem",
    )
