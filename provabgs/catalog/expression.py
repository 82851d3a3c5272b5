"""The query language: arithmetic and comparisons on column names, parsed into a tree and never evaluated as code.

The text is parsed by Python's grammar; `provabgs.catalog.evaluate` gives a whitelist of node types a meaning. Anything
else (attributes, subscripts, lambdas, unknown functions) is refused by name.
SQL habits are understood: ``AND``, ``OR``, ``NOT``, a single ``=``, ``<>``.
"""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections.abc import Iterable

from provabgs.core.errors import InputError

MAX_LENGTH = 4000
_SHOWN = 80
"""Characters of a query that a message repeats."""
MAX_DEPTH = 60
FUNCTIONS = ("log10", "log", "exp", "sqrt", "abs", "isnull")
_ALLOWED = (
    ast.Name, ast.Constant, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.Call, ast.Tuple, ast.List,
)  # fmt: skip
"""Node types that may stand in a query."""


def parse(text: str) -> ast.expr:
    """Parse a query into a tree.

    Raises
    ------
    InputError
        When the text is empty, too long, nested too deeply, or not an expression.
    """
    if not text.strip() or len(text) > MAX_LENGTH:
        raise InputError(f"a query must have 1 to {MAX_LENGTH} characters, this one has {len(text.strip())}")
    try:
        with warnings.catch_warnings():  # `1and 2` and the like: the grammar takes them, and so do we
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            tree = ast.parse(_from_sql(text).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise InputError(f"cannot read the query {cut(text)}: {reason}") from None
    if _depth(tree) > MAX_DEPTH:
        raise InputError(
            f"the query {cut(text)} is nested more than {MAX_DEPTH} deep; divide it into several selections"
        )
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and not isinstance(node, _ALLOWED):
            raise refused(node)
    return tree


def _depth(tree: ast.AST) -> int:
    """Levels of a tree, counted without recursion."""
    level, depth = [tree], 0
    while level:
        level, depth = [child for node in level for child in ast.iter_child_nodes(node)], depth + 1
    return depth


def refused(node: ast.expr) -> InputError:
    """The error for a part of a query that is outside the language."""
    return InputError(
        f"{shown(node)} is not allowed in a query; use columns, numbers, + - * / **, comparisons, and, or, "
        f"not, in, and {', '.join(FUNCTIONS)}"
    )


def shown(node: ast.expr) -> str:
    """A part of a query in quotes, cut where it is long."""
    try:
        text = ast.unparse(node)
    except ValueError:  # Python prints no integer of thousands of digits
        text = "a number of thousands of digits"
    return cut(text)


def cut(text: str) -> str:
    """Text in quotes on one line, cut where it is long."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ...")


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


def _from_sql(text: str) -> str:
    """Turn SQL spellings outside quotes into Python's."""
    parts = re.split(r"('[^']*'|\"[^\"]*\")", text)
    for i in range(0, len(parts), 2):
        part = re.sub(r"\b(AND|OR|NOT|IN)\b", lambda m: m.group().lower(), parts[i])
        part = part.replace("<>", "!=").replace("\n", " ")
        parts[i] = re.sub(r"(?<![<>=!])=(?!=)", "==", part)
    return "".join(parts)
