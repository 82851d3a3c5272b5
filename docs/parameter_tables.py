"""Prints the tables of docs/guide/model.md, parameters and derived properties: ``python docs/parameter_tables.py``.

`tests/unit/test_model_doc.py` fails when the document and `provabgs.sps.parameters` disagree.
"""

from __future__ import annotations

from provabgs.inference.standard import PARAMETERS
from provabgs.inference.standard import PROPERTIES as DERIVED
from provabgs.sps.parameters import Parameter

_PRIORS = {
    "uniform": "U[{0:g}, {1:g}]",
    "log-uniform": "log-uniform [{0:g}, {1:g}]",
    "flat-dirichlet": "flat Dirichlet",
    "normal": "Gaussian from the photometry, above {0:g}",
}


def parameter_table() -> str:
    """Markdown table of the thirteen parameters."""
    lines = ["| parameter | column | unit | prior | meaning |", "|---|---|---|---|---|"]
    lines += [f"| `{p.name}` | `{p.column}` | {p.unit or '-'} | {_prior(p)} | {p.description} |" for p in PARAMETERS]
    return "\n".join(lines)


def derived_table() -> str:
    """Markdown table of the derived properties."""
    lines = ["| property | column | unit | meaning |", "|---|---|---|---|"]
    lines += [f"| `{d.name}` | `{d.column}` | {d.unit} | {d.description} |" for d in DERIVED]
    return "\n".join(lines)


def _prior(parameter: Parameter) -> str:
    return _PRIORS[parameter.prior].format(*parameter.bounds)


if __name__ == "__main__":
    print(parameter_table())
    print()
    print(derived_table())
