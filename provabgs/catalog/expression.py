"""The query language: arithmetic and comparisons on column names, parsed into a tree and never evaluated as code.

The text is parsed by Python's grammar; a whitelist of node types is translated, either to SQL for the summary or to
numpy on arrays of samples. Anything else (attributes, subscripts, lambdas, unknown functions) is refused by name.
SQL habits are understood: ``AND``, ``OR``, ``NOT``, a single ``=``, ``<>``.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provabgs.core.errors import InputError
from provabgs.core.status import Status

MAX_LENGTH = 4000

_COMPARE: dict[type, tuple[str, Callable[..., Any]]] = {
    ast.Lt: ("<", np.less), ast.LtE: ("<=", np.less_equal), ast.Gt: (">", np.greater),
    ast.GtE: (">=", np.greater_equal), ast.Eq: ("=", np.equal), ast.NotEq: ("<>", np.not_equal),
}  # fmt: skip
_BINARY: dict[type, tuple[str, Callable[..., Any]]] = {
    ast.Add: ("+", np.add), ast.Sub: ("-", np.subtract), ast.Mult: ("*", np.multiply), ast.Div: ("/", np.divide),
}  # fmt: skip
_BITS: dict[type, tuple[str, Callable[..., Any]]] = {
    ast.BitAnd: ("&", np.bitwise_and), ast.BitOr: ("|", np.bitwise_or),
}  # fmt: skip
# SQL that gives null, as numpy gives NaN, outside a function's domain (DuckDB would stop the whole query)
_FUNCTIONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "log10": ("(CASE WHEN {0} > 0 THEN log10({0}) END)", np.log10),
    "log": ("(CASE WHEN {0} > 0 THEN ln({0}) END)", np.log),
    "exp": ("exp({0})", np.exp),
    "sqrt": ("(CASE WHEN {0} >= 0 THEN sqrt({0}) END)", np.sqrt),
    "abs": ("abs({0})", np.abs),
    "isnull": ("({0} IS NULL)", np.isnan),
}

_ALLOWED = (
    ast.Name, ast.Constant, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.Call, ast.Tuple, ast.List,
)  # fmt: skip
"""Node types that may stand in a query."""


def parse(text: str) -> ast.expr:
    """Parse a query into a tree.

    Raises
    ------
    InputError
        When the text is empty, too long, or not an expression.
    """
    if not text.strip() or len(text) > MAX_LENGTH:
        raise InputError(f"a query must have 1 to {MAX_LENGTH} characters, this one has {len(text.strip())}")
    try:
        tree = ast.parse(_from_sql(text).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise InputError(f"cannot read the query {text!r}: {reason}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and not isinstance(node, _ALLOWED):
            raise _refused(node)
    return tree


def _refused(node: ast.expr) -> InputError:
    return InputError(
        f"{ast.unparse(node)!r} is not allowed in a query; use columns, numbers, + - * / **, comparisons, and, or, "
        f"not, in, and {', '.join(_FUNCTIONS)}"
    )


def names(tree: ast.expr) -> list[str]:
    """Column names used in a tree, each once, in order of appearance; functions are not among them."""
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in functions]
    return list(dict.fromkeys(found))


def check_names(used: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse unknown columns.

    Parameters
    ----------
    used
        Names that a query uses.
    known
        Names that exist.
    where
        Where they were looked for, in words, for the message.

    Raises
    ------
    InputError
        For the first unknown name, with the closest known ones.
    """
    table = list(known)
    for name in used:
        if name not in table:
            raise InputError(f"no column {name!r} {where}{did_you_mean(name, table)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggestion for a misspelt column, to end a message with.

    Parameters
    ----------
    name
        Name that does not exist.
    known
        Names that exist.

    Returns
    -------
    str
        ``"; did you mean A, B?"`` with up to three close names, or a way to list them all.
    """
    table = list(known)
    folded = {k.upper(): k for k in reversed(table)}
    close = difflib.get_close_matches(name.upper(), list(folded), n=3, cutoff=0.6)
    close += [k for k in folded if k.startswith(name.upper() + "_") and k not in close][: 3 - len(close)]
    return (
        f"; did you mean {', '.join(folded[c] for c in close)}?" if close else "; `provabgs query --columns` lists them"
    )


def to_sql(tree: ast.expr, columns: Mapping[str, str]) -> str:
    """Translate a tree to SQL.

    Parameters
    ----------
    tree
        From `parse`.
    columns
        SQL of every column name.

    Returns
    -------
    str
        An SQL expression.

    Raises
    ------
    InputError
        For anything outside the query language.
    """
    return _Sql(columns).visit(tree)


def evaluate(tree: ast.expr, arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Evaluate a tree on numpy arrays.

    Parameters
    ----------
    tree
        From `parse`.
    arrays
        By name; they broadcast with one another.

    Returns
    -------
    NDArray
        Of the broadcast shape; NaN or infinite where arithmetic fails.

    Raises
    ------
    InputError
        For anything outside the query language.
    """
    with np.errstate(all="ignore"):
        return np.asarray(_Numpy(arrays).visit(tree))


def _from_sql(text: str) -> str:
    """Turn SQL spellings outside quotes into Python's."""
    parts = re.split(r"('[^']*'|\"[^\"]*\")", text)
    for i in range(0, len(parts), 2):
        part = re.sub(r"\b(AND|OR|NOT|IN)\b", lambda m: m.group().lower(), parts[i])
        part = part.replace("<>", "!=").replace("\n", " ")
        parts[i] = re.sub(r"(?<![<>=!])=(?!=)", "==", part)
    return "".join(parts)


class _Translator:
    """Shared walk over the whitelisted nodes; subclasses say what each becomes."""

    def visit(self, node: ast.expr) -> Any:
        """Translate one node."""
        method = getattr(self, f"on_{type(node).__name__}", None)
        if method is None:
            raise _refused(node)
        return method(node)

    def operator(self, table: dict[type, Any], node: ast.AST, within: ast.expr) -> Any:
        """Look an operator up, or refuse it."""
        if type(node) not in table:
            raise InputError(f"the operator in {ast.unparse(within)!r} is not allowed in a query")
        return table[type(node)]

    def function(self, node: ast.Call) -> tuple[str, Callable[..., Any]]:
        """Look a function up, or refuse it."""
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
        if name not in _FUNCTIONS or len(node.args) != 1 or node.keywords:
            raise InputError(f"{ast.unparse(node)!r}: functions are {', '.join(_FUNCTIONS)}, of one argument")
        return _FUNCTIONS[name]

    def comparisons(self, node: ast.Compare) -> list[tuple[ast.cmpop, ast.expr, ast.expr]]:
        """The pairs of a chained comparison, STATUS names turned into their codes."""
        operands = [node.left, *node.comparators]
        if any(isinstance(o, ast.Name) and o.id == "STATUS" for o in operands):
            operands = [_status_codes(o) for o in operands]
        return list(zip(node.ops, operands[:-1], operands[1:], strict=True))


def _status_codes(node: ast.expr) -> ast.expr:
    """Replace ``'CONVERGED'`` and its like by numbers."""
    if isinstance(node, (ast.Tuple, ast.List)):
        return ast.Tuple([_status_codes(e) for e in node.elts], ast.Load())
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if node.value not in Status.__members__:
            raise InputError(f"no STATUS {node.value!r}{did_you_mean(node.value, Status.__members__)}")
        return ast.Constant(int(Status[node.value]))
    return node


class _Sql(_Translator):
    def __init__(self, columns: Mapping[str, str]) -> None:
        self.columns = columns

    def on_Name(self, node: ast.Name) -> str:
        return self.columns[node.id]

    def on_Constant(self, node: ast.Constant) -> str:
        if isinstance(node.value, bool):
            return "TRUE" if node.value else "FALSE"
        if isinstance(node.value, (int, float)) and abs(node.value) < 2**63:
            return repr(node.value) if isinstance(node.value, int) else f"CAST('{node.value!r}' AS DOUBLE)"
        if isinstance(node.value, str) and "\x00" not in node.value:
            return "'" + node.value.replace("'", "''") + "'"
        raise InputError(f"{node.value!r} is not allowed in a query")

    def on_BoolOp(self, node: ast.BoolOp) -> str:
        return "(" + (" AND " if isinstance(node.op, ast.And) else " OR ").join(map(self.visit, node.values)) + ")"

    def on_UnaryOp(self, node: ast.UnaryOp) -> str:
        sign = self.operator({ast.Not: "NOT ", ast.USub: "-", ast.UAdd: ""}, node.op, node)
        return f"({sign}{self.visit(node.operand)})"

    def on_BinOp(self, node: ast.BinOp) -> str:
        left, right = self.visit(node.left), self.visit(node.right)
        if isinstance(node.op, ast.Pow):
            return f"pow({left}, {right})"
        if type(node.op) in _BITS:
            return f"(CAST({left} AS BIGINT) {_BITS[type(node.op)][0]} CAST({right} AS BIGINT))"
        sign = self.operator(_BINARY, node.op, node)[0]
        return f"(CAST({left} AS DOUBLE) {sign} CAST({right} AS DOUBLE))"

    def on_Compare(self, node: ast.Compare) -> str:
        return "(" + " AND ".join(self._pair(*pair, node) for pair in self.comparisons(node)) + ")"

    def _pair(self, op: ast.cmpop, left: ast.expr, right: ast.expr, node: ast.Compare) -> str:
        if isinstance(op, (ast.In, ast.NotIn)):
            items = ", ".join(map(self.visit, _items(right)))
            return f"{self.visit(left)} {'NOT ' if isinstance(op, ast.NotIn) else ''}IN ({items})"
        return f"{self.visit(left)} {self.operator(_COMPARE, op, node)[0]} {self.visit(right)}"

    def on_Call(self, node: ast.Call) -> str:
        return self.function(node)[0].format(self.visit(node.args[0]))


class _Numpy(_Translator):
    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = arrays

    def on_Name(self, node: ast.Name) -> NDArray[Any]:
        return self.arrays[node.id]

    def on_Constant(self, node: ast.Constant) -> Any:
        if isinstance(node.value, (bool, int, float, str)):
            return node.value
        raise InputError(f"{node.value!r} is not allowed in a query")

    def on_BoolOp(self, node: ast.BoolOp) -> NDArray[Any]:
        combine = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        result = self.visit(node.values[0])
        for value in node.values[1:]:
            result = combine(result, self.visit(value))
        return result

    def on_UnaryOp(self, node: ast.UnaryOp) -> NDArray[Any]:
        table: dict[type, Any] = {ast.Not: np.logical_not, ast.USub: np.negative, ast.UAdd: np.positive}
        return self.operator(table, node.op, node)(self.visit(node.operand))

    def on_BinOp(self, node: ast.BinOp) -> NDArray[Any]:
        left, right = self.visit(node.left), self.visit(node.right)
        if isinstance(node.op, ast.Pow):
            return np.power(np.asarray(left, dtype=float), right)
        return self.operator({k: v[1] for k, v in (_BINARY | _BITS).items()}, node.op, node)(left, right)

    def on_Compare(self, node: ast.Compare) -> NDArray[Any]:
        result: Any = True
        for op, left, right in self.comparisons(node):
            if isinstance(op, (ast.In, ast.NotIn)):
                pair = np.isin(self.visit(left), [self.visit(i) for i in _items(right)])
                pair = ~pair if isinstance(op, ast.NotIn) else pair
            else:
                pair = self.operator(_COMPARE, op, node)[1](self.visit(left), self.visit(right))
            result = np.logical_and(result, pair)
        return result

    def on_Call(self, node: ast.Call) -> NDArray[Any]:
        return self.function(node)[1](self.visit(node.args[0]))


def _items(node: ast.expr) -> list[ast.expr]:
    """The members of the list after ``in``."""
    if isinstance(node, (ast.Tuple, ast.List)) and node.elts:
        return list(node.elts)
    raise InputError(f"`in` needs a list in parentheses, not {ast.unparse(node)!r}")
