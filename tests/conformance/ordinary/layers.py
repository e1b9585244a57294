"""Small networks, one for each kind of layer that people use."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from tests.conformance.ordinary.losses import COLUMNS, ROWS

_TOKENS = 7


@final
@dataclass(frozen=True)
class LayerCase:
    """A network with a layer of some kind.

    Attributes:
        name: of the layer.
        module: makes the network, in float64: inputs ↦ scores, shape (ROWS, COLUMNS).
        shape: of an input; that of tokens if `tokens`.
        tokens: whether inputs are token numbers instead of normal numbers.
    """

    name: str
    module: Callable[[], nn.Module]
    shape: tuple[int, ...]
    tokens: bool = False

    def inputs(self, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Fresh inputs."""
        if self.tokens:
            return torch.randint(_TOKENS, self.shape, generator=generator)
        return torch.randn(*self.shape, generator=generator, dtype=torch.float64).to(dtype)

    def build(self, seed: int, dtype: torch.dtype) -> nn.Module:
        """The network with parameters that are a function of the seed."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            return self.module().double().to(dtype)


@final
class _Recurrent(nn.Module):
    """A recurrent layer and a linear one on its last output."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.recurrent = layer
        self.last = nn.Linear(4, COLUMNS)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.recurrent(x)[0][:, -1])
        return scores


@final
class _Attention(nn.Module):
    """Self-attention and a linear layer on the mean over the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.last = nn.Linear(4, COLUMNS)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.attention(x, x, x, need_weights=False)[0].mean(1))
        return scores


@final
class _FrozenDropout(nn.Module):
    """Dropout with a mask that was drawn once."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, COLUMNS)
        self.register_buffer("mask", 2.0 * torch.randint(2, (ROWS, 5)))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(torch.tanh(self.first(x)) * self.mask)
        return scores


@final
class _Shared(nn.Module):
    """The same weights twice."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.last = nn.Linear(4, 4), nn.Linear(4, COLUMNS)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(torch.tanh(self.twice(torch.tanh(self.twice(x)))))
        return scores


@final
class _Embedding(nn.Module):
    """The mean of embeddings and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.last = nn.Embedding(_TOKENS, 4), nn.Linear(4, COLUMNS)

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.last(torch.tanh(self.embedding(tokens).mean(1)))
        return scores


def _linear() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, COLUMNS))


def _normed(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), layer, nn.Tanh(), nn.Linear(6, COLUMNS))


def _image(*layers: nn.Module, features: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), *layers, nn.Flatten(), nn.Linear(features, COLUMNS))


def _sequence(*layers: nn.Module, features: int) -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 3, 3), *layers, nn.Flatten(), nn.Linear(features, COLUMNS))


_VECTORS, _IMAGES, _SEQUENCES = (ROWS, 4), (ROWS, 1, 6, 6), (ROWS, 2, 6)

LAYERS = (
    LayerCase("Linear", _linear, _VECTORS),
    LayerCase("Conv1d", lambda: _sequence(nn.Tanh(), features=12), _SEQUENCES),
    LayerCase("Conv2d", lambda: _image(nn.Tanh(), features=32), _IMAGES),
    LayerCase("max pooling", lambda: _image(nn.MaxPool2d(2), features=8), _IMAGES),
    LayerCase("average pooling", lambda: _image(nn.Tanh(), nn.AvgPool2d(2), features=8), _IMAGES),
    LayerCase("BatchNorm1d", lambda: _normed(nn.BatchNorm1d(6)), _VECTORS),
    LayerCase("BatchNorm2d", lambda: _image(nn.BatchNorm2d(2), nn.Tanh(), features=32), _IMAGES),
    LayerCase("LayerNorm", lambda: _normed(nn.LayerNorm(6)), _VECTORS),
    LayerCase("GroupNorm", lambda: _normed(nn.GroupNorm(2, 6)), _VECTORS),
    LayerCase("Embedding", _Embedding, (ROWS, 3), tokens=True),
    LayerCase("RNN", lambda: _Recurrent(nn.RNN(3, 4, batch_first=True)), (ROWS, 4, 3)),
    LayerCase("LSTM", lambda: _Recurrent(nn.LSTM(3, 4, batch_first=True)), (ROWS, 4, 3)),
    LayerCase("GRU", lambda: _Recurrent(nn.GRU(3, 4, batch_first=True)), (ROWS, 4, 3)),
    LayerCase("MultiheadAttention", _Attention, (ROWS, 3, 4)),
    LayerCase("frozen dropout", _FrozenDropout, _VECTORS),
    LayerCase("shared weights", _Shared, _VECTORS),
)
"""One network for each kind of layer."""
