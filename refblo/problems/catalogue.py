"""The problems by name, each built when it is asked for."""

import difflib
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Protocol, cast, runtime_checkable

import torch

from refblo.errors import ArgumentError
from refblo.problems.case import Case


@runtime_checkable
class Builder(Protocol):
    """Builds a case, in float64 on the CPU unless it is asked otherwise."""

    def __call__(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> Case:
        """The case."""
        ...


_MODULES = {
    "synth_1d": "synth_1d",
    "noisy_synth_1d": "synth_1d",
    "cubic_toy": "cubic",
    "quadratic": "quadratic",
    "quadratic_ill_conditioned": "quadratic",
    "quadratic_curvature": "quadratic",
    "maml_quadratic": "maml",
    "maml_sinusoid": "maml",
    "ridge_diabetes": "ridge",
    "softmax_digits": "softmax_regression",
    "softmax_digits_minibatch": "softmax_regression",
    "mlp_digits_l1": "mlp",
    "taylor_loss_iris": "taylor_loss",
    "hyper_ridge": "hyper_representation",
    "hyper_logistic": "hyper_representation",
    "prototypes_iris": "prototypes",
    "invariance": "invariance",
    "abml_regression": "abml",
    "bmaml_regression": "bmaml",
}
"""Name → file; the builder has the problem's name. Nothing is imported before it is asked for."""


def _builder(name: str) -> Builder:
    def build_it(dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Case:
        module = import_module(f"refblo.problems.{_MODULES[name]}")
        return cast("Builder", getattr(module, name))(dtype=dtype, device=device)

    return build_it


def catalogue() -> Mapping[str, Builder]:
    """Every problem's builder by the problem's name, in the order in which reports list them.

    Example:
        >>> case = catalogue()["synth_1d"]()
        >>> case.lam
        tensor([0.1000], dtype=torch.float64)
    """
    return MappingProxyType({name: _builder(name) for name in _MODULES})


def build(
    name: str, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> Case:
    """Build one problem of the catalogue.

    Args:
        name: the problem's name.
        dtype: of its vectors and data.
        device: where they live.

    Raises:
        ArgumentError: for an unknown name; the message lists the known ones.
    """
    if name not in _MODULES:
        near = difflib.get_close_matches(name, _MODULES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "choose one of these"
        raise ArgumentError(f"name must be one of {', '.join(_MODULES)}, got {name!r}; {hint}")
    return _builder(name)(dtype=dtype, device=device)
