"""TorchOpt: differentiable optimisers, implicit differentiation, zero-order differentiation."""

import torch
import torchopt
from solving import leaves, slope, solution, target

IMPLICIT = ("direct", "weight_decay", "momentum")
RUN = ("direct", "initial", "minibatches")


class Inner(torch.nn.Module):
    """The inner parameters as the parameters of a module."""

    def __init__(self, problem, theta):
        super().__init__()
        self.names = [f"theta{index}" for index, _ in enumerate(problem.shapes)]
        for name, part in zip(self.names, problem.split(theta), strict=True):
            self.register_parameter(name, torch.nn.Parameter(part.detach().clone()))

    def replace(self, parts):
        """Put tensors with a history in the place of the parameters."""
        for name, part in zip(self.names, parts, strict=True):
            self._parameters[name] = part

    def vector(self, problem):
        return problem.join(tuple(getattr(self, name) for name in self.names))


def unrolled_by(problem, make):
    """Back-propagate through the steps of a meta-optimiser."""
    lam = problem.lam.clone().requires_grad_()
    inner = Inner(problem, problem.theta0)
    if problem.moving_start:
        inner.replace(problem.split(problem.initial(lam)))
    optimiser = make(inner)
    for t in range(problem.steps):
        optimiser.step(problem.inner(lam, inner.vector(problem), problem.inner_batch(t)))
    loss = problem.outer(lam, inner.vector(problem), problem.outer_batch(problem.steps))
    return torch.autograd.grad(loss, lam)[0]


@target("unrolled", *RUN, "momentum", "weight_decay")
def meta_sgd(problem):
    settings = {"momentum": problem.momentum, "weight_decay": problem.weight_decay}
    return unrolled_by(problem, lambda m: torchopt.MetaSGD(m, lr=problem.step_size, **settings))


def adam_settings(problem):
    return {
        "lr": problem.step_size,
        "betas": problem.betas,
        "eps": problem.adam_epsilon,
        "weight_decay": problem.weight_decay,
    }


@target("unrolled", *RUN, "adam")
def meta_adam(problem):
    return unrolled_by(problem, lambda m: torchopt.MetaAdam(m, **adam_settings(problem)))


@target("unrolled", *RUN, "adam")
def meta_adam_accelerated(problem):
    settings = {**adam_settings(problem), "use_accelerated_op": True}
    return unrolled_by(problem, lambda m: torchopt.MetaAdam(m, **settings))


@target("unrolled", *RUN, "adam")
def meta_adamw(problem):
    """AdamW without decay is Adam."""
    return unrolled_by(problem, lambda m: torchopt.MetaAdamW(m, **adam_settings(problem)))


@target("unrolled", *RUN, "momentum", "weight_decay")
def func_sgd(problem):
    """The functional optimiser."""
    lam = problem.lam.clone().requires_grad_()
    parts = problem.split(problem.initial(lam) if problem.moving_start else problem.theta0)
    parts = tuple(p if p.requires_grad else p.clone().requires_grad_() for p in parts)
    rule = torchopt.sgd(
        lr=problem.step_size, momentum=problem.momentum, weight_decay=problem.weight_decay
    )
    optimiser = torchopt.FuncOptimizer(rule)
    for t in range(problem.steps):
        loss = problem.inner(lam, problem.join(parts), problem.inner_batch(t))
        parts = optimiser.step(loss, parts)
    loss = problem.outer(lam, problem.join(parts), problem.outer_batch(problem.steps))
    return torch.autograd.grad(loss, lam)[0]


def implicit_by(problem, solve):
    """custom_root around a solver that returns the solution."""
    found = problem.split(solution(problem))

    def stationarity(parts, lam):
        return problem.split(slope(problem, lam, problem.join(parts)))

    @torchopt.diff.implicit.custom_root(stationarity, argnums=1, solve=solve)
    def run(parts, lam):
        return tuple(part.clone() for part in found)

    lam = problem.lam.clone().requires_grad_()
    theta = problem.join(run(leaves(problem, problem.theta0), lam))
    return torch.autograd.grad(problem.outer(lam, theta, None), lam)[0]


@target("implicit", *IMPLICIT, tolerance=1e-7)
def root_cg(problem):
    return implicit_by(problem, torchopt.linear_solve.solve_cg(rtol=1e-10))


@target("implicit", *IMPLICIT, tolerance=1e-7)
def root_normal_cg(problem):
    return implicit_by(problem, torchopt.linear_solve.solve_normal_cg(rtol=1e-10))


@target("implicit", *IMPLICIT)
def root_inv(problem):
    return implicit_by(problem, torchopt.linear_solve.solve_inv())


