"""A caller's trees of tensors: checked leaf by leaf, and matched with each other by key and shape."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from refblo.errors import ArgumentError, ArgumentTypeError, difference, listed
from refblo.ravel import Tree, rebuild
from refblo.types import Hypergradient

Path = tuple[object, ...]

DEEPEST = 50
"""Levels of nesting beyond which a tree is taken to contain itself."""

_MADE_OF = "be a tensor, or a dict, list or tuple of tensors"


@final
@dataclass(frozen=True, eq=False)
class Form:
    """The structure of a tree: which entries of the flat vector are which tensor.

    Attributes:
        argument: the name of the argument whose structure it is, for errors.
        tree: the tree itself, for its structure alone.
        shapes: of its tensors, by path, in the vector's order.
    """

    argument: str
    tree: Tree
    shapes: dict[Path, torch.Size]

    @staticmethod
    def of(argument: str, tree: object) -> "Form":
        """The structure of a tree that is checked.

        Raises:
            ArgumentError, ArgumentTypeError: naming the entry that is no real, dense, floating-point tensor.
        """
        found = leaves(argument, tree)
        first_path, first = next(iter(found.items()), ((), None))
        if first is None or sum(leaf.numel() for leaf in found.values()) == 0:
            raise ArgumentError(
                f"{argument} must have at least one entry, got none; give at least one tensor with an entry"
            )
        for path, leaf in found.items():
            if (leaf.dtype, leaf.device) != (first.dtype, first.device):
                raise ArgumentTypeError(
                    f"{argument} must have tensors of one dtype on one device, got {first.dtype} on "
                    f"{first.device} at {argument}{text(first_path)} and {leaf.dtype} on {leaf.device} at "
                    f"{argument}{text(path)}; convert all of them with .to(dtype=..., device=...)"
                )
        shapes = {path: leaf.shape for path, leaf in found.items()}
        return Form(argument, tree, shapes)  # type: ignore[arg-type]  # it has just been checked

    @property
    def size(self) -> int:
        """How many entries there are."""
        return sum(shape.numel() for shape in self.shapes.values())

    @property
    def blocks(self) -> dict[str, slice]:
        """The part of the vector of each tensor, by a short name; none where the tree is one tensor."""
        if isinstance(self.tree, Tensor):
            return {}
        labels = [".".join(str(key) for key in path) for path in self.shapes]
        if len(set(labels)) < len(labels):
            labels = [text(path) for path in self.shapes]
        found, first = {}, 0
        for label, shape in zip(labels, self.shapes.values(), strict=True):
            found[label] = slice(first, first + shape.numel())
            first += shape.numel()
        return found

    def flatten(self, tree: object, argument: str) -> Float[Tensor, " n"]:
        """The vector of a tree with the same keys and shapes, in any order of the keys.

        Args:
            tree: what is matched.
            argument: what an error calls it.

        Raises:
            ArgumentError, ArgumentTypeError: naming the entry that has no counterpart, or another shape.
        """
        found = leaves(argument, tree)
        missing = [path for path in self.shapes if path not in found]
        besides = [path for path in found if path not in self.shapes]
        if missing or besides:
            if () in self.shapes:
                raise ArgumentError(
                    f"{argument} must be one array or tensor, as {self.argument} is, got a "
                    f"{type(tree).__name__} of {len(found)}; join them, as by torch.stack, or make "
                    f"{self.argument} a {type(tree).__name__} too"
                )
            raise ArgumentError(
                f"{argument} must have the structure of {self.argument} ({listed(_names(self.shapes))}), got "
                f"{difference(_names(missing), _names(besides))}; return each tensor "
                f"under the key that it has in {self.argument}"
            )
        for path, shape in self.shapes.items():
            if found[path].shape != shape:
                raise ArgumentError(
                    f"{argument}{text(path)} must have the shape of {self.argument}{text(path)}, "
                    f"{tuple(shape)}, got {tuple(found[path].shape)}; {_hint(shape, found[path].shape)}"
                )
        return torch.cat([found[path].reshape(-1) for path in self.shapes])

    def flatten_answer(self, tree: object, argument: str) -> Float[Tensor, " n"]:
        """`flatten` for what a caller's function returns.

        Two more forms are taken: the flat vector, and for a single tensor the tuple of one that
        torch.autograd.grad returns.

        Raises:
            ArgumentError, ArgumentTypeError: as `flatten`.
        """
        single = isinstance(self.tree, Tensor)
        if single and isinstance(tree, list | tuple) and len(tree) == 1:
            return self.flatten(tree[0], f"{argument}[0]")
        flat = isinstance(tree, Tensor) and tree.shape == (self.size,)
        if flat and not (single and self.tree_shape == (self.size,)):
            return leaves(argument, tree)[()]
        return self.flatten(tree, argument)

    @property
    def tree_shape(self) -> tuple[int, ...]:
        """The shape of the first tensor."""
        return tuple(next(iter(self.shapes.values())))

    def unflatten(self, vector: Float[Tensor, " n"]) -> Tree:
        """The tree of a vector, its tensors views into it."""
        pieces = torch.split(vector, [shape.numel() for shape in self.shapes.values()])
        shaped = (
            piece.reshape(shape) for piece, shape in zip(pieces, self.shapes.values(), strict=True)
        )
        return rebuild(self.tree, shaped)


def text(path: Path) -> str:
    """A path as Python code: ["w"][0]."""
    return "".join(f"[{json.dumps(key) if isinstance(key, str) else repr(key)}]" for key in path)


def _names(paths: Iterable[Path]) -> list[str]:
    return [text(path) or "a single tensor" for path in paths]


def _hint(wanted: torch.Size, got: torch.Size) -> str:
    if len(wanted) > 1 and tuple(reversed(wanted)) == tuple(got):
        return "it looks transposed"
    return "reshape it, or look for a sum or a missing dimension"


def leaves(argument: str, tree: object) -> dict[Path, Tensor]:
    """The tensors of a tree that is checked, by path.

    Raises:
        ArgumentError, ArgumentTypeError: naming the entry that is no real, dense, floating-point tensor.
    """
    return dict(_walk(argument, tree, ()))


def require_ends(argument: str, tree: object, depth: int = 0) -> None:
    """Check that a tree ends, before a library's own code walks it.

    Raises:
        ArgumentError: if it contains itself, or is deeper than any tree of arrays.
    """
    if depth > DEEPEST:
        raise ArgumentError(
            f"{argument} must be a tree of at most {DEEPEST} levels, got more; it may contain itself"
        )
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        for child in tree:
            require_ends(argument, child, depth + 1)


def _walk(argument: str, tree: object, path: Path) -> Iterator[tuple[Path, Tensor]]:
    name = argument + text(path)
    if isinstance(tree, Tensor):
        _check(name, tree)
        yield path, tree
        return
    if len(path) > DEEPEST:
        raise ArgumentError(
            f"{argument} must be a tree of at most {DEEPEST} levels, got more; it may contain itself"
        )
    if isinstance(tree, dict):
        for key, child in tree.items():
            yield from _walk(argument, child, (*path, key))
    elif isinstance(tree, list | tuple):
        for index, child in enumerate(tree):
            yield from _walk(argument, child, (*path, index))
    else:
        raise ArgumentTypeError(f"{name} must {_MADE_OF}, got {_kind(tree)}; {_remedy(tree)}")


def _check(name: str, tensor: Tensor) -> None:
    if tensor.is_complex():
        raise ArgumentTypeError(
            f"{name} must be real, got {tensor.dtype}; give its real and imaginary parts as two tensors"
        )
    if tensor.layout is not torch.strided:
        raise ArgumentTypeError(
            f"{name} must be dense, got {tensor.layout}; convert it with .to_dense()"
        )
    if tensor.is_meta:
        raise ArgumentTypeError(
            f"{name} must hold numbers, got a tensor on the device meta; make it on cpu"
        )
    if not tensor.is_floating_point():
        raise ArgumentTypeError(
            f"{name} must have a floating-point dtype, got {tensor.dtype}; convert it with .double(), or "
            "leave it out (of a module take dict(module.named_parameters()): buffers are no parameters)"
        )


def _kind(thing: object) -> str:
    if isinstance(thing, nn.Module):
        return f"the module {type(thing).__name__}"
    return "None" if thing is None else type(thing).__name__


def _remedy(thing: object) -> str:
    if type(thing).__module__.partition(".")[0] in ("jax", "jaxlib"):
        return (
            "this check differentiates losses written in torch: a function written in JAX is judged by "
            "`refblo check MODULE:FUNCTION --framework jax` on refblo's own problems, and its numbers can "
            "be given here beside losses restated in torch, as torch.from_dlpack(array)"
        )
    if callable(getattr(thing, "estimate", None)):
        return (
            "of an estimator give the function lambda lam: estimator.estimate(problem, lam).value"
        )
    return next(remedy for kinds, remedy in _REMEDIES if isinstance(thing, kinds))


_REMEDIES: tuple[tuple[tuple[type, ...], str], ...] = (
    ((Hypergradient,), "give its .value"),
    ((nn.Module,), "give dict(module.named_parameters())"),
    (
        (np.ndarray, np.generic),
        "convert it with torch.as_tensor(...), or if the losses are written in NumPy give both lam and "
        "theta0 as NumPy arrays",
    ),
    ((int, float), "make it torch.tensor(..., dtype=torch.float64)"),
    (
        (Iterator,),
        "it can be read only once: make it a list, or give dict(module.named_parameters())",
    ),
    ((Mapping,), "make it a dict"),
    ((object,), "give tensors"),
)
