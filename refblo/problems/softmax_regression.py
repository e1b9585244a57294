"""Softmax regression with one L2 weight a feature, eq. (1), on the digits.

Inner loss: mean cross-entropy of the logits XW + b over the training images, plus Σ_f λ_f ‖W_f‖² (a
feature's ten weights share one λ) and a fixed decay of the biases, without which the loss would not
change when one number is added to all of them. Outer loss: mean cross-entropy over the validation
images. p = 64 features, n = 64·10 + 10.
"""

from collections.abc import Mapping

import numpy as np
import torch

from refblo.chain import Langevin, Schedule
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial, FullBatch, Minibatches, Separable
from refblo.problems.case import Case
from refblo.problems.data import digits
from refblo.problems.likelihoods import cross_entropy
from refblo.problems.namespace import (
    TORCH,
    A,
    ArrayNamespace,
    SeparableParts,
    StatedLosses,
    Statement,
    as_tensor,
)
from refblo.problems.regularisers import weighted_l2, weighted_l2_products

CLASSES = 10
TRAINING, VALIDATION = 200, 200
INNER_BATCH, OUTER_BATCH = 50, 100

BIAS_DECAY = 0.01
"""Of the size of the λs, so that it does not set the condition number."""

SCHEDULE = Schedule(burn_in=20, samples=20)
"""Short enough for exact forward mode with 64 columns to take a second."""


def parts(xp: ArrayNamespace[A], data: Mapping[str, A]) -> SeparableParts[A]:
    """The data loss, the penalty and the outer loss."""
    features = data["train"].shape[1]
    count, reshape, likelihood = features * CLASSES, xp.reshape, cross_entropy(xp)

    def fit(x: A, targets: A, theta: A, batch: A | None) -> A:
        if batch is not None:
            x, targets = x[batch], targets[batch]
        logits = x @ reshape(theta[:count], (features, CLASSES)) + theta[count:]
        return likelihood(logits, targets)

    def inner(theta: A, batch: A | None) -> A:
        biases = theta[count:]
        return fit(train, train_targets, theta, batch) + BIAS_DECAY * (biases @ biases)

    def outer(lam: A, theta: A, batch: A | None) -> A:  # noqa: ARG001
        return fit(validation, validation_targets, theta, batch)

    train, train_targets = data["train"], data["train_targets"]
    validation, validation_targets = data["validation"], data["validation_targets"]
    return SeparableParts(inner, weighted_l2(data["groups"]), outer)


def losses(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """The losses without their structure."""
    return parts(xp, data).losses()


def softmax_digits(dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Case:
    """200 training and 200 validation images, all of them at every step."""
    return _case("softmax_digits", minibatches=False, dtype=dtype, device=device)


def softmax_digits_minibatch(
    dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> Case:
    """The same with batches of 50 training and 100 validation images."""
    return _case("softmax_digits_minibatch", minibatches=True, dtype=dtype, device=device)


def _case(name: str, *, minibatches: bool, dtype: torch.dtype, device: torch.device | str) -> Case:
    split, draws = digits(TRAINING, VALIDATION), Draws(2)
    p = split.train.shape[1]
    data = {
        "train": split.train,
        "train_targets": split.train_targets,
        "validation": split.validation,
        "validation_targets": split.validation_targets,
        "groups": np.repeat(np.arange(p), CLASSES),
    }

    def normal(which: int, size: int) -> np.ndarray:
        like = torch.empty(size, dtype=torch.float64)
        return draws.normal(Stream.INSTANCE, which, like).numpy()

    start = 0.1 * normal(0, (p + 1) * CLASSES)
    lam = 0.01 * np.exp(0.5 * normal(1, p))
    # The Hessian of the cross-entropy in the logits is at most ½.
    extended = np.hstack([split.train, np.ones((TRAINING, 1))])
    largest = np.linalg.norm(extended, 2) ** 2 / (2 * TRAINING) + 2 * max(lam.max(), BIAS_DECAY)
    tensors = {key: as_tensor(x, dtype, device) for key, x in data.items()}
    built = parts(TORCH, tensors)
    inner = Separable(built.data, built.regulariser, weighted_l2_products(tensors["groups"]))
    return Case(
        name=name,
        problem=BilevelProblem(
            inner=inner,
            outer=built.outer,
            initial=FixedInitial(as_tensor(start, dtype, device)),
            inner_batches=Minibatches(TRAINING, INNER_BATCH) if minibatches else FullBatch(),
            outer_batches=Minibatches(VALIDATION, OUTER_BATCH) if minibatches else FullBatch(),
            name=name,
        ),
        lam=as_tensor(lam, dtype, device),
        # On a batch the curvature can exceed the bound above: a fifth of the full-batch step is stable.
        dynamics=Langevin(float((0.2 if minibatches else 1.0) / largest), temperature=1e-4),
        schedule=SCHEDULE,
        statement=Statement(losses, data),
        tags=frozenset(
            {
                "real data",
                "separable",
                "strongly convex",
                "stochastic losses" if minibatches else "deterministic losses",
            }
        ),
    )
