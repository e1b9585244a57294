"""Table 14 on Synth-1D and its noisy form: AmIGO beside all other methods, by hand, over many seeds."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import Check, EvidenceMethod, fact, figure, spread, within
from proofs_check.scope import ONE, Only, Scope
from proofs_check.statement import ClaimStatement, Term, coefficient
from proofs_check.tools.hand import solve

TRUE = (0.7487, 0.6629)
"""The printed optimum, from which the table's errors are."""
NAMES = ("λ error", "θ error")
QUIET = {
    "IFT-Neumann": ("0.0004", "0.0004"),
    "IFT-CG": ("0.0001", "0.0001"),
    "RMD": ("0.0127", "0.0141"),
    "FMD": ("0.0127", "0.0141"),
    "AmIGO-SGD": ("0.0001", "0.0001"),
}
"""Errors printed for Synth-1D; those of AmIGO-CG and HPO-SGLD are not reproduced."""
MISSED = {"AmIGO-CG": ("0.0001", "0.0001"), "HPO-SGLD": ("0.0001", "0.0000")}
NOISY = {
    "IFT-Neumann": ("0.0153", "0.0426"),
    "IFT-CG": ("0.0057", "0.0311"),
    "RMD": ("0.0124", "0.0150"),
    "FMD": ("0.0123", "0.0149"),
    "AmIGO-SGD": ("0.0008", "0.0233"),
    "AmIGO-CG": ("0.0057", "0.0311"),
    "HPO-SGLD": ("0.0008", "0.0113"),
}


def _slug(label: str, place: int) -> str:
    return f"{label.replace('-', '').lower()}_{('lam', 'theta')[place]}"


def _terms() -> tuple[Term, ...]:
    return tuple(
        coefficient(_slug(label, place), pair[place])
        for label, pair in QUIET.items()
        for place in (0, 1)
    )


def _text() -> str:
    rows = ", ".join(f"{label} ({{{_slug(label, 0)}}}, {{{_slug(label, 1)}}})" for label in QUIET)
    return (
        f"on Synth-1D the printed errors of λ and θ are: {rows}; at the stated settings AmIGO-CG's are "
        "{cg} and HPO-SGLD's error in λ is {ours}, neither of which is what is printed"
    )


def _errors(label: str, noisy: bool, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    lam, theta = solve(label, noisy, seeds)
    finite = np.isfinite(lam)
    return np.abs(lam[finite] - TRUE[0]), np.abs(theta[finite] - TRUE[1])


def _table(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    for label in QUIET:
        for place, errors in enumerate(_errors(label, False, 1)):
            name, digits = f"{label}, {NAMES[place]}", s[_slug(label, place)]
            yield _digits(name, float(errors[0]), digits)
            yield figure(name, digits, float(errors[0]), 4)
    for place, errors in enumerate(_errors("AmIGO-CG", False, 1)):
        yield _digits(f"AmIGO-CG, {NAMES[place]}, ours", float(errors[0]), s["cg"])
    ours = _errors("HPO-SGLD", False, 512 if context.full else 64)
    mean = float(ours[0].mean())
    # The seeds' spread is some 1e-4: four standard errors of the mean are below 1e-4.
    yield within("mean λ error of HPO-SGLD over the seeds", mean, float(s["ours"]) - 5e-4,
                 float(s["ours"]) + 5e-4)  # fmt: skip
    yield from _missed(ours)
    yield from _noisy(500 if context.full else 128)


def _digits(name: str, ours: float, printed: Fraction) -> Check:
    """That four decimals of ours are the printed ones."""
    rounded = Fraction(f"{ours:.4f}")
    return fact(f"{name}, to every printed digit", rounded == printed, f"{ours:.6f}",
                f"{float(printed):.6g}", EvidenceMethod.NUMERIC)  # fmt: skip


def _missed(ours: tuple[np.ndarray, np.ndarray]) -> Iterator[Check]:
    cg = _errors("AmIGO-CG", False, 1)
    for place in (0, 1):
        printed = MISSED["AmIGO-CG"][place]
        yield figure(f"AmIGO-CG, {NAMES[place]}", coefficient("x", printed).value,
                     float(cg[place][0]), 4)  # fmt: skip
        yield _spread(f"HPO-SGLD, {NAMES[place]}", MISSED["HPO-SGLD"][place], ours[place], place)


def _noisy(seeds: int) -> Iterator[Check]:
    for label, pair in NOISY.items():
        errors = _errors(label, True, seeds)
        share = errors[0].size / seeds
        name = label if share == 1 else f"{label} ({1 - share:.0%} of the runs diverge)"
        for place in (0, 1):
            yield _spread(f"noisy, {name}, {NAMES[place]}", pair[place], errors[place], place)


def _spread(name: str, printed: str, errors: np.ndarray, place: int) -> Check:
    """The printed error among ours; λ and θ lie in [0, 1]."""
    low, high = np.percentile(errors, [0.5, 99.5])
    possible = (0.0, max(TRUE[place], 1 - TRUE[place]))
    return spread(
        f"{name}, central 99 % of the seeds", float(printed), (float(low), float(high)), possible
    )


CLAIMS = (
    Claim(
        "tab-14",
        ClaimSource.KIM,
        "comparison with AmIGO on Synth-1D",
        ClaimStatement(
            _text(), (*_terms(), coefficient("cg", "0.0002"), coefficient("ours", "0.012"))
        ),
        _table,
        ClaimVerdict.NOT_REPRODUCED,
        remark="With its exact solve AmIGO-CG ends at the optimum, which is further from the printed one, "
        "the best of a grid, than the table says. HPO-SGLD's row does not come out at its stated settings, "
        "as in tab-2. In the noisy column every other printed error lies within the seeds' spread: "
        "compatible, with the power beside each interval. AmIGO-SGD's rate is not printed: the inner one is "
        "taken.",
        scope=Scope(n=ONE, p=ONE, inner=Only("Synth-1D and its noisy form")),
        on="Synth-1D and its noisy form, 128 seeds",
    ),
)
