"""What a caller's functions hold: the tensors and modules in their closures, globals, and objects."""

import functools
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from refblo.conformance.trees import Form
from refblo.conformance.truth.guard import Guarded

_MOST = 2000
"""How many objects are looked at: those nearest to the function."""

_ENTRIES = 1000
"""How many entries a container may have that is looked into."""


def held(*functions: object) -> Iterator[tuple[str, Tensor | nn.Module]]:
    """The tensors and modules that functions refer to, by the caller's own names, the nearest first."""
    seen: dict[int, object] = {}  # with the things, so that none gives way to another of its number
    waiting: deque[tuple[str, object]] = deque(("", function) for function in functions)
    while waiting and len(seen) < _MOST:
        name, thing = waiting.popleft()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if isinstance(thing, Tensor | nn.Module):
            yield name, thing
        else:
            waiting.extend(_referred(thing))


def _referred(thing: Any) -> Iterator[tuple[str, object]]:
    """What an object refers to directly."""
    if isinstance(thing, Form):
        return  # of this package's own: it keeps λ and the state for their structure
    if isinstance(thing, Guarded):
        yield "", thing.function
    elif isinstance(thing, functools.partial):
        yield from [("", thing.func), ("", thing.args), ("", thing.keywords)]
    elif isinstance(thing, types.MethodType):
        yield from [("", thing.__self__), ("", thing.__func__)]
    elif isinstance(thing, types.FunctionType):
        yield from _of_function(thing)
    elif isinstance(thing, dict):
        if len(thing) <= _ENTRIES:
            yield from [(str(key), value) for key, value in list(thing.items())]
    elif isinstance(thing, list | tuple):
        if len(thing) <= _ENTRIES:
            yield from [(str(index), value) for index, value in enumerate(thing)]
    elif not isinstance(thing, type | types.ModuleType):
        yield from list(getattr(thing, "__dict__", {}).items())


def _of_function(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # a variable that was never set
            continue
    for name in _names(code):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield "", value


def _names(code: types.CodeType) -> list[str]:
    """The names of globals and attributes in a function and in the functions inside it."""
    found = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found.update(dict.fromkeys(_names(constant)))
    return list(found)
