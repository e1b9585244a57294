"""A number in a torch module."""

# ruff: noqa: PLW0108  (a call at each evaluation is what is tried)

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from tests.estimators.changing.loss import NUMBER, Change, Loss, Place, reading, scalar


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
