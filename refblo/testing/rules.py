"""The rules that are tested: each with the ranges of its numbers, and with its twins in torch and optax.

A rule that is added here is compared with its twins, run through every oracle and shown in the table of
docs/rules.md, without a change of a test.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import lr_scheduler

from refblo.rules import SGD, Adam, AdamW, RMSprop, Rule, schedules

TorchTwin: TypeAlias = Callable[[Tensor], Callable[[], object]]
"""A parameter whose gradient is set ↦ the function that steps it."""

Range: TypeAlias = tuple[float, float]

STEPS = 20
"""How many steps a run takes that is compared with a twin; schedules are made for it."""

RATE: Range = (1e-4, 1.0)
SHARE: Range = (1e-3, 0.6)  # 1 − β
TINY: Range = (1e-10, 1e-2)
DECAY: Range = (1e-4, 0.5)
BOUND: Range = (1e-2, 10.0)


@final
@dataclass(frozen=True, eq=False)
class RuleVariant:
    """One rule with what it is compared with.

    Attributes:
        name: unique.
        ranges: of the numbers below, drawn uniformly in the logarithm.
        rule: numbers ↦ the rule.
        in_torch: numbers ↦ the twin in torch, or why there is none.
        in_optax: numbers ↦ the twin in optax, or why there is none.
    """

    name: str
    ranges: tuple[Range, ...]
    rule: Callable[..., Rule]
    in_torch: Callable[..., TorchTwin] | str
    in_optax: Callable[..., Any] | str

    def middle(self, epsilon: float) -> Rule:
        """The rule at the middle of its ranges, with this ε: derivatives where v = 0 grow as 1/ε."""
        numbers = (
            epsilon if each == TINY else math.sqrt(each[0] * each[1]) for each in self.ranges
        )
        return self.rule(*numbers)


def _optax() -> Any:
    """The module, imported only where it is compared with."""
    import optax

    return optax


def _stepping(make: Callable[[list[Tensor]], torch.optim.Optimizer]) -> TorchTwin:
    """An optimiser's own step."""

    def twin(theta: Tensor) -> Callable[[], object]:
        return make([theta]).step

    return twin


def _clipped(
    clip: Callable[[Tensor], object], make: Callable[[list[Tensor]], torch.optim.Optimizer]
) -> TorchTwin:
    def twin(theta: Tensor) -> Callable[[], object]:
        optimiser = make([theta])

        def step() -> None:
            clip(theta)
            optimiser.step()

        return step

    return twin


def _scheduled(
    make: Callable[[list[Tensor]], torch.optim.Optimizer],
    schedule: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler],
) -> TorchTwin:
    def twin(theta: Tensor) -> Callable[[], object]:
        optimiser = make([theta])
        scheduler = schedule(optimiser)

        def step() -> None:
            optimiser.step()
            scheduler.step()

        return step

    return twin


def _sgd(rate: float, **options: Any) -> Callable[[list[Tensor]], torch.optim.Optimizer]:
    return lambda theta: torch.optim.SGD(theta, lr=rate, **options)


def _optax_sgd(rate: Any, decay: Any, **options: Any) -> Any:
    optax = _optax()
    return optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate, **options))


def _optax_rate(name: str, *numbers: Any, **options: Any) -> Callable[[Any], Any]:
    """A schedule of optax by name, in float64: a quotient of its int32 counts would be float32."""
    schedule = getattr(_optax(), name)(*numbers, **options)
    return lambda count: schedule(count.astype("float64"))


NO_ROOT_EPSILON = "torch has no ε under the root"
NO_STEP_OF_LAM = "its numbers are constants"

