"""Pytrees of JAX arrays as trees of tensors, and functions of pytrees as functions of such trees.

A pytree becomes a dict of its arrays by their paths ("layers.0.w"), a single array a single tensor; what is
called is given the pytree again.
"""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from refblo.conformance.in_jax.functions import ArrayFunction, as_array
from refblo.conformance.report import Report
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
        dtypes: of each array, likewise.
        structure: JAX's own description.
        single: whether it is one array.
    """

    argument: str
    labels: tuple[str, ...]
    dtypes: tuple[str, ...]
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
                    f"{name} must be a JAX array of float32 or float64, got {got}; {_remedy(leaf)}"
                )
            labels.append(".".join(str(_key(entry)) for entry in path))
        if not labels:
            raise ArgumentError(f"{argument} must have at least one array, got none; give it some")
        if len(set(labels)) < len(labels):
            labels = [jax.tree_util.keystr(path) for path, _ in found]
        dtypes = tuple(str(_dtype(leaf)) for _, leaf in found)
        return PyTree(argument, tuple(labels), dtypes, structure, single=found[0][0] == ())

    def fresh(self, tree: object) -> Any:
        """The pytree itself: JAX arrays cannot be written to."""
        return tree

    def arrays_of(self, tree: object) -> Any:
        """The pytree with the numbers of a tree of tensors."""
        return self.arrays([as_array(tensor) for tensor in self.tensors(tree)])

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


def _remedy(leaf: object) -> str:
    """What to do about a leaf that is no real array; a counter or a key may not become a number of λ or θ."""
    name = str(_dtype(leaf))
    if name == "bool" or "int" in name or name.startswith("key"):
        return (
            "leave counters and keys out, as what is not trained (of an nnx module take nnx.split(model, "
            "nnx.Param, ...)[1], of an optimiser's state its moments), or convert it with jnp.asarray(..., "
            "jnp.float32) if it is differentiated"
        )
    return "convert it with jnp.asarray(..., jnp.float32)"


def _dtype(leaf: object) -> object:
    return getattr(leaf, "dtype", "float64" if isinstance(leaf, float) else "no numbers")


def _key(entry: Any) -> object:
    """Of one step of a path: the key of a dict, an index, or an attribute's name."""
    for name in ("key", "idx", "name"):
        if hasattr(entry, name):
            return getattr(entry, name)
    return entry


X64_OFF = (
    "x64 is off in JAX, so the answer was computed in float32; with jax.config.update('jax_enable_x64', "
    "True) and float64 arrays much smaller errors are seen"
)


@final
class JAXArrays:
    """JAX as an `ArrayLibrary` (`refblo.conformance.converted`)."""

    @property
    def look_for(self) -> str:
        """What makes the two oracles disagree."""
        return (
            "look for jax.lax.stop_gradient inside the losses or the step, for a wrong jax.custom_vjp or "
            "jax.custom_jvp, for rounding on purpose (astype, round), for a kink at this lam, or for hidden "
            "randomness"
        )

    def form(self, argument: str, tree: object) -> PyTree:
        """The structure of a pytree."""
        return PyTree.of(argument, tree)

    def tensors_of(self, tree: object, argument: str) -> TensorTree:
        """The tensors of a pytree by label; of one array, the tensor."""
        return tensors_of(tree, argument)

    def require_size(self, lam: PyTree, theta0: PyTree) -> None:
        """Nothing: JAX differentiates losses of any size."""

    def to_tensors(self, batch: object) -> object:
        """A batch with tensors in place of its arrays."""
        import jax

        def tensor(leaf: object) -> object:
            arrays = isinstance(leaf, jax.Array | np.ndarray)
            return torch.from_numpy(np.array(leaf)) if arrays else leaf

        found: object = jax.tree_util.tree_map(tensor, batch)
        return found

    def to_arrays(self, batch: object) -> object:
        """A batch with arrays in place of its tensors."""
        import jax

        found: object = jax.tree_util.tree_map(
            lambda leaf: as_array(leaf) if isinstance(leaf, Tensor) else leaf, batch
        )
        return found

    def on_tensors(
        self,
        name: str,
        function: Callable[..., Any],
        inputs: tuple[PyTree, ...],
        output: PyTree | None,
        returned: str,
    ) -> Callable[..., Any]:
        """A function of pytrees as one of trees of tensors."""
        import jax

        def value(fixed: object, *arrays: Any) -> Sequence[Any]:
            left = iter(arrays)
            found = function(
                fixed, *(form.arrays([next(left) for _ in form.labels]) for form in inputs)
            )
            if output is not None:
                leaves = jax.tree_util.tree_leaves(found)
                if len(leaves) != len(output.labels):
                    raise ArgumentError(
                        f"{returned} must have as many arrays as {output.argument}, {len(output.labels)}, "
                        f"got {len(leaves)}; return a pytree of the same structure"
                    )
                return leaves
            if not isinstance(found, jax.Array | np.ndarray | np.generic | float | int):
                raise ArgumentTypeError(
                    f"{name} must return one number, got {type(found).__name__}; return a JAX array without "
                    "dimensions"
                )
            return (jax.numpy.asarray(found, arrays[0].dtype),)

        count = sum(len(form.labels) for form in inputs)
        outputs = 1 if output is None else len(output.labels)
        dtypes = tuple(dtype for form in inputs for dtype in form.dtypes)
        traced = ArrayFunction(value, count, outputs, plain_calls=PLAIN_CALLS, dtypes=dtypes)

        def in_torch(fixed: object, *trees: object) -> Any:
            tensors = [
                tensor
                for form, tree in zip(inputs, trees, strict=True)
                for tensor in form.tensors(tree)
            ]
            found = traced.on(fixed, tensors)
            return found[0] if output is None else output.labelled(found)

        return in_torch

    def told(self, report: Report) -> Report:
        """The report, with a finding where answers are in float32 for want of x64."""
        import jax

        if jax.numpy.asarray(0.0).dtype == "float64":
            return report
        return replace(report, findings=(*report.findings, X64_OFF))
