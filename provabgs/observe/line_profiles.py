"""Emission lines as pixels see them: Gaussian profiles of unit flux through the instrument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse, special

from provabgs.core.arrays import BoolArray, FloatArray
from provabgs.core.constants import C_KMS
from provabgs.observe.linespread import pixel_edges, resolution_matrix
from provabgs.observe.observation import Observation, Spectrum

MARGIN = 12
"""Pixels beyond a stretch whose light the resolution matrix brings into it."""
MIN_SIGMA_AA = 0.05


class Stretch(NamedTuple):
    """A stretch of one camera."""

    rows: slice
    """Pixels of the camera."""
    edges: FloatArray
    """``(n + 1,)`` edges of these pixels and of those in the margin, Angstrom."""
    resolution: sparse.csr_matrix | None
    """``(npix, n)`` from the latter to the former."""
    inner: slice
    """The former among the latter."""
    sigma_aa: float


@dataclass(frozen=True, eq=False)
class Window:
    """The pixels of all cameras in a range of rest-frame wavelengths.

    Attributes
    ----------
    stretches
        One for each camera that has pixels there.
    wave, flux, ivar
        ``(npix,)`` observed Angstrom, 1e-17 erg/s/cm2/A and its inverse variance, one camera after the other.
    places
        ``(npix,)`` the pixels' places among those of all cameras.
    redshift
        Of the galaxy.
    """

    stretches: tuple[Stretch, ...]
    wave: FloatArray
    flux: FloatArray
    ivar: FloatArray
    places: FloatArray
    redshift: float

    def profile(self, line_aa: float, sigma_kms: float, shift_kms: float) -> FloatArray:
        """A line of unit flux.

        Parameters
        ----------
        line_aa
            Rest-frame vacuum wavelength, Angstrom.
        sigma_kms
            Its intrinsic dispersion, km/s.
        shift_kms
            Its velocity with respect to the redshift, km/s.

        Returns
        -------
        numpy.ndarray
            ``(npix,)`` 1/Angstrom.
        """
        centre = line_aa * (1 + self.redshift) * (1 + shift_kms / C_KMS)
        return np.concatenate([_profile(s, centre, centre * sigma_kms / C_KMS) for s in self.stretches])

    def covered(self, line_aa: float, sigma_kms: float) -> float:
        """Share of a line on usable pixels, of the camera that has the most of it.

        Parameters
        ----------
        line_aa
            Rest-frame vacuum wavelength, Angstrom.
        sigma_kms
            Its dispersion, km/s.

        Returns
        -------
        float
            Between 0 and 1.
        """
        shares, first = [0.0], 0
        profile = self.profile(line_aa, sigma_kms, 0.0)
        for s in self.stretches:
            width = np.diff(s.edges)[s.inner]
            of = slice(first, first + width.size)
            shares.append(float(np.sum(profile[of] * width * (self.ivar[of] > 0))))
            first = of.stop
        return max(shares)


def window(observation: Observation, low_aa: float, high_aa: float) -> Window | None:
    """The window of a range of wavelengths.

    Parameters
    ----------
    observation
        The galaxy.
    low_aa, high_aa
        Rest frame, vacuum, Angstrom.

    Returns
    -------
    Window or None
        None where no pixel lies in it.
    """
    z, stretches, places, first = observation.redshift, [], [], 0
    parts: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    for s in observation.spectra:
        inside: BoolArray = (s.wave >= low_aa * (1 + z)) & (s.wave <= high_aa * (1 + z))
        at = np.flatnonzero(inside)
        if at.size:
            stretches.append(_stretch(s, slice(int(at[0]), int(at[-1]) + 1)))
            places.append(first + at)
            parts.append((s.wave[at], s.flux[at], s.ivar[at]))
        first += s.wave.size
    if not stretches:
        return None
    wave, flux, ivar = (np.concatenate([p[k] for p in parts]) for k in range(3))
    return Window(tuple(stretches), wave, flux, ivar, np.concatenate(places), z)


def _stretch(s: Spectrum, rows: slice) -> Stretch:
    margin = MARGIN if s.resolution is not None else 0
    low, high = max(rows.start - margin, 0), min(rows.stop + margin, s.wave.size)
    matrix = None
    if s.resolution is not None:
        matrix = sparse.csr_matrix(resolution_matrix(s.resolution))[rows, low:high]
    sigma = float(np.median(np.broadcast_to(s.sigma_aa, s.wave.shape)[rows])) if s.resolution is None else 0.0
    return Stretch(rows, pixel_edges(s.wave)[low : high + 1], matrix, slice(rows.start - low, rows.stop - low), sigma)


def _profile(s: Stretch, centre: float, sigma_aa: float) -> FloatArray:
    """Pixel averages of a Gaussian of unit area, through the resolution matrix where there is one."""
    sigma = max(float(np.hypot(sigma_aa, s.sigma_aa)), MIN_SIGMA_AA)
    mean = np.diff(special.ndtr((s.edges - centre) / sigma)) / np.diff(s.edges)
    return np.asarray(mean[s.inner] if s.resolution is None else s.resolution @ mean)
