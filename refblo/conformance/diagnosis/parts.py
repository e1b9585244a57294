"""Terms left out, with the wrong sign or by the wrong factor: the mistakes of an expression."""

from collections.abc import Iterator

import numpy as np

from refblo.conformance.diagnosis.setting import Candidate, Setting, Subject


def candidates(setting: Setting) -> Iterator[Candidate]:
    """The right direct and indirect term, put together wrongly."""
    subject = setting.subject
    direct, indirect = subject.direct, subject.indirect
    yield Candidate("missing direct term", indirect, "∂_λ f is left out")
    yield Candidate("missing indirect term", direct, "only ∂_λ f is there: dθ/dλ is left out")
    yield Candidate(
        "wrong sign", -(direct + indirect), "the whole hypergradient has the wrong sign"
    )
    yield Candidate("wrong sign of the indirect term", direct - indirect)
    yield Candidate("wrong sign of the direct term", indirect - direct)
    yield Candidate("zero", np.zeros_like(direct), "it is zero: the graph to lam is lost")
    if not subject.implicit:
        start = subject.sweep.start
        yield Candidate(
            "initial point not differentiated", direct + indirect - start, "dθ⁰/dλ is left out"
        )
        yield Candidate(
            "missing transitions", direct + start, "only the initial point's path is there"
        )
    for factor, name in factors(subject):
        yield Candidate(
            name, factor * (direct + indirect), f"the whole is multiplied by {factor:.6g}"
        )
        yield Candidate(
            f"{name} in the indirect term",
            direct + factor * indirect,
            f"the indirect term is multiplied by {factor:.6g}",
        )
        yield Candidate(
            f"{name} in the direct term",
            factor * direct + indirect,
            f"the direct term is multiplied by {factor:.6g}",
        )
    yield from _fitted(setting)


def factors(subject: Subject) -> list[tuple[float, str]]:
    """Factors that come from a known confusion, with its name."""
    found = [(2.0, "factor 2"), (0.5, "factor 1/2")]
    schedule = subject.program.schedule
    if schedule.samples > 1:
        found.append((float(schedule.samples), "sum instead of mean"))
        found.append((schedule.samples / schedule.steps, "divided by all steps"))
        found.append((schedule.samples / (schedule.samples + 1), "divided by M + 1"))
        found.append((schedule.samples / (schedule.samples - 1), "divided by M - 1"))
    losses = subject.program.losses
    if losses is None:
        return found
    rule = losses.rule
    # ε = 2τγ. At τ = 1 it is the factor 2 that is named above.
    ratio = 2 * rule.temperature
    found += [(ratio, "epsilon for gamma"), (1 / ratio, "gamma for epsilon")]
    if rule.temperature != 1:
        found += [
            (rule.temperature, "temperature left in"),
            (1 / rule.temperature, "temperature twice"),
        ]
    scaled, unscaled = "step size twice", "step size left out"
    if subject.implicit:
        scaled, unscaled = "series scaled twice", "series not scaled"
    found += [(rule.step_size, scaled), (1 / rule.step_size, unscaled)]
    return found


def _fitted(setting: Setting) -> Iterator[Candidate]:
    """The factor that fits best, for what is proportional but by no factor that has a name."""
    subject = setting.subject
    direct, indirect = setting.along(subject.direct), setting.along(subject.indirect)
    seen = setting.along(setting.observed)
    for name, base, scaled, pair in (
        ("scaled", 0 * direct, direct + indirect, (0 * subject.direct, subject.truth)),
        ("scaled indirect term", direct, indirect, (subject.direct, subject.indirect)),
        ("scaled direct term", indirect, direct, (subject.indirect, subject.direct)),
    ):
        square = float(scaled @ scaled)
        if square == 0:
            continue
        factor = float((seen - base) @ scaled) / square
        yield Candidate(name, pair[0] + factor * pair[1], f"multiplied by {factor:.8g}", fitted=1)
