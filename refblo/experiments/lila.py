"""LILA, Immer et al. 2022, for the invariance of Table 8: λ by the Laplace marginal likelihood.

    inner:  mean cross-entropy of ḡ + Σ_l δ_l ‖θ_l‖² / 2N,
    outer:  the same + (1 / 2N) Σ_l Σ_ij log(1 + N α_li γ_lj / δ_l)  =  −log Z / N + a constant,

l: the two layers, each with its bias; δ_l: the precision of their Gaussian prior, whose logarithms follow
the six entries of λ; N images. α_l and γ_l are the eigenvalues of the Kronecker factors of the generalised
Gauss-Newton matrix, H_l ≈ N · A_l ⊗ G_l, by which the second derivatives of Laplace's approximation are
replaced:

    A_l = mean of a a',  a: the layer's input and 1, averaged over the copies of an image;
    G_l = mean of J' Λ J,  J = ∂ḡ/∂s: by the layer's output s, averaged over the copies;  Λ = diag(p) − p p'.

J ⊗ a, averaged over the copies, is replaced by the product of its two averages. As published, λ follows the
direct term of the outer loss at θ after a few inner steps, and all images are trained on: there is no
validation split. A factor from few images has a low rank, so that the outer batches are larger than the
inner ones.

The dense matrix, for small n, is in refblo.estimators.laplace_evidence. The factors are our own: the package
laplace-torch has no derivative of the evidence by λ, does not know averages over copies, and requires
torchvision and ten further packages.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from refblo.experiments.invariance import AugmentedBatches, every_copy
from refblo.experiments.training import LabelledImages
from refblo.problem import BilevelProblem, FixedInitial
from refblo.types import Batch, Lam, Theta

START_PRECISION = 1.0
"""δ at the start."""


@final
@dataclass(frozen=True)
class Layers:
    """The sizes of a `Perceptron`, whose flat θ is split into layers.

    Attributes:
        inputs: pixels.
        hidden: units.
        outputs: classes.
    """

    inputs: int
    hidden: int
    outputs: int

    def split(self, theta: Theta) -> list[Tensor]:
        """θ_l: the weights and the bias of each layer, flat."""
        first = self.hidden * (self.inputs + 1)
        return [theta[:first], theta[first:]]

    def forward(self, theta: Theta, pixels: Float[Tensor, "copies b d"]) -> "Averages":
        """The averages over the copies that the logits and the factors need."""
        first, second = self.split(theta)
        weight = first[: self.hidden * self.inputs].reshape(self.hidden, self.inputs)
        head = second[: self.outputs * self.hidden].reshape(self.outputs, self.hidden)
        active = torch.tanh(pixels @ weight.T + first[self.hidden * self.inputs :])
        features = active.mean(dim=0)
        return Averages(
            inputs=pixels.mean(dim=0),
            features=features,
            slopes=(1 - active.square()).mean(dim=0),
            head=head,
            logits=features @ head.T + second[self.outputs * self.hidden :],
        )


@final
@dataclass(frozen=True, eq=False)
class Averages:
    """Means over the copies of each image of a batch.

    Attributes:
        inputs: pixels.
        features: outputs of the hidden units.
        slopes: derivatives of the hidden units.
        head: the weights of the last layer.
        logits: ḡ.
    """

    inputs: Float[Tensor, "b d"]
    features: Float[Tensor, "b h"]
    slopes: Float[Tensor, "b h"]
    head: Float[Tensor, "c h"]
    logits: Float[Tensor, "b c"]

    def factors(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(A_l, G_l) of both layers."""
        p = self.logits.softmax(dim=1)
        curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        # J' Λ J with J = head · diag(slope).
        jacobian = self.head * self.slopes[:, None, :]
        hidden = torch.einsum("bch,bcd,bdk->hk", jacobian, curvature, jacobian) / len(p)
        yield _second_moment(self.inputs), hidden
        yield _second_moment(self.features), curvature.mean(dim=0)


def _second_moment(inputs: Float[Tensor, "b d"]) -> Float[Tensor, "e e"]:
    with_one = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1)
    return with_one.T @ with_one / len(inputs)


def occam_factor(averages: Averages, population: int, precisions: Tensor) -> Tensor:
    """½ Σ_l Σ_ij log(1 + N α_li γ_lj / δ_l) = ½ log det(1 + H/δ), with H block by block."""
    total = torch.zeros((), dtype=precisions.dtype, device=precisions.device)
    for (inputs, outputs), precision in zip(averages.factors(), precisions, strict=True):
        # Rounding may make an eigenvalue of a singular factor negative.
        alpha, gamma = (torch.linalg.eigvalsh(f).clamp(min=0) for f in (inputs, outputs))
        total = total + 0.5 * torch.log1p(population / precision * torch.outer(alpha, gamma)).sum()
    return total


def start(lam: Float[Tensor, " 6"]) -> Float[Tensor, " 8"]:
    """λ⁰ of the six transformations, followed by log δ of both layers."""
    return torch.cat([lam, torch.full_like(lam[:2], START_PRECISION).log()])


def problem(
    layers: Layers, theta: Theta, data: LabelledImages, size: int, outer_size: int, copies: int
) -> BilevelProblem:
    """The bilevel problem.

    Args:
        layers: of the network.
        theta: θ⁰.
        data: all images.
        size: of an inner batch.
        outer_size: of an outer batch.
        copies: of each image.
    """
    population = len(data)

    def loss(count: int, *, evidence: bool) -> Callable[[Lam, Theta, Batch], Tensor]:
        def value(lam: Lam, theta: Theta, batch: Batch) -> Tensor:
            assert batch is not None
            index, epsilon = batch[:count].to(torch.int64), batch[count:]
            moved = every_copy(lam[:6], data.images[index], epsilon)
            averages = layers.forward(theta, moved.flatten(2))
            precisions = lam[6:].exp()
            squares = torch.stack([part.square().sum() for part in layers.split(theta)])
            beside = 0.5 * (precisions * squares).sum()
            if evidence:
                beside = beside + occam_factor(averages, population, precisions)
            return cross_entropy(averages.logits, data.labels[index]) + beside / population

        return value

    return BilevelProblem(
        inner=loss(size, evidence=False),
        outer=loss(outer_size, evidence=True),
        initial=FixedInitial(theta),
        inner_batches=AugmentedBatches(population, size, copies),
        outer_batches=AugmentedBatches(population, outer_size, copies),
        name="lila",
    )
