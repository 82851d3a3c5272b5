"""How far a galaxy could be and still be in the survey: z_max, z_min and Vmax of every posterior draw.

The rest-frame spectrum of a draw, from the same `SPSModel` that was fitted, is seen from other redshifts: all that
changes is the distance and which part of it falls into a filter (the K-correction). Spectra do not evolve on the way.
A band flux at any redshift is linear in the spectrum, so one operator, shared by all galaxies, gives the magnitudes of
a batch of spectra over a whole grid of redshifts by one matrix product. Where the selection's margin changes sign the
draw enters or leaves the survey; several visible intervals (colour cuts make them) are added up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import astropy.units as u
import numpy as np
from numpy.typing import ArrayLike, NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import SPECTRUM_UNIT
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.observe.cosmology import Cosmology
from provabgs.observe.filters import band_weights
from provabgs.population.selection import Selection
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import FlatSpectra, SPSModel

FULL_SKY_DEG2 = 4 * np.pi * (180 / np.pi) ** 2
_VOLUME_NODES = 4096
_DIMMING = np.arange(-8.0, 15.0, 0.1)
"""mag, steps in which the limit is looked for; in the last of them the selection's own margin says where it lies."""
_ROWS = 512
"""Spectra computed at once: 20 MB each of fluxes at the model's wavelengths."""


@dataclass(frozen=True)
class SurveyVolume:
    """A part of the sky between two redshifts.

    Attributes
    ----------
    area_deg2
        Area, square degrees.
    z_low, z_high
        Redshift range; galaxies outside it do not count.
    cosmology
        Distances; the fit's own.

    Raises
    ------
    InputError
        For an area that is not on the sky, or redshifts that are not 0 < z_low < z_high.
    """

    area_deg2: float
    z_low: float
    z_high: float
    cosmology: Cosmology = field(default_factory=Cosmology)

    def __post_init__(self) -> None:
        if not 0 < self.area_deg2 <= FULL_SKY_DEG2 * (1 + 1e-9):
            raise InputError(f"area {self.area_deg2:g} deg2 is not between 0 and the whole sky, 41253 deg2")
        if not (np.isfinite(self.z_high) and 0 < self.z_low < self.z_high):
            raise InputError(f"redshift range {self.z_low:g} to {self.z_high:g}: need 0 < z_low < z_high")

    @cached_property
    def _table(self) -> tuple[FloatArray, FloatArray]:
        z = np.geomspace(self.z_low, self.z_high, _VOLUME_NODES)
        volume = self.cosmology.astropy.comoving_volume(z).to_value(u.Mpc**3)
        return z, (volume - volume[0]) * self.area_deg2 / FULL_SKY_DEG2

    @property
    def total(self) -> float:
        """Comoving volume of the survey, Mpc^3 (no h)."""
        return float(self._table[1][-1])

    def within(self, redshift: ArrayLike) -> FloatArray:
        """Comoving volume between `z_low` and `redshift`, Mpc^3; redshifts beyond the range are clipped to it."""
        return np.interp(np.asarray(redshift, dtype=np.float64), *self._table)

    def contains(self, redshift: ArrayLike) -> NDArray[np.bool_]:
        """Whether ``z_low <= redshift <= z_high``; False for NaN."""
        z = np.asarray(redshift, dtype=np.float64)
        return (z >= self.z_low) & (z <= self.z_high)

    def redshift_grid(self, step: float = 0.01, log_step: float = 0.06) -> FloatArray:
        """Redshifts from `z_low` to `z_high`, no further apart than `step` nor than `log_step` in ln z.

        Margins are interpolated linearly in ln z in between; at the default steps that moves z_max by 1e-4 or less.
        """
        # x grows by one from one grid point to the next
        fine = np.geomspace(self.z_low, self.z_high, 4 * _VOLUME_NODES)
        x = np.concatenate([[0.0], np.cumsum(np.diff(fine) / np.minimum(step, log_step * fine[1:]))])
        grid = np.interp(np.linspace(0, x[-1], int(np.ceil(x[-1])) + 1), x, fine)
        grid[0], grid[-1] = self.z_low, self.z_high
        return grid


