"""Fewer operations, the same bits.

A recorded backward pass carries along what autograd needs to be general: the loss's value, which nobody asks
for, multiplications by expanded ones, powers of one, every intermediate computed again in each gradient. Each
rule here leaves every number as it is to the last bit; sums are not reordered, factors not merged.
"""

from typing import Any, final

import torch
from torch import Tensor
from torch.fx import Graph, Node

aten = torch.ops.aten

SHARES = "refblo shares storage"
"""The key in a node's `meta` under which stands whether its result may be a view of an argument."""

_CONSTRUCTORS: dict[object, float] = {
    aten.zeros.default: 0.0,
    aten.zeros_like.default: 0.0,
    aten.ones.default: 1.0,
    aten.ones_like.default: 1.0,
}
_FULL = (aten.full.default, aten.full_like.default)
_COPIES = (
    aten.alias.default,
    aten.clone.default,
    aten.detach.default,
    aten.lift_fresh_copy.default,
)
_VIEWS = (
    aten.alias.default,
    aten.detach.default,
    aten.expand.default,
    aten.permute.default,
    aten.select.int,
    aten.squeeze.dim,
    aten.t.default,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.view.default,
)
# Correctly rounded, so that one number gives what a vector of it does.
_ARITHMETIC = (
    aten.add.Tensor,
    aten.div.Tensor,
    aten.mul.Scalar,
    aten.mul.Tensor,
    aten.neg.default,
    aten.sub.Tensor,
)
_PRODUCTS = (aten.mul.Scalar, aten.mul.Tensor)


def simplify(recorded: Graph) -> Graph:
    """The same function in fewer operations.

    Args:
        recorded: a functional graph (nothing is written in place) of aten operations, whose nodes carry the
            tensors without numbers that they were traced with.

    Returns:
        A graph that gives the same numbers, each of its results in memory of its own where the recorded
        one's was. Nodes say under `SHARES` whether their result may be a view.
    """
    pass_ = _Pass(recorded)
    for node in recorded.nodes:
        pass_.visit(node)
    pass_.graph.eliminate_dead_code()
    return pass_.graph


