"""Letters in the faces that matplotlib ships: classes with a script, and faces as their writers.

Each class is one letter, each image of it one of 12 DejaVu faces, turned and sheared a little. Whole
scripts are held out: the letters of Latin train, Cyrillic ones tune, and Armenian and Georgian ones test,
so that few test letters look like a training letter.
"""

import unicodedata
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from refblo.errors import MissingExtraError, require
from refblo.noise import Draws, Stream

FACES = tuple(
    f"DejaVu{family}.ttf"
    for family in (
        "Sans",
        "Sans-Bold",
        "Sans-BoldOblique",
        "Sans-Oblique",
        "SansMono",
        "SansMono-Bold",
        "SansMono-BoldOblique",
        "SansMono-Oblique",
        "Serif",
        "Serif-Bold",
        "Serif-BoldItalic",
        "Serif-Italic",
    )
)
ENOUGH = 10
"""Faces in which a letter must exist."""
JITTER = 0.15
"""The largest entry of the matrix that is added to the identity."""
TRAIN, TUNING, TEST = ("LATIN",), ("CYRILLIC",), ("ARMENIAN", "GEORGIAN")
"""Scripts, by the first word of their letters' names."""


def letters(scripts: tuple[str, ...]) -> list[int]:
    """The code points of letters that at least `ENOUGH` faces have, of these scripts."""
    counts: dict[int, int] = {}
    for face in _faces():
        for code in face:
            counts[code] = counts.get(code, 0) + 1
    return sorted(
        code
        for code, count in counts.items()
        if count >= ENOUGH
        and unicodedata.category(chr(code)).startswith("L")
        and unicodedata.name(chr(code), "").split(" ")[0] in scripts
    )


@cache
def glyphs(scripts: tuple[str, ...], side: int, most: int) -> Float[Tensor, "K F h w"]:
    """Pictures of letters in [0, 1], shape (letters, ENOUGH, side, side).

    Args:
        scripts: whose letters.
        side: of a picture in pixels.
        most: so many letters at most, spread evenly over the scripts.
    """
    from matplotlib.ft2font import FT2Font

    codes = letters(scripts)
    chosen = [codes[i] for i in np.linspace(0, len(codes) - 1, min(most, len(codes))).astype(int)]
    fonts = []
    for name in FACES:
        font = FT2Font(str(_folder() / name))
        font.set_size(side * 0.8, 72)
        fonts.append((font, font.get_charmap()))
    pictures = np.zeros((len(chosen), ENOUGH, side, side), dtype=np.float32)
    for row, code in enumerate(chosen):
        having = [font for font, charmap in fonts if code in charmap][:ENOUGH]
        for column, font in enumerate(having):
            font.clear()
            font.set_text(chr(code))
            font.draw_glyphs_to_bitmap()
            pictures[row, column] = _centred(np.asarray(font.get_image()), side)
    return _jittered(torch.from_numpy(pictures))


def _centred(ink: np.ndarray, side: int) -> np.ndarray:
    """A picture's ink in the middle of a square, cut off where it does not fit."""
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    square = np.zeros((side, side), dtype=np.float32)
    if rows.size == 0:
        return square
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left = (max(0, (length - side) // 2) for length in ink.shape)
    ink = ink[top : top + side, left : left + side]
    down, right = ((side - length) // 2 for length in ink.shape)
    square[down : down + ink.shape[0], right : right + ink.shape[1]] = ink / 255.0
    return square


def _jittered(pictures: Float[Tensor, "K F h w"]) -> Float[Tensor, "K F h w"]:
    """Each picture turned and sheared by a small matrix of its own."""
    shape, flat = pictures.shape, pictures.reshape(-1, 1, *pictures.shape[2:])
    turn = Draws(17).uniform(Stream.INSTANCE, 0, (flat.shape[0], 2, 2), -JITTER, JITTER)
    matrices = torch.zeros(flat.shape[0], 2, 3)
    matrices[:, :, :2] = torch.eye(2) + turn.to(torch.float32)
    grid = affine_grid(matrices, list(flat.shape), align_corners=False)
    moved: Tensor = grid_sample(flat, grid, align_corners=False)
    return moved.reshape(shape)


def _folder() -> Path:
    return Path(mpl.get_data_path()) / "fonts" / "ttf"


def require_letters(scripts: tuple[str, ...], classes: int, images: int) -> None:
    """Refuse faces and scripts that an episode cannot be drawn from.

    Args:
        scripts: whose letters.
        classes: of an episode.
        images: of each class of an episode.

    Raises:
        ArgumentError: if a letter has too few faces, or the scripts have too few such letters.
        MissingExtraError: if matplotlib's fonts are not there.
    """
    what = f"the letters of {' and '.join(scripts)}"
    fix = "take a smaller episode, or more scripts"
    require(images <= ENOUGH, f"the images of {what}", f"be at most {ENOUGH} a class", images, fix)
    count = len(letters(scripts))
    require(count >= classes, what, f"be {classes} or more with {ENOUGH} faces each", count, fix)


@cache
def _faces() -> tuple[frozenset[int], ...]:
    """The code points of each face.

    Raises:
        MissingExtraError: if a face is not there or cannot be read.
    """
    from matplotlib.ft2font import FT2Font

    for name in FACES:
        try:
            FT2Font(str(_folder() / name))
        except (OSError, RuntimeError) as error:
            raise MissingExtraError(
                f"matplotlib must ship the face {name} at {_folder()}, got none that can be read; "
                "install matplotlib from its wheel: pip install --force-reinstall matplotlib"
            ) from error
    return tuple(frozenset(FT2Font(str(_folder() / name)).get_charmap()) for name in FACES)
