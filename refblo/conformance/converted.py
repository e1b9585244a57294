"""A check of losses that are written for another library's arrays: its arguments as torch's.

`ArrayLibrary` is what differs between libraries: how arrays become tensors, and how a function of arrays is
differentiated; `in_jax` and `in_numpy` have one each. What is the same for all stands here: which argument is
a function of what, and what the check makes of it. Everything else of a check is that of losses in torch.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar, final, runtime_checkable

from torch import Tensor
from torch.nn import Module

from refblo.conformance.answers import only_returns
from refblo.conformance.arguments import require_read
from refblo.conformance.first_calls import own
from refblo.conformance.of_run import run_report
from refblo.conformance.report import Report
from refblo.conformance.trees import require_ends
from refblo.conformance.truth.refusal import LOOK_FOR
from refblo.errors import OracleError


@runtime_checkable
class ArrayForm(Protocol):
    """The structure of an argument that is a tree of arrays."""

    def arrays_of(self, tree: object) -> Any:
        """The arrays with the numbers of a tree of tensors."""
        ...

    def fresh(self, tree: object) -> Any:
        """A tree of arrays as it is given to the caller's functions, safe from what they write to it."""
        ...


FormT = TypeVar("FormT", bound=ArrayForm)


@runtime_checkable
class ArrayLibrary(Protocol[FormT]):
    """How the arrays of a library become tensors, for one check."""

    @property
    def look_for(self) -> str:
        """What makes the two oracles of losses in this library disagree, for an error."""
        ...

    def form(self, argument: str, tree: object) -> FormT:
        """The structure of an argument.

        Raises:
            ArgumentError, ArgumentTypeError: if a leaf is no real floating-point array, or there is none.
        """
        ...

    def tensors_of(self, tree: object, argument: str) -> Any:
        """The tensors with the numbers of a tree of arrays.

        Raises:
            ArgumentError, ArgumentTypeError: likewise.
        """
        ...

    def require_size(self, lam: FormT, theta0: FormT) -> None:
        """Nothing, where the library can differentiate losses of so many entries.

        Raises:
            ArgumentError: if it cannot.
        """
        ...

    def to_tensors(self, batch: object) -> object:
        """A batch with tensors in place of its arrays, until a loss is called."""
        ...

    def to_arrays(self, batch: object) -> object:
        """The reverse; also for batches that came with tensors, as from a DataLoader."""
        ...

    def on_tensors(
        self,
        name: str,
        function: Callable[..., Any],
        inputs: tuple[FormT, ...],
        output: FormT | None,
        returned: str,
    ) -> Callable[..., Any]:
        """A function of arrays as one of tensors, which torch can differentiate twice.

        Args:
            name: the caller's name of it, for findings.
            function: takes `fixed` and then trees of arrays, and returns a tree; nothing is differentiated by
                `fixed`.
            inputs: the structures of its trees.
            output: the structure of what it returns; None for one number.
            returned: what it returns, for errors.

        Returns:
            The same function of trees of tensors; it returns one, or a tensor without dimensions.
        """
        ...

    def told(self, report: Report) -> Report:
        """The report with what is to be said of the library."""
        ...


