"""What several adapters share: the inner solution, for methods that start from it."""

import torch


def slope(problem, lam, theta):
    """The gradient that the optimiser sees: with its weight decay."""
    gradient = torch.func.grad(problem.inner, argnums=1)(lam, theta, None)
    return gradient + problem.weight_decay * theta


def solution(problem):
    """Where the inner gradient vanishes, by Newton's method from the initial point."""
    lam, theta = problem.lam.detach(), problem.theta0.detach().clone()
    for _ in range(30):
        hessian = torch.func.jacrev(lambda t: slope(problem, lam, t))(theta)
        theta = theta - torch.linalg.solve(hessian, slope(problem, lam, theta))
    return theta


def leaves(problem, theta):
    """θ as the tensors it is made of, each a leaf."""
    return tuple(part.detach().clone().requires_grad_() for part in problem.split(theta))


def target(estimands, *capabilities, tolerance=0.0, stochastic=False, terms=None):
    """Declare what a target can do."""

    def declare(function):
        function.estimands, function.capabilities = estimands, set(capabilities)
        function.tolerance, function.stochastic = tolerance, stochastic
        if terms is not None:
            function.solver, function.terms = "neumann", terms
        return function

    return declare
