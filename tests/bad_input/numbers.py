"""Numbers out of their range or of a wrong type."""

from collections.abc import Callable
from typing import cast

from refblo.chain import Langevin, Schedule
from refblo.errors import (
    ArgumentError,
    ArgumentTypeError,
)
from refblo.estimators import (
    FMD,
    RMD,
    IFTConjugateGradient,
    IFTDense,
    IFTNeumann,
)
from refblo.noise import Draws
from refblo.problem import (
    Minibatches,
    UniformBatches,
)
from tests.bad_input.case import INF, LAM, NAN, RULE, SCHEDULE, Case


def number(value: object) -> float:
    """Whatever a caller who runs no type checker may pass for a number."""
    return cast("float", value)


def integer(value: object) -> int:
    """Whatever a caller who runs no type checker may pass for an integer."""
    return cast("int", value)


def range_cases() -> dict[str, Case]:
    """Numbers out of their range: ε, τ, κ, B, M, T and the methods' own."""
    cases: dict[str, Case] = {}

    def add(
        name: str, build: Callable[[float], object], values: list[float], must: str, remedy: str
    ) -> None:
        for value in values:
            cases[f"{name} = {value}"] = Case(
                lambda build=build, value=value: build(value),  # type: ignore[misc]  # bound early
                ArgumentError,
                name,
                must,
                f"got {value}",
                remedy,
            )

    above = [0.0, -1.0, NAN, INF]
    positive = "be positive and finite"
    add("epsilon", Langevin.from_epsilon, above, positive, "choose a positive")
    add("temperature", lambda v: Langevin(0.1, v), above, positive, "choose a positive")
    add("step_size", Langevin, above, positive, "choose a positive")
    add(
        "noise_scale",
        lambda v: Langevin(0.1, 1.0, v),
        [-0.5, NAN, INF],
        "be non-negative and finite",
        "use 0 for gradient descent",
    )
    add("burn_in", lambda v: Schedule(integer(v), 1), [-1], "be at least 0", "use 0")
    add("samples", lambda v: Schedule(1, integer(v)), [0, -2], "be at least 1", "use 1")
    add("steps", lambda v: Schedule.last(integer(v)), [0, -1], "be at least 1", "one inner step")
    add("steps", lambda v: IFTDense(RULE, integer(v)), [0], "be at least 1", "one inner step")
    add("scale", lambda v: IFTNeumann(RULE, 1, v, 2), above, positive, "2 / (largest eigenvalue")
    add("terms", lambda v: IFTNeumann(RULE, 1, 0.1, integer(v)), [0], "be at least 1", "keep")
    add(
        "iterations",
        lambda v: IFTConjugateGradient(RULE, 1, integer(v)),
        [0],
        "be at least 1",
        "allow at least one",
    )
    damped = "be non-negative and finite"
    add("damping", lambda v: IFTConjugateGradient(RULE, 1, 2, v), [-0.1, NAN], damped, "use 0")
    add(
        "tolerance",
        lambda v: IFTConjugateGradient(RULE, 1, 2, 0.0, v),
        [-0.1, INF],
        damped,
        "use 0",
    )
    add("block", lambda v: FMD(RULE, SCHEDULE, integer(v)), [0], "be at least 1", "one column")
    add(
        "last_transitions",
        lambda v: RMD(RULE, SCHEDULE, last_transitions=integer(v)),
        [0],
        "be at least 1",
        "use RMDFirstOrder",
    )
    add(
        "graph_bytes",
        lambda v: RMD(RULE, SCHEDULE, graph_bytes=integer(v)),
        [-1],
        "be at least 0",
        "use 0",
    )
    add("size", lambda v: Minibatches(10, integer(v)), [0], "be at least 1", "choose a batch size")
    add("size", lambda v: Minibatches(10, integer(v)), [11], "be at most", "choose a smaller")
    add(
        "population",
        lambda v: Minibatches(integer(v), 1),
        [0],
        "be at least 1",
        "give at least one row",
    )
    add("count", lambda v: UniformBatches(integer(v), 0, 1), [0], "be at least 1", "draw at least")
    add("high", lambda v: UniformBatches(1, 0.0, v), [0.0, NAN, INF], "exceed low", "low < high")
    add("seed", lambda v: Draws(integer(v)), [-1], "be at least 0", "choose an integer")
    add("seed", lambda v: Draws(integer(v)), [2**63], "be below 2^63", "choose a smaller")
    return cases


def type_cases() -> dict[str, Case]:
    """Arguments of a wrong type."""

    def real(argument: str, mistake: Callable[[], object], got: str) -> Case:
        return Case(mistake, ArgumentTypeError, argument, "be a real number", got, "choose")

    def whole(argument: str, mistake: Callable[[], object], got: str, remedy: str) -> Case:
        return Case(mistake, ArgumentTypeError, argument, "be an integer", got, remedy)

    return {
        "a word for ε": real("epsilon", lambda: Langevin.from_epsilon(number("0.1")), "got '0.1'"),
        "a tensor for γ": real("step_size", lambda: Langevin(number(LAM[0])), "got tensor(0.5"),
        "half a step": whole("steps", lambda: Schedule.last(integer(2.5)), "got 2.5", "run at"),
        "a truth value for M": whole("samples", lambda: Schedule(0, True), "got True", "use 1"),
        "half a seed": whole("seed", lambda: Draws(integer(0.5)), "got 0.5", "choose an integer"),
    }
