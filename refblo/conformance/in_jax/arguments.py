"""The arguments of a check in JAX as what the check takes: trees of tensors, and functions of them.

A pytree becomes a dict of its arrays by their paths ("layers.0.w"), a single array a single tensor; what is
called is given the pytree again.
"""

import functools
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from refblo.conformance.answers import only_returns
from refblo.conformance.in_jax.functions import ArrayFunction, as_array
from refblo.errors import ArgumentError, ArgumentTypeError

TensorTree = Tensor | dict[str, Tensor]

PLAIN_CALLS = 4
"""Calls of a loss before it is traced: those that look for two values at one point are among them."""


def is_in_jax(*trees: object) -> bool:
    """Whether an array of a tree is JAX's."""
    if "jax" not in sys.modules:
        return False
    import jax

    with warnings.catch_warnings():
        # JAX warns of what it cannot look into, such as an iterator; that is refused by its name later.
        warnings.simplefilter("ignore", DeprecationWarning)
        leaves = [leaf for tree in trees for leaf in jax.tree_util.tree_leaves(tree)]
    return any(isinstance(leaf, jax.Array) for leaf in leaves)


@final
@dataclass(frozen=True, eq=False)
class PyTree:
    """The structure of a pytree.

    Attributes:
        argument: the name of the argument, for errors.
        labels: a short name of each array, in JAX's order.
        structure: JAX's own description.
        single: whether it is one array.
    """

    argument: str
    labels: tuple[str, ...]
    structure: Any
    single: bool

    @staticmethod
    def of(argument: str, tree: object) -> "PyTree":
        """The structure of a pytree of real arrays.

        Raises:
            ArgumentTypeError: if a leaf is no real floating-point array, or one of torch.
        """
        import jax

        found, structure = jax.tree_util.tree_flatten_with_path(tree)
        labels = []
        for path, leaf in found:
            name = f"{argument}{jax.tree_util.keystr(path)}"
            if isinstance(leaf, Tensor):
                raise ArgumentTypeError(
                    f"{name} must be a JAX array as the others are, got a torch tensor; give lam, theta0 and "
                    "the losses in one framework"
                )
            if not isinstance(leaf, jax.Array | np.ndarray | float) or str(_dtype(leaf)) not in (
                "float32",
                "float64",
            ):
                got = f"{type(leaf).__name__} of {_dtype(leaf)}"
                raise ArgumentTypeError(
                    f"{name} must be a JAX array of float32 or float64, got {got}; convert it with "
                    "jnp.asarray(..., jnp.float32)"
                )
            labels.append(".".join(str(_key(entry)) for entry in path))
        if not labels:
            raise ArgumentError(f"{argument} must have at least one array, got none; give it some")
        if len(set(labels)) < len(labels):
            labels = [jax.tree_util.keystr(path) for path, _ in found]
        return PyTree(argument, tuple(labels), structure, single=found[0][0] == ())

    def to_torch(self, tree: object) -> TensorTree:
        """The tensors of a pytree with this structure or another, by label."""
        return tensors_of(tree, self.argument)

    def tensors(self, tree: object) -> list[Tensor]:
        """The tensors of a tree of torch with this structure, in JAX's order."""
        if self.single:
            assert isinstance(tree, Tensor)
            return [tree]
        assert isinstance(tree, Mapping)
        return [tree[label] for label in self.labels]

    def labelled(self, tensors: Sequence[Tensor]) -> TensorTree:
        """The reverse of `tensors`."""
        return tensors[0] if self.single else dict(zip(self.labels, tensors, strict=True))

    def arrays(self, arrays: Sequence[Any]) -> Any:
        """The pytree of some arrays in JAX's order."""
        import jax

        return jax.tree_util.tree_unflatten(self.structure, arrays)


def tensors_of(tree: object, argument: str) -> TensorTree:
    """The tensors of a pytree by label; of one array, the tensor.

    Raises:
        ArgumentTypeError: if a leaf is no real floating-point array.
    """
    import jax

    form, leaves = PyTree.of(argument, tree), jax.tree_util.tree_leaves(tree)
    return form.labelled([torch.from_numpy(np.array(leaf)) for leaf in leaves])


def _dtype(leaf: object) -> object:
    return getattr(leaf, "dtype", "float64" if isinstance(leaf, float) else "no numbers")


def _key(entry: Any) -> object:
    """Of one step of a path: the key of a dict, an index, or an attribute's name."""
    for name in ("key", "idx", "name"):
        if hasattr(entry, name):
            return getattr(entry, name)
    return entry


@final
@dataclass(frozen=True, eq=False)
class InJAX:
    """The arguments of a check, converted.

    Attributes:
        inner: as `hypergradcheck` takes it.
        outer: as `hypergradcheck` takes it.
        lam: a tree of tensors.
        theta0: a tree of tensors, or a function of λ.
        hypergradient: a tree of tensors, or a function of λ.
        options: the options, with functions and arrays converted.
    """

    inner: Any
    outer: Any
    lam: Any
    theta0: Any
    hypergradient: Any
    options: dict[str, object]

    @staticmethod
    def of(
        inner: Any,
        outer: Any,
        lam: Any,
        theta0: Any,
        hypergradient: Any,
        options: Mapping[str, object],
    ) -> "InJAX":
        """Convert the arguments of a check whose λ or θ⁰ is of JAX arrays.

        Raises:
            ArgumentError, ArgumentTypeError: for arguments of two frameworks, or no arrays.
        """
        at = PyTree.of("lam", lam)
        first = theta0(lam) if callable(theta0) else theta0
        state = PyTree.of("theta0", first)
        changed = dict(options)
        if "step" in options:
            changed["step"] = _step(options["step"], at, state)
            theta, changed["read"] = _read(options.get("read"), state, first)
        else:
            theta = state
        for name in ("inner_batches", "outer_batches"):
            if name in options:
                changed[name] = _batches(name, options[name])
        if "noise" in options and not isinstance(options["noise"], Tensor):
            changed["noise"] = tensors_of(options["noise"], "noise")
        return InJAX(
            None if inner is None else _loss(inner, at, theta),
            _loss(outer, at, theta),
            tensors_of(lam, "lam"),
            _start(theta0, at, state) if callable(theta0) else tensors_of(theta0, "theta0"),
            _answer(hypergradient, at, state, stateful=bool(options.get("stateful", False))),
            changed,
        )


