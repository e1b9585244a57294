"""The files of real data are read as scikit-learn's own loaders read them, bit by bit.

About 2 s of processor time.
"""

import numpy as np
from sklearn.datasets import load_diabetes, load_digits, load_iris

from refblo.problems import data


def test_every_number_is_that_of_the_loader() -> None:
    for name, header_lines, load in (("iris.csv", 1, load_iris), ("digits.csv.gz", 0, load_digits)):
        features, labels = data._labelled(name, header_lines)
        expected, expected_labels = load(return_X_y=True)
        np.testing.assert_array_equal(features, expected)
        np.testing.assert_array_equal(labels, expected_labels)


def test_the_diabetes_data_are_scaled_as_the_loader_scales_them() -> None:
    features, target = load_diabetes(return_X_y=True)
    split = data.diabetes(300, 142)
    inside, outside = data._parts(len(target), 300, 142)
    targets = target[:, None]
    location, scale = targets[inside].mean(axis=0), targets[inside].std(axis=0)
    expected = data._split(features, (targets - location) / scale, inside, outside)
    for name in ("train", "train_targets", "validation", "validation_targets"):
        np.testing.assert_array_equal(getattr(split, name), getattr(expected, name))
