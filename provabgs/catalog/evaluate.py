"""What a query says of rows: one evaluation for `select` on the summary and for `probability` on draws.

The rules are SQL's three-valued ones, for null and NaN alike: arithmetic on an unknown number is unknown, a comparison
with one is neither true nor false, ``not`` of that is neither as well, and a row is chosen where the query is true.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from provabgs.catalog.expression import FUNCTIONS, cut, did_you_mean, refused, shown
from provabgs.core.errors import InputError
from provabgs.core.status import Status

_INT64 = np.iinfo(np.int64)
_Pair = tuple[Callable[..., Any], Callable[..., Any]]


def _differ(a: Any, b: Any) -> Any:
    """Whether two numbers differ; false where either is NaN."""
    return np.less(a, b) | np.greater(a, b)


_COMPARE: dict[type, _Pair] = {
    ast.Lt: (np.less, np.greater_equal), ast.LtE: (np.less_equal, np.greater),
    ast.Gt: (np.greater, np.less_equal), ast.GtE: (np.greater_equal, np.less),
    ast.Eq: (np.equal, _differ), ast.NotEq: (_differ, np.equal),
}  # fmt: skip
"""Where a comparison is true, and where it is false: neither where a number is NaN."""
_BINARY: dict[type, Callable[..., Any]] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.Pow: np.power,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "log10": np.log10, "log": np.log, "exp": np.exp, "sqrt": np.sqrt, "abs": np.abs,
}  # fmt: skip


class Numbers(NamedTuple):
    """Numbers: NaN is unknown; integers have a mask instead, so that a TARGETID stays exact."""

    values: NDArray[Any]
    known: NDArray[np.bool_] | bool = True


class Texts(NamedTuple):
    """Texts, and which are known."""

    values: NDArray[np.object_]
    known: NDArray[np.bool_] | bool = True


class Truth(NamedTuple):
    """Where something is true and where it is false; unknown where neither."""

    true: Any
    false: Any


Value = Numbers | Texts | Truth
_KINDS: dict[type, str] = {Numbers: "a number", Texts: "a text", Truth: "true or false"}


def from_arrow(column: pa.ChunkedArray | pa.Array) -> Numbers | Texts:
    """A column of the summary as values of a query."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    known = column.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_string(column.type):
        return Texts(np.array(column.fill_null("").to_pylist(), dtype=object), known)
    if pa.types.is_floating(column.type):
        return Numbers(column.to_numpy(zero_copy_only=False))  # null becomes NaN
    return Numbers(column.fill_null(0).to_numpy(zero_copy_only=False), known)


def truth(tree: ast.expr, values: Mapping[str, Value], text: str) -> NDArray[np.bool_]:
    """Where a query is true.

    Parameters
    ----------
    tree
        From `provabgs.catalog.expression.parse`.
    values
        By name; they broadcast with one another.
    text
        The query, for messages.

    Returns
    -------
    numpy.ndarray
        Of the broadcast shape; false where the query is unknown.

    Raises
    ------
    InputError
        For anything outside the query language, and for a query that is no question.
    """
    with np.errstate(all="ignore"):
        found = _Evaluation(values).visit(tree)
    if not isinstance(found, Truth):
        raise InputError(
            f"{cut(text)} is {_KINDS[type(found)]}, not a question; compare it with something, as in `Z < 0.2`"
        )
    return np.asarray(found.true, dtype=bool)


def at(value: Numbers | Texts, rows: NDArray[np.int64]) -> Numbers | Texts:
    """Some rows of a column, as a second axis that draws broadcast with.

    Parameters
    ----------
    value
        ``(N,)``.
    rows
        ``(n,)`` rows wanted.

    Returns
    -------
    Numbers or Texts
        ``(n, 1)``.
    """
    known = value.known if isinstance(value.known, bool) else value.known[rows, None]
    return value._replace(values=value.values[rows, None], known=known)


def number(tree: ast.expr, values: Mapping[str, Value]) -> Numbers:
    """Numbers of an arithmetic expression, as `evaluate` gives them, from values of a query.

    Parameters
    ----------
    tree
        From `provabgs.catalog.expression.parse`.
    values
        By name; they broadcast with one another.

    Returns
    -------
    Numbers
        Of the broadcast shape.

    Raises
    ------
    InputError
        Where the expression is no number.
    """
    with np.errstate(all="ignore"):
        found = _Evaluation(values).visit(tree)
    if not isinstance(found, Numbers):
        raise InputError(f"{shown(tree)} is {_KINDS[type(found)]}, not a number")
    return found


