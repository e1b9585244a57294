"""A learnt loss, (28), (29) and (53) of Kim and Hospedales, on the irises.

With f = softmax(XW + b), targets y and u = f_j − λ₁, w = y_j − λ₀, the inner loss is the mean over the
training flowers of

    −(1/C) Σ_j (λ₂u + λ₃u²/2 + λ₄u³/6 + λ₅uw + λ₆u²w/2 + λ₇uw²/2),                          (53)

a third-order Taylor polynomial whose eight coefficients are λ; the outer loss is the cross-entropy over
the validation flowers. λ meets the network's outputs only. p = 8, n = 4·3 + 3.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from refblo.chain import Langevin, Schedule
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, Composed, FixedInitial
from refblo.problems.case import Case
from refblo.problems.data import iris
from refblo.problems.likelihoods import cross_entropy, softmax
from refblo.problems.namespace import (
    TORCH,
    A,
    ArrayNamespace,
    ComposedParts,
    StatedLosses,
    Statement,
    as_tensor,
)

CLASSES = 3

CROSS_ENTROPY = (0.0, 0.5, 0.0, 0.0, 0.0, 2.0, -4.0, 0.0)
"""−y log f expanded at f = ½ to the second order: the λ around which the case's own is drawn."""


def polynomial(xp: ArrayNamespace[A]) -> Callable[[A, A, A], A]:
    """(λ, f, y) ↦ (53), for outputs f and one-hot targets y of shape (batch, C)."""

    def value(lam: A, outputs: A, targets: A) -> A:
        w, u = targets - lam[0], outputs - lam[1]
        alone = lam[2] + u * (lam[3] / 2 + u * (lam[4] / 6))
        mixed = w * (lam[5] + u * (lam[6] / 2) + w * (lam[7] / 2))
        return -xp.sum(u * (alone + mixed)) / (outputs.shape[0] * outputs.shape[1])

    return value


def parts(xp: ArrayNamespace[A], data: Mapping[str, A]) -> ComposedParts[A]:
    """The network, the polynomial and the outer loss."""
    features = data["train"].shape[1]
    count, third_order = features * CLASSES, polynomial(xp)
    train, train_targets = data["train"], data["train_targets"]
    validation, validation_targets = data["validation"], data["validation_targets"]
    likelihood, probabilities = cross_entropy(xp), softmax(xp)

    def logits(x: A, theta: A) -> A:
        return x @ xp.reshape(theta[:count], (features, CLASSES)) + theta[count:]

    def outputs(theta: A, batch: A | None) -> A:
        return probabilities(logits(train if batch is None else train[batch], theta))

    def loss(lam: A, outputs: A, batch: A | None) -> A:
        return third_order(lam, outputs, train_targets if batch is None else train_targets[batch])

    def outer(lam: A, theta: A, _: A | None) -> A:  # noqa: ARG001
        return likelihood(logits(validation, theta), validation_targets)

    return ComposedParts(outputs, loss, outer)


def losses(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """The losses without their structure."""
    return parts(xp, data).losses()


def taylor_loss_iris(
    dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> Case:
    """75 training and 75 validation flowers."""
    split, draws = iris(75, 75), Draws(4)
    data = {
        "train": split.train,
        "train_targets": split.train_targets,
        "validation": split.validation,
        "validation_targets": split.validation_targets,
    }

    def normal(which: int, size: int) -> np.ndarray:
        like = torch.empty(size, dtype=torch.float64)
        return draws.normal(Stream.INSTANCE, which, like).numpy()

    start = 0.3 * normal(0, (split.train.shape[1] + 1) * CLASSES)
    lam = np.array(CROSS_ENTROPY) + 0.1 * normal(1, len(CROSS_ENTROPY))
    built = parts(TORCH, {name: as_tensor(x, dtype, device) for name, x in data.items()})
    return Case(
        name="taylor_loss_iris",
        problem=BilevelProblem(
            inner=Composed(built.outputs, built.loss),
            outer=built.outer,
            initial=FixedInitial(as_tensor(start, dtype, device)),
            name="taylor_loss_iris",
        ),
        lam=as_tensor(lam, dtype, device),
        dynamics=Langevin(step_size=0.5, temperature=1e-4),
        schedule=Schedule(burn_in=20, samples=20),
        statement=Statement(losses, data),
        tags=frozenset({"real data", "composed", "deterministic losses"}),
    )
