"""A name or a choice that is none of those there are."""

from typing import Any, cast

from refblo.errors import ArgumentError, ArgumentTypeError
from refblo.estimators import RMD, IFTNeumann
from refblo.estimators.closed_form_head import ClosedFormHead
from refblo.estimators.compiled import Compiled
from refblo.estimators.evolution import EvolutionStrategies
from refblo.estimators.random_tangents import RandomTangents
from refblo.kernel import trace
from refblo.problems.vit_b_16 import vit_problem
from tests.bad_input.case import LAM, RULE, SCHEDULE, Case


def choice(value: object) -> Any:
    """Whatever a caller who runs no type checker may pass for a choice."""
    return cast("Any", value)


def choice_cases() -> dict[str, Case]:
    """Misspelt names, names of another type, and strings where a member of an enum is asked for."""
    method = RMD(RULE, SCHEDULE)
    one, got = "choose one", "got 'eagre'"
    wrong = choice("eagre")
    return {
        "an unknown backend": Case(
            lambda: Compiled(method, backend=wrong),
            ArgumentError,
            "backend",
            "be one of 'inductor', 'eager'",
            got,
            one,
        ),
        "a backend that is no name": Case(
            lambda: Compiled(method, backend=choice(None)),
            ArgumentTypeError,
            "backend",
            "be one of 'inductor', 'eager'",
            "got None",
            one,
        ),
        "an unknown backend of a kernel": Case(
            lambda: trace(lambda x: (x + 1,), (LAM,), wrong),
            ArgumentError,
            "backend",
            "be one of 'inductor', 'eager'",
            got,
            one,
        ),
        "an unknown attention": Case(
            lambda: vit_problem(attention=wrong),
            ArgumentError,
            "attention",
            "be one of 'fused', 'plain'",
            got,
            one,
        ),
        "a variant by its name": Case(
            lambda: EvolutionStrategies(RULE, SCHEDULE, 0.1, 4, wrong),
            ArgumentTypeError,
            "variant",
            "be one of Variant.",
            got,
            one,
        ),
        "a law by its name": Case(
            lambda: RandomTangents(RULE, SCHEDULE, 2, wrong),
            ArgumentTypeError,
            "law",
            "be one of Law.",
            got,
            one,
        ),
        "a scaling by its name": Case(
            lambda: IFTNeumann(RULE, 3, 0.1, 2, wrong),
            ArgumentTypeError,
            "scaling",
            "be one of NeumannScaling.",
            got,
            one,
        ),
        "a direction by its name": Case(
            lambda: ClosedFormHead(wrong),
            ArgumentTypeError,
            "direction",
            "be one of Direction.",
            got,
            one,
        ),
    }
