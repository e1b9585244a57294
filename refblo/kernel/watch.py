"""A key of everything that functions read besides their arguments (`read`): equal keys, equal behaviour.

A kernel (`refblo.kernel.record`) is used again only if the key of its function has not changed. The key holds
numbers and texts by value; tensors by identity, shape and memory; containers, objects, modules and functions
by what the functions' code can reach in them: closure cells, global variables, attributes, defaults, the
parts of a partial, the object of a method. It does not hold the numbers in a tensor: a kernel reads them at
each call, and a function that takes numbers out of a tensor is not recorded.

Attributes and globals are found by the names that stand in the code (`refblo.kernel.code`). A function is
refused (`UnwatchableError`) if its code finds objects in another way, keeps something for its next call, or
reads what cannot be compared (a generator, an iterator, a clock, a file). Code of Python, NumPy and torch
itself is not looked into (`refblo.kernel.trusted`).

What must hold: any change that can change the operations of a function changes its key, or the function is
refused. A key may change without need; that costs a new recording. So for a new type of object add a visitor
that puts all its state into the key, or let it be refused. tests/estimators/test_watch.py changes every place
in which a loss can find a number.
"""

import functools
import weakref
from abc import ABC
from collections import OrderedDict, _tuplegetter, defaultdict, deque  # type: ignore[attr-defined]  # CPython's
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter
from types import (
    BuiltinFunctionType,
    CodeType,
    EllipsisType,
    FunctionType,
    GenericAlias,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    NoneType,
    NotImplementedType,
    SimpleNamespace,
    UnionType,
    WrapperDescriptorType,
)
from typing import Any, Generic, Protocol, final

import numpy as np
import torch
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket
from torch._subclasses.fake_tensor import FakeTensor

from refblo.kernel.code import BUILTINS, UnwatchableError, lookups
from refblo.kernel.trusted import READS_STATE, checked_by, home, is_trusted, settings

MOST_THINGS = 100_000
"""Objects in a key; functions that reach more are refused."""

MOST_BYTES = 2**16
"""Bytes of a NumPy array in a key; larger ones are refused, because all their numbers are in the key."""

_BUILTINS = attrgetter("__builtins__")
"""Reads `function.__builtins__`, an attribute that mypy does not always know."""

_MISSING = object()
_HEAP_TYPE = 1 << 9
"""CPython's flag of a class that is written in Python."""

_CONSTRUCTORS = frozenset({"__init__", "__new__", "__post_init__"})
"""Methods that a call of a class runs."""

_NOT_CALLED = _CONSTRUCTORS | {
    *("__class_getitem__", "__copy__", "__deepcopy__", "__del__", "__dir__", "__doc__"),
    *("__getstate__", "__init_subclass__", "__reduce__", "__reduce_ex__", "__repr__"),
    *("__set_name__", "__setattr__", "__delattr__", "__setstate__", "__sizeof__", "__str__"),
    *("__subclasshook__", "__instancecheck__", "__subclasscheck__", "__annotate__"),
}
"""Special methods that a loss does not run by using an object; any other may be run by an operator."""

_METACLASSES = frozenset(
    {"type", "ABCMeta", "EnumType", "EnumMeta", "_ProtocolMeta", "NamedTupleMeta"}
)
"""Classes of classes that add nothing to what a call or a look-up runs; others are refused."""


@final
@dataclass(frozen=True, eq=False)
class Reading:
    """What functions read at one time.

    Attributes:
        key: equal for two readings of the same state.
        kept: the objects whose id is in the key, kept alive so that no other object gets the id.
        classes: the classes whose id is in the key, by weak references: a reading whose class no longer
            exists is out of date. (Keeping the classes alive would keep every problem alive that defines
            one.)
    """

    key: Hashable
    kept: tuple[object, ...]
    classes: tuple["weakref.ref[type]", ...]

    def is_current(self) -> bool:
        """Whether what the key tells by identity is still there."""
        return all(each() is not None for each in self.classes)


