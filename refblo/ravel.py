"""The one boundary between flat vectors and the parameters of a module or a tree of tensors.

A loss of refblo takes θ as a vector. `ravel_module` makes such a vector of a module's trainable
parameters, together with a pure function of it that runs the module; `ravel_tree` does so for nested
dicts, lists and tuples of tensors.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refblo.errors import ArgumentError, ArgumentTypeError, difference, listed

Vector = Float[Tensor, " n"]
Tree: TypeAlias = Tensor | dict[str, Any] | list[Any] | tuple[Any, ...]
"""A tensor, or a dict, list or tuple of trees."""


@final
@dataclass(frozen=True, eq=False)
class Layout:
    """Which entries of the flat vector belong to which named tensor.

    Attributes:
        names: of the tensors, in the vector's order.
        shapes: of the tensors, in the same order.
        dtype: of all of them.
        device: of all of them.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    dtype: torch.dtype
    device: torch.device

    @staticmethod
    def of(tensors: Mapping[str, Tensor], argument: str) -> "Layout":
        """The layout of some named tensors.

        Args:
            tensors: by name.
            argument: the name that an error gives to the object they came from.

        Raises:
            ArgumentError: if there are none, or all are empty.
            ArgumentTypeError: if one is not floating-point, or dtypes or devices are mixed.
        """
        if sum(tensor.numel() for tensor in tensors.values()) == 0:
            raise ArgumentError(
                f"{argument} must have at least one trainable parameter, got none; there is nothing to "
                "differentiate by (look for requires_grad=False)"
            )
        first_name, first = next(iter(tensors.items()))
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                raise ArgumentTypeError(
                    f"{argument} must have floating-point tensors, got {tensor.dtype} for {name!r}; "
                    "convert it, or keep it out of the parameters (a module's buffer may have any dtype)"
                )
            if (tensor.dtype, tensor.device) != (first.dtype, first.device):
                raise ArgumentTypeError(
                    f"{argument} must have tensors of one dtype on one device, got {first.dtype} on "
                    f"{first.device} for {first_name!r} and {tensor.dtype} on {tensor.device} for "
                    f"{name!r}; convert all of them with .to(dtype=..., device=...)"
                )
        shapes = tuple(tensor.shape for tensor in tensors.values())
        return Layout(tuple(tensors), shapes, first.dtype, first.device)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of entries, in the vector's order."""
        return tuple(shape.numel() for shape in self.shapes)

    def flatten(self, tensors: Mapping[str, Tensor]) -> Vector:
        """The vector of named tensors; the graph to them is kept.

        Args:
            tensors: one for each name of the layout, in any order, for instance a state dict.

        Raises:
            ArgumentError: if a name is missing, misspelt or superfluous, or a shape is wrong.
        """
        missing = [name for name in self.names if name not in tensors]
        unexpected = [name for name in tensors if name not in self.names]
        if missing or unexpected:
            raise ArgumentError(
                f"tensors must have exactly the names {listed(self.names)}, got "
                f"{difference(missing, unexpected)}; look for a misspelt name"
            )
        for name, shape in zip(self.names, self.shapes, strict=True):
            if tensors[name].shape != shape:
                raise ArgumentError(
                    f"tensors[{name!r}] must have shape {tuple(shape)}, got "
                    f"{tuple(tensors[name].shape)}; give it the shape of the module's own"
                )
        return torch.cat([tensors[name].reshape(-1) for name in self.names])

    def unflatten(self, vector: Vector) -> dict[str, Tensor]:
        """The named tensors, as views into the vector.

        Raises:
            ArgumentError: if the vector has the wrong length.
        """
        if vector.shape != (sum(self.sizes),):
            raise ArgumentError(
                f"vector must have shape ({sum(self.sizes)},), got {tuple(vector.shape)}; it holds the "
                f"tensors {list(self.names)} one after another"
            )
        pieces: tuple[Tensor, ...] = torch.split(vector, list(self.sizes))
        return {
            name: piece.reshape(shape)
            for name, piece, shape in zip(self.names, pieces, self.shapes, strict=True)
        }


