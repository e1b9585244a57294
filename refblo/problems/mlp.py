"""A network on the digits with one L1 weight a parameter, eq. (1).

Inner loss: mean cross-entropy of a network with one hidden layer of tanh units over the training
images, plus Σ_j λ_j |θ_j|; outer loss: mean cross-entropy over the validation images. By definition λ has
the shape of θ: this is the one problem of the catalogue with p = n.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from refblo.chain import Langevin, Schedule
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial, Separable
from refblo.problems.case import Case
from refblo.problems.data import digits
from refblo.problems.likelihoods import cross_entropy
from refblo.problems.namespace import TORCH, A, ArrayNamespace, StatedLosses, Statement, as_tensor
from refblo.problems.regularisers import weighted_l1, weighted_l1_products
from refblo.ravel import module_layout, ravel_module

FEATURES, HIDDEN, CLASSES = 16, 6, 10
TRAINING, VALIDATION = 200, 200

SCHEDULE = Schedule(burn_in=10, samples=10)
"""Short enough for exact forward mode with 172 columns to take a second."""


def losses(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """The losses with the network spelt out, θ in the order of a module's parameters."""
    likelihood, penalty, tanh, swapaxes = cross_entropy(xp), weighted_l1(xp), xp.tanh, xp.swapaxes
    ends = np.cumsum([HIDDEN * FEATURES, HIDDEN, CLASSES * HIDDEN, CLASSES]).tolist()

    def fit(which: str) -> Callable[[A], A]:
        x, targets = data[which], data[f"{which}_targets"]

        def loss(theta: A) -> A:
            first = xp.reshape(theta[: ends[0]], (HIDDEN, FEATURES))
            second = xp.reshape(theta[ends[1] : ends[2]], (CLASSES, HIDDEN))
            hidden = tanh(x @ swapaxes(first, 0, 1) + theta[ends[0] : ends[1]])
            return likelihood(hidden @ swapaxes(second, 0, 1) + theta[ends[2] :], targets)

        return loss

    train, validation = fit("train"), fit("validation")
    return StatedLosses(
        lambda lam, theta, _: train(theta) + penalty(lam, theta),
        lambda _, theta, __: validation(theta),
    )


def network(dtype: torch.dtype, device: torch.device | str) -> nn.Module:
    """The network, its parameters not initialised: θ⁰ comes from the case's own draws."""

    def linear(inputs: int, outputs: int) -> nn.Module:
        layer: nn.Module = nn.utils.skip_init(  # type: ignore[no-untyped-call]  # torch's own
            nn.Linear, inputs, outputs, dtype=dtype, device=device
        )
        return layer

    return nn.Sequential(linear(FEATURES, HIDDEN), nn.Tanh(), linear(HIDDEN, CLASSES))


def mlp_digits_l1(dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Case:
    """16 pooled pixels, 6 hidden units, 10 classes: p = n = 172."""
    split, draws = digits(TRAINING, VALIDATION, pooled=True), Draws(3)
    data = {
        "train": split.train,
        "train_targets": split.train_targets,
        "validation": split.validation,
        "validation_targets": split.validation_targets,
    }
    module = network(dtype, device)
    _, apply = ravel_module(module)
    n = sum(module_layout(module).sizes)
    likelihood = cross_entropy(TORCH)

    def fit(which: str) -> Callable[[Tensor], Tensor]:
        x = as_tensor(data[which], dtype, device)
        targets = as_tensor(data[f"{which}_targets"], dtype, device)
        return lambda theta: likelihood(apply(theta, x), targets)

    train, validation = fit("train"), fit("validation")

    def normal(which: int) -> np.ndarray:
        like = torch.empty(n, dtype=torch.float64)
        return draws.normal(Stream.INSTANCE, which, like).numpy()

    start, lam = 0.3 * normal(0), 1e-3 * np.exp(0.5 * normal(1))
    inner = Separable(lambda theta, _: train(theta), weighted_l1(TORCH), weighted_l1_products())
    return Case(
        name="mlp_digits_l1",
        problem=BilevelProblem(
            inner=inner,
            outer=lambda _, theta, __: validation(theta),
            initial=FixedInitial(as_tensor(start, dtype, device)),
            name="mlp_digits_l1",
        ),
        lam=as_tensor(lam, dtype, device),
        dynamics=Langevin(step_size=0.1, temperature=1e-5),
        schedule=SCHEDULE,
        statement=Statement(losses, data),
        tags=frozenset({"real data", "separable", "non-smooth", "deterministic losses"}),
    )
