"""O(1/k) with noise: the rate of HPO-SGLD's outer loop down to the floor that its variance leaves."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import sympy as sp

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims.corrected import TOWER, many_samples
from proofs_check.evidence import Check, EvidenceMethod, fact, identity, induction, within
from proofs_check.scope import ALL, INDUCTION, NORM, Scope
from proofs_check.statement import ClaimStatement, formula
from proofs_check.tools.alone import refuse_other_violations, satisfies
from proofs_check.tools.descent_instances import COCOERCIVE, FIXED, STEP, DescentInstance
from proofs_check.tools.measure import STANDARD_ERRORS, slope
from proofs_check.tools.noisy_descent import NoisyDescent, noisy_descent

eta, smooth, V, D, k = sp.symbols("eta L V D k", positive=True)


def _noisy_rate(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    # ‖d - η(h̄ + ξ)‖² in its inner products; ‖h̄‖² = L⟨h̄, d⟩ - b with b ≥ 0.
    dd, hd, b = sp.symbols("dd hd b", positive=True)
    gain = eta * (2 - eta * smooth)
    moved = dd - 2 * eta * hd + eta**2 * (smooth * hd - b) + eta**2 * V
    yield identity("one step, in the mean: ‖d⁺‖² = ‖d‖² - η(2 - ηL)⟨h̄, d⟩ + η²V - η²b, b ≥ 0",
                   sp.expand(moved), sp.expand(dd - gain * hd + eta**2 * V - eta**2 * b),
                   over={"p": TOWER, "m": NORM})  # fmt: skip
    limit = s.formula("limit", L=smooth)
    yield identity("η(2 - ηL) = ηL·(limit - η): positive below the limit", sp.expand(gain),
                   sp.expand(eta * smooth * (limit - eta)), over={"p": NORM, "m": NORM})  # fmt: skip

    # The steps add up to η(2 - ηL)·Σ_(i<k) ⟨h̄, d_i⟩ ≤ D + kη²V.
    def summed(steps: sp.Expr) -> sp.Expr:
        return sp.simplify(steps * gain * s.formula("bound", D=D, η=eta, V=V, L=smooth, k=steps))

    base = identity("the start", summed(k).subs(k, 0), D)
    step = identity("one step", sp.expand(summed(k) + eta**2 * V), sp.expand(summed(k + 1)))
    yield induction("kη(2 - ηL) times the bound after k steps", base, step,
                    {"p": NORM, "m": INDUCTION})  # fmt: skip
    yield from _conditions(s, context)
    yield from _measured(s, context)


_PLAIN = DescentInstance(
    "h̄(x) = x", Fraction(1), Fraction(1), Fraction(0), Fraction(1), noise=Fraction(1, 100),
    variance=Fraction(1, 100),
)  # fmt: skip
CONDITIONS = (COCOERCIVE, STEP, FIXED)
NO_RATE = {
    # Monotone and 1-Lipschitz, but not cocoercive with L = 1: J is a quarter turn.
    COCOERCIVE: replace(
        _PLAIN, name="h̄(x) = (7 + 24J)x/25", along=Fraction(7, 25), across=Fraction(24, 25)
    ),
    STEP: replace(_PLAIN, rate=Fraction(3)),
    FIXED: many_samples(mu=False),
}
"""Without each condition: an instance in which all the others hold."""


def _conditions(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    """With every condition on: the plain field. Without one: its instance, in which all the others hold."""
    for condition, alone in NO_RATE.items():
        refuse_other_violations(alone, condition, CONDITIONS)
    count = len(NO_RATE)
    yield fact(
        "counterexamples, each of which satisfies all conditions but its own", True, count, count
    )
    every = satisfies(_PLAIN, CONDITIONS)
    yield fact(f"every condition holds: {_PLAIN.name}", every, every, "all")
    off = [condition for condition in CONDITIONS if not context.has(condition)]
    chosen, steps = NO_RATE[off[0]] if off else _PLAIN, 40
    mean = chosen.products(steps)
    names = {"η": chosen.rate, "V": chosen.variance, "L": chosen.ell, "k": Fraction(steps)}
    bound = s.formula("bound", Fraction, D=chosen.start, **names)
    name = f"mean of ⟨h̄, d⟩ over {steps} steps of η = {float(chosen.rate):.3g}"
    yield fact(
        f"{name}: {chosen.name}", mean <= bound, f"{float(mean):.7g}", f"<= {float(bound):.7g}"
    )


_AT = np.array([12.0, 16.0, 22.0, 30.0, 40.0])
_SETTLED = 80
"""Outer steps after which what is left of the start is below 1e-9 of the floor."""


def _measured(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    for p in (1, 4, 16) if context.full else (4,):
        run = noisy_descent(p, 32, 800 if context.full else 160)
        means = run.means(_AT)
        found, wanted = slope(_AT, means), slope(_AT, run.expected_means(_AT)[None]).value
        half = STANDARD_ERRORS * found.error
        yield within(f"refblo's HPO-SGLD, p = {p}: exponent of k over steps 12 to 40", found.value,
                     wanted - half, wanted + half)  # fmt: skip
        low, high = found.value - half, found.value + half
        yield fact(f"p = {p}: the interval of that exponent is near that of 1/k",
                   -1.01 <= low <= high <= -0.99, f"[{low:.5f}, {high:.5f}]", "in [-1.01, -0.99]",
                   EvidenceMethod.STATISTICAL)  # fmt: skip
        yield from _floor(s, run, p)


def _floor(s: ClaimStatement, run: NoisyDescent, p: int) -> Iterator[Check]:
    """The mean after the start is forgotten: Σ_j ηV_j/(2 - ηa_j) for an affine field, at most the bound."""
    after = run.products[:, _SETTLED:].mean(axis=1)
    half = STANDARD_ERRORS * float(after.std(ddof=1) / np.sqrt(after.size))
    wanted = float((run.rate * run.scales**2 / (2 - run.rate * run.eigenvalues)).sum())
    found = float(after.mean())
    yield within(f"p = {p}: the floor after it, steps {_SETTLED} to {run.products.shape[1]}", found,
                 wanted - half, wanted + half)  # fmt: skip
    names = {"η": run.rate, "V": run.variance, "L": run.smooth}
    floor = s.formula("bound", float, D=0.0, k=1.0, **names)
    yield fact(f"p = {p}: that floor against the bound's", found - half <= floor, found,
               f"<= {floor:.6g}", EvidenceMethod.STATISTICAL)  # fmt: skip
    # Where p = 1 the bound is attained: the mean may be above it by what the runs' spread allows.
    means = run.means(_AT)
    averages = means.mean(axis=0)
    room = STANDARD_ERRORS * means.std(axis=0, ddof=1) / np.sqrt(len(means))
    bounds = [s.formula("bound", float, D=run.start, k=float(at), **names) for at in _AT]
    below = bool((averages - room <= np.array(bounds)).all())
    yield fact(f"p = {p}: the mean of the first 40 products against the bound", below,
               f"{averages[-1]:.5g} ± {room[-1]:.1g}", f"<= {bounds[-1]:.5g}",
               EvidenceMethod.STATISTICAL)  # fmt: skip


CLAIMS = (
    Claim(
        "text-noisy-rate",
        ClaimSource.OWN,
        "the rate of HPO-SGLD with noise: O(1/k), and then a floor",
        ClaimStatement(
            "with a step η below {limit}, the mean over the first k iterates of the inner product of the "
            "mean field with the way from its root is at most {bound}, D the square of the first distance "
            "and V the variance of h",
            (
                formula("limit", "2/L"),
                formula("bound", "D/(η*(2 - η*L)*k) + η*V/(2 - η*L)"),
            ),
        ),
        _noisy_rate,
        ClaimVerdict.CONDITIONAL,
        added=CONDITIONS,
        remark="Where the field is the gradient of a convex F, the inner product bounds F at an iterate, and "
        "so its mean bounds F at the average iterate, less the least F. No strong convexity is needed; with "
        "it the start is forgotten geometrically, see text-corrected-theorem.",
        scope=Scope(p=ALL, m=ALL, about="gradient descent with a noisy field of mean h̄"),
    ),
)
