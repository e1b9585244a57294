"""The claims, one file a family, gathered in the order of the papers."""

import importlib
import re
from functools import cache

from proofs_check.claim import Claim
from proofs_check.errors import ClaimRefusedError, ProofsCheckError, UnknownClaimError
from proofs_check.template import refuse_literals

_FAMILIES = (
    "formulation",
    "montecarlo",
    "langevin",
    "tangent",
    "recursion",
    "supplement",
    "taylor",
    "exactness",
    "convergence",
    "corrected",
    "noisy_rate",
    "toy",
    "synth",
    "synth_tables",
    "amigo_table",
    "unrolled",
    "cheap_modes",
    "losses",
    "invariance",
    "implicit",
    "franceschi",
    "franceschi_runs",
    "smoothing",
    "beyond",
    "meta",
    "bayesian",
    "tables",
    "small_scale",
    "unnumbered",
    "side_remarks",
    "printed_figures",
    "quadratic_start",
    "quadratics",
)


@cache
def all_claims() -> tuple[Claim, ...]:
    """Every claim of the ledger, ordered by kind and number.

    Returns:
        The claims.

    Raises:
        ClaimRefusedError: a claim says too little of itself, see `accept`.
        ProofsCheckError: two claims have the same key.
    """
    found: list[Claim] = []
    for family in _FAMILIES:
        module = importlib.import_module(f"proofs_check.claims.{family}")
        claims: tuple[Claim, ...] = module.CLAIMS
        for claim in claims:
            accept(claim, str(module.__file__))
        found.extend(claims)
    keys = [claim.key for claim in found]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ProofsCheckError(f"keys must be unique, got twice: {', '.join(twice)}; rename one")
    return tuple(sorted(found, key=_order))


def accept(claim: Claim, file: str) -> None:
    """Refuse a claim that says too little of itself.

    Args:
        claim: the claim.
        file: where it stands.

    Raises:
        ClaimRefusedError: it has no scope, or its sentence says something outside its holes.
    """
    if not claim.scope.stated:
        raise ClaimRefusedError(
            f"claim {claim.key!r} in {file} must have a scope, got none; add scope=Scope(n=..., "
            "p=..., m=..., T=..., f=..., inner=...) with what its sentence is stated for"
        )
    for statement in (claim.printed, claim.established):
        refuse_literals(claim.key, statement.template, file)


_KINDS = ("eq", "thm", "alg", "tab", "fig", "text", "franceschi", "field")


def _order(claim: Claim) -> tuple[int, int, str]:
    kind, _, rest = claim.key.partition("-")
    number = re.match(r"\d+", rest)
    return _KINDS.index(kind), int(number.group()) if number else 0, rest


def find(key: str) -> Claim:
    """One claim by its key.

    Args:
        key: such as ``eq-22``.

    Returns:
        The claim.

    Raises:
        UnknownClaimError: no claim has that key; the message lists those there are.
    """
    for claim in all_claims():
        if claim.key == key:
            return claim
    known = ", ".join(claim.key for claim in all_claims())
    raise UnknownClaimError(f"claim must be one of: {known}; got {key!r}")
