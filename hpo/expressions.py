"""Arithmetic in text: how a space says that one value follows from others."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from morl.hpo.types import SpaceError

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "round": round,
    "int": int,
    "abs": abs,
    "sqrt": math.sqrt,
    "log2": math.log2,
}


class Expression:
    """A formula over other settings, such as ``num_envs * rollout_steps // 4``.

    It may use + - * / // % **, brackets, numbers, names of settings, and min, max, round, int,
    abs, sqrt and log2. Nothing else is executed.

    Args:
        text: the formula.

    Raises:
        SpaceError: if it is anything else; shows the text.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._tree = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError) as error:
            raise SpaceError(f"cannot read the formula {text!r}: {error}") from error
        self.names = frozenset(_names(self._tree, text))

    def __call__(self, value_of: Callable[[str], Any]) -> Any:  # noqa: ANN401 - a number
        """Compute it.

        Args:
            value_of: gives the value of each name.

        Raises:
            SpaceError: if it cannot be computed; shows the text.
        """
        try:
            return _value(self._tree, value_of)
        except (ArithmeticError, TypeError, ValueError) as error:
            raise SpaceError(f"the formula {self.text!r} cannot be computed: {error}") from error

    def __eq__(self, other: object) -> bool:
        """Whether the text is the same."""
        return isinstance(other, Expression) and other.text == self.text

    def __hash__(self) -> int:
        """Of the text."""
        return hash(self.text)

    def __reduce__(self) -> tuple[type[Expression], tuple[str]]:
        """Another process gets the text."""
        return Expression, (self.text,)


def _names(node: ast.expr, text: str) -> set[str]:
    """Names of settings in a formula; refuses what is no formula."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return set()
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _names(node.left, text) | _names(node.right, text)
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _names(node.operand, text)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in _FUNCTIONS
        and not node.keywords
    ):
        return {name for part in node.args for name in _names(part, text)}
    raise SpaceError(
        f"the formula {text!r} may hold numbers, settings, + - * / // % ** and "
        f"{', '.join(sorted(_FUNCTIONS))} only"
    )


def _value(node: ast.expr, value_of: Callable[[str], Any]) -> Any:  # noqa: ANN401 - a number
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return value_of(node.id)
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, value_of), _value(node.right, value_of)
        return _BINARY[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp):
        return _UNARY[type(node.op)](_value(node.operand, value_of))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        arguments = [_value(part, value_of) for part in node.args]
        return _FUNCTIONS[node.func.id](*arguments)
    raise AssertionError(f"checked when it was read: {ast.dump(node)}")  # pragma: no cover
