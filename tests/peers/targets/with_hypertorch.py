"""hypertorch, from a checkout whose path is in the environment variable HYPERTORCH."""

import os
import sys

import torch
from solving import solution, target

sys.path.insert(0, os.environ.get("HYPERTORCH", "."))
import hypergrad

IMPLICIT = ("direct", "weight_decay", "momentum")
RUN = ("direct", "initial", "minibatches", "weight_decay", "momentum")


def parts_of(problem):
    """A function of parameter lists: the outer loss."""

    def outer(params, hparams):
        theta = problem.join(tuple(params[: len(problem.shapes)]))
        return problem.outer(hparams[0], theta, problem.outer_batch(problem.steps))

    return outer


def decayed(problem, gradients, parts):
    """With the optimiser's weight decay, if it has one."""
    if problem.weight_decay == 0:
        return list(gradients)
    return [g + problem.weight_decay * w for g, w in zip(gradients, parts, strict=True)]


def step_map(problem, t):
    """The inner optimiser's step number t on (θ, v), or on θ alone without momentum."""
    count = len(problem.shapes)

    def advance(params, hparams):
        parts = tuple(params[:count])
        theta = problem.join(parts)
        loss = problem.inner(hparams[0], theta, problem.inner_batch(t))
        gradients = torch.autograd.grad(loss, parts, create_graph=True)
        velocity = decayed(problem, gradients, parts)
        if problem.momentum != 0:
            before = params[count:]
            velocity = [problem.momentum * v + g for v, g in zip(before, velocity, strict=True)]
        moved = [w - problem.step_size * v for w, v in zip(parts, velocity, strict=True)]
        return [*moved, *velocity] if problem.momentum != 0 else moved

    return advance


def history_of(problem, lam):
    start = problem.initial(lam) if problem.moving_start else problem.theta0
    start = start if start.requires_grad else start.clone().requires_grad_()
    parts = list(problem.split(start))
    still = [torch.zeros_like(p).requires_grad_() for p in parts] if problem.momentum != 0 else []
    states = [[*parts, *still]]
    maps = []
    for t in range(problem.steps):
        maps.append(step_map(problem, t))
        states.append(maps[-1](states[-1], [lam]))
    return states, maps


@target("unrolled", *RUN)
def reverse_unroll(problem):
    lam = problem.lam.clone().requires_grad_()
    states, _ = history_of(problem, lam)
    return hypergrad.reverse_unroll(states[-1], [lam], parts_of(problem), set_grad=False)[0]


@target("unrolled", "direct", "minibatches", "weight_decay", "momentum")
def reverse(problem):
    lam = problem.lam.clone().requires_grad_()
    states, maps = history_of(problem, lam)
    return hypergrad.reverse(states, [lam], maps, parts_of(problem), set_grad=False)[0]


def gradient_map(problem, batch=None):
    """One gradient step without momentum: a map with a symmetric Jacobian."""

    def advance(params, hparams):
        theta = problem.join(tuple(params))
        loss = problem.inner(hparams[0], theta, batch)
        gradients = torch.autograd.grad(loss, params, create_graph=True)
        moves = decayed(problem, gradients, params)
        return [w - problem.step_size * g for w, g in zip(params, moves, strict=True)]

    return advance


def implicit_by(problem, method, **settings):
    lam = problem.lam.clone().requires_grad_()
    found = [part.clone() for part in problem.split(solution(problem))]
    outer = parts_of(problem)
    return method(
        params=found,
        hparams=[lam],
        fp_map=gradient_map(problem),
        outer_loss=outer,
        set_grad=False,
        **settings,
    )


@target("implicit", *IMPLICIT)
def fixed_point(problem):
    return implicit_by(problem, hypergrad.fixed_point, K=8000, tol=1e-14)[0]


@target("implicit", *IMPLICIT, terms=6)
def neumann(problem):
    return implicit_by(problem, hypergrad.neumann, K=problem.terms, tol=0.0)[0]


@target("implicit", *IMPLICIT)
def cg(problem):
    return implicit_by(problem, hypergrad.CG, K=2 * problem.theta0.numel(), tol=1e-12)[0]


@target("implicit", *IMPLICIT)
def cg_normaleq(problem):
    return implicit_by(problem, hypergrad.CG_normaleq, K=2 * problem.theta0.numel(), tol=1e-12)[0]


@target("implicit", *IMPLICIT)
def stoch_aid(problem):
    return implicit_by(problem, hypergrad.stoch_AID, K=4000, verbose=False)[0][0]


def implicit_after_steps(problem, method, **settings):
    """The map T times from θ⁰, each on its own batch, then the method at θ^T on the batch that is next."""
    lam = problem.lam.clone().requires_grad_()
    params = list(problem.split(problem.theta0.clone()))
    for t in range(problem.steps):
        params = [part.detach().requires_grad_() for part in params]
        params = gradient_map(problem, problem.inner_batch(t))(params, [lam.detach()])
    return method(
        params=[part.detach() for part in params],
        hparams=[lam],
        fp_map=gradient_map(problem, problem.inner_batch(problem.steps)),
        outer_loss=parts_of(problem),
        set_grad=False,
        **settings,
    )[0]


@target("implicit", "direct", "minibatches", terms=6)
def steps_then_fixed_point(problem):
    """K iterations from zero: K terms of the series."""
    return implicit_after_steps(problem, hypergrad.fixed_point, K=problem.terms, tol=0.0)


@target("implicit", "direct", "minibatches", terms=6)
def steps_then_neumann(problem):
    """The first term is there before the first iteration: K − 1 of them make K terms."""
    return implicit_after_steps(problem, hypergrad.neumann, K=problem.terms - 1, tol=0.0)


@target("implicit", "direct", "minibatches")
def steps_then_cg(problem):
    """At most K iterations; its test for convergence as it comes, since none would divide zero by zero."""
    return implicit_after_steps(problem, hypergrad.CG, K=problem.terms)
