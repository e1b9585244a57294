"""Errors are planted in all estimators and oracles, and rejected: 5 s of the quick suite.

A tenth of them is planted again. Which tenth depends on the source of refblo alone: after a change it is
another one. `make plants` plants all.
"""

import hashlib
from pathlib import Path

import pytest

from refblo.estimators import FMDDirectional
from refblo.estimators.registry import estimator_classes
from refblo.oracles import ORACLES, ForwardModeDirectional, taylor_test
from tests.plants.checks import PlantCheck, Where
from tests.plants.page import read, to_page
from tests.plants.plant import ROOT, Plant, plants, subjects
from tests.plants.swap import changed_code, in_place

RESULTS = read(Path(__file__).with_name("results.json"))
PAGE = ROOT / "docs" / "theory" / "code-plants.md"
SUBJECTS = [
    *(cls.__name__ for cls in estimator_classes()),
    *(type(oracle).__name__ for oracle in ORACLES),
    *(each.__name__ for each in (FMDDirectional, ForwardModeDirectional, taylor_test)),
    "Chain",
]
QUICK_SECONDS = 0.25
"""The most that a check of the quick sample took: what takes longer is planted by the full run alone."""
QUICK_COUNT = 10
EQUIVALENT = 2
"""The most errors that may be accepted, each with the reason why no check can reject it."""


def test_there_are_enough_plants_each_of_a_name_of_its_own() -> None:
    names = [plant.name for plant in plants()]
    assert len(set(names)) == len(names) >= 95


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_estimator_and_oracle_has_two(subject: str) -> None:
    planted = [plant for plant in plants() if plant.subject == subject]
    assert len(planted) >= 2, f"add [[plants]] of subject {subject!r} to a file of tests/plants"


def test_every_subject_is_judged_by_contracts_or_tests_that_there_are() -> None:
    assert {plant.subject for plant in plants()} == set(subjects())
    for subject in subjects().values():
        assert subject.contracts or subject.tests, subject.name
        for test in subject.tests:
            assert (ROOT / test.partition("::")[0]).is_file(), f"{subject.name}: no file {test}"


@pytest.mark.parametrize("plant", plants(), ids=lambda plant: plant.name)
def test_its_text_is_there_once_and_is_executed(plant: Plant) -> None:
    assert changed_code(plant)


def test_what_was_planted_is_of_the_plants_and_was_rejected() -> None:
    planted = [each["plant"] for each in RESULTS]
    known = [plant.name for plant in plants()]
    remedy = "run: make plants"
    assert planted == [name for name in known if name in set(planted)], remedy
    same = {plant.name for plant in plants() if plant.equivalent}
    assert len(same) <= EQUIVALENT
    assert {each["plant"] for each in RESULTS if each["by"] is None} <= same, remedy


@pytest.mark.full
def test_each_was_planted() -> None:
    left = len(plants()) - len(RESULTS)
    assert left == 0, f"{left} are not planted yet; run: make plants ARGS=--missing"


def test_the_page_shows_the_results() -> None:
    assert PAGE.read_text(encoding="utf-8") == to_page(RESULTS), "run: make plants"


def _sample() -> list[tuple[Plant, PlantCheck]]:
    """Plants that a row of the audit or the ledger rejects at once; the source decides which."""
    digest = hashlib.sha256()
    for file in sorted((ROOT / "refblo").glob("**/*.py")):
        digest.update(file.read_bytes())
    by = {plant.name: plant for plant in plants()}
    fast = [
        (by[each["plant"]], PlantCheck(Where(each["by"]), each["check"]))
        for each in RESULTS
        if each["by"] in (Where.AUDIT.value, Where.LEDGER.value)
        and each["seconds"] <= QUICK_SECONDS
        and each["plant"] in by
    ]
    first = int.from_bytes(digest.digest()[:8]) % len(fast)
    turned = fast[first:] + fast[:first]
    return turned[:: max(1, len(fast) // QUICK_COUNT)][:QUICK_COUNT]


@pytest.mark.parametrize(("plant", "check"), _sample(), ids=lambda each: each.name)
def test_a_tenth_is_rejected_again(plant: Plant, check: PlantCheck) -> None:
    with in_place(plant):
        rejecting = check.rejecting()
    assert rejecting, f"{check.name} accepts {plant.new!r} in {plant.file}"
    assert not check.rejecting(), f"{check.name} rejects the code as it is"


FILE = "refblo/estimators/maml.py"
TEXT = "Schedule.last(self.steps)"


def test_an_error_is_gone_after_the_block() -> None:
    plant = Plant("MAML", FILE, TEXT, "Schedule.last(self.steps + 1)", "one step too many")
    from refblo.estimators.maml import MAML

    before = MAML.estimate.__code__
    with in_place(plant):
        pass
    assert MAML.estimate.__code__ is before


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("Schedule.first", "Schedule.last", "old must occur once in .*maml.py, got 0 times"),
        ("self.", "self.other.", "old must occur once in .*maml.py, got [0-9]+ times"),
        ("steps: int\n", "steps: int = 3\n", "new must change the body of a function alone"),
        (TEXT, f"( {TEXT} )", "new must differ from old in what is executed"),
    ],
)
def test_what_cannot_be_planted_is_refused(old: str, new: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        changed_code(Plant("MAML", FILE, old, new, "nothing"))
