"""ViT-B/16 with one L1 weight a parameter: eq. (1) at the largest scale of Kim and Hospedales.

Inner loss: mean cross-entropy of the network on a batch of images, plus Σ_j λ_j |θ_j|; outer loss: mean
cross-entropy on another batch. p = n = 86,567,656. The network is that of Dosovitskiy et al. 2021 (224 × 224
pixels, patches of 16 × 16, 12 layers, width 768, 12 heads, 1000 classes), its patches embedded by a linear
map, which is the same function as a strided convolution.

Attention runs on torch's fused kernel, which has no second derivative: the declared structure sees to it
that HPO-SGLD never asks for one. `attention="plain"` writes it out, for methods that need H.

Images are noise: what is looked at here is cost. Inside `refblo.cost.shapes_only()` nothing is allocated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from refblo.errors import require_integer, require_one_of
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial, Separable
from refblo.problems.namespace import TORCH
from refblo.problems.regularisers import weighted_l1, weighted_l1_products
from refblo.ravel import ravel_module

Attention = Literal["fused", "plain"]


@final
@dataclass(frozen=True)
class Size:
    """The sizes of a vision transformer; the defaults are ViT-B/16's."""

    image: int = 224
    patch: int = 16
    layers: int = 12
    width: int = 768
    heads: int = 12
    hidden: int = 3072
    classes: int = 1000

    @property
    def tokens(self) -> int:
        """Patches, and the class token."""
        return (self.image // self.patch) ** 2 + 1


@final
class Block(nn.Module):
    """Attention and a perceptron, each behind a normalisation and beside a residual connection."""

    def __init__(self, size: Size, attention: Attention) -> None:
        super().__init__()
        self.heads, self.attention = size.heads, attention
        self.before_attention = nn.LayerNorm(size.width, eps=1e-6)
        self.queries_keys_values = nn.Linear(size.width, 3 * size.width)
        self.output = nn.Linear(size.width, size.width)
        self.before_perceptron = nn.LayerNorm(size.width, eps=1e-6)
        self.perceptron = nn.Sequential(
            nn.Linear(size.width, size.hidden), nn.GELU(), nn.Linear(size.hidden, size.width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of shape (batch, tokens, width) to the same shape."""
        batch, tokens, width = x.shape
        mixed = self.queries_keys_values(self.before_attention(x))
        heads = mixed.reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        if self.attention == "fused":
            attended = scaled_dot_product_attention(query, key, value)
        else:
            scores = query @ key.transpose(-2, -1) * (width // self.heads) ** -0.5
            attended = scores.softmax(-1) @ value
        x = x + self.output(attended.transpose(1, 2).reshape(batch, tokens, width))
        rest: Tensor = x + self.perceptron(self.before_perceptron(x))
        return rest


@final
class VisionTransformer(nn.Module):
    """Images of shape (batch, 3, image, image) to logits of shape (batch, classes)."""

    def __init__(self, size: Size, attention: Attention = "fused") -> None:
        super().__init__()
        self.size = size
        self.embedding = nn.Linear(3 * size.patch**2, size.width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.positions = nn.Parameter(torch.zeros(1, size.tokens, size.width))
        self.blocks = nn.Sequential(*(Block(size, attention) for _ in range(size.layers)))
        self.norm = nn.LayerNorm(size.width, eps=1e-6)
        self.head = nn.Linear(size.width, size.classes)

    def forward(self, images: Tensor) -> Tensor:
        """The logits."""
        batch, side = images.shape[0], self.size.image // self.size.patch
        patches = images.reshape(batch, 3, side, self.size.patch, side, self.size.patch)
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, side * side, -1)
        tokens = torch.cat([self.class_token.expand(batch, -1, -1), self.embedding(patches)], dim=1)
        logits: Tensor = self.head(self.norm(self.blocks(tokens + self.positions))[:, 0])
        return logits


def _start(
    module: nn.Module, draws: Draws, dtype: torch.dtype, device: torch.device | str
) -> Tensor:
    """θ⁰: weights from N(0, 0.02²), biases 0, scales of normalisations 1."""
    parts = []
    for index, (name, parameter) in enumerate(module.named_parameters()):
        like = torch.empty(parameter.shape, dtype=dtype, device=device)
        if parameter.ndim > 1:
            part = 0.02 * draws.normal(Stream.INSTANCE, index, like)
        else:
            part = torch.full_like(like, float(name.endswith("weight")))
        parts.append(part.reshape(-1))
    return torch.cat(parts)


def vision_transformer(
    size: Size,
    attention: Attention = "fused",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """The network as a function of a flat vector.

    Returns:
        Random weights, shape (n,), and (theta, images) ↦ logits, shape (batch, classes).
    """
    with torch.device("meta"):  # a module without numbers: θ has them
        module = VisionTransformer(size, attention)
    _, apply = ravel_module(module)
    return _start(module, Draws(seed), dtype, device), apply


def vit_problem(
    batch: int = 8,
    size: Size | None = None,
    attention: Attention = "fused",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[BilevelProblem, Tensor]:
    """The problem and a λ, shape (n,).

    Args:
        batch: images that one gradient sees, at least 1.
        size: of the network; ViT-B/16's by default.
        attention: fused, or written out so that it can be differentiated twice.
        dtype: of the vectors and images.
        device: where they live.

    Raises:
        ArgumentError: if `batch` is less than 1, or the attention is neither.
    """
    require_integer("batch", batch, 1, "give the network at least one image")
    require_one_of("attention", attention, get_args(Attention))
    size = size or Size()
    theta, apply = vision_transformer(size, attention, dtype, device)

    def images(which: int) -> tuple[Tensor, Tensor]:
        like = torch.empty(batch, 3, size.image, size.image, dtype=dtype, device=device)
        labels = torch.arange(batch, device=device) * (2 * which + 1) % size.classes
        return Draws(1).normal(Stream.INSTANCE, which, like), labels

    (x, y), (validation_x, validation_y) = images(0), images(1)
    problem = BilevelProblem(
        inner=Separable(
            lambda theta, _: cross_entropy(apply(theta, x), y),
            weighted_l1(TORCH),
            weighted_l1_products(),
        ),
        outer=lambda _, theta, __: cross_entropy(apply(theta, validation_x), validation_y),
        initial=FixedInitial(theta),
        name="vit-b-16",
    )
    return problem, torch.full_like(theta, 1e-6)
