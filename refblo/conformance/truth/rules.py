"""Inner optimisers as differentiable transitions of a flat state.

The state is θ followed by the optimiser's buffers: none for gradient descent, the velocity for momentum,
the two moments for Adam. With g = ∂_θ L_T(λ, θ^t) + w θ^t (w the weight decay) and the added noise ν_t:

- gradient descent and Langevin: θ ← θ − γ g + ν_t;
- momentum μ: v ← μ v + g,  θ ← θ − γ v + ν_t (the form that torch.optim.SGD uses);
  Nesterov's: θ ← θ − γ (g + μ v) + ν_t with the new v;
- Adam: m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²,
  θ ← θ − γ (m / (1 − β₁^{t+1})) / (√(v / (1 − β₂^{t+1})) + ε).

With decoupled weight decay (AdamW) g = ∂_θ L_T alone, and θ is multiplied by 1 − γ w before the step.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.errors import ArgumentTypeError, require, require_real


@final
@dataclass(frozen=True)
class Rule:
    """An inner optimiser.

    Args:
        step_size: γ > 0.
        momentum: μ in [0, 1).
        weight_decay: w ≥ 0, added by the optimiser and not part of the inner loss.
        betas: (β₁, β₂) of Adam, or None for no Adam.
        adam_epsilon: ε of Adam, outside the square root.
        temperature: τ > 0, for Langevin dynamics.
        noise_scale: κ ≥ 0, for Langevin dynamics.
        nesterov: whether momentum is Nesterov's.
        decoupled_decay: whether weight decay multiplies θ instead of being added to the gradient.

    Raises:
        ArgumentTypeError: if one of them is no number.
        ArgumentError: if one of them is out of range, momentum is asked for beside Adam, Nesterov's without
            momentum, or decoupled decay without decay.
    """

    step_size: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] | None = None
    adam_epsilon: float = 1e-8
    temperature: float = 1.0
    noise_scale: float = 0.0
    nesterov: bool = False
    decoupled_decay: bool = False

    def __post_init__(self) -> None:
        for name in ("step_size", "temperature", "adam_epsilon"):
            require_real(name, getattr(self, name), "choose a positive number")
        for name in ("weight_decay", "noise_scale", "momentum"):
            require_real(name, getattr(self, name), "use 0 for none", positive=False)
        betas: object = self.betas  # a caller may give anything
        pair = betas is None or (isinstance(betas, tuple | list) and len(betas) == 2)
        require(pair, "betas", "be two numbers", betas, "give (0.9, 0.999), or None for no Adam")
        for beta in self.betas or ():
            require_real("betas", beta, "give numbers in [0, 1)", positive=False)
        factors = (self.momentum, *(self.betas or ()))
        good = all(0 <= factor < 1 for factor in factors)
        require(good, "momentum and betas", "lie in [0, 1)", factors, "choose such factors")
        alone = self.betas is None or self.momentum == 0
        require(alone, "momentum", "be 0 beside Adam", self.momentum, "Adam has its own: betas[0]")
        has = self.momentum > 0 or not self.nesterov
        require(has, "nesterov", "come with momentum", self.momentum, "give momentum, or drop it")
        for name in ("nesterov", "decoupled_decay"):
            value: object = getattr(self, name)  # a caller may give anything
            if not isinstance(value, bool):
                raise ArgumentTypeError(
                    f"{name} must be True or False, got {value!r}; give one of them"
                )
        has = self.weight_decay > 0 or not self.decoupled_decay
        require(has, "decoupled_decay", "come with weight_decay", self.weight_decay, "give a decay")

    @property
    def epsilon(self) -> float:
        """ε = 2τγ, the SGLD step."""
        return 2 * self.temperature * self.step_size

    @property
    def noise(self) -> float:
        """√ε κ, the standard deviation of one step's noise."""
        return math.sqrt(self.epsilon) * self.noise_scale

    @property
    def buffers(self) -> int:
        """How many vectors of θ's size the optimiser keeps."""
        if self.betas is not None:
            return 2
        return 1 if self.momentum > 0 else 0

    @property
    def plain(self) -> bool:
        """Whether it is gradient descent or Langevin, and nothing else."""
        return self.buffers == 0 and self.weight_decay == 0

    def state(self, theta: Float[Tensor, " n"]) -> Float[Tensor, " N"]:
        """The state at the start: θ⁰ and zero buffers."""
        return torch.cat([theta, theta.new_zeros(self.buffers * theta.numel())])

    def advance(
        self,
        state: Float[Tensor, " N"],
        gradient: Float[Tensor, " n"],
        step: int,
        noise: Float[Tensor, " n"] | None,
    ) -> Float[Tensor, " N"]:
        """The next state, given ∂_θ L_T at this one; step counts from 0."""
        n = gradient.numel()
        theta = state[:n]
        g = gradient
        if self.decoupled_decay:
            theta = (1 - self.step_size * self.weight_decay) * theta
        elif self.weight_decay:
            g = gradient + self.weight_decay * theta
        added = 0.0 if noise is None else noise
        if self.betas is not None:
            first, second = self.betas
            m = first * state[n : 2 * n] + (1 - first) * g
            v = second * state[2 * n :] + (1 - second) * g * g
            size = root(v / (1 - second ** (step + 1))) + self.adam_epsilon
            moved = theta - self.step_size * (m / (1 - first ** (step + 1))) / size + added
            return torch.cat([moved, m, v])
        if self.momentum > 0:
            v = self.momentum * state[n:] + g
            along = g + self.momentum * v if self.nesterov else v
            return torch.cat([theta - self.step_size * along + added, v])
        return theta - self.step_size * g + added


def root(v: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """√v with derivative 0 at 0.

    Adam's update as a function of the gradient g is g/(|g| + ε) near 0 at the first step, which has
    derivative 1/ε there: the root contributes nothing. Autograd's own derivative of √v is infinite,
    and turns it into NaN.
    """
    positive = v > 0
    return torch.where(positive, torch.where(positive, v, torch.ones_like(v)).sqrt(), v)
