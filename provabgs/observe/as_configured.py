"""The data as a configuration takes them: other bands, curves, resolution or fiber fraction than the observation's.

By default nothing changes. The preset `released-edr` asks for what the production of the released catalog did.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from provabgs.core.errors import UnusableTargetError
from provabgs.core.status import Status
from provabgs.observe.filters import short_name
from provabgs.observe.observation import Observation, Photometry
from provabgs.observe.options import ASSUMED_VDISP_KMS, ObservingOptions


def as_configured(observation: Observation, options: ObservingOptions) -> Observation:
    """An observation with the bands, curves, resolution and fiber fraction that a configuration asks for.

    Parameters
    ----------
    observation
        As it was read; as it comes out when it has been through here before.
    options
        Their `bands`, `filter_group`, `resolution` and `fiber_error` are read.

    Returns
    -------
    Observation
        The same object where they ask for nothing.

    Raises
    ------
    UnusableTargetError
        When `bands` leaves none of a galaxy without a spectrum.
    """
    out = observation
    if options.fiber_error == "released" and out.fiber_fraction is not None:
        out = replace(out, fiber_fraction=_released_fraction(out))
    if options.resolution == "ignored" and any(s.resolution is not None or np.any(s.sigma_aa) for s in out.spectra):
        out = replace(out, spectra=tuple(replace(s, resolution=None, sigma_aa=0.0) for s in out.spectra))
    if out.photometry is not None and (options.bands is not None or options.filter_group is not None):
        bands = _photometry(out.photometry, options)
        if bands is None and not out.spectra:
            raise UnusableTargetError(
                f"TARGETID {out.targetid}: has none of the bands {', '.join(options.bands or ())} of observing.bands, "
                "and no spectrum",
                Status.NO_PHOTOMETRY,
            )
        out = replace(out, photometry=bands)
    return out


DISPERSION_AA = (3600.0, 7400.0)
"""Rest wavelengths at which spectra tell the dispersion: beyond them the library that ships is too coarse."""


def fits_dispersion(observation: Observation, options: ObservingOptions) -> bool:
    """Whether the velocity dispersion is a parameter of the fit of one galaxy.

    Masks have no say, so that a galaxy's pixels lead to the same choice whatever is fitted or drawn of them.

    Parameters
    ----------
    observation
        Its spectra decide where `vdisp_kms` is ``"auto"``.
    options
        Their `vdisp_kms` and `vdisp_snr` are read.

    Returns
    -------
    bool
        False without a spectrum.
    """
    if options.vdisp_kms == "auto":
        return spectrum_snr(observation) >= options.vdisp_snr
    return options.vdisp_kms == "fit" and bool(observation.spectra)


def spectrum_snr(observation: Observation) -> float:
    """Median S/N per pixel of a galaxy's spectra within `DISPERSION_AA`; -inf where there is no such pixel."""
    low, high = (edge * (1 + observation.redshift) for edge in DISPERSION_AA)
    snr = [(s.flux * np.sqrt(s.ivar))[(s.ivar > 0) & (s.wave >= low) & (s.wave <= high)] for s in observation.spectra]
    all_pixels = np.concatenate(snr) if snr else np.zeros(0)
    return float(np.median(all_pixels)) if all_pixels.size else float("-inf")


def dispersion_kms(observation: Observation, options: ObservingOptions) -> float:
    """Stellar velocity dispersion of a fit that does not fit it, km/s.

    Parameters
    ----------
    observation
        Its own is taken where `options` say so.
    options
        Their `vdisp_kms` is a number, ``"given"``, or ``"auto"`` for a galaxy of low S/N.
    """
    if not isinstance(options.vdisp_kms, str):
        return float(options.vdisp_kms)
    known = options.vdisp_kms == "given" and np.isfinite(observation.vdisp_kms)
    return observation.vdisp_kms if known else ASSUMED_VDISP_KMS


def assumed_dispersion(observation: Observation, options: ObservingOptions) -> str:
    """What is to be said where a galaxy's own dispersion should be taken and is not known; empty for nothing.

    Parameters
    ----------
    observation, options
        As for `dispersion_kms`.
    """
    if options.vdisp_kms != "given" or np.isfinite(observation.vdisp_kms) or not observation.spectra:
        return ""
    return f"no velocity dispersion is given: {ASSUMED_VDISP_KMS:g} km/s"


def _photometry(photometry: Photometry, options: ObservingOptions) -> Photometry | None:
    """The bands that are asked for, under the curves that are asked for; None where there are none."""
    keep = [i for i, b in enumerate(photometry.bands) if options.bands is None or short_name(b) in options.bands]
    if not keep:
        return None
    group = options.filter_group
    names = tuple(photometry.bands[i] if group is None else f"{group}-{short_name(photometry.bands[i])}" for i in keep)
    floor = None if photometry.floor is None else photometry.floor[keep]
    return Photometry(names, photometry.flux[keep], photometry.ivar[keep], floor)


def _released_fraction(observation: Observation) -> tuple[float, float]:
    """Mean of the fiber's fraction, and as its error the mean times the error of the r flux in nanomaggies.

    A relative error would be the error over the flux: this one depends on the unit.
    """
    assert observation.fiber_fraction is not None
    mean, sigma = observation.fiber_fraction
    phot = observation.photometry
    if phot is None:
        return mean, sigma
    r = [float(w) for b, w in zip(phot.bands, phot.ivar, strict=True) if short_name(b) == "r" and w > 0]
    return (mean, mean / float(np.sqrt(r[0]))) if r else (mean, sigma)