def read(*functions: object) -> Reading:
    """What functions read besides their arguments.

    Raises:
        UnwatchableError: if some of it cannot be compared, saying what.
    """
    walk = _Walk()
    now = settings()
    if now is None:
        raise UnwatchableError("torch has hooks or modes that change what functions do")
    walk.add("torch", now)
    for function in functions:
        walk.visit(function)
    walk.visit_names()
    return Reading(tuple(walk.key), tuple(walk.kept), tuple(walk.classes))


class _Walk:
    """Visits everything that functions reach, each object once, and adds it to the key in that order."""

    def __init__(self) -> None:
        self.key: list[Hashable] = []
        self.kept: list[object] = []
        self.classes: list[weakref.ref[type]] = []
        self._numbers: dict[int, int] = {}
        self._visited: list[object] = []  # kept alive as long as their ids are compared
        self._names: set[str] = set()
        self._namespaces: list[tuple[Mapping[str, Any], frozenset[str], set[str]]] = []
        self._leaves: list[Tensor] = []

    def add(self, *words: Hashable) -> None:
        """Add an entry to the key."""
        self.key.append(words)

    def visit(self, thing: Any) -> None:
        """Add an object, and what can be reached from it, to the key."""
        kind = type(thing)
        plain = _PLAIN.get(kind)
        if plain is not None:
            self.key.append((kind, plain(thing)))
            return
        number = self._numbers.get(id(thing))
        if number is not None:
            self.add("again", number)
            return
        if len(self._numbers) > MOST_THINGS:
            raise UnwatchableError(f"more than {MOST_THINGS} things are reached")
        self._numbers[id(thing)] = len(self._numbers)
        self._visited.append(thing)
        for kinds, visitor in _VISITORS:
            if isinstance(thing, kinds):
                visitor(self, thing)
                return
        self.instance(thing)

    def visit_names(self) -> None:
        """Visit the attributes whose names stand in the code visited so far, until no new one is found."""
        asked = -1
        while asked != len(self._names) + len(self._namespaces):
            asked = len(self._names) + len(self._namespaces)
            for number, (space, always, done) in enumerate(self._namespaces):
                for name in sorted(((self._names & space.keys()) | always) - done):
                    done.add(name)
                    self.add(number, name)
                    self.visit(space[name])
        if "grad" in self._names:
            for leaf in self._leaves:
                self.add("grad of", id(leaf))
                self.visit(leaf.grad)

    def add_namespace(self, space: Mapping[str, Any], always: frozenset[str] = frozenset()) -> None:
        """Let `visit_names` look up attributes here: those that code names, and `always` these."""
        self._namespaces.append((space, always & space.keys(), set()))

    def add_identity(self, thing: object) -> None:
        """Add the identity of an object to the key."""
        self.key.append(("is", id(thing)))
        if isinstance(thing, type):
            self.classes.append(weakref.ref(thing))
        else:
            self.kept.append(thing)

    # ------------------------------------------------------------ visitors, one for each type of object

    def tensor(self, tensor: Tensor) -> None:
        kind = type(tensor)
        known = kind in {Tensor, FakeTensor} or issubclass(kind, torch.nn.Parameter)
        if not known or tensor.layout is not torch.strided:
            raise UnwatchableError(f"a {kind.__name__} of layout {tensor.layout}")
        if tensor._backward_hooks:
            raise UnwatchableError("a tensor with hooks")
        self.add_identity(tensor)
        memory = 0 if kind is FakeTensor else tensor.data_ptr()
        self.add(
            *(kind, tensor.shape, tensor.stride(), tensor.storage_offset(), tensor.dtype, memory),
            *(tensor.device, tensor.requires_grad, tensor.is_conj(), tensor.is_neg()),
        )
        if tensor.is_leaf:
            self._leaves.append(tensor)
        if kind is Tensor and tensor.__dict__:
            self.visit(tensor.__dict__)

    def array(self, array: np.ndarray) -> None:
        if array.dtype.hasobject or array.nbytes > MOST_BYTES:
            raise UnwatchableError(f"a NumPy array of {array.nbytes} bytes; hold it as a tensor")
        self.add("array", str(array.dtype), array.shape, array.tobytes())

    def sequence(self, things: Any) -> None:
        self.add(type(things).__name__, len(things))
        for each in things:
            self.visit(each)
        self._visit_subclass(things)

    def mapping(self, things: Any) -> None:
        self.add(type(things).__name__, len(things))
        for key, value in things.items():
            self.visit(key)
            self.visit(value)
        if isinstance(things, defaultdict):
            self.visit(things.default_factory)
        self._visit_subclass(things)

    def _visit_subclass(self, thing: object) -> None:
        kind = type(thing)
        if kind not in _CONTAINERS and not is_trusted(kind.__module__):
            self.instance(thing)

    def partial(self, thing: "functools.partial[object]") -> None:
        self.add("partial", type(thing).__name__)
        for part in (thing.func, thing.args, thing.keywords):
            self.visit(part)
        if thing.__dict__:
            self.visit(thing.__dict__)

    def method(self, thing: MethodType) -> None:
        self.add("method")
        self.visit(thing.__func__)
        self.visit(thing.__self__)

    def function(self, function: FunctionType) -> None:
        wrapped = checked_by(function)
        if wrapped is not None:
            self.visit(wrapped)
            return
        self.add_identity(function.__code__)
        self.visit(function.__defaults__)
        self.visit(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                self.visit(cell.cell_contents)
            except ValueError:
                self.add("an empty cell")
        if is_trusted(home(function)):
            self._check_stateless(function)
            return
        if function.__dict__:
            self.add_namespace(function.__dict__)
        asked = lookups(function.__code__)
        self._names |= asked.names
        known, builtin = function.__globals__, _BUILTINS(function)
        for name in asked.variables:
            value = known.get(name, builtin.get(name, _MISSING))
            self.add("global", name)
            if value is not _MISSING:
                self.visit(value)

    def builtin(self, function: Any) -> None:
        owner = getattr(function, "__self__", None)
        self._check_stateless(function)
        if owner is None or isinstance(owner, ModuleType):
            module = owner.__name__ if owner is not None else function.__module__
            if module == "builtins" and function.__name__ not in BUILTINS:
                raise UnwatchableError(f"the function {function.__name__}")
            if not is_trusted(module):
                raise UnwatchableError(f"the function {module}.{function.__name__}")
        elif isinstance(owner, type):
            if not is_trusted(owner.__module__):
                raise UnwatchableError(f"the function {function.__qualname__}")
        else:
            self.add("method", function.__name__)
            self.visit(owner)
            return
        self.add_identity(function)

    def _check_stateless(self, thing: Any) -> None:
        if thing.__name__ in READS_STATE:
            raise UnwatchableError(f"the function {thing.__qualname__}")

    def module(self, module: ModuleType) -> None:
        self.add("module", module.__name__)
        own = type(module) is ModuleType and "__getattr__" not in vars(module)
        if not own and not is_trusted(module.__name__):
            raise UnwatchableError(f"the module {module.__name__}, which makes its attributes")
        self.add_namespace(vars(module))

    def kind(self, kind: type) -> None:
        """A class as an object: it may be called."""
        self.add_identity(kind)
        if is_trusted(kind.__module__):
            self._check_stateless(kind)
        else:
            self._class(kind, _CONSTRUCTORS)

    def _class(self, kind: type, always: frozenset[str]) -> None:
        if type(kind).__name__ not in _METACLASSES:
            raise UnwatchableError(f"the class {kind.__qualname__}, made by {type(kind).__name__}")
        # torch's own code calls methods that no visited code names, such as a module's `forward`.
        called = _has_trusted_base(kind)
        for base in kind.__mro__:
            if is_trusted(base.__module__):
                continue
            space = vars(base)
            special = {
                name
                for name, value in space.items()
                if (called or name.startswith("__")) and _is_called(value)
            }
            self.add_namespace(space, frozenset(special - _NOT_CALLED) | always)

    def descriptor(self, thing: Any) -> None:
        owner = getattr(thing, "__objclass__", None)
        # A slot of a class written in Python is read by its name.
        slot = isinstance(thing, MemberDescriptorType | GetSetDescriptorType | _tuplegetter)
        if not slot and owner is not None and not is_trusted(owner.__module__):
            raise UnwatchableError(f"{owner.__module__}.{thing.__qualname__}")
        self.add_identity(thing)

    def accessor(self, thing: property) -> None:
        self.add("property")
        self.visit(thing.fget)

    def wrapper(self, thing: Any) -> None:
        self.add(type(thing).__name__)
        self.visit(thing.__func__)

    def member(self, thing: Enum) -> None:
        self.add("member", thing.name)
        self.visit(type(thing))
        self.visit(thing.value)
        self.add_namespace(vars(thing))

    def instance(self, thing: object) -> None:
        """Any other object: its class, and its attributes that code names."""
        kind = type(thing)
        self.add_identity(kind)
        _check_visible(kind)
        self._class(kind, frozenset())
        held = dict(getattr(thing, "__dict__", {}))
        for base in kind.__mro__:
            slots = vars(base).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if isinstance(vars(base).get(name), MemberDescriptorType) and hasattr(thing, name):
                    held[name] = getattr(thing, name)
        self.add_namespace(held, frozenset(held) if _has_trusted_base(kind) else frozenset())


def _has_trusted_base(kind: type) -> bool:
    return any(
        base not in _BASES_WITHOUT_STATE and is_trusted(base.__module__) for base in kind.__mro__
    )


def _is_called(value: object) -> bool:
    return not isinstance(value, type) and (
        callable(value) or isinstance(value, property | staticmethod | classmethod)
    )


def _check_visible(kind: type) -> None:
    """Refuse objects with a state that Python cannot read: more memory than their slots explain."""
    for base in kind.__mro__:
        if base is object or base in _CONTAINERS:
            continue
        above = base.__base__
        assert above is not None
        slots = vars(base).get("__slots__", ())
        words = 2 + (1 if isinstance(slots, str) else len(slots))
        more = base.__basicsize__ - above.__basicsize__
        if not base.__flags__ & _HEAP_TYPE or more > 8 * words:
            raise UnwatchableError(f"an object of the class {kind.__module__}.{kind.__qualname__}")


def _same(thing: Any) -> Hashable:
    held: Hashable = thing
    return held


_PLAIN: dict[type, Callable[[Any], Hashable]] = {
    NoneType: _same,
    EllipsisType: _same,
    NotImplementedType: _same,
    bool: _same,
    int: _same,
    str: _same,
    bytes: _same,
    float: float.hex,
    complex: lambda number: (number.real.hex(), number.imag.hex()),
    range: _same,
    slice: repr,
    torch.dtype: _same,
    torch.device: _same,
    torch.layout: _same,
    torch.memory_format: _same,
    torch.Size: _same,
    torch.finfo: lambda info: info.dtype,
    torch.iinfo: lambda info: info.dtype,
}
_CONTAINERS = frozenset(
    {tuple, list, set, frozenset, dict, OrderedDict, defaultdict, deque, MappingProxyType}
)
_BASES_WITHOUT_STATE = frozenset({object, Generic, Protocol, ABC})
_VISITORS: tuple[tuple[Any, Callable[[_Walk, Any], None]], ...] = (
    (Tensor, _Walk.tensor),
    (FunctionType, _Walk.function),
    ((BuiltinFunctionType, MethodWrapperType), _Walk.builtin),
    (ModuleType, _Walk.module),
    (MethodType, _Walk.method),
    (functools.partial, _Walk.partial),
    (Enum, _Walk.member),
    (np.generic, lambda walk, thing: walk.add(str(thing.dtype), thing.tobytes())),
    (np.ndarray, _Walk.array),
    ((dict, MappingProxyType), _Walk.mapping),
    ((tuple, list, set, frozenset, deque), _Walk.sequence),
    (type, _Walk.kind),
    ((GenericAlias, UnionType), lambda walk, thing: walk.add(repr(thing))),
    (
        (
            *(MethodDescriptorType, WrapperDescriptorType, GetSetDescriptorType),
            *(MemberDescriptorType, _tuplegetter, OpOverload, OpOverloadPacket, CodeType, np.ufunc),
        ),
        _Walk.descriptor,
    ),
    (property, _Walk.accessor),
    ((staticmethod, classmethod), _Walk.wrapper),
    (SimpleNamespace, lambda walk, thing: walk.add_namespace(vars(thing))),
)
"""The visitor of each type; the first that fits is used, and `_Walk.instance` for all others."""
