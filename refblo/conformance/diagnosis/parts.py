"""Terms left out, with the wrong sign or by the wrong factor: the mistakes of an expression."""

import math
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from refblo.conformance.diagnosis.choose import factor_text
from refblo.conformance.diagnosis.mistakes import Mistake, Place
from refblo.conformance.diagnosis.setting import Candidate, Setting, Subject
from refblo.conformance.truth.referred import held
from refblo.types import Estimand

_RADII = tuple(10.0**power for power in range(-1, -9, -1))
"""Steps of difference quotients, as such or divided by ‖∂_θ f‖ as DARTS does with 0.01."""

_SEEN = 10.0
"""How many times rounding a term must be for its factor to be told."""

_WHOLE = 1e-6
"""How far a factor may be from a whole number, relative to it."""


def candidates(subject: Subject) -> Iterator[Candidate]:
    """The right direct and indirect term, put together wrongly."""
    direct, indirect = subject.direct, subject.indirect
    yield Candidate(Mistake.MISSING_DIRECT, indirect)
    yield Candidate(Mistake.MISSING_INDIRECT, direct)
    yield Candidate(Mistake.WRONG_SIGN, -(direct + indirect), "the whole has the wrong sign")
    for place, vector in ((Place.INDIRECT, direct - indirect), (Place.DIRECT, indirect - direct)):
        yield Candidate(Mistake.WRONG_SIGN, vector, f"{place.value} has the wrong sign", 0, place)
    yield Candidate(Mistake.ZERO, np.zeros_like(direct))
    if subject.estimand in (Estimand.UNROLLED, Estimand.PATHWISE):
        start = subject.sweep.start
        yield Candidate(Mistake.INITIAL_NOT_DIFFERENTIATED, direct + indirect - start)
        yield Candidate(Mistake.MISSING_TRANSITIONS, direct + start)
    for factor, mistake in factors(subject):
        for place, vector in _times(direct, indirect, factor):
            text = f"{place.value or 'the whole'} is multiplied by {factor:.6g}"
            yield Candidate(mistake, vector, text, 0, place)


def differences(setting: Setting) -> Iterator[Candidate]:
    """The indirect term as a difference quotient leaves it whose divisor is forgotten or multiplied by."""
    subject = setting.subject
    if subject.estimand is Estimand.GIBBS:
        return
    whole = float(np.linalg.norm(setting.along(subject.indirect)))
    if np.linalg.norm(setting.seen - setting.along(subject.direct)) <= _SEEN * setting.noise:
        return  # the term is missing, and is said to be so
    slope = subject.trace.outer(subject.trace.steps)[1]
    size = float(np.linalg.norm(slope))
    for radius in _RADII:
        for eps, text in ((radius, ""), (radius / size if size > 0 else 0.0, " / ‖∂_θ f‖")):
            if eps == 0:
                continue
            for factor, mistake, meaning in (
                (eps**2, Mistake.DIFFERENCE_TIMES_EPS_SQUARED, "ε²"),
                (eps, Mistake.DIFFERENCE_NOT_DIVIDED, "ε"),
                (2 * eps, Mistake.DIFFERENCE_NOT_DIVIDED, "2ε"),
            ):
                if factor * whole <= _SEEN * setting.noise:
                    continue
                yield Candidate(
                    mistake,
                    subject.direct + factor * subject.indirect,
                    f"the indirect term is multiplied by {meaning} = {factor:.3g}, with "
                    f"ε = {radius:.0e}{text}",
                )


def scaled(setting: Setting) -> Iterator[Candidate]:
    """The factor that fits best, for what is proportional but by no factor that has a name."""
    subject, along, seen = setting.subject, setting.along, setting.seen
    direct, indirect = subject.direct, subject.indirect
    for place, rest, part in (
        (Place.WHOLE, np.zeros_like(direct), direct + indirect),
        (Place.INDIRECT, direct, indirect),
        (Place.DIRECT, indirect, direct),
    ):
        image = along(part)
        square = float(image @ image)
        if square == 0:
            continue
        factor = float((seen - along(rest)) @ image) / square
        mistake, text = Mistake.SCALED, f"is multiplied by {factor_text(factor)}"
        count = round(factor)
        off = max(_WHOLE * count, _SEEN * setting.noise / math.sqrt(square))
        rows = _rows(subject, count) if place is Place.WHOLE and abs(factor - count) <= off else ""
        if rows:
            mistake, text = Mistake.SUM_FOR_MEAN, f"is multiplied by {count}, the number of {rows}"
        text = f"{place.value or 'the whole'} {text}"
        yield Candidate(mistake, rest + factor * part, text, 1, place)


def _rows(subject: Subject, count: int) -> str:
    """Of what there are so many that a loss may be a mean of: rows of a tensor; "" if of nothing."""
    if count < 2:
        return ""
    losses = subject.program.losses
    for name, value in held(subject.program.outer if losses is None else losses.outer):
        if isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == count:
            return f"rows of {name}" if name else "rows of a tensor of outer"
    stacked = any(len(shape) > 1 and shape[0] == count for shape in subject.shapes)
    return "rows of theta" if stacked else ""


def _times(
    direct: np.ndarray, indirect: np.ndarray, factor: float
) -> list[tuple[Place, np.ndarray]]:
    return [
        (Place.WHOLE, factor * (direct + indirect)),
        (Place.INDIRECT, direct + factor * indirect),
        (Place.DIRECT, factor * direct + indirect),
    ]


def factors(subject: Subject) -> list[tuple[float, Mistake]]:
    """Factors that come from a known confusion; those that only some problems have come first."""
    schedule = subject.program.schedule
    found: list[tuple[float, Mistake]] = []
    if schedule.samples > 1:
        samples = schedule.samples
        found.append((samples / schedule.steps, Mistake.DIVIDED_BY_ALL_STEPS))
        found.append((float(samples), Mistake.SUM_FOR_MEAN))
        found.append((samples / (samples + 1), Mistake.DIVIDED_BY_ONE_MORE))
        found.append((samples / (samples - 1), Mistake.DIVIDED_BY_ONE_FEWER))
    found += [(2.0, Mistake.FACTOR_TWO), (0.5, Mistake.FACTOR_HALF)]
    losses = subject.program.losses
    if losses is None:
        return found
    rule = losses.rule
    # ε = 2τγ. At τ = 1 it is the factor 2 that is named above.
    ratio = 2 * rule.temperature
    found += [(ratio, Mistake.EPSILON_FOR_GAMMA), (1 / ratio, Mistake.GAMMA_FOR_EPSILON)]
    if rule.temperature != 1:
        found.append((rule.temperature, Mistake.TEMPERATURE_LEFT_IN))
        found.append((1 / rule.temperature, Mistake.TEMPERATURE_TWICE))
    series = subject.implicit
    twice = Mistake.SERIES_SCALED_TWICE if series else Mistake.STEP_SIZE_TWICE
    without = Mistake.SERIES_NOT_SCALED if series else Mistake.STEP_SIZE_LEFT_OUT
    gamma = rule.constant_step_size
    if gamma is not None:
        found += [(gamma, twice), (1 / gamma, without)]
    return [(factor, mistake) for factor, mistake in found if factor != 1]
