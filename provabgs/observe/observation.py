"""One galaxy's data, validated, survey-neutral, in numpy.

Everything upstream (DESI readers, mocks, a user's own arrays) ends in an `Observation`; everything downstream
(projections, likelihoods, plots) starts from one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError, UnusableTargetError
from provabgs.core.identity import exact_id
from provabgs.core.status import Status
from provabgs.observe.filters import FilterCurve, own_curve, register_curve
from provabgs.observe.plain import SPECTRUM_IVAR_UNIT, SPECTRUM_UNIT, WAVE_UNIT, Plain, plain

SHORTEST_AA, LONGEST_AA = 1000.0, 1e8
"""Plain numbers that end below the first, or begin above the second, are no wavelengths in Angstrom."""
WIDEST_STEP = 0.5
"""Largest step from one pixel to the next, as a fraction of the wavelength."""
IVAR_MAX = 1e30
"""A larger inverse variance is damage; S/N of 1e6 in 1e-9 nanomaggies has this one."""

VDISP_MAX = 1000.0
"""Velocity dispersions beyond, km/s, are of no galaxy."""


def _clean_flux(flux: Any, ivar: Any, what: str, units: tuple[str, str]) -> tuple[FloatArray, FloatArray]:
    """Native float64 copies in which every unusable or masked entry has flux 0 and ivar 0.

    Raises
    ------
    UnusableTargetError
        For a NaN or infinite flux that claims ivar > 0, for a negative or non-finite ivar, and for units that are no
        flux density.
    """
    of_flux = _plain(flux, units[0], f"{what}: flux")
    of_ivar = _plain(ivar, units[1], f"{what}: ivar")
    f, w = of_flux.values, of_ivar.values
    if f.shape != w.shape:
        raise UnusableTargetError(f"{what}: flux has shape {f.shape} but ivar {w.shape}", Status.BAD_DATA)
    if of_flux.has_unit != of_ivar.has_unit:
        have, lack = ("flux", "ivar") if of_flux.has_unit else ("ivar", "flux")
        raise UnusableTargetError(f"{what}: {have} has a unit and {lack} has none; give both theirs", Status.BAD_DATA)
    masked = of_flux.masked | of_ivar.masked
    w = np.where(masked, 0.0, w)
    if not np.all(np.isfinite(w)) or np.any(w < 0):
        raise UnusableTargetError(
            f"{what}: ivar holds NaN, infinite or negative values; set them to 0", Status.BAD_DATA
        )
    if np.any(w > IVAR_MAX):
        raise UnusableTargetError(
            f"{what}: ivar reaches {w.max():.2g} in {units[1]}, which no measurement has; check its unit, or the file",
            Status.BAD_DATA,
        )
    bad = ~np.isfinite(f)
    if np.any(bad & (w > 0)):
        n = int(np.sum(bad & (w > 0)))
        raise UnusableTargetError(
            f"{what}: {n} NaN or infinite flux values have ivar > 0; set their ivar to 0", Status.BAD_DATA
        )
    return np.where(w > 0, f, 0.0), w


def _plain(values: Any, unit: str, what: str) -> Plain:
    """`provabgs.observe.plain.plain` with errors that carry a STATUS."""
    try:
        return plain(values, unit, what)
    except InputError as error:
        raise UnusableTargetError(str(error), Status.BAD_DATA) from None


def _clean_wave(values: Any, what: str) -> FloatArray:
    """Wavelengths in Angstrom; `UnusableTargetError` for numbers that cannot be."""
    of_wave = _plain(values, WAVE_UNIT, f"{what}: wave")
    wave = of_wave.values
    if of_wave.masked.any():
        raise UnusableTargetError(
            f"{what}: {int(of_wave.masked.sum())} wavelengths are masked; give them, with ivar 0", Status.BAD_DATA
        )
    if wave.ndim != 1:
        raise UnusableTargetError(
            f"{what}: wave has shape {wave.shape}; give one-dimensional arrays of equal length", Status.BAD_DATA
        )
    if wave.size < 2 or not np.all(np.diff(wave) > 0) or wave[0] <= 0:
        raise UnusableTargetError(f"{what}: wavelengths must be positive and strictly increasing", Status.BAD_DATA)
    if (wave[-1] < SHORTEST_AA and not of_wave.has_unit) or wave[0] > LONGEST_AA:
        raise UnusableTargetError(
            f"{what}: wavelengths run from {wave[0]:g} to {wave[-1]:g}; they must be in Angstrom (these look like "
            "microns or nanometres): multiply them, or give a Quantity with its unit",
            Status.BAD_DATA,
        )
    step = np.diff(wave) / wave[:-1]
    if not np.all(np.isfinite(wave)) or step.max() > WIDEST_STEP:
        worst = int(np.argmax(np.where(np.isfinite(step), step, np.inf)))
        raise UnusableTargetError(
            f"{what}: wavelengths jump from {wave[worst]:g} to {wave[worst + 1]:g} A at pixel {worst + 1}; check them",
            Status.BAD_DATA,
        )
    return wave


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One camera (or one whole spectrum) of one galaxy, corrected for Galactic extinction.

    Attributes
    ----------
    camera
        Name for messages and plots, for example ``"b"``.
    wave
        ``(npix,)`` observed vacuum wavelength, Angstrom, strictly increasing. A Quantity is converted.
    flux
        ``(npix,)`` flux density, 1e-17 erg/s/cm2/Angstrom. A Quantity is converted.
    ivar
        ``(npix,)`` inverse variance of `flux`; 0 marks a pixel not to be used, and so does a mask on either.
    resolution
        ``(ndiag, npix)`` DESI resolution matrix in the band format of its files (row d holds offset
        ``ndiag//2 - d``, indexed by input pixel as in `scipy.sparse.dia_matrix`), or None for no instrumental
        broadening beyond `sigma_aa`.
    sigma_aa
        Gaussian instrumental dispersion, Angstrom, a number or ``(npix,)``, used when there is no resolution matrix; 0
        for none. A Quantity is converted.
    """

    camera: str
    wave: FloatArray
    flux: FloatArray
    ivar: FloatArray
    resolution: FloatArray | None = None
    sigma_aa: float | FloatArray = 0.0

    def __post_init__(self) -> None:
        what = f"camera {self.camera!r}"
        object.__setattr__(self, "wave", _clean_wave(self.wave, what))
        flux, ivar = _clean_flux(self.flux, self.ivar, what, (SPECTRUM_UNIT, SPECTRUM_IVAR_UNIT))
        object.__setattr__(self, "flux", flux)
        object.__setattr__(self, "ivar", ivar)
        if self.wave.shape != flux.shape:
            raise UnusableTargetError(
                f"{what}: wave has shape {self.wave.shape}, flux {flux.shape}; give one-"
                "dimensional arrays of equal length",
                Status.BAD_DATA,
            )
        object.__setattr__(self, "sigma_aa", _clean_sigma(self.sigma_aa, self.wave.size, what))
        if self.resolution is not None:
            object.__setattr__(self, "resolution", _clean_resolution(self.resolution, self.wave.size, what))

    @property
    def n_valid(self) -> int:
        """Number of pixels with ivar > 0."""
        return int(np.count_nonzero(self.ivar))


