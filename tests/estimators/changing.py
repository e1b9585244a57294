"""Losses that read a number from somewhere, and how to change it there: what a trace must not miss."""

# ruff: noqa: PLW0108  (a call at each evaluation is what is tried)

import functools
import itertools
import random
import sys
import time
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Change = Callable[[float], object]
Place = Callable[[], tuple[Loss, Change]]

NUMBER = 1.0
STEADY = torch.tensor([1.0, 0.7, 1.3], dtype=torch.float64)


def value(a: Any, lam: Tensor, theta: Tensor) -> Tensor:
    """A loss that is smooth and strongly convex in θ for a near 1, and needs all derivatives."""
    terms = 0.5 * a * STEADY * (theta - lam).square() + 0.1 * a * a * lam * theta.cos()
    total: Tensor = terms.sum()
    return total


def reading(get: Callable[[], Any]) -> Loss:
    return lambda lam, theta, _: value(get(), lam, theta)


def scalar(number: float) -> Tensor:
    return torch.tensor(number, dtype=torch.float64)


# ------------------------------------------------------------ variables and containers


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


# ------------------------------------------------------------ objects


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


# ------------------------------------------------------------ functions, globals, modules

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


# ------------------------------------------------------------ tensors


def tensor_replaced() -> tuple[Loss, Change]:
    held = [scalar(NUMBER)]
    return reading(lambda: held[0]), lambda number: held.__setitem__(0, scalar(number))


def tensor_in_a_closure() -> tuple[Loss, Change]:
    a = scalar(NUMBER)

    def change(number: float) -> None:
        nonlocal a
        a = scalar(number)

    return lambda lam, theta, _: value(a, lam, theta), change


def tensor_filled() -> tuple[Loss, Change]:
    a = scalar(NUMBER)
    return reading(lambda: a), lambda number: a.fill_(number)


def tensor_filled_unseen() -> tuple[Loss, Change]:
    a = scalar(NUMBER)
    return reading(lambda: a), lambda number: a.data.fill_(number)  # raises no version


def tensor_through_numpy() -> tuple[Loss, Change]:
    a = torch.full((1,), NUMBER, dtype=torch.float64)
    memory = a.numpy()
    return reading(lambda: a), lambda number: memory.fill(number)


def tensor_with_other_data() -> tuple[Loss, Change]:
    a = scalar(NUMBER)
    return reading(lambda: a), lambda number: setattr(a, "data", scalar(number))


def tensor_that_becomes_longer() -> tuple[Loss, Change]:
    a = torch.full((1,), NUMBER, dtype=torch.float64)
    return reading(lambda: a), lambda number: setattr(
        a, "data", torch.tensor([number, 1.0, number], dtype=torch.float64)
    )


def tensor_that_a_view_reads() -> tuple[Loss, Change]:
    a = torch.full((2, 3), NUMBER, dtype=torch.float64)
    return reading(lambda: a.t()[:, 1]), lambda number: a[1].fill_(number)


def two_tensors_in_one_memory() -> tuple[Loss, Change]:
    a = torch.full((3,), NUMBER, dtype=torch.float64)
    b = a[1:]
    return reading(lambda: a[1] * b[0]), lambda number: b.fill_(number)


def tensor_made_of_a_number() -> tuple[Loss, Change]:
    held = [NUMBER]
    return reading(lambda: scalar(held[0])), lambda number: held.__setitem__(0, number)


def attribute_of_a_tensor() -> tuple[Loss, Change]:
    a: Any = scalar(NUMBER)
    a.scale = NUMBER
    return reading(lambda: a.scale), lambda number: setattr(a, "scale", number)


def grad_of_a_tensor() -> tuple[Loss, Change]:
    a = scalar(NUMBER).requires_grad_()
    a.grad = scalar(NUMBER)
    return reading(lambda: a.grad), lambda number: setattr(a, "grad", scalar(number))


# ------------------------------------------------------------ modules of torch


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(scalar(NUMBER))
        self.register_buffer("state", scalar(NUMBER))
        self.state: Tensor
        self.layer = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
        torch.nn.init.ones_(self.layer.weight)
        self.scale = NUMBER

    def forward(self) -> Any:
        one = torch.ones(1, dtype=torch.float64)
        factor: Any = 1.0 if self.training else 1.3
        return self.weight * self.state * self.scale * factor * self.layer(one)


def with_net(change: Callable[[Any, float], object]) -> Place:
    def place() -> tuple[Loss, Change]:
        net = Net()

        @torch.no_grad()
        def changed(number: float) -> None:
            change(net, number)

        return reading(lambda: net()), changed

    return place


def net_called_with_parameters() -> tuple[Loss, Change]:
    net, held = Net(), {"weight": scalar(NUMBER)}
    return (
        reading(lambda: functional_call(net, held, ())),
        lambda number: held.update(weight=scalar(number)),
    )


def parameter(number: float) -> torch.nn.Parameter:
    return torch.nn.Parameter(scalar(number))


def doubled(number: float) -> Any:
    return lambda _, __, result: result * number


