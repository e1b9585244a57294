"""Rules with a number out of range, or that a method cannot run, and optimisers that no rule describes."""

from typing import Any, cast

import torch
from torch import nn

from refblo.conformance import hypergradient_report
from refblo.errors import ArgumentError, ArgumentTypeError, LossError, RefbloError
from refblo.estimators import FMD, HPOSGLD, RMD
from refblo.rules import SGD, Adam, AdamW, RMSprop, Rule, rule_of, schedules
from tests.bad_input.case import GOOD, INF, LAM, NAN, SCHEDULE, Case, vector

WAYS = ("write its transition as step=", "objective=")


def range_of(argument: str, must: str, got: str, remedy: str, **numbers: Any) -> Case:
    """A rule whose number is out of range."""
    return Case(
        lambda: Rule(**({"step_size": 0.1} | numbers)), ArgumentError, argument, must, got, remedy
    )


def checked(rule: Any, error: type[RefbloError], *parts: str) -> Case:
    """A check of a run under a rule."""
    tree = {"a": vector(0.5), "b": vector(-0.5)}
    return Case(
        lambda: hypergradient_report(
            lambda lam, theta: (theta["w"] - lam["a"]).square().sum() + theta["b"].square().sum(),
            lambda lam, theta: theta["w"].sum() * lam["b"].sum(),
            tree,
            {"w": vector(1.0, 2.0), "b": vector(0.5)},
            tree,
            rule=rule,
            steps=3,
        ),
        error,
        *parts,
    )


def ranges() -> dict[str, Case]:
    """Every number of a rule."""
    inside = "lie in [0, 1)"
    return {
        "a rule's step size of zero": range_of(
            "step_size", "be positive and finite", "got 0", "choose a positive number", step_size=0
        ),
        "a rule's step size that is no number": Case(
            lambda: Rule(NAN), ArgumentError, "step_size", "positive", "nan", "function of lam"
        ),
        "a momentum of one": range_of(
            "momentum", inside, "got 1.0", "use 0 for none", momentum=1.0
        ),
        "a beta of one": range_of(
            "betas", inside, "got 1.0", "give numbers in [0, 1)", betas=(0.9, 1.0)
        ),
        "one beta": range_of(
            "betas", "be two numbers", "got (0.9,)", "give (0.9, 0.999)", betas=(0.9,)
        ),
        "a negative decay": range_of(
            "weight_decay", "be non-negative", "got -0.1", "use 0 for none", weight_decay=-0.1
        ),
        "RMSprop's decay of one": range_of(
            "square_decay", inside, "got 1.0", "give 0.99", square_decay=1.0
        ),
        "an infinite ε": range_of(
            "adam_epsilon", "finite", "got inf", "choose a small number", adam_epsilon=INF
        ),
        "a negative ε under the root": range_of(
            "root_epsilon", "non-negative", "-1e-08", "small number", root_epsilon=-1e-8
        ),
        "clipping at zero": range_of(
            "clip_norm", "be positive", "got 0", "or None for none", clip_norm=0
        ),
        "clipping at a negative value": range_of(
            "clip_value", "be positive", "got -1", "or None for none", clip_value=-1.0
        ),
        "a negative addition to the norm": range_of(
            "clip_norm_epsilon", "non-negative", "-1", "1e-6 or 0", clip_norm_epsilon=-1.0
        ),
        "two rules at once": range_of(
            "square_decay",
            "be None beside betas",
            "got 0.9",
            "not both",
            betas=(0.9, 0.99),
            square_decay=0.9,
        ),
        "momentum beside Adam": range_of(
            "momentum", "be 0 beside Adam", "got 0.5", "betas[0]", betas=(0.9, 0.99), momentum=0.5
        ),
        "Nesterov's RMSprop": range_of(
            "nesterov",
            "be False beside RMSprop",
            "got True",
            "write your own step",
            square_decay=0.9,
            momentum=0.5,
            nesterov=True,
        ),
        "Nesterov without momentum": range_of(
            "nesterov", "be used with a momentum", "got 0.0", "give momentum", nesterov=True
        ),
        "decoupled decay without decay": range_of(
            "decoupled_decay",
            "be used with a weight_decay",
            "got 0.0",
            "give one",
            decoupled_decay=True,
        ),
        "no ε at all": range_of(
            "adam_epsilon and root_epsilon",
            "not both be 0",
            "got 0",
            "give one of them",
            betas=(0.9, 0.99),
            adam_epsilon=0.0,
        ),
        "noise beside a step size of λ": range_of(
            "noise_scale",
            "be 0 beside a step_size that is a function",
            "got 1.0",
            "as noise",
            step_size=lambda lam: lam[0],
            noise_scale=1.0,
        ),
        "a number that is a word": Case(
            lambda: Rule(cast("Any", "fast")),
            ArgumentTypeError,
            "step_size",
            "real number",
            "'fast'",
            "lam",
        ),
        "a switch that is a number": Case(
            lambda: Rule(0.1, 0.5, nesterov=1),  # type: ignore[arg-type]  # on purpose
            ArgumentTypeError,
            "nesterov",
            "be True or False",
            "got 1",
            "give one of them",
        ),
        "a function of three arguments": range_of(
            "momentum",
            "be a function (lam) or (lam, t)",
            "needs 3",
            "give it these parameters",
            momentum=lambda lam, t, more: 0.5,
        ),
        "a schedule of no steps": Case(
            lambda: schedules.cosine(0.1, 0),
            ArgumentError,
            "steps",
            "at least 1",
            "got 0",
            "give the number of steps",
        ),
        "a schedule with a negative end": Case(
            lambda: schedules.linear(0.1, -0.1, 3),
            ArgumentError,
            "end",
            "be non-negative",
            "got -0.1",
            "not negative",
        ),
    }


