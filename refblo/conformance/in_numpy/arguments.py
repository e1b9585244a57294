"""Trees of NumPy arrays as trees of tensors, and functions of trees of arrays as functions of such trees."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from refblo.conformance.in_numpy.functions import HowDifferentiated, InTorch, NumericFunction
from refblo.conformance.report import Report
from refblo.conformance.trees import DEEPEST
from refblo.errors import ArgumentError, ArgumentTypeError

Array = np.ndarray

LARGEST = 1000
"""Entries of λ and θ together up to which losses in NumPy are differentiated."""

_REAL = ("float32", "float64")


def is_in_numpy(lam: object, theta0: object) -> bool:
    """Whether λ or θ⁰ is made of NumPy arrays and numbers, with at least one array."""
    found = [*_leaves(lam), *(() if callable(theta0) else _leaves(theta0))]
    arrays = any(isinstance(leaf, np.ndarray | np.generic) for leaf in found)
    return arrays and all(isinstance(leaf, np.ndarray | np.generic | float) for leaf in found)


def _leaves(tree: object, depth: int = 0) -> Iterator[object]:
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list | tuple) and depth < DEEPEST:
        for child in tree:
            yield from _leaves(child, depth + 1)
    else:
        yield tree


def mapped(change: Callable[[Any], Any], tree: Any) -> Any:
    """A tree with its leaves changed."""
    if isinstance(tree, dict):
        return {key: mapped(change, child) for key, child in tree.items()}
    if isinstance(tree, list):
        return [mapped(change, child) for child in tree]
    if isinstance(tree, tuple):
        children = [mapped(change, child) for child in tree]
        return type(tree)(*children) if hasattr(tree, "_fields") else tuple(children)
    return change(tree)


@final
@dataclass(frozen=True, eq=False)
class ArrayTree:
    """The structure of a tree of NumPy arrays.

    Attributes:
        argument: the name of the argument, for errors.
        shapes: of its arrays, in the tree's order.
        tree: the tree itself, for its structure alone.
    """

    argument: str
    shapes: tuple[tuple[int, ...], ...]
    tree: Any

    @staticmethod
    def of(argument: str, tree: object) -> "ArrayTree":
        """The structure of a tree of real arrays.

        Raises:
            ArgumentTypeError: if a leaf is no real floating-point array.
            ArgumentError: if there is none.
        """
        shapes = [np.shape(_checked(argument, leaf)) for leaf in _leaves(tree)]
        if not shapes or sum(int(np.prod(shape)) for shape in shapes) == 0:
            raise ArgumentError(f"{argument} must have at least one entry, got none; give it some")
        return ArrayTree(argument, tuple(shapes), tree)

    @property
    def size(self) -> int:
        """How many entries there are."""
        return sum(int(np.prod(shape)) for shape in self.shapes)

    def fresh(self, tree: object) -> Any:
        """A copy of a tree of arrays with this structure."""
        return self.arrays(self.vector(tree, self.argument))

    def arrays_of(self, tree: object) -> Any:
        """The arrays with the numbers of a tree of tensors."""
        return self.arrays(flat(tree).detach().cpu().numpy())

    def arrays(self, vector: Array) -> Any:
        """The tree of a vector, real or complex: fresh arrays; numbers where the tree has numbers."""
        pieces, first = [], 0
        for shape in self.shapes:
            size = int(np.prod(shape))
            pieces.append(vector[first : first + size].reshape(shape).copy())
            first += size
        fresh = iter(pieces)
        return mapped(
            lambda leaf: next(fresh) if isinstance(leaf, np.ndarray) else next(fresh)[()], self.tree
        )

    def vector(self, tree: object, name: str) -> Array:
        """The vector of a tree with the same structure, real or complex.

        Args:
            tree: what is matched.
            name: what an error calls it.

        Raises:
            ArgumentError: if it has another structure.
        """
        found = [np.asarray(leaf) for leaf in _leaves(tree)]
        if [leaf.shape for leaf in found] != list(self.shapes):
            got = ", ".join(str(leaf.shape) for leaf in found)
            raise ArgumentError(
                f"{name} must have arrays of the shapes of {self.argument} "
                f"({', '.join(map(str, self.shapes))}), got {got}; return the arrays in the same order"
            )
        return np.concatenate([leaf.reshape(-1) for leaf in found])

    def tensors(self, vector: Tensor) -> Any:
        """The tree of tensors of a vector."""
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        pieces = zip(torch.split(vector, sizes), self.shapes, strict=True)
        fresh = iter([piece.reshape(shape) for piece, shape in pieces])
        return mapped(lambda _: next(fresh), self.tree)


def _checked(argument: str, leaf: object) -> Array:
    if isinstance(leaf, Tensor):
        raise ArgumentTypeError(
            f"{argument} must be of NumPy arrays as the others are, got a torch tensor; give lam, theta0 and "
            "the losses in one framework"
        )
    if (
        not isinstance(leaf, np.ndarray | np.generic | float)
        or str(np.asarray(leaf).dtype) not in _REAL
    ):
        dtype = f" of {leaf.dtype}" if isinstance(leaf, np.ndarray | np.generic) else ""
        raise ArgumentTypeError(
            f"{argument} must be made of NumPy arrays of float64 or float32, or numbers, got "
            f"{type(leaf).__name__}{dtype}; convert it with np.asarray(..., dtype=float)"
        )
    return np.asarray(leaf)


def flat(tree: Any) -> Tensor:
    """The vector of a tree of tensors."""
    found = [leaf for leaf in _leaves(tree) if isinstance(leaf, Tensor)]
    return torch.cat([leaf.reshape(-1) for leaf in found])


def tensors_of(tree: object, argument: str) -> Any:
    """The tensors of a tree of arrays and numbers; numbers become float64.

    Raises:
        ArgumentTypeError: if a leaf is no real floating-point array.
    """
    if tree is None:
        return None
    return mapped(lambda leaf: torch.from_numpy(np.array(_checked(argument, leaf))), tree)


TRUTH = (
    "complex steps and differences of the NumPy losses, pushed along the run or solved at the minimiser, and "
    "confirmed by differences of the outer objective"
)


@final
@dataclass(eq=False)
class NumPyArrays:
    """NumPy as an `ArrayLibrary` (`refblo.conformance.converted`), for one check.

    Attributes:
        functions: by what each of the caller's functions has been differentiated so far.
    """

    functions: list[HowDifferentiated] = field(default_factory=list)

    @property
    def look_for(self) -> str:
        """What makes the two oracles disagree."""
        return (
            "look for rounding on purpose (astype, round), for a tie, a sort or a kink at this lam, or for "
            "hidden randomness"
        )

    def form(self, argument: str, tree: object) -> ArrayTree:
        """The structure of a tree."""
        return ArrayTree.of(argument, tree)

    def tensors_of(self, tree: object, argument: str) -> Any:
        """The tensors of a tree of arrays and numbers."""
        return tensors_of(tree, argument)

    def require_size(self, lam: ArrayTree, theta0: ArrayTree) -> None:
        """Nothing, up to `LARGEST` entries.

        Raises:
            ArgumentError: for more.
        """
        if lam.size + theta0.size > LARGEST:
            raise ArgumentError(
                f"lam and theta0 must have at most {LARGEST} entries together for losses in NumPy, got "
                f"{lam.size + theta0.size}: each product with a second derivative takes some twenty calls an "
                "entry; check a smaller instance of the same code, write the losses in torch or JAX, or give "
                "the whole training as one function: hypergradcheck(objective=..., lam=..., "
                "hypergradient=...)"
            )

    def to_tensors(self, batch: object) -> object:
        """A batch with tensors in place of its arrays of numbers."""

        def tensor(leaf: object) -> object:
            numbers = isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fiub"
            return torch.from_numpy(np.array(leaf)) if numbers else leaf

        return mapped(tensor, batch)

    def to_arrays(self, batch: object) -> object:
        """A batch with arrays in place of its tensors."""
        return mapped(
            lambda leaf: (
                np.array(leaf.detach().cpu().numpy()) if isinstance(leaf, Tensor) else leaf
            ),
            batch,
        )

    def on_tensors(
        self,
        name: str,
        function: Callable[..., Any],
        inputs: tuple[ArrayTree, ...],
        output: ArrayTree | None,
        returned: str,
    ) -> Callable[..., Any]:
        """A function of trees of arrays as one of trees of tensors."""
        sizes = [form.size for form in inputs]

        def value(fixed: Any, vector: Array) -> Array:
            pieces = np.split(vector, np.cumsum(sizes)[:-1])
            trees = [form.arrays(piece) for form, piece in zip(inputs, pieces, strict=True)]
            found = function(fixed, *trees)
            return _number(found, name) if output is None else output.vector(found, returned)

        self.functions.append(HowDifferentiated(name))
        on_vectors = InTorch(NumericFunction(value, sum(sizes), self.functions[-1]))

        def in_torch(fixed: object, *trees: object) -> Any:
            found = on_vectors.on(fixed, torch.cat([flat(tree) for tree in trees]))
            return found[0] if output is None else output.tensors(found)

        return in_torch

    def told(self, report: Report) -> Report:
        """The report, with how each function was differentiated."""
        said = [
            f"finding: {one.name} was differentiated by differences, not by complex step, as "
            f"{one.why_not_complex}"
            for one in self.functions
            if one.why_not_complex
        ]
        calls = ", ".join(f"{one.name} {one.calls} times" for one in self.functions)
        said.append(f"NumPy functions were called to differentiate them: {calls}")
        return replace(report, truth=TRUTH, findings=(*report.findings, *said))


def _number(found: Any, name: str) -> Array:
    """The value of a loss as a vector of one entry, real or complex."""
    number = isinstance(found, np.ndarray | np.generic | float | int | complex)
    if np.shape(found) != () or not number:
        got = f"shape {np.shape(found)}" if np.shape(found) else type(found).__name__
        raise ArgumentError(
            f"{name} must return one number, got {got}; reduce it, for instance with np.mean"
        )
    return np.asarray(found).reshape(1)
