"""1/Vmax of the galaxies of a catalog, from their posterior draws or from a stored Z_MAX column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import BoolArray, FloatArray
from provabgs.population.survey.columns import Columns
from provabgs.population.survey.draws import theta_of, thin_draws
from provabgs.population.survey.selection import Selection
from provabgs.population.survey.tracks import MagnitudeTracks
from provabgs.population.survey.visibility import VisibleVolumes, galaxy_volumes
from provabgs.population.survey.volume import SurveyVolume
from provabgs.sps.model import SPSModel

if TYPE_CHECKING:
    from provabgs.catalog.query import Catalog

TRACK_DRAWS = 32
"""Draws per galaxy whose Vmax is computed: K-corrections differ little between draws of one galaxy."""
_CHUNK = 256
"""Galaxies per call."""
_TOLERANCE_MAG = 0.005
"""Rounding of stored magnitudes and interpolation of tracks."""


class GalaxyVolumes(NamedTuple):
    """Volumes of galaxies, summarised over their draws."""

    inverse: FloatArray
    """``(n,)`` mean of 1/Vmax, Mpc^-3; NaN for galaxies outside the selection."""
    z_min: FloatArray
    """``(n,)`` median lowest redshift of selection, within the survey."""
    z_max: FloatArray
    """``(n,)`` median highest redshift of selection, within the survey."""
    margin_near: FloatArray
    """``(n,)`` median margin at the near end of the survey, mag; NaN for stored volumes."""


def stored_volumes(columns: Columns, index: NDArray[np.intp], survey: SurveyVolume) -> GalaxyVolumes:
    """Volumes from the Z_MAX column of a catalog, as the published catalog has it.

    Parameters
    ----------
    columns
        Summary columns, Z_MAX among them.
    index
        ``(n,)`` rows that are wanted.
    survey
        Area and redshift range.

    Returns
    -------
    GalaxyVolumes
        With z_min at the near end of the survey.
    """
    z_max = columns["Z_MAX"].astype(np.float64)[index]
    volume = np.where(np.isfinite(z_max), survey.within(np.nan_to_num(z_max, nan=survey.z_low)), np.nan)
    inverse = np.divide(1.0, volume, out=np.full(volume.shape, np.nan), where=volume > 0)
    near, unknown = np.full(index.size, survey.z_low), np.full(index.size, np.nan)
    return GalaxyVolumes(inverse, near, np.minimum(z_max, survey.z_high), unknown)


def computed_volumes(
    catalog: Catalog,
    columns: Columns,
    index: NDArray[np.intp],
    selection: Selection,
    survey: SurveyVolume,
    model: SPSModel,
    observed: Mapping[str, FloatArray],
    offset: FloatArray | None,
) -> GalaxyVolumes:
    """Volumes from magnitudes of up to `TRACK_DRAWS` posterior draws per galaxy.

    Parameters
    ----------
    catalog
        Whose samples are read.
    columns
        Summary columns: TARGETID and Z.
    index
        ``(n,)`` rows that are wanted.
    selection, survey
        Limits; area and redshift range.
    model
        SPS model that was fitted.
    observed, offset
        Measured magnitudes by filter and fiber offsets, of all rows (`measured_photometry`).

    Returns
    -------
    GalaxyVolumes
        Of the wanted rows.
    """
    # spectra of all draws at all redshifts would not fit in memory: galaxies go in parts
    tracks = MagnitudeTracks(model, selection.bands, survey.redshift_grid(), survey.cosmology)
    out = GalaxyVolumes(*(np.full(index.size, np.nan) for _ in range(4)))
    for start in range(0, index.size, _CHUNK):
        part = index[start : start + _CHUNK]
        table = catalog.samples(columns["TARGETID"][part].astype(np.int64), model.parameters.columns)
        volumes = galaxy_volumes(
            thin_draws(theta_of(table, model), TRACK_DRAWS),
            columns["Z"].astype(np.float64)[part],
            selection,
            survey,
            tracks,
            {b: m[part] for b, m in observed.items()},
            None if offset is None else offset[part],
        )
        place = slice(start, start + part.size)
        out.inverse[place] = np.where(_selected(volumes, bool(observed)), volumes.inverse, np.nan)
        out.z_min[place], out.z_max[place] = _median(volumes.z_min), _median(volumes.z_max)
        out.margin_near[place] = _median(volumes.margin_near)
    return out


def _median(values: FloatArray) -> FloatArray:
    """``(n,)`` median of finite draws ``(n, ndraw)``; NaN for galaxies without one."""
    out, known = np.full(len(values), np.nan), np.isfinite(values).any(axis=1)
    out[known] = np.nanmedian(values[known], axis=1)
    return out


def _selected(volumes: VisibleVolumes, measured: bool) -> BoolArray:
    """Whether each galaxy is within the limits at its own redshift; judged by measured magnitudes only."""
    here = volumes.margin_here
    if not measured or here is None:
        return np.ones(len(volumes.vmax), dtype=bool)
    return np.nanmedian(np.where(np.isfinite(here), here, -np.inf), axis=1) > -_TOLERANCE_MAG
