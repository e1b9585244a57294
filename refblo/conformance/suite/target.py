"""Loading a target, and what it declares about itself by attributes of the function.

- `capabilities`: a set of names from `refblo.conformance.catalogue.entry.CAPABILITIES`; none by default.
- `estimands`: which estimands it is meant for, such as {"unrolled"}; ("unrolled",) by default.
- `tolerance`: the relative error that its method declares (a solver's); 0 by default.
- `dtype`: "float64" or "float32", what its arrays are to be.
- `solver`: "neumann" for a truncated series with `terms` terms (6 unless declared), which is judged as such.
- `stochastic`: whether it draws its own numbers from `problem.seed`; then its mean over seeds is judged.
"""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from refblo.conformance.catalogue.entry import CAPABILITIES
from refblo.conformance.suite.series import TERMS
from refblo.errors import ArgumentError, require, require_real, require_target


@final
@dataclass(frozen=True)
class Declared:
    """What a target says about itself.

    Attributes:
        capabilities: what it can do.
        estimands: what it is meant for.
        tolerance: the relative error that its method declares.
        dtype: of its arrays.
        stochastic: whether it draws its own numbers.
        terms: how many terms or iterations its solve makes, or None.
        solver: "neumann" for a truncated series, otherwise empty.
    """

    capabilities: tuple[str, ...] = ()
    estimands: tuple[str, ...] = ("unrolled",)
    tolerance: float = 0.0
    dtype: str = "float64"
    stochastic: bool = False
    terms: int | None = None
    solver: str = ""


def load(text: str) -> Callable[[Any], Any]:
    """Import a target.

    Raises:
        ArgumentError: if there is no such function, or it cannot be called with one problem.
        Exception: whatever importing its module raises.
    """
    where, name = require_target(text)
    if where.endswith(".py"):
        path = Path(where).resolve()
        if not path.is_file():
            raise ArgumentError(
                f"TARGET must name a file that exists, got {where!r}; check the path"
            )
        # A file may import its neighbours, as it may when it is run.
        sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ArgumentError(f"TARGET must name a Python file, got {where!r}; check the path")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    else:
        sys.path.insert(0, str(Path.cwd()))
        module = importlib.import_module(where)
    function = getattr(module, name, None)
    if function is None:
        raise ArgumentError(
            f"TARGET must name a function of {where}, got {name!r}, which is not there; check the name"
        )
    if not callable(function):
        raise ArgumentError(
            f"TARGET must be a function, got a {type(function).__name__}; name a function"
        )
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise ArgumentError(
            f"TARGET must take one argument, the problem, got {name}{inspect.signature(function)}: "
            f"{error}"
        ) from error
    except ValueError:
        pass  # a built-in without a signature: the first call will tell
    loaded: Callable[[Any], Any] = function
    return loaded


def declared(function: Callable[[Any], Any]) -> Declared:
    """What a target declares.

    Raises:
        ArgumentError: for a capability, an estimand or a dtype that does not exist, or a tolerance outside
            [0, 1).
    """
    base = Declared()
    capabilities = _names(getattr(function, "capabilities", base.capabilities))
    estimands = _names(getattr(function, "estimands", base.estimands))
    unknown = set(capabilities) - set(CAPABILITIES)
    if unknown:
        raise ArgumentError(
            f"capabilities must be among {sorted(CAPABILITIES)}, got {sorted(unknown)}; leave "
            "out or rename these"
        )
    known = {"unrolled", "pathwise", "implicit", "gibbs"}
    if not set(estimands) <= known or not estimands:
        raise ArgumentError(
            f"estimands must be among {sorted(known)}, got {sorted(estimands)}; name what it estimates"
        )
    dtype = str(getattr(function, "dtype", base.dtype))
    if dtype not in ("float64", "float32"):
        raise ArgumentError(f"dtype must be 'float64' or 'float32', got {dtype!r}; choose one")
    solver = str(getattr(function, "solver", base.solver))
    if solver not in ("", "neumann"):
        raise ArgumentError(
            f"solver must be 'neumann' or be left out, got {solver!r}; leave it out"
        )
    terms = getattr(function, "terms", TERMS if solver else None)
    tolerance = getattr(function, "tolerance", base.tolerance)
    require_real("tolerance", tolerance, "declare the relative error of the method", positive=False)
    require(
        float(tolerance) < 1, "tolerance", "be below 1", tolerance, "zero itself has an error of 1"
    )
    return Declared(
        capabilities,
        estimands,
        float(tolerance),
        dtype,
        bool(getattr(function, "stochastic", base.stochastic)),
        None if terms is None else int(terms),
        solver,
    )


def _names(given: object) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,)
    if isinstance(given, set | frozenset | list | tuple):
        return tuple(sorted(str(name) for name in given))
    raise ArgumentError(f"capabilities and estimands must be sets of names, got {given!r}")
