"""Losses that read what cannot be watched, or change what they read: they are run plainly."""

# ruff: noqa: PLW0108  (a call at each evaluation is what is tried)

import functools
import itertools
import random
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from tests.estimators.changing.loss import NUMBER, Loss, reading, scalar, value


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
    held = SimpleNamespace(a=NUMBER)

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
    held, name = SimpleNamespace(a=NUMBER), "".join(("a", ""))
    return reading(lambda: getattr(held, name))


GLOBAL = NUMBER


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
