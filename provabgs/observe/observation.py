"""One galaxy's data, validated, survey-neutral, in numpy.

Everything upstream (DESI readers, mocks, a user's own arrays) ends in an `Observation`; everything downstream
(projections, likelihoods, plots) starts from one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import UnusableTargetError
from provabgs.core.status import Status
from provabgs.observe.filters import FilterCurve, own_curve, register_curve


def _clean_flux(flux: ArrayLike, ivar: ArrayLike, what: str) -> tuple[FloatArray, FloatArray]:
    """Native float64 copies in which every unusable entry has flux 0 and ivar 0.

    Raises
    ------
    UnusableTargetError
        For a NaN or infinite flux that claims ivar > 0, and for a negative or non-finite ivar.
    """
    f = np.array(flux, dtype=np.float64)
    w = np.array(ivar, dtype=np.float64)
    if f.shape != w.shape:
        raise UnusableTargetError(f"{what}: flux has shape {f.shape} but ivar {w.shape}", Status.BAD_DATA)
    if not np.all(np.isfinite(w)) or np.any(w < 0):
        raise UnusableTargetError(
            f"{what}: ivar holds NaN, infinite or negative values; set them to 0", Status.BAD_DATA
        )
    bad = ~np.isfinite(f)
    if np.any(bad & (w > 0)):
        n = int(np.sum(bad & (w > 0)))
        raise UnusableTargetError(
            f"{what}: {n} NaN or infinite flux values have ivar > 0; set their ivar to 0", Status.BAD_DATA
        )
    return np.where(w > 0, f, 0.0), w


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One camera (or one whole spectrum) of one galaxy, corrected for Galactic extinction.

    Attributes
    ----------
    camera
        Name for messages and plots, for example ``"b"``.
    wave
        ``(npix,)`` observed vacuum wavelength, Angstrom, strictly increasing.
    flux
        ``(npix,)`` flux density, 1e-17 erg/s/cm2/Angstrom.
    ivar
        ``(npix,)`` inverse variance of `flux`; 0 marks a pixel not to be used.
    resolution
        ``(ndiag, npix)`` DESI resolution matrix in the band format of its files (row d holds offset
        ``ndiag//2 - d``, indexed by input pixel as in `scipy.sparse.dia_matrix`), or None for no instrumental
        broadening beyond `sigma_aa`.
    sigma_aa
        Gaussian instrumental dispersion, Angstrom, used when there is no resolution matrix; 0 for none.
    """

    camera: str
    wave: FloatArray
    flux: FloatArray
    ivar: FloatArray
    resolution: FloatArray | None = None
    sigma_aa: float = 0.0

    def __post_init__(self) -> None:
        what = f"camera {self.camera!r}"
        object.__setattr__(self, "wave", np.array(self.wave, dtype=np.float64))
        flux, ivar = _clean_flux(self.flux, self.ivar, what)
        object.__setattr__(self, "flux", flux)
        object.__setattr__(self, "ivar", ivar)
        if self.wave.ndim != 1 or self.wave.shape != flux.shape:
            raise UnusableTargetError(
                f"{what}: wave has shape {self.wave.shape}, flux {flux.shape}; give one-"
                "dimensional arrays of equal length",
                Status.BAD_DATA,
            )
        if self.wave.size < 2 or not np.all(np.diff(self.wave) > 0) or self.wave[0] <= 0:
            raise UnusableTargetError(f"{what}: wavelengths must be positive and strictly increasing", Status.BAD_DATA)
        if self.wave[-1] < 100.0:
            raise UnusableTargetError(
                f"{what}: wavelengths end at {self.wave[-1]:g}; they must be in Angstrom "
                "(these look like microns or nanometres)",
                Status.BAD_DATA,
            )
        if self.resolution is not None:
            res = np.array(self.resolution, dtype=np.float64)
            if res.ndim != 2 or res.shape[1] != self.wave.size or res.shape[0] % 2 == 0:
                raise UnusableTargetError(
                    f"{what}: resolution has shape {res.shape}, expected (odd, {self.wave.size})", Status.BAD_DATA
                )
            object.__setattr__(self, "resolution", np.where(np.isfinite(res), res, 0.0))

    @property
    def n_valid(self) -> int:
        """Number of pixels with ivar > 0."""
        return int(np.count_nonzero(self.ivar))


