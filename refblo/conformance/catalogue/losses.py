"""The losses of the catalogue, for any array library (see `refblo.problems.namespace`)."""

from collections.abc import Mapping
from typing import Any

from refblo.problems.namespace import A, ArrayNamespace, StatedLosses


def quadratic(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """Inner ½ θ'Hθ − θ'(Kλ + c) [+ ½ Σ exp(Wλ)∘θ²]; outer ½ θ'Qθ + q'θ [+ θ'Rλ + ½ λ'Sλ + s'λ + constant].

    What is in brackets is there where the data has it.
    """
    hessian, coupling, shift = data["hessian"], data["coupling"], data["shift"]
    outer_hessian, outer_slope = data["outer_hessian"], data["outer_slope"]
    exp = xp.exp

    def inner(lam: A, theta: A, _: A | None) -> A:
        value = 0.5 * (theta @ (hessian @ theta)) - theta @ (coupling @ lam + shift)
        if "weights" in data:
            value = value + 0.5 * (exp(data["weights"] @ lam) @ (theta * theta))
        return value

    def outer(lam: A, theta: A, _: A | None) -> A:
        value = 0.5 * (theta @ (outer_hessian @ theta)) + outer_slope @ theta
        if "direct" in data:
            value = value + 0.5 * (lam @ (data["direct"] @ lam)) + data["direct_slope"] @ lam
            value = value + theta @ (data["outer_mixed"] @ lam)
        if "constant" in data:
            value = value + xp.sum(data["constant"])
        return value

    return StatedLosses(inner, outer)


def network(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """A network w₂'tanh(W₁x + b₁) with a decay e^λ for each of its three tensors; least squares.

    The outer loss is that of the validation set [+ direct·λ'λ]. θ is (W₁, b₁, w₂), one after another.
    """
    tanh, total, reshape, exp = xp.tanh, xp.sum, xp.reshape, xp.exp
    features, targets = data["features"], data["targets"]
    held_features, held_targets = data["held_features"], data["held_targets"]
    inputs = features.shape[1]
    hidden = data["hidden"].shape[0]
    first, second = inputs * hidden, inputs * hidden + hidden

    def predict(theta: A, x: A) -> A:
        matrix = reshape(theta[:first], (inputs, hidden))
        return tanh(x @ matrix + theta[first:second]) @ theta[second:]

    def inner(lam: A, theta: A, batch: A | None) -> A:
        x = features if batch is None else features[batch]
        y = targets if batch is None else targets[batch]
        misfit = predict(theta, x) - y
        decay = exp(lam)
        squares = theta * theta
        penalty = decay[0] * total(squares[:first]) + decay[1] * total(squares[first:second])
        penalty = penalty + decay[2] * total(squares[second:])
        return total(misfit * misfit) / y.shape[0] + penalty

    def outer(lam: A, theta: A, batch: A | None) -> A:
        x = held_features if batch is None else held_features[batch]
        y = held_targets if batch is None else held_targets[batch]
        misfit = predict(theta, x) - y
        value = total(misfit * misfit) / y.shape[0]
        if "direct" in data:
            value = value + total(data["direct"] * lam * lam)
        return value

    return StatedLosses(inner, outer)


def weighted_logistic(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """Logistic regression with a weight σ(λ_i) for every training example, and a ridge; outer: held-out.

    There are more hyperparameters than parameters. A batch holds the indices of examples.
    """
    exp, log, total = xp.exp, xp.log, xp.sum
    features, labels = data["features"], data["labels"]
    held_features, held_labels = data["held_features"], data["held_labels"]

    def softplus(x: A) -> A:
        return log(1 + exp(x))

    def inner(lam: A, theta: A, batch: A | None) -> A:
        x = features if batch is None else features[batch]
        y = labels if batch is None else labels[batch]
        chosen = lam if batch is None else lam[batch]
        weights = (1 + exp(-chosen)) ** -1
        return total(weights * softplus(-y * (x @ theta))) / y.shape[0] + 0.05 * (theta @ theta)

    def outer(lam: A, theta: A, batch: A | None) -> A:
        x = held_features if batch is None else held_features[batch]
        y = held_labels if batch is None else held_labels[batch]
        value = total(softplus(-y * (x @ theta))) / y.shape[0]
        if "direct" in data:
            value = value + total(data["direct"] * lam * lam)
        return value

    return StatedLosses(inner, outer)


def regression(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """Least squares with a decay e^λ for each group of weights; a batch is the pair (features, targets).

    Inner: mean (xθ − y)² + Σ_g e^{λ_g} Σ_{i in g} θ_i²; outer: mean (xθ − y)². Without a batch, all data.
    """
    exp, total = xp.exp, xp.sum
    everything, groups = (data["features"], data["targets"]), data["groups"]

    def misfit(theta: A, batch: Any) -> A:
        x, y = everything if batch is None else batch
        away = x @ theta - y
        return total(away * away) / y.shape[0]

    def inner(lam: A, theta: A, batch: Any) -> A:
        return misfit(theta, batch) + (theta * theta) @ (groups @ exp(lam))

    def outer(_: A, theta: A, batch: Any) -> A:
        return misfit(theta, batch)

    return StatedLosses(inner, outer)
