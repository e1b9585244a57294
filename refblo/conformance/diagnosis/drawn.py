"""Randomness that is not the run's: noise or minibatches left out, shifted, or not shared."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Setting, Subject
from refblo.conformance.diagnosis.trace import Trace, sweep
from refblo.conformance.truth.program import (
    Batches,
    Flat,
    Frozen,
    Losses,
    Program,
    Sample,
    build,
    rebuilt,
)

Array = np.ndarray
_MOST_BATCHES = 64
"""Batches up to which the mean over all of them is taken."""


def candidates(subject: Subject) -> Iterator[Candidate]:
    """The program with other draws, and its own states linearised with other draws."""
    losses = subject.program.losses
    if subject.implicit or losses is None or not losses.frozen.anything:
        return
    steps = subject.trace.steps
    for mistake, text, frozen in (*_noises(losses, steps), *_batches(losses.frozen, steps)):
        program = rebuilt(subject.program, frozen=frozen)
        if program is not None:
            yield from _with_draws(subject, program, mistake, text)
    for field in ("inner_batches", "outer_batches"):
        if getattr(losses.frozen, field) is not None:
            kind = field.split("_")[0]
            for program, text in _all_data(subject, losses, field):
                said = f"{text} instead of the {kind} batch"
                yield from _with_draws(subject, program, Mistake.MINIBATCH_NOT_SHARED, said)
    gamma = losses.rule.constant_step_size
    if losses.frozen.noise is not None and gamma is not None:
        for factor, text in ((0.5, "halved"), (2.0, "doubled")):
            rule = replace(losses.rule, step_size=factor * gamma)
            other = rebuilt(subject.program, rule=rule)
            if other is not None:
                trace = Trace.of(other)
                said = f"the gradient step is {text}, the noise is right"
                total = trace.direct() + sweep(trace).total
                yield Candidate(Mistake.DRIFT_SCALED, total, said)


def noise_scales(setting: Setting) -> Iterator[Candidate]:
    """The factor of the noise that fits best."""
    from scipy import optimize  # not needed where nothing is diagnosed, and slow to import

    subject = setting.subject
    losses = subject.program.losses
    if subject.implicit or losses is None or losses.frozen.noise is None or setting.seen.size < 2:
        return
    frozen, noise = losses.frozen, losses.frozen.noise

    def answer(factor: float) -> Array:
        program = rebuilt(subject.program, frozen=replace(frozen, noise=factor * noise))
        if program is None:
            return np.full(setting.observed.size, np.nan)
        trace = Trace.of(program)
        total: Array = trace.direct() + sweep(trace).total
        return total

    def miss(power: float) -> float:
        distance = float(np.linalg.norm(setting.along(answer(10.0**power)) - setting.seen))
        return distance if np.isfinite(distance) else float(np.finfo(np.float64).max)

    grid = np.linspace(-2, 1, 13)
    misses = [miss(power) for power in grid]
    best = int(np.argmin(misses))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)])
    options = {"xatol": 1e-12, "maxiter": 80}
    found = optimize.minimize_scalar(miss, bounds=bounds, method="bounded", options=options)
    factor = 10.0 ** float(found.x)
    text = f"the noise is multiplied by {factor:.6g}"
    yield Candidate(Mistake.NOISE_SCALED, answer(factor), text, 1)


def _with_draws(
    subject: Subject, program: Program, mistake: Mistake, text: str
) -> Iterator[Candidate]:
    """The other program's hypergradient; for batches, also its derivatives along the right run."""
    other = Trace.of(program)
    yield Candidate(mistake, other.direct() + sweep(other).total, text)
    if mistake not in (Mistake.MINIBATCH_NOT_SHARED, Mistake.BATCH_TOO_FAR):
        return
    replayed = Trace(program, subject.trace.states)
    inner = subject.direct + sweep(subject.trace, replayed.pull).total
    yield Candidate(mistake, inner, f"{text}, in the backward pass only")

    def slopes(m: int) -> Array:
        return replayed.outer(m)[1]

    outer = replayed.direct() + sweep(subject.trace, slopes=slopes).total
    yield Candidate(mistake, outer, f"{text}, in the outer gradients only")


