"""One meaning of a query in `select` and `probability`: that of a plain evaluation, row by row, with unknown values."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from provabgs.catalog.evaluate import Numbers, from_arrow, truth
from provabgs.catalog.expression import names, parse
from provabgs.catalog.summary_reader import Condition, SummaryReader
from provabgs.core.errors import InputError

Row = dict[str, Any]


def number(node: tuple[Any, ...], row: Row) -> float | int | None:
    """A numerical expression of one row in plain Python: None where unknown."""
    kind, *rest = node
    if kind == "const":
        return rest[0]
    if kind == "col":
        value = row[rest[0]]
        return None if value is None or (isinstance(value, float) and math.isnan(value)) else value
    parts = [number(n, row) for n in rest[1:]]
    if any(p is None for p in parts):
        return None
    with np.errstate(all="ignore"):
        x, *others = (np.float64(p) for p in parts)
        result = {
            "+": lambda: x + others[0], "-": lambda: x - others[0], "*": lambda: x * others[0],
            "/": lambda: np.divide(x, others[0]), "log10": lambda: np.log10(x), "sqrt": lambda: np.sqrt(x),
            "abs": lambda: np.abs(x),
        }[rest[0]]()  # fmt: skip
    return None if np.isnan(result) else float(result)


def question(node: tuple[Any, ...], row: Row) -> bool | None:
    """A condition of one row: True, False or unknown."""
    kind, *rest = node
    if kind == "not":
        inner = question(rest[0], row)
        return None if inner is None else not inner
    if kind in ("and", "or"):
        a, b = question(rest[0], row), question(rest[1], row)
        decisive = kind == "or"
        if a is decisive or b is decisive:
            return decisive
        return None if a is None or b is None else not decisive
    if kind == "isnull":
        return number(rest[0], row) is None
    a, b = number(rest[1], row), number(rest[2], row)
    if a is None or b is None:
        return None
    if isinstance(a, float) or isinstance(b, float):  # integers are compared exactly with integers alone
        a, b = float(a), float(b)
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[rest[0]]


def text(node: tuple[Any, ...]) -> str:
    kind, *rest = node
    if kind in ("const", "col"):
        return str(rest[0])
    if kind == "num":
        parts = [text(n) for n in rest[1:]]
        return f"({parts[0]} {rest[0]} {parts[1]})" if len(parts) == 2 else f"{rest[0]}({parts[0]})"
    if kind == "not":
        return f"(not {text(rest[0])})"
    if kind in ("and", "or"):
        return f"({text(rest[0])} {kind} {text(rest[1])})"
    return f"isnull({text(rest[0])})" if kind == "isnull" else f"({text(rest[1])} {rest[0]} {text(rest[2])})"


leaf = st.one_of(
    st.sampled_from("XYI").map(lambda c: ("col", c)),
    st.sampled_from([0, 1, 2, 0.5, 10, 2**60 + 1]).map(lambda c: ("const", c)),
)
numbers = st.recursive(
    leaf,
    lambda n: st.one_of(
        st.tuples(st.just("num"), st.sampled_from("+-*/"), n, n),
        st.tuples(st.just("num"), st.sampled_from(["log10", "sqrt", "abs"]), n),
    ),
    max_leaves=4,
)
questions = st.recursive(
    st.one_of(
        st.tuples(st.just("compare"), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers, numbers),
        st.tuples(st.just("isnull"), numbers),
    ),
    lambda q: st.one_of(st.tuples(st.just("not"), q), st.tuples(st.sampled_from(["and", "or"]), q, q)),
    max_leaves=4,
)
floats = st.sampled_from([None, math.nan, math.inf, -math.inf, 0.0, -1.0, 0.5, 2.0, 1e300])
rows = st.lists(
    st.fixed_dictionaries(
        {"X": floats, "Y": floats, "I": st.sampled_from([None, 0, 1, -3, 2**60, 2**60 + 1, -(2**63), 2**63 - 1])}
    ),
    min_size=1,
    max_size=8,
)
SCHEMA = pa.schema([("X", pa.float64()), ("Y", pa.float64()), ("I", pa.int64())])


@settings(deadline=None, max_examples=60, phases=[Phase.explicit, Phase.generate])  # shrinking takes minutes
@given(questions, rows)
def test_select_and_probability_agree_with_a_plain_evaluation(query: tuple[Any, ...], table: list[Row]) -> None:
    asked = text(query)
    tree = parse(asked)
    expected = [question(query, row) is True for row in table]
    columns = pa.Table.from_pylist(table, schema=SCHEMA)
    used = names(tree)
    numbered = columns.append_column("ROW", pa.array(range(len(table))))
    condition = Condition(tuple(used), lambda values: truth(tree, values, asked))
    chosen = SummaryReader(numbered.schema, numbered).rows(["ROW"], [condition])
    found = [i for t in chosen for i in t["ROW"].to_pylist()]
    assert [i in found for i in range(len(table))] == expected, asked
    # as probability asks: draws are (n, S), columns of the summary (n, 1)
    draws = {n: Numbers(np.repeat(from_arrow(columns[n]).values[:, None], 3, axis=1)) for n in ("X", "Y")}
    scalars = from_arrow(columns["I"])
    assert not isinstance(scalars.known, bool)
    both = truth(tree, {**draws, "I": Numbers(scalars.values[:, None], scalars.known[:, None])}, asked)
    np.testing.assert_array_equal(np.broadcast_to(both, (len(table), 3)), np.repeat(expected, 3).reshape(-1, 3))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("not (X < 1)", [False, False, True, False, False]),
        ("X < 1", [False, False, False, True, True]),
        ("X - X > 1", [False] * 5),
        ("not (X - X > 1)", [False, False, False, True, True]),
        ("X != 0.5", [False, False, True, True, False]),
        ("isnull(X)", [True, True, False, False, False]),
        ("isnull(S)", [False, True, False, False, False]),
        ("S == 'a' or isnull(S)", [True, True, False, False, False]),
        ("S not in ('a', 'b')", [False, False, False, True, True]),
        ("I == 39633345008634465", [True, False, False, False, False]),
        ("I in (39633345008634465, 7)", [True, False, False, True, False]),
        ("-I == -39633345008634465", [True, False, False, False, False]),
        ("I * 1000 > 1e19", [True, True, True, False, False]),
        ("log10(X - X) < 1", [False, False, False, True, True]),
        ("log10(X) < -1e300", [False, False, False, False, False]),
        ("1 / (X - 0.5) > 1e300", [False, False, False, False, True]),
        ("(X < 1) & (I < 9)", [False, False, False, True, False]),
        ("True", [True] * 5),
        ("1 > 2", [False] * 5),
    ],
)
def test_unknown_values_and_large_integers(query: str, expected: list[bool]) -> None:
    table = pa.table(
        {
            "X": pa.array([None, math.nan, math.inf, -3.0, 0.5]),
            "I": pa.array([39633345008634465, 39633345008634466, 2**63 - 1, 7, None]),
            "S": pa.array(["a", None, "b", "c", "d"]),
        }
    )
    values = {name: from_arrow(table[name]) for name in table.column_names}
    found = np.broadcast_to(truth(parse(query), values, query), 5)
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("X", "'X' is a number, not a question"),
        ("X > 'a'", "compares a number with a text"),
        ("S + 1 > 2", "'S' is a text, not a number"),
        ("X and X > 1", "'X' is a number; compare it first"),
        ("(X > 1) > 0", "compares true or false with a number"),
        ("not X", "'X' is a number; compare it first"),
        ("X & 3 == 1", "need two integers"),
        ("1 < X in (1, 2)", "cannot be part of a chain"),
        ("(0x" + "f" * 3900 + ").real > 1", "not allowed"),
        ("I > 0x" + "f" * 3900, "does not fit into 64 bits"),
        ("X > 1 +", "cannot read the query"),
        ("(X, 1) > 1", "not allowed"),
        ("X.real > 1", "'X.real' is not allowed"),
        ("f'{X}' == 'a'", "not allowed"),
        ("'" + "\\0" * 3 + "' > 1", "compares a text with a number"),
        ("X > 1 \0", "cannot read the query"),
        ("I > 99999999999999999999", "does not fit into 64 bits"),
        ("I > 1j", "not allowed"),
        ("log10(" * 24 + "X" + ")" * 24 + " > 100", ""),
        ("log10(" * 80 + "X" + ")" * 80 + " > 1", "nested more than|cannot read the query"),
        ("not " * 900 + "X > 1", "nested more than|cannot read the query"),
        ("-" * 3000 + "X > 1", "nested more than|cannot read the query"),
        ("+".join(["X"] * 500) + " > 1", "nested more than"),
    ],
)
def test_refusals_are_sentences(query: str, message: str) -> None:
    values = {"X": Numbers(np.ones(2)), "I": Numbers(np.array([1, 2])), "S": from_arrow(pa.array(["a", "b"]))}
    if not message:
        assert not truth(parse(query), values, query).any()
        return
    with pytest.raises(InputError, match=message) as caught:
        truth(parse(query), values, query)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


def test_long_queries_take_no_longer_than_their_length() -> None:
    values = {"X": Numbers(np.linspace(0.1, 2, 2000)), "Y": Numbers(np.ones(2000))}
    many = ", ".join(["1"] * 1200)
    start = time.perf_counter()
    for query in (
        f"{'exp(' * 30}X{')' * 30} in ({many})",
        " or ".join(["X > 1"] * 390),
        "X" + " < X" * 900,
        "log10(" * 55 + "X" + ")" * 55 + " > 100",
    ):
        truth(parse(query), values, query)
    assert time.perf_counter() - start < 5
