"""An inner optimiser as a differentiable transition of a flat state.

The state is θ followed by the optimiser's buffers. With g = ∂_θ L_T(λ, θ^t) and the added noise ν_t, one
step is

1. clipping: g ← max(−c, min(c, g)) by value, g ← g·min(1, c / (‖g‖ + ε_c)) by norm;
2. weight decay w: g ← g + w θ; or decoupled from the gradient (AdamW): θ ← (1 − γ w) θ;
3. the formula (`refblo.rules.formulas`): (move, buffers) from g, the buffers and the step;
4. θ ← θ − move + ν_t.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.errors import ArgumentError, ArgumentTypeError, require, require_real
from refblo.rules import formulas
from refblo.rules.formulas import Formula, StepNumbers, Update
from refblo.rules.numbers import (
    Number,
    check_number,
    check_value,
    is_function,
    value_of,
)
from refblo.rules.operations import TORCH, Operations

_RANGES: dict[str, tuple[float, float]] = {
    "step_size": (0.0, math.inf),
    "momentum": (0.0, 1.0),
    "weight_decay": (0.0, math.inf),
    "betas[0]": (0.0, 1.0),
    "betas[1]": (0.0, 1.0),
    "adam_epsilon": (0.0, math.inf),
    "root_epsilon": (0.0, math.inf),
    "square_decay": (0.0, 1.0),
    "clip_norm": (math.ulp(0.0), math.inf),
    "clip_value": (math.ulp(0.0), math.inf),
}
"""The least value of each number that is a function of λ, and what it must be below."""


@final
@dataclass(frozen=True)
class Rule:
    """An inner optimiser.

    Every number but τ, κ and ε_c may be a function of λ, or of λ and the step, counted from 0: its value is
    a number, or one for each entry of θ (or, in `hypergradcheck`, for each tensor of it). The derivative
    goes through it.

    Args:
        step_size: γ > 0.
        momentum: μ in [0, 1).
        weight_decay: w ≥ 0, added by the optimiser and not part of the inner loss.
        betas: (β₁, β₂) of Adam, or None for no Adam.
        adam_epsilon: ε ≥ 0 of Adam and RMSprop, outside the square root.
        temperature: τ > 0, for Langevin dynamics.
        noise_scale: κ ≥ 0, for Langevin dynamics.
        nesterov: whether momentum is Nesterov's.
        decoupled_decay: whether weight decay multiplies θ instead of being added to the gradient.
        root_epsilon: ε' ≥ 0 of Adam and RMSprop, inside the square root (`eps_root` in optax).
        square_decay: α of RMSprop in [0, 1), or None for no RMSprop.
        clip_norm: the norm above which the gradient is scaled down, or None.
        clip_value: the size above which an entry of the gradient is cut off, or None.
        clip_norm_epsilon: ε_c ≥ 0, added to the norm; `torch.nn.utils.clip_grad_norm_` adds 10⁻⁶, optax
            nothing.

    Raises:
        ArgumentTypeError: if one of them is no number.
        ArgumentError: if one of them is out of range, or two do not go together: momentum beside Adam,
            Nesterov's without momentum or beside RMSprop, RMSprop beside Adam, decoupled decay without decay,
            both ε zero, or noise beside a step size that is a function.
    """

    step_size: Number
    momentum: Number = 0.0
    weight_decay: Number = 0.0
    betas: tuple[Number, Number] | None = None
    adam_epsilon: Number = 1e-8
    temperature: float = 1.0
    noise_scale: float = 0.0
    nesterov: bool = False
    decoupled_decay: bool = False
    root_epsilon: Number = field(default=0.0, kw_only=True)
    square_decay: Number | None = field(default=None, kw_only=True)
    clip_norm: Number | None = field(default=None, kw_only=True)
    clip_value: Number | None = field(default=None, kw_only=True)
    clip_norm_epsilon: float = field(default=1e-6, kw_only=True)

    def __post_init__(self) -> None:
        check_number("step_size", self.step_size, "choose a positive number")
        require_real("temperature", self.temperature, "choose a positive number")
        check_number("momentum", self.momentum, "use 0 for none", positive=False, below=1)
        check_number("weight_decay", self.weight_decay, "use 0 for none", positive=False)
        require_real("noise_scale", self.noise_scale, "use 0 for none", positive=False)
        betas: object = self.betas  # a caller may give anything
        pair = betas is None or (isinstance(betas, tuple | list) and len(betas) == 2)
        require(pair, "betas", "be two numbers", betas, "give (0.9, 0.999), or None for no Adam")
        for beta in self.betas or ():
            check_number("betas", beta, "give numbers in [0, 1)", positive=False, below=1)
        for name in ("adam_epsilon", "root_epsilon"):
            check_number(name, getattr(self, name), "choose a small number", positive=False)
        if self.square_decay is not None:
            remedy = "give 0.99, or None for no RMSprop"
            check_number("square_decay", self.square_decay, remedy, positive=False, below=1)
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), "give a positive number, or None for none")
        require_real("clip_norm_epsilon", self.clip_norm_epsilon, "use 1e-6 or 0", positive=False)
        for name in ("nesterov", "decoupled_decay"):
            value: object = getattr(self, name)  # a caller may give anything
            if not isinstance(value, bool):
                raise ArgumentTypeError(
                    f"{name} must be True or False, got {value!r}; give one of them"
                )
        self._check_together()

    def _check_together(self) -> None:
        has_momentum, has_decay = self.has("momentum"), self.has("weight_decay")
        alone = self.betas is None or not has_momentum
        require(alone, "momentum", "be 0 beside Adam", self.momentum, "use betas[0] instead")
        one = self.betas is None or self.square_decay is None
        remedy = "give betas for Adam or square_decay for RMSprop, not both"
        require(one, "square_decay", "be None beside betas", self.square_decay, remedy)
        has = has_momentum or not self.nesterov
        require(
            has,
            "nesterov",
            "be used with a momentum",
            self.momentum,
            "give momentum, or leave it out",
        )
        good = self.square_decay is None or not self.nesterov
        require(good, "nesterov", "be False beside RMSprop", self.nesterov, "write your own step")
        has = has_decay or not self.decoupled_decay
        require(
            has, "decoupled_decay", "be used with a weight_decay", self.weight_decay, "give one"
        )
        divides = self.betas is not None or self.square_decay is not None
        has = not divides or self.has("adam_epsilon") or self.has("root_epsilon")
        remedy = "give one of them: at a gradient of zero the step would be 0/0"
        require(has, "adam_epsilon and root_epsilon", "not both be 0", 0, remedy)
        fixed = self.noise_scale == 0 or not is_function(self.step_size)
        remedy = "use 0 and give the noise of each step as noise: its size would depend on lam"
        need = "be 0 beside a step_size that is a function"
        require(fixed, "noise_scale", need, self.noise_scale, remedy)

    def has(self, name: str) -> bool:
        """Whether a number is not left out: a function of λ, or a number that is not 0."""
        number: object = getattr(self, name)
        return number is not None and (is_function(number) or number != 0)

    @property
    def formula(self) -> Formula:
        """The formula of what θ moves by."""
        if self.betas is not None:
            return formulas.ADAM
        momentum = self.has("momentum")
        if self.square_decay is not None:
            return formulas.RMSPROP_WITH_MOMENTUM if momentum else formulas.RMSPROP
        if momentum:
            return formulas.NESTEROV if self.nesterov else formulas.HEAVY_BALL
        return formulas.GRADIENT_DESCENT

    @property
    def clips(self) -> bool:
        """Whether gradients are clipped."""
        return self.clip_norm is not None or self.clip_value is not None

    @property
    def constant_step_size(self) -> float | None:
        """γ, where it is a number; None where it is a function of λ or of the step."""
        number: object = self.step_size
        return float(number) if isinstance(number, int | float) else None

    def constant(self, name: str) -> float:
        """A number that is no function of λ.

        Raises:
            ArgumentError: if it is one, or left out.
        """
        number: object = getattr(self, name)
        if not isinstance(number, int | float):
            raise ArgumentError(
                f"{name} must be a number here, got {number!r}; a function of lam can be used only in a run"
            )
        return float(number)

    def decay_energy(
        self, lam: Any, theta: Float[Tensor, " n"], decay: float | None = None
    ) -> Float[Tensor, ""] | float:
        """Σ_i w_i θ_i² / 2: what weight decay adds to an inner loss; with a w given, of that one."""
        weight = value_of("weight_decay", self.weight_decay, lam, 0) if decay is None else decay
        if isinstance(weight, Tensor) and weight.ndim > 0:
            return (weight / 2 * theta.square()).sum()
        energy: Tensor = weight / 2 * theta.square().sum()
        return energy

    @property
    def functions(self) -> tuple[str, ...]:
        """The names of the numbers that are functions of λ."""
        return tuple(name for name, number in self._numbers() if is_function(number))

    @property
    def epsilon(self) -> float:
        """ε = 2τγ, the SGLD step; NaN where γ is a function."""
        gamma = self.constant_step_size
        return math.nan if gamma is None else 2 * self.temperature * gamma

    @property
    def noise(self) -> float:
        """√ε κ, the standard deviation of one step's noise."""
        return math.sqrt(self.epsilon) * self.noise_scale if self.noise_scale > 0 else 0.0

    @property
    def buffers(self) -> int:
        """How many vectors of θ's size the optimiser keeps."""
        return self.formula.buffers

    @property
    def affine(self) -> bool:
        """Whether the next state is affine in the state and the gradient, and alike for every λ."""
        linear = self.formula in (
            formulas.GRADIENT_DESCENT,
            formulas.HEAVY_BALL,
            formulas.NESTEROV,
        )
        return linear and not self.clips and not self.functions

    @property
    def plain(self) -> bool:
        """Whether it is gradient descent or Langevin with one step size, and nothing else."""
        bare = self.buffers == 0 and not self.has("weight_decay") and not self.clips
        return bare and not is_function(self.step_size)

    def state(self, theta: Float[Tensor, " n"]) -> Float[Tensor, " N"]:
        """The state at the start: θ⁰ and zero buffers."""
        return torch.cat([theta, theta.new_zeros(self.buffers * theta.numel())])

    def numbers(self, lam: Any, step: int) -> StepNumbers:
        """The numbers at one λ and one step.

        Raises:
            ArgumentError: if one is a function of λ, and no λ is given.
        """
        values = {name: value_of(name, number, lam, step) for name, number in self._numbers()}
        betas = None if self.betas is None else (values.pop("betas[0]"), values.pop("betas[1]"))
        absent = {"square_decay": None, "clip_norm": None, "clip_value": None}
        return StepNumbers(betas=betas, **(absent | values))

    def mapped(self, change: Callable[[str, Number], Number]) -> "Rule":
        """The same rule with other functions of λ, each made of its name and the old one."""
        changed = {
            name: change(name, getattr(self, name)) for name in self.functions if "[" not in name
        }
        betas = self.betas
        if betas is not None:
            first, second = (
                change(f"betas[{i}]", beta) if is_function(beta) else beta
                for i, beta in enumerate(betas)
            )
            betas = (first, second)
        return replace(self, betas=betas, **changed)  # type: ignore[arg-type]  # numbers, each by its name

    def check_at(self, lam: Any, steps: int, size: int) -> None:
        """Raise unless every function of λ has a value in its range at every step.

        Args:
            lam: λ.
            steps: T.
            size: n, the entries of θ.

        Raises:
            ArgumentError, ArgumentTypeError: naming the number and the step.
        """
        numbers = dict(self._numbers())
        for name in self.functions:
            for step in range(steps):
                value = value_of(name, numbers[name], lam, step)
                check_value(f"{name}(lam) at step {step}", value, size, *_RANGES[name])

    def advance(
        self,
        state: Float[Tensor, " N"],
        gradient: Float[Tensor, " n"],
        step: int,
        noise: Float[Tensor, " n"] | None,
        lam: Any = None,
        *,
        update: Update | None = None,
        operations: Operations = TORCH,
    ) -> Float[Tensor, " N"]:
        """The next state.

        Args:
            state: θ and the buffers.
            gradient: ∂_θ L_T at θ.
            step: t, from 0.
            noise: what is added to θ, if anything.
            lam: λ, where a number is a function of it.
            update: another formula than the rule's own, with as many buffers.
            operations: another arithmetic of tensors, for a derivative with a mistake in it.
        """
        gamma = self.constant_step_size
        if gamma is not None and update is None and operations is TORCH and self.plain:
            # θ − γ g in one pass.
            moved = torch.sub(state, gradient, alpha=gamma)
            return moved if noise is None else moved + noise
        n = gradient.numel()
        held = tuple(state[i * n : (i + 1) * n] for i in range(1, self.buffers + 1))
        numbers = self.numbers(lam, step)
        moved, buffers = self.move(operations, numbers, state[:n], gradient, held, step, update)
        theta = moved if noise is None else moved + noise
        return torch.cat([theta, *buffers]) if buffers else theta

    def move(
        self,
        operations: Operations,
        numbers: StepNumbers,
        theta: Any,
        gradient: Any,
        buffers: tuple[Any, ...],
        step: int,
        update: Update | None = None,
    ) -> tuple[Any, tuple[Any, ...]]:
        """θ without noise and the buffers after one step, in any arithmetic."""
        g = gradient
        if self.clip_value is not None:
            g = operations.clip(g, numbers.clip_value)
        if self.clip_norm is not None:
            g = operations.shrink(g, numbers.clip_norm, self.clip_norm_epsilon)
        if self.decoupled_decay:
            theta = (1 - numbers.step_size * numbers.weight_decay) * theta
        elif self.has("weight_decay"):
            g = g + numbers.weight_decay * theta
        move, buffers = (update or self.formula.update)(operations, numbers, g, buffers, step)
        return theta - move, buffers

    def _numbers(self) -> list[tuple[str, Number]]:
        """Every number that is given, by name."""
        named: list[tuple[str, Number | None]] = [
            (name, getattr(self, name)) for name in _RANGES if "[" not in name
        ]
        named += [(f"betas[{i}]", beta) for i, beta in enumerate(self.betas or ())]
        return [(name, number) for name, number in named if number is not None]