NETS: dict[str, Callable[[Any, float], object]] = {
    "parameter filled": lambda net, number: net.weight.fill_(number),
    "parameter replaced": lambda net, number: setattr(net, "weight", parameter(number)),
    "parameter's data": lambda net, number: setattr(net.weight, "data", scalar(number)),
    "state loaded": lambda net, number: net.load_state_dict(
        net.state_dict() | {"weight": scalar(number)}
    ),
    "buffer filled": lambda net, number: net.state.fill_(number),
    "buffer replaced": lambda net, number: setattr(net, "state", scalar(number)),
    "number of a module": lambda net, number: setattr(net, "scale", number),
    "evaluation mode": lambda net, _: net.eval(),
    "layer's weight": lambda net, number: net.layer.weight.fill_(number),
    "layer replaced": lambda net, number: setattr(net, "layer", torch.nn.Hardtanh(0.0, number / 2)),
    "hook": lambda net, number: net.register_forward_hook(doubled(number)),
    "forward replaced": lambda net, number: setattr(net, "forward", lambda: number),
}

PLACES: dict[str, Place] = {
    place.__name__.replace("_", " "): place
    for place in (
        *(closure, closure_of_a_helper, in_a_list, in_a_dict, deep_inside, in_an_ordered_dict),
        *(in_a_defaultdict, in_a_deque, length_of_a_list, membership, in_a_named_tuple),
        *(text_option, enumerated_option, numpy_number, numpy_array, attribute, slot),
        *(field_of_a_dataclass, object_replaced, namespace, class_attribute, attribute_of_a_base),
        *(method_of_an_object, object_that_is_called, property_of_an_object),
        *(method_replaced_in_the_class, method_replaced_in_the_object, static_method_replaced),
        *(class_replaced, attribute_made_on_demand, global_number, global_function),
        *(module_attribute, module_in_a_module, default, keyword_default, default_of_a_helper),
        *(function_attribute, code_replaced, partial_keyword, partial_argument, partial_replaced),
        *(function_in_a_list, wrapped_function, under_no_grad, tensor_replaced),
        *(tensor_in_a_closure, tensor_filled, tensor_filled_unseen, tensor_through_numpy),
        *(tensor_with_other_data, tensor_that_becomes_longer, tensor_that_a_view_reads),
        *(two_tensors_in_one_memory, tensor_made_of_a_number, attribute_of_a_tensor),
        *(grad_of_a_tensor, net_called_with_parameters),
    )
} | {name: with_net(change) for name, change in NETS.items()}


# ------------------------------------------------------------ what cannot be watched


def counter() -> Loss:
    calls = 0

    def loss(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        nonlocal calls
        calls += 1
        return value(1.0 if calls < 8 else 1.3, lam, theta)

    return loss


def counter_in_a_list() -> Loss:
    calls = [0]

    def loss(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        calls[0] += 1
        return value(1.0 if calls[0] < 8 else 1.3, lam, theta)

    return loss


def counter_in_an_object() -> Loss:
    held = Settings()

    def loss(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        held.a += 1e-20
        return value(1.0, lam, theta)

    return loss


def counter_of_itertools() -> Loss:
    calls = itertools.count()
    return reading(lambda: 1.0 if next(calls) < 8 else 1.3)


def log_of_values() -> Loss:
    seen: list[object] = []

    def loss(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        seen.append(theta)
        return value(1.0, lam, theta)

    return loss


def generator() -> Loss:
    ones = (1.0 for _ in range(10**6))
    return reading(lambda: next(ones))


def attribute_by_a_text() -> Loss:
    held, name = Settings(), "".join(("a", ""))
    return reading(lambda: getattr(held, name))


def dictionary_of_globals() -> Loss:
    return reading(lambda: globals()["GLOBAL"])


def evaluated_text() -> Loss:
    return reading(lambda: eval("1.0"))


def local_import() -> Loss:
    def helper() -> float:
        import math

        return math.cos(0.0)

    return reading(helper)


def cached_function() -> Loss:
    return reading(functools.lru_cache(lambda: 1.0))


def number_of_a_tensor() -> Loss:
    a = scalar(1.0)
    return reading(lambda: a.item())


def list_of_a_tensor() -> Loss:
    a = torch.ones(1, dtype=torch.float64)
    return reading(lambda: a.tolist()[0])


def tensor_as_an_array() -> Loss:
    a = torch.ones(1, dtype=torch.float64)
    return reading(lambda: float(np.asarray(a)[0]))


def masked() -> Loss:
    return lambda lam, theta, _: value(1.0, lam, theta) + theta[theta > 0.35].sum()


def drawn_from_a_fixed_seed() -> Loss:
    def helper() -> Tensor:
        torch.manual_seed(3)
        return 1 + 0.1 * torch.rand((), dtype=torch.float64)

    return reading(helper)


def written_buffer() -> Loss:
    a = scalar(1.0)
    return reading(lambda: a.fill_(1.0).clone())


def clock() -> Loss:
    return reading(lambda: 1.0 + 0.0 * time.time())


def generator_of_numbers() -> Loss:
    source = random.Random(3)

    def helper() -> float:
        source.seed(3)
        return 1.0 + source.random()

    return reading(helper)


UNWATCHED: dict[str, Callable[[], Loss]] = {
    make.__name__.replace("_", " "): make
    for make in (
        *(counter, counter_in_a_list, counter_in_an_object, counter_of_itertools, log_of_values),
        *(generator, attribute_by_a_text, dictionary_of_globals, evaluated_text, local_import),
        *(cached_function, number_of_a_tensor, list_of_a_tensor, tensor_as_an_array, masked),
        *(drawn_from_a_fixed_seed, written_buffer, clock, generator_of_numbers),
    )
}