def of_lam() -> dict[str, Case]:
    """Functions of λ that return what is no such number."""
    low = "be at least 0 and finite"
    return {
        "a step size that turns negative": checked(
            SGD(lambda _, t: 0.1 - 0.06 * t),
            ArgumentError,
            "step_size(lam) at step 2",
            low,
            "got -0.0",
            "choose another lam",
        ),
        "a momentum above one": checked(
            SGD(0.1, lambda lam: 3 * lam["a"]),
            ArgumentError,
            "momentum(lam) at step 0",
            "below 1",
            "got 1.5",
            "choose another lam",
        ),
        "a beta of λ above one": checked(
            Adam(0.1, (lambda lam: 3 * lam["a"], 0.9)),
            ArgumentError,
            "betas[0](lam) at step 0",
            "below 1",
            "got 1.5",
            "choose another lam",
        ),
        "a number that is None": checked(
            SGD(lambda _: None),
            ArgumentTypeError,
            "step_size(lam) at step 0",
            "return a number",
            "got NoneType",
            "check what the function returns",
        ),
        "a number that is integers": checked(
            SGD(lambda _: torch.tensor(1)),
            ArgumentTypeError,
            "step_size(lam) at step 0",
            "return a number",
            "int64",
            "check what the function returns",
        ),
        "a number for some tensors": checked(
            SGD(lambda lam: {"w": lam["a"]}),
            ArgumentError,
            "rule.step_size",
            "for each tensor of theta",
            'got ["w"]',
            "return one number or tensor for each",
        ),
        "a number of another shape": checked(
            SGD(lambda lam: {"w": vector(1.0, 1.0, 1.0), "b": lam["a"]}),
            ArgumentError,
            "rule.step_size",
            "for each tensor of theta",
            "shape (3,)",
            "give it the shape of theta",
        ),
        "a key that λ does not have": checked(
            SGD(lambda lam: lam["lr"]),
            LossError,
            "rule.step_size",
            "can be called",
            "KeyError",
            "call it alone",
        ),
        "a vector of another length for an estimator": Case(
            lambda: RMD(SGD(lambda _: vector(0.1, 0.1)), SCHEDULE).estimate(GOOD, LAM),
            ArgumentError,
            "step_size(lam) at step 0",
            "one for each entry of theta",
            "shape (2,)",
            "check what the function returns",
        ),
        "no λ for a function of it": Case(
            lambda: SGD(lambda lam: lam[0]).advance(LAM, LAM, 0, None),
            ArgumentError,
            "lam",
            "be given",
            "got None",
            "give the λ",
        ),
    }


