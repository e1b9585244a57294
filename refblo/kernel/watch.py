"""All that functions read besides their arguments, as one value that can be compared.

Numbers and texts are compared by value, tensors by identity, form and memory, containers, objects, modules
and functions by what the functions' code can reach in them: closure cells, global variables, attributes,
defaults, the parts of a partial, the object of a method. The numbers in a tensor are not compared: what is
recorded reads them at each call, and a recording that takes them out of a tensor is refused.

What is reached by name is found by the names that stand in the code. Where code finds things in another way,
keeps something for the next call, or reads what cannot be compared (a generator, an iterator, a clock, a
file), it cannot be watched.
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
"""How many things are compared; functions that read more are not watched."""

MOST_BYTES = 2**16
"""How large a NumPy array may be, whose numbers are compared."""

_BUILTINS = attrgetter("__builtins__")
"""Of a function; whether its type has the attribute depends on what else mypy reads."""

_MISSING = object()
_HEAP_TYPE = 1 << 9
_MAKING = frozenset({"__init__", "__new__", "__post_init__"})
_NOT_CALLED = _MAKING | {
    *("__class_getitem__", "__copy__", "__deepcopy__", "__del__", "__dir__", "__doc__"),
    *("__getstate__", "__init_subclass__", "__reduce__", "__reduce_ex__", "__repr__"),
    *("__set_name__", "__setattr__", "__delattr__", "__setstate__", "__sizeof__", "__str__"),
    *("__subclasshook__", "__instancecheck__", "__subclasscheck__", "__annotate__"),
}
_METACLASSES = frozenset(
    {"type", "ABCMeta", "EnumType", "EnumMeta", "_ProtocolMeta", "NamedTupleMeta"}
)


@final
@dataclass(frozen=True, eq=False)
class Reading:
    """What functions read at one time.

    Attributes:
        key: equal for two readings of the same.
        kept: what the key tells by its identity, so that nothing else gets it.
        classes: classes that the key tells by their identity, not kept: a reading with one that is gone is
            out of date.
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
    walk.tell("torch", now)
    for function in functions:
        walk.thing(function)
    walk.named()
    return Reading(tuple(walk.told), tuple(walk.kept), tuple(walk.classes))