def module_layout(module: nn.Module) -> Layout:
    """The layout of a module's trainable parameters; a shared one is counted once.

    Raises:
        ArgumentError: if it has none.
        ArgumentTypeError: if dtypes or devices are mixed.
    """
    return Layout.of(_trainable(module), "module")


def ravel_module(module: nn.Module) -> tuple[Vector, Callable[..., Tensor]]:
    """A module as a pure function of a flat vector.

    What is not trained (parameters with requires_grad=False, buffers) enters with the value it had when
    this was called. A buffer that the module updates, such as a running mean, starts from that value at
    every call: the update is lost, so that the function stays pure. Randomness inside the module, such
    as dropout's, is not removed: call `module.eval()` first.

    Args:
        module: the module; it is neither changed nor referred to by the vector.

    Returns:
        θ, shape (n,), and `apply(theta, *inputs)` ↦ the module's output. The function works under autograd
        and under torch.func's jvp, grad and vmap.

    Raises:
        ArgumentError: if the module has no trainable parameter.
        ArgumentTypeError: if its parameters mix dtypes or devices.

    Example:
        >>> import torch
        >>> theta, apply = ravel_module(torch.nn.Linear(3, 1))
        >>> theta.shape, apply(torch.ones(4), torch.ones(2, 3)).tolist()
        (torch.Size([4]), [[4.0], [4.0]])
    """
    layout = module_layout(module)
    theta = layout.flatten(_trainable(module)).detach().clone()
    constants = {
        name: parameter.detach().clone()
        for name, parameter in module.named_parameters()
        if not parameter.requires_grad
    }
    buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}

    def apply(theta: Tensor, *inputs: Tensor) -> Tensor:
        state = layout.unflatten(theta)
        state.update(constants)
        # Cloned at every call: a module may write to its buffers.
        state.update({name: buffer.clone() for name, buffer in buffers.items()})
        output: Tensor = torch.func.functional_call(module, state, inputs, strict=True)
        return output

    return theta, apply


def ravel_tree(tree: Tree) -> tuple[Vector, Callable[[Tensor], Tree]]:
    """Nested dicts, lists and tuples of tensors as a vector.

    Args:
        tree: of floating-point tensors of one dtype on one device.

    Returns:
        The vector, shape (n,), with a graph to the tensors where they have one; and the function that
        turns a vector back into a tree of the same structure, whose tensors are views into it.

    Raises:
        ArgumentError: if there is no tensor in the tree, or no entry in its tensors.
        ArgumentTypeError: if a leaf is no tensor, one is not floating-point, or dtypes or devices mix.

    Example:
        >>> import torch
        >>> vector, unravel = ravel_tree({"a": torch.ones(1), "b": [torch.zeros(2)]})
        >>> unravel(2 * vector)
        {'a': tensor([2.]), 'b': [tensor([0., 0.])]}
    """
    leaves = dict(_leaves(tree, ""))
    layout = Layout.of(leaves, "tree")

    def unravel(vector: Tensor) -> Tree:
        return rebuild(tree, iter(layout.unflatten(vector).values()))

    return layout.flatten(leaves), unravel


def _trainable(module: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def _leaves(tree: object, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Tensor):
        yield path, tree
        return
    if isinstance(tree, dict):
        children = [(f"[{key!r}]", child) for key, child in tree.items()]
    elif isinstance(tree, list | tuple):
        children = [(f"[{index}]", child) for index, child in enumerate(tree)]
    else:
        raise ArgumentTypeError(
            f"tree must hold tensors in dicts, lists and tuples, got {type(tree).__name__} at "
            f"tree{path}; make it a tensor, or leave it out"
        )
    for key, child in children:
        yield from _leaves(child, path + key)


def rebuild(tree: Tree, leaves: Iterator[Tensor]) -> Tree:
    """A tree of the same structure with other tensors, taken from `leaves` one after another."""
    if isinstance(tree, Tensor):
        return next(leaves)
    if isinstance(tree, dict):
        return {key: rebuild(child, leaves) for key, child in tree.items()}
    children = [rebuild(child, leaves) for child in tree]
    if isinstance(tree, list):
        return children
    # A named tuple takes its fields one by one.
    return type(tree)(*children) if hasattr(tree, "_fields") else tuple(children)
