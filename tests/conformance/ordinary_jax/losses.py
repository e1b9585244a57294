"""Every loss of optax.losses, as a function of 8 rows of 3 scores, with its twin in torch if it has one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import jax
import numpy as np
import optax
import torch
from jax import numpy as jnp
from torch import Tensor
from torch.nn import functional

ROWS, CLASSES = 8, 3
Array = np.ndarray


@final
@dataclass(frozen=True)
class OptaxLoss:
    """A loss.

    Attributes:
        targets: draws what the scores are compared with.
        in_optax: (scores, targets) ↦ the loss, or a loss for each row or entry.
        in_torch: the same in torch, or why it is not written.
    """

    targets: Callable[[np.random.Generator], Array]
    in_optax: Callable[[Any, Any], Any]
    in_torch: Callable[[Tensor, Tensor], Tensor] | str


def _numbers(draw: np.random.Generator) -> Array:
    return draw.normal(size=(ROWS, CLASSES))


def _probabilities(draw: np.random.Generator) -> Array:
    weights = np.exp(draw.normal(size=(ROWS, CLASSES)))
    found: Array = weights / weights.sum(1, keepdims=True)
    return found


def _labels(draw: np.random.Generator) -> Array:
    # Each class occurs: a class that does not would weigh 10¹⁴ in the generalised dice loss.
    return draw.permutation(np.arange(ROWS) % CLASSES)


def _one_hot(draw: np.random.Generator) -> Array:
    found: Array = np.eye(CLASSES)[_labels(draw)]
    return found


def _bits(draw: np.random.Generator) -> Array:
    return draw.integers(0, 2, size=(ROWS, CLASSES)).astype(float)


def _signs(draw: np.random.Generator) -> Array:
    found: Array = 2 * _bits(draw) - 1
    return found


def _sequence(z: Any) -> Any:
    """Two sequences of four frames."""
    return z.reshape(2, ROWS // 2, CLASSES)


def _ctc(z: Any, y: Any, function: Callable[..., Any]) -> Any:
    """Labels 1 and 2 in either order, by the first bits of y; class 0 is the blank."""
    labels = jnp.where(y[:2, :1] > 0, jnp.array([[1, 2]]), jnp.array([[2, 1]]))
    return function(_sequence(z), jnp.zeros((2, ROWS // 2)), labels, jnp.zeros((2, 2)))


def _cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(z, y, reduction="none")


def _kl(z: Tensor, y: Tensor) -> Tensor:
    return functional.kl_div(z.log_softmax(-1), y, reduction="none").sum(-1)


def _true_score(z: Tensor, y: Tensor) -> Tensor:
    return z.gather(1, y[:, None])[:, 0]


def _hinge_of_classes(z: Tensor, y: Tensor) -> Tensor:
    margin = z + 1 - functional.one_hot(y, CLASSES).to(z)
    return margin.max(-1).values - _true_score(z, y)


def _sparsemax(z: Tensor, y: Tensor) -> Tensor:
    s = torch.where(y > 0, -z, z)
    return torch.where(s <= -1, 0.0 * s, torch.where(s >= 1, s, (s + 1).square() / 4))


def _focal(z: Tensor, y: Tensor) -> Tensor:
    p = z.sigmoid()
    missed = p * (1 - y) + (1 - p) * y
    return functional.binary_cross_entropy_with_logits(z, y, reduction="none") * missed.square()


def _triplet(z: Tensor, y: Tensor) -> Tensor:
    def distance(a: Tensor, b: Tensor) -> Tensor:
        return ((a - b).square().sum(-1) + 1e-6).sqrt()

    return torch.relu(distance(z, y) - distance(z, y.roll(1, 0)) + 1)


def _poly(z: Tensor, y: Tensor) -> Tensor:
    return _cross_entropy(z, y) + 2 * (1 - (y * z.softmax(-1)).sum(-1))


def _dice(z: Tensor, y: Tensor) -> Tensor:
    """Of each row and class: 1 − (∑ py + 1) / (∑ (p + y) / 2 + 1), the sums over nothing here."""
    p = z.softmax(-1)
    return 1 - (p * y + 1) / ((p + y) / 2 + 1)


def _generalised_dice(z: Tensor, y: Tensor) -> Tensor:
    weights = 1 / (y.sum(0).square() + 1e-7)
    return _dice(z, y) * weights / weights.sum() * CLASSES


def _binary_dice(z: Tensor, y: Tensor) -> Tensor:
    p = z.sigmoid()
    return 1 - ((p * y).sum(-1) + 1) / (((p + y) / 2).sum(-1) + 1)


_ONCE = "torch differentiates ctc_loss once"
_OWN = "torch has no loss of this kind"

LOSSES = {
    "squared_error": OptaxLoss(_numbers, optax.squared_error, lambda z, y: (z - y).square()),
    "l2_loss": OptaxLoss(_numbers, optax.l2_loss, lambda z, y: (z - y).square() / 2),
    "huber_loss": OptaxLoss(
        _numbers,
        lambda z, y: optax.huber_loss(z, y, delta=0.7),
        lambda z, y: functional.huber_loss(z, y, delta=0.7, reduction="none"),
    ),
    "log_cosh": OptaxLoss(
        _numbers,
        optax.log_cosh,
        lambda z, y: torch.logaddexp(z - y, y - z) - float(np.log(2)),
    ),
    "cosine_similarity": OptaxLoss(
        _numbers, optax.cosine_similarity, lambda z, y: functional.cosine_similarity(z, y, dim=-1)
    ),
    "cosine_distance": OptaxLoss(
        _numbers, optax.cosine_distance, lambda z, y: 1 - functional.cosine_similarity(z, y, dim=-1)
    ),
    "hinge_loss": OptaxLoss(_signs, optax.losses.hinge_loss, lambda z, y: torch.relu(1 - z * y)),
    "perceptron_loss": OptaxLoss(
        _signs, optax.losses.perceptron_loss, lambda z, y: torch.relu(-z * y)
    ),
    "sparsemax_loss": OptaxLoss(_bits, optax.losses.sparsemax_loss, _sparsemax),
    "sigmoid_binary_cross_entropy": OptaxLoss(
        _bits,
        optax.sigmoid_binary_cross_entropy,
        lambda z, y: functional.binary_cross_entropy_with_logits(z, y, reduction="none"),
    ),
    "sigmoid_focal_loss": OptaxLoss(_bits, optax.sigmoid_focal_loss, _focal),
    "softmax_cross_entropy": OptaxLoss(_probabilities, optax.softmax_cross_entropy, _cross_entropy),
    "safe_softmax_cross_entropy": OptaxLoss(
        _probabilities, optax.safe_softmax_cross_entropy, _cross_entropy
    ),
    "softmax_cross_entropy_with_integer_labels": OptaxLoss(
        _labels, optax.softmax_cross_entropy_with_integer_labels, _cross_entropy
    ),
    "smooth_labels": OptaxLoss(
        _one_hot,
        lambda z, y: optax.softmax_cross_entropy(z, optax.smooth_labels(y, 0.1)),
        lambda z, y: functional.cross_entropy(z, y, label_smoothing=0.1, reduction="none"),
    ),
    "poly_loss_cross_entropy": OptaxLoss(
        _probabilities, optax.losses.poly_loss_cross_entropy, _poly
    ),
    "multiclass_hinge_loss": OptaxLoss(
        _labels, optax.losses.multiclass_hinge_loss, _hinge_of_classes
    ),
    "multiclass_perceptron_loss": OptaxLoss(
        _labels,
        optax.losses.multiclass_perceptron_loss,
        lambda z, y: z.max(-1).values - _true_score(z, y),
    ),
    "multiclass_sparsemax_loss": OptaxLoss(_labels, optax.losses.multiclass_sparsemax_loss, _OWN),
    "kl_divergence": OptaxLoss(
        _probabilities, lambda z, y: optax.kl_divergence(jax.nn.log_softmax(z), y), _kl
    ),
    "kl_divergence_with_log_targets": OptaxLoss(
        _probabilities,
        lambda z, y: optax.losses.kl_divergence_with_log_targets(jax.nn.log_softmax(z), jnp.log(y)),
        _kl,
    ),
    "convex_kl_divergence": OptaxLoss(
        _probabilities,
        optax.losses.convex_kl_divergence,
        lambda z, y: (y * (y.log() - z) + z.exp() - y).sum(-1),
    ),
    "generalized_kl_divergence": OptaxLoss(
        _probabilities,
        optax.losses.generalized_kl_divergence,
        lambda z, y: (y * (y.log() - z) + z.exp() - y).sum(-1),
    ),
    "make_fenchel_young_loss": OptaxLoss(
        _probabilities,
        optax.losses.make_fenchel_young_loss(max_fun=jax.nn.logsumexp),
        lambda z, y: torch.logsumexp(z, -1) - (z * y).sum(-1),
    ),
    "ranking_softmax_loss": OptaxLoss(
        _probabilities,
        optax.losses.ranking_softmax_loss,
        lambda z, y: -(y * z.log_softmax(-1)).sum(-1),
    ),
    "triplet_margin_loss": OptaxLoss(
        _numbers,
        lambda z, y: optax.losses.triplet_margin_loss(z, y, jnp.roll(y, 1, 0)),
        _triplet,
    ),
    "ntxent": OptaxLoss(_labels, lambda z, y: optax.losses.ntxent(z, y, temperature=0.5), _OWN),
    "dice_loss": OptaxLoss(_one_hot, optax.losses.dice_loss, _dice),
    "multiclass_generalized_dice_loss": OptaxLoss(
        _one_hot, optax.losses.multiclass_generalized_dice_loss, _generalised_dice
    ),
    "binary_dice_loss": OptaxLoss(_bits, optax.losses.binary_dice_loss, _binary_dice),
    "ctc_loss": OptaxLoss(_bits, lambda z, y: _ctc(z, y, optax.ctc_loss), _ONCE),
    "ctc_loss_with_forward_probs": OptaxLoss(
        _bits, lambda z, y: _ctc(z, y, optax.losses.ctc_loss_with_forward_probs)[0], _ONCE
    ),
}
"""By the name of the function of optax."""