PLAIN = (
    RuleVariant(
        "gradient descent",
        (RATE,),
        SGD,
        lambda rate: _stepping(_sgd(rate)),
        lambda rate: _optax().sgd(rate),
    ),
    RuleVariant(
        "gradient descent, weight decay",
        (RATE, DECAY),
        lambda rate, decay: SGD(rate, weight_decay=decay),
        lambda rate, decay: _stepping(_sgd(rate, weight_decay=decay)),
        _optax_sgd,
    ),
    RuleVariant(
        "heavy ball",
        (RATE, SHARE),
        lambda rate, share: SGD(rate, 1 - share),
        lambda rate, share: _stepping(_sgd(rate, momentum=1 - share)),
        lambda rate, share: _optax().sgd(rate, momentum=1 - share),
    ),
    RuleVariant(
        "heavy ball, weight decay",
        (RATE, SHARE, DECAY),
        lambda rate, share, decay: SGD(rate, 1 - share, decay),
        lambda rate, share, decay: _stepping(_sgd(rate, momentum=1 - share, weight_decay=decay)),
        lambda rate, share, decay: _optax_sgd(rate, decay, momentum=1 - share),
    ),
    RuleVariant(
        "Nesterov",
        (RATE, SHARE),
        lambda rate, share: SGD(rate, 1 - share, nesterov=True),
        lambda rate, share: _stepping(_sgd(rate, momentum=1 - share, nesterov=True)),
        lambda rate, share: _optax().sgd(rate, momentum=1 - share, nesterov=True),
    ),
    RuleVariant(
        "Nesterov, weight decay",
        (RATE, SHARE, DECAY),
        lambda rate, share, decay: SGD(rate, 1 - share, decay, nesterov=True),
        lambda rate, share, decay: _stepping(
            _sgd(rate, momentum=1 - share, weight_decay=decay, nesterov=True)
        ),
        lambda rate, share, decay: _optax_sgd(rate, decay, momentum=1 - share, nesterov=True),
    ),
)

ADAMS = (
    RuleVariant(
        "Adam",
        (RATE, SHARE, SHARE, TINY),
        lambda rate, one, two, eps: Adam(rate, (1 - one, 1 - two), eps),
        lambda rate, one, two, eps: _stepping(
            lambda theta: torch.optim.Adam(theta, rate, (1 - one, 1 - two), eps)
        ),
        lambda rate, one, two, eps: _optax().adam(rate, 1 - one, 1 - two, eps),
    ),
    RuleVariant(
        "Adam, weight decay",
        (RATE, SHARE, SHARE, TINY, DECAY),
        lambda rate, one, two, eps, decay: Adam(rate, (1 - one, 1 - two), eps, decay),
        lambda rate, one, two, eps, decay: _stepping(
            lambda theta: torch.optim.Adam(theta, rate, (1 - one, 1 - two), eps, decay)
        ),
        lambda rate, one, two, eps, decay: _optax().chain(
            _optax().add_decayed_weights(decay), _optax().adam(rate, 1 - one, 1 - two, eps)
        ),
    ),
    RuleVariant(
        "Adam, eps_root",
        (RATE, SHARE, SHARE, TINY, TINY),
        lambda rate, one, two, eps, root: Adam(rate, (1 - one, 1 - two), eps, eps_root=root),
        NO_ROOT_EPSILON,
        lambda rate, one, two, eps, root: _optax().adam(rate, 1 - one, 1 - two, eps, root),
    ),
    RuleVariant(
        "AdamW",
        (RATE, SHARE, SHARE, TINY, DECAY),
        lambda rate, one, two, eps, decay: AdamW(rate, (1 - one, 1 - two), eps, decay),
        lambda rate, one, two, eps, decay: _stepping(
            lambda theta: torch.optim.AdamW(theta, rate, (1 - one, 1 - two), eps, decay)
        ),
        lambda rate, one, two, eps, decay: _optax().adamw(
            rate, 1 - one, 1 - two, eps, weight_decay=decay
        ),
    ),
    RuleVariant(
        "AdamW, eps_root",
        (RATE, SHARE, SHARE, TINY, TINY, DECAY),
        lambda rate, one, two, eps, root, decay: AdamW(
            rate, (1 - one, 1 - two), eps, decay, eps_root=root
        ),
        NO_ROOT_EPSILON,
        lambda rate, one, two, eps, root, decay: _optax().adamw(
            rate, 1 - one, 1 - two, eps, root, weight_decay=decay
        ),
    ),
)

