"""λ in any framework as one float64 vector: torch, NumPy and JAX arrays, numbers, and trees of them."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.conformance.trees import require_ends
from refblo.errors import ArgumentError, ArgumentTypeError, difference

Array = np.ndarray

SPACING = {
    "float64": 2.0**-52,
    "float32": 2.0**-23,
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
}
"""Spacing of the numbers around 1, by the name of the dtype."""

FRAMEWORKS = "a torch tensor, a NumPy or JAX array, a number, or a dict, list or tuple of these"


@final
@dataclass(frozen=True, eq=False)
class Leaf:
    """One array of a tree.

    Attributes:
        path: where it stands, such as `["lr"][0]`; empty for a λ that is one array.
        shape: of the array.
        dtype: the name of its dtype.
        framework: "torch", "numpy", "jax" or "python".
        part: the leaf's entries in the flat vector.
        rebuild: from its flat float64 entries to an array of the same framework, dtype and device.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    framework: str
    part: slice
    rebuild: Callable[[Float64[Array, " k"]], object]


@final
@dataclass(frozen=True, eq=False)
class FlatArrays:
    """A tree of arrays as a vector.

    Attributes:
        vector: all entries one after another, shape (p,).
        leaves: what the entries belong to, in the vector's order.
        tree: the tree that was given.
    """

    vector: Float64[Array, " p"]
    leaves: tuple[Leaf, ...]
    tree: object

    @staticmethod
    def of(tree: object, argument: str) -> "FlatArrays":
        """The vector of a tree.

        Args:
            tree: a torch tensor, a NumPy or JAX array, a number, or a dict, list or tuple of these.
            argument: the name that an error gives to it.

        Raises:
            ArgumentTypeError: if a leaf is none of these, or not real floating-point.
            ArgumentError: if there is no entry at all, or the tree contains itself.
        """
        require_ends(argument, tree)
        leaves, parts, start = [], [], 0
        for path, value in _leaves(tree, ""):
            flat, shape, dtype, framework, rebuild = _read(value, f"{argument}{path}")
            part = slice(start, start + flat.size)
            leaves.append(Leaf(path, shape, dtype, framework, part, rebuild))
            parts.append(flat)
            start += flat.size
        if start == 0:
            raise ArgumentError(f"{argument} must have at least one entry, got none; give a number")
        return FlatArrays(np.concatenate(parts), tuple(leaves), tree)

    @property
    def spacing(self) -> float:
        """The relative spacing of the numbers of the coarsest leaf."""
        return max(SPACING[leaf.dtype] for leaf in self.leaves)

    @property
    def blocks(self) -> dict[str, slice]:
        """The parts of a tree by their paths; empty for a single array."""
        return {leaf.path: leaf.part for leaf in self.leaves if leaf.path}

    def at(self, vector: Float64[Array, " p"]) -> Any:
        """The tree with other entries: fresh arrays of the same frameworks, dtypes and devices."""
        fresh = iter([leaf.rebuild(vector[leaf.part]) for leaf in self.leaves])
        return _rebuilt(self.tree, fresh)

    def vector_of(self, answer: object, argument: str) -> Float64[Array, " p"]:
        """The entries of a tree of the same form, in this vector's order; frameworks and dtypes may differ.

        Args:
            answer: of the form of λ, or for a λ of one array anything with as many entries.
            argument: the name that an error gives to it.

        Raises:
            ArgumentTypeError: if it holds what is no array.
            ArgumentError: if a part is missing, superfluous, or of another shape.
        """
        if answer is None:
            raise ArgumentError(
                f"{argument} must be the derivative by lam, got None; return an array of lam's shape (in "
                "torch, None means that there is no path from lam to the loss: look for .detach() or a copy)"
            )
        given = FlatArrays.of(answer, argument)
        ours, theirs = {leaf.path: leaf for leaf in self.leaves}, {}
        for leaf in given.leaves:
            theirs[leaf.path] = leaf
        if set(ours) != set(theirs):
            missing = [path or "a single array" for path in ours if path not in theirs]
            more = [path or "a single array" for path in theirs if path not in ours]
            raise ArgumentError(
                f"{argument} must have the parts of lam, got {difference(missing, more)}; return the "
                "derivative in lam's own form"
            )
        result = np.empty_like(self.vector)
        for path, leaf in ours.items():
            other = theirs[path]
            flat_enough = (
                not path and prod(other.shape) == prod(leaf.shape) and len(other.shape) <= 1
            )
            if other.shape != leaf.shape and not flat_enough:
                raise ArgumentError(
                    f"{argument}{path} must have shape {leaf.shape}, that of lam{path}, got "
                    f"{other.shape}; return the derivative in lam's own form"
                )
            result[leaf.part] = given.vector[other.part]
        return result


