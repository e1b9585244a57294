"""Nothing that is to be registered is missing or doubled, and a mistake is told with the line to add: 4 s."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from refblo.contracts import listing
from refblo.contracts.registry import contracts
from refblo.errors import ArgumentError
from refblo.estimators.registry import EstimatorClass, estimator_classes
from refblo.problems.catalogue import catalogue
from refblo.testing import exports, registry
from refblo.types import Estimand


@dataclass(frozen=True)
class Unregistered:
    name: str = field(default="unregistered", kw_only=True)
    estimand: Estimand = Estimand.UNROLLED

    def estimate(self) -> None: ...


@dataclass(frozen=True)
class SecondRMD(Unregistered):
    name: str = field(default="RMD", kw_only=True)


@dataclass(frozen=True)
class StrangeArgument(Unregistered):
    temperament: float = field(kw_only=True)


def test_everything_is_registered_once() -> None:
    found = registry.registry_problems()
    assert not found, "\n".join(found)


def test_an_estimator_without_a_contract_is_told_the_line() -> None:
    classes: tuple[EstimatorClass, ...] = (*estimator_classes(), Unregistered)
    (told,) = registry.of_estimators(classes, contracts())
    assert "Unregistered has no contract" in told
    assert "exact('unregistered', Unregistered), to contracts() in refblo/contracts" in told


def test_two_estimators_of_one_name_are_told_where_they_are() -> None:
    classes: tuple[EstimatorClass, ...] = (*estimator_classes(), SecondRMD)
    (told,) = registry.of_estimators(classes, contracts())
    assert "the name 'RMD' belongs to 2 estimators" in told
    assert "refblo/estimators/rmd.py" in told


def test_an_argument_of_an_unknown_name_is_told_the_line() -> None:
    with pytest.raises(ArgumentError, match="add the line 'temperament': lambda case: VALUE"):
        registry.names_of(StrangeArgument)


def test_a_contract_without_a_claim_is_told_the_line() -> None:
    first, *others = contracts()
    (told,) = registry.of_contracts(estimator_classes(), [replace(first, claim=" "), *others])
    assert told.startswith("refblo/contracts/agreement.py: the contract 'oracles: agree")
    assert 'add the line claim="WHAT IT CLAIMS, IN ONE SENTENCE",' in told


def test_two_contracts_of_one_name_are_told_the_line() -> None:
    first, *others = contracts()
    (told,) = registry.of_contracts(estimator_classes(), [first, first, *others])
    assert "2 contracts have the name 'oracles: agree" in told
    assert "remove one line from contracts() in refblo/contracts/registry.py" in told


def test_a_contract_about_no_estimator_is_told_the_name() -> None:
    first, *others = contracts()
    wrong = replace(first, name="RDM: exact", estimator="RDM")
    (told,) = registry.of_contracts(estimator_classes(), [wrong, *others])
    assert "is about 'RDM', which is the name of no estimator" in told


def test_a_problem_without_its_line_is_told_the_line() -> None:
    known = {name: builder for name, builder in catalogue().items() if name != "ridge_diabetes"}
    (told,) = registry.of_problems(known)
    assert 'add the line "ridge_diabetes": "ridge", to _MODULES in refblo/problems' in told


def test_a_line_without_its_problem_is_told() -> None:
    (told,) = registry.of_problems({**catalogue(), "rigde": None})
    assert "'rigde' has no function of that name" in told


def test_a_name_that_is_twice_in_the_catalogue_is_told(tmp_path: Path) -> None:
    table = tmp_path / "catalogue.py"
    table.write_text('T = {"a": "x", "b": "x", "a": "y"}\n', encoding="utf-8")
    (told,) = registry.of_names_in_the_catalogue(table)
    assert "the name 'a' is there 2 times; remove one line" in told


def test_exports_that_are_out_of_date_are_told_the_command(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        "class One:\n    def estimate(self): ...\n\n\nclass _Hidden(Enum): ...\n\n\nclass Law(Enum): ...\n",
        encoding="utf-8",
    )
    (tmp_path / "two.py").write_text('__all__ = ["run", "Two"]\n', encoding="utf-8")
    (tmp_path / "_shared.py").write_text('__all__ = ["hidden"]\n', encoding="utf-8")
    written = exports.text(tmp_path)
    assert "from refblo.estimators.one import Law, One\n" in written
    assert "from refblo.estimators.two import Two, run\n" in written
    assert "hidden" not in written.lower()
    (tmp_path / "__init__.py").write_text(written, encoding="utf-8")
    assert not list(registry.of_exports(tmp_path))
    (tmp_path / "three.py").write_text('__all__ = ["Three"]\n', encoding="utf-8")
    (told,) = registry.of_exports(tmp_path)
    assert "run python -m refblo.testing.exports" in told


def test_a_listing_that_is_out_of_date_is_told_the_command(tmp_path: Path) -> None:
    listed = listing.read()
    path = tmp_path / "listing.json"
    path.write_text(listed.text(), encoding="utf-8")
    assert listing.read(path) == listed
    assert not list(registry.of_the_listing(path))
    first, *rest = listed.cases
    other = replace(listed, cases=(replace(first, n=first.n + 1), *rest))
    path.write_text(other.text(), encoding="utf-8")
    (told,) = registry.of_the_listing(path)
    assert "run python -m refblo.testing.listing" in told