def _clean_sigma(values: Any, npix: int, what: str) -> float | FloatArray:
    """A line-spread function's width in Angstrom, one for all pixels or one for each."""
    of_sigma = _plain(values, WAVE_UNIT, f"{what}: sigma_aa")
    sigma = of_sigma.values
    if sigma.shape not in ((), (npix,)):
        raise UnusableTargetError(
            f"{what}: sigma_aa has shape {sigma.shape}; give a number, or one for each of {npix} pixels",
            Status.BAD_DATA,
        )
    bad = ~(np.isfinite(sigma) & (sigma >= 0)) | of_sigma.masked
    if np.any(bad):
        worst = sigma if sigma.ndim == 0 else sigma[np.flatnonzero(bad)[0]]
        where = "" if sigma.ndim == 0 else f" at pixel {np.flatnonzero(bad)[0]} ({int(bad.sum())} of {npix} are bad)"
        raise UnusableTargetError(f"{what}: sigma_aa is {worst:g}{where}; give Angstrom >= 0", Status.BAD_DATA)
    return float(sigma) if sigma.ndim == 0 else sigma


RESOLUTION_MAX = 10.0
"""Elements of a resolution matrix are weights of neighbouring pixels; larger ones are damage."""


def _clean_resolution(values: Any, npix: int, what: str) -> FloatArray:
    """A resolution matrix with 0 in place of what is masked or not finite."""
    matrix = _plain(values, "", f"{what}: resolution")
    res = matrix.values
    if res.ndim != 2 or res.shape[1] != npix or res.shape[0] % 2 == 0:
        raise UnusableTargetError(f"{what}: resolution has shape {res.shape}, expected (odd, {npix})", Status.BAD_DATA)
    res = np.where(np.isfinite(res) & ~matrix.masked, res, 0.0)
    if np.abs(res).max(initial=0.0) > RESOLUTION_MAX:
        raise UnusableTargetError(
            f"{what}: the resolution matrix holds {np.abs(res).max():.2g}, where weights of pixels are at most about "
            "1; it is damaged",
            Status.BAD_DATA,
        )
    return res


def _clean_floor(values: Any) -> FloatArray:
    """Noise floors, NaN where masked."""
    floor = _plain(values, "", "photometry: floor")
    return np.where(floor.masked, np.nan, floor.values)


