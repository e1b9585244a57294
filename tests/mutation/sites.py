"""Where a source file can be changed by one small error, and how: the kinds of mutant.

A site is an expression of a function's body and what would stand in its place. Text of errors, annotations,
docstrings and types are no sites: what they say is not a number.
"""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import final


@final
class Kind(Enum):
    """What is done to an expression."""

    ARITHMETIC = "another operation"
    SIGN = "sign"
    COMPARISON = "comparison"
    BOUNDARY = "boundary"
    CONSTANT = "constant"
    GUARD = "guard"
    DROPPED = "dropped term"
    SWAPPED = "swapped arguments"
    DETACH = "detach"


@final
@dataclass(frozen=True)
class Site:
    """One mutant of one file.

    Attributes:
        path: the file, relative to the repository.
        line: number of the first changed line, from 1.
        kind: what is done.
        start: offset of the first changed byte.
        end: offset after the last changed byte.
        old: the source that is replaced.
        new: what replaces it.
    """

    path: str
    line: int
    kind: Kind
    start: int
    end: int
    old: str
    new: str

    def applied(self, source: str) -> str:
        """The file with the error in it."""
        data = source.encode()
        return (data[: self.start] + self.new.encode() + data[self.end :]).decode()

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.kind.value}: {self.old} → {self.new}"


_OPERATIONS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
}
_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_AT_THE_BOUNDARY: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}


def sites(path: str, source: str) -> list[Site]:
    """All mutants of a file, in the order of its text."""
    tree = ast.parse(source)
    starts = _line_starts(source)

    def offset(line: int, column: int) -> int:
        return starts[line - 1] + column

    found = []
    for node in _expressions(tree):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        first = offset(node.lineno, node.col_offset)
        last = offset(node.end_lineno, node.end_col_offset)
        old = source.encode()[first:last].decode()
        for kind, changed in _changes(node):
            new = f"({ast.unparse(changed)})"
            found.append(Site(path, node.lineno, kind, first, last, old, new))
    return sorted(set(found), key=lambda site: (site.start, site.end, site.kind.value, site.new))


def _line_starts(source: str) -> list[int]:
    starts, at = [], 0
    for line in source.split("\n"):
        starts.append(at)
        at += len(line.encode()) + 1
    return starts


def _expressions(tree: ast.Module) -> Iterator[ast.expr]:
    """Expressions of the bodies of functions, outermost first."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and not _is_words(node):
            for statement in node.body:
                yield from _within(statement)


def _is_words(function: ast.FunctionDef) -> bool:
    return function.name in {"__repr__", "__str__"}


def _within(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.FunctionDef | ast.Raise | ast.Assert | ast.JoinedStr | ast.ClassDef):
        return
    if isinstance(node, ast.If):
        yield _Guard.of(node)
    if isinstance(node, ast.expr):
        yield node
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "type_comment", "slice"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _within(child)


class _Guard(ast.expr):
    """The condition of an if-statement, as a place where False may stand."""

    condition: ast.expr

    @staticmethod
    def of(node: ast.If) -> "_Guard":
        guard = _Guard()
        guard.condition = node.test
        return ast.copy_location(guard, node.test)


def _changes(node: ast.expr) -> Iterator[tuple[Kind, ast.expr]]:
    """What may stand in the place of an expression."""
    if isinstance(node, _Guard):
        yield Kind.GUARD, ast.Constant(value=False)
    elif isinstance(node, ast.BinOp):
        yield from _of_operation(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield Kind.SIGN, node.operand
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        operator = type(node.ops[0])
        if operator in _AT_THE_BOUNDARY:
            yield Kind.BOUNDARY, _with(node, ops=[_AT_THE_BOUNDARY[operator]()])
        yield Kind.COMPARISON, _with(node, ops=[_OPPOSITE[operator]()])
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield Kind.COMPARISON, _with(node, op=other)
        yield (
            Kind.DROPPED,
            _with(node, values=node.values[:-1]) if len(node.values) > 2 else node.values[0],
        )
    elif isinstance(node, ast.Constant):
        value = node.value
        if type(value) is float:
            yield Kind.CONSTANT, ast.Constant(value=value * 1.01 if value else 0.01)
        elif type(value) is int:
            yield Kind.CONSTANT, ast.Constant(value=value + 1)
    elif isinstance(node, ast.Call):
        yield from _of_call(node)


def _of_operation(node: ast.BinOp) -> Iterator[tuple[Kind, ast.expr]]:
    operator = type(node.op)
    text = (ast.JoinedStr, ast.Constant)
    if any(isinstance(side, text) and _is_text(side) for side in (node.left, node.right)):
        return
    if operator in _OPERATIONS:
        yield Kind.ARITHMETIC, _with(node, op=_OPERATIONS[operator]())
    if operator in (ast.Add, ast.Sub, ast.Mult):
        yield Kind.DROPPED, node.left
    if operator is ast.Add:
        yield Kind.DROPPED, node.right


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _of_call(node: ast.Call) -> Iterator[tuple[Kind, ast.expr]]:
    function = node.func
    if isinstance(function, ast.Attribute) and function.attr == "detach" and not node.args:
        yield Kind.DETACH, function.value
    plain = not any(isinstance(argument, ast.Starred) for argument in node.args[:2])
    if len(node.args) >= 2 and plain and ast.dump(node.args[0]) != ast.dump(node.args[1]):
        first, second, *rest = node.args
        yield Kind.SWAPPED, _with(node, args=[second, first, *rest])


def _with(node: ast.expr, **fields: object) -> ast.expr:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed
