"""Theorem 5: what forward and reverse mode cost, against the program that they differentiate."""

from collections.abc import Iterator
from fractions import Fraction

import sympy as sp

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import Check, EvidenceMethod, exact, fact, identity, number
from proofs_check.scope import ALL, Scope, by_hand
from proofs_check.statement import ClaimStatement, coefficient
from proofs_check.tools.straight_line import KINDS, Kind, Operation, evaluate, forward, reverse

_ADD_UP = by_hand("operations are executed one after another, each at its own cost: costs add up")
_INPUTS = (Fraction(2, 3), Fraction(-5, 7))


def unit_costs() -> dict[Kind, tuple[int, int, int]]:
    """What forward mode executes, what reverse mode does, and what that keeps, for one operation each."""
    found = {}
    for kind in KINDS:
        one = [Operation(kind, 0, 1)]
        back = reverse(one, _INPUTS)
        found[kind] = (forward(one, _INPUTS, _INPUTS).units, back.units, back.stored)
    return found


def _cheap_modes(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    numbers = dict(zip(KINDS, sp.symbols("a b c", nonnegative=True), strict=True))
    function, costs = sum(numbers.values()), unit_costs()
    for place, (mode, name) in enumerate((("forward", "f"), ("reverse", "r"))):
        spent = sum(count * costs[kind][place] for kind, count in numbers.items())
        room = sp.expand(number(s[name]) * function - spent)
        least = min(room.coeff(count) for count in numbers.values())
        yield fact(
            f"a additions, b products and c calls: the bound less {mode} mode has no negative term, and not "
            "all three, so that it is reached",
            least == 0,
            room,
            "the least coefficient is 0",
            EvidenceMethod.SYMBOLIC,
            over={"m": _ADD_UP},
        )
    kept = sum(count * costs[kind][2] for kind, count in numbers.items())
    yield identity("numbers that reverse mode keeps", sp.expand(kept),
                   sp.expand(number(s["k"]) * function), over={"m": _ADD_UP})  # fmt: skip
    yield from _counted_program(s)


def _counted_program(s: ClaimStatement) -> Iterator[Check]:
    """A program of 77 operations: its derivatives, both ways, and what they cost."""
    kinds: tuple[Kind, ...] = ("mul", "add", "phi", "add", "mul", "add", "add") * 11
    program = [
        Operation(kind, place % 2, min(place + 1, 2 + place // 2))
        for place, kind in enumerate(kinds)
    ]
    value = evaluate(program, _INPUTS)
    along, back = forward(program, _INPUTS, _INPUTS), reverse(program, _INPUTS)
    product = sum((g * d for g, d in zip(back.result, _INPUTS, strict=True)), Fraction(0))
    yield exact("the derivative along a direction, by reverse and by forward mode of 77 operations",
                product, along.result[0])  # fmt: skip
    yield fact("forward mode of them", along.units <= s["f"] * value.units, along.units,
               f"<= {s['f'] * value.units}")  # fmt: skip
    yield fact("reverse mode of them", back.units <= s["r"] * value.units, back.units,
               f"<= {s['r'] * value.units}")  # fmt: skip


CLAIMS = (
    Claim(
        "thm-5",
        ClaimSource.KIM,
        "the cost of a product with a Jacobian",
        ClaimStatement(
            "forward mode costs at most {f} times the function, reverse mode {r} times, and reverse "
            "mode keeps {k} number for each operation",
            (coefficient("f", 4), coefficient("r", 5), coefficient("k", 1)),
        ),
        _cheap_modes,
        ClaimVerdict.HOLDS,
        remark="Constants for additions, products and calls of one function or its derivative at unit cost "
        "each; both bounds are reached by programs of products alone.",
        scope=Scope(m=ALL, about="programs of m additions, products and calls of one function"),
    ),
)
