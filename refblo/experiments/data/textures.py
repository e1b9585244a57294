"""Materials in miniworld's textures: a class is one picture, its images are the squares of a grid over it.

No square overlaps another, so that a test image shows no pixel of a training image. Read as files, as in
`refblo.experiments.data.packaged`.
"""

from functools import cache

import numpy as np
import torch

from refblo.errors import MissingExtraError, require
from refblo.experiments.data.packaged import HOW, packaged_file
from refblo.experiments.training import LabelledImages

MATERIALS = (
    "asphalt_1",
    "cardboard_1",
    "cardboard_2",
    "concrete_1",
    "concrete_2",
    "concrete_4",
    "drywall_1",
    "marble_1",
    "stucco_1",
    "wood_1",
)
"""Pictures of 512 × 512 pixels, in which one square looks much like another."""
PICTURE = 512


@cache
def textures(square: int, side: int) -> LabelledImages:
    """(512 / square)² images of each of 10 materials, in [0, 1], shape (3, side, side).

    Args:
        square: pixels of a picture that an image covers, a divisor of 512.
        side: pixels of an image, a divisor of `square`.

    Raises:
        MissingExtraError: if the package or one of its pictures is not there, or is damaged.
    """
    from PIL import Image, UnidentifiedImageError

    require(PICTURE % square == 0, "square", "divide 512", square, "use 128, 64 or 32")
    require(square % side == 0, "side", f"divide {square}", side, "use 64 or 32")
    images = []
    for name in MATERIALS:
        path = packaged_file("miniworld", f"textures/{name}.png")
        try:
            with Image.open(path) as picture:
                if picture.size != (PICTURE, PICTURE):
                    raise _damaged(name, f"a picture of {picture.size[0]} × {picture.size[1]}")
                factor = square // side
                small = (
                    picture.convert("RGB").reduce(factor) if factor > 1 else picture.convert("RGB")
                )
                pixels = torch.from_numpy(np.asarray(small, dtype=np.float32) / 255)
        except (OSError, SyntaxError, UnidentifiedImageError) as error:
            # Pillow tells of a damaged chunk by a SyntaxError.
            raise _damaged(name, str(error)) from error
        grid = pixels.permute(2, 0, 1).unfold(1, side, side).unfold(2, side, side)
        images.append(grid.permute(1, 2, 0, 3, 4).reshape(-1, 3, side, side))
    labels = torch.arange(len(images)).repeat_interleave(len(images[0]))
    return LabelledImages(torch.cat(images), labels)


def _damaged(name: str, got: str) -> MissingExtraError:
    return MissingExtraError(
        f"textures/{name}.png of the package miniworld must be the picture of {PICTURE} × {PICTURE} pixels "
        f"that its known version ships, got {got}; install it again: {HOW['miniworld']}"
    )