@dataclass(frozen=True, eq=False, init=False)
class Photometry:
    """Total fluxes of one galaxy, corrected for Galactic extinction.

    Attributes
    ----------
    bands
        Filter names, for example ``("decam2014-g", "wise2010-W1")``; see `provabgs.observe.filters`. A `FilterCurve`
        given in place of a name is registered under its name.
    flux
        ``(nband,)`` nanomaggies.
    ivar
        ``(nband,)`` inverse variance, nanomaggies^-2; 0 marks an unmeasured band.
    floor
        ``(nband,)`` noise floors of the survey, fractions of the flux, or None. NaN takes the floor of
        `provabgs.observe.options.ObservingOptions`.
    curves
        Filter curves among the bands that speclite does not have; they go wherever the photometry goes.
    """

    bands: tuple[str, ...]
    flux: FloatArray
    ivar: FloatArray
    floor: FloatArray | None
    curves: tuple[FilterCurve, ...] = field(init=False)

    def __init__(
        self,
        bands: Sequence[str | FilterCurve],
        flux: ArrayLike,
        ivar: ArrayLike,
        floor: ArrayLike | None = None,
    ) -> None:
        names = tuple(register_curve(b).name if isinstance(b, FilterCurve) else b for b in bands)
        f, w = _clean_flux(flux, ivar, "photometry")
        if f.shape != (len(names),):
            raise UnusableTargetError(f"photometry: {len(names)} bands but flux of shape {f.shape}", Status.BAD_DATA)
        fraction = None if floor is None else np.array(floor, dtype=np.float64)
        if fraction is not None and (fraction.shape != f.shape or np.any(fraction < 0) or np.any(np.isinf(fraction))):
            raise UnusableTargetError(
                f"photometry: floor {fraction} must hold a fraction >= 0, or NaN, for each of {len(names)} bands",
                Status.BAD_DATA,
            )
        curves = tuple(c for c in map(own_curve, names) if c is not None)
        values = {"bands": names, "flux": f, "ivar": w, "floor": fraction, "curves": curves}
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # a copy in another process finds its filters by name, too
        self.__dict__.update(state)
        for curve in self.curves:
            register_curve(curve)

    @property
    def n_valid(self) -> int:
        """Number of measured bands."""
        return int(np.count_nonzero(self.ivar))


@dataclass(frozen=True, eq=False)
class Observation:
    """All that is fitted for one galaxy.

    Attributes
    ----------
    redshift
        Spectroscopic redshift, > 0.
    spectra
        Cameras, in any order, possibly none.
    photometry
        Total fluxes, or None.
    fiber_fraction
        ``(mean, sigma)`` of the Gaussian prior on f_fiber, or None when unknown (f_fiber is then 1 for a spectrum
        alone, that is: masses are those inside the fiber).
    targetid, ra, dec, zerr
        Identification; degrees; NaN where unknown.
    meta
        Anything else worth keeping with the result (EBV, PHOTSYS, file names, ...), plain scalars and strings.
    """

    redshift: float
    spectra: tuple[Spectrum, ...] = ()
    photometry: Photometry | None = None
    fiber_fraction: tuple[float, float] | None = None
    targetid: int = -1
    ra: float = float("nan")
    dec: float = float("nan")
    zerr: float = float("nan")
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spectra", tuple(self.spectra))
        who = f"TARGETID {self.targetid}" if self.targetid >= 0 else "this galaxy"
        if not np.isfinite(self.redshift):
            raise UnusableTargetError(f"{who}: redshift is {self.redshift}; give a finite one", Status.NO_REDSHIFT)
        if self.redshift <= 0:
            raise UnusableTargetError(
                f"{who}: redshift {self.redshift:g} is not positive; the luminosity distance needs z > 0",
                Status.REDSHIFT_OUT_OF_RANGE,
            )
        if self.n_valid == 0:
            raise UnusableTargetError(f"{who}: no pixel or band has ivar > 0", Status.NO_VALID_PIXELS)
        if self.fiber_fraction is not None:
            mean, sigma = self.fiber_fraction
            if not (np.isfinite(mean) and np.isfinite(sigma) and mean > 0 and sigma >= 0):
                raise UnusableTargetError(
                    f"{who}: fiber_fraction {self.fiber_fraction} must be finite, mean > 0, sigma >= 0", Status.BAD_DATA
                )

    @property
    def n_valid(self) -> int:
        """Number of usable data: pixels and bands with ivar > 0."""
        return sum(s.n_valid for s in self.spectra) + (self.photometry.n_valid if self.photometry else 0)

    def digest(self) -> str:
        """SHA-256 over everything that a fit depends on; written with the posterior."""
        h = hashlib.sha256(repr((self.redshift, self.fiber_fraction)).encode())
        for s in self.spectra:
            h.update(f"{s.camera}{s.sigma_aa!r}".encode())
            for array in (s.wave, s.flux, s.ivar, s.resolution):
                if array is not None:
                    h.update(np.ascontiguousarray(array).tobytes())
        if self.photometry is not None:
            h.update("|".join(self.photometry.bands).encode())
            h.update(self.photometry.flux.tobytes() + self.photometry.ivar.tobytes())
            if self.photometry.floor is not None:
                h.update(self.photometry.floor.tobytes())
            for curve in self.photometry.curves:
                h.update(curve.digest().encode())
        return h.hexdigest()
