"""Which known mistake explains what was observed, how well, and where the error sits if none does."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import final

import numpy as np

from refblo.conformance.diagnosis import precision
from refblo.conformance.diagnosis.budget import OutOfTime, check_time, time_limit
from refblo.conformance.diagnosis.choose import Choice, Scored, choose, exactly, score
from refblo.conformance.diagnosis.families import STAGES, Family
from refblo.conformance.diagnosis.locate import components
from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.result import Diagnosis
from refblo.conformance.diagnosis.setting import Candidate, Setting

SECONDS = 30.0
"""The time that a diagnosis may take, unless another is given."""

_KEPT_ENTRIES = 2**22
"""Up to how many entries of a family's candidates are kept for a subject's next diagnosis."""

_LONGEST_REASON = 200


def diagnose(
    setting: Setting, blocks: Mapping[str, slice] | None = None, *, seconds: float = SECONDS
) -> Diagnosis:
    """Name the mistake.

    Families of mistakes are asked in order of their cost, and no further once one explains all but
    rounding. A family that fails is listed with the reason, and the others go on.

    Args:
        setting: what was observed and what it should have been.
        blocks: named parts of λ, for saying where the error sits.
        seconds: how long it may take; the families that are cut off are listed.
    """
    if blocks:
        setting = replace(setting, blocks=blocks)
    tally = _Tally()
    with time_limit(seconds), np.errstate(all="ignore"):
        tally.guarded("autograd's own answer", partial(_compare_autograd, setting, tally))
        stages = () if tally.contradicted else STAGES
        for stage in stages:
            for family in stage:
                tally.guarded(family.name, partial(_ask, family, setting, tally))
            if any(exactly(one, setting, len(tally.scored)) for one in tally.scored):
                break
        choice = choose(tally.scored, setting)
        if choice.best is None or choice.best.fitted > 0:
            tally.guarded("answers at the same lam", partial(_changes, setting, tally))
            choice = choice if tally.rough is None else Choice(tally.rough, (), choice.second)
        if choice.best is None:
            tally.guarded("float32 inside", partial(_single_precision, setting, tally))
            choice = replace(choice, best=tally.rough)
        tally.guarded("location of the error", partial(_locate, setting, tally))
    return Diagnosis.of(choice, len(tally.scored), tally.components, tally.failed, tally.cut_off)


@final
@dataclass(eq=False)
class _Tally:
    """What was compared so far, and what could not be.

    Attributes:
        scored: the candidates.
        failed: families with the reason why they could not be evaluated.
        cut_off: families that the time limit ended.
        rough: what speaks for answers that change at the same λ, or for single precision.
        components: where the error sits.
        contradicted: whether autograd gives another value than the truth.
    """

    scored: list[Scored] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    cut_off: list[str] = field(default_factory=list)
    rough: Scored | None = None
    components: tuple[str, ...] = ()
    contradicted: bool = False

    def guarded(self, name: str, call: Callable[[], None]) -> None:
        """Make a call of which no exception costs the verdict: it runs the caller's functions anew."""
        try:
            check_time()
            call()
        except OutOfTime:
            self.cut_off.append(name)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            self.failed.append(f"{name} ({type(error).__name__}: {lines[0][:_LONGEST_REASON]})")


def _compare_autograd(setting: Setting, tally: _Tally) -> None:
    """Say so where autograd gives another value than the truth, from which no mistake can be computed."""
    subject = setting.subject
    if not subject.contradicted:
        return
    tally.contradicted = True
    gap = float(np.linalg.norm(setting.seen - setting.along(subject.truth)))
    same = ", which is the one that was given," if gap <= 1e-6 * setting.error else ""
    tally.failed.append(
        f"the known mistakes: torch.autograd's hypergradient of these losses{same} is not the derivative of "
        "their values; look for .data, for numbers taken out of a tensor, or for a wrong backward"
    )


def _ask(family: Family, setting: Setting, tally: _Tally) -> None:
    """Score a family's candidates, and keep those that do not depend on what was observed."""
    kept = setting.subject.kept
    if family.name in kept:
        tally.scored += _scored(kept[family.name], setting)
        return
    made: list[Candidate] | None = [] if family.keeps else None
    for candidate in family.candidates(setting):
        tally.scored += _scored((candidate,), setting)
        if made is not None:
            made.append(candidate)
            made = made if len(made) * candidate.vector.size <= _KEPT_ENTRIES else None
        check_time()
    if made is not None:
        kept[family.name] = tuple(made)


def _scored(candidates: Iterable[Candidate], setting: Setting) -> list[Scored]:
    found = [score(candidate, setting) for candidate in candidates]
    return [one for one in found if one is not None]


def _changes(setting: Setting, tally: _Tally) -> None:
    text = precision.changes(setting)
    if text is not None:
        mistake = Mistake.ANSWER_CHANGES
        tally.rough = Scored(mistake, mistake.printed, text, 0, 0.0, 0.0)


def _single_precision(setting: Setting, tally: _Tally) -> None:
    for mistake, explains in (
        (Mistake.HALF_PRECISION, precision.halves),
        (Mistake.FLOAT32, precision.explains),
        (Mistake.DIFFERENCE_NOISE, precision.differences),
    ):
        text = explains(setting)
        if text is not None:
            tally.rough = Scored(mistake, mistake.printed, text, 0, 0.0, 0.0)
            return


def _locate(setting: Setting, tally: _Tally) -> None:
    tally.components = components(setting)
