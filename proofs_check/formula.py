"""A formula of a statement: one source for what the reader sees and what the check computes.

The source is a Python expression in the papers' letters, such as ``-s/h * (1 - γ*h)**m``. It is
rendered into the sentence, it is evaluated by the checks with whatever the names stand for (symbols,
matrices of fractions, numbers), and errors are planted in its tree.

``a @ b`` is an ordered product, ``x[k]`` an index, ``Σ(k, first, last, term)`` a sum.
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, final

import numpy as np
import sympy as sp

from proofs_check.errors import StatementError
from proofs_check.sums import symbolic_sum

Env = Mapping[str, Any]
Numbers = Callable[[int], Any]

_POINTS = {"A", "B", "f_θ", "f_θθ", "f_λ"}
_UPPER = {"θ", "z"}
_SHOWN = {"S0": "dθ⁰/dλ", "INF": "∞", "l": "ℓ"}


@final
@dataclass(frozen=True)
class ClaimFormula:
    """A formula that stands in a hole of a sentence.

    Attributes:
        name: the placeholder.
        source: the expression.
        operators: the names that do not commute, separated by blanks.
        even: the names with a symmetric law, whose sign says nothing.
    """

    name: str
    source: str
    operators: str = ""
    even: str = ""

    def shown(self) -> str:
        """The formula as a reader sees it."""
        return _show(tree_of(self.source), 0)

    def names(self) -> frozenset[str]:
        """The names that occur in it."""
        return frozenset(n.id for n in ast.walk(tree_of(self.source)) if isinstance(n, ast.Name))

    def value(self, env: Env, numbers: Numbers = sp.Integer) -> Any:
        """The formula with its names replaced.

        Args:
            env: what each name stands for; an indexed name stands for something with ``[]``.
            numbers: makes a literal number of an int: `sympy.Integer`, `Fraction` or `float`.

        Returns:
            What the arithmetic of the values gives.

        Raises:
            StatementError: a name has no value.
        """
        return _value(tree_of(self.source), {**FUNCTIONS, **env}, numbers)


@cache
def tree_of(source: str) -> ast.expr:
    """The tree of a formula's source."""
    try:
        return ast.parse(source.strip(), mode="eval").body
    except SyntaxError as error:
        raise StatementError(f"formula must be an expression, got {source!r}; {error}") from error


# ---------------------------------------------------------------- values


class _Sigma:
    """The sum; it binds its first argument, so that it is evaluated specially."""


FUNCTIONS: dict[str, Any] = {
    "exp": sp.exp,
    "sqrt": sp.sqrt,
    "log": sp.log,
    "sin": sp.sin,
    "cos": sp.cos,
    "sinh": sp.sinh,
    "cosh": sp.cosh,
    "INF": sp.oo,
    "Σ": _Sigma(),
}


def _product(left: Any, right: Any) -> Any:
    arrays = isinstance(left, np.ndarray) and isinstance(right, np.ndarray)
    return left @ right if arrays else left * right


_OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.MatMult: _product,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}


def _value(node: ast.expr, env: dict[str, Any], numbers: Numbers) -> Any:
    match node:
        case ast.Constant(value=int(value)):
            return numbers(value)
        case ast.Name(id=name) if name in env:
            return env[name]
        case ast.BinOp(left=left, op=op, right=right):
            sides = (_value(left, env, numbers), _value(right, env, numbers))
            return _OPERATIONS[type(op)](*sides)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, env, numbers)
        case ast.Subscript() | ast.Call():
            return _applied(node, env, numbers)
        case _:
            known = ", ".join(sorted(set(env) - set(FUNCTIONS))) or "none"
            raise StatementError(
                f"formula must be made of numbers, + - * / ** and the names {known}; got "
                f"{ast.unparse(node)!r}"
            )


