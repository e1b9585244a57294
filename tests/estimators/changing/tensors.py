"""A number in a tensor."""

# ruff: noqa: PLW0108  (a call at each evaluation is what is tried)

from typing import Any

import torch

from tests.estimators.changing.loss import NUMBER, Change, Loss, Place, reading, scalar, value


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


PLACES: tuple[Place, ...] = (
    tensor_replaced,
    tensor_in_a_closure,
    tensor_filled,
    tensor_filled_unseen,
    tensor_through_numpy,
    tensor_with_other_data,
    tensor_that_becomes_longer,
    tensor_that_a_view_reads,
    two_tensors_in_one_memory,
    tensor_made_of_a_number,
    attribute_of_a_tensor,
    grad_of_a_tensor,
)
