"""higher: differentiable versions of torch's optimisers."""

import higher
import torch
from solving import target

RUN = ("direct", "initial", "minibatches", "weight_decay")


def unrolled_by(problem, make):
    """Back-propagate through the steps of a differentiable optimiser without a patched module."""
    lam = problem.lam.clone().requires_grad_()
    reference = [part.detach().clone().requires_grad_() for part in problem.split(problem.theta0)]
    optimiser = higher.optim.get_diff_optim(make(reference), reference)
    parts = reference
    if problem.moving_start:
        parts = list(problem.split(problem.initial(lam)))
    for t in range(problem.steps):
        loss = problem.inner(lam, problem.join(tuple(parts)), problem.inner_batch(t))
        parts = optimiser.step(loss, params=parts)
    theta = problem.join(tuple(parts))
    loss = problem.outer(lam, theta, problem.outer_batch(problem.steps))
    return torch.autograd.grad(loss, lam)[0]


@target("unrolled", *RUN, "momentum")
def sgd(problem):
    return unrolled_by(
        problem,
        lambda p: torch.optim.SGD(
            p,
            lr=problem.step_size,
            momentum=problem.momentum,
            weight_decay=problem.weight_decay,
        ),
    )


class Module(torch.nn.Module):
    """The inner loss as a module's forward pass."""

    def __init__(self, problem):
        super().__init__()
        self.problem = problem
        parts = problem.split(problem.theta0)
        self.parts = torch.nn.ParameterList(part.detach().clone() for part in parts)

    def forward(self, lam, batch):
        return self.problem.inner(lam, self.vector(), batch)

    def vector(self):
        return self.problem.join(tuple(self.parts))


@target("unrolled", "direct", "minibatches", "weight_decay", "momentum")
def innerloop(problem):
    """innerloop_ctx with a patched module."""
    lam = problem.lam.clone().requires_grad_()
    module = Module(problem)
    optimiser = torch.optim.SGD(
        module.parameters(),
        lr=problem.step_size,
        momentum=problem.momentum,
        weight_decay=problem.weight_decay,
    )
    with higher.innerloop_ctx(module, optimiser, copy_initial_weights=False) as (patched, steps):
        for t in range(problem.steps):
            steps.step(patched(lam, problem.inner_batch(t)))
        theta = problem.join(tuple(patched.parameters()))
        loss = problem.outer(lam, theta, problem.outer_batch(problem.steps))
        return torch.autograd.grad(loss, lam)[0]


def settings(problem):
    return {"lr": problem.step_size, "betas": problem.betas, "eps": problem.adam_epsilon}


@target("unrolled", *RUN, "adam")
def adam(problem):
    return unrolled_by(problem, lambda p: torch.optim.Adam(p, **settings(problem)))


@target("unrolled", *RUN, "adam")
def adam_corrected(problem):
    """Adam with ε scaled at every step, which makes its formula that of torch.optim.Adam."""
    lam = problem.lam.clone().requires_grad_()
    parts = [part.detach().clone().requires_grad_() for part in problem.split(problem.theta0)]
    optimiser = higher.optim.get_diff_optim(torch.optim.Adam(parts, **settings(problem)), parts)
    for t in range(problem.steps):
        loss = problem.inner(lam, problem.join(tuple(parts)), problem.inner_batch(t))
        scaled = problem.adam_epsilon * (1 - problem.betas[1] ** (t + 1)) ** 0.5
        parts = optimiser.step(loss, params=parts, override={"eps": [scaled]})
    theta = problem.join(tuple(parts))
    loss = problem.outer(lam, theta, problem.outer_batch(problem.steps))
    return torch.autograd.grad(loss, lam)[0]


@target("unrolled", *RUN, "adam")
def adamw(problem):
    """AdamW without decay is Adam."""
    return unrolled_by(
        problem, lambda p: torch.optim.AdamW(p, weight_decay=0.0, **settings(problem))
    )


@target("unrolled", *RUN)
def asgd(problem):
    """ASGD with a constant step and no decay term of its own is gradient descent."""
    return unrolled_by(
        problem,
        lambda p: torch.optim.ASGD(
            p, lr=problem.step_size, lambd=0.0, alpha=0.0, weight_decay=problem.weight_decay
        ),
    )
