"""A number in a variable or a container that a loss reads."""

from collections import OrderedDict, defaultdict, deque, namedtuple
from enum import Enum

import numpy as np
import torch

from tests.estimators.changing.loss import NUMBER, Change, Loss, Place, reading, value


def closure() -> tuple[Loss, Change]:
    a = NUMBER

    def change(number: float) -> None:
        nonlocal a
        a = number

    return lambda lam, theta, _: value(a, lam, theta), change


def closure_of_a_helper() -> tuple[Loss, Change]:
    a = NUMBER

    def helper() -> float:
        return a

    def change(number: float) -> None:
        nonlocal a
        a = number

    return lambda lam, theta, _: value(helper(), lam, theta), change


def in_a_list() -> tuple[Loss, Change]:
    held = [0.0, NUMBER]
    return reading(lambda: held[1]), lambda number: held.__setitem__(1, number)


def in_a_dict() -> tuple[Loss, Change]:
    held = {"a": NUMBER}
    return reading(lambda: held["a"]), lambda number: held.update(a=number)


def deep_inside() -> tuple[Loss, Change]:
    held = {"a": [({"b": [NUMBER]},)]}
    return reading(lambda: held["a"][0][0]["b"][0]), lambda number: held["a"][0][0][
        "b"
    ].__setitem__(0, number)


def in_an_ordered_dict() -> tuple[Loss, Change]:
    held = OrderedDict(a=NUMBER)
    return reading(lambda: held["a"]), lambda number: held.update(a=number)


def in_a_defaultdict() -> tuple[Loss, Change]:
    held = defaultdict(float, a=NUMBER)
    return reading(lambda: held["a"]), lambda number: held.update(a=number)


def in_a_deque() -> tuple[Loss, Change]:
    held = deque([NUMBER])
    return reading(lambda: held[0]), lambda number: held.__setitem__(0, number)


def length_of_a_list() -> tuple[Loss, Change]:
    held: list[int] = [0]
    return reading(lambda: 1.0 + 0.1 * len(held)), lambda _: held.append(0)


def membership() -> tuple[Loss, Change]:
    held = {"one"}
    return reading(lambda: 1.2 if "two" in held else 1.0), lambda _: held.add("two")


def in_a_named_tuple() -> tuple[Loss, Change]:
    pair = namedtuple("pair", "a b")
    held = pair(NUMBER, 0.0)

    def change(number: float) -> None:
        nonlocal held
        held = pair(number, 0.0)

    return lambda lam, theta, _: value(held.a, lam, theta), change


def text_option() -> tuple[Loss, Change]:
    held = {"mode": "one"}
    return reading(lambda: 1.0 if held["mode"] == "one" else 1.3), lambda _: held.update(mode="two")


class Mode(Enum):
    ONE = 1
    TWO = 2


def enumerated_option() -> tuple[Loss, Change]:
    held = [Mode.ONE]
    return reading(lambda: 1.0 if held[0] is Mode.ONE else 1.3), lambda _: held.__setitem__(
        0, Mode.TWO
    )


def numpy_number() -> tuple[Loss, Change]:
    held = [np.float64(NUMBER)]
    return reading(lambda: float(held[0])), lambda number: held.__setitem__(0, np.float64(number))


def numpy_array() -> tuple[Loss, Change]:
    held = np.array([NUMBER])
    return reading(lambda: torch.tensor(held)), lambda number: held.__setitem__(0, number)


PLACES: tuple[Place, ...] = (
    closure,
    closure_of_a_helper,
    in_a_list,
    in_a_dict,
    deep_inside,
    in_an_ordered_dict,
    in_a_defaultdict,
    in_a_deque,
    length_of_a_list,
    membership,
    in_a_named_tuple,
    text_option,
    enumerated_option,
    numpy_number,
    numpy_array,
)
