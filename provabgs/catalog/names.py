"""Names a query may use beyond the stored columns: aliases, and linear forms of logarithmic quantities."""

from __future__ import annotations

from collections.abc import Collection

from provabgs.catalog import expression
from provabgs.catalog.columns import QUANTILES, Schema

LINEAR: dict[str, str] = {
    "MSTAR": "LOGMSTAR",
    "MSTAR_FORMED": "LOGMSTAR_FORMED",
    "SFR_100MYR": "LOGSFR_100MYR",
    "SFR_1GYR": "LOGSFR_1GYR",
    "Z_MW": "LOGZ_MW",
}
"""Linear name -> stored log10 column; quantiles carry over because 10**x is monotonic."""

SAMPLE_FORMULAS: dict[str, str] = {
    **{name: f"10 ** {log}" for name, log in LINEAR.items()},
    "LOGSSFR_100MYR": "LOGSFR_100MYR - LOGMSTAR",
    "LOGSSFR_1GYR": "LOGSFR_1GYR - LOGMSTAR",
}
"""Names usable in expressions on samples besides the sample columns: specific SFRs are per surviving mass, 1/yr."""

SUMMARY_ALIASES: dict[str, str] = {"Z_HP": "Z", "PROVABGS_LOGMSTAR_BF": "LOGMSTAR_BF"}
"""Published names -> columns of the summary."""


def summary_formulas(columns: Collection[str]) -> dict[str, str]:
    """Expression of every name usable on the summary besides its columns."""
    table: dict[str, str] = {}
    for alias, column in SUMMARY_ALIASES.items():
        if column in columns and alias not in columns:
            table[alias] = column
    for linear, log in LINEAR.items():
        for suffix in (*QUANTILES, "BF"):
            if f"{log}_{suffix}" in columns and f"{linear}_{suffix}" not in columns:
                table[f"{linear}_{suffix}"] = f"10 ** {log}_{suffix}"
    return table


def sample_formulas(schema: Schema) -> dict[str, str]:
    """The formulas of `SAMPLE_FORMULAS` whose columns a catalog has; one that stores a name has no formula for it."""
    stored = set(schema.sample_columns)
    possible = {n: f for n, f in SAMPLE_FORMULAS.items() if set(expression.names(expression.parse(f))) <= stored}
    return {n: f for n, f in possible.items() if n not in stored}


def sample_names(schema: Schema) -> list[str]:
    """Names usable on samples of a catalog, stored and computed."""
    return [*schema.sample_columns, *sample_formulas(schema)]
