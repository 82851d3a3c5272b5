"""Catalog columns that a survey fills: magnitudes, colours, selection bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from provabgs.observe.observation import Photometry
from provabgs.surveys.system import PhotometricSystem


def survey_columns(system: PhotometricSystem, photometry: Photometry | None, row: Mapping[str, Any]) -> dict[str, Any]:
    """Catalog columns of one galaxy, for `provabgs.observe.observation.Observation.meta`.

    A reader calls this, since it knows the survey. Bands are matched by their full filter names: photometry in a
    filter of another survey fills no column.

    Parameters
    ----------
    system
        The survey.
    photometry
        Total fluxes, corrected for Galactic dust, or None.
    row
        Table row, for the fiber fluxes (in the survey's flux unit, as the table has them) and the bit masks.

    Returns
    -------
    dict
        Magnitudes (AB) and colours (mag) of bands with a positive measured flux, selections 0 or 1. What is not known
        is left out. SURVEY_COLUMNS describes them, for catalogs that have not heard of the survey.
    """
    magnitudes = _magnitudes(system, photometry)
    columns: dict[str, Any] = {}
    for name, band in system.bands.items():
        if band.magnitude and name in magnitudes:
            columns[band.magnitude] = magnitudes[name]
        fiber = _number(row.get(band.fiberflux)) if band.fiberflux else 0.0
        if band.fiber_magnitude and fiber > 0:
            columns[band.fiber_magnitude] = magnitude(fiber * system.to_nanomaggies())
    for name, colour in system.colours.items():
        if all(band in magnitudes for _, *bands in colour.terms for band in bands):
            terms = (factor * (magnitudes[first] - magnitudes[second]) for factor, first, second in colour.terms)
            columns[name] = sum(terms) + colour.constant
    for name, flag in system.selection.items():
        found = [row.get(c) for c in flag.columns]
        bits = [int(b) for b in found if isinstance(b, (int, np.integer))]
        if bits:  # of several columns (phases of a survey) those that do not apply are 0
            columns[name] = int(any(b >> flag.bit & 1 for b in bits))
    described = {
        c.name: {"dtype": c.dtype, "unit": c.unit, "description": c.description} for c in system.filled_columns()
    }
    return columns | {"SURVEY_COLUMNS": {name: described[name] for name in columns if name in described}}


def magnitude(flux: float) -> float:
    """AB magnitude of a positive flux in nanomaggies."""
    return float(22.5 - 2.5 * np.log10(flux))


def _magnitudes(system: PhotometricSystem, photometry: Photometry | None) -> dict[str, float]:
    """Magnitudes of measured bands, by band name."""
    if photometry is None:
        return {}
    measured = {
        name: flux
        for name, flux, ivar in zip(photometry.bands, photometry.flux, photometry.ivar, strict=True)
        if ivar > 0 and flux > 0
    }
    found = {}
    for name, band in system.bands.items():
        filters = [f for f in band.filters().values() if f in measured]
        if filters:
            found[name] = magnitude(measured[filters[0]])
    return found


def _number(value: Any) -> float:
    """A table's value as a number, NaN where it is masked, absent or none."""
    return float(value) if isinstance(value, (int, float, np.integer, np.floating)) else float("nan")