def _applied(node: ast.Subscript | ast.Call, env: dict[str, Any], numbers: Numbers) -> Any:
    if isinstance(node, ast.Subscript):
        at = _value(node.slice, env, sp.Integer)
        if _number(at) and at != int(at):
            raise TypeError(f"an index must be a whole number, got {at}")
        return _value(node.value, env, numbers)[int(at) if _number(at) else at]
    if is_sum(node):
        return _sum(node.args, env, numbers)
    function = _value(node.func, env, numbers)
    return function(*(_value(argument, env, numbers) for argument in node.args))


def _sum(args: list[ast.expr], env: dict[str, Any], numbers: Numbers) -> Any:
    bound = ast.unparse(args[0])
    first, last = (_value(end, env, sp.Integer) for end in args[1:3])

    def term(at: Any) -> Any:
        return _value(args[3], {**env, bound: at}, numbers)

    if not (_number(first) and _number(last)):
        return symbolic_sum(bound, first, last, term)
    terms = [term(numbers(k)) for k in range(int(first), int(last) + 1)]
    return sum(terms[1:], terms[0]) if terms else numbers(0)


def _number(value: Any) -> bool:
    return isinstance(value, int | float | Fraction | sp.Number)


# ---------------------------------------------------------------- text

_RANK: dict[type[ast.operator], int] = {
    ast.Add: 1, ast.Sub: 1, ast.Mult: 2, ast.MatMult: 2, ast.Div: 2, ast.Pow: 4,
}  # fmt: skip
_SIGNS: dict[type[ast.operator], str] = {
    ast.Add: " + ", ast.Sub: " - ", ast.Mult: "·", ast.MatMult: "·", ast.Div: "/", ast.Pow: "^",
}  # fmt: skip


def _show(node: ast.expr, rank: int) -> str:
    """The text of a node inside something that binds as strongly as `rank`."""
    match node:
        case ast.Constant(value=value):
            return str(value)
        case ast.Name(id=name):
            return _SHOWN.get(name, name.replace("star", "*").replace("bar", "\u0304"))
        case ast.BinOp():
            return _show_operation(node, rank)
        case ast.UnaryOp(operand=operand):
            text = f"-{_show(operand, 2)}"
            return f"({text})" if rank > 2 else text
        case ast.Subscript(value=value, slice=index):
            return _indexed(ast.unparse(value), _compact(index))
        case ast.Call():
            return _show_call(node)
        case _:
            raise StatementError(
                f"formula must be made of names, numbers and + - * / **, got {node}"
            )


def _show_operation(node: ast.BinOp, rank: int) -> str:
    if isinstance(node.op, ast.Pow):
        exponent = _compact(node.right)
        plain = isinstance(node.right, ast.Name) or exponent.isdigit()
        return f"{_show(node.left, 5)}^{exponent if plain else f'({exponent})'}"
    own = _RANK[type(node.op)]
    after = own if isinstance(node.op, ast.Add) else own + 1
    text = f"{_show(node.left, own)}{_SIGNS[type(node.op)]}{_show(node.right, after)}"
    return f"({text})" if own < rank else text


def _show_call(node: ast.Call) -> str:
    name = ast.unparse(node.func)
    if is_sum(node):
        bound, first, last, term = node.args
        ends = f"{_show(bound, 0)}={_compact(first)}..{_compact(last)}"
        return f"Σ_({ends}) {_show(term, 2)}"
    if name == "sqrt":
        return f"√{_show(node.args[0], 5)}"
    return f"{_show(node.func, 0)}({', '.join(_show(a, 0) for a in node.args)})"


def _compact(node: ast.expr) -> str:
    return _show(node, 0).replace(" ", "")


def _indexed(name: str, index: str) -> str:
    if name == "S":
        return f"dθ^({index})/dλ"
    if name in _POINTS:
        return f"{name}(θ^({index}))"
    if name in _UPPER:
        return f"{name}^({index})"
    return f"{_show(ast.Name(id=name), 0)}_{index}" if index.isalnum() else f"{name}_({index})"


def is_sum(node: ast.Call) -> bool:
    """Whether a call is the sum Σ."""
    return isinstance(node.func, ast.Name) and node.func.id == "Σ"
