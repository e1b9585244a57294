"""A curvature matrix in the Hessian's place: Gauss-Newton's, the empirical Fisher matrix.

Both need to know where the model ends and the loss begins. It is taken to end at the arguments of the
functions that make a loss of residuals or logits: a square, a mean squared error, a cross entropy.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor
from torch.overrides import TorchFunctionMode

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import numpy_of, sweep
from refblo.conformance.truth.jacobian import jacobians_of
from refblo.conformance.truth.program import Losses, Sample

Array = np.ndarray
_LARGEST = 128
"""Entries of θ up to which the matrices are made."""

_MOST_STEPS = 64


def candidates(subject: Subject) -> Iterator[Candidate]:
    """The solve, or the sweep of a plain rule, with another matrix for H."""
    losses, size = subject.program.losses, subject.program.size
    if losses is None or size > _LARGEST:
        return
    if subject.implicit:
        root = subject.root
        if root is None or losses.frozen.inner_batches is not None:
            return
        decay = subject.weight_decay * np.eye(size)
        for mistake, matrix in matrices(losses, subject.program.lam, root.root[:size], None):
            solved = np.linalg.lstsq(matrix + decay, numpy_of(root.slope), rcond=None)[0]
            yield Candidate(mistake, subject.direct - solved @ numpy_of(root.mixed))
        return
    trace, rule, gamma = subject.trace, losses.rule, subject.step_size
    plain = rule.buffers == 0 and not rule.clips and not rule.functions
    if gamma is None or not plain or trace.steps > _MOST_STEPS:
        return
    by_step = [
        matrices(losses, subject.program.lam, trace.states[t][:size], losses.frozen.inner(t))
        for t in range(trace.steps)
    ]
    kept = 1 - gamma * subject.weight_decay
    for index in range(min(len(found) for found in by_step)):

        def pull(t: int, v: Array, index: int = index) -> tuple[Array, Array]:
            return kept * v - gamma * (v @ by_step[t][index][1]), trace.pull(t, v)[1]

        yield Candidate(by_step[0][index][0], subject.direct + sweep(trace, pull).total)


def matrices(
    losses: Losses, lam: Tensor, theta: Tensor, batch: Sample | None
) -> list[tuple[Mistake, Float64[Array, "n n"]]]:
    """Gauss-Newton's matrix, and the Fisher matrix with a mean and with a sum over examples; or none.

    With x(θ) the recorded arguments and ℓ the rest, Gauss-Newton's is [J; I]ᵀ ∇²ℓ(x, θ) [J; I].
    """
    at = theta.detach().clone().requires_grad_()
    with _Cut() as cut:
        losses.inner(lam.detach(), at, batch)
    models = [x for x in cut.arguments if x.requires_grad]
    if not models:
        return []
    flat = torch.cat([x.reshape(-1) for x in models])
    if flat.numel() > 64 * _LARGEST:
        return []
    jacobian = numpy_of(jacobians_of(flat, (at, at))[0])
    ends = [x.detach().clone().requires_grad_() for x in models]
    fixed = theta.detach().clone().requires_grad_()
    with _Cut(iter(ends)):
        value = losses.inner(lam.detach(), fixed, batch)
    inputs = (*ends, fixed)
    slopes = torch.autograd.grad(
        value, inputs, create_graph=True, allow_unused=True, materialize_grads=True
    )
    gradient = torch.cat([slope.reshape(-1) for slope in slopes])
    if not gradient.requires_grad:
        return []
    unit = np.eye(gradient.numel())
    curved = np.stack([_row(gradient, inputs, row) for row in unit])
    chain = np.concatenate([jacobian, np.eye(theta.numel())])
    found = [(Mistake.GAUSS_NEWTON, chain.T @ curved @ chain)]
    first = 0
    for model, slope in zip(models, slopes, strict=False):
        rows = slice(first, first + model.numel())
        first += model.numel()
        if model.ndim == 0 or len(model) < 2:
            continue
        count = len(model)
        per_example = numpy_of(slope).reshape(count, -1)
        parts = jacobian[rows].reshape(count, per_example.shape[1], -1)
        gradients = np.einsum("ij,ijk->ik", per_example, parts)
        outer = gradients.T @ gradients
        others = chain.copy()
        others[rows] = 0
        rest = others.T @ curved @ others
        # Of a mean loss, N Σ gᵢgᵢᵀ is the mean of the outer products of the examples' own gradients.
        for added in (rest, np.zeros_like(rest)):
            found += [(Mistake.FISHER, factor * outer + added) for factor in (count, 1.0)]
    return found


def _row(gradient: Tensor, inputs: tuple[Tensor, ...], row: Array) -> Array:
    found = torch.autograd.grad(
        gradient,
        inputs,
        torch.as_tensor(row, device="cpu").to(gradient),
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return np.concatenate([numpy_of(part).reshape(-1) for part in found])


_SQUARES = {torch.square, Tensor.square}
_POWERS = {torch.pow, Tensor.pow, Tensor.__pow__}
_LOSSES = {torch.nn.functional.mse_loss, torch.nn.functional.cross_entropy}
_PRODUCTS = {torch.mul, Tensor.mul, Tensor.__mul__}
_LOGITS = {
    torch.nn.functional.softplus,
    torch.nn.functional.logsigmoid,
    torch.nn.functional.binary_cross_entropy_with_logits,
    torch.log_softmax,
    Tensor.log_softmax,
    torch.nn.functional.log_softmax,
    torch.logsumexp,
    Tensor.logsumexp,
}


@final
class _Cut(TorchFunctionMode):
    """Record what goes into a square or a loss, or put other tensors there, in the same order.

    Attributes:
        arguments: what went in.
    """

    def __init__(self, instead: Iterator[Tensor] | None = None) -> None:
        super().__init__()
        self.arguments: list[Tensor] = []
        self.instead = instead

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call it with its first argument recorded, or replaced."""
        keywords = kwargs or {}
        if not self._ends_a_model(func, args):
            return func(*args, **keywords)
        x = args[0]
        self.arguments.append(x)
        if self.instead is not None and x.requires_grad:
            new = next(self.instead)
            both = func in _PRODUCTS
            args = (new, new) if both else (new, *args[1:])
        return func(*args, **keywords)

    @staticmethod
    def _ends_a_model(func: Callable[..., Any], args: tuple[Any, ...]) -> bool:
        if not args or not isinstance(args[0], Tensor) or not args[0].requires_grad:
            return False
        if func in _POWERS:
            return len(args) > 1 and args[1] == 2
        if func in _PRODUCTS:
            return len(args) > 1 and args[1] is args[0]
        return func in _SQUARES or func in _LOSSES or func in _LOGITS