@final
class _Pass:
    def __init__(self, recorded: Graph) -> None:
        self.graph = Graph()
        self._new: dict[Node, Node] = {}
        # One number that all elements of a node's result are, as a tensor of no dimension.
        self._uniform: dict[Node, Tensor] = {}
        self._known: dict[object, Node] = {}
        (output,) = (node for node in recorded.nodes if node.op == "output")
        self._returned = {_storage(node) for node in output.all_input_nodes}

    def visit(self, node: Node) -> None:
        """Take a node over, in one way or another."""
        if node.op == "output":
            self._copy(node)
        elif node.op != "call_function" or not isinstance(node.meta.get("val"), Tensor):
            self._copy(node)  # an input, or an operation with several results or none
        elif _storage(node) in self._returned:
            # What is returned keeps memory of its own: callers may write to it.
            self._copy(node)
        else:
            self._take(node)

    def _take(self, node: Node) -> None:
        value, target = node.meta["val"], node.target
        source = node.args[0] if node.args and isinstance(node.args[0], Node) else None
        number = self._number(node)
        if number is not None:
            self._uniform[node] = number
        if number is not None and target not in _VIEWS and value.is_contiguous():
            self._full(node, number)
        elif source is not None and _keeps_numbers(node) and _alike(source, node):
            self._forward(node, source)
        elif target in _PRODUCTS and self._scaled(node):
            pass
        elif torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()):
            self._copy(node)
        else:
            arguments = self._mapped(node.args), self._mapped(node.kwargs)
            # Nodes are written as their names, and numbers so that 1 is not 1.0.
            self._once((target, repr(arguments)), node)

    def _number(self, node: Node) -> Tensor | None:
        """What all elements of the result are, if that is known."""
        dtype, inputs = node.meta["val"].dtype, node.all_input_nodes
        if not dtype.is_floating_point:
            return None
        made = _constant(node)
        if made is not None:
            return torch.full((), made, dtype=dtype)
        if not inputs or not all(given in self._uniform for given in inputs):
            return None
        return self._computed(node)

    def _computed(self, node: Node) -> Tensor | None:
        """The number that an operation on numbers gives."""
        dtype, target = node.meta["val"].dtype, node.target
        if target in _VIEWS:
            return self._uniform[node.all_input_nodes[0]]
        if target not in _ARITHMETIC:
            return None
        numbers = [self._uniform[a] if isinstance(a, Node) else a for a in node.args]
        assert callable(target)
        found: Tensor = target(*numbers, **node.kwargs)
        return found if found.dtype == dtype else None

    def _scaled(self, node: Node) -> bool:
        """Take over a product with a number: as such, or not at all if the number is one."""
        if not node.meta["val"].dtype.is_floating_point:
            return False  # a whole number times 2.0 is none
        left, right = node.args
        if isinstance(left, Node) and left in self._uniform:
            left, right = right, left
        if isinstance(right, Node):
            number = self._uniform.get(right)
            factor = None if number is None else float(number)
        else:
            factor = float(right) if isinstance(right, int | float) else None
        if factor is None or not isinstance(left, Node) or not _alike(left, node):
            return False
        if factor == 1:
            self._forward(node, left)
        else:
            source = self._new[left]
            self._once((aten.mul.Scalar, source, factor), node, aten.mul.Scalar, (source, factor))
        return True

    def _forward(self, node: Node, source: Node) -> None:
        """Use the source wherever the node is used."""
        self._new[node] = self._new[source]
        if source in self._uniform:
            self._uniform[node] = self._uniform[source]

    def _full(self, node: Node, number: Tensor) -> None:
        """A constant that waits for no other tensor."""
        value = node.meta["val"]
        arguments = (list(value.shape), float(number))
        made = {"dtype": value.dtype, "device": value.device}
        self._once(("full", repr((arguments, made))), node, aten.full.default, arguments, made)

    def _once(
        self,
        key: object,
        node: Node,
        target: Any = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Take a node over, as another operation if one is given, unless its result is there already."""
        if key in self._known:
            self._new[node] = self._known[key]
            return
        if target is None:
            self._copy(node)
        else:
            self._new[node] = self.graph.call_function(target, args, kwargs)
            self._new[node].meta = {**node.meta, SHARES: False}
        self._known[key] = self._new[node]

    def _copy(self, node: Node) -> None:
        new = self.graph.node_copy(node, lambda given: self._new[given])
        new.meta[SHARES] = _shares(node)
        self._new[node] = new

    def _mapped(self, arguments: Any) -> Any:
        return torch.fx.map_arg(arguments, lambda given: self._new[given])


def _constant(node: Node) -> float | None:
    """What an operation fills its result with, whatever it is given."""
    target = node.target
    if target in _FULL:
        return float(node.args[1]) if isinstance(node.args[1], int | float) else None
    if target is aten.pow.Tensor_Scalar and node.args[1] == 0:
        return 1.0  # even of what is no number
    return _CONSTRUCTORS.get(target)


def _keeps_numbers(node: Node) -> bool:
    """Whether an operation's result is its first argument, number by number."""
    if node.target is aten.pow.Tensor_Scalar:
        return bool(node.args[1] == 1)
    return node.target in _COPIES


def _storage(node: Node) -> int | None:
    value = node.meta.get("val")
    return value.untyped_storage()._cdata if isinstance(value, Tensor) else None


def _shares(node: Node) -> bool:
    """Whether a node's result may be a view of an argument, by what was traced; where unknown, yes."""
    made, given = _storage(node), {_storage(one) for one in node.all_input_nodes}
    return made is None or None in given or made in given


def _alike(source: Node, node: Node) -> bool:
    """Whether two results have the same shape, the same type and the same order in memory."""
    a, b = source.meta.get("val"), node.meta["val"]
    return (
        isinstance(a, Tensor)
        and (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device)
        and a.stride() == b.stride()
    )
