"""Writes docs/datamodel.md and docs/datamodel.json: ``python docs/data_model.py``.

`tests/unit/test_datamodel.py` fails when they and the code disagree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from provabgs.catalog.columns import DIAGNOSTICS, QUANTILES, Schema
from provabgs.catalog.datamodel import Entry, entries, to_json
from provabgs.catalog.standard_columns import CLIPPED, FIT_QUALITY, IDENTITY, LOCATION, PROVENANCE, QUALITY, SURVEY
from provabgs.core.status import Status
from provabgs.inference.config import FitConfig
from provabgs.inference.flags import DESCRIPTIONS
from provabgs.inference.measured.measure import measure
from provabgs.inference.measured.quantity import Measured
from provabgs.inference.posterior import Posterior
from provabgs.inference.standard import PARAMETERS, PROPERTIES
from provabgs.observe.observation import Observation, Photometry

BANDS = (
    "decam2014-g", "decam2014-r", "decam2014-z", "BASS-g", "BASS-r", "MzLS-z", "wise2010-W1", "wise2010-W2",
)  # fmt: skip
"""Bands of DESI's photometry, whose columns are listed."""

HEAD = """# Data model

Every column that files of this package hold. `python docs/data_model.py` writes this page and
[datamodel.json](datamodel.json), which lists the same columns one by one for machines (table,
name, also, type, unit, description, null, ucd, since). `provabgs query CATALOG --columns` lists
those of a catalog. A model with other parameters, properties or bands has columns of the same
forms.

**Null.** In the Parquet summary and in exports an unknown value is null (NaN in float columns of
FITS, a masked value otherwise); in shards it is NaN, -1 or empty. There is no other magic number.

**No star formation** is an SFR of exactly 0 in SFR_BIN*, and a logarithm below -15 in LOGSFR_*
(1e-30 of the mass formed stands for none). Neither is null.

**Units** are as astropy reads them; `dex(x)` is log10 of a number of x. FITS and VOTable have no
such unit: there it stands in the description.

## Which rows to use

Use `FLAG == 0`. FLAG is a sum of bits; a bit never changes its meaning.

| bit | name | set when |
|---|---|---|
"""


def standard_schema() -> Schema:
    """Of the default fit of a galaxy with DESI's bands."""
    rng = np.random.default_rng(0)
    draws = np.array([[10.0, 0.25, 0.25, 0.25, 0.25, 0.1, 2.0, 1e-3, 1e-3, 0.3, 0.3, 0.0, 0.5]] * 4)
    draws[:, 0] += 0.01 * rng.standard_normal(4)
    data = Observation(0.1, (), Photometry(BANDS, np.ones(len(BANDS)), np.ones(len(BANDS))), targetid=1)
    made = Posterior(
        1, 0.1, Status.CONVERGED, samples=draws, derived={p.name: np.ones(4) for p in PROPERTIES},
        config=FitConfig().model_dump_json(),
    )  # fmt: skip
    return Schema(tuple(PARAMETERS), PROPERTIES, (), tuple(measure(made, data)))


def page(schema: Schema) -> str:
    """The page, Markdown."""
    found = entries(schema)
    columns_of = {e.name: e for e in found if e.table in ("summary", "shard")}
    out = [HEAD + "\n".join(f"| {int(f)} | {f.name} | {text} |" for f, text in DESCRIPTIONS.items())]
    out.append("\n## STATUS\n\n| value | name |\n|---|---|")
    out.append("\n".join(f"| {int(s)} | {s.name} |" for s in Status))
    for title, columns in (
        ("Identity", IDENTITY), ("Survey", SURVEY), ("Sampler", QUALITY), ("Fit quality", (*FIT_QUALITY, CLIPPED)),
        ("Provenance", PROVENANCE), ("Place of the draws (summary alone)", LOCATION),
    ):  # fmt: skip
        out.append(f"\n## {title}\n\n" + table(columns_of[c.name] for c in columns))
    out.append(quantities(schema))
    out.append(measured(schema.measured))
    names = ("targetid", "samples/LOGMSTAR", "scale/LOGMSTAR", "configs", "versions", "models", "pieces")
    out.append(SHARD + table(columns_of[n] for n in names))
    out.append("\n## Published layout\n\n`provabgs export --as provabgs`; other columns are those of the summary.\n\n")
    out[-1] += table([e for e in found if e.table == "provabgs"])
    out.append(HDUS + table([e for e in found if e.table.startswith("MODELS_")], first="table"))
    return "\n".join(out) + "\n"


SHARD = """
## Shard

HDF5 (`shards/*/*.h5`, `provabgs fit -o`). `summary` is a compound dataset of the columns above
without those of the place of the draws. Each parameter, derived property and LOG_PROB has a
dataset `samples/NAME` and, for 16-bit codes, `scale/NAME`.

"""
HDUS = """
## Tables and model spectra

`provabgs export --models`: METADATA has identity and survey columns, SPECPHOT those of the
posterior, FASTSPEC lines, sampler and fit quality; TARGETID and Z are in each.

"""


def table(rows: Iterable[Entry], first: str = "name") -> str:
    """Markdown table of entries."""
    lines = ["| column | type | unit | meaning | null when | since |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {_cell(getattr(e, first))} | {e.type} | {e.unit} | {_cell(e.description)} | {_cell(e.null)} | {e.since} |"
        for e in rows
    ]
    return "\n".join(lines)


def quantities(schema: Schema) -> str:
    """Parameters and derived properties, and the columns that each has."""
    out = ["\n## Parameters and derived properties\n\nEach NAME below has the columns\n"]
    out += ["| column | meaning |", "|---|---|"]
    out += [f"| NAME_{s} | {100 * q:.0f} % quantile of the posterior |" for s, q in QUANTILES.items()]
    out += ["| NAME_BF | at the best fit |"]
    out += [f"| NAME_{s} | {text}; null where the quantity does not vary |" for s, text in DIAGNOSTICS.items()]
    out += ["| NAME_EDGE | fraction of draws piled up at an edge of the prior (parameters) |", ""]
    out += ["which are null without draws, and for galaxies whose model lacks the quantity.\n"]
    out += ["| NAME | unit | meaning |", "|---|---|---|"]
    out += [f"| {q.column} | {q.unit} | {_cell(q.description)} |" for q in schema.quantities]
    return "\n".join(out)


def measured(found: Iterable[Measured]) -> str:
    """What is measured after the fit."""
    out = [
        "\n## Measured after the fit\n",
        "Type float32, since 0.2.0; null without a fit. NAME_ERR is a standard deviation.\n",
        "| NAME | columns | unit | meaning | null when |",
        "|---|---|---|---|---|",
    ]
    for q in found:
        columns = ", ".join(f"NAME{s}" for s in q.suffixes)
        out.append(f"| {q.column} | {columns} | {q.unit} | {_cell(q.description)} | {_cell(q.null)} |")
    return "\n".join(out)


def _cell(text: str) -> str:
    return re.sub(r"([|*])", r"\\\1", text)


if __name__ == "__main__":
    here = Path(__file__).parent
    made = standard_schema()
    (here / "datamodel.md").write_text(page(made), encoding="utf-8")
    (here / "datamodel.json").write_text(to_json(entries(made)), encoding="utf-8")
