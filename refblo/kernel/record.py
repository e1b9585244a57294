"""Records the operations that a function runs, backward passes included, as a graph (`record`).

The function runs twice: first as it is, then from the list of its operations with all writes in place removed
(`torch.func.functionalize`), so that `refblo.kernel.simplify` may leave operations out. `refblo.kernel.trace`
makes a kernel of the graph.

A tensor is recognised by its memory, so that a tensor that autograd saves and returns is the same one. A
tensor that is neither an argument nor a result of a recorded operation is *data*: an input of the recorded
graph, whose numbers are read at each call of the kernel. An exception is the scalar 1 by which refblo starts
a backward pass (`is_one`): it is a constant of the graph.

What must hold: the graph gives the bits that the function would give for any arguments of the same shapes,
dtypes and devices. Whatever the graph cannot hold is refused (`NotRecordableError`): operations that depend
on a tensor's numbers, random numbers, writes to tensors that the function did not make, operations that are
not torch's own. In doubt, refuse: the estimate then runs without a kernel, slower and right.
tests/test_kernel.py compares bits, tests/estimators/test_watch.py has the refusals.
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
"""Bytes that a recording on real tensors may keep; one that needs more is made on shapes alone."""

_READS_NUMBERS = frozenset(
    {
        *("numpy", "tolist", "item", "data_ptr", "untyped_storage", "storage", "share_memory_"),
        *("__array__", "__bool__", "__complex__", "__contains__", "__deepcopy__", "__dlpack__"),
        *("__float__", "__format__", "__index__", "__int__", "__reduce_ex__", "__repr__"),
    }
)
"""Functions of torch that give a tensor's numbers, or its memory, to Python."""

_CHANGES_MEMORY = frozenset({"aten::set_", "aten::resize_", "aten::resize_as_"})
"""Operations that give a tensor other memory, by which it could not be recognised any more."""


class NotRecordableError(RefbloError, RuntimeError):
    """A function cannot be recorded as one fixed list of operations."""


class _TooLargeError(Exception):
    """The recording keeps more memory than it may."""


@final
@dataclass(frozen=True, eq=False)
class Recorded:
    """A function as a graph of operations in which nothing is written in place.

    Attributes:
        graph: the operations. Its inputs are the data, then the function's arguments. `node.meta["val"]` is
            the tensor that the node gave during the recording.
        data: the tensors that the function reads besides its arguments.
    """

    graph: Graph
    data: Tensors


