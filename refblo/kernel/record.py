"""Writing down the operations that a function does, backward passes included, while it does them.

Tensors are recognised by the memory they lie in, so that what autograd keeps and hands out again is found. A
tensor that was neither given nor made by a recorded operation is data: an input of the recorded graph, whose
numbers are read at each call.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx import Graph, Node
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from refblo.derivatives import is_one
from refblo.errors import RefbloError

Tensors = tuple[Tensor, ...]
Memory = tuple[object, ...]

MOST_BYTES = 2**28
"""How much memory a recording with numbers may keep; one that needs more is made on shapes alone."""

_READS_NUMBERS = frozenset(
    {
        *("numpy", "tolist", "item", "data_ptr", "untyped_storage", "storage", "share_memory_"),
        *("__array__", "__bool__", "__complex__", "__contains__", "__deepcopy__", "__dlpack__"),
        *("__float__", "__format__", "__index__", "__int__", "__reduce_ex__", "__repr__"),
    }
)
"""Functions of torch that give Python a tensor's numbers, or its memory."""

_CHANGES_MEMORY = frozenset({"aten::set_", "aten::resize_", "aten::resize_as_"})


class NotRecordableError(RefbloError, RuntimeError):
    """What a function does cannot be written down as one list of operations."""


class _TooLargeError(Exception):
    """The recording keeps more memory than it may."""


@final
@dataclass(frozen=True, eq=False)
class Recorded:
    """A function as a graph of operations in which nothing is written in place.

    Attributes:
        graph: takes the data, then the function's arguments. Nodes carry under "val" the tensor that was
            seen when it was recorded.
        data: tensors that the function reads and that are no argument.
    """

    graph: Graph
    data: Tensors


def record(function: Callable[..., Tensors], examples: Tensors) -> Recorded:
    """Run a function on examples and write down what it does.

    Args:
        function: of tensors; what it reads besides them is either a tensor or stays as it is.
        examples: arguments; they are not changed.

    Raises:
        NotRecordableError: if an operation's result depends on a tensor's numbers otherwise than as a tensor
            of a fixed shape, draws random numbers, or writes to a tensor that was not made by the function.
    """
    modes = [each.fake_mode for each in examples if isinstance(each, FakeTensor)]
    if modes:
        with modes[0]:
            return _recorded(function, tuple(torch.empty_like(each) for each in examples))
    try:
        return _recorded(function, tuple(each.detach().clone() for each in examples))
    except _TooLargeError:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            return _recorded(function, tuple(mode.from_tensor(each) for each in examples))


def _recorded(function: Callable[..., Tensors], examples: Tensors) -> Recorded:
    as_done = _Recorder(examples)
    with _NumbersStay(), as_done:
        outputs = function(*examples)
    data, again = as_done.data, as_done.repeating(outputs)
    # Operations can be left out only where nothing is written in place. A function that asks for gradients
    # cannot be freed of that, the list of its operations can.
    functional = torch.func.functionalize(again, remove="mutations")
    free = _Recorder((*data, *examples))
    with torch.no_grad(), free:
        outputs = functional(*data, *examples)
    if free.data:
        raise NotRecordableError("a tensor that was there only while it was recorded")
    return Recorded(free.graph_of(outputs), data)


