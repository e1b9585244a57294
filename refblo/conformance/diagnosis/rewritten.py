"""The caller's own functions with a mistake put in from outside: what is detached inside them.

A `TorchFunctionMode` sees every torch function that a loss or a step calls, so that one of them can be
given another derivative without a word changed in the caller's code.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from refblo.conformance.truth.program import Program

Function = Callable[..., Any]
Arguments = tuple[Any, ...]
Keywords = Mapping[str, Any]


@final
class DetachedGradients(TorchFunctionMode):
    """Gradients that are taken inside come without a graph, as without create_graph."""

    def __torch_function__(
        self, func: Function, types: Any, args: Arguments = (), kwargs: Keywords | None = None
    ) -> Any:
        """Call it, and detach what `torch.autograd.grad` returns."""
        result = func(*args, **(kwargs or {}))
        if func is torch.autograd.grad:
            return tuple(_detached(part) for part in result)
        return result


@final
class ConstantNormalisers(TorchFunctionMode):
    """Norms, statistics and the sums of softmaxes come without a graph.

    Attributes:
        touched: whether there was any.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.touched = kind, False

    def __torch_function__(
        self, func: Function, types: Any, args: Arguments = (), kwargs: Keywords | None = None
    ) -> Any:
        """Call it, or another function with the same value."""
        keywords = kwargs or {}
        if self.kind == "softmax" and func in _SOFTMAXES:
            self.touched = True
            return _softmax(func, args[0], _dimension(args, keywords))
        if self.kind == "statistic" and func is torch.nn.functional.batch_norm:
            self.touched = True
            renamed = {
                "_momentum" if name == "momentum" else name: keywords[name] for name in keywords
            }
            return _batch_norm(*args, **renamed)
        result = func(*args, **keywords)
        if self.kind == "norm" and func in _NORMS:
            self.touched = True
            return _detached(result)
        if self.kind == "statistic" and (func in _SPREADS or _a_mean(func, args, keywords)):
            self.touched = True
            return _detached(result)
        return result


KINDS = {
    "softmax": "a softmax's sum",
    "norm": "a norm (as of clipping)",
    "statistic": "a mean or variance along a dimension (as of a batch)",
}

_SOFTMAXES = {
    torch.softmax: False,
    torch.nn.functional.softmax: False,
    Tensor.softmax: False,
    torch.log_softmax: True,
    torch.nn.functional.log_softmax: True,
    Tensor.log_softmax: True,
}
_NORMS = {
    torch.norm,
    Tensor.norm,
    torch.linalg.norm,
    torch.linalg.vector_norm,
}
_SPREADS = {torch.var, torch.std, Tensor.var, Tensor.std, torch.var_mean, torch.std_mean}
_MEANS = {torch.mean, Tensor.mean}


def detached_gradients(program: Program) -> Program:
    """The program whose steps take their gradients without a graph."""
    return _under(program, DetachedGradients)


def constant_normalisers(program: Program, kind: str) -> Program | None:
    """The program with one kind of normaliser constant; None where there is none of the kind."""
    trial = ConstantNormalisers(kind)
    state = program.start(program.lam).detach()
    with trial:
        moved = program.transition(program.lam.clone().requires_grad_(), state, 0).detach()
        program.outer(program.lam, moved, program.schedule.steps)
    return _under(program, lambda: ConstantNormalisers(kind)) if trial.touched else None


def _under(program: Program, mode: Callable[[], TorchFunctionMode]) -> Program:
    def transition(lam: Tensor, state: Tensor, step: int) -> Tensor:
        with mode():
            return program.transition(lam, state, step)

    def outer(lam: Tensor, state: Tensor, step: int) -> Tensor:
        with mode():
            return program.outer(lam, state, step)

    return replace(program, transition=transition, outer=outer, losses=None)


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, tuple):
        return tuple(_detached(part) for part in value)
    return value


def _dimension(args: Arguments, keywords: Keywords) -> int:
    found = keywords.get("dim", args[1] if len(args) > 1 else -1)
    return -1 if found is None else int(found)


def _softmax(func: Function, x: Tensor, dim: int) -> Tensor:
    """Exp x / Σ exp x with the sum, and what is taken off for stability, as constants."""
    total = torch.logsumexp(x, dim, keepdim=True).detach()
    return x - total if _SOFTMAXES[func] else (x - total).exp()


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    _momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalisation by the batch's own statistics as constants; the buffers stay as they are."""
    mean, variance = running_mean, running_var
    if training or mean is None or variance is None:
        kept = [axis for axis in range(x.ndim) if axis != 1]
        mean, variance = x.detach().mean(kept), x.detach().var(kept, unbiased=False)
    normed: Tensor = torch.nn.functional.batch_norm(
        x, mean, variance, weight, bias, False, 0.0, eps
    )
    return normed


def _a_mean(func: Function, args: Arguments, keywords: Keywords) -> bool:
    return func in _MEANS and (len(args) > 1 or "dim" in keywords)