@dataclass(frozen=True, eq=False, init=False)
class Photometry:
    """Total fluxes of one galaxy, corrected for Galactic extinction.

    Attributes
    ----------
    bands
        Filter names, for example ``("decam2014-g", "wise2010-W1")``; see `provabgs.observe.filters`. A `FilterCurve`
        given in place of a name is registered under its name.
    flux
        ``(nband,)`` nanomaggies. A Quantity of flux density is converted.
    ivar
        ``(nband,)`` inverse variance, nanomaggies^-2; 0 marks an unmeasured band, and so does a mask on either.
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
        f, w = _clean_flux(flux, ivar, "photometry", ("nmgy", "nmgy-2"))
        if f.shape != (len(names),):
            raise UnusableTargetError(f"photometry: {len(names)} bands but flux of shape {f.shape}", Status.BAD_DATA)
        measured = [name for name, weight in zip(names, w.tolist(), strict=True) if weight > 0]
        if twice := sorted({name for name in measured if measured.count(name) > 1}):
            raise UnusableTargetError(
                f"photometry: {', '.join(twice)} is given twice and would count twice; combine the two, or leave "
                "one out",
                Status.BAD_DATA,
            )
        fraction = None if floor is None else _clean_floor(floor)
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


def _spectra(given: Any) -> tuple[Spectrum, ...]:
    """The spectra of an observation; `InputError` for anything else."""
    if isinstance(given, Spectrum):
        return (given,)
    spectra = tuple(given)
    for spectrum in spectra:
        if not isinstance(spectrum, Spectrum):
            raise InputError(f"spectra takes a Spectrum, or several, not {spectrum!r:.80}")
    return spectra


@dataclass(frozen=True, eq=False)
class Observation:
    """All that is fitted for one galaxy.

    Attributes
    ----------
    redshift
        Spectroscopic redshift, > 0.
    spectra
        Cameras, in any order, possibly none; or one `Spectrum`.
    photometry
        Total fluxes, or None.
    fiber_fraction
        ``(mean, sigma)`` of the Gaussian prior on f_fiber, or None when unknown (f_fiber is then 1 for a spectrum
        alone, that is: masses are those inside the fiber).
    targetid, ra, dec, zerr
        Identification; degrees; NaN where unknown.
    meta
        Anything else worth keeping with the result (EBV, PHOTSYS, file names, ...), plain scalars and strings.
    vdisp_kms
        Stellar velocity dispersion that somebody else measured, km/s; NaN where unknown. Fits take it where
        ``observing.vdisp_kms = "given"``.
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
    vdisp_kms: float = float("nan")

    def __post_init__(self) -> None:
        object.__setattr__(self, "targetid", exact_id(self.targetid))
        object.__setattr__(self, "spectra", _spectra(self.spectra))
        if self.photometry is not None and not isinstance(self.photometry, Photometry):
            raise InputError(f"photometry takes a Photometry or None, not {self.photometry!r:.80}")
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
        if not (np.isnan(self.vdisp_kms) or 0 <= self.vdisp_kms <= VDISP_MAX):
            raise UnusableTargetError(
                f"{who}: vdisp_kms is {self.vdisp_kms:g}; give 0 to {VDISP_MAX:g} km/s, or NaN", Status.BAD_DATA
            )
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

    def part(self, use: str) -> Observation:
        """The data to be fitted: ``"both"``, or ``"spectrum"`` or ``"photometry"`` alone."""
        if use == "both":
            return self
        return replace(self, photometry=None) if use == "spectrum" else replace(self, spectra=())

    @classmethod
    def from_specutils(cls, spectrum: Any, redshift: float | None = None, **options: Any) -> Observation:
        """An observation from a ``specutils.Spectrum``; see `provabgs.observe.other_spectra.from_specutils`.

        Parameters
        ----------
        spectrum
            With a flux unit and an uncertainty.
        redshift
            That of the spectrum where None.
        **options
            ``air``, ``ebv``, ``camera``, ``line_width``, ``photometry`` and further fields.
        """
        from provabgs.observe.other_spectra import from_specutils  # which builds on this module

        return from_specutils(spectrum, redshift, **options)

    @classmethod
    def from_sparcl(cls, record: Any, **options: Any) -> Observation:
        """An observation from a record of NOIRLab's SPARCL; see `provabgs.observe.sparcl.from_sparcl`.

        Parameters
        ----------
        record
            One of ``client.retrieve(...).records``: DESI, SDSS or BOSS.
        **options
            ``redshift``, ``ebv``, ``photometry``, ``fiber_fraction``, ``allow_warning``, ``allow_non_galaxy`` and
            ``units``.
        """
        from provabgs.observe.sparcl import from_sparcl  # which builds on this module

        return from_sparcl(record, **options)

    def digest(self) -> str:
        """SHA-256 over everything that a fit depends on; written with the posterior."""
        h = hashlib.sha256(repr((self.redshift, self.fiber_fraction)).encode())
        if np.isfinite(self.vdisp_kms):
            h.update(f"vdisp {self.vdisp_kms!r}".encode())
        for s in self.spectra:
            h.update(f"{s.camera}{s.sigma_aa!r}".encode() if isinstance(s.sigma_aa, float) else s.camera.encode())
            for array in (s.wave, s.flux, s.ivar, s.resolution, s.sigma_aa):
                if isinstance(array, np.ndarray):
                    h.update(np.ascontiguousarray(array).tobytes())
        if self.photometry is not None:
            h.update("|".join(self.photometry.bands).encode())
            h.update(self.photometry.flux.tobytes() + self.photometry.ivar.tobytes())
            if self.photometry.floor is not None:
                h.update(self.photometry.floor.tobytes())
            for curve in self.photometry.curves:
                h.update(curve.digest().encode())
        return h.hexdigest()