class _NumbersStay(TorchFunctionMode):
    """Nothing reads a tensor's numbers into Python."""

    @override
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _READS_NUMBERS:
            raise NotRecordableError(f"Tensor.{name}, which takes numbers out of a tensor")
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class _Slot:
    """A tensor of a recording, by its number."""

    number: int


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Writes operations down, each with the numbers of the tensors that it took and made.

    Args:
        inputs: the tensors that the recording starts from.
    """

    def __init__(self, inputs: Tensors) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self._slots: dict[Memory, int] = {}
        self._tensors: list[Tensor] = []  # kept, so that no memory is used twice
        self._kept = {_storage(each) for each in inputs}
        self._weighed, self._bytes = set(self._kept), 0
        self._inputs = [self._slot(each) for each in inputs]
        self._data: list[int] = []
        self._ones: list[int] = []
        self._done: list[tuple[Any, Any, Any, Any]] = []

    @property
    def data(self) -> Tensors:
        """What was read and neither given nor made."""
        return tuple(self._tensors[slot] for slot in self._data)

    @override
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # asks a tensor for its device or layout
            return func(*args, **kwargs)
        self._check(func, args, kwargs)
        given, named = _mapped(self._argument, args), _mapped(self._argument, kwargs)
        result = func(*args, **kwargs)
        # A number or a truth tells of shapes: what looks at the numbers in a tensor has been refused.
        if result is None or isinstance(result, Tensor | tuple | list):
            self._done.append((func, given, named, self._made(result)))
        return result

    def repeating(self, outputs: Tensors) -> Callable[..., Tensors]:
        """A function of the data and the inputs that does the same operations, to the same outputs."""
        inputs = (*self._data, *self._inputs)
        constants = {slot: self._tensors[slot] for slot in self._ones}
        returned = [self._slots[_memory(output)] for output in outputs]

        def again(*given: Tensor) -> Tensors:
            tensors = {**constants, **dict(zip(inputs, given, strict=True))}

            def argument(value: Any) -> Any:
                return tensors[value.number] if type(value) is _Slot else value

            for func, args, kwargs, results in self._done:
                result = func(*_mapped(argument, args), **_mapped(argument, kwargs))
                if isinstance(results, int):
                    tensors.setdefault(results, result)
                    continue
                for slot, each in zip(results, result or (), strict=True):
                    if slot is not None:
                        tensors.setdefault(slot, each)
            return tuple(tensors[slot] for slot in returned)

        return again

    def graph_of(self, outputs: Tensors) -> Graph:
        """What was done as a graph, from the data and the inputs to these tensors."""
        returned = [self._slots[_memory(output)] for output in outputs]
        graph, nodes = Graph(), dict[int, Node]()

        def made(slot: int, node: Node) -> None:
            node.meta.setdefault("val", self._tensors[slot])
            nodes.setdefault(slot, node)

        def argument(value: Any) -> Any:
            return nodes[value.number] if type(value) is _Slot else value

        for number, slot in enumerate((*self._data, *self._inputs)):
            made(slot, graph.placeholder(f"given_{number}"))
        for slot in self._ones:
            one = self._tensors[slot]
            kind: dict[str, Any] = {"dtype": one.dtype, "device": one.device}
            made(slot, graph.call_function(torch.ops.aten.full.default, ([], 1.0), kind))
        for func, args, kwargs, results in self._done:
            node = graph.call_function(func, _mapped(argument, args), _mapped(argument, kwargs))
            if isinstance(results, int):
                made(results, node)
                continue
            for number, slot in enumerate(results):
                if slot is not None:
                    made(slot, graph.call_function(operator.getitem, (node, number)))
        graph.output(tuple(nodes[slot] for slot in returned))
        return graph

    def _check(self, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        schema, tags = func._schema, func.tags
        if func.namespace not in {"aten", "prims"}:
            raise NotRecordableError(f"{schema.name}, an operation that is not torch's own")
        numbers = torch.Tag.data_dependent_output in tags
        if numbers or (torch.Tag.dynamic_output_shape in tags and not _by_positions(schema, args)):
            raise NotRecordableError(f"{schema.name}, whose outcome depends on numbers in a tensor")
        if torch.Tag.nondeterministic_seeded in tags:
            raise NotRecordableError(f"{schema.name}, which draws random numbers")
        if schema.name in _CHANGES_MEMORY:
            raise NotRecordableError(f"{schema.name}, which gives a tensor other memory")
        if schema.is_mutable:
            for place, argument in enumerate(schema.arguments):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    written = args[place] if place < len(args) else kwargs.get(argument.name)
                    self._check_written(schema.name, written)

    def _check_written(self, name: str, written: Any) -> None:
        for tensor in tree_leaves(written):
            known = not isinstance(tensor, Tensor) or _memory(tensor) in self._slots
            if not known or (isinstance(tensor, Tensor) and _storage(tensor) in self._kept):
                raise NotRecordableError(f"{name} on a tensor that was there before")

    def _made(self, result: Any) -> Any:
        if isinstance(result, Tensor):
            return self._slot(result)
        if result is None:
            return ()
        return [self._slot(each) if isinstance(each, Tensor) else None for each in result]

    def _argument(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        memory = _memory(value)
        if memory not in self._slots:
            self._kept.add(_storage(value))
            self._weighed.add(_storage(value))
            (self._ones if is_one(value) else self._data).append(self._slot(value))
        return _Slot(self._slots[memory])

    def _slot(self, tensor: Tensor) -> int:
        memory = _memory(tensor)
        if memory not in self._slots:
            self._slots[memory] = len(self._tensors)
            self._tensors.append(tensor)
            self._weigh(tensor)
        return self._slots[memory]

    def _weigh(self, tensor: Tensor) -> None:
        storage = _storage(tensor)
        if isinstance(tensor, FakeTensor) or storage in self._weighed:
            return
        self._weighed.add(storage)
        self._bytes += tensor.untyped_storage().nbytes()
        if self._bytes > MOST_BYTES:
            raise _TooLargeError


def _mapped(function: Callable[[Any], Any], arguments: Any) -> Any:
    """An operation's arguments with each entry replaced; they are lists of lists at most."""
    if isinstance(arguments, tuple | list):
        return type(arguments)(_mapped(function, each) for each in arguments)
    if isinstance(arguments, dict):
        return {name: _mapped(function, each) for name, each in arguments.items()}
    return function(arguments)


def _by_positions(schema: Any, args: Any) -> bool:
    """Whether an operation takes entries by their positions, and not those where a mask is true."""
    masks = {torch.bool, torch.uint8}
    return schema.name == "aten::index" and not any(
        each is not None and each.dtype in masks for each in args[1]
    )


def _storage(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address


def _memory(tensor: Tensor) -> Memory:
    """Where a tensor lies, and how it reads what lies there.

    Raises:
        NotRecordableError: if it is of a kind that is not told by that.
    """
    kind = type(tensor)
    if tensor.layout is not torch.strided or (
        kind not in {Tensor, FakeTensor} and not issubclass(kind, torch.nn.Parameter)
    ):
        raise NotRecordableError(f"a {kind.__name__} of layout {tensor.layout}")
    return (
        *(_storage(tensor), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype),
        *(tensor.is_conj(), tensor.is_neg()),
    )
