"""The arguments of a check in NumPy as what the check takes: trees of tensors, and functions of them."""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from refblo.conformance.answers import only_returns
from refblo.conformance.in_numpy.functions import HowDifferentiated, InTorch, NumericFunction
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


@final
@dataclass(frozen=True, eq=False)
class InNumPy:
    """The arguments of a check, converted.

    Attributes:
        inner: as `hypergradcheck` takes it.
        outer: as `hypergradcheck` takes it.
        lam: a tree of tensors.
        theta0: a tree of tensors, or a function of λ.
        hypergradient: a tree of tensors, or a function of λ.
        options: the options, with functions and arrays converted.
        functions: by what each of the caller's functions is differentiated.
    """

    inner: Any
    outer: Any
    lam: Any
    theta0: Any
    hypergradient: Any
    options: dict[str, object]
    functions: tuple[HowDifferentiated, ...]

    @staticmethod
    def of(
        inner: Any,
        outer: Any,
        lam: Any,
        theta0: Any,
        hypergradient: Any,
        options: Mapping[str, object],
    ) -> "InNumPy":
        """Convert the arguments of a check whose λ or θ⁰ is of NumPy arrays.

        Raises:
            ArgumentError, ArgumentTypeError: for arguments of two frameworks, no arrays, or too many entries.
        """
        at = ArrayTree.of("lam", lam)
        first = theta0(at.arrays(at.vector(lam, "lam"))) if callable(theta0) else theta0
        state = ArrayTree.of("theta0", first)
        if at.size + state.size > LARGEST:
            raise ArgumentError(
                f"lam and theta0 must have at most {LARGEST} entries together for losses in NumPy, got "
                f"{at.size + state.size}: each product with a second derivative takes some twenty calls an "
                "entry; check a smaller instance of the same code, write the losses in torch or JAX, or give "
                "the whole training as one function: hypergradcheck(objective=..., lam=..., "
                "hypergradient=...)"
            )
        kept: list[HowDifferentiated] = []
        make = functools.partial(_on_vectors, kept)
        changed = dict(options)
        theta = state
        if callable(options.get("step")):
            changed["step"] = _step(make, options["step"], at, state)
            theta, changed["read"] = _read(make, options.get("read"), state, first)
        for name in ("inner_batches", "outer_batches"):
            if isinstance(options.get(name), list | tuple):
                changed[name] = [mapped(_tensor, batch) for batch in options[name]]  # type: ignore[attr-defined]  # a sequence
        if isinstance(options.get("noise"), np.ndarray):
            changed["noise"] = torch.from_numpy(np.array(options["noise"]))
        return InNumPy(
            None if inner is None else _loss(make, "inner", inner, at, theta),
            _loss(make, "outer", outer, at, theta),
            tensors_of(lam, "lam"),
            _start(make, theta0, at, state) if callable(theta0) else tensors_of(theta0, "theta0"),
            _answer(hypergradient, at, state, stateful=bool(options.get("stateful", False))),
            changed,
            tuple(kept),
        )


Make = Callable[[str, Callable[[Any, Array], Array], int], InTorch]


def _on_vectors(
    kept: list[HowDifferentiated], name: str, function: Callable[[Any, Array], Array], inputs: int
) -> InTorch:
    """A function of vectors for torch, noted among those whose derivatives are told of."""
    kept.append(HowDifferentiated(name))
    return InTorch(NumericFunction(function, inputs, kept[-1]))


def _loss(
    make: Make, name: str, loss: Any, at: ArrayTree, theta: ArrayTree
) -> Callable[..., Tensor]:
    """A loss in NumPy as one in torch, with the same parameters."""

    def value(fixed: tuple[Any, ...], vector: Array) -> Array:
        found = loss(at.arrays(vector[: at.size]), theta.arrays(vector[at.size :]), *fixed)
        if np.shape(found) != () or not isinstance(
            found, np.ndarray | np.generic | float | int | complex
        ):
            got = f"shape {np.shape(found)}" if np.shape(found) else type(found).__name__
            raise ArgumentError(
                f"{name} must return one number, got {got}; reduce it, for instance with np.mean"
            )
        return np.asarray(found).reshape(1)

    function = make(name, value, at.size + theta.size)

    @functools.wraps(loss)
    def in_torch(lam: object, state: object, *batch: object) -> Tensor:
        fixed = tuple(mapped(_array, each) for each in batch)
        return function.on(fixed, torch.cat([flat(lam), flat(state)]))[0]

    return in_torch


def _tensor(leaf: object) -> object:
    """An array of a batch as the tensor that stands for it until a loss is called."""
    numbers = isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fiub"
    return torch.from_numpy(np.array(leaf)) if numbers else leaf


def _array(leaf: object) -> object:
    return np.array(leaf.detach().cpu().numpy()) if isinstance(leaf, Tensor) else leaf


def _start(make: Make, start: Any, at: ArrayTree, state: ArrayTree) -> Callable[[object], Any]:
    """θ⁰ as a function of λ."""

    def value(_: Any, vector: Array) -> Array:
        return state.vector(start(at.arrays(vector)), "theta0(lam)")

    function = make("theta0", value, at.size)
    return lambda lam: state.tensors(function.on(None, flat(lam)))


def _step(
    make: Make, step: Any, at: ArrayTree, state: ArrayTree
) -> Callable[[object, object, int], Any]:
    """A transition."""

    def value(t: int, vector: Array) -> Array:
        after = step(at.arrays(vector[: at.size]), state.arrays(vector[at.size :]), t)
        return state.vector(after, "the state that step returns")

    function = make("step", value, at.size + state.size)

    def in_torch(lam: object, before: object, t: int) -> Any:
        return state.tensors(function.on(t, torch.cat([flat(lam), flat(before)])))

    return in_torch


def _read(
    make: Make, read: Any, state: ArrayTree, first: Any
) -> tuple[ArrayTree, Callable[[object], Any]]:
    """The structure of θ, and how it is read from a state; by default a tuple's or list's first part."""
    if read is None:
        read = (lambda whole: whole[0]) if isinstance(first, tuple | list) else lambda whole: whole
    theta = ArrayTree.of("read(theta0)", read(first))

    def value(_: Any, vector: Array) -> Array:
        return theta.vector(read(state.arrays(vector)), "what read returns")

    function = make("read", value, state.size)
    return theta, lambda whole: theta.tensors(function.on(None, flat(whole)))


def _answer(answer: Any, at: ArrayTree, state: ArrayTree, *, stateful: bool) -> Any:
    """The hypergradient that is judged: computed as the caller computes it, in the caller's precision."""
    if not callable(answer):
        return tensors_of(answer, "hypergradient")
    if only_returns(answer) and not stateful:
        # `lambda lam: value`: computed before, as the same function of tensors is taken.
        return tensors_of(answer(None), "hypergradient")

    def given(form: ArrayTree, tree: object) -> Any:
        vector = flat(tree).detach().cpu().numpy()
        return form.arrays(vector)

    def in_torch(lam: object, *theta: object) -> Any:
        found = answer(given(at, lam), *(given(state, each) for each in theta))
        if stateful and isinstance(found, tuple) and len(found) == 2:
            return tensors_of(found[0], "hypergradient"), tensors_of(found[1], "theta")
        return tensors_of(found, "hypergradient")

    return functools.wraps(answer)(in_torch)
