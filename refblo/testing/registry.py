"""What is missing or doubled where estimators, contracts and problems are registered, and the line to add.

Each function yields one sentence for each thing that is not right; `registry_problems` yields all of them.
"""

import ast
import inspect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import chain
from pathlib import Path
from pkgutil import iter_modules

import torch

import refblo.problems
from refblo.contracts import listing as written
from refblo.contracts.agreement import NAME as ORACLES
from refblo.contracts.contract import Contract
from refblo.contracts.registry import contracts
from refblo.estimators.registry import EstimatorClass, estimator_classes
from refblo.problems.case import Case
from refblo.problems.catalogue import catalogue
from refblo.testing import exports, listing
from refblo.testing.cases import SMALL_CASES
from refblo.testing.instances import example

CONTRACTS = "contracts() in refblo/contracts/registry.py"
CATALOGUE = "_MODULES in refblo/problems/catalogue.py"


def names_of(cls: EstimatorClass) -> frozenset[str]:
    """The names of its instances; some have another name with an argument than without."""
    case = SMALL_CASES[0](torch.float64)
    return frozenset(example(cls, case, shortest=shortest).name for shortest in (False, True))


def by_estimator(
    classes: Sequence[EstimatorClass], registered: Sequence[Contract]
) -> dict[EstimatorClass, list[Contract]]:
    """The contracts of each estimator that is no wrapper.

    A contract is about the estimator with the longest name that its own begins with, up to a comma: one about
    "RMD, checkpointed" is RMD's, and one about "HPO-SGLD, discounted" is not HPO-SGLD's.
    """
    owners = {name: cls for cls in classes if not is_wrapper(cls) for name in names_of(cls)}
    found: dict[EstimatorClass, list[Contract]] = {cls: [] for cls in owners.values()}
    for contract in registered:
        name = _longest(contract, owners)
        if name is not None:
            found[owners[name]].append(contract)
    return found


def _longest(contract: Contract, names: Iterable[str]) -> str | None:
    """The longest of some names that a contract's estimator has, alone or before a comma."""
    having = (name for name in names if f"{contract.estimator}, ".startswith(f"{name}, "))
    return max(having, key=len, default=None)


def is_wrapper(cls: EstimatorClass) -> bool:
    """Whether its instances hold another estimator, whose contracts are theirs as well."""
    return "method" in inspect.signature(cls).parameters


def of_estimators(
    classes: Sequence[EstimatorClass], registered: Sequence[Contract]
) -> Iterator[str]:
    """Estimators without a contract, and two of one name."""
    names = {cls: names_of(cls) for cls in classes if not is_wrapper(cls)}
    for cls, its in by_estimator(classes, registered).items():
        if not its:
            yield (
                f"{_file(cls)}: {cls.__name__} has no contract; make one in refblo/contracts/ and add its "
                f"line, such as exact({min(names[cls])!r}, {cls.__name__}), to {CONTRACTS}"
            )
    for name, count in Counter(chain.from_iterable(names.values())).items():
        if count > 1:
            files = ", ".join(_file(cls) for cls, its in names.items() if name in its)
            yield f"the name {name!r} belongs to {count} estimators ({files}); change `name` in one of them"


def of_contracts(
    classes: Sequence[EstimatorClass], registered: Sequence[Contract]
) -> Iterator[str]:
    """Contracts of one name, without a claim, or about an estimator that does not exist."""
    names = {ORACLES}.union(*(names_of(cls) for cls in classes if not is_wrapper(cls)))
    for name, count in Counter(contract.name for contract in registered).items():
        if count > 1:
            yield (
                f"{count} contracts have the name {name!r}; remove one line from {CONTRACTS}, or give its "
                "estimator another name there"
            )
    for contract in registered:
        if not contract.claim.strip():
            yield (
                f"{_source(contract)}: the contract {contract.name!r} has no claim; add the line "
                'claim="WHAT IT CLAIMS, IN ONE SENTENCE", to its Contract(...)'
            )
        if _longest(contract, names) is None:
            yield (
                f"{CONTRACTS}: {contract.name!r} is about {contract.estimator!r}, which is the name of no "
                "estimator in refblo/estimators/; begin it with the estimator's `name`"
            )


def of_exports(package: Path = exports.PACKAGE) -> Iterator[str]:
    """An `__init__.py` that is not what the files beside it make it."""
    if (package / "__init__.py").read_text(encoding="utf-8") != exports.text(package):
        yield (
            "refblo/estimators/__init__.py does not export what the files beside it define; run "
            "python -m refblo.testing.exports"
        )


def of_the_listing(path: Path = written.LISTING) -> Iterator[str]:
    """What `refblo list` prints, where it is not what the registries say."""
    if path.read_text(encoding="utf-8") != listing.of_the_registries().text():
        yield (
            "refblo/contracts/listing.json is not the list of the cases and contracts that are registered; "
            "run python -m refblo.testing.listing"
        )


def of_problems(known: Mapping[str, object]) -> Iterator[str]:
    """Builders of cases that the catalogue does not list, and names in it that nothing builds."""
    builders: dict[str, str] = {}
    for info in iter_modules(refblo.problems.__path__):
        module = import_module(f"refblo.problems.{info.name}")
        for name, value in vars(module).items():
            if getattr(value, "__module__", "") == module.__name__ and _is_builder(value):
                builders[name] = info.name
    for name, file in builders.items():
        if name not in known:
            yield (
                f"refblo/problems/{file}.py: {name} builds a problem that the catalogue does not list; add "
                f'the line "{name}": "{file}", to {CATALOGUE}'
            )
    for name in known:
        if name not in builders:
            yield (
                f"{CATALOGUE}: {name!r} has no function of that name in its file that takes (dtype, device) "
                "and returns a Case; add the function, or correct the line"
            )


def _is_builder(value: object) -> bool:
    if not inspect.isfunction(value) or value.__name__.startswith("_"):
        return False
    takes = list(inspect.signature(value).parameters)
    return takes == ["dtype", "device"] and inspect.signature(value).return_annotation is Case


def of_names_in_the_catalogue(path: Path | None = None) -> Iterator[str]:
    """Names that the catalogue's table lists twice: Python keeps the last line and says nothing."""
    where = Path(refblo.problems.__file__).parent / "catalogue.py" if path is None else path
    tree = ast.parse(where.read_text(encoding="utf-8"))
    tables = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    for table in tables:
        names = [key.value for key in table.keys if isinstance(key, ast.Constant)]
        for name, count in Counter(names).items():
            if count > 1:
                yield f"{CATALOGUE}: the name {name!r} is there {count} times; remove one line"


def registry_problems() -> tuple[str, ...]:
    """Everything that is not right, one sentence each."""
    classes, registered = estimator_classes(), contracts()
    return tuple(
        chain(
            of_exports(),
            of_the_listing(),
            of_estimators(classes, registered),
            of_contracts(classes, registered),
            of_names_in_the_catalogue(),
            of_problems(catalogue()),
        )
    )


def _file(cls: EstimatorClass) -> str:
    return f"{cls.__module__.replace('.', '/')}.py"


def _source(contract: Contract) -> str:
    return f"{contract.check.__module__.replace('.', '/')}.py"
