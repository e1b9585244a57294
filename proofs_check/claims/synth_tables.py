"""Tables 2 and 3: Synth-1D solved by every method, by hand, over many seeds."""

from collections.abc import Iterator

import numpy as np
import sympy as sp

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import (
    Check,
    EvidenceMethod,
    fact,
    figure,
    identity,
    spread,
    within,
)
from proofs_check.scope import ONE, Only, Scope
from proofs_check.statement import ClaimStatement, Term, WordChoice, choice, coefficient, formula
from proofs_check.tools.hand import solve
from proofs_check.tools.measure import mean_check

TABLE_2 = {
    "IFT-Neumann": ("0.7491", "0.6625"),
    "IFT-CG": ("0.7488", "0.6628"),
    "RMD": ("0.7360", "0.6770"),
    "RMD-FO": ("0.6916", "0.7228"),
    "FMD": ("0.7360", "0.6770"),
    "RMD (1000 inner iterations)": ("0.7489", "0.6627"),
    "RMD-FO (1000 inner iterations)": ("0.6916", "0.7226"),
    "FMD (1000 inner iterations)": ("0.7489", "0.6627"),
}


HPO_SGLD_PRINTED = {"lam": 0.7488, "theta": 0.6629}


def _slug(label: str) -> str:
    short = label.replace(" (1000 inner iterations)", "1000").replace("-", "")
    return "".join(ch for ch in short if ch.isalnum()).lower()


def _table_2_terms() -> tuple[Term, ...]:
    pairs = []
    for label, (x, t) in TABLE_2.items():
        pairs += [coefficient(f"{_slug(label)}_lam", x), coefficient(f"{_slug(label)}_theta", t)]
    return tuple(pairs)


def _table_2_text() -> str:
    named = {label: label.replace("1000 inner iterations", "long run") for label in TABLE_2}
    rows = [
        f"{named[label]} ({{{_slug(label)}_lam}}, {{{_slug(label)}_theta}})" for label in TABLE_2
    ]
    return (
        "with θ warm-started the printed pairs are: "
        + ", ".join(rows)
        + "; HPO-SGLD's stated settings give {ours} in λ, not the printed value"
    )


