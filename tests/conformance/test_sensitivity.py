"""Planted bugs are rejected, and named.

The bugs of `planted.py` on every entry of the catalogue; on some quadratic entries also with their
indirect or direct term scaled down by 10⁻², 10⁻⁴ and 10⁻⁶, so that a mistake in that term is an error of
about that size. A bug counts as above the floor when it moves the hypergradient by more than twice what
is allowed: then a right checker must reject it whatever rounding does.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from refblo.conformance.catalogue import Entry, entries
from refblo.conformance.diagnosis import Diagnosis, Setting, Subject, diagnose
from refblo.conformance.margins import Margin, margin
from refblo.conformance.truth.reference import reference
from refblo.noise import Draws
from refblo.types import Estimand
from tests.conformance.planted import Planted, implicit, right, scaled, unrolled

SIZES = (1e-2, 1e-4, 1e-6)
SCALED = ("quadratic-direct", "curved-hessian", "split-parameters", "momentum", "langevin")
"""The entries whose terms are also scaled down."""

WRONGLY_NAMED = 0.01
"""The share of rejected bugs that may be given another name, with which they do not agree."""

NAMED = 0.97
"""The share of rejected bugs of the named kinds that must be diagnosed by name."""

ULP = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Judged:
    entry: str
    planted: Planted
    margin: Margin
    error: float  # relative, from the right answer of `planted`
    diagnosis: Diagnosis | None

    @property
    def named(self) -> bool:
        return self.diagnosis is not None and bool(
            set(self.planted.names) & set(self.diagnosis.names)
        )

    @property
    def wrongly_named(self) -> bool:
        return not self.named and self.diagnosis is not None and self.diagnosis.name is not None

    def __str__(self) -> str:
        found = None if self.diagnosis is None else self.diagnosis.describe()
        return f"{self.entry}: {self.planted.kind} ({self.margin.relative:.1e}): {found}"


def variants(entry: Entry, sizes: tuple[float, ...]) -> Iterator[Entry]:
    yield entry
    if entry.name not in SCALED:
        return
    for size in sizes:
        yield scaled(entry, "indirect", size)
        if "direct" in entry.needs:
            yield scaled(entry, "direct", size)


def judge_all(entry: Entry, estimand: Estimand) -> Iterator[Judged]:
    program = entry.program(estimand)
    truth = reference(
        program,
        estimand,
        np.eye(entry.lam.size),
        exhaustive=True,
        draws=Draws(0),
        ulp=ULP,
        confirm=0,
    )
    subject = Subject(program, estimand, truth, None, entry.shapes, whole=True)
    wrong = implicit(entry) if estimand is Estimand.IMPLICIT else unrolled(entry, estimand)
    answer = right(entry, estimand)
    for planted in wrong:
        error = float(np.linalg.norm(planted.vector - answer)) / truth.scale
        found = margin(planted.vector, truth, 1e-9, 0.0)
        diagnosis = None
        if not found.right:
            diagnosis = diagnose(Setting(subject, planted.vector, accuracy=found.noise))
        yield Judged(entry.name, planted, found, error, diagnosis)


def examine(chosen: list[Entry], sizes: tuple[float, ...]) -> list[Judged]:
    found = [
        judged
        for entry in chosen
        for variant in variants(entry, sizes)
        for estimand in variant.estimands
        if estimand not in variant.undefined
        for judged in judge_all(variant, estimand)
    ]
    rejected = [judged for judged in found if not judged.margin.right]
    passed = [judged for judged in found if judged.margin.right]
    # What is above the floor by its distance from another right answer is rejected.
    assert all(judged.error <= 2 * judged.margin.floor for judged in passed)
    missed = [str(judged) for judged in rejected if not judged.named]
    wrongly = [str(judged) for judged in rejected if judged.wrongly_named]
    assert len(wrongly) <= WRONGLY_NAMED * len(rejected), "\n".join(wrongly)
    assert len(missed) <= (1 - NAMED) * len(rejected), "\n".join(missed)
    return rejected


def test_planted_bugs_are_rejected_and_named() -> None:
    chosen = [entry for entry in entries() if entry.name == "curved-hessian"]
    rejected = examine(chosen, ())
    assert len(rejected) >= 40


@pytest.mark.full
def test_planted_bugs_of_all_sizes_on_all_entries_are_rejected_and_named() -> None:
    rejected = examine(list(entries()), SIZES)
    named = sum(judged.named for judged in rejected)
    first = sum(
        judged.diagnosis is not None and judged.diagnosis.name in judged.planted.names
        for judged in rejected
    )
    by_kind = Counter(judged.planted.kind for judged in rejected)
    print(f"{len(rejected)} planted bugs rejected, {named} named, {first} of them first of equals")
    for kind, count in sorted(by_kind.items()):
        named = sum(judged.named for judged in rejected if judged.planted.kind == kind)
        print(f"  {kind}: {named} of {count}")
    assert len(rejected) >= 300
    sizes = [judged.margin.relative for judged in rejected]
    for size in SIZES:
        assert sum(size / 10 <= s <= size * 10 for s in sizes) >= 30, f"too few bugs of size {size}"


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.full)])
def test_a_vector_that_no_mistake_explains_is_said_to_be_so(times: int) -> None:
    draw = np.random.Generator(np.random.Philox(key=7))
    (entry,) = [entry for entry in entries() if entry.name == "example-weights-direct"]
    program = entry.program(Estimand.UNROLLED)
    truth = reference(
        program,
        Estimand.UNROLLED,
        np.eye(entry.lam.size),
        exhaustive=True,
        draws=Draws(0),
        ulp=ULP,
        confirm=0,
    )
    subject = Subject(program, Estimand.UNROLLED, truth)
    unnamed = 0
    for size in (1.0, 1e-2, 1e-4, 1e-6) * times:
        error = size * truth.scale * draw.standard_normal(entry.lam.size)
        found = diagnose(Setting(subject, truth.value + error))
        unnamed += found.name is None
        assert found.components
        assert "none of" in found.describe() or found.name is not None
    # A random vector comes within 1 % of one of some hundreds of others with chance below 10⁻¹⁴ here.
    assert unnamed == 4 * times
