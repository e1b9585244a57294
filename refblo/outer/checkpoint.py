"""Saved states of an outer loop: written whole or not at all, and refused where they do not belong.

A state carries what identifies its run: the problem (by what its losses and derivatives are at the start),
the starting λ, dtype, device, seed, estimator, optimiser and versions. One that differs in any of them
would go on to other numbers, so it is refused with the reason.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refblo.derivatives import inner_gradient, outer_gradients
from refblo.errors import ResumeError
from refblo.files import replacing
from refblo.noise import SEED_CONTRACT, Draws, Stream
from refblo.problem import BilevelProblem
from refblo.types import Lam

FORMAT = 1
"""Of the file; a reader of another format refuses it."""

State = dict[str, Any]
"""What `torch.save` takes: tensors, numbers, strings, and dicts and lists of them."""


def digest(*tensors: Tensor) -> str:
    """A hash of the tensors' exact bytes, dtypes and shapes."""
    found = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        found.update(f"{plain.dtype} {tuple(plain.shape)} ".encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def identity(thing: object) -> str:
    """A text that is the same for what computes the same: class, fields, tensors by their bytes."""
    if isinstance(thing, Tensor):
        return digest(thing)
    if is_dataclass(thing) and not isinstance(thing, type):
        parts = (f"{each.name}={identity(getattr(thing, each.name))}" for each in fields(thing))
        return f"{type(thing).__qualname__}({', '.join(parts)})"
    if isinstance(thing, (tuple, list)):
        return f"[{', '.join(identity(each) for each in thing)}]"
    if isinstance(thing, Mapping):
        return f"{{{', '.join(f'{key}: {identity(thing[key])}' for key in thing)}}}"
    if callable(thing):
        return str(getattr(thing, "__qualname__", type(thing).__qualname__))
    return repr(thing)


PROBES = 2
"""How many points besides the start a problem is looked at: at one alone, all may be zero."""


def problem_identity(problem: BilevelProblem, lam: Lam, draws: Draws) -> str:
    """The problem's name, and a hash of its losses and derivatives at and near the start."""
    theta = problem.initial(lam.detach()).detach()
    inner = problem.inner_batches(draws, Stream.INNER_BATCH, 0)
    outer = problem.outer_batches(draws, Stream.OUTER_BATCH, 0)
    found = [theta]
    for probe in range(1 + PROBES):
        # A hundredth of the numbers' size: near enough for a loss with a domain.
        near_lam, near_theta = (
            at + (probe > 0) * 0.01 * (1 + at.abs()) * _PROBING.normal(stream, probe, at)
            for at, stream in ((lam.detach(), Stream.DIRECTIONS), (theta, Stream.INSTANCE))
        )
        with torch.no_grad():
            found.append(problem.inner(near_lam, near_theta, inner))
            found.append(problem.outer(near_lam, near_theta, outer))
        found.append(inner_gradient(problem.inner, near_lam, near_theta, inner))
        found.extend(outer_gradients(problem.outer, near_lam, near_theta, outer))
    return f"{problem.name} {digest(*found)}"


_PROBING = Draws(0)
"""Where the probes are: the same for every run."""


def versions() -> dict[str, str]:
    """The versions on which the exact numbers depend."""
    return {name: version(name) for name in ("refblo", "torch", "numpy")}


def save(path: Path, state: State) -> None:
    """Write a state so that a reader finds the old one or the new one, never part of one."""
    with replacing(path, durable=True) as scratch:
        torch.save({"format": FORMAT, "seed contract": SEED_CONTRACT, **state}, scratch)


def load(path: Path, expected: Mapping[str, str]) -> State:
    """Read a state and check that it belongs to the run that `expected` describes.

    Args:
        path: the file.
        expected: name → text, as the state's "run" must have it.

    Raises:
        ResumeError: if it cannot be read, or differs; the message says in what.
    """
    try:
        found: object = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes of the reader
        raise ResumeError(
            f"checkpoint must be a state that was saved here, got a file that cannot be read ({error}); "
            f"delete {path.name} to start again"
        ) from error
    state: State = found if isinstance(found, dict) else {}
    if state.get("format") != FORMAT:
        raise ResumeError(
            f"checkpoint must have format {FORMAT}, got {state.get('format')}; go on with the version "
            f"that wrote it, or delete {path.name} to start again"
        )
    contract = state.get("seed contract", 1)
    if contract != SEED_CONTRACT:
        raise ResumeError(
            f"checkpoint must be drawn under seed contract {SEED_CONTRACT}, got seed contract {contract}, "
            f"whose seeds stand for other numbers; go on with the version that wrote it, or delete "
            f"{path.name} to start again"
        )
    saved = state["run"]
    for name, wanted in expected.items():
        if saved.get(name) != wanted:
            raise ResumeError(
                f"checkpoint must come from the same {name} ({wanted}), got {saved.get(name)}; the "
                f"numbers would not be those of one run: delete {path.name} to start again"
            )
    return state
