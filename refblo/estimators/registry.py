"""Every estimator of this package, found in its files: nothing is to be listed by hand."""

from dataclasses import is_dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeAlias

import refblo.estimators

EstimatorClass: TypeAlias = type[Any]
"""A class of estimators. `type[Estimator]` cannot be checked at run time: the protocol has properties."""


@cache
def estimator_classes() -> tuple[EstimatorClass, ...]:
    """The estimator classes of every file of `refblo/estimators`, in the order of the files.

    An estimator is a dataclass with a method `estimate`, in a file whose name has no leading underscore.
    """
    found: list[EstimatorClass] = []
    for info in iter_modules(refblo.estimators.__path__):
        if info.name.startswith("_"):
            continue
        module = import_module(f"refblo.estimators.{info.name}")
        found += [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and value.__module__ == module.__name__
            and is_dataclass(value)
            and hasattr(value, "estimate")
        ]
    return tuple(found)
