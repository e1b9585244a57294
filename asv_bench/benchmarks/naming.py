"""What asv shows of a benchmark: its name, its unit, and values of parameters without quotes."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, final

Benchmark = TypeVar("Benchmark", bound=Callable[..., Any])


@final
class Words(str):
    """A value of a parameter. asv shows a parameter's `repr`: this one has no quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def words(names: Iterable[str]) -> tuple[Words, ...]:
    """The values of a parameter from strings, in their order.

    Args:
        names: the strings.
    """
    return tuple(Words(name) for name in names)


def shown_as(name: str, unit: str) -> Callable[[Benchmark], Benchmark]:
    """Give a benchmark the name and the unit that asv's pages show."""

    def mark(function: Benchmark) -> Benchmark:
        for attribute, value in (("pretty_name", name), ("unit", unit)):
            setattr(function, attribute, value)
        return function

    return mark