def converted_report(
    library: ArrayLibrary[Any],
    inner: Any,
    outer: Any,
    lam: Any,
    theta0: Any,
    hypergradient: Any,
    options: Mapping[str, object],
) -> Report:
    """The report on a hypergradient of losses of arrays; the other arguments are those of `hypergradcheck`.

    Raises:
        OracleError: if the oracles cannot answer.
        ArgumentError, ArgumentTypeError, LossError: for arguments that do not fit together.
    """
    for name, tree in (
        ("lam", lam),
        ("theta0", theta0),
        ("hypergradient", hypergradient),
        *((name, options.get(name)) for name in ("inner_batches", "outer_batches", "noise")),
    ):
        require_ends(name, tree)
    at = library.form("lam", lam)
    starts = callable(theta0) and not isinstance(theta0, Module)
    first = own("theta0", lambda: theta0(at.fresh(lam))) if starts else theta0
    state = library.form("theta0", first)
    library.require_size(at, state)
    make = _Converter(library, at, state)
    changed, theta = dict(options), state
    read = options.get("read")
    if callable(options.get("step")):
        if read is None and isinstance(first, tuple | list):
            batches = options.get("outer_batches")
            last = (batches[-1],) if isinstance(batches, list | tuple) and batches else ()
            require_read(lambda whole: outer(lam, whole, *last), first)
        if read is None or (callable(read) and not isinstance(read, Module)):
            theta, changed["read"] = make.read(read, first)
        changed["step"] = make.step(options["step"])
    for name in ("inner_batches", "outer_batches"):
        batches = options.get(name)
        if isinstance(batches, list | tuple):
            changed[name] = [library.to_tensors(batch) for batch in batches]
    noise = options.get("noise")
    if noise is not None and not isinstance(noise, Tensor):
        changed["noise"] = library.tensors_of(noise, "noise")
    arguments = (
        None if inner is None else make.loss("inner", inner, theta),
        make.loss("outer", outer, theta),
        library.tensors_of(lam, "lam"),
        make.start(theta0) if starts else library.tensors_of(theta0, "theta0"),
        make.answer(hypergradient, stateful=options.get("stateful") is True),
        changed,
    )
    try:
        report = run_report(*arguments)
    except OracleError as error:
        said = str(error).replace(LOOK_FOR, library.look_for)
        said = said.replace("whose derivatives torch knows", "that are differentiated rightly")
        raise OracleError(said) from error
    return library.told(report)


@final
class _Converter(Generic[FormT]):
    """The caller's functions of arrays as functions of tensors."""

    def __init__(self, library: ArrayLibrary[FormT], at: FormT, state: FormT) -> None:
        """Of λ with the structure `at` and states with the structure `state`."""
        self.library, self.at, self.state = library, at, state

    def loss(self, name: str, loss: Any, theta: FormT) -> Callable[..., Tensor]:
        """A loss with the same parameters."""

        def value(batch: tuple[object, ...], lam: Any, at: Any) -> Any:
            return loss(lam, at, *batch)

        function = self.library.on_tensors(name, value, (self.at, theta), None, name)

        @functools.wraps(loss)
        def in_torch(lam: object, at: object, *batch: object) -> Tensor:
            found: Tensor = function(tuple(map(self.library.to_arrays, batch)), lam, at)
            return found

        return in_torch

    def start(self, start: Callable[[Any], Any]) -> Callable[[object], Any]:
        """θ⁰ as a function of λ."""
        function = self.library.on_tensors(
            "theta0", lambda _, lam: start(lam), (self.at,), self.state, "theta0(lam)"
        )
        return functools.partial(function, None)

    def step(self, step: Any) -> Callable[[object, object, int], Any]:
        """A transition."""
        function = self.library.on_tensors(
            "step",
            lambda t, lam, before: step(lam, before, t),
            (self.at, self.state),
            self.state,
            "the state that step returns",
        )
        return lambda lam, before, t: function(t, lam, before)

    def read(self, read: Any, first: Any) -> tuple[FormT, Callable[[object], Any]]:
        """The structure of θ, and how it is read from a state; by default a tuple's or list's first part."""
        if read is None:
            read = (
                (lambda whole: whole[0])
                if isinstance(first, tuple | list)
                else (lambda whole: whole)
            )
        theta = self.library.form("read(theta0)", own("read", lambda: read(first)))
        function = self.library.on_tensors(
            "read", lambda _, whole: read(whole), (self.state,), theta, "what read returns"
        )
        return theta, functools.partial(function, None)

    def answer(self, answer: Any, *, stateful: bool) -> Any:
        """The hypergradient that is judged: computed as the caller computes it, in the caller's precision."""
        if not callable(answer):
            return self.library.tensors_of(answer, "hypergradient")
        if only_returns(answer) and not stateful:
            # `lambda lam: value`: computed before, as the same function of tensors is taken.
            return self.library.tensors_of(answer(None), "hypergradient")

        def in_torch(lam: object, *theta: object) -> Any:
            given = (self.at.arrays_of(lam), *map(self.state.arrays_of, theta))
            found = answer(*given)
            require_ends("hypergradient", found)
            if stateful and isinstance(found, tuple) and len(found) == 2:
                value, after = found
                return self.library.tensors_of(value, "hypergradient"), self.library.tensors_of(
                    after, "theta"
                )
            return self.library.tensors_of(found, "hypergradient")

        return functools.wraps(answer)(in_torch)
