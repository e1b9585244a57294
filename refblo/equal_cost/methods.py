"""The table of methods: what `refblo compare` runs, what `refblo cost` counts, what docs/methods.md lists."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from refblo.chain import Langevin, Schedule
from refblo.estimators import (
    FMD,
    HPOSGLD,
    RMD,
    T1T2,
    AmIGO,
    ClosedFormHead,
    DiscountedHPOSGLD,
    Estimator,
    EvolutionStrategies,
    IFTConjugateGradient,
    IFTDense,
    IFTNeumann,
    RandomTangents,
    RMDFirstOrder,
    RunningSolve,
    StocBiO,
)

Make = Callable[[float, int], Estimator]
"""Builds a method from γ and a number T of inner steps."""


@final
@dataclass(frozen=True)
class Method:
    """A method of the comparison.

    Attributes:
        name: in the table.
        make: builds it.
        setting: how its other settings follow from γ and T.
        dense: whether it holds n × n or n × p numbers, and is left out where these are many.
        any_start: whether it can do with a θ⁰ that depends on λ.
    """

    name: str
    make: Make
    setting: str
    dense: bool = False
    any_start: bool = False

    @property
    def slug(self) -> str:
        """The name on a command line: lower case, without spaces."""
        return self.name.lower().replace(", ", "-").replace(" ", "-").replace("–", "-")


def share(steps: int) -> int:
    """Terms of a solve that goes with T inner steps: an equal share of the cost, up to rounding."""
    return max(1, steps // 2)


def _last(steps: int) -> Schedule:
    return Schedule.last(steps)


METHODS = (
    Method("HPO-SGLD", lambda g, t: HPOSGLD(Langevin(g), _last(t)), "M = 1", any_start=True),
    Method(
        "HPO-SGLD, averaged",
        lambda g, t: HPOSGLD(Langevin(g), Schedule(t // 2, t - t // 2)),
        "B = M = T/2",
        any_start=True,
    ),
    Method(
        "HPO-SGLD, discounted",
        lambda g, t: DiscountedHPOSGLD(Langevin(g), _last(t)),
        "ħ measured at θ⁰",
    ),
    Method("running solve", lambda g, t: RunningSolve(Langevin(g), _last(t)), "α = γ"),
    Method("RMD", lambda g, t: RMD(Langevin(g), _last(t)), "all T transitions", any_start=True),
    Method(
        "RMD, truncated",
        lambda g, t: RMD(Langevin(g), _last(t), last_transitions=share(t)),
        "T/2 transitions",
        any_start=True,
    ),
    Method("RMD-FO", lambda g, t: RMDFirstOrder(Langevin(g), _last(t)), "", any_start=True),
    Method("FMD", lambda g, t: FMD(Langevin(g), _last(t)), "", dense=True, any_start=True),
    Method(
        "random tangents",
        lambda g, t: RandomTangents(Langevin(g), _last(t), 2),
        "2 directions",
        any_start=True,
    ),
    Method(
        "ES, antithetic",
        lambda g, t: EvolutionStrategies(Langevin(g), _last(t), 1e-3, 8),
        "σ = 0.001, 8 pairs",
        any_start=True,
    ),
    Method("T1–T2", lambda g, t: T1T2(Langevin(g), t), "one transition"),
    Method("IFT-Neumann", lambda g, t: IFTNeumann(Langevin(g), t, g, share(t)), "α = γ, T/2 terms"),
    Method("IFT-CG", lambda g, t: IFTConjugateGradient(Langevin(g), t, share(t)), "T/2 iterations"),
    Method("IFT-dense", lambda g, t: IFTDense(Langevin(g), t), "LU", dense=True),
    Method("AmIGO-SGD", lambda g, t: AmIGO(Langevin(g), t, share(t), g), "α = γ, T/2 steps, cold"),
    Method("stocBiO", lambda g, t: StocBiO(g, g, share(t), t), "α = γ, T/2 terms"),
    Method("closed-form head", lambda _, __: ClosedFormHead(), "one Newton step", dense=True),
)
"""Every method that is compared. A new one adds its line here."""

VARIANTS: dict[str, Make] = {
    "rmd-stored": lambda g, t: RMD(Langevin(g), _last(t), graph_bytes=0),
    "rmd-checkpointed": lambda g, t: RMD(Langevin(g), _last(t), checkpointed=True, graph_bytes=0),
    "fmd-columns": lambda g, t: FMD(Langevin(g), _last(t), block=1),
}
"""Slug → a method of the table with the same answer at another cost: `refblo cost` counts it."""

BY_SLUG: dict[str, Make] = {method.slug: method.make for method in METHODS} | VARIANTS
"""Every method by its name on a command line."""
