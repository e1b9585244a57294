"""Adam put together wrongly: where ε goes, how its moments are corrected, and their derivative."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import Trace, sweep
from refblo.conformance.truth.program import Losses, Program
from refblo.conformance.truth.rules import Rule, root

Direction = Callable[[Tensor, Tensor, Rule, int], Tensor]
"""(m, v, rule, step) ↦ what θ moves by, over −γ; step counts from 0."""


def candidates(subject: Subject) -> Iterator[Candidate]:
    """Runs of another Adam, and the run's own states with another derivative."""
    program = subject.program
    losses = program.losses
    if losses is None or losses.rule.betas is None or subject.implicit:
        return
    for name, text, direction in (
        (Mistake.ADAM_EPSILON_EARLY, "√v + ε is divided by √(1 − β₂ᵗ)", _early),
        (Mistake.ADAM_CORRECTION, "m and v are used as they are", _uncorrected),
        (Mistake.ADAM_CORRECTION, "m is used as it is", _first_uncorrected),
        (Mistake.ADAM_CORRECTION, "v is used as it is", _second_uncorrected),
        (Mistake.FLOAT32, "Adam's bias corrections 1 − βᵗ are rounded to float32", _single),
        (Mistake.ADAM_ROOT, "v stands where √v belongs", _rootless),
        (Mistake.OFF_BY_ONE, "Adam's bias corrections are those of the next step", _late),
    ):
        other = Trace.of(_with(program, losses, direction))
        yield Candidate(name, other.direct() + sweep(other).total, text)
    for name, text, direction in (
        (Mistake.ADAM_EPSILON, "∂√v/∂v is taken as 1 / 2(√v + ε)", _smooth),
        (
            Mistake.ADAM_EPSILON,
            "∂√v/∂v is taken as 1 / 2(√v + ε), and the derivative where m = 0 as zero",
            _masked,
        ),
        (Mistake.NORMALISER_CONSTANT, "Adam's second moment is treated as constant", _fixed),
    ):
        replayed = Trace(_with(program, losses, direction), subject.trace.states)
        total = subject.direct + sweep(subject.trace, replayed.pull).total
        yield Candidate(name, total, text)


def _with(program: Program, losses: Losses, direction: Direction) -> Program:
    """The program with another direction of Adam's."""
    rule, frozen, size = losses.rule, losses.frozen, program.size
    first, second = rule.betas or (0.0, 0.0)

    def transition(at: Tensor, state: Tensor, step: int) -> Tensor:
        theta, batch = state[:size], frozen.inner(step)
        gradient: Tensor = torch.func.grad(lambda z: losses.inner(at, z, batch))(theta)
        coupled = 0.0 if rule.decoupled_decay else rule.weight_decay
        g = gradient + coupled * theta
        m = first * state[size : 2 * size] + (1 - first) * g
        v = second * state[2 * size :] + (1 - second) * g * g
        kept = 1 - rule.step_size * (rule.weight_decay - coupled)
        moved = kept * theta - rule.step_size * direction(m, v, rule, step)
        if frozen.noise is not None:
            moved = moved + frozen.noise[step]
        return torch.cat([moved, m, v])

    return replace(program, transition=transition, losses=None)


def _corrections(rule: Rule, power: int) -> tuple[float, float]:
    first, second = rule.betas or (0.0, 0.0)
    return 1 - first**power, 1 - second**power


def _early(m: Tensor, v: Tensor, rule: Rule, step: int) -> Tensor:
    one, two = _corrections(rule, step + 1)
    found: Tensor = (m / one) * two**0.5 / (root(v) + rule.adam_epsilon)
    return found


def _single(m: Tensor, v: Tensor, rule: Rule, step: int) -> Tensor:
    first, second = rule.betas or (0.0, 0.0)
    power = torch.tensor(step + 1)
    one, two = (float(1 - torch.pow(beta, power)) for beta in (first, second))
    return (m / one) / (root(v / two) + rule.adam_epsilon)


def _rootless(m: Tensor, v: Tensor, rule: Rule, step: int) -> Tensor:
    one, two = _corrections(rule, step + 1)
    found: Tensor = (m / one) / (v / two**0.5 + rule.adam_epsilon)
    return found


def _uncorrected(m: Tensor, v: Tensor, rule: Rule, _: int) -> Tensor:
    return m / (root(v) + rule.adam_epsilon)


def _first_uncorrected(m: Tensor, v: Tensor, rule: Rule, step: int) -> Tensor:
    return m / (root(v / _corrections(rule, step + 1)[1]) + rule.adam_epsilon)


def _second_uncorrected(m: Tensor, v: Tensor, rule: Rule, step: int) -> Tensor:
    return (m / _corrections(rule, step + 1)[0]) / (root(v) + rule.adam_epsilon)


def _fixed(m: Tensor, v: Tensor, rule: Rule, step: int) -> Tensor:
    one, two = _corrections(rule, step + 1)
    return (m / one) / (root(v / two).detach() + rule.adam_epsilon)


def _late(m: Tensor, v: Tensor, rule: Rule, step: int) -> Tensor:
    one, two = _corrections(rule, step + 2)
    return (m / one) / (root(v / two) + rule.adam_epsilon)


def _smooth(m: Tensor, v: Tensor, rule: Rule, step: int) -> Tensor:
    one, two = _corrections(rule, step + 1)
    size = root(v / two).detach() + rule.adam_epsilon
    moment = (m / one).detach()
    # Linear in v with the slope that is asked for, whatever v is.
    return (m / one) / size - moment * (v - v.detach()) / (2 * two * size**3)


def _masked(m: Tensor, v: Tensor, rule: Rule, step: int) -> Tensor:
    found = _smooth(m, v, rule, step)
    return torch.where(m.detach() == 0, found.detach(), found)
