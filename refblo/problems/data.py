"""Real data that scikit-learn ships, split and standardised, in NumPy.

Its files are read without importing it, which takes most of a second; the tests compare every number with
what its own loaders give.
"""

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float64, Int64

from refblo.errors import MissingExtraError
from refblo.noise import Draws, Stream

Array = np.ndarray

SPLIT_SEED = 20240229
"""Fixes every split: a report names the data, and the data must be the same wherever it is read."""


@final
@dataclass(frozen=True, eq=False)
class Split:
    """Training and validation data.

    Attributes:
        train: features, shape (N, d).
        train_targets: shape (N, C): numbers (C = 1), or one-hot rows.
        validation: features, shape (V, d).
        validation_targets: shape (V, C).
    """

    train: Float64[Array, "N d"]
    train_targets: Float64[Array, "N C"]
    validation: Float64[Array, "V d"]
    validation_targets: Float64[Array, "V C"]


def diabetes(train: int, validation: int) -> Split:
    """442 patients, 10 features; features and target standardised by the training part."""
    raw, targets = _table("diabetes_data_raw.csv.gz"), _table("diabetes_target.csv.gz")[:, None]
    # As its loader has them: columns of mean 0 and norm 1.
    features = (raw - raw.mean(axis=0)) / raw.std(axis=0) / math.sqrt(len(raw))
    inside, outside = _parts(len(targets), train, validation)
    location, scale = targets[inside].mean(axis=0), targets[inside].std(axis=0)
    return _split(features, (targets - location) / scale, inside, outside)


def iris(train: int, validation: int) -> Split:
    """150 flowers, 4 features, 3 classes; features standardised by the training part."""
    features, labels = _labelled("iris.csv", header_lines=1)
    inside, outside = _parts(len(labels), train, validation)
    return _split(features, np.eye(3)[labels], inside, outside)


def digits(train: int, validation: int, *, pooled: bool = False) -> Split:
    """1797 images of 8 × 8 pixels (4 × 4 when pooled), 10 classes; pixels standardised likewise.

    A pixel that is the same in all of the training images becomes zero there.
    """
    features, labels = labelled_digits()
    if pooled:
        features = features.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)
    inside, outside = _parts(len(labels), train, validation)
    return _split(features, np.eye(10)[labels], inside, outside)


def labelled_digits() -> tuple[Float64[Array, "K d"], Int64[Array, " K"]]:
    """1797 images of 8 × 8 pixels from 0 to 16, one a row, and which digit each one is."""
    return _labelled("digits.csv.gz")


def _table(name: str, delimiter: str | None = None, header_lines: int = 0) -> Float64[Array, "..."]:
    """The numbers of one of the files that scikit-learn ships."""
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise MissingExtraError(
            "scikit-learn must be installed for the problems on real data, got none; reinstall refblo"
        )
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / name
    numbers: Array = np.loadtxt(path, delimiter=delimiter, skiprows=header_lines)
    return numbers


def _labelled(name: str, header_lines: int = 0) -> tuple[Float64[Array, "K d"], Int64[Array, " K"]]:
    """Features, and the labels that stand in the last column."""
    numbers = _table(name, ",", header_lines)
    return numbers[:, :-1], numbers[:, -1].astype(np.int64)


def _parts(
    population: int, train: int, validation: int
) -> tuple[Int64[Array, " N"], Int64[Array, " V"]]:
    """Disjoint sets of indices, a function of `SPLIT_SEED` and the sizes alone."""
    draws, both = Draws(SPLIT_SEED), train + validation
    chosen = draws.indices(Stream.INSTANCE, 0, population, both).numpy()
    first = np.zeros(both, dtype=bool)
    first[draws.indices(Stream.INSTANCE, 1, both, train).numpy()] = True
    return chosen[first], chosen[~first]


def _split(
    features: Float64[Array, "K d"],
    targets: Float64[Array, "K C"],
    inside: Int64[Array, " N"],
    outside: Int64[Array, " V"],
) -> Split:
    location, scale = features[inside].mean(axis=0), features[inside].std(axis=0)
    scaled = (features - location) / np.where(scale > 0, scale, 1.0)
    return Split(scaled[inside], targets[inside], scaled[outside], targets[outside])
