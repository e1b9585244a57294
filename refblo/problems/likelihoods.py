"""Losses on a model's outputs."""

from collections.abc import Callable

from refblo.problems.namespace import A, ArrayNamespace


def cross_entropy(xp: ArrayNamespace[A]) -> Callable[[A, A], A]:
    """(logits, targets) ↦ −(1/N) Σ_i log softmax(logits_i)·targets_i, both of shape (N, C).

    The targets are one-hot rows, or any distributions over the classes.
    """
    total, largest, exp, log = xp.sum, xp.amax, xp.exp, xp.log

    def loss(logits: A, targets: A) -> A:
        # Shifted by the largest logit, so that no exponential overflows.
        shifted = logits - largest(logits, axis=1, keepdims=True)
        partition = log(total(exp(shifted), axis=1))
        return total(partition - total(shifted * targets, axis=1)) / targets.shape[0]

    return loss


def softmax(xp: ArrayNamespace[A]) -> Callable[[A], A]:
    """Logits ↦ probabilities, both of shape (N, C)."""
    total, largest, exp = xp.sum, xp.amax, xp.exp

    def probabilities(logits: A) -> A:
        exponentials = exp(logits - largest(logits, axis=1, keepdims=True))
        return exponentials / total(exponentials, axis=1)[:, None]

    return probabilities
