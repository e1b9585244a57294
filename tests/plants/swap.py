"""Put an error into code that is already imported, by replacing what its functions execute.

Classes, functions and whatever refers to them stay the same objects, so that no module has to be imported
anew: only the code objects of the functions that the changed text lies in are others. A change outside of
functions has nothing to be put into, and is refused.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType

from tests.plants.plant import ROOT, Plant


@contextmanager
def in_place(plant: Plant) -> Iterator[None]:
    """The error is there inside the block, and gone after it.

    The module must be imported.

    Raises:
        ValueError: if the change is none of a function's code, or the old text is not there once.
    """
    changed = changed_code(plant)
    live = _live(plant, changed)
    before = [(function, function.__code__) for function, _ in live]
    for function, code in live:
        function.__code__ = code
    try:
        yield
    finally:
        for function, code in before:
            function.__code__ = code


def changed_code(plant: Plant) -> dict[str, CodeType]:
    """The new code of each function that the change lies in, by its qualified name.

    Raises:
        ValueError: if the change is none of a function's code, or the old text is not there once.
    """
    path = str(ROOT / plant.file)
    old = compile(plant.source, path, "exec", dont_inherit=True)
    new = compile(plant.planted(), path, "exec", dont_inherit=True)
    before, after = _functions(old), _functions(new)
    if before.keys() != after.keys() or _around(old) != _around(new):
        raise ValueError(
            f"new must change the body of a function alone, got other definitions in the plant "
            f"{plant.name!r}; plant the error where it is executed"
        )
    changed = {name: after[name] for name in after if _told(before[name]) != _told(after[name])}
    if not changed:
        raise ValueError(f"new must differ from old in what is executed, got {plant.name!r}")
    return changed


def _functions(code: CodeType) -> dict[str, CodeType]:
    """The functions of a module and its classes, without those inside of functions."""
    found: dict[str, CodeType] = {}
    for each in code.co_consts:
        if isinstance(each, CodeType):
            found |= _functions(each) if _is_class(each) else {each.co_qualname: each}
    return found


def _is_class(code: CodeType) -> bool:
    """Of a class's body, which stores the name of its module."""
    return "__module__" in code.co_names and not code.co_flags & 1  # 1: optimised, as functions are


def _told(code: CodeType) -> tuple[object, ...]:
    """All that is executed, without where it stands."""
    constants = (
        _told(each) if isinstance(each, CodeType) else (type(each), each) for each in code.co_consts
    )
    return (code.co_code, *constants, *_names(code))


def _around(code: CodeType) -> tuple[object, ...]:
    """What a module executes outside of functions: the same, with the functions' names in their place."""
    constants = (
        (_around(each) if _is_class(each) else each.co_qualname)
        if isinstance(each, CodeType)
        else (type(each), each)
        for each in code.co_consts
    )
    return (code.co_code, *constants, *_names(code))


def _names(code: CodeType) -> tuple[object, ...]:
    return (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags)


def _objects() -> list[object]:
    """All objects, also those that tests/conftest.py leaves out of collections."""
    frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    found = gc.get_objects()
    if frozen:
        gc.freeze()
    return found


def _live(plant: Plant, changed: dict[str, CodeType]) -> list[tuple[FunctionType, CodeType]]:
    """The imported functions to be changed, each with its new code."""
    module = plant.file.removesuffix(".py").replace("/", ".")
    if module not in sys.modules:
        raise ValueError(f"{module} must be imported before an error is put into it; import it")
    path = sys.modules[module].__file__
    found = [
        (function, changed[function.__code__.co_qualname])
        for function in _objects()
        if type(function) is FunctionType
        and function.__code__.co_filename == path
        and function.__code__.co_qualname in changed
    ]
    missing = changed.keys() - {function.__code__.co_qualname for function, _ in found}
    if missing:
        raise ValueError(
            f"{plant.file} must be imported as it stands, got no function {', '.join(sorted(missing))}"
        )
    return found
