"""The losses of torch.nn.functional as functions of a matrix of scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor

Loss = Callable[[Tensor], Tensor]
"""Scores, shape (ROWS, COLUMNS) ↦ scalar."""

ROWS, COLUMNS = 6, 3


@final
@dataclass(frozen=True)
class LossCase:
    """A loss with targets of its own.

    Attributes:
        name: torch's.
        make: (generator, dtype) ↦ the loss, with fresh targets.
    """

    name: str
    make: Callable[[torch.Generator, torch.dtype], Loss]


def _normal(g: torch.Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)


def _classes(g: torch.Generator) -> Tensor:
    return torch.randint(COLUMNS, (ROWS,), generator=g)


def _signs(g: torch.Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    return (2 * torch.randint(2, shape, generator=g) - 1).to(dtype)


def _cross_entropy(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = _classes(g)
    return lambda z: F.cross_entropy(z, target)


def _smoothed(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = _classes(g)
    return lambda z: F.cross_entropy(z, target, label_smoothing=0.1)


def _nll(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = _classes(g)
    return lambda z: F.nll_loss(F.log_softmax(z, 1), target)


def _mse(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = _normal(g, dtype, ROWS, COLUMNS)
    return lambda z: F.mse_loss(z, target)


def _l1(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = _normal(g, dtype, ROWS, COLUMNS)
    return lambda z: F.l1_loss(z, target)


def _smooth_l1(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = _normal(g, dtype, ROWS, COLUMNS)
    return lambda z: F.smooth_l1_loss(z, target)


def _huber(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = _normal(g, dtype, ROWS, COLUMNS)
    return lambda z: F.huber_loss(z, target, delta=0.7)


def _bce(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = torch.rand(ROWS, COLUMNS, generator=g, dtype=torch.float64).to(dtype)
    return lambda z: F.binary_cross_entropy(z.sigmoid(), target)


def _bce_logits(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = torch.randint(2, (ROWS, COLUMNS), generator=g).to(dtype)
    return lambda z: F.binary_cross_entropy_with_logits(z, target)


def _poisson(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = torch.randint(5, (ROWS, COLUMNS), generator=g).to(dtype)
    return lambda z: F.poisson_nll_loss(z, target)


def _gaussian(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = _normal(g, dtype, ROWS)
    return lambda z: F.gaussian_nll_loss(z[:, 0], target, F.softplus(z[:, 1]) + 0.1)


def _kl(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = _normal(g, dtype, ROWS, COLUMNS).softmax(1)
    return lambda z: F.kl_div(F.log_softmax(z, 1), target, reduction="batchmean")


def _soft_margin(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = _signs(g, dtype, ROWS, COLUMNS)
    return lambda z: F.soft_margin_loss(z, target)


def _hinge_embedding(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = _signs(g, dtype, ROWS, COLUMNS)
    return lambda z: F.hinge_embedding_loss(z.square(), target, margin=2.0)


def _margin_ranking(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = _signs(g, dtype, ROWS)
    return lambda z: F.margin_ranking_loss(z[:, 0].square(), z[:, 1], target, margin=0.3)


def _cosine_embedding(g: torch.Generator, dtype: torch.dtype) -> Loss:
    other, target = _normal(g, dtype, ROWS, COLUMNS), _signs(g, dtype, ROWS)
    return lambda z: F.cosine_embedding_loss(z, other, target)


def _triplet(g: torch.Generator, dtype: torch.dtype) -> Loss:
    positive, negative = (_normal(g, dtype, ROWS, COLUMNS) for _ in range(2))
    return lambda z: F.triplet_margin_loss(z, positive, negative)


def _triplet_distance(g: torch.Generator, dtype: torch.dtype) -> Loss:
    positive, negative = (_normal(g, dtype, ROWS, COLUMNS) for _ in range(2))

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return 1 - F.cosine_similarity(a, b)

    return lambda z: F.triplet_margin_with_distance_loss(
        z, positive, negative, distance_function=distance
    )


def _multi_margin(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = _classes(g)
    return lambda z: F.multi_margin_loss(z + 0.1 * z.square(), target)


def _multilabel_margin(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = torch.full((ROWS, COLUMNS), -1)
    target[:, 0] = _classes(g)
    return lambda z: F.multilabel_margin_loss(z + 0.1 * z.square(), target)


def _multilabel_soft_margin(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = torch.randint(2, (ROWS, COLUMNS), generator=g).to(dtype)
    return lambda z: F.multilabel_soft_margin_loss(z, target)


def _ctc(g: torch.Generator, dtype: torch.dtype) -> Loss:
    target = torch.randint(1, COLUMNS, (1, 2), generator=g)
    lengths = (torch.tensor([ROWS]), torch.tensor([2]))
    return lambda z: F.ctc_loss(F.log_softmax(z, 1)[:, None], target, *lengths)


LOSSES = (
    LossCase("cross_entropy", _cross_entropy),
    LossCase("cross_entropy, smoothed", _smoothed),
    LossCase("nll_loss", _nll),
    LossCase("mse_loss", _mse),
    LossCase("l1_loss", _l1),
    LossCase("smooth_l1_loss", _smooth_l1),
    LossCase("huber_loss", _huber),
    LossCase("binary_cross_entropy", _bce),
    LossCase("binary_cross_entropy_with_logits", _bce_logits),
    LossCase("poisson_nll_loss", _poisson),
    LossCase("gaussian_nll_loss", _gaussian),
    LossCase("kl_div", _kl),
    LossCase("soft_margin_loss", _soft_margin),
    LossCase("hinge_embedding_loss", _hinge_embedding),
    LossCase("margin_ranking_loss", _margin_ranking),
    LossCase("cosine_embedding_loss", _cosine_embedding),
    LossCase("triplet_margin_loss", _triplet),
    LossCase("triplet_margin_with_distance_loss", _triplet_distance),
    LossCase("multi_margin_loss", _multi_margin),
    LossCase("multilabel_margin_loss", _multilabel_margin),
    LossCase("multilabel_soft_margin_loss", _multilabel_soft_margin),
    LossCase("ctc_loss", _ctc),
)
"""Every loss of torch.nn.functional that is a function of scores."""
