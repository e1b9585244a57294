"""How strong the evidence of a row is: derived from its checks, never typed.

The strength of one number of a statement is that of the strongest check that notices when the number
is changed. The strength of a row is that of its weakest number.
"""

import enum

from proofs_check.evidence import Check, EvidenceMethod, Role
from proofs_check.scope import WORDS, Scope


class Strength(enum.IntEnum):
    """From the weakest to the strongest."""

    DEFINITION = 0
    PRINTED = 1
    FLOATING = 2
    CERTIFIED = 3
    GENERAL_BY_HAND = 4
    GENERAL = 5

    @property
    def words(self) -> str:
        """The strength as it is printed."""
        return _STRENGTHS[self]

    @property
    def proves(self) -> bool:
        """Whether the word *proved* may stand."""
        return self >= Strength.GENERAL_BY_HAND


_STRENGTHS = {
    Strength.GENERAL: "general, mechanised",
    Strength.GENERAL_BY_HAND: "general, with the named hand steps",
    Strength.CERTIFIED: "certified instance",
    Strength.FLOATING: "floating-point instance",
    Strength.PRINTED: "printed figures compared",
    Strength.DEFINITION: "definition",
}

_FLOATING = (EvidenceMethod.NUMERIC, EvidenceMethod.STATISTICAL)


def strength_of(check: Check, scope: Scope) -> Strength:
    """How strong one check is for a statement of a given scope.

    Args:
        check: the executed check.
        scope: what the statement is for.

    Returns:
        `GENERAL` for a symbolic check that covers everything the scope has in general;
        `GENERAL_BY_HAND` where a cover is a step by hand; `CERTIFIED` for any other symbolic check
        and for exact and ball arithmetic; the rest by method and role.
    """
    if check.role is Role.DEFINITION:
        return Strength.DEFINITION
    if check.role is Role.PRINTED:
        return Strength.PRINTED
    if check.method in _FLOATING:
        return Strength.FLOATING
    covers = dict(check.over)
    wanted = scope.every()
    general = wanted or check.method is EvidenceMethod.SYMBOLIC
    if not general or any(name not in covers for name in wanted):
        return Strength.CERTIFIED
    if check.method is not EvidenceMethod.SYMBOLIC:
        # Exact and ball arithmetic run at numbers: only a named step makes them general.
        steps = all(covers[name].step for name in wanted)
        return Strength.GENERAL_BY_HAND if steps else Strength.CERTIFIED
    steps = any(cover.step for cover in covers.values())
    return Strength.GENERAL_BY_HAND if steps else Strength.GENERAL


def hand_steps(checks: tuple[Check, ...]) -> tuple[str, ...]:
    """The steps by hand that the checks' covers name, each once."""
    named: dict[str, dict[str, None]] = {}
    for check in checks:
        for name, cover in check.over:
            if cover.step:
                named.setdefault(cover.step, {})[WORDS.get(name, name)] = None
    return tuple(f"{', '.join(where)}: {step}" for step, where in named.items())
