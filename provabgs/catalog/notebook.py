"""How a catalog shows itself in a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from provabgs.core.html import paragraph, table
from provabgs.core.status import Status

if TYPE_CHECKING:
    from provabgs.catalog.query import Catalog

SHOWN = ("TARGETID", "Z", "STATUS", "FLAG", "LOGMSTAR_P50", "LOGSFR_100MYR_P50", "LOGZ_MW_P50", "T_AGE_MW_P50")
"""Columns of the rows shown."""
N_ROWS = 5
_CODES = {int(s): s.name for s in Status}


def catalog_html(catalog: Catalog) -> str:
    """How many galaxies of which STATUS, the first of them, and how to ask for more."""
    names = [c for c in SHOWN if c in catalog.columns]
    counts = catalog.arrow(["STATUS"]).column("STATUS").value_counts().to_pylist()
    counts.sort(key=lambda entry: entry["values"])
    by_status = ", ".join(f"{c['counts']:,} {_CODES.get(c['values'], c['values'])}" for c in counts)
    total = sum(c["counts"] for c in counts)
    noun = "galaxy" if total == 1 else "galaxies"
    rows = [[_cell(name, row[name]) for name in names] for row in catalog.arrow(names, limit=N_ROWS).to_pylist()]
    about = catalog.schema.by_name
    header = [f"{n} [{about[n].unit}]" if n in about and about[n].unit else n for n in names]
    parts = [
        f"<p><strong>{escape(catalog.root.name)}</strong>: {total:,} {noun} ({escape(by_status or 'none')}), "
        f"{len(catalog.columns)} columns</p>",
        table(header, rows),
        paragraph(
            "catalog.select(...) and .cone(...) choose, .table() and .samples() read; provabgs gallery shows it in a "
            "browser.",
            small=True,
        ),
    ]
    return "<div>" + "".join(parts) + "</div>"


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name == "STATUS":
        return _CODES.get(value, str(value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
