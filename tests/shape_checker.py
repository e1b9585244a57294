"""The run-time checker of annotations that the tests put around refblo's functions while it is imported.

Arguments and results are checked by beartype, shapes by jaxtyping: the letters of an annotation stand for one
size each during a call. jaxtyping's own import hook would do that too, but it checks all arguments twice, and
makes a checker anew for every function inside a function whenever that is defined: half of the processor time
of the suite.
"""

import ast
import functools
import inspect
import marshal
import sys
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import cache_from_source
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeVar, get_args, get_origin

import beartype
from beartype.roar import BeartypeDecorHintPep673Exception
from jaxtyping import AbstractArray, jaxtyped

Checked = TypeVar("Checked", bound=Callable[..., Any])

# The numeric tower lets an `int` stand where a `float` is annotated, as it may for mypy.
_CONFIGURATION = beartype.BeartypeConf(is_pep484_tower=True)


def check(given: Checked) -> Checked:
    """Check the arguments and the result of a function against its annotations; of a dataclass, its fields.

    A method annotated with `Self`, which has no meaning yet while the methods of its class are decorated one
    by one, goes unchecked; mypy checks those.
    """
    if not isinstance(given, type):
        found: Checked = _checked(given)
        return found
    if is_dataclass(given) and "__init__" in vars(given):
        made = vars(given)["__init__"]
        setattr(given, made.__name__, _checked(made))
    return given


def _checked(function: Any) -> Any:
    annotations = getattr(function, "__annotations__", None)
    if not annotations:
        return function
    if inspect.isgeneratorfunction(function):
        return _checked_when_called(function)
    function.__annotations__ = {
        name: _resolved(function, each) for name, each in annotations.items()
    }
    try:
        found = beartype.beartype(conf=_CONFIGURATION)(function)
    except BeartypeDecorHintPep673Exception:
        return function
    finally:
        function.__annotations__ = annotations
    found.__annotations__ = annotations
    if any(map(_has_shapes, function.__annotations__.values())):
        return jaxtyped(found, typechecker=None)
    return found


def _checked_when_called(generator: Any) -> Any:
    """A generator function whose arguments are checked at the call, and what it yields nowhere.

    A checker of beartype's would look at them at the first `next`, when the letters of another function's
    annotations stand for sizes.
    """

    @functools.wraps(generator)
    def call(*args: Any, **kwargs: Any) -> Any:
        return generator(*args, **kwargs)

    call.__annotations__ = {
        name: each for name, each in generator.__annotations__.items() if name != "return"
    }
    return _checked(call)


def _resolved(function: Any, annotation: Any) -> Any:
    """An annotation that is text, as what it names; Any where that is not there, or not yet.

    Such are the class that is being made, and what is imported for the type checker alone.
    """
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, inspect.unwrap(function).__globals__)
    except NameError:
        return Any


def _has_shapes(annotation: Any) -> bool:
    """Whether sizes are compared: then the call needs names of sizes of its own."""
    if isinstance(annotation, str):
        return True
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        return True
    # What is in the brackets of Callable is not checked.
    return get_origin(annotation) is not Callable and any(map(_has_shapes, get_args(annotation)))


_NAME = "__check_annotations__"


class _Decorating(ast.NodeTransformer):
    """Put the checker around the functions and classes of a module.

    A function that is defined inside another one goes unchecked: it would be decorated again at every call
    of the outer one, which costs more than a step of a small chain. What it is given reaches it through
    functions that are checked.
    """

    def visit_Module(self, node: ast.Module) -> ast.Module:
        """Import the checker below the docstring."""
        self.generic_visit(node)
        after = 1 if ast.get_docstring(node) is not None else 0
        imported = ast.ImportFrom(__name__, [ast.alias("check", _NAME)], 0)
        node.body.insert(after, imported)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """Below all decorators: those may remove annotations."""
        node.decorator_list.append(ast.copy_location(ast.Name(_NAME, ast.Load()), node))
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        """Above all decorators: `dataclass` makes the function that is checked."""
        self.generic_visit(node)
        node.decorator_list.insert(0, ast.copy_location(ast.Name(_NAME, ast.Load()), node))
        return node


class _Loader(SourceFileLoader):
    """Loads a module with checkers, compiled once for each state of its file."""

    def get_code(self, fullname: str) -> CodeType:
        """The code with checkers, from the cache of compiled files where it is there."""
        path = Path(self.get_filename(fullname))
        kept = Path(cache_from_source(path, optimization="checked1"))
        state = path.stat()
        stamp = (state.st_mtime_ns, state.st_size)
        try:
            before, code = marshal.loads(kept.read_bytes())
        except (OSError, ValueError, EOFError, TypeError):
            before = None
        if before == stamp:
            return code  # type: ignore[no-any-return]  # what is written below
        tree = ast.parse(path.read_bytes(), str(path))
        tree = ast.fix_missing_locations(_Decorating().visit(tree))
        code = compile(tree, str(path), "exec", dont_inherit=True)
        if not sys.dont_write_bytecode:
            self.set_data(str(kept), marshal.dumps((stamp, code)))
        return code


class _Finder(MetaPathFinder):
    """Finds the modules of a package as the other finders do, and loads them with checkers."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's place; None for other packages."""
        if fullname.partition(".")[0] != self.package:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((one for one in found if one is not None), None)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


@functools.cache
def install(package: str) -> None:
    """Check the functions of a package from now on, in modules that are not imported yet."""
    sys.meta_path.insert(0, _Finder(package))
