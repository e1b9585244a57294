"""Mistakes that a caller can make, and the parts of the error text that each must give.

The test suite checks shapes and types at run time, so there a bad argument is refused before refblo's own
check sees it. The cases are therefore run by `python -m tests.bad_input` in a process without
that, which is what a user has; it prints what each of them raised, as JSON.
"""

import json
from collections.abc import Callable

import torch

from refblo.estimators import (
    FMD,
    HPOSGLD,
    RMD,
    IFTConjugateGradient,
    IFTDense,
    IFTNeumann,
    RMDFirstOrder,
)
from tests.bad_input.case import GOOD, RULE, SCHEDULE
from tests.bad_input.choices import choice_cases
from tests.bad_input.losses import loss_cases
from tests.bad_input.numbers import range_cases, type_cases
from tests.bad_input.parts import part_cases
from tests.bad_input.rules import rule_cases
from tests.bad_input.vectors import vector_cases

CASES = {
    **range_cases(),
    **type_cases(),
    **vector_cases(),
    **loss_cases(),
    **part_cases(),
    **choice_cases(),
    **rule_cases(),
}

EVERY_METHOD = (
    FMD(RULE, SCHEDULE),
    RMD(RULE, SCHEDULE),
    RMDFirstOrder(RULE, SCHEDULE),
    HPOSGLD(RULE, SCHEDULE),
    IFTNeumann(RULE, 3, 0.1, 2),
    IFTConjugateGradient(RULE, 3, 2),
    IFTDense(RULE, 3),
)


def what_happens(mistake: Callable[[], object]) -> tuple[str, str]:
    """The type and the text of the exception that a mistake raises, or two empty strings."""
    try:
        mistake()
    except Exception as error:
        return type(error).__name__, str(error)
    return "", ""


def main() -> None:
    """Print what each case raises, and what each method says to a λ of integers."""
    found = {name: what_happens(case.mistake) for name, case in CASES.items()}
    for method in EVERY_METHOD:
        integers = torch.ones(2, dtype=torch.int64)
        found[method.name] = what_happens(
            lambda method=method, lam=integers: method.estimate(GOOD, lam)  # type: ignore[misc]  # bound early
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