def record(function: Callable[..., Tensors], examples: Tensors) -> Recorded:
    """Run a function on examples and record its operations.

    Args:
        function: of tensors. Other things than tensors that it reads must not change as long as the recording
            is used (`refblo.kernel.watch`).
        examples: arguments with the shapes, dtypes and devices of all later calls; they are not changed.

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
    first = _Recorder(examples)
    with _RefuseReads(), first:
        outputs = function(*examples)
    data, repeat = first.data, first.repeating(outputs)
    # Remove writes in place, so that operations can be left out later. torch cannot do this to a function
    # that asks for gradients, but it can to the list of its operations.
    functional = torch.func.functionalize(repeat, remove="mutations")
    second = _Recorder((*data, *examples))
    with torch.no_grad(), second:
        outputs = functional(*data, *examples)
    if second.data:
        raise NotRecordableError("a tensor that existed only during the recording")
    return Recorded(second.graph_of(outputs), data)


class _RefuseReads(TorchFunctionMode):
    """Raises where Python reads a tensor's numbers or memory."""

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
    """Stands for a tensor in the recorded arguments of an operation: its number in the recording."""

    number: int


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Records operations, each with the slots of the tensors that it takes and gives.

    A slot is the number of a tensor, in the order in which tensors are met.

    Args:
        inputs: the tensors that the recording starts from.
    """

    def __init__(self, inputs: Tensors) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self._slots: dict[Memory, int] = {}
        self._tensors: list[Tensor] = []  # by slot; kept alive, so that no memory is used twice
        self._foreign = {_storage(each) for each in inputs}  # memory that no operation may write to
        self._counted, self._bytes = set(self._foreign), 0  # memory that `_bytes` holds already
        self._inputs = [self._slot(each) for each in inputs]
        self._data: list[int] = []
        self._ones: list[int] = []
        self._operations: list[
            tuple[Any, Any, Any, Any]
        ] = []  # function, args, kwargs, slots of results

    @property
    def data(self) -> Tensors:
        """The tensors that were read, and are neither inputs nor results of an operation."""
        return tuple(self._tensors[slot] for slot in self._data)

    @override
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # only reads a tensor's device or layout
            return func(*args, **kwargs)
        self._check(func, args, kwargs)
        slots, named = _mapped(self._argument, args), _mapped(self._argument, kwargs)
        result = func(*args, **kwargs)
        # A result that is a number or a bool depends on shapes alone, because `_check` refuses reads.
        if result is None or isinstance(result, Tensor | tuple | list):
            self._operations.append((func, slots, named, self._results(result)))
        return result

    def repeating(self, outputs: Tensors) -> Callable[..., Tensors]:
        """A function of the data and the inputs that runs the recorded operations and returns `outputs`."""
        inputs = (*self._data, *self._inputs)
        constants = {slot: self._tensors[slot] for slot in self._ones}
        returned = [self._slots[_memory(output)] for output in outputs]

        def repeat(*tensors_in: Tensor) -> Tensors:
            tensors = {**constants, **dict(zip(inputs, tensors_in, strict=True))}

            def argument(value: Any) -> Any:
                return tensors[value.number] if type(value) is _Slot else value

            for func, args, kwargs, results in self._operations:
                result = func(*_mapped(argument, args), **_mapped(argument, kwargs))
                if isinstance(results, int):
                    tensors.setdefault(results, result)
                    continue
                for slot, each in zip(results, result or (), strict=True):
                    if slot is not None:
                        tensors.setdefault(slot, each)
            return tuple(tensors[slot] for slot in returned)

        return repeat

    def graph_of(self, outputs: Tensors) -> Graph:
        """The recorded operations as a graph, from the data and the inputs to `outputs`."""
        returned = [self._slots[_memory(output)] for output in outputs]
        graph, nodes = Graph(), dict[int, Node]()

        def assign(slot: int, node: Node) -> None:
            node.meta.setdefault("val", self._tensors[slot])
            nodes.setdefault(slot, node)

        def argument(value: Any) -> Any:
            return nodes[value.number] if type(value) is _Slot else value

        for number, slot in enumerate((*self._data, *self._inputs)):
            assign(slot, graph.placeholder(f"given_{number}"))
        for slot in self._ones:
            one = self._tensors[slot]
            kind: dict[str, Any] = {"dtype": one.dtype, "device": one.device}
            assign(slot, graph.call_function(torch.ops.aten.full.default, ([], 1.0), kind))
        for func, args, kwargs, results in self._operations:
            node = graph.call_function(func, _mapped(argument, args), _mapped(argument, kwargs))
            if isinstance(results, int):
                assign(results, node)
                continue
            for number, slot in enumerate(results):
                if slot is not None:
                    assign(slot, graph.call_function(operator.getitem, (node, number)))
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
            raise NotRecordableError(f"{schema.name}, which changes the memory of a tensor")
        if schema.is_mutable:
            for place, argument in enumerate(schema.arguments):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    written = args[place] if place < len(args) else kwargs.get(argument.name)
                    self._check_written(schema.name, written)

    def _check_written(self, name: str, written: Any) -> None:
        for tensor in tree_leaves(written):
            known = not isinstance(tensor, Tensor) or _memory(tensor) in self._slots
            if not known or (isinstance(tensor, Tensor) and _storage(tensor) in self._foreign):
                raise NotRecordableError(f"{name} on a tensor that was not made by the function")

    def _results(self, result: Any) -> Any:
        """The slot of a tensor; the slots of a list's tensors, None for entries that are no tensor."""
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
            self._foreign.add(_storage(value))
            self._counted.add(_storage(value))
            (self._ones if is_one(value) else self._data).append(self._slot(value))
        return _Slot(self._slots[memory])

    def _slot(self, tensor: Tensor) -> int:
        memory = _memory(tensor)
        if memory not in self._slots:
            self._slots[memory] = len(self._tensors)
            self._tensors.append(tensor)
            self._count_bytes(tensor)
        return self._slots[memory]

    def _count_bytes(self, tensor: Tensor) -> None:
        storage = _storage(tensor)
        if isinstance(tensor, FakeTensor) or storage in self._counted:
            return
        self._counted.add(storage)
        self._bytes += tensor.untyped_storage().nbytes()
        if self._bytes > MOST_BYTES:
            raise _TooLargeError


def _mapped(function: Callable[[Any], Any], arguments: Any) -> Any:
    """An operation's arguments with `function` applied to each entry of the nested lists and dicts."""
    if isinstance(arguments, tuple | list):
        return type(arguments)(_mapped(function, each) for each in arguments)
    if isinstance(arguments, dict):
        return {name: _mapped(function, each) for name, each in arguments.items()}
    return function(arguments)


def _by_positions(schema: Any, args: Any) -> bool:
    """Whether an operation is indexing by positions; indexing by a mask reads the mask's numbers."""
    masks = {torch.bool, torch.uint8}
    return schema.name == "aten::index" and not any(
        each is not None and each.dtype in masks for each in args[1]
    )


def _storage(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address


def _memory(tensor: Tensor) -> Memory:
    """The memory of a tensor and how the tensor views it: equal for two tensors that are the same.

    Raises:
        NotRecordableError: for a class or layout of tensors that this does not identify.
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