class MagnitudeTracks:
    """Magnitudes of model galaxies over a grid of redshifts.

    Parameters
    ----------
    model
        The fitted SPS model.
    bands
        Filters.
    redshift
        ``(nz,)`` increasing.
    cosmology
        Distances and ages.

    Raises
    ------
    InputError
        When a band leaves the model's wavelengths at one of the redshifts.
    """

    def __init__(
        self, model: SPSModel, bands: tuple[str, ...], redshift: FloatArray, cosmology: Cosmology | None = None
    ) -> None:
        self.model, self.bands, self.redshift = model, tuple(bands), np.asarray(redshift, dtype=np.float64)
        self.cosmology = cosmology or Cosmology()
        library = model.library
        distance = self.cosmology.luminosity_distance_cm(self.redshift)
        factor = library.lsun_cgs / (4 * np.pi * distance**2) / (1 + self.redshift) / SPECTRUM_UNIT
        rows = [
            f * band_weights(band, library.wave * (1 + z))
            for z, f in zip(self.redshift, factor, strict=True)
            for band in self.bands
        ]
        self._operator = jnp.asarray(np.array(rows).T)
        self._fluxes = jax.jit(self._evaluate)

    def _evaluate(
        self, theta: jax.Array, tables: HistoryTables, flat_spectra: FlatSpectra, operator: jax.Array
    ) -> jax.Array:
        return self.model.spectrum(theta, tables, flat_spectra) @ operator

    def magnitudes(self, theta: ArrayLike, redshift: ArrayLike) -> FloatArray:
        """AB magnitudes, ``(n, ndraw, nz, nband)``; NaN where a draw emits no light.

        Parameters
        ----------
        theta
            ``(n, ndraw, 13)`` draws; those with a NaN give NaN.
        redshift
            ``(n,)`` at which the galaxies were fitted: it sets the age of the universe in their histories.
        """
        th, z = np.asarray(theta, dtype=np.float64), np.asarray(redshift, dtype=np.float64)
        if th.ndim != 3 or z.shape != th.shape[:1]:
            raise InputError(f"draws {th.shape} and redshifts {z.shape}: give (n, ndraw, 13) and (n,)")
        out = np.full((*th.shape[:2], self.redshift.size, len(self.bands)), np.nan)
        for rows in _pieces(len(th), max(1, _ROWS // th.shape[1])):
            out[rows[0] : rows[0] + rows[1]] = self._piece(th, z, *rows)
        return out

    def _piece(self, theta: FloatArray, redshift: FloatArray, start: int, count: int) -> FloatArray:
        """Magnitudes of some galaxies, padded to a fixed number so that JAX compiles once."""
        full, n_draw = max(1, _ROWS // theta.shape[1]), theta.shape[1]
        index = np.minimum(start + np.arange(full), start + count - 1)
        known = np.isfinite(theta[index]).all(axis=2)
        filler = np.broadcast_to(_harmless_draw(theta[index], known), theta[index].shape)
        flat = np.where(known[:, :, None], theta[index], filler).reshape(-1, theta.shape[2])
        tables = self.model.tables(np.repeat(self.cosmology.age_gyr(redshift[index]), n_draw))
        flux = np.asarray(self._fluxes(jnp.asarray(flat), tables, self.model.flat_spectra, self._operator))
        flux = np.where(known.reshape(-1, 1) & (flux > 0), flux, np.nan)
        shape = (full, n_draw, self.redshift.size, len(self.bands))
        return (22.5 - 2.5 * np.log10(flux)).reshape(shape)[:count]


def _harmless_draw(theta: FloatArray, known: NDArray[np.bool_]) -> FloatArray:
    """Some finite draw to compute with in place of missing ones (whose result is discarded)."""
    if not known.any():
        raise InputError("none of these galaxies has a finite posterior draw; leave out rows without samples")
    return theta[known][0]


def _pieces(n: int, size: int) -> Iterator[tuple[int, int]]:
    """``(start, count)`` of runs of at most `size`."""
    for start in range(0, n, size):
        yield start, min(size, n - start)


@dataclass(frozen=True, eq=False)
class VisibleVolumes:
    """Where each draw is visible, within the survey's redshift range.

    Attributes
    ----------
    z_min, z_max
        ``(n, ndraw)`` first and last redshift at which the draw passes the selection; the survey's own ends where the
        selection does not matter there; NaN for draws that are visible nowhere.
    vmax
        ``(n, ndraw)`` comoving volume in which it passes, Mpc^3; 0 for draws that are visible nowhere.
    margin_near
        ``(n, ndraw)`` how far, mag, a draw could be dimmed at the near end of the survey and still pass (negative: it
        would have to be brighter); what `provabgs.population.massfunction.completeness_limit` asks for.
    """

    z_min: FloatArray
    z_max: FloatArray
    vmax: FloatArray
    margin_near: FloatArray
    margin_here: FloatArray | None = None
    """``(n, ndraw)`` margin, mag, at the observed redshift; <= 0 for a galaxy that the survey would not have taken."""

    @property
    def inverse(self) -> FloatArray:
        """``(n,)`` mean over draws of 1/Vmax, Mpc^-3; NaN for galaxies none of whose draws is visible."""
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
    """
    m, z = np.asarray(margin, dtype=np.float64), np.asarray(redshift, dtype=np.float64)
    if m.ndim != 3 or z.shape != m.shape[2:] or not np.isclose([z[0], z[-1]], [survey.z_low, survey.z_high]).all():
        raise InputError(f"margins {m.shape} on {z.size} redshifts {z[0]:g}-{z[-1]:g} do not span the survey")
    x = np.log(z)
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
        ``(n, ndraw, 13)`` posterior draws.
    redshift
        ``(n,)`` observed.
    selection, survey
        The survey's limits; its area and redshift range.
    tracks
        Made with the selection's bands on ``survey.redshift_grid()``.
    observed
        ``(n,)`` measured magnitudes by filter, free of Galactic dust. A draw's magnitudes are shifted to agree with
        them at the observed redshift, so that the model gives K-corrections only: the survey selected by measured
        magnitudes, not by model ones. Filters that are absent, and NaN, stay as the model has them.
    fiber_offset
        ``(n,)`` fiber magnitude minus total, for selections that ask for it.

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
    share = ((x - knots[left]) / (knots[left + 1] - knots[left]))[:, None]
    row = np.arange(len(track))
    return track[row, :, left] * (1 - share) + track[row, :, left + 1] * share
