"""Adapters for the library BOAT (distribution boat-torch), one function for each of its methods.

`python -m tests.peers.run` gives these functions to the conformance suite as targets, in an environment of
its own (`tests/peers/requirements.txt`); this file is not imported by any quick test. A target takes the
suite's problem and returns BOAT's hypergradient as BOAT computes it: do not correct it here. What each is
expected to return, and the cause of a known disagreement, is in `tests/peers/peers.py`. `@target` declares
the estimand, what the method can handle, and the relative error it allows itself.

BOAT runs a `Problem` made of operations that a configuration names: "NGD" does the lower steps, the others
(RAD, RGT, CG, NS, ...) choose how the upper gradient is computed. It finds the losses by the text
"module.function", so `lower_loss` and `upper_loss` must stay functions of this module.
"""

import tempfile
from pathlib import Path

import torch
from boat_torch.boat_opt import Problem
from solving import solution, target

LOG = Path(tempfile.mkdtemp()) / "losses.json"


class Values(torch.nn.Module):
    """A module whose parameters are copies of the given tensors."""

    def __init__(self, parts):
        super().__init__()
        self.parts = torch.nn.ParameterList(part.detach().clone() for part in parts)


def lower_loss(feed, upper, lower, params=None):
    """The inner loss, with BOAT's arguments; a λ in `feed` is used in place of `upper`."""
    problem = feed["problem"]
    theta = problem.join(tuple(lower.parameters() if params is None else params))
    lam = feed.get("lam")
    return problem.inner(next(iter(upper.parameters())) if lam is None else lam, theta, None)


def upper_loss(feed, upper, lower, params=None):
    """The outer loss, with the arguments of `lower_loss`."""
    problem = feed["problem"]
    theta = problem.join(tuple(lower.parameters() if params is None else params))
    lam = feed.get("lam")
    return problem.outer(next(iter(upper.parameters())) if lam is None else lam, theta, None)


def build(problem, upper, lower, na_op, steps, *, truncate=0, solver=(1e-12, 10), radius=1e-3):
    """BOAT's `Problem` for the operations `na_op`.

    Args:
        problem: the suite's problem.
        upper: the module whose parameters are differentiated by.
        lower: the module that is trained.
        na_op: names of BOAT's operations for the upper gradient.
        steps: lower steps.
        truncate: lower steps that RGT does not differentiate.
        solver: tolerance and iterations of CG and NS.
        radius: step of FD's differences.
    """
    optimiser = torch.optim.SGD(
        lower.parameters(),
        lr=problem.step_size,
        momentum=problem.momentum,
        weight_decay=problem.weight_decay,
    )
    config = {
        "fo_op": None,
        "gm_op": ["NGD"],
        "na_op": list(na_op),
        "lower_level_model": lower,
        "upper_level_model": upper,
        "lower_level_var": list(lower.parameters()),
        "upper_level_var": list(upper.parameters()),
        "lower_level_opt": optimiser,
        "upper_level_opt": torch.optim.SGD(upper.parameters(), lr=1.0),
        "lower_iters": steps,
        "device": "cpu",
        "loss_log_path": str(LOG),
        "accumulate_grad": False,
        "return_grad": True,
        "copy_last_param": False,
        "GDA": {"alpha_init": 0.0, "alpha_decay": 1.0},
        "RGT": {"truncate_iter": truncate},
        "CG": {"tolerance": solver[0], "k": solver[1]},
        "FD": {"r": radius},
    }
    losses = {
        "lower_level_loss": {"function": f"{__name__}.lower_loss"},
        "upper_level_loss": {"function": f"{__name__}.upper_loss"},
    }
    boat = Problem(config, losses)
    boat.build_ll_solver()
    boat.build_ul_solver()
    return boat


def once(problem, na_op, *, theta=None, steps=None, **settings):
    """The upper gradient of a new `Problem`'s first iteration, which starts at `theta` or at θ⁰."""
    upper = Values((problem.lam,))
    lower = Values(problem.split(problem.theta0 if theta is None else theta))
    boat = build(problem, upper, lower, na_op, steps or problem.steps, **settings)
    feed = {"problem": problem}
    (gradient,), _ = boat.run_iter(feed, feed, 0)
    return gradient.detach().clone()