def evaluate(tree: ast.expr, arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Numbers of an arithmetic expression.

    Parameters
    ----------
    tree
        From `provabgs.catalog.expression.parse`.
    arrays
        Numbers by name; they broadcast with one another.

    Returns
    -------
    numpy.ndarray
        Of the broadcast shape; NaN or infinite where arithmetic fails.

    Raises
    ------
    InputError
        For anything outside the query language, and where the expression is no number.
    """
    return _floats(number(tree, {k: Numbers(np.asarray(v)) for k, v in arrays.items()}))


def _floats(numbers: Numbers) -> NDArray[np.float64]:
    """In double precision, NaN where unknown."""
    values = np.asarray(numbers.values, dtype=np.float64)
    return values if numbers.known is True else np.where(numbers.known, values, np.nan)


class _Evaluation:
    """A walk over the whitelisted nodes."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self.values = values

    def visit(self, node: ast.expr) -> Value:
        method = getattr(self, f"on_{type(node).__name__}", None)
        if method is None:
            raise refused(node)
        found: Value = method(node)
        return found

    def on_Name(self, node: ast.Name) -> Value:
        return self.values[node.id]

    def on_Constant(self, node: ast.Constant) -> Value:
        value = node.value
        if isinstance(value, bool):
            return Truth(np.bool_(value), np.bool_(not value))
        if isinstance(value, str):
            return Texts(np.array(value, dtype=object))
        if isinstance(value, int):
            if not _INT64.min <= value <= _INT64.max:
                raise InputError("a number of the query does not fit into 64 bits; write it with a decimal point")
            return Numbers(np.array(value, dtype=np.int64))
        if isinstance(value, float):
            return Numbers(np.array(value))
        raise InputError(f"{value!r} is not allowed in a query")

    def on_BoolOp(self, node: ast.BoolOp) -> Truth:
        parts = [self._truth(v, node) for v in node.values]
        combine = _and if isinstance(node.op, ast.And) else _or
        result = parts[0]
        for part in parts[1:]:
            result = combine(result, part)
        return result

    def on_UnaryOp(self, node: ast.UnaryOp) -> Value:
        if isinstance(node.op, ast.Not):
            inner = self._truth(node.operand, node)
            return Truth(inner.false, inner.true)
        if not isinstance(node.op, (ast.USub, ast.UAdd)):
            raise _no_operator(node)
        number = self._number(node.operand, node)
        if isinstance(node.op, ast.UAdd):
            return number
        if number.values.dtype.kind != "i":
            return Numbers(np.negative(number.values), number.known)
        values = number.values.astype(np.int64)
        return Numbers(np.negative(values), number.known & (values != _INT64.min))

    def on_BinOp(self, node: ast.BinOp) -> Value:
        if isinstance(node.op, (ast.BitAnd, ast.BitOr)):
            return self._bits(node)
        if type(node.op) not in _BINARY:
            raise _no_operator(node)
        left, right = (_floats(self._number(n, node)) for n in (node.left, node.right))
        result = _BINARY[type(node.op)](left, right)
        if isinstance(node.op, ast.Pow):  # 1 ** NaN and NaN ** 0 are 1 to numpy
            result = np.where(np.isnan(left) | np.isnan(right), np.nan, result)
        return Numbers(result)

    def _bits(self, node: ast.BinOp) -> Value:
        """``&`` and ``|``: of bits of integers, or of two comparisons as in numpy."""
        both = isinstance(node.op, ast.BitAnd)
        left, right = self.visit(node.left), self.visit(node.right)
        if isinstance(left, Truth) and isinstance(right, Truth):
            return (_and if both else _or)(left, right)
        if not (
            isinstance(left, Numbers) and isinstance(right, Numbers)
            and left.values.dtype.kind in "iu" and right.values.dtype.kind in "iu"
        ):  # fmt: skip
            raise InputError(f"{shown(node)}: & and | need two integers, or two comparisons in parentheses")
        values = (np.bitwise_and if both else np.bitwise_or)(
            left.values.astype(np.int64), right.values.astype(np.int64)
        )
        return Numbers(values, left.known & right.known)

    def on_Compare(self, node: ast.Compare) -> Truth:
        operands = [node.left, *node.comparators]
        if any(isinstance(o, ast.Name) and o.id == "STATUS" for o in operands):
            operands = [_status_codes(o) for o in operands]
        result = Truth(np.bool_(True), np.bool_(False))
        left = self.visit(operands[0])
        for op, operand in zip(node.ops, operands[1:], strict=True):
            if isinstance(op, (ast.In, ast.NotIn)):
                if len(node.ops) > 1:
                    raise InputError(f"{shown(node)}: `in` cannot be part of a chain; join comparisons with `and`")
                return self._among(left, operand, node)
            if type(op) not in _COMPARE:
                raise _no_operator(node)
            right = self.visit(operand)
            result = _and(result, _pair(op, left, right, node))
            left = right
        return result

    def _among(self, left: Value, items: ast.expr, node: ast.Compare) -> Truth:
        found = Truth(np.bool_(False), np.bool_(True))
        for item in _items(items):
            found = _or(found, _pair(ast.Eq(), left, self.visit(item), node))
        return Truth(found.false, found.true) if isinstance(node.ops[0], ast.NotIn) else found

    def on_Call(self, node: ast.Call) -> Value:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS or len(node.args) != 1 or node.keywords:
            raise InputError(f"{shown(node)}: functions are {', '.join(FUNCTIONS)}, of one argument")
        if name != "isnull":
            return Numbers(_FUNCTIONS[name](_floats(self._number(node.args[0], node))))
        value = self.visit(node.args[0])
        if isinstance(value, Truth):
            known = value.true | value.false
        elif isinstance(value, Numbers) and value.values.dtype.kind == "f":
            known = ~np.isnan(value.values)
        else:
            known = np.broadcast_to(value.known, value.values.shape)
        return Truth(~known, known)

    def _truth(self, node: ast.expr, within: ast.expr) -> Truth:
        value = self.visit(node)
        if not isinstance(value, Truth):
            raise InputError(f"{shown(within)}: {shown(node)} is {_KINDS[type(value)]}; compare it first")
        return value

    def _number(self, node: ast.expr, within: ast.expr) -> Numbers:
        value = self.visit(node)
        if not isinstance(value, Numbers):
            raise InputError(f"{shown(within)}: {shown(node)} is {_KINDS[type(value)]}, not a number")
        return value


def _pair(op: ast.cmpop, a: Value, b: Value, node: ast.Compare) -> Truth:
    """One comparison of two values."""
    if isinstance(a, Truth) or isinstance(b, Truth) or type(a) is not type(b):
        kinds = f"{_KINDS[type(a)]} with {_KINDS[type(b)]}"
        raise InputError(f"{shown(node)} compares {kinds}; compare numbers with numbers, texts with texts")
    is_true, is_false = _COMPARE[type(op)]
    known = a.known & b.known
    true, false = is_true(a.values, b.values), is_false(a.values, b.values)
    return Truth(np.asarray(true, bool) & known, np.asarray(false, bool) & known)


def _and(a: Truth, b: Truth) -> Truth:
    return Truth(a.true & b.true, a.false | b.false)


def _or(a: Truth, b: Truth) -> Truth:
    return Truth(a.true | b.true, a.false & b.false)


def _no_operator(node: ast.expr) -> InputError:
    return InputError(f"the operator in {shown(node)} is not allowed in a query")


def _items(node: ast.expr) -> list[ast.expr]:
    """The members of the list after ``in``."""
    if isinstance(node, (ast.Tuple, ast.List)) and node.elts:
        return list(node.elts)
    raise InputError(f"`in` needs a list in parentheses, not {shown(node)}")


def _status_codes(node: ast.expr) -> ast.expr:
    """Replace ``'CONVERGED'`` and its like by numbers."""
    if isinstance(node, (ast.Tuple, ast.List)):
        return ast.Tuple([_status_codes(e) for e in node.elts], ast.Load())
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if node.value not in Status.__members__:
            raise InputError(f"no STATUS {node.value!r}{did_you_mean(node.value, Status.__members__)}")
        return ast.Constant(int(Status[node.value]))
    return node
