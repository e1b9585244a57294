"""Errors planted in a formula: a number, a sign, an index, an exponent, a product, another name."""

import ast
import copy
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, final

import sympy as sp

from proofs_check.formula import FUNCTIONS, ClaimFormula, is_sum, tree_of


@final
@dataclass(frozen=True)
class FormulaError:
    """One planted error.

    Attributes:
        kind: coefficient, sign, index, exponent, structure or name.
        change: what was done, for a report.
        formula: the formula that carries it.
    """

    kind: str
    change: str
    formula: ClaimFormula


def _paths(node: ast.AST, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], ast.expr]]:
    """Every expression of a tree, with the way to it and the context that decides its kind."""
    if isinstance(node, ast.expr):
        yield path, node
    for field, value in ast.iter_fields(node):
        if isinstance(value, list):
            for k, item in enumerate(value):
                yield from _paths(item, (*path, (field, k)))
        elif isinstance(value, ast.expr):
            yield from _paths(value, (*path, (field, None)))


def _replaced(tree: ast.expr, path: tuple[Any, ...], new: ast.expr) -> ast.expr:
    if not path:
        return new
    changed = copy.deepcopy(tree)
    at: Any = changed
    for field, k in path[:-1]:
        at = getattr(at, field) if k is None else getattr(at, field)[k]
    field, k = path[-1]
    if k is None:
        setattr(at, field, new)
    else:
        getattr(at, field)[k] = new
    return changed


def _place(tree: ast.expr, path: tuple[Any, ...]) -> str:
    """Whether a node is part of an exponent, of an index, or of neither."""
    at: Any = tree
    place = "coefficient"
    for field, k in path:
        if isinstance(at, ast.BinOp) and isinstance(at.op, ast.Pow) and field == "right":
            place = "exponent"
        if isinstance(at, ast.Subscript) and field == "slice":
            place = "index"
        if isinstance(at, ast.Call) and field == "args" and is_sum(at) and k in (1, 2):
            place = "index"
        at = getattr(at, field) if k is None else getattr(at, field)[k]
    return place


def _plus(node: ast.expr, by: int) -> ast.expr:
    op: ast.operator = ast.Add() if by > 0 else ast.Sub()
    return ast.BinOp(left=node, op=op, right=ast.Constant(value=abs(by)))


Change = tuple[str, ast.expr]


def _changes(node: ast.expr, place: str, names: list[str]) -> Iterator[Change]:
    if place == "index" and not isinstance(node, ast.Constant):
        # An index is moved as a whole: see the case of its ast.Subscript or of its sum.
        return
    match node:
        case ast.Constant(value=int(value)):
            steps = (value + 1, value - 1) if place != "coefficient" else (2 * value, value + 1)
            for new in steps:
                yield place, ast.Constant(value=new)
        case ast.BinOp():
            yield from _of_operation(node)
        case ast.UnaryOp(operand=operand):
            yield "sign", operand
        case ast.Subscript(value=value, slice=index):
            for by in (1, -1):
                yield "index", ast.Subscript(value=value, slice=_plus(index, by))
        case ast.Call() if is_sum(node):
            yield from _of_sum(node)
        case ast.Name(id=name) if name in names and len(names) > 1:
            other = names[(names.index(name) + 1) % len(names)]
            yield "name", ast.Name(id=other)


def _of_operation(node: ast.BinOp) -> Iterator[Change]:
    left, op, right = node.left, node.op, node.right
    if isinstance(op, ast.Add | ast.Sub):
        other: ast.operator = ast.Sub() if isinstance(op, ast.Add) else ast.Add()
        yield "sign", ast.BinOp(left=left, op=other, right=right)
    if isinstance(op, ast.Mult | ast.MatMult):
        yield "structure", ast.BinOp(left=right, op=op, right=left)
    if isinstance(op, ast.Div):
        yield "structure", ast.BinOp(left=left, op=ast.Mult(), right=right)
    if isinstance(op, ast.Pow):
        yield "exponent", ast.BinOp(left=left, op=op, right=_plus(right, 1))
        negative = ast.UnaryOp(op=ast.USub(), operand=right)
        yield "exponent", ast.BinOp(left=left, op=op, right=negative)
    yield "structure", left
    if not isinstance(op, ast.Pow | ast.Div):
        yield "structure", right


def _of_sum(node: ast.Call) -> Iterator[Change]:
    bound, first, last, term = node.args
    for by in (1, -1):
        for ends in ([_plus(first, by), last], [first, _plus(last, by)]):
            yield "index", ast.Call(func=node.func, args=[bound, *ends, term], keywords=[])


@cache
def errors(formula: ClaimFormula) -> tuple[FormulaError, ...]:
    """Every planted error of a formula that changes its value, see `_errors`."""
    return tuple(_errors(formula))


