"""A number in an object or its class."""

# ruff: noqa: PLW0108  (a call at each evaluation is what is tried)

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from tests.estimators.changing.loss import NUMBER, Change, Loss, Place, reading, value


class Settings:
    a: float = NUMBER

    def read(self) -> float:
        return self.a

    @property
    def seen(self) -> float:
        return self.a

    def __call__(self, lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        return value(self.a, lam, theta)

    def loss(self, lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        return value(self.read(), lam, theta)


class Slotted:
    __slots__ = ("a",)

    def __init__(self) -> None:
        self.a = NUMBER


@dataclass
class Record:
    a: float = NUMBER


class Dynamic:
    def __init__(self) -> None:
        self.held = {"a": NUMBER}

    def __getattr__(self, name: str) -> float:
        return self.held[name]


def derived() -> Any:
    """A class of its own, so that one test's change is not another's."""
    return type("Derived", (type("Base", (Settings,), {}),), {})


def attribute() -> tuple[Loss, Change]:
    held = Settings()
    return reading(lambda: held.a), lambda number: setattr(held, "a", number)


def slot() -> tuple[Loss, Change]:
    held = Slotted()
    return reading(lambda: held.a), lambda number: setattr(held, "a", number)


def field_of_a_dataclass() -> tuple[Loss, Change]:
    held = [Record()]
    return reading(lambda: held[0].a), lambda number: setattr(held[0], "a", number)


def object_replaced() -> tuple[Loss, Change]:
    held = [Record()]
    return reading(lambda: held[0].a), lambda number: held.__setitem__(0, Record(number))


def namespace() -> tuple[Loss, Change]:
    held = SimpleNamespace(a=NUMBER)
    return reading(lambda: held.a), lambda number: setattr(held, "a", number)


def class_attribute() -> tuple[Loss, Change]:
    kind = derived()
    return kind().loss, lambda number: setattr(kind, "a", number)


def attribute_of_a_base() -> tuple[Loss, Change]:
    kind = derived()
    return reading(lambda: kind.a), lambda number: setattr(kind.__mro__[1], "a", number)


def method_of_an_object() -> tuple[Loss, Change]:
    held = Settings()
    return held.loss, lambda number: setattr(held, "a", number)


def object_that_is_called() -> tuple[Loss, Change]:
    held = Settings()
    return held, lambda number: setattr(held, "a", number)


def property_of_an_object() -> tuple[Loss, Change]:
    held = Settings()
    return reading(lambda: held.seen), lambda number: setattr(held, "a", number)


def method_replaced_in_the_class() -> tuple[Loss, Change]:
    kind = derived()
    return kind().loss, lambda number: setattr(kind, "read", lambda _: number)


def method_replaced_in_the_object() -> tuple[Loss, Change]:
    held = Settings()
    return held.loss, lambda number: setattr(held, "read", lambda: number)


def static_method_replaced() -> tuple[Loss, Change]:
    kind: Any = type("Kind", (), {"read": staticmethod(lambda: NUMBER)})
    return reading(lambda: kind.read()), lambda number: setattr(
        kind, "read", staticmethod(lambda: number)
    )


def class_replaced() -> tuple[Loss, Change]:
    held = Settings()
    other: Any = type("Other", (Settings,), {"read": lambda _: 1.25})
    return held.loss, lambda _: setattr(held, "__class__", other)


def attribute_made_on_demand() -> tuple[Loss, Change]:
    held: Any = Dynamic()
    return reading(lambda: held.a), lambda number: held.held.update(a=number)


PLACES: tuple[Place, ...] = (
    attribute,
    slot,
    field_of_a_dataclass,
    object_replaced,
    namespace,
    class_attribute,
    attribute_of_a_base,
    method_of_an_object,
    object_that_is_called,
    property_of_an_object,
    method_replaced_in_the_class,
    method_replaced_in_the_object,
    static_method_replaced,
    class_replaced,
    attribute_made_on_demand,
)
