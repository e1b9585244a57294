"""Adam put together wrongly: where ε goes, how its moments are corrected, and their derivative."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.optimiser import stepping
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import Trace, sweep
from refblo.conformance.truth.program import Losses, Program
from refblo.rules.formulas import Moved, StepNumbers
from refblo.rules.operations import TORCH, Operations

Direction = Callable[[Tensor, Tensor, StepNumbers, int], Any]
"""(m, v, numbers, step) ↦ what θ moves by, over −γ; step counts from 0."""


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
        *_step_counts(),
    ):
        other = Trace.of(_with(program, losses, direction))
        yield Candidate(name, other.direct() + sweep(other).total, text)
    yield _made_anew(program, losses)
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


Count = Callable[[int], int]
"""Step, counted from 0 ↦ the power of β in a bias correction; 0 for none."""


def _step_counts() -> Iterator[tuple[Mistake, str, Direction]]:
    """Bias corrections whose step count is off by one, or stays at one."""

    def right(step: int) -> int:
        return step + 1

    def late(step: int) -> int:
        return step + 2

    def early(step: int) -> int:
        return max(step, 1)

    def none_first(step: int) -> int:
        return step

    for count, text in (
        (late, "of the next step"),
        (early, "of the step before, at the first step its own"),
        (none_first, "of the step before, at the first step left out"),
    ):
        for first, second, whose in (
            (count, count, "Adam's bias corrections are those"),
            (count, right, "the bias correction of m is that"),
            (right, count, "the bias correction of v is that"),
        ):
            yield Mistake.OFF_BY_ONE, f"{whose} {text}", partial(_counted, first, second)

    def fixed(_: int) -> int:
        return 1

    text = "Adam's bias corrections are those of the first step at every step"
    yield Mistake.STATE_NOT_KEPT, text, partial(_counted, fixed, fixed)


def _counted(
    first: Count, second: Count, m: Tensor, v: Tensor, numbers: StepNumbers, step: int
) -> Any:
    one = _corrections(numbers, first(step))[0] if first(step) else 1.0
    two = _corrections(numbers, second(step))[1] if second(step) else 1.0
    return (m / one) / (_root(v / two, numbers) + numbers.adam_epsilon)


def _made_anew(program: Program, losses: Losses) -> Candidate:
    """The run of an Adam that is made anew at every step: its moments are zero, and its count is one."""
    rule, size = losses.rule, program.size

    def advance(
        state: Tensor, gradient: Tensor, step: int, noise: Tensor | None, lam: Tensor
    ) -> Tensor:
        anew = torch.cat([state[:size], torch.zeros_like(state[size:])])

        def update(
            operations: Operations, numbers: StepNumbers, g: Any, held: tuple[Any, ...], _: int
        ) -> Moved:
            return rule.formula.update(operations, numbers, g, held, 0)

        return rule.advance(anew, gradient, step, noise, lam, update=update)

    other = Trace.of(stepping(program, losses, advance))
    total = other.direct() + sweep(other).total
    return Candidate(Mistake.STATE_NOT_KEPT, total, "Adam is made anew at every step")


def _with(program: Program, losses: Losses, direction: Direction) -> Program:
    """The program with another direction of Adam's."""
    rule = losses.rule

    def update(
        operations: Operations, numbers: StepNumbers, g: Any, held: tuple[Any, ...], step: int
    ) -> Moved:
        _, (m, v) = rule.formula.update(operations, numbers, g, held, step)
        return numbers.step_size * direction(m, v, numbers, step), (m, v)

    return stepping(program, losses, partial(rule.advance, update=update))


def _root(v: Tensor, numbers: StepNumbers) -> Tensor:
    return TORCH.root(v, numbers.root_epsilon)


def _corrections(numbers: StepNumbers, power: int) -> tuple[Any, Any]:
    first, second = numbers.betas or (0.0, 0.0)
    return 1 - first**power, 1 - second**power


def _early(m: Tensor, v: Tensor, numbers: StepNumbers, step: int) -> Any:
    one, two = _corrections(numbers, step + 1)
    return (m / one) * two**0.5 / (_root(v, numbers) + numbers.adam_epsilon)


def _single(m: Tensor, v: Tensor, numbers: StepNumbers, step: int) -> Any:
    power, betas = torch.tensor(step + 1, device="cpu"), numbers.betas or (0.0, 0.0)
    rounded = (b.detach().float() if isinstance(b, Tensor) else b for b in betas)
    one, two = ((1 - torch.pow(beta, power)).to(m) for beta in rounded)
    return (m / one) / (_root(v / two, numbers) + numbers.adam_epsilon)


def _rootless(m: Tensor, v: Tensor, numbers: StepNumbers, step: int) -> Any:
    one, two = _corrections(numbers, step + 1)
    return (m / one) / (v / two**0.5 + numbers.adam_epsilon)


def _uncorrected(m: Tensor, v: Tensor, numbers: StepNumbers, _: int) -> Any:
    return m / (_root(v, numbers) + numbers.adam_epsilon)


def _first_uncorrected(m: Tensor, v: Tensor, numbers: StepNumbers, step: int) -> Any:
    return m / (_root(v / _corrections(numbers, step + 1)[1], numbers) + numbers.adam_epsilon)


def _second_uncorrected(m: Tensor, v: Tensor, numbers: StepNumbers, step: int) -> Any:
    return (m / _corrections(numbers, step + 1)[0]) / (_root(v, numbers) + numbers.adam_epsilon)


def _fixed(m: Tensor, v: Tensor, numbers: StepNumbers, step: int) -> Any:
    one, two = _corrections(numbers, step + 1)
    return (m / one) / (_root(v / two, numbers).detach() + numbers.adam_epsilon)


def _smooth(m: Tensor, v: Tensor, numbers: StepNumbers, step: int) -> Any:
    one, two = _corrections(numbers, step + 1)
    size = _root(v / two, numbers).detach() + numbers.adam_epsilon
    moment = (m / one).detach()
    # Linear in v with the slope that is asked for, whatever v is.
    return (m / one) / size - moment * (v - v.detach()) / (2 * two * size**3)


def _masked(m: Tensor, v: Tensor, numbers: StepNumbers, step: int) -> Any:
    found = _smooth(m, v, numbers, step)
    return torch.where(m.detach() == 0, found.detach(), found)
