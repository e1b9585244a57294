"""Rules by the names and arguments that torch.optim gives them, and rules read from an optimiser of torch.

Each function returns a `Rule`; where it stands beside the optimiser of the same name, their steps agree to
rounding (docs/rules.md). The names are those of torch's classes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from refblo.errors import ArgumentError, ArgumentTypeError
from refblo.rules.numbers import Number
from refblo.rules.rule import Rule


def SGD(  # noqa: N802  (torch's name)
    lr: Number,
    momentum: Number = 0.0,
    weight_decay: Number = 0.0,
    *,
    nesterov: bool = False,
    clip_norm: Number | None = None,
    clip_value: Number | None = None,
    clip_norm_epsilon: float = 1e-6,
) -> Rule:
    """Gradient descent, heavy ball or Nesterov's momentum: v ← μ v + g, θ ← θ − γ v (or γ (g + μ v)).

    Args:
        lr: γ; like every number here, a float or a function of λ, or of λ and the step.
        momentum: μ.
        weight_decay: w, added to the gradient.
        nesterov: whether momentum is Nesterov's.
        clip_norm: as `torch.nn.utils.clip_grad_norm_` before the step.
        clip_value: as `torch.nn.utils.clip_grad_value_` before the step.
        clip_norm_epsilon: what clipping adds to the norm; 0 for optax's.

    Raises:
        ArgumentError, ArgumentTypeError: as `Rule`.
    """
    return Rule(
        lr,
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=nesterov,
        clip_norm=clip_norm,
        clip_value=clip_value,
        clip_norm_epsilon=clip_norm_epsilon,
    )


def Adam(  # noqa: N802  (torch's name)
    lr: Number = 1e-3,
    betas: tuple[Number, Number] = (0.9, 0.999),
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    *,
    eps_root: Number = 0.0,
    clip_norm: Number | None = None,
    clip_value: Number | None = None,
    clip_norm_epsilon: float = 1e-6,
) -> Rule:
    """Adam: θ ← θ − γ m̂ / (√(v̂ + ε') + ε), its weight decay added to the gradient.

    Args:
        lr: γ.
        betas: (β₁, β₂).
        eps: ε.
        weight_decay: w.
        eps_root: ε' (optax's; 0 in torch).
        clip_norm: as `SGD`.
        clip_value: as `SGD`.
        clip_norm_epsilon: as `SGD`.

    Raises:
        ArgumentError, ArgumentTypeError: as `Rule`.
    """
    return Rule(
        lr,
        weight_decay=weight_decay,
        betas=betas,
        adam_epsilon=eps,
        root_epsilon=eps_root,
        clip_norm=clip_norm,
        clip_value=clip_value,
        clip_norm_epsilon=clip_norm_epsilon,
    )


def AdamW(  # noqa: N802  (torch's name)
    lr: Number = 1e-3,
    betas: tuple[Number, Number] = (0.9, 0.999),
    eps: Number = 1e-8,
    weight_decay: Number = 1e-2,
    *,
    eps_root: Number = 0.0,
    clip_norm: Number | None = None,
    clip_value: Number | None = None,
    clip_norm_epsilon: float = 1e-6,
) -> Rule:
    """AdamW: as Adam, its weight decay decoupled from the gradient, θ ← (1 − γ w) θ before the step.

    Args:
        lr: γ.
        betas: (β₁, β₂).
        eps: ε.
        weight_decay: w; torch's default.
        eps_root: ε' (optax's; 0 in torch).
        clip_norm: as `SGD`.
        clip_value: as `SGD`.
        clip_norm_epsilon: as `SGD`.

    Raises:
        ArgumentError, ArgumentTypeError: as `Rule`.
    """
    return Rule(
        lr,
        weight_decay=weight_decay,
        betas=betas,
        adam_epsilon=eps,
        decoupled_decay=not (isinstance(weight_decay, int | float) and weight_decay == 0),
        root_epsilon=eps_root,
        clip_norm=clip_norm,
        clip_value=clip_value,
        clip_norm_epsilon=clip_norm_epsilon,
    )


def RMSprop(  # noqa: N802  (torch's name)
    lr: Number = 1e-2,
    alpha: Number = 0.99,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    momentum: Number = 0.0,
    *,
    eps_root: Number = 0.0,
    clip_norm: Number | None = None,
    clip_value: Number | None = None,
    clip_norm_epsilon: float = 1e-6,
) -> Rule:
    """RMSprop: v ← α v + (1 − α) g², θ ← θ − γ g / (√(v + ε') + ε); with momentum, of the scaled gradient.

    Args:
        lr: γ.
        alpha: α.
        eps: ε, outside the root as in torch.
        weight_decay: w, added to the gradient.
        momentum: μ.
        eps_root: ε', inside the root: what optax.rmsprop calls eps unless told otherwise.
        clip_norm: as `SGD`.
        clip_value: as `SGD`.
        clip_norm_epsilon: as `SGD`.

    Raises:
        ArgumentError, ArgumentTypeError: as `Rule`.
    """
    return Rule(
        lr,
        momentum=momentum,
        weight_decay=weight_decay,
        adam_epsilon=eps,
        root_epsilon=eps_root,
        square_decay=alpha,
        clip_norm=clip_norm,
        clip_value=clip_value,
        clip_norm_epsilon=clip_norm_epsilon,
    )


WAYS_LEFT = (
    "write its transition as step=, or check the whole training with "
    "hypergradcheck(objective=..., lam=..., hypergradient=...)"
)
"""What remains for an optimiser that no rule describes."""

Group = Mapping[str, Any]

_READERS: Mapping[type[torch.optim.Optimizer], Callable[[Group], Rule]] = {
    torch.optim.SGD: lambda g: SGD(
        g["lr"], g["momentum"], g["weight_decay"], nesterov=g["nesterov"]
    ),
    torch.optim.Adam: lambda g: Adam(g["lr"], g["betas"], g["eps"], g["weight_decay"]),
    torch.optim.AdamW: lambda g: AdamW(g["lr"], g["betas"], g["eps"], g["weight_decay"]),
    torch.optim.RMSprop: lambda g: RMSprop(
        g["lr"], g["alpha"], g["eps"], g["weight_decay"], g["momentum"]
    ),
}
"""How a rule is read from an optimiser's group of parameters."""

_MUST_BE_OFF = ("dampening", "maximize", "amsgrad", "centered")
"""Options of torch's optimisers that no rule has."""


def rule_of(optimizer: object) -> Rule:
    """The rule of an optimiser of torch.optim that has not stepped yet; a `Rule` as it is.

    Raises:
        ArgumentError: for an optimiser that no rule describes, one with an option that no rule has, groups
            with different numbers, a scheduler, a number with a graph, or one that has stepped.
        ArgumentTypeError: for anything else.
    """
    if isinstance(optimizer, Rule):
        return optimizer
    known = ", ".join(each.__name__ for each in _READERS)
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        name = optimizer.__name__
        raise ArgumentTypeError(
            f"rule must be an object with its numbers, got the class {name}; give one, such as "
            f"refblo.rules.SGD(lr=0.1) (refblo.rules has {known})"
        )
    if not isinstance(optimizer, torch.optim.Optimizer):
        module, kind = type(optimizer).__module__.partition(".")[0], type(optimizer).__name__
        whose = f"{module}'s " if module in ("optax", "jax", "keras", "tensorflow") else ""
        raise ArgumentTypeError(
            f"rule must be a Rule or an optimiser of torch.optim, got {whose}{kind}; give one, such as "
            f"refblo.rules.SGD(lr=0.1) (refblo.rules has {known}), or {WAYS_LEFT}"
        )
    name = type(optimizer).__name__
    reader = _READERS.get(type(optimizer))
    if reader is None:
        raise ArgumentError(
            f"rule must be an optimiser that a rule describes ({known}), got {name}; {WAYS_LEFT}"
        )
    if optimizer.state:
        raise ArgumentError(
            f"rule must be an optimiser that has not stepped yet, got {name} with buffers of earlier steps; "
            "make a new one"
        )
    groups = [
        {key: _plain(name, key, value) for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]
    for option in _MUST_BE_OFF:
        if any(group.get(option) for group in groups):
            got = next(group[option] for group in groups if group.get(option))
            raise ArgumentError(
                f"rule must be {name} without {option}, which refblo's rules lack, got {option}={got}; "
                f"{WAYS_LEFT}"
            )
    if any("initial_lr" in group for group in groups):
        raise ArgumentError(
            f"rule must be an optimiser with constant numbers, got {name} with a scheduler of its "
            f"learning rate; give refblo.rules.{name}(lr=refblo.rules.schedules.cosine(...)), or another "
            "function (lam, t)"
        )
    if any(group != groups[0] for group in groups):
        raise ArgumentError(
            f"rule must have the same numbers for all parameters, got {name} with {len(groups)} different "
            f"groups; give refblo.rules.{name}(lr=lambda lam: ...), with a number for each tensor of theta"
        )
    if groups[0].get("decoupled_weight_decay") and type(optimizer) is torch.optim.Adam:
        return _READERS[torch.optim.AdamW](groups[0])
    return reader(groups[0])


def _plain(name: str, key: str, value: object) -> object:
    """A number that is held in a tensor as a float.

    Raises:
        ArgumentError: for one with a graph, which an optimiser of torch cuts.
    """
    if isinstance(value, Tensor):
        if value.requires_grad:
            raise ArgumentError(
                f"rule must be an optimiser with constant numbers, got {name} with a {key} that requires a "
                f"gradient; give a function of lam: refblo.rules.{name}({key}=lambda lam: ...)"
            )
        return float(value)
    if isinstance(value, tuple | list):
        return tuple(_plain(name, key, each) for each in value)
    return value