def _table_2(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    for label in TABLE_2:
        found = solve(label, False, 1)
        for name, value in zip(("lam", "theta"), found, strict=True):
            digits = s[f"{_slug(label)}_{name}"]
            check = figure(f"{label}, {name}", digits, float(value[0]), 4)
            yield fact(f"{label}, {name}, to every printed digit", bool(check.agrees), check.left,
                       check.right, EvidenceMethod.NUMERIC)  # fmt: skip
            yield check
    lams, thetas = solve("HPO-SGLD", False, 512 if context.full else 64)
    # The seeds' spread at τ = 1e-6 is some 1e-4; four standard errors of the mean are below 1e-4.
    yield within("mean λ of HPO-SGLD over the seeds", float(lams.mean()), float(s["ours"]) - 5e-4,
                 float(s["ours"]) + 5e-4)  # fmt: skip
    for name, values in (("lam", lams), ("theta", thetas)):
        low, high = np.percentile(values, [0.5, 99.5])
        yield spread(f"HPO-SGLD, {name}, central 99 % of the seeds", HPO_SGLD_PRINTED[name],
                     (float(low), float(high)), (0.0, 1.0))  # fmt: skip


TABLE_3 = {
    "HPO-SGLD, τ = 1e-02": ("0.7495", "0.6516"),
    "HPO-SGLD, τ = 1e-05": ("0.7473", "0.6383"),
    "HPO-SGLD, τ = 1e-10": ("0.7468", "0.6411"),
    "IFT-CG": ("0.7544", "0.6318"),
    "RMD": ("0.7363", "0.6779"),
    "RMD-FO": ("0.6923", "0.7235"),
    "FMD": ("0.7364", "0.6778"),
}
LONG_3 = {
    "RMD (1000 inner iterations)": ("0.7517", "0.6484"),
    "RMD-FO (1000 inner iterations)": ("0.6926", "0.7075"),
    "FMD (1000 inner iterations)": ("0.7517", "0.6484"),
}


def _table_3_terms() -> tuple[Term | WordChoice, ...]:
    inside = [label for label in TABLE_3 if not label.startswith("HPO")]
    return (
        *(coefficient(f"{_slug(label)}_lam", TABLE_3[label][0]) for label in inside),
        choice("trend", "grows", "falls"),
    )


def _table_3(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    seeds = 500 if context.full else 128
    rows = {**TABLE_3, **(LONG_3 if context.full else {})}
    for label, printed_pair in rows.items():
        found = solve(label, True, seeds)
        for name, values, printed in zip(("lam", "theta"), found, printed_pair, strict=True):
            finite = values[np.isfinite(values)]
            low, high = np.percentile(finite, [0.5, 99.5])
            key = f"{_slug(label)}_{name}"
            stated = float(s[key]) if key in {t.name for t in s.terms} else float(printed)
            inside = bool(low <= stated <= high)
            shown = f"[{low:.4f}, {high:.4f}]"
            if not label.startswith("HPO") and name == "lam" and label in TABLE_3:
                yield fact(f"{label}, λ, inside the central 99 % of the seeds", inside, shown,
                           f"{stated:.4f}", EvidenceMethod.STATISTICAL)  # fmt: skip
            yield spread(f"{label}, {name}, central 99 % of the seeds", stated,
                         (float(low), float(high)), (0.0, 1.0))  # fmt: skip
    lams, _ = solve("IFT-Neumann", True, seeds)
    diverged = float(np.mean(~np.isfinite(lams)))
    yield fact("IFT-Neumann diverges in most runs", diverged > 0.5, diverged, "> 1/2",
               EvidenceMethod.STATISTICAL)  # fmt: skip
    noisy_h, clean_h = (
        solve(label, True, seeds)[0] for label in ("IFT-CG", "IFT-CG, H without noise")
    )
    still = float(solve("IFT-CG", False, 1)[0][0])
    yield mean_check("mean λ of IFT-CG with the noise taken out of H alone", clean_h, still, 1e-3)
    yield fact("mean shift of IFT-CG by the noise in H", float(noisy_h.mean()) - still > 4e-3,
               float(noisy_h.mean()) - still, "> 4e-3", EvidenceMethod.STATISTICAL)  # fmt: skip
    best = OPTIMUM
    errors = []
    for label in ("HPO-SGLD, τ = 1e-02", "HPO-SGLD, τ = 1e-10"):
        values = np.abs(solve(label, True, seeds)[0] - best)
        errors.append((values.mean(), values.std(ddof=1) / np.sqrt(values.size)))
    gap = float(errors[0][0] - errors[1][0])
    noise = 4 * float(np.hypot(errors[0][1], errors[1][1]))
    turned = 1.0 if s.word("trend") == "grows" else -1.0
    yield fact("error in λ at the largest τ minus that at the smallest", turned * gap > -noise,
               f"{gap:.5f} ± {noise:.5f}", s.word("trend"), EvidenceMethod.STATISTICAL)  # fmt: skip


OPTIMUM, OPTIMUM_THETA = 0.748935575424, 0.662642817711
"""λ* and θ* of text-synth-optimum."""


def _other_settings(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    # The recursion's indirect term is -2λγm̄·f_θ, the truth's -λ/θ*·f_θ.
    lam, theta, slope = sp.symbols("lambda theta f_theta", positive=True)
    wanted = s.formula("product", θ=theta)
    yield identity("the recursion's indirect term at that product", -2 * lam * wanted * slope,
                   -lam / theta * slope)  # fmt: skip
    best = (OPTIMUM, OPTIMUM_THETA)
    stated = solve("HPO-SGLD, no noise", False, 1)
    gap = abs(stated[0][0] - HPO_SGLD_PRINTED["lam"])
    yield fact("the stated settings, without noise, miss the printed λ by", gap > 0.01, gap, "> 0.01",
               EvidenceMethod.NUMERIC)  # fmt: skip
    at = float(s.formula("product", θ=sp.Float(OPTIMUM_THETA)))
    # The mean of m over the samples B + 1 to B + M is (3B + 1)/2 where B = M.
    samples = 50 * float(s["steps"])
    for label, product in (
        ("γ = 0.01", 0.005 * float(s["step"]) * (3 * 50 + 1) / 2),
        ("(22) without its half", 0.005 * float(s["scale"]) * (3 * 50 + 1) / 2),
        ("B = M = 100", 0.005 * (3 * samples + 1) / 2),
    ):
        yield fact(f"γ·mean(m) at {label} against that product", abs(product / at - 1) < 0.01, product,
                   at, EvidenceMethod.NUMERIC)  # fmt: skip
    for label in ("HPO-SGLD, γ = 0.01", "HPO-SGLD, ½ dropped", "HPO-SGLD, B = M = 100"):
        found = [round(float(v[0]), 4) for v in solve(label, False, 1)]
        near = all(abs(value - truth) < 2e-4 for value, truth in zip(found, best, strict=True))
        yield fact(f"{label}: the optimum, not the printed pair", near and found != [0.7488, 0.6629],
                   found, [round(v, 4) for v in best], EvidenceMethod.NUMERIC)  # fmt: skip


def _first_order_row(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    lam = sp.symbols("lambda", positive=True)
    fixed = sp.solve(sp.Eq(lam, sp.sqrt(1 - lam**2)), lam)[0]
    yield identity("where λ = θ*(λ)", fixed, s.formula("fixed"))
    short, long = (float(solve("RMD-FO", False, 1, steps)[0][0]) for steps in (200, 2000))
    limit = 0.5**0.5
    yield fact("λ after 200 outer steps, the printed row, is not there yet", abs(short - limit) > 0.01,
               short, limit, EvidenceMethod.NUMERIC)  # fmt: skip
    yield fact("after 2000 it is", abs(long - limit) < 1e-3, long, limit, EvidenceMethod.NUMERIC)


_SYNTH = Scope(n=ONE, p=ONE, inner=Only("Synth-1D"))

CLAIMS = (
    Claim(
        "text-hpo-sgld-settings",
        ClaimSource.OWN,
        "at which other settings HPO-SGLD is right on Synth-1D",
        ClaimStatement(
            "on the inner optimum the recursion has the right indirect term where γ times the mean number "
            "of steps is {product}; so it is with {step} times the step, {scale} times what (22) adds, or "
            "{steps} times the steps, but not at the stated settings",
            (
                formula("product", "1/(2*θ)"),
                coefficient("step", 2),
                coefficient("scale", 2),
                coefficient("steps", 2),
            ),
        ),
        _other_settings,
        ClaimVerdict.HOLDS,
        remark="Each of the three ends at the optimum to four digits; the printed pair (0.7488, 0.6629) is "
        "within the seeds' spread at τ = 1e-6, and is printed in about one run in a hundred.",
        scope=_SYNTH,
        on="Synth-1D, three other settings",
    ),
    Claim(
        "text-rmd-fo",
        ClaimSource.OWN,
        "what RMD-FO's row of Table 2 is",
        ClaimStatement(
            "keeping the direct term alone, the fixed point in λ is {fixed}; the row is an iterate on its "
            "way there",
            (formula("fixed", "(1/2)**(1/2)"),),
        ),
        _first_order_row,
        ClaimVerdict.HOLDS,
        scope=_SYNTH,
        on="Synth-1D",
    ),
    Claim(
        "tab-2",
        ClaimSource.KIM,
        "Synth-1D solved by every method",
        ClaimStatement(
            _table_2_text(),
            (
                *_table_2_terms(),
                coefficient("ours", "0.737"),
            ),
        ),
        _table_2,
        ClaimVerdict.NOT_REPRODUCED,
        remark="All deterministic rows reproduce to every digit, from λ⁰ = θ⁰ = 0.1; HPO-SGLD's does not at "
        "its stated settings. IFT-Neumann's needs the factor α left out of the series; RMD-FO's is an "
        "unconverged iterate (its fixed point is 1/√2).",
        scope=_SYNTH,
        on="Synth-1D, 64 seeds",
    ),
    Claim(
        "tab-3",
        ClaimSource.KIM,
        "noisy Synth-1D",
        ClaimStatement(
            "the printed λ of IFT-CG {iftcg_lam}, RMD {rmd_lam}, RMD-FO {rmdfo_lam} and FMD {fmd_lam} lie "
            "within the spread of the seeds, and the error of HPO-SGLD {trend} with τ",
            _table_3_terms(),
        ),
        _table_3,
        ClaimVerdict.NOT_REPRODUCED,
        remark="HPO-SGLD's rows lie outside the seeds' spread; IFT-Neumann diverges in most runs. What lies "
        "inside is compatible, with the power that is printed beside each interval: for θ at τ = 1e-2 hardly "
        "more than a half.",
        scope=Scope(n=ONE, p=ONE, inner=Only("the noisy Synth-1D")),
        on="the noisy Synth-1D, 128 seeds",
    ),
)
