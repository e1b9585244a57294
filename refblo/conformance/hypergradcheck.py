"""`hypergradcheck`, `hypergradient_is_right` and `hypergradient_report`: gradcheck for bilevel problems.

This file holds the signatures and chooses who answers; no numerics. The three functions take the same
arguments and differ in what they do with the report: raise unless it is right, return a bool, return it. The
report is made by

- `of_run` for two losses and a run in torch,
- `converted` for the same in JAX or NumPy (if λ or θ⁰ hold their arrays), through `in_jax` or `in_numpy`,
- `black_box` for one function λ ↦ outer loss (`objective=`).

`in_jax` and `black_box` are imported only when they are needed, because they import JAX, sympy and scipy.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Unpack, final, overload

import torch

from refblo.conformance.answers import Subjected
from refblo.conformance.arguments import Loss, Start
from refblo.conformance.buffers import unchanged_buffers
from refblo.conformance.converted import converted_report
from refblo.conformance.in_numpy import NumPyArrays, is_in_numpy
from refblo.conformance.of_run import run_report
from refblo.conformance.options import BlackBoxOptions, Options
from refblo.conformance.report import HypergradientMismatch, Report, Verdict
from refblo.conformance.trees import require_ends
from refblo.errors import ArgumentTypeError, OracleError
from refblo.ravel import Tree


@final
class _NotGiven(Enum):
    """The default of every argument: None cannot be it, because None is a valid `inner`."""

    NOT_GIVEN = "not given"


NOT_GIVEN = _NotGiven.NOT_GIVEN


@overload
def hypergradcheck(
    inner: Loss | None,
    outer: Loss,
    lam: Tree,
    theta0: Start,
    hypergradient: Subjected,
    **options: Unpack[Options],
) -> Report: ...


@overload
def hypergradcheck(
    inner: Callable[..., Any] | None,
    outer: Callable[..., Any],
    lam: Any,
    theta0: Any,
    hypergradient: Any,
    **options: Unpack[Options],
) -> Report: ...


@overload
def hypergradcheck(
    *,
    objective: Callable[[Any], Any],
    lam: Any,
    hypergradient: Any,
    **options: Unpack[BlackBoxOptions],
) -> Report: ...


def hypergradcheck(
    inner: Any = NOT_GIVEN,
    outer: Any = NOT_GIVEN,
    lam: Any = NOT_GIVEN,
    theta0: Any = NOT_GIVEN,
    hypergradient: Any = NOT_GIVEN,
    *,
    objective: Any = NOT_GIVEN,
    **options: Any,
) -> Report:
    """Check a hypergradient against the truth; raise with a diagnosis if it is wrong.

    What is checked is given in one of two forms. Either the two losses and the run: `inner`, `outer`, `lam`,
    `theta0` and `hypergradient`, with the options that describe the run. Then the truth is computed twice, by
    a forward tangent along the run (or a dense solve, for the implicit estimand) and by differences of the
    outer objective; if the two disagree there is no verdict. A hypergradient is right if its error is at most
    the sum of the error of the truth, of the measured effect of rounding, and of the declared `tolerance`. An
    error below `floor` is never called wrong. A λ that is a dict, list or tuple is also judged tensor by
    tensor.

    Or the whole run as one function: `objective`, `lam` and `hypergradient`, by keyword. Then everything may
    be written in any framework, and the truth is computed by differences of that function alone.

    Args:
        inner: L_T, a function (lam, theta) or (lam, theta, batch) ↦ scalar; None if `step` is given.
        outer: f, likewise.
        lam: λ, a tensor or a tree of tensors, or a tree of JAX or of NumPy arrays: then the losses and the
            hypergradient are functions of such arrays.
        theta0: θ⁰, a tree as λ, or a function lam ↦ θ⁰. With `step`, the initial state.
        hypergradient: a function lam ↦ hypergradient, with λ's keys and shapes, or the hypergradient itself.
            A function is called at lam, at a point near lam and at lam again, to detect a state that it keeps
            between calls.
        objective: λ ↦ outer loss after the training, a real number, the same at every call at the same λ.
        options: see `Options` and `Run`; beside `objective`, `BlackBoxOptions`.

    Returns:
        The report of a hypergradient that is right.

    Raises:
        HypergradientMismatch: if it is wrong; carries the error, the bound, the direction and the diagnosis.
        OracleError: if no verdict is possible.
        ArgumentError, ArgumentTypeError: for arguments that do not fit together.
        LossError: if a loss, or the step, cannot be called or differentiated.

    Example:
        >>> import torch
        >>> lam, theta0 = torch.ones(2).double(), torch.zeros(3).double()
        >>> inner = lambda lam, theta: (theta - lam.sum()).square().sum() / 2
        >>> outer = lambda lam, theta: theta.square().sum()
        >>> right = lambda lam: 3 * 2 * 0.1**2 * lam.sum().expand(2)
        >>> report = hypergradcheck(inner, outer, lam, theta0, right, steps=1, step_size=0.1)
        >>> report.verdict.value
        'right'
        >>> train = lambda lam: 3 * (0.1 * lam.sum()) ** 2
        >>> hypergradcheck(objective=train, lam=lam, hypergradient=right).verdict.value
        'right'
    """
    arguments = _Arguments(inner, outer, lam, theta0, hypergradient, objective)
    report = arguments.report(options)
    if report.verdict is Verdict.WRONG:
        raise HypergradientMismatch(report)
    if report.verdict is Verdict.UNDECIDED:
        raise OracleError(report.describe())
    return report


@overload
def hypergradient_is_right(
    inner: Loss | None,
    outer: Loss,
    lam: Tree,
    theta0: Start,
    hypergradient: Subjected,
    **options: Unpack[Options],
) -> bool: ...


@overload
def hypergradient_is_right(
    inner: Callable[..., Any] | None,
    outer: Callable[..., Any],
    lam: Any,
    theta0: Any,
    hypergradient: Any,
    **options: Unpack[Options],
) -> bool: ...


@overload
def hypergradient_is_right(
    *,
    objective: Callable[[Any], Any],
    lam: Any,
    hypergradient: Any,
    **options: Unpack[BlackBoxOptions],
) -> bool: ...


def hypergradient_is_right(
    inner: Any = NOT_GIVEN,
    outer: Any = NOT_GIVEN,
    lam: Any = NOT_GIVEN,
    theta0: Any = NOT_GIVEN,
    hypergradient: Any = NOT_GIVEN,
    *,
    objective: Any = NOT_GIVEN,
    **options: Any,
) -> bool:
    """`hypergradcheck` as a yes or no; the arguments are the same.

    What is wrong is not looked for unless `diagnosis_seconds` is given.

    Raises:
        OracleError: if no verdict is possible.
        ArgumentError, ArgumentTypeError, LossError: for arguments that do not fit together.
    """
    arguments = _Arguments(inner, outer, lam, theta0, hypergradient, objective)
    report = arguments.report({"diagnosis_seconds": 0, **options})
    if report.verdict is Verdict.UNDECIDED:
        raise OracleError(report.describe())
    return report.right


@overload
def hypergradient_report(
    inner: Loss | None,
    outer: Loss,
    lam: Tree,
    theta0: Start,
    hypergradient: Subjected,
    **options: Unpack[Options],
) -> Report: ...


@overload
def hypergradient_report(
    inner: Callable[..., Any] | None,
    outer: Callable[..., Any],
    lam: Any,
    theta0: Any,
    hypergradient: Any,
    **options: Unpack[Options],
) -> Report: ...


@overload
def hypergradient_report(
    *,
    objective: Callable[[Any], Any],
    lam: Any,
    hypergradient: Any,
    **options: Unpack[BlackBoxOptions],
) -> Report: ...


def hypergradient_report(
    inner: Any = NOT_GIVEN,
    outer: Any = NOT_GIVEN,
    lam: Any = NOT_GIVEN,
    theta0: Any = NOT_GIVEN,
    hypergradient: Any = NOT_GIVEN,
    *,
    objective: Any = NOT_GIVEN,
    **options: Any,
) -> Report:
    """`hypergradcheck` as a report, whatever the verdict; the arguments are the same.

    Raises:
        OracleError: if the oracles cannot answer.
        ArgumentError, ArgumentTypeError, LossError: for arguments that do not fit together.
    """
    return _Arguments(inner, outer, lam, theta0, hypergradient, objective).report(options)


@final
@dataclass(frozen=True, eq=False)
class _Arguments:
    """The arguments of a call, in one of the two forms; `NOT_GIVEN` for those of the other form.

    The attributes are the arguments of `hypergradcheck`.
    """

    inner: Any
    outer: Any
    lam: Any
    theta0: Any
    hypergradient: Any
    objective: Any

    def report(self, options: Mapping[str, object]) -> Report:
        """The report; buffers of the caller's modules are put back afterwards (`refblo.conformance.buffers`).

        Raises:
            ArgumentTypeError: if an argument of one form is missing, or both forms are mixed.
        """
        functions = (self.inner, self.outer, self.theta0, self.hypergradient, self.objective)
        own = unchanged_buffers(*functions, options.get("step"), options.get("read"))
        # In inference mode every derivative would be zero, that of the truth as well.
        with torch.inference_mode(False), own:
            return self._report(options)

    def _report(self, options: Mapping[str, object]) -> Report:
        if self.objective is NOT_GIVEN:
            self._require("inner", "outer", "lam", "theta0", "hypergradient")
            run = (self.inner, self.outer, self.lam, self.theta0, self.hypergradient, options)
            if "jax" in sys.modules:
                for name in ("lam", "theta0"):
                    require_ends(name, getattr(self, name))
                # Imported here: it imports JAX, which only a caller with JAX arrays needs.
                from refblo.conformance.in_jax import JAXArrays, is_in_jax

                if is_in_jax(self.lam, self.theta0):
                    return converted_report(JAXArrays(), *run)
            if is_in_numpy(self.lam, self.theta0):
                return converted_report(NumPyArrays(), *run)
            return run_report(*run)
        for name in ("inner", "outer", "theta0"):
            if getattr(self, name) is not NOT_GIVEN:
                raise ArgumentTypeError(
                    f"{name} must be left out beside objective, which is the whole run; give either inner, "
                    "outer, lam, theta0 and hypergradient, or objective=, lam= and hypergradient="
                )
        self._require("lam", "hypergradient")
        # Imported here: it imports sympy and scipy, which the other forms do not need.
        from refblo.conformance.black_box import black_box_report

        return black_box_report(self.objective, self.lam, self.hypergradient, options)

    def _require(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) is NOT_GIVEN:
                raise ArgumentTypeError(
                    f"{name} must be given, got nothing; call hypergradcheck(inner, outer, lam, theta0, "
                    "hypergradient, ...), or hypergradcheck(objective=..., lam=..., hypergradient=...) for a "
                    "run that is one function of lam"
                )
