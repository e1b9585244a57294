"""The public libraries' implicit hypergradients, where installed, after the same run of gradient descent.

The libraries leave the inner run to their user, so it is the plainest loop there is. Each solve is called as
its library calls it; from betty-ml and BOAT only the solve is taken, without the engine around it, which
would cost more.
"""

import importlib
import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from asv_bench.benchmarks.problems import PlainLoss, Setting, plain_losses
from asv_bench.measuring.peers import Hypergradient


def _run(setting: Setting, steps: int, step_size: float) -> Tensor:
    inner, _ = plain_losses(setting)
    theta = setting.problem.initial(setting.lam).detach().clone().requires_grad_()
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(inner(setting.lam, theta), theta)
        theta = (theta - step_size * gradient).detach().requires_grad_()
    return theta


def _map(inner: PlainLoss, lam: Tensor, theta: Tensor, step_size: float) -> Tensor:
    (gradient,) = torch.autograd.grad(inner(lam, theta), theta, create_graph=True)
    return theta - step_size * gradient


def _hypertorch(
    solve: str, setting: Setting, steps: int, step_size: float, terms: int
) -> Hypergradient:
    library: Any = importlib.import_module("hypergrad")
    inner, outer = plain_losses(setting)
    function = library.CG if solve == "CG" else library.fixed_point

    def hypergradient() -> Tensor:
        lam = setting.lam.detach().requires_grad_()
        (result,) = function(
            [_run(setting, steps, step_size)],
            [lam],
            terms,
            lambda params, hyper: [_map(inner, hyper[0], params[0], step_size)],
            lambda params, hyper: outer(hyper[0], params[0]),
            tol=0.0,
            set_grad=False,
        )
        return torch.as_tensor(result)

    return hypergradient


def _betty(solve: str, setting: Setting, steps: int, step_size: float, terms: int) -> Hypergradient:
    library: Any = importlib.import_module("betty.hypergradient")
    name = "cg" if solve == "CG" else "neumann"
    function = getattr(importlib.import_module(f"{library.__name__}.{name}"), name)
    inner, outer = plain_losses(setting)

    def hypergradient() -> Tensor:
        lam = setting.lam.detach().requires_grad_()
        theta = _run(setting, steps, step_size)
        config = SimpleNamespace(
            cg_iterations=terms,
            cg_alpha=1.0,
            neumann_iterations=terms - 1,
            neumann_alpha=step_size,
        )
        lower = SimpleNamespace(
            paths=(),
            config=config,
            cur_batch=None,
            training_step_exec=lambda _: inner(lam, theta),
            trainable_parameters=lambda: [theta],
            parameters=lambda: [theta],
        )
        upper = SimpleNamespace(trainable_parameters=lambda: [lam])
        slope = torch.autograd.grad(outer(lam, theta), theta)
        return torch.as_tensor(function(list(slope), lower, upper, sync=False)[0])

    return hypergradient


def _boat(solve: str, setting: Setting, steps: int, step_size: float, terms: int) -> Hypergradient:
    library: Any = importlib.import_module("boat_torch.utils.op_utils")
    inner, outer = plain_losses(setting)
    function = library.conjugate_gradient if solve == "CG" else library.neumann
    # Its series starts with one term more than it is told.
    count = terms if solve == "CG" else terms - 1

    def hypergradient() -> Tensor:
        lam = setting.lam.detach().requires_grad_()
        theta = _run(setting, steps, step_size)

        def mapped(params: list[Tensor], loss: Tensor) -> list[Tensor]:
            (gradient,) = torch.autograd.grad(loss, params[0], create_graph=True)
            return [params[0] - step_size * gradient]

        both = (outer(lam, theta), inner(lam, theta))
        result = function([theta], [lam], *both, count, mapped, 0.0)
        return torch.as_tensor(result[0])

    return hypergradient


def available_implicit(
    solve: str, setting: Setting, steps: int, step_size: float, terms: int
) -> dict[str, Hypergradient]:
    """The libraries that can be imported here, by name.

    Args:
        solve: "CG" or "Neumann".
        setting: the problem and λ.
        steps: of the inner run.
        step_size: of the inner run, and the scale of the series.
        terms: iterations of the solve, or terms of the series.
    """
    makers: dict[str, tuple[str, Callable[..., Hypergradient]]] = {
        "hypertorch": ("hypergrad", _hypertorch),
        "betty-ml": ("betty", _betty),
        "BOAT": ("boat_torch", _boat),
    }
    return {
        name: make(solve, setting, steps, step_size, terms)
        for name, (module, make) in makers.items()
        if importlib.util.find_spec(module) is not None
    }
