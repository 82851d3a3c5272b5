"""Catalog and model spectra in one FITS file, laid out as users of FastSpecFit know it::

    | HDU | one row per galaxy |
    |---|---|
    | METADATA | who it is: identity, survey columns |
    | SPECPHOT | what the posterior says: masses, rates, ages, magnitudes, indices |
    | FASTSPEC | what the spectrum says: emission lines, chi^2, quality |
    | MODELS_B, MODELS_R, MODELS_Z | image (galaxy, 16/50/84 % quantile, pixel), 1e-17 erg/s/cm2/A |

Rows of all HDUs are in the same order; columns have our names (docs/datamodel.md), with units and descriptions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from provabgs.catalog.columns import Schema
from provabgs.catalog.described import table_hdu
from provabgs.catalog.models import CAMERAS, UNITS, camera_models
from provabgs.catalog.query import Catalog
from provabgs.catalog.standard_columns import FIT_QUALITY, IDENTITY, QUALITY, SURVEY
from provabgs.core.progress import report
from provabgs.inference.measured.line_quantities import line_quantities

N_DRAWS = 64
"""Draws that the quantiles of model pixels are taken of."""
QUANTILE_NAMES = "16, 50 and 84 % quantiles over draws of the posterior"


def write_models(catalog: Catalog, path: Path, draws: int = N_DRAWS) -> None:
    """Write the chosen galaxies with their model spectra.

    Parameters
    ----------
    catalog
        A catalog or a selection of one.
    path
        FITS file to write.
    draws
        Draws that the quantiles of model pixels are taken of.

    Raises
    ------
    DataFileError
        When a shard is damaged.
    """
    rows = catalog.table()
    names = parts(catalog.schema, rows.colnames)
    hdus: list[Any] = [
        table_hdu(rows[columns], extension, catalog.schema.table_columns) for extension, columns in names.items()
    ]
    models = _models(catalog, rows, draws)
    for grid in CAMERAS:
        hdu = fits.ImageHDU(models[grid.camera], name=f"MODELS_{grid.camera}")
        hdu.header["BUNIT"] = UNITS["observed"]
        hdu.header["WCSAXES"] = 3
        for axis, (kind, value, step) in enumerate(
            (("WAVE", grid.first, grid.step), ("QUANTILE", 1, 1), ("GALAXY", 1, 1)), 1
        ):
            hdu.header[f"CTYPE{axis}"], hdu.header[f"CRPIX{axis}"] = kind, 1
            hdu.header[f"CRVAL{axis}"], hdu.header[f"CDELT{axis}"] = value, step
        hdu.header["CUNIT1"] = ("Angstrom", "vacuum, observed frame")
        hdu.header["COMMENT"] = f"Axis 2: {QUANTILE_NAMES}."
        hdu.header["COMMENT"] = "Light in the fiber, velocity dispersion of the fit; no resolution matrix applied."
        hdus.append(hdu)
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)


def parts(schema: Schema, columns: list[str]) -> dict[str, list[str]]:
    """Columns of the summary by the HDU that they belong in; TARGETID and Z are in each.

    Parameters
    ----------
    schema
        Of the catalog.
    columns
        Of its summary.

    Returns
    -------
    dict
        METADATA, SPECPHOT and FASTSPEC.
    """
    who = {c.name for c in (*IDENTITY, *SURVEY, *schema.survey)} | {"SHARD", "SHARD_ROW", "DATA_HASH", "META"}
    lines = {q.column + suffix for q in line_quantities() for suffix in q.suffixes}
    spectral = lines | {c.name for c in (*QUALITY, *FIT_QUALITY)}
    both = ["TARGETID", "Z"]
    return {
        "METADATA": [c for c in columns if c in who],
        "SPECPHOT": both + [c for c in columns if c not in who | spectral],
        "FASTSPEC": both + [c for c in columns if c in spectral],
    }


def _models(catalog: Catalog, rows: Table, draws: int) -> dict[str, np.ndarray]:
    """Model pixels of all galaxies, ``(n, 3, npix)`` in single precision, by camera."""
    out = {g.camera: np.full((len(rows), 3, g.n), np.nan, np.float32) for g in CAMERAS}
    for i, posterior in enumerate(catalog.posteriors()):
        report("model spectra", i, len(rows))
        for camera, pixels in camera_models(posterior, draws).items():
            out[camera][i] = pixels
    return out