RUN = ("direct", "momentum", "weight_decay")


@target("unrolled", *RUN)
def rad(problem):
    """Reverse differentiation of the whole run."""
    return once(problem, ["RAD"])


KEPT = {}
"""The `Problem` and its two modules of each entry, by the entry's name, for `rad_kept`."""


@target("unrolled", "direct")
def rad_kept(problem):
    """RAD with one `Problem` for all calls, as in an outer loop: shows what BOAT keeps between calls."""
    if problem.name not in KEPT:
        upper, lower = Values((problem.lam,)), Values(problem.split(problem.theta0))
        KEPT[problem.name] = build(problem, upper, lower, ["RAD"], problem.steps), upper, lower
    boat, upper, lower = KEPT[problem.name]
    with torch.no_grad():
        upper.parts[0].copy_(problem.lam)
        for part, value in zip(lower.parts, problem.split(problem.theta0), strict=True):
            part.copy_(value)
    feed = {"problem": problem}
    (gradient,), _ = boat.run_iter(feed, feed, 0)
    return gradient.detach().clone()


@target("unrolled", "direct")
def rgt(problem):
    """Reverse gradient truncation: the first half of the steps is not differentiated."""
    return once(problem, ["RAD", "RGT"], truncate=problem.steps // 2)


@target("unrolled", "direct")
def ptt(problem):
    """Pessimistic trajectory truncation: the hypergradient of the iterate with the largest upper loss."""
    return once(problem, ["RAD", "PTT"])


@target("unrolled", "direct", tolerance=1e-5)
def fd(problem):
    """Differences of the lower gradient, as in DARTS, around θ⁰."""
    return once(problem, ["FD"])


@target("implicit", "direct", tolerance=1e-5)
def fd_implicit(problem):
    """`fd` started at the inner solution."""
    return once(problem, ["FD"], theta=solution(problem), steps=1)


IMPLICIT = ("direct", "momentum", "weight_decay")


@target("implicit", *IMPLICIT)
def cg(problem):
    """Conjugate gradients at the inner solution, iterated until they have converged."""
    size = problem.theta0.numel()
    return once(problem, ["CG"], theta=solution(problem), steps=1, solver=(1e-12, 2 * size))


@target("implicit", *IMPLICIT, terms=6)
def ns(problem):
    """The Neumann series at the inner solution, with `problem.terms` terms."""
    solver = (0.0, problem.terms)
    return once(problem, ["NS"], theta=solution(problem), steps=1, solver=solver)


@target("implicit", *IMPLICIT)
def ns_converged(problem):
    """The Neumann series at the inner solution, with 4000 terms."""
    return once(problem, ["NS"], theta=solution(problem), steps=1, solver=(0.0, 4000))


@target("implicit", *IMPLICIT)
def iga(problem):
    """Implicit gradient approximation after the lower steps from θ⁰."""
    return once(problem, ["IGA"], steps=problem.steps)


def through_start(problem, na_op):
    """BOAT's gradient by θ⁰, multiplied by dθ⁰/dλ."""
    start = problem.split(problem.theta0)
    upper, lower = Values(start), Values(start)
    boat = build(problem, upper, lower, na_op, problem.steps)
    feed = {"problem": problem, "lam": problem.lam}
    gradients, _ = boat.run_iter(feed, feed, 0)
    lam = problem.lam.clone().requires_grad_()
    along = problem.join(tuple(gradients)).detach()
    return torch.autograd.grad(problem.initial(lam), lam, along)[0]


@target("unrolled", "initial")
def iad(problem):
    """Differentiation by θ⁰; right only for the entry in which λ acts through θ⁰ alone."""
    return through_start(problem, ["IAD"])


@target("unrolled", "initial")
def foa(problem):
    """`iad` without second derivatives (first-order approximation)."""
    return through_start(problem, ["IAD", "FOA"])