class _Walk:
    """Goes through all that is reached, once each, and tells it in the order it is met."""

    def __init__(self) -> None:
        self.told: list[Hashable] = []
        self.kept: list[object] = []
        self.classes: list[weakref.ref[type]] = []
        self._places: dict[int, int] = {}
        self._met: list[object] = []  # kept as long as their ids are compared
        self._names: set[str] = set()
        self._spaces: list[tuple[Mapping[str, Any], frozenset[str], set[str]]] = []
        self._leaves: list[Tensor] = []

    def tell(self, *words: Hashable) -> None:
        """Add to what is compared."""
        self.told.append(words)

    def thing(self, thing: Any) -> None:
        """Go through a thing."""
        kind = type(thing)
        plain = _PLAIN.get(kind)
        if plain is not None:
            self.told.append((kind, plain(thing)))
            return
        place = self._places.get(id(thing))
        if place is not None:
            self.tell("again", place)
            return
        if len(self._places) > MOST_THINGS:
            raise UnwatchableError(f"more than {MOST_THINGS} things are reached")
        self._places[id(thing)] = len(self._places)
        self._met.append(thing)
        for kinds, tell in _TELLING:
            if isinstance(thing, kinds):
                tell(self, thing)
                return
        self.instance(thing)

    def named(self) -> None:
        """Go through all attributes that the code met so far asks for, until there are no more."""
        asked = -1
        while asked != len(self._names) + len(self._spaces):
            asked = len(self._names) + len(self._spaces)
            for number, (space, always, done) in enumerate(self._spaces):
                for name in sorted(((self._names & space.keys()) | always) - done):
                    done.add(name)
                    self.tell(number, name)
                    self.thing(space[name])
        if "grad" in self._names:
            for leaf in self._leaves:
                self.tell("grad of", id(leaf))
                self.thing(leaf.grad)

    def space(self, space: Mapping[str, Any], always: frozenset[str] = frozenset()) -> None:
        """Take note of something whose attributes are looked up by name."""
        self._spaces.append((space, always & space.keys(), set()))

    def keep(self, thing: object) -> None:
        """Tell a thing by its identity."""
        self.told.append(("is", id(thing)))
        if isinstance(thing, type):
            self.classes.append(weakref.ref(thing))
        else:
            self.kept.append(thing)

    # ------------------------------------------------------------ kinds of things

    def tensor(self, tensor: Tensor) -> None:
        kind = type(tensor)
        known = kind in {Tensor, FakeTensor} or issubclass(kind, torch.nn.Parameter)
        if not known or tensor.layout is not torch.strided:
            raise UnwatchableError(f"a {kind.__name__} of layout {tensor.layout}")
        if tensor._backward_hooks:
            raise UnwatchableError("a tensor with hooks")
        self.keep(tensor)
        memory = 0 if kind is FakeTensor else tensor.data_ptr()
        self.tell(
            *(kind, tensor.shape, tensor.stride(), tensor.storage_offset(), tensor.dtype, memory),
            *(tensor.device, tensor.requires_grad, tensor.is_conj(), tensor.is_neg()),
        )
        if tensor.is_leaf:
            self._leaves.append(tensor)
        if kind is Tensor and tensor.__dict__:
            self.thing(tensor.__dict__)

    def array(self, array: np.ndarray) -> None:
        if array.dtype.hasobject or array.nbytes > MOST_BYTES:
            raise UnwatchableError(f"a NumPy array of {array.nbytes} bytes; hold it as a tensor")
        self.tell("array", str(array.dtype), array.shape, array.tobytes())

    def sequence(self, things: Any) -> None:
        self.tell(type(things).__name__, len(things))
        for each in things:
            self.thing(each)
        self._if_derived(things)

    def mapping(self, things: Any) -> None:
        self.tell(type(things).__name__, len(things))
        for key, value in things.items():
            self.thing(key)
            self.thing(value)
        if isinstance(things, defaultdict):
            self.thing(things.default_factory)
        self._if_derived(things)

    def _if_derived(self, thing: object) -> None:
        kind = type(thing)
        if kind not in _CONTAINERS and not is_trusted(kind.__module__):
            self.instance(thing)

    def partial(self, thing: "functools.partial[object]") -> None:
        self.tell("partial", type(thing).__name__)
        for part in (thing.func, thing.args, thing.keywords):
            self.thing(part)
        if thing.__dict__:
            self.thing(thing.__dict__)

    def method(self, thing: MethodType) -> None:
        self.tell("method")
        self.thing(thing.__func__)
        self.thing(thing.__self__)

    def function(self, function: FunctionType) -> None:
        wrapped = checked_by(function)
        if wrapped is not None:
            self.thing(wrapped)
            return
        self.keep(function.__code__)
        self.thing(function.__defaults__)
        self.thing(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                self.thing(cell.cell_contents)
            except ValueError:
                self.tell("an empty cell")
        if is_trusted(home(function)):
            self._check_stateless(function)
            return
        if function.__dict__:
            self.space(function.__dict__)
        asked = lookups(function.__code__)
        self._names |= asked.names
        known, builtin = function.__globals__, _BUILTINS(function)
        for name in asked.variables:
            value = known.get(name, builtin.get(name, _MISSING))
            self.tell("global", name)
            if value is not _MISSING:
                self.thing(value)

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
            self.tell("method", function.__name__)
            self.thing(owner)
            return
        self.keep(function)

    def _check_stateless(self, thing: Any) -> None:
        if thing.__name__ in READS_STATE:
            raise UnwatchableError(f"the function {thing.__qualname__}")

    def module(self, module: ModuleType) -> None:
        self.tell("module", module.__name__)
        own = type(module) is ModuleType and "__getattr__" not in vars(module)
        if not own and not is_trusted(module.__name__):
            raise UnwatchableError(f"the module {module.__name__}, which makes its attributes")
        self.space(vars(module))

    def kind(self, kind: type) -> None:
        """A class as a value: it may be called."""
        self.keep(kind)
        if is_trusted(kind.__module__):
            self._check_stateless(kind)
        else:
            self._class(kind, _MAKING)

    def _class(self, kind: type, always: frozenset[str]) -> None:
        if type(kind).__name__ not in _METACLASSES:
            raise UnwatchableError(f"the class {kind.__qualname__}, made by {type(kind).__name__}")
        # torch's own code calls what no name here tells, such as a module's `forward`.
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
            self.space(space, frozenset(special - _NOT_CALLED) | always)

    def descriptor(self, thing: Any) -> None:
        owner = getattr(thing, "__objclass__", None)
        # A slot of a class written in Python is read by its name.
        slot = isinstance(thing, MemberDescriptorType | GetSetDescriptorType | _tuplegetter)
        if not slot and owner is not None and not is_trusted(owner.__module__):
            raise UnwatchableError(f"{owner.__module__}.{thing.__qualname__}")
        self.keep(thing)

    def accessor(self, thing: property) -> None:
        self.tell("property")
        self.thing(thing.fget)

    def wrapper(self, thing: Any) -> None:
        self.tell(type(thing).__name__)
        self.thing(thing.__func__)

    def member(self, thing: Enum) -> None:
        self.tell("member", thing.name)
        self.thing(type(thing))
        self.thing(thing.value)
        self.space(vars(thing))

    def instance(self, thing: object) -> None:
        """Any other object, by what is asked for of it."""
        kind = type(thing)
        self.keep(kind)
        _check_open(kind)
        self._class(kind, frozenset())
        held = dict(getattr(thing, "__dict__", {}))
        for base in kind.__mro__:
            slots = vars(base).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if isinstance(vars(base).get(name), MemberDescriptorType) and hasattr(thing, name):
                    held[name] = getattr(thing, name)
        self.space(held, frozenset(held) if _has_trusted_base(kind) else frozenset())


def _has_trusted_base(kind: type) -> bool:
    return any(base not in _EMPTY and is_trusted(base.__module__) for base in kind.__mro__)


def _is_called(value: object) -> bool:
    return not isinstance(value, type) and (
        callable(value) or isinstance(value, property | staticmethod | classmethod)
    )


def _check_open(kind: type) -> None:
    """Refuse objects that keep something where Python cannot look."""
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
_EMPTY = frozenset({object, Generic, Protocol, ABC})
_TELLING: tuple[tuple[Any, Callable[[_Walk, Any], None]], ...] = (
    (Tensor, _Walk.tensor),
    (FunctionType, _Walk.function),
    ((BuiltinFunctionType, MethodWrapperType), _Walk.builtin),
    (ModuleType, _Walk.module),
    (MethodType, _Walk.method),
    (functools.partial, _Walk.partial),
    (Enum, _Walk.member),
    (np.generic, lambda walk, thing: walk.tell(str(thing.dtype), thing.tobytes())),
    (np.ndarray, _Walk.array),
    ((dict, MappingProxyType), _Walk.mapping),
    ((tuple, list, set, frozenset, deque), _Walk.sequence),
    (type, _Walk.kind),
    ((GenericAlias, UnionType), lambda walk, thing: walk.tell(repr(thing))),
    (
        (
            *(MethodDescriptorType, WrapperDescriptorType, GetSetDescriptorType),
            *(MemberDescriptorType, _tuplegetter, OpOverload, OpOverloadPacket, CodeType, np.ufunc),
        ),
        _Walk.descriptor,
    ),
    (property, _Walk.accessor),
    ((staticmethod, classmethod), _Walk.wrapper),
    (SimpleNamespace, lambda walk, thing: walk.space(vars(thing))),
)
"""How each kind of thing is told; any other is an object with attributes."""
