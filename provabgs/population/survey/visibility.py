"""z_min, z_max and Vmax of every posterior draw: where the margin of the selection is positive.

Where the margin changes sign along a draw's magnitude track the draw enters or leaves the survey. Colour cuts can make
several intervals of redshift; their volumes are added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.population.survey.selection import Selection
from provabgs.population.survey.tracks import MagnitudeTracks
from provabgs.population.survey.volume import SurveyVolume

_DIMMING = np.arange(-8.0, 15.0, 0.1)
"""mag; steps in which the largest dimming is searched. Within the last step the margin itself gives the dimming."""


@dataclass(frozen=True, eq=False)
class VisibleVolumes:
    """Redshifts and volume in which each draw would be selected, within the survey's redshift range.

    Attributes
    ----------
    z_min, z_max
        ``(n, ndraw)`` lowest and highest redshift at which the draw is selected; the ends of the survey for draws that
        are selected there; NaN for draws that are selected nowhere.
    vmax
        ``(n, ndraw)`` comoving volume in which the draw is selected, Mpc^3; 0 for draws that are selected nowhere.
    margin_near
        ``(n, ndraw)`` mag by which a draw at the near end of the survey could be dimmed and still be selected
        (negative: it is too faint by that much); see `provabgs.population.survey.mass_function.completeness_limit`.
    margin_here
        ``(n, ndraw)`` margin at the observed redshift, mag; <= 0 for a galaxy outside the selection.
    """

    z_min: FloatArray
    z_max: FloatArray
    vmax: FloatArray
    margin_near: FloatArray
    margin_here: FloatArray | None = None

    @property
    def inverse(self) -> FloatArray:
        """``(n,)`` mean over draws of 1/Vmax, Mpc^-3; NaN for galaxies without a selected draw."""
        seen = self.vmax > 0
        total = np.sum(np.divide(1.0, self.vmax, out=np.zeros_like(self.vmax), where=seen), axis=1)
        count = seen.sum(axis=1)
        return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def visible_volumes(margin: ArrayLike, redshift: ArrayLike, survey: SurveyVolume) -> VisibleVolumes:
    """Visible redshifts and volumes from margins on a grid.

    Parameters
    ----------
    margin
        ``(n, ndraw, nz)``; > 0 where selected, NaN never.
    redshift
        ``(nz,)`` from the survey's `z_low` to its `z_high` (`SurveyVolume.redshift_grid`).
    survey
        Area and redshift range.

    Returns
    -------
    VisibleVolumes
        Without `margin_here`.

    Raises
    ------
    InputError
        When the margins do not span the survey.
    """
    m, z = np.asarray(margin, dtype=np.float64), np.asarray(redshift, dtype=np.float64)
    if m.ndim != 3 or z.shape != m.shape[2:] or not np.isclose([z[0], z[-1]], [survey.z_low, survey.z_high]).all():
        raise InputError(f"margins {m.shape} on {z.size} redshifts {z[0]:g}-{z[-1]:g} do not span the survey")
    x = np.log(z)
    # a and b: margins at the two ends of every step; a change of sign is a redshift where the selection begins or ends
    a, b = np.nan_to_num(m[..., :-1], nan=-1.0), np.nan_to_num(m[..., 1:], nan=-1.0)
    crossing = np.divide(a, a - b, out=np.zeros_like(a), where=(a > 0) != (b > 0)) * np.diff(x) + x[:-1]
    seen = (a > 0) | (b > 0)
    start = np.where(seen, np.exp(np.where(a > 0, x[:-1], crossing)), np.nan)
    stop = np.where(seen, np.exp(np.where(b > 0, x[1:], crossing)), np.nan)
    volume = np.where(seen, survey.within(stop) - survey.within(start), 0.0).sum(axis=-1)
    anywhere = seen.any(axis=-1)
    z_min = np.where(anywhere, np.min(start, axis=-1, where=seen, initial=np.inf), np.nan)
    z_max = np.where(anywhere, np.max(stop, axis=-1, where=seen, initial=-np.inf), np.nan)
    return VisibleVolumes(z_min, z_max, volume, m[..., 0])


def galaxy_volumes(
    theta: ArrayLike,
    redshift: ArrayLike,
    selection: Selection,
    survey: SurveyVolume,
    tracks: MagnitudeTracks,
    observed: Mapping[str, ArrayLike] | None = None,
    fiber_offset: ArrayLike | None = None,
) -> VisibleVolumes:
    """z_min, z_max and Vmax of every draw of every galaxy.

    Parameters
    ----------
    theta
        ``(n, ndraw, nparameter)`` posterior draws (`provabgs.population.survey.draws.theta_of`).
    redshift
        ``(n,)`` observed.
    selection, survey
        The survey's limits; its area and redshift range.
    tracks
        Made with the selection's bands on ``survey.redshift_grid()``.
    observed
        ``(n,)`` measured magnitudes by filter, corrected for Galactic dust. The magnitudes of each draw are shifted to
        agree with the measured ones at the observed redshift, because the survey selected by measured magnitudes; the
        model then supplies only the K-correction. Model magnitudes are used for absent filters and NaN.
    fiber_offset
        ``(n,)`` fiber magnitude minus total, for selections that ask for it.

    Returns
    -------
    VisibleVolumes
        Of every draw.

    Raises
    ------
    InputError
        For missing fiber offsets, tracks of other bands or redshifts, or an observed redshift outside the survey.
    """
    z = np.asarray(redshift, dtype=np.float64)
    outside = ~survey.contains(z)
    if outside.any():
        row = int(np.argmax(outside))
        raise InputError(
            f"redshift {z[row]:g} of galaxy {row} is outside the survey's {survey.z_low:g}-{survey.z_high:g} "
            f"({int(outside.sum())} of {z.size} are); leave these out"
        )
    if selection.needs_fiber and fiber_offset is None:
        raise InputError(f"{selection.name} needs fiber magnitudes: give fiber_offset (fiber minus total, r)")
    if missing := [b for b in selection.bands if b not in tracks.bands]:
        raise InputError(f"{selection.name} needs magnitudes in {', '.join(missing)}, which the tracks do not have")
    mags = tracks.magnitudes(theta, z)
    by_band = {band: mags[..., tracks.bands.index(band)] for band in selection.bands}
    for band, track in by_band.items():
        if observed is not None and band in observed:
            by_band[band] = track + _anchor(track, tracks, z, np.asarray(observed[band], dtype=np.float64))
    offset = 0.0 if fiber_offset is None else np.asarray(fiber_offset, dtype=np.float64)[:, None, None]
    margin = selection.margin(by_band, offset)
    # at the near end of the survey: how much fainter at equal colours, for the completeness limit in mass
    near = _dimming({b: m[..., :1] for b, m in by_band.items()}, selection, offset)
    found = visible_volumes(margin, tracks.redshift, survey)
    return replace(found, margin_near=near, margin_here=_at(margin, tracks.redshift, z))


def _dimming(magnitude: dict[str, FloatArray], selection: Selection, offset: FloatArray | float) -> FloatArray:
    """Largest number of magnitudes by which sources ``(n, ndraw, 1)`` may be dimmed in all bands and still pass."""
    passes = selection.margin({b: m + _DIMMING for b, m in magnitude.items()}, offset)
    ever = (passes > 0).any(axis=2)
    last = _DIMMING.size - 1 - np.argmax((passes > 0)[..., ::-1], axis=2)
    rest = np.take_along_axis(passes, last[..., None], axis=2)[..., 0]
    return np.where(ever, _DIMMING[last] + rest, np.nan)


def _anchor(track: FloatArray, tracks: MagnitudeTracks, redshift: FloatArray, observed: FloatArray) -> FloatArray:
    """Shift ``(n, ndraw, 1)`` that makes tracks ``(n, ndraw, nz)`` pass through the measured magnitude."""
    shift = observed[:, None] - _at(track, tracks.redshift, redshift)
    return np.where(np.isfinite(observed)[:, None], shift, 0.0)[:, :, None]


def _at(track: FloatArray, grid: FloatArray, redshift: FloatArray) -> FloatArray:
    """Values ``(n, ndraw)`` of tracks ``(n, ndraw, nz)`` at each galaxy's own redshift, linear in ln z."""
    x, knots = np.log(redshift), np.log(grid)
    left = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, knots.size - 2)
    fraction = ((x - knots[left]) / (knots[left + 1] - knots[left]))[:, None]
    row = np.arange(len(track))
    return track[row, :, left] * (1 - fraction) + track[row, :, left + 1] * fraction
