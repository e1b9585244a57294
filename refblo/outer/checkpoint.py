"""Saved states of an outer loop: written whole or not at all, and refused where they do not belong.

A state carries what identifies its run: the versions, the problem (by what its losses and derivatives are
at the start), the starting λ, dtype, device, seed, estimator, optimiser, scheduler and projection. One that
differs in any of them would go on to other numbers, so it is refused with the reason. The file ends in a
digest of all its other bytes: one of which a single bit was changed is refused too.
"""

import hashlib
import io
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from refblo.cost import Evaluations
from refblo.derivatives import inner_gradient, outer_gradients
from refblo.errors import ResumeError
from refblo.files import write_atomically
from refblo.noise import SEED_CONTRACT, Draws, Stream
from refblo.outer.identity import digest
from refblo.problem import BilevelProblem
from refblo.types import Lam

FORMAT = 2
"""Of the file; a reader of another format refuses it."""

State = dict[str, Any]
"""What `torch.save` takes: tensors, numbers, strings, and dicts and lists of them."""

_MARK = b"\nrefblo checkpoint sha256 "
"""Stands between the state and the digest at the end of the file, which torch's reader passes over."""
_TRAILER = len(_MARK) + 64 + 1

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
    """The versions on which the exact numbers depend, and Python's, whose code functions are compared by."""
    found = {name: version(name) for name in ("refblo", "torch", "numpy")}
    return {**found, "Python": ".".join(platform.python_version_tuple()[:2])}


def save(path: Path, state: State) -> None:
    """Write a state so that a reader finds the old one or the new one, never part of one."""
    buffer = io.BytesIO()
    head = {"format": FORMAT, "refblo": version("refblo"), "seed contract": SEED_CONTRACT}
    torch.save({**head, **state}, buffer)
    data = buffer.getvalue()
    write_atomically(path, data + _MARK + _hexadecimal(data) + b"\n", durable=True)


def load(path: Path) -> State:
    """Read a state and check that it is what was written.

    Raises:
        ResumeError: if it cannot be read, is damaged, or comes from another version; the message says which.
    """
    state = _read(path)
    found = state.get("format")
    if found != FORMAT:
        reason = " (one without a digest)" if found == 1 else ""
        _refuse(path, f"have format {FORMAT}", f"{found}{reason}", _OTHER_VERSION)
    if (wrote := state.get("refblo")) != version("refblo"):
        _refuse(path, f"come from the same version of refblo ({version('refblo')})", wrote)
    if (contract := state.get("seed contract")) != SEED_CONTRACT:
        got = f"seed contract {contract}, whose seeds stand for other numbers"
        _refuse(path, f"be drawn under seed contract {SEED_CONTRACT}", got, _OTHER_VERSION)
    _check_entries(path, state)
    return state


_OTHER_VERSION = "go on with the version that wrote it, or "


def _read(path: Path) -> State:
    try:
        content = path.read_bytes()
    except OSError as error:
        _refuse(path, "be a file that can be read", error.strerror or type(error).__name__)
    data, trailer = content[:-_TRAILER], content[-_TRAILER:]
    marked = trailer.startswith(_MARK)
    if marked and trailer != _MARK + _hexadecimal(data) + b"\n":
        _refuse(
            path, "be as it was written", "a file whose digest does not match: it was changed since"
        )
    try:
        found: object = torch.load(
            io.BytesIO(data if marked else content), map_location="cpu", weights_only=True
        )
    except Exception as error:  # whatever a damaged file makes of the reader
        lines = str(error).splitlines()
        # What follows torch's first sentence is advice to read the file without its check.
        told = lines[0].partition(". ")[0] if lines else type(error).__name__
        _refuse(path, "be a state that was saved here", f"a file that cannot be read ({told})")
    state: State = found if isinstance(found, dict) else {}
    if not marked and state.get("format") == FORMAT:
        _refuse(path, "end in a digest", "none: it was cut off or changed since it was written")
    return state


def _check_entries(path: Path, state: State) -> None:
    """Every entry is there and is of its kind."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "run": dict,
        "step": int,
        "threads": int,
        "lam": Tensor,
        "theta": Tensor,
        "q": Tensor,
        "memory": dict,
        "optimiser": dict,
        "scheduler": (dict, type(None)),
        "cost": dict,
    }
    for name, kind in kinds.items():
        if name not in state:
            _refuse(path, f"hold the entry {name!r}", "none")
        if not isinstance(state[name], kind) or isinstance(state[name], bool):
            _refuse(path, f"hold a usable entry {name!r}", f"a {type(state[name]).__name__}")
    if state["step"] < 0 or state["threads"] < 1:
        _refuse(path, "count steps and threads", f"{state['step']} and {state['threads']}")
    if not all(isinstance(tensor, Tensor) for tensor in state["memory"].values()):
        _refuse(path, "hold tensors in 'memory'", "something else")
    counted = {each.name for each in fields(Evaluations)}
    if set(state["cost"]) != counted or not all(
        isinstance(number, int) for number in state["cost"].values()
    ):
        _refuse(path, f"count {', '.join(sorted(counted))} in 'cost'", state["cost"])


def check_run(path: Path, saved: Mapping[str, object], expected: Mapping[str, str]) -> None:
    """Check that a state belongs to the run that `expected` describes.

    Raises:
        ResumeError: if it differs; the message says in what.
    """
    for name, wanted in expected.items():
        found = saved.get(name)
        if found != wanted:
            one, other = _short(wanted, str(found))
            _refuse(
                path,
                f"come from the same {name} ({one})",
                other,
                "the numbers would not be those of one run: ",
            )


def refuse_threads(path: Path, saved: int) -> NoReturn:
    """Refuse a state that was computed with another number of threads, on which the bits depend here.

    Raises:
        ResumeError: always.
    """
    _refuse(
        path,
        f"come from the same number of threads ({torch.get_num_threads()})",
        f"{saved}, and the numbers differ in their last bits",
        f"call torch.set_num_threads({saved}) first, or ",
    )


def refuse_entries(path: Path, error: Exception) -> NoReturn:
    """Refuse a state whose parts the loop cannot take up.

    Raises:
        ResumeError: always.
    """
    lines = str(error).splitlines()
    told = f"{type(error).__name__}: {lines[0] if lines else ''}"
    _refuse(path, "fit the optimiser, the scheduler and lam of this run", told)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch use so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _short(one: str, other: str, most: int = 60) -> tuple[str, str]:
    """Both texts from shortly before where they first differ, so that a message stays readable."""
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    first = 0 if max(len(one), len(other)) <= most else max(0, same - 20)

    def cut(text: str) -> str:
        part = text[first : first + most]
        return ("…" if first else "") + part + ("…" if first + most < len(text) else "")

    return cut(one), cut(other)


def _refuse(path: Path, must: str, got: object, remedy: str = "") -> NoReturn:
    raise ResumeError(
        f"checkpoint must {must}, got {got}; {remedy}delete {path.name} to start again"
    )


def _hexadecimal(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode("ascii")
