"""The autograd calls that a run cannot do without, and nothing else: what refblo's time is held against."""

import torch
from torch import Tensor

from asv_bench.benchmarks.problems import Setting


def _leaf(vector: Tensor) -> Tensor:
    return vector.detach().requires_grad_()


def inner_and_outer_gradient(setting: Setting) -> None:
    """One ∂_θ L_T and one ∂_θ f."""
    problem, lam = setting.problem, setting.lam
    theta = problem.initial(lam)
    at = _leaf(theta)
    torch.autograd.grad(problem.inner(lam, at, None), at)
    at = _leaf(theta)
    torch.autograd.grad(problem.outer(lam, at, None), at)


def hpo_sgld(setting: Setting, steps: int) -> None:
    """For each step: ∂_θ L_T with a graph, ∂_θ f, and the mixed product."""
    problem = setting.problem
    theta = problem.initial(setting.lam).detach()
    for _ in range(steps):
        lam, at = _leaf(setting.lam), _leaf(theta)
        (gradient,) = torch.autograd.grad(problem.inner(lam, at, None), at, create_graph=True)
        after = _leaf(theta)
        (slope,) = torch.autograd.grad(problem.outer(setting.lam, after, None), after)
        torch.autograd.grad(gradient, lam, slope)


def hpo_sgld_moving(setting: Setting, steps: int) -> None:
    """With θ⁰(λ): the mixed product together with H, and a product with f_θθ."""
    problem = setting.problem
    theta = problem.initial(setting.lam).detach()
    for _ in range(steps):
        lam, at = _leaf(setting.lam), _leaf(theta)
        (gradient,) = torch.autograd.grad(problem.inner(lam, at, None), at, create_graph=True)
        after = _leaf(theta)
        (slope,) = torch.autograd.grad(problem.outer(setting.lam, after, None), after)
        torch.autograd.grad(gradient, (lam, at), slope)
        before = _leaf(theta)
        (start,) = torch.autograd.grad(
            problem.outer(setting.lam, before, None), before, create_graph=True
        )
        torch.autograd.grad(start, before, slope)


def reverse_stored(setting: Setting, steps: int) -> None:
    """For each step: ∂_θ L_T, the same with a graph, and both products."""
    problem = setting.problem
    theta = problem.initial(setting.lam).detach()
    for _ in range(steps):
        at = _leaf(theta)
        torch.autograd.grad(problem.inner(setting.lam, at, None), at)
        lam, at = _leaf(setting.lam), _leaf(theta)
        (gradient,) = torch.autograd.grad(problem.inner(lam, at, None), at, create_graph=True)
        torch.autograd.grad(gradient, (lam, at), theta)


def reverse_unrolled(setting: Setting, steps: int, step_size: float) -> None:
    """Backpropagation through the whole run at once."""
    problem = setting.problem
    lam, theta = _leaf(setting.lam), _leaf(problem.initial(setting.lam))
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(problem.inner(lam, theta, None), theta, create_graph=True)
        theta = torch.add(theta, gradient, alpha=-step_size)
    torch.autograd.grad(problem.outer(lam, theta, None), lam)


def first_order(setting: Setting, steps: int) -> None:
    """For each step ∂_θ L_T."""
    problem = setting.problem
    theta = problem.initial(setting.lam).detach()
    for _ in range(steps):
        at = _leaf(theta)
        torch.autograd.grad(problem.inner(setting.lam, at, None), at)
