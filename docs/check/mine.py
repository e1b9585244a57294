"""A hypergradient to be checked, and one with a mistake in it."""

from typing import Any

import torch
from torch import Tensor


def run(problem: Any, lam: Tensor) -> Tensor:
    """T steps of gradient descent from the initial point, as a function of lam."""
    theta: Tensor = problem.initial(lam)
    for t in range(problem.steps):
        if not theta.requires_grad:
            theta = theta.clone().requires_grad_()
        loss = problem.inner(lam, theta, problem.inner_batch(t))
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - problem.step_size * gradient
    return theta


def hypergradient(problem: Any) -> Tensor:
    """Back-propagate through the whole run."""
    lam = problem.lam.clone().requires_grad_()
    value = problem.outer(lam, run(problem, lam), problem.outer_batch(problem.steps))
    answer: Tensor = torch.autograd.grad(value, lam)[0]
    return answer


hypergradient.capabilities = {"direct", "initial", "minibatches"}  # type: ignore[attr-defined]


def forgetful(problem: Any) -> Tensor:
    """The same, but the outer loss is given a lam that autograd does not know."""
    lam = problem.lam.clone().requires_grad_()
    theta = run(problem, lam)
    value = problem.outer(lam.detach(), theta, problem.outer_batch(problem.steps))
    answer: Tensor = torch.autograd.grad(value, lam)[0]
    return answer


forgetful.capabilities = {"direct"}  # type: ignore[attr-defined]