def _leaves(tree: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(tree, dict):
        children = [(f"[{key!r}]", child) for key, child in tree.items()]
    elif isinstance(tree, list | tuple):
        children = [(f"[{index}]", child) for index, child in enumerate(tree)]
    else:
        yield path, tree
        return
    for key, child in children:
        yield from _leaves(child, path + key)


def _rebuilt(tree: object, fresh: Iterator[object]) -> object:
    if isinstance(tree, dict):
        return {key: _rebuilt(child, fresh) for key, child in tree.items()}
    if isinstance(tree, list | tuple):
        children = [_rebuilt(child, fresh) for child in tree]
        if isinstance(tree, list):
            return children
        # A named tuple takes its fields one by one.
        make: Any = type(tree)
        return make(*children) if hasattr(tree, "_fields") else tuple(children)
    return next(fresh)


Read = tuple[Array, tuple[int, ...], str, str, Callable[[Array], object]]


def _read(value: object, name: str) -> Read:
    """The flat float64 entries of one array, its shape, its dtype's name, its framework, and the way back."""
    if isinstance(value, Tensor):
        return _read_torch(value, name)
    if isinstance(value, bool) or value is None:
        raise ArgumentTypeError(f"{name} must be {FRAMEWORKS}, got {value!r}; give real numbers")
    if isinstance(value, float | int):
        return np.array([float(value)]), (), "float64", "python", _as_number
    if isinstance(value, np.ndarray | np.generic):
        flat = _checked(np.asarray(value), name)
        dtype = np.asarray(value).dtype
        back = partial(as_numpy, shape=np.shape(value), dtype=dtype)
        return flat, np.shape(value), dtype.name, "numpy", back
    if is_jax(value):
        host = np.asarray(value)
        shape, kind = host.shape, str(host.dtype)
        flat = _checked(host.astype(np.float32) if kind == "bfloat16" else host, name)
        return flat, shape, kind, "jax", partial(as_jax, shape=shape, dtype=kind)
    raise ArgumentTypeError(
        f"{name} must be {FRAMEWORKS}, got {type(value).__name__}; for a module, give its parameters: "
        "dict(module.named_parameters())"
    )


def _read_torch(value: Tensor, name: str) -> Read:
    if not value.is_floating_point():
        raise ArgumentTypeError(
            f"{name} must have a real floating-point dtype, got {value.dtype}; convert it with .double()"
        )
    if value.layout is not torch.strided or value.is_meta:
        raise ArgumentTypeError(
            f"{name} must be an ordinary dense tensor, got one with layout {value.layout} on "
            f"{value.device}; convert it with .to_dense(), or give it numbers"
        )
    flat = value.detach().cpu().to(torch.float64).reshape(-1).numpy().copy()
    back = partial(as_torch, shape=value.shape, dtype=value.dtype, device=value.device)
    return flat, tuple(value.shape), str(value.dtype).removeprefix("torch."), "torch", back


def _checked(array: Array, name: str) -> Array:
    if array.dtype.kind != "f" or array.dtype.name not in SPACING:
        raise ArgumentTypeError(
            f"{name} must have a real floating-point dtype, got {array.dtype}; convert it to float64"
        )
    flat: Array = array.astype(np.float64).reshape(-1).copy()
    return flat


def is_jax(value: object) -> bool:
    """Whether a value is an array of JAX, without importing JAX."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.Array)


def _as_number(flat: Array) -> float:
    return float(flat[0])


def as_numpy(flat: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> object:
    """An array of NumPy with these entries."""
    return flat.astype(dtype).reshape(shape)


def as_torch(flat: Array, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor with these entries."""
    return torch.tensor(flat, device="cpu").to(device=device, dtype=dtype).reshape(shape)


def as_jax(flat: Array, shape: tuple[int, ...], dtype: str) -> object:
    """An array of JAX with these entries."""
    return sys.modules["jax"].numpy.asarray(flat.reshape(shape), dtype=dtype)
