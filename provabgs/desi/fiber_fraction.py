"""The fiber against the whole galaxy: prior on the fiber fraction, and the flux scale of DESI spectra.

Legacy Surveys quote FIBERFLUX, the light of the galaxy's model inside a 1.5 arcsec aperture in 1 arcsec seeing. DESI
calibrates a spectrum such that a *point source* in the fiber shows its total flux; multiplied by
PSF_TO_FIBER_SPECFLUX (the share of a point source's light that the fiber takes, ~0.79) it shows the flux inside
the fiber, which is what FIBERFLUX predicts.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np

from provabgs.desi.coadd import Columns
from provabgs.desi.fiberstatus import exposures_are_good
from provabgs.desi.photometry import Row, fiber_transmission, finite

PsfMode = Literal["spectrum", "prior", "ignore"]
"""What is done with PSF_TO_FIBER_SPECFLUX: multiply the spectrum (default), divide the prior's mean by it and leave
the spectrum, or neither (as the published catalog)."""
UNKNOWN_SCALE_SIGMA = 0.3
"""Fractional width of the prior where the spectrum is on the point-source scale and the factor is not known."""


class FiberFraction(NamedTuple):
    """Gaussian prior on spectrum flux / total flux."""

    mean: float
    sigma: float
    band: str


def fiber_fraction(row: Row, floor: float, *, ebv: float = 0.0, half_corrected: bool = False) -> FiberFraction | None:
    """Mean FIBERFLUX/FLUX in r (z, then g where r is unmeasured), None when no band allows it.

    Its sigma is the total flux's photometric error with `floor` (fractional) added in quadrature: FIBERFLUX is of a
    model of the galaxy in nominal seeing, from which a single object's spectrum departs by 10-20 %.

    Parameters
    ----------
    row
        Columns FIBERFLUX_R, FLUX_R, FLUX_IVAR_R (and Z, G).
    floor
        Fractional width added in quadrature.
    half_corrected
        FLUX is free of Galactic dust, FIBERFLUX is not (FastSpecFit before 3.3.0); mended with `ebv`.
    """
    for band in ("R", "Z", "G"):
        fiber, total = finite(row, f"FIBERFLUX_{band}"), finite(row, f"FLUX_{band}")
        ivar = finite(row, f"FLUX_IVAR_{band}")
        if not (math.isfinite(fiber) and math.isfinite(total) and fiber > 0 and total > 0 and ivar > 0):
            continue
        if half_corrected:
            fiber /= fiber_transmission(row, ebv, band)
        mean = min(fiber / total, 1.0)
        return FiberFraction(mean, mean * math.hypot(1.0 / (total * math.sqrt(ivar)), floor), band)
    return None


def psf_to_fiber(row: Row, targetid: int, exposures: Columns) -> float | None:
    """PSF_TO_FIBER_SPECFLUX of one target, averaged over the exposures that went into its coadd.

    FIBERMAP's own mean counts rejected exposures, whose factor is 0, in reductions before mid-2023 (desispec
    issue 2054): taken at its word it would dim such a spectrum by a third. EXP_FIBERMAP, where present, is averaged
    over usable exposures instead.

    Returns
    -------
    factor
        In (0, 1.5], or None when no column gives one.
    """
    mean = _exposure_mean(targetid, exposures)
    if mean is not None:
        return mean
    for key in ("MEAN_PSF_TO_FIBER_SPECFLUX", "PSF_TO_FIBER_SPECFLUX"):
        value = finite(row, key)
        if 0 < value <= 1.5:
            return value
    return None


def _exposure_mean(targetid: int, exposures: Columns) -> float | None:
    """Mean factor over this target's usable exposures in EXP_FIBERMAP; None without any."""
    if "PSF_TO_FIBER_SPECFLUX" not in exposures or "TARGETID" not in exposures:
        return None
    factor = exposures["PSF_TO_FIBER_SPECFLUX"].astype(np.float64)
    good = (exposures["TARGETID"] == targetid) & (factor > 0) & (factor <= 1.5)
    used = _used_exposures(exposures)
    if np.any(good & used):
        good &= used
    return float(factor[good].mean()) if np.any(good) else None


def _used_exposures(exposures: Columns) -> Any:
    """``(nexp,)`` whether an exposure went into any camera's coadd (IN_COADD_*, else FIBERSTATUS)."""
    flags = [exposures[f"IN_COADD_{c}"].astype(bool) for c in "BRZ" if f"IN_COADD_{c}" in exposures]
    if flags:
        return np.logical_or.reduce(flags)
    if "FIBERSTATUS" in exposures:
        return exposures_are_good(exposures["FIBERSTATUS"])
    return np.ones(exposures["TARGETID"].size, dtype=bool)
