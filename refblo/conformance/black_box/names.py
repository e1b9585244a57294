"""What can be named without seeing inside the run: the mistakes that show in the returned numbers alone."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Float64

from refblo.conformance.black_box.many import Projections, candidates
from refblo.conformance.black_box.slopes import Slope
from refblo.conformance.diagnosis.budget import OutOfTime, time_limit
from refblo.conformance.diagnosis.chain import changed
from refblo.conformance.diagnosis.choose import (
    NOTHING,
    Choice,
    Observation,
    Scored,
    choose,
    factor_text,
    score,
)
from refblo.conformance.diagnosis.entries import some_zero
from refblo.conformance.diagnosis.locate import by_halves, listed
from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.order import permuted
from refblo.conformance.diagnosis.precision import COMPARABLE
from refblo.conformance.diagnosis.result import Diagnosis
from refblo.conformance.diagnosis.setting import Candidate
from refblo.errors import OracleError

Array = np.ndarray

ENTRY_BY_ENTRY = 32
"""Up to how many hyperparameters the truth is computed in every entry to name a mistake."""

_ALIKE = 1e-3
"""The relative distance within which a wrong block counts as one that is changed in a known way."""


@final
@dataclass(frozen=True, eq=False)
class Numbers:
    """A returned hypergradient beside the truth, entry by entry.

    Attributes:
        truth: shape (p,).
        observed: shape (p,).
        noise: a bound on the error of the truth, as a norm.
        blocks: the named parts of λ.
    """

    truth: Float64[Array, " p"]
    observed: Float64[Array, " p"]
    noise: float
    blocks: Mapping[str, slice]

    @property
    def seen(self) -> Float64[Array, " p"]:
        """What was observed."""
        return self.observed

    @cached_property
    def error(self) -> float:
        """‖observed − truth‖."""
        return float(np.linalg.norm(self.observed - self.truth))

    def along(self, vector: Float64[Array, " p"]) -> Float64[Array, " p"]:
        """The vector itself: all entries are compared."""
        return vector


def name_mistake(
    observed: Float64[Array, " p"],
    earlier: Sequence[Float64[Array, " p"]],
    blocks: Mapping[str, slice],
    slope: Slope,
    seconds: float,
    *,
    lam: Float64[Array, " p"],
    spread: float = 0.0,
) -> Diagnosis:
    """Name the mistake of a wrong hypergradient, or say where it is.

    Args:
        observed: what was returned, shape (p,).
        earlier: what the calls before returned.
        blocks: the named parts of λ.
        slope: the truth along a direction.
        seconds: how long it may take.
        lam: λ, shape (p,).
        spread: the largest distance between two answers at the same λ.
    """
    with time_limit(seconds), np.errstate(all="ignore"):
        try:
            if observed.size <= ENTRY_BY_ENTRY:
                return _named(_every_entry(observed, blocks, slope), earlier, lam, spread)
            numbers = Projections.of(observed, blocks, slope)
            made = list(candidates(numbers, lam, earlier, slope))
            named = _chosen(made, numbers, spread)
            if named.name is not None:
                return named
            wrong = by_halves(observed.size, _off(observed, slope))
            if len(wrong) == 1:
                return _one_entry(wrong[0], observed, slope, named)
        except (OutOfTime, OracleError) as stopped:
            return Diagnosis.of(NOTHING, 0, cut_off=(f"the returned numbers ({stopped})",))
    where = (f"the error sits in {listed(wrong, observed.size)}",) if wrong else ()
    return replace(named, components=where)


def _one_entry(entry: int, observed: Array, slope: Slope, unnamed: Diagnosis) -> Diagnosis:
    """One of many entries, which a search by halves has found."""
    unit = np.zeros_like(observed)
    unit[entry] = 1
    should, mistake = slope(unit)[0], Mistake.ONE_ENTRY
    text = f"entry {entry} of lam is {observed[entry]:.10g} and should be {should:.10g}"
    where = (f"the error sits in {listed([entry], observed.size)}",)
    return replace(unnamed, name=mistake.printed, text=text, unexplained=0.0, components=where)


def _every_entry(observed: Array, blocks: Mapping[str, slice], slope: Slope) -> Numbers:
    pairs = [slope(row) for row in np.eye(observed.size)]
    truth, errors = (np.array(column) for column in zip(*pairs, strict=True))
    return Numbers(truth, observed, float(np.linalg.norm(errors)), blocks)


def _named(numbers: Numbers, earlier: Sequence[Array], lam: Array, spread: float) -> Diagnosis:
    made = [
        *_between_calls(numbers.truth, earlier),
        *_candidates(numbers),
        *changed(numbers.truth, lam, numbers.blocks),
        *some_zero(numbers.observed, numbers.truth, numbers.observed.size),
    ]
    found = _chosen(made, numbers, spread)
    return replace(found, components=tuple(_where(numbers)))


def _chosen(made: Sequence[Candidate], numbers: Observation, spread: float) -> Diagnosis:
    """The candidate that explains what was returned, or that answers change from call to call."""
    scored = [one for one in (score(each, numbers) for each in made) if one is not None]
    choice = choose(scored, numbers)
    fits = choice.best is not None and choice.best.fitted == 0
    if not fits and math.isfinite(spread) and spread > COMPARABLE * numbers.error:
        mistake = Mistake.ANSWER_CHANGES
        text = f"two calls at the same lam return answers that differ by {spread:.1e}"
        choice = Choice(Scored(mistake, mistake.printed, text, 0, 0.0, 0.0), (), choice.second)
    return Diagnosis.of(choice, len(scored))


def _between_calls(truth: Array, earlier: Sequence[Array]) -> Iterator[Candidate]:
    """What is left of the calls before."""
    for count in range(1, len(earlier) + 1):
        before = np.sum(earlier[-count:], axis=0)
        said = f"what the last {count} calls returned is added"
        yield Candidate(Mistake.ACCUMULATED, truth + before, said)
    for number, answer in enumerate(earlier, 1):
        yield Candidate(Mistake.STALE_LAMBDA, answer, f"it is the answer of call {number} again")


def _candidates(numbers: Numbers) -> Iterator[Candidate]:
    """The wrong hypergradients that a mistake outside the run makes of the truth."""
    truth, observed = numbers.truth, numbers.observed
    yield Candidate(Mistake.ZERO, np.zeros_like(truth))
    yield Candidate(Mistake.WRONG_SIGN, -truth, "the whole hypergradient has the wrong sign")
    yield Candidate(Mistake.FACTOR_TWO, 2 * truth, "the whole is multiplied by 2")
    yield Candidate(Mistake.FACTOR_HALF, truth / 2, "the whole is multiplied by 1/2")
    if truth.size < 2:
        return
    for total, text in ((truth.sum(), "the sum"), (truth.mean(), "the mean")):
        said = f"every entry is {text} of the right entries"
        yield Candidate(Mistake.ONES_IN_EVERY_ENTRY, np.full_like(truth, total), said)
    yield from permuted(truth, observed)
    square = float(truth @ truth)
    if square > 0:
        factor = float(observed @ truth) / square
        yield Candidate(
            Mistake.SCALED, factor * truth, f"multiplied by {factor_text(factor)}", fitted=1
        )
    for name, part in numbers.blocks.items():
        how = _how(observed[part], truth[part])
        for factor in (0.0, -1.0, 2.0, 0.5):
            vector = truth.copy()
            vector[part] *= factor
            yield Candidate(Mistake.ONE_BLOCK, vector, f"lam{name} {how}")
        size = truth[part].size
        if 0 < size <= truth.size - 2:
            vector = truth.copy()
            vector[part] = observed[part]
            yield Candidate(Mistake.ONE_BLOCK, vector, f"lam{name} {how}", size)
    if truth.size >= 3:
        worst = int(np.argmax(np.abs(observed - truth)))
        vector = truth.copy()
        vector[worst] = observed[worst]
        said = f"entry {worst} of lam is {observed[worst]:.10g} and should be {truth[worst]:.10g}"
        yield Candidate(Mistake.ONE_ENTRY, vector, said, 1)


def _how(observed: Array, truth: Array) -> str:
    """What a wrong block is, as far as a sign or a factor tells."""
    size = float(np.linalg.norm(truth))
    if not observed.any():
        return "is zero"
    if size == 0:
        return "should be zero"
    factor = float(observed @ truth) / size**2
    if np.linalg.norm(observed - factor * truth) > _ALIKE * abs(factor) * size:
        return "is wrong, the others are right"
    if abs(factor + 1) < _ALIKE:
        return "has the wrong sign"
    return f"is {factor:.6g} times what it should be"


def _where(numbers: Numbers) -> Iterator[str]:
    """Where the error sits."""
    difference = np.abs(numbers.observed - numbers.truth)
    for name, part in numbers.blocks.items():
        share = float(np.linalg.norm(difference[part])) / numbers.error
        yield f"block {name}: {share:.1%} of the error"
    worst = int(np.argmax(difference))
    yield (
        f"largest at entry {worst} of lam: observed {numbers.observed[worst]:.10g}, should be "
        f"{numbers.truth[worst]:.10g}"
    )


def _off(observed: Array, slope: Slope) -> Callable[[Array], bool]:
    """Whether the observed vector is off along alternating signs on some entries."""

    def off(part: Array) -> bool:
        direction = np.zeros_like(observed)
        # Signs that do not repeat with any period, so that two errors do not cancel in every part.
        direction[part] = np.where((part * part // 3) % 2 == 0, 1.0, -1.0) / math.sqrt(part.size)
        truth, error = slope(direction)
        return abs(float(observed @ direction) - truth) > 3 * error

    return off
