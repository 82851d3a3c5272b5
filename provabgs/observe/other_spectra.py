"""Spectra as other instruments and packages hand them over: errors, masks, air wavelengths, line-spread functions.

Everything ends in a `Spectrum`: vacuum Angstrom, 1e-17 erg/s/cm2/A, inverse variance, corrected for Galactic dust.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError, UnusableTargetError
from provabgs.core.status import Status
from provabgs.observe.extinction import deredden_spectrum
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.plain import WAVE_UNIT, plain
from provabgs.sps.resolution import FWHM_PER_SIGMA
from provabgs.sps.sources.air import air_to_vacuum

IVAR_OF: Mapping[str, Any] = {"std": lambda e: e**-2.0, "var": lambda e: 1 / e, "ivar": lambda e: e}
"""Inverse variance from each kind of uncertainty, by `astropy.nddata.NDUncertainty.uncertainty_type`."""


def line_spread(
    wave: FloatArray,
    *,
    sigma_aa: ArrayLike | None = None,
    fwhm_aa: ArrayLike | None = None,
    resolving_power: ArrayLike | None = None,
) -> ArrayLike:
    """Gaussian sigma of a line-spread function, Angstrom, from whichever number an instrument quotes.

    Parameters
    ----------
    wave
        ``(npix,)`` Angstrom.
    sigma_aa, fwhm_aa
        Gaussian sigma, or full width at half maximum, Angstrom: a number or ``(npix,)``; a Quantity is converted.
    resolving_power
        R = lambda / FWHM, a number or ``(npix,)``.

    Returns
    -------
    array
        A number or ``(npix,)``; 0 where none is given.

    Raises
    ------
    InputError
        When more than one is given, or one is negative.
    """
    given = {"sigma_aa": sigma_aa, "fwhm_aa": fwhm_aa, "resolving_power": resolving_power}
    named = {name: value for name, value in given.items() if value is not None}
    if not named:
        return 0.0
    if len(named) > 1:
        raise InputError(f"{' and '.join(named)} say the same thing; give one of them")
    (name, value), *_ = named.items()
    numbers = plain(value, "" if name == "resolving_power" else WAVE_UNIT, name).values
    if not np.all(numbers > 0 if name == "resolving_power" else numbers >= 0):
        raise InputError(f"{name} is {np.min(numbers):g} somewhere; a line-spread function's width cannot be")
    if name == "sigma_aa":
        return numbers
    return (numbers if name == "fwhm_aa" else wave / numbers) / FWHM_PER_SIGMA


def make_spectrum(
    wave: Any,
    flux: Any,
    *,
    ivar: Any = None,
    error: Any = None,
    mask: ArrayLike | None = None,
    sigma_aa: ArrayLike | None = None,
    fwhm_aa: ArrayLike | None = None,
    resolving_power: ArrayLike | None = None,
    air: bool = False,
    ebv: float = 0.0,
    camera: str = "spectrum",
) -> Spectrum:
    """A `Spectrum` from what most instruments deliver.

    Parameters
    ----------
    wave
        ``(npix,)`` observed wavelength, Angstrom; a Quantity is converted.
    flux
        ``(npix,)`` 1e-17 erg/s/cm2/Angstrom, a Quantity is converted; masked pixels are not used.
    ivar, error
        ``(npix,)`` inverse variance or standard deviation of `flux`, in its unit: give one. Pixels whose error is 0,
        negative or not finite are not used.
    mask
        ``(npix,)`` true for pixels not to be used.
    sigma_aa, fwhm_aa, resolving_power
        Line-spread function, see `line_spread`.
    air
        Whether wavelengths are those in air; they are converted to vacuum (Ciddor 1996).
    ebv
        SFD E(B-V) of the Milky Way that the flux is to be corrected for; 0 for a flux that is.
    camera
        Name for messages and plots.

    Returns
    -------
    Spectrum
        Validated.

    Raises
    ------
    InputError
        When neither or both of `ivar` and `error` are given, for a wrong unit, or a wrong line-spread function.
    UnusableTargetError
        For arrays that cannot be a spectrum.
    """
    if (ivar is None) == (error is None):
        raise InputError(f"camera {camera!r}: give ivar or error, one of the two")
    lam = plain(wave, WAVE_UNIT, f"camera {camera!r}: wave").values
    lam = air_to_vacuum(lam) if air else lam
    width = line_spread(lam, sigma_aa=sigma_aa, fwhm_aa=fwhm_aa, resolving_power=resolving_power)
    weight = _ivar_of(error) if ivar is None else ivar
    made = Spectrum(camera, lam, flux, weight, sigma_aa=np.asarray(width))
    keep = np.ones(made.wave.size, bool) if mask is None else ~np.asarray(mask, dtype=bool)
    if keep.shape != made.wave.shape:
        raise UnusableTargetError(
            f"camera {camera!r}: mask has shape {keep.shape}, the spectrum {made.wave.size} pixels", Status.BAD_DATA
        )
    f, w = deredden_spectrum(made.wave, made.flux, np.where(keep, made.ivar, 0.0), ebv)
    return Spectrum(camera, made.wave, f, w, sigma_aa=made.sigma_aa)


def _ivar_of(error: Any) -> Any:
    """Inverse variance of a standard deviation, 0 where it is no error; a unit stays."""
    unit = getattr(error, "unit", None)
    mask = np.asarray(getattr(error, "mask", False), dtype=bool)
    bare = getattr(error, "unmasked", error)
    values = np.asarray(np.ma.getdata(getattr(bare, "value", bare)), dtype=np.float64)
    good = np.isfinite(values) & (values > 0) & ~mask
    out = np.divide(1.0, values**2, out=np.zeros_like(values), where=good)
    return out if unit is None else out * unit**-2


def from_specutils(
    spectrum: Any,
    redshift: float | None = None,
    *,
    air: bool = False,
    ebv: float = 0.0,
    camera: str = "spectrum",
    line_width: Mapping[str, ArrayLike] | None = None,
    photometry: Photometry | None = None,
    **more: Any,
) -> Observation:
    """An `Observation` from a ``specutils.Spectrum`` (``Spectrum1D`` of older versions).

    Parameters
    ----------
    spectrum
        One-dimensional, with a flux unit and an uncertainty. Any spectral axis (wavelength, frequency, energy) and any
        flux density (per wavelength or frequency) is converted; masked pixels are not used.
    redshift
        That of the spectrum where None.
    air, ebv, camera
        See `make_spectrum`.
    line_width
        Keyword of `line_spread` and its value, as in ``{"resolving_power": 2000}``.
    photometry
        Total fluxes.
    **more
        Further fields of `Observation`: targetid, ra, dec, fiber_fraction, meta.

    Returns
    -------
    Observation
        Validated.

    Raises
    ------
    InputError
        When the spectrum lacks an uncertainty or a redshift, has several dimensions, or is in units that are none of a
        spectrum.
    """
    from astropy import units as u  # only where there are units

    if np.ndim(spectrum.flux) != 1:
        raise InputError(f"the spectrum has shape {np.shape(spectrum.flux)}; give one of its rows")
    kind = str(getattr(spectrum.uncertainty, "uncertainty_type", "missing"))
    if kind not in IVAR_OF:
        raise InputError(
            f"the spectrum's uncertainty is {kind}; a fit needs a StdDevUncertainty, VarianceUncertainty or "
            "InverseVariance"
        )
    own = getattr(spectrum, "redshift", None)
    z = float(0.0 if own is None else own) if redshift is None else float(redshift)
    if redshift is None and z == 0:
        raise InputError("the spectrum has no redshift; give redshift=")
    per_wave = u.Unit("1e-17 erg / (s cm2 Angstrom)")
    try:
        wave = spectrum.spectral_axis.to(u.AA, u.spectral())
        to_ours = (1.0 * spectrum.flux.unit).to(per_wave, u.spectral_density(wave)).value
        flux = spectrum.flux.value * to_ours
    except u.UnitConversionError as error:
        raise InputError(f"the spectrum's units are none of a spectrum's ({error})") from None
    sigma2 = np.asarray(spectrum.uncertainty.array, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ivar = IVAR_OF[kind](sigma2) / to_ours**2
    unusable = ~np.isfinite(ivar) | (ivar < 0) | ~np.isfinite(flux)
    if spectrum.mask is not None:
        unusable |= np.asarray(spectrum.mask, dtype=bool)
    order = np.argsort(wave.value)
    made = make_spectrum(
        wave.value[order], np.where(unusable, 0.0, flux)[order], ivar=np.where(unusable, 0.0, ivar)[order],
        air=air, ebv=ebv, camera=camera, **_ordered(line_width or {}, order),
    )  # fmt: skip
    return Observation(redshift=z, spectra=(made,), photometry=photometry, **more)


def _ordered(line_width: Mapping[str, ArrayLike], order: Any) -> dict[str, Any]:
    """Widths of pixels in the order of rising wavelengths."""
    return {k: v if np.ndim(v) == 0 else np.asarray(v)[order] for k, v in line_width.items()}
