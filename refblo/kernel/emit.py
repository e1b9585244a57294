"""A list of operations as straight code: one call a line, memory reused where nobody reads it any more."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from refblo.kernel.simplify import SHARES

# Those that go element by element, and may write where they read.
_INTO: dict[str, Callable[..., Tensor]] = {
    function.__name__: function
    for function in (
        *(torch.abs, torch.add, torch.cos, torch.div, torch.exp, torch.log, torch.mul, torch.neg),
        *(torch.pow, torch.reciprocal, torch.rsqrt, torch.sigmoid, torch.sign, torch.sin),
        *(torch.sqrt, torch.sub, torch.tanh),
    )
}
# torch's own functions take what the aten operations of their names do, and are three times faster to call.
_DIRECT: dict[str, Callable[..., Tensor]] = _INTO | {
    function.__name__: function
    for function in (
        *(torch.addmm, torch.addmv, torch.bmm, torch.dot, torch.mm, torch.mv, torch.sum),
        *(torch.all, torch.any, torch.bitwise_and, torch.bitwise_not, torch.bitwise_or),
        *(torch.eq, torch.ge, torch.gt, torch.le, torch.lt, torch.ne, torch.where),
        *(torch.cat, torch.clone, torch.full, torch.index_select, torch.stack),
        *(torch.permute, torch.select, torch.t, torch.transpose, torch.unsqueeze),
    )
}

SMALL = 4096
"""Bytes below which taking memory costs less than saying which to reuse."""


def straight(simplified: Graph) -> Callable[..., tuple[Tensor, ...]]:
    """The graph as a function of its inputs.

    Args:
        simplified: what `simplify` returns.
    """
    graph, new = Graph(), dict[Node, Node]()
    nodes = list(simplified.nodes)
    reused = _reused(nodes)
    for node in nodes:
        copy = graph.node_copy(node, lambda given: new[given])
        copy.meta.clear()  # what was seen when it was recorded takes memory
        if node.op == "call_function":
            name = _name(node)
            if name in _DIRECT:
                copy.target = _DIRECT[name]
            if node in reused:
                copy.kwargs = {**copy.kwargs, "out": new[reused[node]]}
        new[node] = copy
    return partial(_run, GraphModule(torch.nn.Module(), graph).forward)


@torch.no_grad()
def _run(code: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
    return code(*tensors)


def _name(node: Node) -> str:
    packet = getattr(node.target, "overloadpacket", None)
    return packet.__name__ if packet is not None else ""


def _reused(nodes: list[Node]) -> dict[Node, Node]:
    """For each operation that can write over one of its arguments, that argument.

    The argument's memory was made here, nothing returned is in it, and no later operation reads it, whether
    as itself or through a view.
    """
    owner = _owners(nodes)
    last: dict[Node, Node] = {}
    for node in nodes:
        for given in node.all_input_nodes:
            for memory in owner[given]:
                last[memory] = node
    found: dict[Node, Node] = {}
    for node in nodes:
        if node.op != "call_function" or _name(node) not in _INTO:
            continue
        for given in node.all_input_nodes:
            alone = sum(given in owner[other] for other in node.all_input_nodes) == 1
            made_here = given.op == "call_function" and owner[given] == {given}
            if made_here and alone and last[given] is node and _fits(given, node):
                found[node] = given
                break
    return found


def _owners(nodes: list[Node]) -> dict[Node, set[Node]]:
    """The nodes in whose memory each result may lie: its own, or those of what it is a view of."""
    owner: dict[Node, set[Node]] = {}
    for node in nodes:
        inputs = node.all_input_nodes
        if inputs and node.meta.get(SHARES, True):
            owner[node] = set[Node]().union(*(owner[given] for given in inputs))
        else:
            owner[node] = {node}
    return owner


def _fits(given: Node, node: Node) -> bool:
    a, b = given.meta.get("val"), node.meta.get("val")
    return (
        isinstance(a, Tensor)
        and isinstance(b, Tensor)
        and (a.shape, a.dtype, a.device, a.stride()) == (b.shape, b.dtype, b.device, b.stride())
        and a.numel() * a.element_size() >= SMALL
    )
