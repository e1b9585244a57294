"""The public libraries' reverse-mode hypergradients of a run of gradient descent, where installed.

Each is called as its own documentation does it. Only what is importable is compared.
"""

import importlib.util
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from asv_bench.benchmarks.problems import PlainLoss, Setting, plain_losses

Hypergradient = Callable[[], Tensor]


@final
class _Inner(torch.nn.Module):
    """θ as a module's parameter, for the libraries that want one; its value is the inner loss."""

    def __init__(self, theta: Tensor, inner: PlainLoss) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(theta.clone())
        self._inner = inner

    def forward(self, lam: Tensor) -> Tensor:
        """The inner loss at this θ."""
        return self._inner(lam, self.theta)


def available(setting: Setting, steps: int, step_size: float) -> dict[str, Hypergradient]:
    """The libraries that can be imported here, by name."""
    makers = {
        "hypertorch, unrolled": ("hypergrad", _hypertorch_unrolled),
        "hypertorch, stored": ("hypergrad", _hypertorch_stored),
        "TorchOpt": ("torchopt", _torchopt),
        "higher": ("higher", _higher),
    }
    return {
        name: make(setting, steps, step_size)
        for name, (module, make) in makers.items()
        if importlib.util.find_spec(module) is not None
    }


def _start(setting: Setting) -> Tensor:
    return setting.problem.initial(setting.lam).detach().clone().requires_grad_()


def _hypertorch_unrolled(setting: Setting, steps: int, step_size: float) -> Hypergradient:
    library: Any = importlib.import_module("hypergrad")
    inner, outer = plain_losses(setting)

    def hypergradient() -> Tensor:
        lam = setting.lam.detach().requires_grad_()
        step = library.GradientDescent(lambda params, hyper: inner(hyper[0], params[0]), step_size)
        params = [_start(setting)]
        for _ in range(steps):
            params = step(params, [lam], create_graph=True)
        (result,) = library.reverse_unroll(
            params, [lam], lambda last, hyper: outer(hyper[0], last[0]), set_grad=False
        )
        return torch.as_tensor(result)

    return hypergradient


def _hypertorch_stored(setting: Setting, steps: int, step_size: float) -> Hypergradient:
    library: Any = importlib.import_module("hypergrad")
    inner, outer = plain_losses(setting)

    def hypergradient() -> Tensor:
        lam = setting.lam.detach().requires_grad_()
        step = library.GradientDescent(lambda params, hyper: inner(hyper[0], params[0]), step_size)
        history = [[_start(setting)]]
        for _ in range(steps):
            history.append(step(history[-1], [lam], create_graph=False))
        (result,) = library.reverse(
            history,
            [lam],
            [step] * steps,
            lambda last, hyper: outer(hyper[0], last[0]),
            set_grad=False,
        )
        return torch.as_tensor(result)

    return hypergradient


def _torchopt(setting: Setting, steps: int, step_size: float) -> Hypergradient:
    library: Any = importlib.import_module("torchopt")
    inner, outer = plain_losses(setting)

    def hypergradient() -> Tensor:
        lam = setting.lam.detach().requires_grad_()
        optimiser = library.FuncOptimizer(library.sgd(lr=step_size))
        params = (_start(setting),)
        for _ in range(steps):
            params = optimiser.step(inner(lam, params[0]), params)
        return torch.autograd.grad(outer(lam, params[0]), lam)[0]

    return hypergradient


def _higher(setting: Setting, steps: int, step_size: float) -> Hypergradient:
    library: Any = importlib.import_module("higher")
    inner, outer = plain_losses(setting)

    def hypergradient() -> Tensor:
        lam = setting.lam.detach().requires_grad_()
        module = _Inner(_start(setting).detach(), inner)
        optimiser = torch.optim.SGD(module.parameters(), lr=step_size)
        with library.innerloop_ctx(module, optimiser) as (functional, differentiable):
            for _ in range(steps):
                differentiable.step(functional(lam))
            (theta,) = functional.parameters()
            return torch.autograd.grad(outer(lam, theta), lam)[0]

    return hypergradient