def _errors(formula: ClaimFormula) -> Iterator[FormulaError]:
    """Every planted error of a formula that changes its value.

    Args:
        formula: the correct one.

    Yields:
        One formula for each change: a number, a sign, an index, an exponent, the order of a product, a
        factor or a summand left out, another name. What is equal to the original for all values of the
        names is no error, and is left out.
    """
    tree = tree_of(formula.source)
    bound = {
        arg.id for n in ast.walk(tree) if isinstance(n, ast.Call) and is_sum(n)
        for arg in n.args[:1] if isinstance(arg, ast.Name)
    }  # fmt: skip
    indexed = {
        n.value.id for n in ast.walk(tree)
        if isinstance(n, ast.Subscript) and isinstance(n.value, ast.Name)
    }  # fmt: skip
    called = {
        n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }  # fmt: skip
    plain = sorted(formula.names() - bound - indexed - called - set(FUNCTIONS))
    seen = {_key(_generic(formula))}
    for path, node in _paths(tree):
        inside_binding = path and path[-1] == ("args", 0) and node.__class__ is ast.Name
        if inside_binding and isinstance(node, ast.Name) and node.id in bound:
            continue
        place = _place(tree, path)
        for kind, new in _changes(node, place, plain):
            changed = ClaimFormula(
                formula.name,
                ast.unparse(ast.fix_missing_locations(_replaced(tree, path, new))),
                formula.operators,
                formula.even,
            )
            keys = {_key(_generic(changed)), *(_key(v) for v in _turned(changed))}
            if keys & seen:
                continue
            seen |= keys
            in_power = place == "exponent" and kind in ("sign", "structure", "name")
            yield FormulaError(
                "exponent" if in_power else kind, f"{formula.shown()} -> {changed.shown()}", changed
            )


def changes_the_value(formula: ClaimFormula, changed: ClaimFormula) -> bool:
    """Whether a changed formula differs from the original for some values of its names."""
    keys = {_key(_generic(changed)), *(_key(v) for v in _turned(changed))}
    return _key(_generic(formula)) not in keys


class _Anything:
    """Something indexed, for the comparison of two formulas: one value for each index."""

    def __init__(self, name: str, value: Callable[[str], Any]) -> None:
        self._name, self._value = name, value

    def __getitem__(self, at: Any) -> Any:
        return self._value(f"{self._name}_{at}")


def _indexed_symbol(ordered: bool) -> Callable[[str], sp.Symbol]:
    return lambda name: sp.Symbol(name, commutative=not ordered)


def _drawn(name: str) -> float:
    """A number between 1/2 and 3/2 for a name, the same one every time."""
    return 0.5 + zlib.crc32(name.encode()) / 2**32


def _turned(formula: ClaimFormula) -> Iterator[list[Any]]:
    """The formula with the sign of one name of a symmetric law turned."""
    for name in formula.even.split():
        yield _generic(formula, name)


def _generic(formula: ClaimFormula, turned: str = "") -> list[Any]:
    """The formula at a generic point, with two sizes for whatever is summed.

    With ordered products or unspecified functions the point is symbols. Otherwise it is drawn numbers:
    two different formulas agree there to ten digits with a chance of about 1e-10, which would lose an
    error, never excuse one.
    """
    tree = tree_of(formula.source)
    apart = set(formula.operators.split())
    indexed = {
        n.value.id for n in ast.walk(tree)
        if isinstance(n, ast.Subscript) and isinstance(n.value, ast.Name)
    }  # fmt: skip
    summed = any(isinstance(n, ast.Call) and is_sum(n) for n in ast.walk(tree))
    calls = {
        n.func.id for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id not in FUNCTIONS
    }  # fmt: skip
    # An index that no sum runs through is no number that could be drawn.
    numeric = not apart and not calls and (summed or not indexed)

    def symbol(name: str) -> sp.Symbol:
        commutes = name not in apart
        return sp.Symbol(name, commutative=commutes, positive=commutes or None)

    values: list[Any] = []
    for size in (4, 5) if summed else (0,):
        env: dict[str, Any] = {}
        for name in formula.names() - set(FUNCTIONS):
            if name in indexed:
                env[name] = _Anything(name, _drawn if numeric else _indexed_symbol(name in apart))
            elif summed and name in {"m", "T", "K", "n", "M", "B"} and name not in apart:
                env[name] = sp.Integer(size)
            else:
                env[name] = _drawn(name) if numeric else symbol(name)
        env |= {name: sp.Function(name) for name in calls}
        if turned and turned in env:
            env[turned] = -env[turned]
        try:
            values.append(formula.value(env, float) if numeric else formula.value(env))
        except (TypeError, ZeroDivisionError, OverflowError):
            values.append(sp.nan)
    return values


def _key(values: list[Any]) -> str:
    """The same text for two formulas that are equal for all values of their names."""
    return " | ".join(_text(value) for value in values)


def _text(value: Any) -> str:
    if value is sp.nan:
        return "undefined"
    if isinstance(value, int | float | complex | sp.Float | sp.Integer):
        number = complex(value)
        return f"{number.real + 0.0:.9e} {round(number.imag, 9) + 0.0:.9e}"
    return str(sp.srepr(sp.expand(value)))
