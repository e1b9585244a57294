"""moskomule's hypergrad, from a checkout whose path is in the environment variable HYPERGRAD."""

import os
import sys

import torch
from solving import solution, target

sys.path.insert(0, os.environ.get("HYPERGRAD", "."))
from hypergrad.approx_hypergrad import conjugate_gradient, neumann
from hypergrad.optimizers import diff_sgd

IMPLICIT = ("direct", "weight_decay", "momentum")


def implicit_by(problem, method, **settings):
    """The caller's objectives contain the weight decay, since no optimiser is handed over."""

    def inner(params, hparams):
        theta = problem.join(tuple(params))
        decay = 0.5 * problem.weight_decay * theta.square().sum()
        return problem.inner(hparams[0], theta, None) + decay

    def outer(params, hparams):
        return problem.outer(hparams[0], problem.join(tuple(params)), None)

    found = tuple(part.clone() for part in problem.split(solution(problem)))
    return method(inner, outer, found, (problem.lam.clone(),), **settings)[0].detach()


@target("implicit", *IMPLICIT)
def cg(problem):
    size = problem.theta0.numel()
    return implicit_by(problem, conjugate_gradient, num_iters=size, lr=1.0)


@target("implicit", *IMPLICIT, terms=6)
def series(problem):
    return implicit_by(problem, neumann, num_iters=problem.terms, lr=problem.step_size)


@target("unrolled", "direct", "initial", "minibatches", "momentum", "weight_decay")
def sgd(problem):
    lam = problem.lam.clone().requires_grad_()
    parts = problem.split(problem.initial(lam) if problem.moving_start else problem.theta0)
    parts = tuple(p if p.requires_grad else p.clone().requires_grad_() for p in parts)
    state = None
    for t in range(problem.steps):
        loss = problem.inner(lam, problem.join(parts), problem.inner_batch(t))
        gradients = torch.autograd.grad(loss, parts, create_graph=True)
        parts, state = diff_sgd(
            parts, gradients, state, problem.weight_decay, problem.momentum, problem.step_size
        )
    loss = problem.outer(lam, problem.join(parts), problem.outer_batch(problem.steps))
    return torch.autograd.grad(loss, lam)[0]
