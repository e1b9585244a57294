"""A rule's own derivative forgotten: its numbers as functions of λ, its clipping, its normaliser, its ε."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

from torch import Tensor

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.optimiser import stepping
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import Trace, sweep
from refblo.conformance.truth.program import Program, rebuilt
from refblo.rules.numbers import Number, value_of
from refblo.rules.operations import TORCH
from refblo.rules.rule import Rule


def candidates(subject: Subject) -> Iterator[Candidate]:
    """The run's own states with another derivative, and runs under another rule."""
    losses, program = subject.program.losses, subject.program
    if losses is None or subject.implicit:
        return
    rule = losses.rule
    for names in _groups(rule.functions):
        text = f"{', '.join(names)} of the rule: the value is right, its derivative by λ is missing"
        yield _held(subject, Mistake.RULE_NUMBERS_CONSTANT, text, _constant(rule, names))
    if rule.square_decay is not None or rule.clips:
        operations = HeldNormalisers()
        held = stepping(program, losses, partial(rule.advance, operations=operations))
        yield _replayed(
            subject, Mistake.NORMALISER_CONSTANT, "the rule's normaliser has no derivative", held
        )
    if rule.clips:
        bare = replace(rule, clip_norm=None, clip_value=None)
        yield from _by_rule(subject, Mistake.CLIPPING_IGNORED, bare, "")
        through = stepping(program, losses, partial(rule.advance, operations=ClippingNotSeen()))
        text = "the gradient is clipped, and differentiated as if it were not"
        yield _replayed(subject, Mistake.CLIPPING_IGNORED, text, through)
    if rule.betas is not None or rule.square_decay is not None:
        outside, inside = rule.adam_epsilon, rule.root_epsilon
        other = replace(rule, adam_epsilon=inside, root_epsilon=outside)
        text = "√(v + ε) stands where √v + ε belongs"
        if not rule.has("adam_epsilon"):
            text = "√v + ε stands where √(v + ε) belongs"
        yield from _by_rule(subject, Mistake.EPSILON_INSIDE, other, text)


def _groups(functions: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All of them, and each by itself."""
    if not functions:
        return []
    return [functions, *((name,) for name in functions if len(functions) > 1)]


def _constant(rule: Rule, names: tuple[str, ...]) -> Rule:
    """The rule whose named numbers take λ as a constant."""

    def held(name: str, number: Number) -> Number:
        if name not in names:
            return number
        return lambda lam, t: value_of(name, number, lam.detach(), t)

    return rule.mapped(held)


def _held(subject: Subject, mistake: Mistake, text: str, rule: Rule) -> Candidate:
    other = rebuilt(subject.program, rule=rule)
    return _replayed(subject, mistake, text, subject.program if other is None else other)


def _replayed(subject: Subject, mistake: Mistake, text: str, program: Program) -> Candidate:
    """The run's own states, linearised by another program."""
    replayed = Trace(program, subject.trace.states)
    total = subject.direct + sweep(subject.trace, replayed.pull).total
    return Candidate(mistake, total, text)


def _by_rule(subject: Subject, mistake: Mistake, rule: Rule, text: str) -> Iterator[Candidate]:
    program = rebuilt(subject.program, rule=rule)
    if program is not None:
        other = Trace.of(program)
        yield Candidate(mistake, other.direct() + sweep(other).total, text)


@final
@dataclass(frozen=True)
class HeldNormalisers:
    """The arithmetic of tensors in which what gradients are divided by is a constant."""

    def root(self, v: Tensor, root_epsilon: Any) -> Tensor:
        """√(v + root_epsilon), a constant."""
        return TORCH.root(v, root_epsilon).detach()

    def clip(self, g: Tensor, bound: Any) -> Tensor:
        """As it is."""
        return TORCH.clip(g, bound)

    def shrink(self, g: Tensor, norm: Any, epsilon: float) -> Tensor:
        """g times a constant."""
        return TORCH.shrinkage(g, norm, epsilon).detach() * g


@final
@dataclass(frozen=True)
class ClippingNotSeen:
    """The arithmetic of tensors in which clipping changes numbers and no derivative."""

    def root(self, v: Tensor, root_epsilon: Any) -> Tensor:
        """As it is."""
        return TORCH.root(v, root_epsilon)

    def clip(self, g: Tensor, bound: Any) -> Tensor:
        """The clipped gradient with the derivative of g."""
        return g + (TORCH.clip(g, bound) - g).detach()

    def shrink(self, g: Tensor, norm: Any, epsilon: float) -> Tensor:
        """The shrunk gradient with the derivative of g."""
        return g + (TORCH.shrink(g, norm, epsilon) - g).detach()
