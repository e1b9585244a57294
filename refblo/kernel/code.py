"""What a function's code may look up by name, and whether that is all that it looks up.

A name that stands in the code can be watched. Code that finds things in another way (`getattr` with a text,
`globals()`, an import) or keeps something for its next call cannot.
"""

import dis
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import final

from refblo.errors import RefbloError

BUILTINS = frozenset(
    {
        *(
            "abs",
            "all",
            "any",
            "callable",
            "chr",
            "divmod",
            "format",
            "hash",
            "isinstance",
            "issubclass",
        ),
        *("iter", "len", "max", "min", "next", "ord", "pow", "repr", "round", "sorted", "sum"),
    }
)
"""Built-in functions whose outcome depends on their arguments alone; classes may all be used."""

_KEEPS = {
    "STORE_GLOBAL": "writes a global variable",
    "DELETE_GLOBAL": "deletes a global variable",
    "STORE_ATTR": "writes an attribute",
    "DELETE_ATTR": "deletes an attribute",
    "IMPORT_NAME": "imports a module while it runs",
    "LOAD_BUILD_CLASS": "makes a class while it runs",
    "MATCH_CLASS": "matches a class pattern",
}
_INSIDES = frozenset(
    {
        *("__builtins__", "__closure__", "__code__", "__defaults__", "__dict__", "__globals__"),
        *("__func__", "__getattribute__", "__kwdefaults__", "__self__", "__subclasses__"),
        *("__wrapped__", "cr_frame", "f_back", "f_builtins", "f_globals", "f_locals", "gi_frame"),
    }
)


class UnwatchableError(RefbloError, RuntimeError):
    """Not all that a function reads besides its arguments can be compared with what it was."""


@final
@dataclass(frozen=True)
class Lookups:
    """What code looks up by name.

    Attributes:
        variables: names of global variables and built-in ones.
        names: `variables`, and names of attributes.
    """

    variables: tuple[str, ...]
    names: frozenset[str]


@lru_cache(maxsize=4096)
def _lookups(wrapped: "_ByIdentity") -> Lookups | str:
    code = wrapped.code
    variables, names = set[str](), set[str]()
    for part in _parts(code):
        names.update(part.co_names)
        for step in dis.get_instructions(part):
            if step.opname in _KEEPS:
                return _KEEPS[step.opname]
            if step.opname in {"STORE_DEREF", "DELETE_DEREF"} and step.argval in code.co_freevars:
                return f"writes the variable {step.argval} of the function around it"
            if step.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
                variables.add(str(step.argval))
    inside = sorted(names & _INSIDES)
    if inside:
        return f"looks into {inside[0]}"
    return Lookups(tuple(sorted(variables)), frozenset(names))


class _ByIdentity:
    """Code, compared by identity: to compare it as Python does takes longer than to read it."""

    def __init__(self, code: CodeType) -> None:
        self.code = code

    def __hash__(self) -> int:
        return id(self.code)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.code is other.code


def lookups(code: CodeType) -> Lookups:
    """What a function's code, and that of the functions within it, looks up by name.

    Raises:
        UnwatchableError: if it keeps something, or finds something in another way.
    """
    found = _lookups(_ByIdentity(code))
    if isinstance(found, str):
        raise UnwatchableError(f"{code.co_qualname} {found}")
    return found


def _parts(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)
