"""BOAT: operations put together by a configuration, run by a `Problem`."""

import tempfile
from pathlib import Path

import torch
from boat_torch.boat_opt import Problem
from solving import solution, target

LOG = Path(tempfile.mkdtemp()) / "losses.json"


class Values(torch.nn.Module):
    """A few tensors as a module's parameters."""

    def __init__(self, parts):
        super().__init__()
        self.parts = torch.nn.ParameterList(part.detach().clone() for part in parts)


def lower_loss(feed, upper, lower, params=None):
    """The inner loss, in the form that BOAT asks for."""
    problem = feed["problem"]
    theta = problem.join(tuple(lower.parameters() if params is None else params))
    lam = feed.get("lam")
    return problem.inner(next(iter(upper.parameters())) if lam is None else lam, theta, None)


def upper_loss(feed, upper, lower, params=None):
    """The outer loss, likewise."""
    problem = feed["problem"]
    theta = problem.join(tuple(lower.parameters() if params is None else params))
    lam = feed.get("lam")
    return problem.outer(next(iter(upper.parameters())) if lam is None else lam, theta, None)


def build(problem, upper, lower, na_op, steps, *, truncate=0, solver=(1e-12, 10), radius=1e-3):
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
    made = Problem(config, losses)
    made.build_ll_solver()
    made.build_ul_solver()
    return made


def once(problem, na_op, *, theta=None, steps=None, **settings):
    """A new `Problem`, one iteration, the upper gradient that it returns."""
    upper = Values((problem.lam,))
    lower = Values(problem.split(problem.theta0 if theta is None else theta))
    made = build(problem, upper, lower, na_op, steps or problem.steps, **settings)
    feed = {"problem": problem}
    (gradient,), _ = made.run_iter(feed, feed, 0)
    return gradient.detach().clone()


RUN = ("direct", "momentum", "weight_decay")


@target("unrolled", *RUN)
def rad(problem):
    """Reverse differentiation of the whole run."""
    return once(problem, ["RAD"])


KEPT = {}


@target("unrolled", "direct")
def rad_kept(problem):
    """The same `Problem` at every call, as in a loop that asks for gradients to use them itself."""
    if problem.name not in KEPT:
        upper, lower = Values((problem.lam,)), Values(problem.split(problem.theta0))
        KEPT[problem.name] = build(problem, upper, lower, ["RAD"], problem.steps), upper, lower
    made, upper, lower = KEPT[problem.name]
    with torch.no_grad():
        upper.parts[0].copy_(problem.lam)
        for part, value in zip(lower.parts, problem.split(problem.theta0), strict=True):
            part.copy_(value)
    feed = {"problem": problem}
    (gradient,), _ = made.run_iter(feed, feed, 0)
    return gradient.detach().clone()


@target("unrolled", "direct")
def rgt(problem):
    """Reverse gradient truncation: the first steps are made without being differentiated."""
    return once(problem, ["RAD", "RGT"], truncate=problem.steps // 2)


@target("unrolled", "direct")
def ptt(problem):
    """Pessimistic trajectory truncation: the iterate with the largest upper loss counts."""
    return once(problem, ["RAD", "PTT"])


@target("unrolled", "direct", tolerance=1e-5)
def fd(problem):
    """Differences of the lower gradient, after DARTS."""
    return once(problem, ["FD"])


@target("implicit", "direct", tolerance=1e-5)
def fd_implicit(problem):
    """The same at the solution."""
    return once(problem, ["FD"], theta=solution(problem), steps=1)


IMPLICIT = ("direct", "momentum", "weight_decay")


@target("implicit", *IMPLICIT)
def cg(problem):
    size = problem.theta0.numel()
    return once(problem, ["CG"], theta=solution(problem), steps=1, solver=(1e-12, 2 * size))


@target("implicit", *IMPLICIT, terms=6)
def ns(problem):
    solver = (0.0, problem.terms)
    return once(problem, ["NS"], theta=solution(problem), steps=1, solver=solver)


@target("implicit", *IMPLICIT)
def ns_converged(problem):
    return once(problem, ["NS"], theta=solution(problem), steps=1, solver=(0.0, 4000))


@target("implicit", *IMPLICIT)
def iga(problem):
    """Implicit gradient approximation, one lower step before the solution is reached."""
    return once(problem, ["IGA"], steps=problem.steps)


def through_start(problem, na_op):
    """The derivative by the initial point, carried over to λ."""
    start = problem.split(problem.theta0)
    upper, lower = Values(start), Values(start)
    made = build(problem, upper, lower, na_op, problem.steps)
    feed = {"problem": problem, "lam": problem.lam}
    gradients, _ = made.run_iter(feed, feed, 0)
    lam = problem.lam.clone().requires_grad_()
    along = problem.join(tuple(gradients)).detach()
    return torch.autograd.grad(problem.initial(lam), lam, along)[0]


@target("unrolled", "initial")
def iad(problem):
    """Differentiation by the initial point; only for the entry that λ reaches through it alone."""
    return through_start(problem, ["IAD"])


@target("unrolled", "initial")
def foa(problem):
    """The same without second derivatives."""
    return through_start(problem, ["IAD", "FOA"])