@target("implicit", *IMPLICIT, terms=6)
def root_neumann(problem):
    solve = torchopt.linear_solve.solve_inv(ns=True, maxiter=problem.terms, alpha=problem.step_size)
    return implicit_by(problem, solve)


@target("implicit", *IMPLICIT, tolerance=1e-7)
def implicit_module(problem):
    """ImplicitMetaGradientModule with its optimality condition derived from the objective."""
    solve = torchopt.linear_solve.solve_normal_cg(rtol=1e-10)

    class Solver(torchopt.nn.ImplicitMetaGradientModule, linear_solve=solve):
        def __init__(self, lam):
            super().__init__()
            self.lam = lam
            self.inner = Inner(problem, problem.theta0)

        def objective(self):
            theta = self.inner.vector(problem)
            decay = 0.5 * problem.weight_decay * theta.square().sum()
            return problem.inner(self.lam, theta, None) + decay

        def solve(self):
            found = problem.split(solution(problem))
            with torch.no_grad():
                for name, part in zip(self.inner.names, found, strict=True):
                    getattr(self.inner, name).copy_(part)
            return self

    lam = torch.nn.Parameter(problem.lam.clone())
    module = Solver(lam)
    module.solve()
    loss = problem.outer(lam, module.inner.vector(problem), None)
    return torch.autograd.grad(loss, lam)[0]


def implicit_after_steps(problem, solve):
    """T steps of its SGD, each on its own batch, then custom_root at θ^T on the batch that is next."""

    def stationarity(parts, lam):
        theta, batch = problem.join(parts), problem.inner_batch(problem.steps)
        return problem.split(torch.func.grad(problem.inner, argnums=1)(lam, theta, batch))

    @torchopt.diff.implicit.custom_root(stationarity, argnums=1, solve=solve)
    def run(parts, lam):
        parts = leaves(problem, problem.join(parts))
        optimiser = torchopt.SGD(parts, lr=problem.step_size)
        for t in range(problem.steps):
            with torch.enable_grad():
                loss = problem.inner(lam, problem.join(parts), problem.inner_batch(t))
            optimiser.zero_grad()
            loss.backward(inputs=parts)
            optimiser.step()
        return tuple(part.detach() for part in parts)

    lam = problem.lam.clone().requires_grad_()
    theta = problem.join(run(leaves(problem, problem.theta0), lam))
    loss = problem.outer(lam, theta, problem.outer_batch(problem.steps))
    return torch.autograd.grad(loss, lam)[0]


AFTER = ("direct", "minibatches")


@target("implicit", *AFTER)
def steps_then_cg(problem):
    """At most K iterations; without a test for convergence, it would divide zero by zero."""
    rtol = torch.finfo(problem.lam.dtype).eps
    solve = torchopt.linear_solve.solve_cg(rtol=rtol, maxiter=problem.terms)
    return implicit_after_steps(problem, solve)


@target("implicit", *AFTER, terms=6)
def steps_then_neumann(problem):
    """The first term is there before the first iteration: K − 1 of them make K terms."""
    iterations, alpha = problem.terms - 1, problem.step_size
    solve = torchopt.linear_solve.solve_inv(ns=True, maxiter=iterations, alpha=alpha)
    return implicit_after_steps(problem, solve)


SIGMA = 0.5
"""Of the perturbations. The entries are quadratic, so that smoothing does not change the gradient."""


def zero_order(problem, method, samples):
    draw = torch.Generator().manual_seed(problem.seed)

    def sample(shape):
        return torch.randn(shape, dtype=problem.lam.dtype, generator=draw)

    @torchopt.diff.zero_order.zero_order(
        sample, method=method, argnums=0, num_samples=samples, sigma=SIGMA
    )
    def objective(lam):
        theta = problem.theta0
        for _ in range(problem.steps):
            with torch.enable_grad():
                at = theta.detach().clone().requires_grad_()
                loss = problem.inner(lam.detach(), at, None)
                (gradient,) = torch.autograd.grad(loss, at)
            theta = theta - problem.step_size * gradient
        return problem.outer(lam, theta, None)

    lam = problem.lam.clone().requires_grad_()
    return torch.autograd.grad(objective(lam), lam)[0]


SMOOTHED = {"stochastic": True}


@target("unrolled", "direct", **SMOOTHED)
def zero_order_naive(problem):
    return zero_order(problem, "naive", 16)


@target("unrolled", "direct", **SMOOTHED)
def zero_order_forward(problem):
    return zero_order(problem, "forward", 1)


@target("unrolled", "direct", **SMOOTHED)
def zero_order_forward_many(problem):
    return zero_order(problem, "forward", 16)


@target("unrolled", "direct", **SMOOTHED)
def zero_order_antithetic(problem):
    return zero_order(problem, "antithetic", 16)
