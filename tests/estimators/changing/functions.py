"""A number in a function, a global variable or a Python module."""

# ruff: noqa: PLW0108  (a call at each evaluation is what is tried)

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from tests.estimators.changing.loss import NUMBER, Change, Loss, Place, reading, value

GLOBAL = NUMBER


def global_helper() -> float:
    return NUMBER


def global_number() -> tuple[Loss, Change]:
    here = sys.modules[__name__].__dict__
    here["GLOBAL"] = NUMBER
    return (
        lambda lam, theta, _: value(GLOBAL, lam, theta),
        lambda number: here.update(GLOBAL=number),
    )


def global_function() -> tuple[Loss, Change]:
    here = sys.modules[__name__].__dict__
    here["global_helper"] = lambda: NUMBER
    return (
        lambda lam, theta, _: value(global_helper(), lam, theta),
        lambda number: here.update(global_helper=lambda: number),
    )


def module_attribute() -> tuple[Loss, Change]:
    held: Any = ModuleType("settings_of_a_user")
    held.a = NUMBER
    return reading(lambda: held.a), lambda number: setattr(held, "a", number)


def module_in_a_module() -> tuple[Loss, Change]:
    held: Any = ModuleType("package_of_a_user")
    held.inside = ModuleType("package_of_a_user.inside")
    held.inside.a = NUMBER
    return reading(lambda: held.inside.a), lambda number: setattr(held.inside, "a", number)


def default() -> tuple[Loss, Change]:
    def loss(lam: Tensor, theta: Tensor, _: Tensor | None, a: float = NUMBER) -> Tensor:
        return value(a, lam, theta)

    return loss, lambda number: setattr(loss, "__defaults__", (number,))


def keyword_default() -> tuple[Loss, Change]:
    def loss(lam: Tensor, theta: Tensor, _: Tensor | None, *, a: float = NUMBER) -> Tensor:
        return value(a, lam, theta)

    return loss, lambda number: setattr(loss, "__kwdefaults__", {"a": number})


def default_of_a_helper() -> tuple[Loss, Change]:
    def helper(a: float = NUMBER) -> float:
        return a

    return reading(helper), lambda number: setattr(helper, "__defaults__", (number,))


def function_attribute() -> tuple[Loss, Change]:
    def helper() -> float:
        return helper.a  # type: ignore[attr-defined,no-any-return]  # set below

    helper.a = NUMBER  # type: ignore[attr-defined]  # what a user may write
    return reading(helper), lambda number: setattr(helper, "a", number)


def code_replaced() -> tuple[Loss, Change]:
    def helper() -> float:
        return 1.0

    def other() -> float:
        return 1.3

    return reading(helper), lambda _: setattr(helper, "__code__", other.__code__)


def partial_keyword() -> tuple[Loss, Change]:
    def loss(lam: Tensor, theta: Tensor, _: Tensor | None, a: float) -> Tensor:
        return value(a, lam, theta)

    bound = functools.partial(loss, a=NUMBER)
    return bound, lambda number: bound.keywords.update(a=number)


def partial_argument() -> tuple[Loss, Change]:
    held = [NUMBER]

    def loss(held: list[float], lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        return value(held[0], lam, theta)

    return functools.partial(loss, held), lambda number: held.__setitem__(0, number)


def partial_replaced() -> tuple[Loss, Change]:
    def helper(a: float) -> float:
        return a

    held = [functools.partial(helper, NUMBER)]
    return reading(lambda: held[0]()), lambda number: held.__setitem__(
        0, functools.partial(helper, number)
    )


def function_in_a_list() -> tuple[Loss, Change]:
    held = [lambda: NUMBER]
    return reading(lambda: held[0]()), lambda number: held.__setitem__(0, lambda: number)


def wrapped_function() -> tuple[Loss, Change]:
    held = [NUMBER]

    def decorate(function: Callable[[], float]) -> Callable[[], float]:
        @functools.wraps(function)
        def wrapped() -> float:
            return held[0] * function()

        return wrapped

    return reading(decorate(lambda: 1.0)), lambda number: held.__setitem__(0, number)


def under_no_grad() -> tuple[Loss, Change]:
    held = [NUMBER]
    return reading(torch.no_grad()(lambda: held[0])), lambda number: held.__setitem__(0, number)


PLACES: tuple[Place, ...] = (
    global_number,
    global_function,
    module_attribute,
    module_in_a_module,
    default,
    keyword_default,
    default_of_a_helper,
    function_attribute,
    code_replaced,
    partial_keyword,
    partial_argument,
    partial_replaced,
    function_in_a_list,
    wrapped_function,
    under_no_grad,
)
