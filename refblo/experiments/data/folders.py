"""Data sets in local folders, in the layouts in which they are published.

| name | files below the folder |
| --- | --- |
| pets | pets/images/NAME.jpg; pets/annotations/trainval.txt, test.txt: lines "NAME CLASS SPECIES BREED" |
| dtd | dtd/images/CLASS/NAME.jpg; dtd/labels/train1.txt, val1.txt, test1.txt: lines "CLASS/NAME.jpg" |
| flowers | flowers/jpg/image_00001.jpg, …; flowers/imagelabels.mat |
| cifar-10 | cifar-10-batches-bin/data_batch_1.bin to data_batch_5.bin and test_batch.bin |
| cifar-100 | cifar-100-binary/train.bin and test.bin |

Everything is listed and every picture is decoded before any work starts; the first file that is missing, cut
short or of another format is named.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch

from refblo.errors import ArgumentError
from refblo.experiments.training import LabelledImages

WHERE = {
    "pets": "images.tar.gz and annotations.tar.gz of the Oxford-IIIT Pet data set, unpacked in pets/",
    "dtd": "dtd-r1.0.1.tar.gz of the Describable Textures data set, which unpacks as dtd/",
    "flowers": "102flowers.tgz (as flowers/jpg/) and imagelabels.mat of the 102 Category Flower data set",
    "cifar-10": "cifar-10-binary.tar.gz, which unpacks as cifar-10-batches-bin/",
    "cifar-100": "cifar-100-binary.tar.gz, which unpacks as cifar-100-binary/",
}
"""What to download, and where to put it."""

MEAN, DEVIATION = 0.5, 0.5
"""Pixels in [0, 1] are moved and scaled by these, as the published vision transformers were trained."""


@final
@dataclass(frozen=True)
class ListedPicture:
    """A file and its class, from 0."""

    path: Path
    label: int


def picture_folder(name: str, folder: Path, side: int) -> LabelledImages:
    """All pictures of "pets", "dtd" or "flowers", shape (N, 3, side, side).

    The shorter edge is scaled to `side`, then the middle is cut out.

    Raises:
        ArgumentError: naming the first file that is missing, cut short or of another format.
    """
    listed = list(_LISTS[name](folder / name))
    if not listed:
        raise _wrong(name, folder / name, "no picture in any list")
    missing = [each.path for each in listed if not each.path.is_file()]
    if missing:
        raise _wrong(
            name, missing[0], f"no such file ({len(missing)} of {len(listed)} are missing)"
        )
    pixels = torch.stack([_decoded(name, each.path, side) for each in listed])
    return LabelledImages(pixels, torch.tensor([each.label for each in listed]))


def cifar(name: str, folder: Path, *, train: bool) -> LabelledImages:
    """The training or test images of "cifar-10" or "cifar-100", binary version, shape (N, 3, 32, 32).

    Raises:
        ArgumentError: naming the first file that is missing, cut short or of another format.
    """
    classes = int(name.removeprefix("cifar-"))
    if classes == 10:
        below = folder / "cifar-10-batches-bin"
        files = [f"data_batch_{k}.bin" for k in range(1, 6)] if train else ["test_batch.bin"]
    else:
        below, files = folder / "cifar-100-binary", ["train.bin" if train else "test.bin"]
    head = 1 if classes == 10 else 2
    rows = [_records(name, below / file, head + 3072) for file in files]
    table = np.concatenate(rows)
    labels = table[:, head - 1].astype(np.int64)
    if labels.max() >= classes:
        raise _wrong(name, below / files[0], f"label {labels.max()} of {classes} classes")
    pixels = torch.from_numpy(table[:, head:].copy()).reshape(-1, 3, 32, 32)
    return LabelledImages(pixels.to(torch.float32) / 255, torch.from_numpy(labels))


def _records(name: str, path: Path, size: int) -> np.ndarray:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _wrong(name, path, error.strerror or "nothing that can be read") from error
    if not content or len(content) % size:
        raise _wrong(name, path, f"{len(content)} bytes, which are no whole records of {size}")
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, size)


def _decoded(name: str, path: Path, side: int) -> torch.Tensor:
    """One picture, shape (3, side, side)."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            fitted = ImageOps.fit(picture.convert("RGB"), (side, side), Image.Resampling.BICUBIC)
    except UnidentifiedImageError as error:
        raise _wrong(name, path, "a file that is no picture") from error
    except OSError as error:
        raise _wrong(name, path, f"a picture that cannot be decoded: {error}") from error
    pixels = torch.from_numpy(np.asarray(fitted, dtype=np.float32).transpose(2, 0, 1).copy())
    return (pixels / 255 - MEAN) / DEVIATION


def _pets(folder: Path) -> Iterable[ListedPicture]:
    for list_name in ("trainval.txt", "test.txt"):
        path = folder / "annotations" / list_name
        for line in _lines("pets", path):
            fields = line.split()
            if len(fields) != 4 or not fields[1].isdecimal() or int(fields[1]) < 1:
                raise _wrong("pets", path, f"the line {line!r}, not NAME CLASS SPECIES BREED")
            yield ListedPicture(folder / "images" / f"{fields[0]}.jpg", int(fields[1]) - 1)


def _dtd(folder: Path) -> Iterable[ListedPicture]:
    names = [
        line
        for list_name in ("train1.txt", "val1.txt", "test1.txt")
        for line in _lines("dtd", folder / "labels" / list_name)
    ]
    classes = sorted({name.split("/")[0] for name in names})
    for name in names:
        if name.count("/") != 1:
            raise _wrong("dtd", folder / "labels", f"the line {name!r}, not CLASS/NAME.jpg")
        yield ListedPicture(folder / "images" / name, classes.index(name.split("/")[0]))


def _flowers(folder: Path) -> Iterable[ListedPicture]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    path = folder / "imagelabels.mat"
    if not path.is_file():
        raise _wrong("flowers", path, "no such file")
    try:
        labels = np.asarray(loadmat(path)["labels"], dtype=np.int64).reshape(-1)
    except (MatReadError, OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise _wrong("flowers", path, f"a file without labels: {error}") from error
    for number, label in enumerate(labels, start=1):
        yield ListedPicture(folder / "jpg" / f"image_{number:05d}.jpg", int(label) - 1)


def _lines(name: str, path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise _wrong(name, path, "no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(name, path, f"a file that cannot be read: {error}") from error
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


_LISTS: dict[str, Callable[[Path], Iterable[ListedPicture]]] = {
    "pets": _pets,
    "dtd": _dtd,
    "flowers": _flowers,
}


def _wrong(name: str, path: Path, got: str) -> ArgumentError:
    return ArgumentError(
        f"{path} must be a file of {name} as it is published, got {got}; download {WHERE[name]}, and give "
        "the folder above it by --data"
    )
