"""What computes the same: a text for any object that goes into a run, so that two can be compared.

Functions are compared by their code, their defaults, the values that they close over and the numbers that
they read from their module, not by names: two lambdas of one function differ only in what they close over.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    NoneType,
    WrapperDescriptorType,
)
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

Around: TypeAlias = tuple[int, ...]
"""The ids of the objects that one is told as a part of, the outermost first."""

PLAIN = (NoneType, bool, int, float, complex, str, bytes, np.generic, torch.dtype, torch.device)
PINNED = frozenset({"torch", "numpy", "refblo", "builtins", "abc", "typing", "collections"})
"""Packages whose code is pinned by a version, which is compared apart; only their names are looked at."""


def digest(*tensors: Tensor) -> str:
    """A hash of the tensors' exact bytes, dtypes and shapes."""
    found = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        found.update(f"{plain.dtype} {tuple(plain.shape)} ".encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def identity(thing: object) -> str:
    """A text that is the same for what computes the same, in this process and in another one."""
    return _text(thing, ())


def _text(thing: object, around: Around) -> str:
    if id(thing) in around:  # it holds itself, perhaps some levels down
        return f"<{len(around) - around.index(id(thing))} levels up>"
    inside = (*around, id(thing))
    for kind, tell in _TEXT_OF:
        if isinstance(thing, kind):
            return tell(thing, inside)
    return f"{_of_class(type(thing), inside)}({_of_fields(thing, inside)})"


def _listed(things: Iterable[object], inside: Around) -> str:
    return f"[{', '.join(_text(each, inside) for each in things)}]"


def _mapped(things: Mapping[object, object], inside: Around) -> str:
    pairs = (f"{_text(key, inside)}: {_text(things[key], inside)}" for key in things)
    return f"{{{', '.join(pairs)}}}"


def _of_set(things: AbstractSet[object], inside: Around) -> str:
    return f"{{{', '.join(sorted(_text(each, inside) for each in things))}}}"


def _of_partial(thing: "functools.partial[object]", inside: Around) -> str:
    return (
        f"partial{_listed((thing.func, thing.args, dict(sorted(thing.keywords.items()))), inside)}"
    )


def _of_method(thing: MethodType, inside: Around) -> str:
    return f"{_text(thing.__func__, inside)} of {_text(thing.__self__, inside)}"


def _of_array(thing: np.ndarray, _: Around) -> str:
    return f"{thing.dtype} {thing.shape} {_hashed(np.ascontiguousarray(thing).tobytes())}"


def _of_optimiser(thing: torch.optim.Optimizer, inside: Around) -> str:
    """Its class and its settings, without its parameters."""
    groups = [
        {key: value for key, value in group.items() if key != "params"}
        for group in thing.param_groups
    ]
    return f"{_of_class(type(thing), inside)} {_listed(groups, inside)}"


def _of_function(function: FunctionType, inside: Around) -> str:
    code, pinned = function.__code__, _pinned(function.__module__)
    parts = [_name(function) if pinned else _hashed(_of_bytecode(code).encode())]
    parts.append(_text(function.__defaults__, inside))
    parts.append(_text(function.__kwdefaults__, inside))
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            parts.append(f"{name}={_text(cell.cell_contents, inside)}")
        except ValueError:  # not yet bound
            parts.append(f"{name} unbound")
    if not pinned:
        parts.extend(_of_globals(function, inside))
    return f"function({', '.join(parts)})"


def _of_bytecode(code: CodeType) -> str:
    """A function's code without the file and the lines it stands in."""
    constants = [
        _of_bytecode(each) if isinstance(each, CodeType) else repr(_sorted(each))
        for each in code.co_consts
    ]
    shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return f"{code.co_code.hex()} {constants} {names} {shape}"


def _sorted(constant: object) -> object:
    """A frozenset of constants has another order in every process."""
    return sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant


def _of_globals(function: FunctionType, inside: Around) -> Iterator[str]:
    """The plain values and the functions of its own package that a function reads from its module."""
    package = (function.__module__ or "").partition(".")[0]
    for name in sorted(_names(function.__code__) & function.__globals__.keys()):
        value = function.__globals__[name]
        home = (getattr(value, "__module__", None) or "").partition(".")[0]
        own = isinstance(value, (FunctionType, type)) and home == package
        if own or isinstance(value, (*PLAIN, Tensor, np.ndarray, tuple)):
            yield f"{name}={_text(value, inside)}"


def _names(code: CodeType) -> set[str]:
    """The names that a function, or one within it, may look up in its module."""
    found = set(code.co_names)
    for each in code.co_consts:
        if isinstance(each, CodeType):
            found |= _names(each)
    return found


def _of_class(kind: type, inside: Around) -> str:
    """A class by its name and, where no version pins it, by its methods and those of its bases."""
    parts = [_name(kind)]
    if id(kind) not in inside[:-1]:
        within = (*inside, id(kind))
        for base in kind.__mro__:
            if _pinned(base.__module__):
                continue
            for name, part in sorted(vars(base).items()):
                function = part.fget if isinstance(part, property) else part
                function = getattr(function, "__func__", function)
                plain = isinstance(part, PLAIN) and not name.startswith("__")
                if isinstance(function, FunctionType) or plain:
                    parts.append(f"{name}={_text(function, within)}")
    return f"<{', '.join(parts)}>" if len(parts) > 1 else parts[0]


def _of_fields(thing: object, inside: Around) -> str:
    names: list[str]
    if is_dataclass(thing):
        names = [each.name for each in fields(thing)]
    else:
        slots = [name for base in type(thing).__mro__ for name in getattr(base, "__slots__", ())]
        names = sorted({*getattr(thing, "__dict__", {}), *slots} - {"__dict__", "__weakref__"})
    return ", ".join(
        f"{name}={_text(getattr(thing, name), inside)}" for name in names if hasattr(thing, name)
    )


def _name(thing: object) -> str:
    module = getattr(thing, "__module__", None)
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    return f"{module}.{name}" if module else str(name)


def _pinned(module: str | None) -> bool:
    return (module or "builtins").partition(".")[0] in PINNED


def _hashed(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


_TEXT_OF: tuple[tuple[type | tuple[type, ...], Callable[[Any, Around], str]], ...] = (
    (Enum, lambda thing, _: str(thing)),
    ((*PLAIN, PurePath), lambda thing, _: repr(thing)),
    (Tensor, lambda thing, _: digest(thing)),
    (np.ndarray, _of_array),
    ((tuple, list), _listed),
    (Mapping, _mapped),
    (AbstractSet, _of_set),
    (functools.partial, _of_partial),
    (MethodType, _of_method),
    (FunctionType, _of_function),
    (type, _of_class),
    (ModuleType, lambda thing, _: str(thing.__name__)),
    (
        (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType),
        lambda thing, _: _name(thing),
    ),
    (torch.Generator, lambda thing, _: f"Generator {digest(thing.get_state())}"),
    (torch.optim.Optimizer, _of_optimiser),
)
"""How each kind of object is told; anything else by its class and its fields."""
