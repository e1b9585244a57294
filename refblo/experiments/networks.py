"""The small networks of the tables with images, as pure functions of a flat vector."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu

from refblo.experiments.training import Logits, initial_weights
from refblo.noise import Draws
from refblo.ravel import ravel_module
from refblo.types import Theta


@final
class ConvNet(nn.Module):
    """Convolutions 3 × 3 with rectifiers, each followed by a mean over 2 × 2 pixels while there are any.

    Args:
        side: of the grey images, in pixels.
        width: channels of every layer.
        layers: how many convolutions.
        outputs: of the linear layer at the end; 0 leaves it out.
        normalised: whether each layer is normalised over its batch, as few-shot networks are.
    """

    def __init__(
        self, side: int, width: int, layers: int, outputs: int, *, normalised: bool
    ) -> None:
        super().__init__()
        channels = [1, *[width] * layers]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels[i], width, 3, padding=1) for i in range(layers)
        )
        self.normalisations = nn.ModuleList(
            nn.BatchNorm2d(width, track_running_stats=False)
            for _ in range(layers if normalised else 0)
        )
        for _ in range(layers):
            side = max(1, side // 2)
        self.head = nn.Linear(width * side * side, outputs) if outputs else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Images of shape (batch, side, side) to outputs, or to features where there is no head."""
        x = images[:, None]
        for index, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if self.normalisations:
                x = self.normalisations[index](x)
            x = relu(x)
            if x.shape[-1] >= 2:
                x = avg_pool2d(x, 2)
        outputs: Tensor = self.head(x.flatten(1))
        return outputs


@final
class Perceptron(nn.Module):
    """One hidden layer of hyperbolic tangents over the pixels, as in D.6."""

    def __init__(self, side: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(side * side, hidden)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Images of shape (batch, side, side) to outputs."""
        outputs: Tensor = self.head(torch.tanh(self.hidden(images.flatten(1))))
        return outputs


def as_function(module: nn.Module, seed: int) -> tuple[Theta, Logits]:
    """Random weights and the network as a function of them."""
    _, apply = ravel_module(module)
    return initial_weights(module, Draws(seed)), apply
