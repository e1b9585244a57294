"""Planting bugs: a module's source with one change, put in the place of the module.

A mutant is a change to the source, not to an object, so that it looks like what a person would get wrong.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import final
from unittest import mock

USERS = (
    "refblo.chain",
    "refblo.estimators._implicit",
    "refblo.estimators.fmd",
    "refblo.estimators.hpo_sgld",
    "refblo.estimators.ift",
    "refblo.estimators.rmd",
)
"""The modules that a mutated function has to reach."""


@final
@dataclass(frozen=True)
class Mutant:
    """One change of one module.

    Attributes:
        name: what is wrong, in words.
        module: its full name.
        old: a piece of the source that occurs once.
        new: what stands there instead.
    """

    name: str
    module: str
    old: str
    new: str

    def source(self) -> str:
        """The module's source with the bug.

        Raises:
            LookupError: if the source has changed so that the mutant no longer applies.
        """
        path = importlib.import_module(self.module).__file__
        text = Path(path or "").read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise LookupError(
                f"{self.name}: {self.old!r} must occur once in {self.module}, got "
                f"{text.count(self.old)} times; adapt the mutant to the source"
            )
        return text.replace(self.old, self.new)


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Inside the block every user of the module sees the mutant's functions and methods.

    Classes stay the objects they are, so that instances made outside remain instances; only their
    methods are exchanged.
    """
    original = importlib.import_module(mutant.module)
    module = ModuleType(f"{mutant.module}_mutant")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(mutant.source(), f"<{mutant.name}>", "exec"), module.__dict__)
    functions: dict[int, object] = {}
    with ExitStack() as patches:
        for name, value in list(vars(original).items()):
            if getattr(value, "__module__", None) != mutant.module or name not in vars(module):
                continue
            if not isinstance(value, type):
                functions[id(value)] = vars(module)[name]
                continue
            for method, changed in _methods(vars(module)[name]):
                patches.enter_context(mock.patch.object(value, method, changed))
            vars(module)[name] = value
        for name in USERS:
            user = importlib.import_module(name)
            changes = {
                key: functions[id(value)]
                for key, value in vars(user).items()
                if id(value) in functions
            }
            patches.enter_context(mock.patch.dict(vars(user), changes))
        try:
            yield
        finally:
            del sys.modules[module.__name__]


def _methods(cls: type) -> list[tuple[str, object]]:
    """What a class's body defines to be called, without what dataclass generates."""
    return [
        (name, value)
        for name, value in vars(cls).items()
        if isinstance(value, FunctionType | property | staticmethod)
        and (not name.startswith("__") or name in ("__call__", "__post_init__"))
    ]
