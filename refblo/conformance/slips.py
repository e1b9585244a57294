"""Slips in a call's arguments that a wrong verdict or a truth of zero may come from: findings of a report."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from refblo.conformance.arguments import Loss, Start, needs_batch
from refblo.conformance.truth.program import Program, leaf
from refblo.ravel import Tree
from refblo.types import Estimand


def slips(
    inner: Loss | None,
    outer: Loss,
    lam: Tree,
    theta0: Start,
    estimand: Estimand,
    given: Mapping[str, object],
    program: Program,
) -> Iterator[str]:
    """One sentence for each slip.

    Args:
        inner: the caller's inner loss; None beside a step.
        outer: the caller's outer loss.
        lam: the caller's λ.
        theta0: the caller's start.
        estimand: what is asked for.
        given: the options.
        program: what they make.
    """
    if "steps" not in given and estimand in (Estimand.UNROLLED, Estimand.PATHWISE):
        yield "finding: steps was not given: the run that it was judged by has one step"
    for name, loss in (("inner", inner), ("outer", outer)):
        if f"{name}_batches" not in given and loss is not None and needs_batch(loss):
            yield f"finding: {name} takes a batch and no {name}_batches were given: it was called with None"
    if not callable(theta0):
        yield from _of_the_start(lam, theta0)
    for name in _without_theta(program):
        yield (
            f"finding: {name} does not depend on theta; if it calls a module, give the module theta: "
            "torch.func.functional_call(module, theta, (x,))"
        )


def _of_the_start(lam: Tree, theta0: Tree) -> Iterator[str]:
    outer_parts = {id(part) for _, part in _named(lam, "lam")}
    seen: dict[int, str] = {}
    for name, part in _named(theta0, "theta0"):
        if id(part) in outer_parts:
            yield (
                f"finding: {name} is the same tensor as lam, and was taken for a constant; if the run starts "
                "from lam, give a function: theta0=lambda lam: lam"
            )
        elif id(part) in seen:
            yield (
                f"finding: {seen[id(part)]} and {name} are the same tensor, and were taken for two that the "
                "run changes separately; if they are tied, give one of them"
            )
        seen.setdefault(id(part), name)


def _named(tree: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a tree, by the expression that reaches them."""
    if isinstance(tree, Tensor):
        yield name, tree
    elif isinstance(tree, Mapping):
        for key, part in tree.items():
            yield from _named(part, f"{name}[{key!r}]")
    elif isinstance(tree, tuple | list):
        for index, part in enumerate(tree):
            yield from _named(part, f"{name}[{index}]")


def _without_theta(program: Program) -> Iterator[str]:
    """Which of the two losses autograd finds independent of θ."""
    lam, steps = program.lam, program.schedule.steps
    losses = program.losses
    if losses is not None:
        theta = leaf(program.start(leaf(lam)).detach()[: program.size])
        if not _reaches(lambda: losses.inner(leaf(lam), theta, losses.frozen.inner(0)), theta):
            yield "inner"
    state = leaf(program.start(leaf(lam)).detach())
    if not _reaches(lambda: program.outer(leaf(lam), state, steps), state):
        yield "outer"


def _reaches(value: Callable[[], Tensor], theta: Tensor) -> bool:
    """Whether a value depends on θ; True where that cannot be told."""
    try:
        with torch.enable_grad():
            found = value()
            if not found.requires_grad:
                return False
            return torch.autograd.grad(found, theta, allow_unused=True)[0] is not None
    except Exception:  # of the caller's functions, which the oracles have answered for
        return True