RMSPROPS = (
    RuleVariant(
        "RMSprop",
        (RATE, SHARE, TINY),
        lambda rate, share, eps: RMSprop(rate, 1 - share, eps),
        lambda rate, share, eps: _stepping(
            lambda theta: torch.optim.RMSprop(theta, rate, 1 - share, eps)
        ),
        lambda rate, share, eps: _optax().rmsprop(rate, 1 - share, eps, eps_in_sqrt=False),
    ),
    RuleVariant(
        "RMSprop, weight decay",
        (RATE, SHARE, TINY, DECAY),
        lambda rate, share, eps, decay: RMSprop(rate, 1 - share, eps, decay),
        lambda rate, share, eps, decay: _stepping(
            lambda theta: torch.optim.RMSprop(theta, rate, 1 - share, eps, decay)
        ),
        lambda rate, share, eps, decay: _optax().chain(
            _optax().add_decayed_weights(decay),
            _optax().rmsprop(rate, 1 - share, eps, eps_in_sqrt=False),
        ),
    ),
    RuleVariant(
        "RMSprop, momentum",
        (RATE, SHARE, TINY, SHARE),
        lambda rate, share, eps, rest: RMSprop(rate, 1 - share, eps, momentum=1 - rest),
        lambda rate, share, eps, rest: _stepping(
            lambda theta: torch.optim.RMSprop(theta, rate, 1 - share, eps, momentum=1 - rest)
        ),
        lambda rate, share, eps, rest: _optax().rmsprop(
            rate, 1 - share, eps, eps_in_sqrt=False, momentum=1 - rest
        ),
    ),
    RuleVariant(
        "RMSprop, eps_root alone",
        (RATE, SHARE, TINY),
        lambda rate, share, root: RMSprop(rate, 1 - share, 0.0, eps_root=root),
        NO_ROOT_EPSILON,
        lambda rate, share, root: _optax().rmsprop(rate, 1 - share, root),
    ),
)

CLIPPED = (
    RuleVariant(
        "clipping by norm, torch's 10⁻⁶",
        (RATE, BOUND),
        lambda rate, bound: SGD(rate, clip_norm=bound),
        lambda rate, bound: _clipped(lambda theta: clip_grad_norm_(theta, bound), _sgd(rate)),
        "optax adds nothing to the norm",
    ),
    RuleVariant(
        "clipping by norm",
        (RATE, BOUND),
        lambda rate, bound: SGD(rate, clip_norm=bound, clip_norm_epsilon=0.0),
        "torch adds 10⁻⁶ to the norm",
        lambda rate, bound: _optax().chain(_optax().clip_by_global_norm(bound), _optax().sgd(rate)),
    ),
    RuleVariant(
        "clipping by value",
        (RATE, BOUND),
        lambda rate, bound: SGD(rate, clip_value=bound),
        lambda rate, bound: _clipped(lambda theta: clip_grad_value_(theta, bound), _sgd(rate)),
        lambda rate, bound: _optax().chain(_optax().clip(bound), _optax().sgd(rate)),
    ),
    RuleVariant(
        "AdamW, clipping by norm",
        (RATE, SHARE, SHARE, TINY, DECAY, BOUND),
        lambda rate, one, two, eps, decay, bound: AdamW(
            rate, (1 - one, 1 - two), eps, decay, clip_norm=bound
        ),
        lambda rate, one, two, eps, decay, bound: _clipped(
            lambda theta: clip_grad_norm_(theta, bound),
            lambda theta: torch.optim.AdamW(theta, rate, (1 - one, 1 - two), eps, decay),
        ),
        "optax adds nothing to the norm",
    ),
)

