"""The checker that the tests put around refblo: what it refuses, on a package of the test's own.

Share of the quick suite: below 1 s of processor time.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation

from tests import shape_checker

MODULE = '''"""A module."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from jaxtyping import Float
from torch import Tensor


if TYPE_CHECKING:
    from nowhere import Unknown


def takes_unknown(a: "Unknown", b: "int") -> "Unknown":
    return a


Listed = list[Float[Tensor, " n"]]


def takes(a: Listed) -> int:
    return len(a)


def yields(a: Float[Tensor, " n"]) -> Iterator[Listed]:
    yield [a]


def added(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return a + b


def longer(a: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return a.repeat(2)


def iterates(a: Float[Tensor, " n"]) -> int:
    return sum(1 for _ in yields(a[1:]))


def calls(a: Float[Tensor, " n"], b: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
    added(b, b)
    return added(a, a)


def listed(a: list[Float[Tensor, " n"]], f: Callable[[Float[Tensor, "n n"]], int]) -> int:
    return len(a)


def makes() -> object:
    def inside(a: int) -> int:
        return a

    return inside("no number")


@dataclass(frozen=True)
class Pair:
    left: Float[Tensor, " k"]
    right: Float[Tensor, " k"]

    @staticmethod
    def of(left: Float[Tensor, " k"]) -> "Pair":
        return Pair(left, left)

    @property
    def size(self) -> int:
        return "no number"

    def same(self) -> Self:
        return self


class Plain:
    def __init__(self, count: int) -> None:
        self.count = count
'''


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("home")
    package = home / "checked_by_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "module.py").write_text(MODULE, encoding="utf-8")
    shape_checker.install(package.name)
    sys.path.insert(0, str(home))
    found = import_module(f"{package.name}.module")
    sys.path.remove(str(home))
    return found


TWO, THREE = torch.zeros(2), torch.zeros(3)

REFUSED: dict[str, Callable[[Any], object]] = {
    "two sizes for one letter": lambda m: m.added(TWO, THREE),
    "another size in the result": lambda m: m.longer(TWO),
    "another number of dimensions": lambda m: m.added(TWO[None], TWO[None]),
    "integers": lambda m: m.added(TWO.long(), TWO.long()),
    "not what the text names": lambda m: m.takes_unknown(1, "no number"),
    "no tensor": lambda m: m.added([0.0], TWO),
    "an argument of a generator": lambda m: list(m.yields(TWO.long())),
    "in a list": lambda m: m.listed([TWO.long()], len),
    "no function": lambda m: m.listed([TWO], 3),
    "a field": lambda m: m.Pair(TWO, THREE),
    "a static method": lambda m: m.Pair.of(3),
    "a property": lambda m: m.Pair(TWO, TWO).size,
    "an argument of a class": lambda m: m.Plain("two"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case: str, module: Any) -> None:
    with pytest.raises(BeartypeCallHintViolation):
        REFUSED[case](module)


def test_what_fits_is_called(module: Any) -> None:
    assert module.added(TWO, TWO).shape == (2,)
    # A letter stands for a size during one call: the call inside has others.
    assert module.calls(TWO, THREE).shape == (2,)
    assert module.listed([TWO, TWO], len) == 2
    assert [len(each) for each in module.yields(TWO)] == [1]
    # So does that of a generator, which runs while the outer call does.
    assert module.iterates(THREE) == 1
    assert module.takes_unknown("anything", 1) == "anything"
    assert module.Pair.of(TWO).same().right is TWO


def test_a_function_inside_a_function_is_not_checked(module: Any) -> None:
    assert module.makes() == "no number"
    assert module.added.__wrapped__.__name__ == "added"


def test_a_changed_file_is_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "some.py"
    loader = shape_checker._Loader("some", str(file))
    values = []
    for text in ("VALUE = 1\n", "VALUE = 1\n", "VALUE = 22\n"):
        file.write_text(text, encoding="utf-8")
        found: dict[str, Any] = {}
        exec(loader.get_code("some"), found)
        values.append(found["VALUE"])
    assert values == [1, 1, 22]
    assert list((tmp_path / "__pycache__").glob("*.pyc"))
