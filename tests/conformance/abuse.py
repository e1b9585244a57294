"""Every argument of hypergradcheck with every bad value, and what each call raises.

The test suite checks types at run time, so there a bad argument is refused before refblo's own check sees it.
`python -m tests.conformance.abuse [every [form...]]` makes the calls in a process without that, which is what
a user has, and prints as JSON what they raised; with `every` = k only one call of k. The forms are two losses
in torch, in NumPy or in JAX, and one function (objective); by default all but JAX.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn

from refblo.conformance import Rule, hypergradient_report
from refblo.conformance.option_table import TABLE
from refblo.conformance.options import BlackBoxOptions
from refblo.errors import RefbloError

LAM = torch.tensor([-1.0, -1.3], dtype=torch.float64)
THETA = torch.tensor([0.4, 0.1, -0.2], dtype=torch.float64)
X = torch.tensor([[1.0, 0.5, 0.2], [2.0, -1.0, 0.3], [-0.5, 0.1, 1.0]], dtype=torch.float64)


def inner(lam: Tensor, theta: Tensor) -> Tensor:
    return (X @ theta - 1).square().mean() + lam.exp().sum() * theta.square().sum()


def outer(lam: Tensor, theta: Tensor) -> Tensor:
    return (X @ theta + 1).square().mean() + 0.1 * lam.square().sum()


def batched(lam: Tensor, theta: Tensor, batch: Tensor) -> Tensor:
    return batch.sum() * inner(lam, theta)


def density(lam: Tensor, theta: Tensor) -> Tensor:
    return (theta - lam.sum()).square().sum()


def step(lam: Tensor, theta: Tensor, _: int) -> Tensor:
    gradient: Tensor = torch.func.grad(lambda at: inner(lam, at))(theta)
    return theta - 0.1 * gradient


def raising(*_: Any) -> Any:
    raise KeyError("lost")


def _itself() -> list[Any]:
    tree: list[Any] = []
    tree.append(tree)
    return tree


def _sparse() -> Tensor:
    return torch.eye(2, dtype=torch.float64).to_sparse()


BAD: Mapping[str, Callable[[], Any]] = {
    "None": lambda: None,
    "0": lambda: 0,
    "-1": lambda: -1,
    "1.5": lambda: 1.5,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "1e400 as a string": lambda: "1e400",
    "True": lambda: True,
    "a string": lambda: "lam",
    "bytes": lambda: b"lam",
    "an empty list": list,
    "an empty dict": dict,
    "an empty tuple": tuple,
    "an object": object,
    "a type": lambda: Tensor,
    "a dtype": lambda: torch.float64,
    "a complex number": lambda: 1j,
    "a NumPy array": lambda: np.ones(2),
    "a NumPy number": lambda: np.float64("nan"),
    "a list of numbers": lambda: [1.0, 2.0],
    "a scalar tensor": lambda: torch.tensor(float("nan"), dtype=torch.float64),
    "an integer tensor": lambda: torch.ones(2, dtype=torch.int64),
    "a complex tensor": lambda: torch.ones(2, dtype=torch.complex128),
    "a sparse tensor": _sparse,
    "a meta tensor": lambda: torch.ones(2, dtype=torch.float64, device="meta"),
    "an empty tensor": lambda: torch.ones(0, dtype=torch.float64),
    "a tensor of a wrong size": lambda: torch.ones(7, dtype=torch.float64),
    "a tensor with NaN": lambda: torch.full((2,), float("nan"), dtype=torch.float64),
    "a quantity of other dtypes": lambda: [torch.ones(1).double(), torch.ones(1)],
    "a list with None": lambda: [torch.ones(2).double(), None],
    "a dict with None": lambda: {"a": None},
    "a list that contains itself": _itself,
    "a module": lambda: nn.Linear(2, 2),
    "a generator": lambda: nn.Linear(2, 2).parameters(),
    "a set": lambda: {1.0},
    "a function of nothing": lambda: lambda: torch.ones(2).double(),
    "a function of nine": lambda: lambda a, b, c, d, e, f, g, h, i: a,
    "a function that raises": lambda: raising,
    "a function that returns None": lambda: lambda *_: None,
    "a function that returns a string": lambda: lambda *_: "lam",
    "a function that returns a vector": lambda: lambda *_: torch.ones(5).double(),
    "a function that returns NaN": lambda: lambda *_: torch.tensor(float("nan")).double(),
}
"""Values that are bad for most arguments; for some they are good."""

POSITIONAL = ("inner", "outer", "lam", "theta0", "hypergradient")
OPTIONS = ("estimand", *TABLE)
BLACK_BOX_OPTIONS = tuple(get_type_hints(BlackBoxOptions))


def in_arrays(library: Any) -> dict[str, Any]:
    """The same problem in NumPy or in jax.numpy."""
    x = library.asarray(X.numpy())

    def loss(lam: Any, theta: Any) -> Any:
        return ((x @ theta - 1) ** 2).mean() + library.exp(lam).sum() * (theta**2).sum()

    return {
        "inner": loss,
        "outer": lambda lam, theta: ((x @ theta + 1) ** 2).mean() + 0.1 * (lam**2).sum(),
        "batched": lambda lam, theta, batch: batch.sum() * loss(lam, theta),
        "density": lambda lam, theta: ((theta - lam.sum()) ** 2).sum(),
        "step": lambda lam, theta, t: theta - 0.1 * library.exp(lam).sum() * theta,
        "lam": library.asarray(LAM.numpy()),
        "theta0": library.asarray(THETA.numpy()),
        "hypergradient": lambda lam: 0 * lam,
    }


def in_torch() -> dict[str, Any]:
    """The problem of this module."""
    return {
        "inner": inner,
        "outer": outer,
        "batched": batched,
        "density": density,
        "step": step,
        "lam": LAM,
        "theta0": THETA,
        "hypergradient": torch.zeros_like,
    }


def _in_jax() -> dict[str, Any]:
    import jax

    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]  # JAX's own
    return in_arrays(jax.numpy)


RUNS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "torch": in_torch,
    "numpy": lambda: in_arrays(np),
    "jax": _in_jax,
}
OBJECTIVE = "objective"
FORMS = (*RUNS, OBJECTIVE)


def call(problem: Mapping[str, Any], argument: str, value: object) -> None:
    """A call with two losses that is good but for one argument."""
    arguments: dict[str, Any] = {name: problem[name] for name in POSITIONAL}
    options: dict[str, Any] = {"steps": 2, "step_size": 0.1, "diagnosis_seconds": 0.0}
    if argument == "seeds":
        arguments |= {"inner": problem["density"], "outer": problem["density"]}
        arguments["theta0"] = problem["theta0"][:1]
        arguments["hypergradient"] = lambda lam, seed=0: seed * lam
        options["estimand"] = "gibbs"
    if argument == "burn_in":
        options["estimand"] = "pathwise"
    if argument in ("rule", "step", "read"):
        del options["step_size"]
    if argument in ("step", "read"):
        arguments["inner"] = None
    if argument == "read":
        options["step"] = problem["step"]
    if argument == "inner_batches":
        arguments["inner"] = problem["batched"]
    if argument == "outer_batches":
        arguments["outer"] = problem["batched"]
    (arguments if argument in arguments else options)[argument] = value
    hypergradient_report(*arguments.values(), **options)


def call_of_objective(argument: str, value: object) -> None:
    """A call with one function that is good but for one argument."""
    arguments: dict[str, Any] = {
        "objective": lambda lam: (2 * lam).exp().sum(),
        "lam": LAM,
        "hypergradient": lambda lam: 2 * (2 * lam).exp(),
    }
    hypergradient_report(**(arguments | {argument: value}))


def calls(forms: Iterable[str] = FORMS) -> Iterator[tuple[str, str, str, Callable[[], None]]]:
    """The form, the argument, the name of the value, and the call."""
    for form in forms:
        if form == OBJECTIVE:
            names: Iterable[str] = ("objective", "lam", "hypergradient", *BLACK_BOX_OPTIONS)
            function: Callable[[str, object], None] = call_of_objective
        else:
            names, function = (*POSITIONAL, *OPTIONS), partial(call, RUNS[form]())
        for argument in names:
            for name, make in BAD.items():
                if (form, argument, name) == ("numpy", "seeds", "None"):
                    continue  # a good call: the Gibbs truth of losses in NumPy takes 45 s
                yield form, argument, name, lambda a=argument, m=make, f=function: f(a, m())  # type: ignore[misc]  # bound early
    for option, values in _OF_THE_RULE.items():
        for value in values:
            yield "", option, repr(value), lambda option=option, value=value: _rule(option, value)  # type: ignore[misc]  # bound early


_NUMBERS: tuple[Any, ...] = (
    None,
    "0.1",
    float("nan"),
    float("inf"),
    -1.0,
    True,
    1j,
    torch.tensor(0.1),
    [0.1],
)
_OF_THE_RULE: Mapping[str, tuple[Any, ...]] = {
    "step_size": (*_NUMBERS, 0.0),
    "momentum": (*_NUMBERS, 1.0),
    "weight_decay": _NUMBERS,
    "temperature": (*_NUMBERS, 0.0),
    "noise_scale": _NUMBERS,
    "adam_epsilon": (*_NUMBERS, 0.0),
    "betas": ("ab", 0.9, (0.9,), (0.9, 1.0), (float("nan"), 0.9), (None, 0.9)),
}


def _rule(option: str, value: object) -> None:
    Rule(**({"step_size": 0.1} | {option: value}))  # type: ignore[arg-type]  # on purpose


def raised(function: Callable[[], None]) -> dict[str, Any]:
    """What a call raises: the type, the text, and whether it is one of refblo's own."""
    try:
        function()
    except RefbloError as error:
        return {"type": type(error).__name__, "text": str(error), "own": True}
    except Exception as error:
        return {"type": type(error).__name__, "text": str(error), "own": False}
    return {"type": "", "text": "", "own": True}


def main(every: int, forms: Iterable[str]) -> None:
    """Print what the calls raise."""
    torch.set_num_threads(1)
    found = []
    for index, (form, argument, name, function) in enumerate(calls(forms)):
        if index % every == 0:
            found.append({"form": form, "argument": argument, "value": name} | raised(function))
    print(json.dumps(found))


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["1"])[0]), sys.argv[2:] or [name for name in FORMS if name != "jax"])