def _loss(loss: Any, at: PyTree, theta: PyTree) -> Callable[..., Tensor]:
    """A loss in JAX as one in torch, with the same parameters."""
    count = len(at.labels)

    def value(fixed: tuple[Any, ...], *arrays: Any) -> Sequence[Any]:
        import jax

        found = loss(at.arrays(arrays[:count]), theta.arrays(arrays[count:]), *fixed)
        if not isinstance(found, jax.Array | np.ndarray | np.generic | float | int):
            raise ArgumentTypeError(
                f"a loss must return a number, got {type(found).__name__}; return a JAX array of one entry"
            )
        return (jax.numpy.asarray(found, arrays[0].dtype),)

    function = ArrayFunction(value, count + len(theta.labels), 1, plain_calls=PLAIN_CALLS)

    @functools.wraps(loss)
    def in_torch(lam: object, state: object, *batch: object) -> Tensor:
        tensors = (*at.tensors(lam), *theta.tensors(state))
        return function.on(_batch(batch), tensors)[0]

    return in_torch


def _batches(name: str, given: Any) -> list[Any]:
    """Batches of arrays, as the batches of torch that they stand for until a loss is called.

    Raises:
        ArgumentTypeError: if they are no sequence.
    """
    import jax

    if not isinstance(given, Sequence):
        raise ArgumentTypeError(
            f"{name} must be a list, its entry t the batch of transition t, got {type(given).__name__}; make "
            "it a list"
        )

    def tensor(leaf: object) -> object:
        arrays = isinstance(leaf, jax.Array | np.ndarray)
        return torch.from_numpy(np.array(leaf)) if arrays else leaf

    return [jax.tree_util.tree_map(tensor, batch) for batch in given]


def _batch(batch: tuple[object, ...]) -> tuple[object, ...]:
    """A batch for JAX: tensors of torch, as a DataLoader gives them, become arrays."""
    import jax

    return jax.tree_util.tree_map(  # type: ignore[no-any-return]  # the tree that went in
        lambda leaf: as_array(leaf) if isinstance(leaf, Tensor) else leaf, batch
    )


def _start(
    start: Callable[[Any], Any], at: PyTree, state: PyTree
) -> Callable[[object], TensorTree]:
    """θ⁰ as a function of λ."""
    import jax

    def value(_: object, *arrays: Any) -> Sequence[Any]:
        return jax.tree_util.tree_leaves(start(at.arrays(arrays)))

    function = ArrayFunction(value, len(at.labels), len(state.labels), plain_calls=PLAIN_CALLS)
    return lambda lam: state.labelled(function.on((), at.tensors(lam)))


def _step(step: Any, at: PyTree, state: PyTree) -> Callable[[object, object, int], TensorTree]:
    """A transition."""
    import jax

    count = len(at.labels)

    def value(t: int, *arrays: Any) -> Sequence[Any]:
        moved = step(at.arrays(arrays[:count]), state.arrays(arrays[count:]), t)
        return jax.tree_util.tree_leaves(moved)

    size = len(state.labels)
    function = ArrayFunction(value, count + size, size, plain_calls=PLAIN_CALLS)

    def in_torch(lam: object, before: object, t: int) -> TensorTree:
        return state.labelled(function.on(t, (*at.tensors(lam), *state.tensors(before))))

    return in_torch


def _read(read: Any, state: PyTree, first: Any) -> tuple[PyTree, Callable[[object], TensorTree]]:
    """The structure of θ, and how it is read from a state; by default a tuple's or list's first part."""
    import jax

    if read is None:
        read = (lambda whole: whole[0]) if isinstance(first, tuple | list) else lambda whole: whole
    theta = PyTree.of("read(theta0)", read(first))

    def value(_: object, *arrays: Any) -> Sequence[Any]:
        return jax.tree_util.tree_leaves(read(state.arrays(arrays)))

    function = ArrayFunction(value, len(state.labels), len(theta.labels))
    return theta, lambda whole: theta.labelled(function.on((), state.tensors(whole)))


def _answer(answer: Any, at: PyTree, state: PyTree, *, stateful: bool) -> Any:
    """The hypergradient that is judged: computed as the caller computes it, in the caller's precision."""
    if not callable(answer):
        return tensors_of(answer, "hypergradient")
    if only_returns(answer) and not stateful:
        # `lambda lam: value`: computed before, as the same function of tensors is taken.
        return tensors_of(answer(None), "hypergradient")

    def given(form: PyTree, tree: object) -> Any:
        return form.arrays([as_array(tensor) for tensor in form.tensors(tree)])

    def in_torch(lam: object, *theta: object) -> Any:
        found = answer(given(at, lam), *(given(state, each) for each in theta))
        if stateful and isinstance(found, tuple) and len(found) == 2:
            return tensors_of(found[0], "hypergradient"), tensors_of(found[1], "theta")
        return tensors_of(found, "hypergradient")

    return functools.wraps(answer)(in_torch)
