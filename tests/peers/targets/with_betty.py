"""Betty: an engine that runs problems and fills in the upper problem's gradient."""

import logging

import torch
from betty.configs import Config, EngineConfig
from betty.engine import Engine
from betty.optim import patch_optimizer
from betty.problems import ImplicitProblem, IterativeProblem
from solving import solution, target

logging.disable(logging.INFO)


class Values(torch.nn.Module):
    """A few tensors as a module's parameters."""

    def __init__(self, parts):
        super().__init__()
        self.parts = torch.nn.ParameterList(part.detach().clone() for part in parts)


def loader(count=1):
    return [(torch.zeros(1, dtype=torch.float64),)] * count


def run(problem, lower_config, theta, steps, lower_class=ImplicitProblem, rule=None):
    """The upper gradient after so many lower steps from θ."""

    class Upper(ImplicitProblem):
        def training_step(self, batch):
            return problem.outer(self.module.parts[0], self.lower.now(), None)

        def grad_callback(self):
            self.seen = self.module.parts[0].grad.detach().clone()

    class Lower(lower_class):
        def training_step(self, batch):
            return problem.inner(self.upper.module.parts[0], self.now(), None)

        def now(self):
            return problem.join(tuple(self.trainable_parameters()))

    upper, lower = Values((problem.lam,)), Values(problem.split(theta))
    iterative = lower_class is not ImplicitProblem
    rule = rule or (
        lambda p: torch.optim.SGD(
            p,
            lr=problem.step_size,
            momentum=problem.momentum,
            weight_decay=problem.weight_decay,
        )
    )
    top = Upper(
        name="upper",
        config=Config(first_order=not iterative, retain_graph=True),
        module=upper,
        optimizer=torch.optim.SGD(upper.parameters(), lr=1.0),
        train_data_loader=loader(),
    )
    below = Lower(
        name="lower",
        config=lower_config,
        module=lower,
        optimizer=rule(lower.parameters()),
        train_data_loader=loader(),
    )
    if iterative:
        below._fp16 = False
    dependencies = {"u2l": {top: [below]}, "l2u": {below: [top]}}
    engine = Engine(
        config=EngineConfig(train_iters=steps, logger_type="none"),
        problems=[top, below],
        dependencies=dependencies,
    )
    engine.run()
    return top.seen


DECAYS = ("direct", "weight_decay", "momentum")


@target("implicit", *DECAYS)
def cg(problem):
    """As many iterations as there are parameters: what CG needs at most."""
    config = Config(type="cg", cg_iterations=problem.theta0.numel(), cg_alpha=1.0)
    return run(problem, config, solution(problem), 1)


@target("implicit", *DECAYS)
def cg_scaled(problem):
    """The same with a step scale that is not 1, as it is documented for ill-conditioned problems."""
    size = problem.theta0.numel()
    config = Config(type="cg", cg_iterations=size, cg_alpha=problem.step_size)
    return run(problem, config, solution(problem), 1)


@target("implicit", *DECAYS, terms=6)
def neumann(problem):
    config = Config(
        type="neumann", neumann_iterations=problem.terms, neumann_alpha=problem.step_size
    )
    return run(problem, config, solution(problem), 1)


@target("implicit", *DECAYS)
def neumann_converged(problem):
    config = Config(type="neumann", neumann_iterations=4000, neumann_alpha=problem.step_size)
    return run(problem, config, solution(problem), 1)


@target("implicit", *DECAYS, tolerance=1e-5)
def darts(problem):
    return run(problem, Config(type="darts", darts_alpha=1e-3), solution(problem), 1)


@target("implicit", *DECAYS, tolerance=1e-5)
def sama(problem):
    return run(problem, Config(type="sama", sama_adam_alpha=1e-3), solution(problem), 1)


@target("implicit", *DECAYS)
def reinforce(problem):
    return run(problem, Config(type="reinforce"), solution(problem), 1)


@target("unrolled", "direct", "momentum", "weight_decay")
def iterative(problem):
    """IterativeProblem, the attribute `_fp16` that it reads and nobody sets being set here."""
    config = Config(unroll_steps=problem.steps, first_order=False, retain_graph=True)
    return run(problem, config, problem.theta0, problem.steps, IterativeProblem)


def optimiser_by(problem, make):
    """The differentiable optimisers by themselves, begun as `IterativeProblem.initialize` begins them."""
    lam = problem.lam.clone().requires_grad_()
    module = Values(problem.split(problem.theta0))
    original = make(module.parameters())
    for part in module.parameters():
        part.grad = torch.zeros_like(part)
    original.step()
    optimiser = patch_optimizer(original, module)
    parts = tuple(part.detach().clone().requires_grad_() for part in module.parameters())
    for t in range(problem.steps):
        loss = problem.inner(lam, problem.join(parts), problem.inner_batch(t))
        for part, gradient in zip(
            parts, torch.autograd.grad(loss, parts, create_graph=True), strict=True
        ):
            part.grad = gradient
        parts = optimiser.step(parts)
    loss = problem.outer(lam, problem.join(parts), problem.outer_batch(problem.steps))
    return torch.autograd.grad(loss, lam)[0]


@target("unrolled", "direct", "minibatches", "momentum", "weight_decay")
def differentiable_sgd(problem):
    return optimiser_by(
        problem,
        lambda p: torch.optim.SGD(
            p,
            lr=problem.step_size,
            momentum=problem.momentum,
            weight_decay=problem.weight_decay,
        ),
    )


def adam_settings(problem):
    return {"lr": problem.step_size, "betas": problem.betas, "eps": problem.adam_epsilon}


@target("unrolled", "direct", "adam")
def differentiable_adam(problem):
    return optimiser_by(problem, lambda p: torch.optim.Adam(p, **adam_settings(problem)))


@target("unrolled", "direct", "adam")
def differentiable_adamw(problem):
    """AdamW without decay is Adam."""
    settings = {**adam_settings(problem), "weight_decay": 0.0}
    return optimiser_by(problem, lambda p: torch.optim.AdamW(p, **settings))