SCHEDULED = (
    RuleVariant(
        "exponential schedule",
        (RATE, (0.5, 1.0)),
        lambda rate, factor: SGD(schedules.exponential(rate, factor)),
        lambda rate, factor: _scheduled(
            _sgd(rate), lambda optimiser: lr_scheduler.ExponentialLR(optimiser, factor)
        ),
        lambda rate, factor: _optax().sgd(_optax_rate("exponential_decay", rate, 1, factor)),
    ),
    RuleVariant(
        "linear schedule",
        (RATE, (1e-2, 1.0)),
        lambda rate, share: SGD(schedules.linear(rate, rate * share, STEPS // 2)),
        lambda rate, share: _scheduled(
            _sgd(rate), lambda optimiser: lr_scheduler.LinearLR(optimiser, 1.0, share, STEPS // 2)
        ),
        lambda rate, share: _optax().sgd(
            _optax_rate("linear_schedule", rate, rate * share, STEPS // 2)
        ),
    ),
    RuleVariant(
        "cosine schedule",
        (RATE, (1e-3, 0.5)),
        lambda rate, share: SGD(schedules.cosine(rate, STEPS, rate * share)),
        lambda rate, share: _scheduled(
            _sgd(rate),
            lambda optimiser: lr_scheduler.CosineAnnealingLR(optimiser, STEPS, rate * share),
        ),
        lambda rate, share: _optax().sgd(_optax_rate("cosine_decay_schedule", rate, STEPS, share)),
    ),
    RuleVariant(
        "staircase schedule",
        (RATE, (0.1, 1.0)),
        lambda rate, factor: SGD(schedules.staircase(rate, factor, 3)),
        lambda rate, factor: _scheduled(
            _sgd(rate), lambda optimiser: lr_scheduler.StepLR(optimiser, 3, factor)
        ),
        lambda rate, factor: _optax().sgd(
            _optax_rate("exponential_decay", rate, 3, factor, staircase=True)
        ),
    ),
    RuleVariant(
        "warm-up, then cosine",
        (RATE,),
        lambda rate: SGD(
            schedules.joined(schedules.linear(0.0, rate, 5), schedules.cosine(rate, STEPS - 5), 5)
        ),
        "torch's LinearLR begins above 0",
        lambda rate: _optax().sgd(
            _optax_rate("warmup_cosine_decay_schedule", 0.0, rate, 5, STEPS, 0.0)
        ),
    ),
    RuleVariant(
        "AdamW, cosine schedule",
        (RATE, SHARE, SHARE, TINY, DECAY),
        lambda rate, one, two, eps, decay: AdamW(
            schedules.cosine(rate, STEPS), (1 - one, 1 - two), eps, decay
        ),
        lambda rate, one, two, eps, decay: _scheduled(
            lambda theta: torch.optim.AdamW(theta, rate, (1 - one, 1 - two), eps, decay),
            lambda optimiser: lr_scheduler.CosineAnnealingLR(optimiser, STEPS),
        ),
        lambda rate, one, two, eps, decay: _optax().adamw(
            _optax_rate("cosine_decay_schedule", rate, STEPS),
            1 - one,
            1 - two,
            eps,
            weight_decay=decay,
        ),
    ),
)

OF_LAM = tuple(
    RuleVariant(name, ranges, rule, NO_STEP_OF_LAM, NO_STEP_OF_LAM)
    for name, ranges, rule in (
        (
            "λ: the learning rate",
            (RATE,),
            lambda rate: SGD(lambda lam: rate * torch.exp(lam[0])),
        ),
        (
            "λ: the learning rate of each step",
            (RATE,),
            lambda rate: SGD(lambda lam, t: rate * torch.exp(lam[t % 2])),
        ),
        (
            "λ: momentum",
            (RATE,),
            lambda rate: SGD(rate, lambda lam: torch.sigmoid(lam[1])),
        ),
        (
            "λ: momentum of Nesterov",
            (RATE,),
            lambda rate: SGD(rate, lambda lam: torch.sigmoid(lam[1]), nesterov=True),
        ),
        (
            "λ: weight decay",
            (RATE, SHARE),
            lambda rate, share: SGD(rate, 1 - share, lambda lam: torch.exp(lam[1])),
        ),
        (
            "λ: every number of AdamW",
            (RATE, TINY),
            lambda rate, eps: AdamW(
                lambda lam: rate * torch.exp(lam[0]),
                (lambda lam: torch.sigmoid(lam[0]), lambda lam: torch.sigmoid(2 + lam[1])),
                lambda lam: eps * torch.exp(lam[1]),
                lambda lam: torch.exp(lam[0] - 2),
                eps_root=lambda lam: eps * torch.exp(lam[0]),
            ),
        ),
        (
            "λ: every number of RMSprop",
            (RATE, TINY),
            lambda rate, eps: RMSprop(
                lambda lam: rate * torch.exp(lam[0]),
                lambda lam: torch.sigmoid(1 + lam[1]),
                lambda lam: eps * torch.exp(lam[1]),
                momentum=lambda lam: torch.sigmoid(lam[0]),
            ),
        ),
        (
            "λ: where gradients are clipped",
            (RATE,),
            lambda rate: SGD(
                rate,
                clip_norm=lambda lam: torch.exp(lam[0]) / 2,
                clip_value=lambda lam: torch.exp(lam[1]),
            ),
        ),
        (
            "λ: the start of a cosine schedule",
            (RATE,),
            lambda rate: SGD(schedules.cosine(lambda lam: rate * torch.exp(lam[0]), 6)),
        ),
    )
)

RULE_VARIANTS = (*PLAIN, *ADAMS, *RMSPROPS, *CLIPPED, *SCHEDULED, *OF_LAM)
