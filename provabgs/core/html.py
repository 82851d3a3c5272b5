"""Small pieces of HTML for notebooks; every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table.

    Parameters
    ----------
    header
        Names of the columns.
    rows
        Cells, as many each as there are names.

    Returns
    -------
    str
        HTML.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def paragraph(text: str, *, small: bool = False) -> str:
    """A line of text.

    Parameters
    ----------
    text
        Plain, not HTML.
    small
        In small print.
    """
    inner = escape(text)
    return f"<p>{f'<small>{inner}</small>' if small else inner}</p>"


def folded(title: str, inner: str) -> str:
    """HTML that opens on a click.

    Parameters
    ----------
    title
        Plain text that is always seen.
    inner
        HTML.
    """
    return f"<details><summary>{escape(title)}</summary>{inner}</details>"