def optimisers() -> dict[str, Case]:
    """Optimisers that no rule describes, and methods that a rule is not for."""
    parameters = [nn.Parameter(torch.zeros(2))]
    described = "be an optimiser that a rule describes (SGD, Adam, AdamW, RMSprop)"
    stepped = torch.optim.SGD(parameters, lr=0.1, momentum=0.5)
    parameters[0].grad = torch.ones(2)
    stepped.step()
    scheduled = torch.optim.SGD(parameters, lr=0.1)
    torch.optim.lr_scheduler.StepLR(scheduled, 3)
    groups: list[dict[str, Any]] = [
        {"params": parameters},
        {"params": [nn.Parameter(torch.zeros(1))], "lr": 0.2},
    ]
    return {
        "an optimiser without a rule": checked(
            torch.optim.Adagrad(parameters), ArgumentError, "rule", described, "Adagrad", WAYS[0]
        ),
        "an optimiser without a rule: the black box": checked(
            torch.optim.LBFGS(parameters), ArgumentError, "rule", described, "LBFGS", WAYS[1]
        ),
        "an option without a rule": checked(
            torch.optim.Adam(parameters, amsgrad=True),
            ArgumentError,
            "rule",
            "be Adam without amsgrad",
            "got amsgrad=True",
            WAYS[0],
        ),
        "an optimiser that has stepped": checked(
            stepped,
            ArgumentError,
            "rule",
            "not stepped yet",
            "buffers of earlier",
            "make a new one",
        ),
        "groups that differ": checked(
            torch.optim.SGD(groups, lr=0.1),
            ArgumentError,
            "rule",
            "have the same numbers for all parameters",
            "2 different groups",
            "refblo.rules.SGD(lr=lambda lam: ...)",
        ),
        "an optimiser with a scheduler": checked(
            scheduled,
            ArgumentError,
            "rule",
            "with constant numbers",
            "SGD with a scheduler",
            "refblo.rules.SGD(lr=refblo.rules.schedules.cosine(...))",
        ),
        "a learning rate with a graph": checked(
            torch.optim.SGD(parameters, lr=torch.tensor(0.1, requires_grad=True)),
            ArgumentError,
            "rule",
            "with constant numbers",
            "SGD with a lr that requires a gradient",
            "refblo.rules.SGD(lr=lambda lam: ...)",
        ),
        "the class of an optimiser": checked(
            torch.optim.Adam,
            ArgumentTypeError,
            "rule",
            "with its numbers",
            "class Adam",
            "give one",
        ),
        "the name of an optimiser": checked(
            "adam", ArgumentTypeError, "rule", "be a Rule", "got str", WAYS[0]
        ),
        "an optimiser by itself": Case(
            lambda: rule_of(torch.optim.RMSprop(parameters, centered=True)),
            ArgumentError,
            "rule",
            "be RMSprop without centered",
            "got centered=True",
            WAYS[1],
        ),
        "HPO-SGLD under Adam": Case(
            lambda: HPOSGLD(Adam(0.1), SCHEDULE).estimate(GOOD, LAM),  # type: ignore[arg-type]  # on purpose
            ArgumentTypeError,
            "dynamics",
            "be Langevin for this method",
            "got a Rule (Adam)",
            "use RMD or FMD",
        ),
        "dynamics that are a number": Case(
            lambda: FMD(0.1, SCHEDULE).estimate(GOOD, LAM),  # type: ignore[arg-type]  # on purpose
            ArgumentTypeError,
            "dynamics",
            "be Langevin",
            "got float",
            "give Langevin(step_size)",
        ),
    }


def implicit() -> dict[str, Case]:
    """Rules that lead to no minimiser, or sample no density."""
    found = {}
    for name, estimand, rule, *parts in (
        (
            "clipping and decay for the implicit estimand",
            "implicit",
            SGD(0.1, weight_decay=0.1, clip_norm=1.0),
            "rule.weight_decay",
            "be 0 beside clipping",
            "got 0.1",
            "no minimiser",
        ),
        (
            "a decoupled decay beside RMSprop for the implicit estimand",
            "implicit",
            Rule(0.1, weight_decay=0.1, decoupled_decay=True, square_decay=0.9),
            "rule.decoupled_decay",
            "be False beside RMSprop",
            "got True",
            "no minimiser",
        ),
        (
            "a decay that changes along the run",
            "implicit",
            RMSprop(0.1, weight_decay=lambda _, t: 0.1 * t),
            "rule.weight_decay",
            "be a function of lam alone",
            "got a function of lam and the step",
            "no inner problem",
        ),
        (
            "clipping for a density",
            "gibbs",
            SGD(0.1, clip_value=1.0),
            "rule",
            "be plain Langevin dynamics",
            "got clipping",
            "another density",
        ),
        (
            "AdamW for a density",
            "gibbs",
            AdamW(0.1),
            "rule",
            "be plain Langevin dynamics",
            "got Adam",
            "another density",
        ),
    ):
        found[name] = Case(
            lambda rule=rule, estimand=estimand: hypergradient_report(  # type: ignore[misc]  # bound now
                lambda lam, theta: (theta - lam).square().sum(),
                lambda _, theta: theta.sum(),
                vector(0.5),
                vector(1.0),
                vector(1.0),
                rule=rule,
                estimand=estimand,
            ),
            ArgumentError,
            *parts,
        )
    return found


def rule_cases() -> dict[str, Case]:
    """All of them."""
    return {**ranges(), **of_lam(), **optimisers(), **implicit()}