def _noises(losses: Losses, steps: int) -> Iterator[tuple[Mistake, str, Frozen]]:
    frozen, rule = losses.frozen, losses.rule
    noise = frozen.noise
    if noise is None:
        return
    turned = torch.cat([noise[:steps].flip(0), noise[steps:]])
    for text, changed in (
        ("the run without noise", None),
        ("the noise of the next step", torch.roll(noise, -1, 0)),
        ("the noise of the step before", torch.roll(noise, 1, 0)),
        ("the noise in reversed order", turned),
        ("the first noise at every step", noise[:1].expand_as(noise)),
        ("the noise with the other sign", -noise),
    ):
        yield Mistake.NOISE_NOT_SHARED, text, replace(frozen, noise=changed)
    gamma, tau = rule.constant_step_size, rule.temperature
    if gamma is None:
        return
    size = math.sqrt(2 * tau * gamma)
    for wrong, text in (
        (math.sqrt(tau * gamma), "√(τγ) for √(2τγ)"),
        (math.sqrt(gamma), "√γ for √(2τγ)"),
        (2 * math.sqrt(tau * gamma), "2√(τγ) for √(2τγ)"),
        (gamma, "γ for √(2τγ)"),
        (1 / math.sqrt(gamma), "1/√γ for √(2τγ)"),
        (2 * tau * gamma, "2τγ for √(2τγ)"),
        (math.sqrt(2 * gamma), "√(2γ) for √(2τγ)"),
        (math.sqrt(2 * gamma / tau), "√(2γ/τ) for √(2τγ)"),
        (size / 2, "half of it"),
        (size * 2, "twice of it"),
    ):
        if wrong != size:
            scaled = replace(frozen, noise=wrong / size * noise)
            yield (
                Mistake.NOISE_SCALED,
                f"the noise is multiplied by {wrong / size:.6g}: {text}",
                scaled,
            )


def _batches(frozen: Frozen, steps: int) -> Iterator[tuple[Mistake, str, Frozen]]:
    for field in ("inner_batches", "outer_batches"):
        batches: Batches = getattr(frozen, field)
        if batches is None:
            continue
        kind = field.split("_")[0]
        first = 1 if kind == "outer" else 0
        used = list(batches)
        turned = used[:first] + used[first : steps + first][::-1] + used[steps + first :]
        for mistake, text, changed in (
            (Mistake.BATCH_TOO_FAR, "of the next step", [*used[1:], used[0]]),
            (Mistake.BATCH_TOO_FAR, "of the next step", [*used[1:], used[-1]]),
            (
                Mistake.MINIBATCH_NOT_SHARED,
                "of the first step at every step",
                [used[first]] * len(used),
            ),
            (
                Mistake.MINIBATCH_NOT_SHARED,
                "of the last step at every step",
                [used[steps - 1 + first]] * len(used),
            ),
            (Mistake.MINIBATCH_NOT_SHARED, "of the step before", [used[-1], *used[:-1]]),
            (Mistake.MINIBATCH_NOT_SHARED, "in reversed order", turned),
        ):
            yield mistake, f"the {kind} batch {text}", _with(frozen, field, changed)


def _all_data(subject: Subject, losses: Losses, field: str) -> Iterator[tuple[Program, str]]:
    """All data: by the batch None where the losses take it, and by the mean over the batches."""
    frozen = losses.frozen
    if subject.whole:
        program = rebuilt(subject.program, frozen=_with(frozen, field, None))
        if program is not None:
            yield program, "all data"
    batches: Sequence[Sample] = getattr(frozen, field)
    if len(batches) > _MOST_BATCHES:
        return
    kind = field.split("_", maxsplit=1)[0]
    loss: Flat = getattr(losses, kind)
    distinct = _distinct(batches)
    for chosen, text in ((batches, "all batches"), (distinct, "all different batches")):
        if chosen is distinct and len(distinct) == len(batches):
            continue

        def mean(
            lam: Tensor, theta: Tensor, _: Sample | None, *, chosen: Sequence[Sample] = chosen
        ) -> Tensor:
            return torch.stack([loss(lam, theta, batch) for batch in chosen]).mean()

        changed = replace(losses, inner=mean) if kind == "inner" else replace(losses, outer=mean)
        program = build(changed, subject.program.lam, subject.program.schedule)
        yield program, f"the mean over {text}"


def _distinct(batches: Sequence[Sample]) -> list[Sample]:
    """Each batch once: more steps than an epoch has repeat batches, and a mean weighs them twice."""
    found: list[Sample] = []
    for batch in batches:
        if not any(_equal(batch, other) for other in found):
            found.append(batch)
    return found


def _equal(one: object, other: object) -> bool:
    """Whether two batches hold the same numbers; batches of another form than tensors count as different."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one is other or torch.equal(one, other)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one is other


def _with(frozen: Frozen, field: str, batches: Batches) -> Frozen:
    if field == "inner_batches":
        return replace(frozen, inner_batches=batches)
    return replace(frozen, outer_batches=batches)
