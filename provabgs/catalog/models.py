"""Model spectra of a catalog's galaxies, made again from their stored draws: no data are needed.

What a row was fitted with (library, history, dust, gas, cosmology) is in the configuration that its shard keeps. A
model that plugins made needs those plugins to be imported first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.catalog.generations import open_generation
from provabgs.catalog.records import to_posteriors
from provabgs.catalog.shard import read_block
from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.inference.posterior import Posterior

Kind = Literal["rest", "observed"]
UNITS: dict[str, str] = {"rest": "Lsun / Angstrom", "observed": "1e-17 erg / (s cm2 Angstrom)"}


class ModelSpectrum(NamedTuple):
    """Spectra of the whole galaxy for some draws of its posterior; starlight, gas and dust as fitted.

    At the library's resolution, without velocity dispersion, fiber fraction, Galactic dust and noise templates. `wave`
    ``(nwave,)`` is in Angstrom, vacuum, rest frame or observed as `kind` says; `flux` ``(ndraw, nwave)`` in `unit`.
    """

    targetid: int
    redshift: float
    kind: Kind
    wave: FloatArray
    flux: FloatArray
    unit: str


def posteriors_at(
    root: Path, shards: Mapping[str, str], names: NDArray[Any], rows: NDArray[np.int64]
) -> Iterator[Posterior]:
    """Posteriors at given places, each shard read once.

    Parameters
    ----------
    root
        Directory of the catalog.
    shards
        SHA-256 of each shard, by its name, as the summary has them.
    names, rows
        ``(n,)`` shard of each posterior, and row in it.

    Yields
    ------
    Posterior
        In the order of `rows`; without draws where the fit has none.

    Raises
    ------
    DataFileError
        When a shard is damaged, or is not the one that the summary was built from.
    """
    names, made, waiting = names.astype(str), dict[int, Posterior](), 0
    for name in dict.fromkeys(names.tolist()):
        here = np.flatnonzero(names == name)
        with open_generation(root, name, shards[name]) as f:
            path = f.filename
        found = to_posteriors(read_block(path).take(rows[here]))
        made |= dict(zip(here.tolist(), found, strict=True))
        while waiting in made:
            yield made.pop(waiting)
            waiting += 1


def model_spectrum(posterior: Posterior, kind: Kind = "rest", draws: int = 100) -> ModelSpectrum:
    """Spectra of evenly spaced draws.

    Parameters
    ----------
    posterior
        With draws and the configuration of its fit.
    kind
        ``"rest"``: luminosity per Angstrom, Lsun/Angstrom. ``"observed"``: flux, 1e-17 erg/s/cm2/Angstrom, at
        wavelengths times 1 + z.
    draws
        How many; all stored ones where there are fewer.

    Returns
    -------
    ModelSpectrum
        Draws in their order. Under several libraries the wavelengths are those of the one with the most draws; NaN
        beyond a draw's own.

    Raises
    ------
    InputError
        For another kind, or a posterior without draws.
    """
    from provabgs.inference.measured.spectra import spectra_of  # brings in JAX

    if kind not in UNITS:
        raise InputError(f"kind {kind!r}: choose 'rest' or 'observed'")
    if draws < 1:
        raise InputError(f"{draws} draws: ask for at least 1")
    if not len(posterior.samples):
        raise InputError(f"TARGETID {posterior.targetid} has no draws, STATUS {posterior.status.name}")
    fits = sorted(spectra_of(posterior, draws), key=lambda s: -s.rows.size)
    wave = fits[0].wave
    parts = [
        s.luminosity if s.wave.size == wave.size and np.array_equal(s.wave, wave)
        else np.array([np.interp(wave, s.wave, row, left=np.nan, right=np.nan) for row in s.luminosity])
        for s in fits
    ]  # fmt: skip
    flux: FloatArray = np.concatenate(parts)[np.argsort(np.concatenate([s.rows for s in fits]))]
    if kind == "observed":
        wave, flux = wave * (1 + posterior.redshift), flux * fits[0].flux_factor
    return ModelSpectrum(posterior.targetid, posterior.redshift, kind, wave, flux, UNITS[kind])


class Grid(NamedTuple):
    """One camera's wavelengths, as DESI's coadds have them; Angstrom, vacuum."""

    camera: str
    first: float
    n: int
    step: float = 0.8

    @property
    def wave(self) -> FloatArray:
        """``(n,)``."""
        return np.asarray(self.first + self.step * np.arange(self.n), dtype=np.float64)


CAMERAS: tuple[Grid, ...] = (Grid("B", 3600.0, 2751), Grid("R", 5760.0, 2326), Grid("Z", 7520.0, 2881))


def camera_models(posterior: Posterior, draws: int) -> dict[str, FloatArray]:
    """Model pixels of DESI's three cameras: what the fiber collects, broadened by the stars' velocity dispersion.

    Parameters
    ----------
    posterior
        Of a fit.
    draws
        How many are taken.

    Returns
    -------
    dict
        By camera ``(3, npix)``: 16, 50 and 84 % quantiles over draws, 1e-17 erg/s/cm2/Angstrom. NaN for a posterior
        without draws, and in cameras that the library does not cover.
    """
    from provabgs.inference.measured.spectra import spectra_of
    from provabgs.observe.linespread import spread_matrix, velocity_sigma
    from provabgs.observe.options import ASSUMED_VDISP_KMS

    nothing = {grid.camera: np.full((3, grid.n), np.nan) for grid in CAMERAS}
    if not len(posterior.samples):
        return nothing
    parts: dict[str, list[Any]] = {grid.camera: [] for grid in CAMERAS}
    for s in spectra_of(posterior, draws):
        f_fiber = posterior["f_fiber"][s.rows] if "f_fiber" in posterior.parameters else np.ones(s.rows.size)
        fitted = "vdisp" in posterior.parameters
        held = (posterior.diagnostics.vdisp_fixed, s.config.observing.vdisp_kms)  # NaN first: bands alone
        fixed = next((v for v in held if not isinstance(v, str) and np.isfinite(v)), ASSUMED_VDISP_KMS)
        vdisp = float(np.median(posterior["vdisp"])) if fitted else fixed
        wave = s.wave * (1 + s.redshift)
        for grid in CAMERAS:
            if wave[0] > grid.wave[0] - grid.step or wave[-1] < grid.wave[-1] + grid.step:
                continue
            operator = spread_matrix(wave, grid.wave, velocity_sigma(grid.wave, vdisp))
            parts[grid.camera].append((operator @ s.luminosity.T).T * s.flux_factor * f_fiber[:, None])
    for camera, made in parts.items():
        if made:
            nothing[camera] = np.asarray(np.quantile(np.concatenate(made), [0.16, 0.5, 0.84], axis=0))
    return nothing
