"""Emission-line masks: the stellar model has no nebular lines, so pixels near them do not enter the likelihood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import BoolArray, FloatArray
from provabgs.observe.options import LineMask, ObservingOptions

if TYPE_CHECKING:
    from provabgs.observe.observation import Observation

PUBLISHED_LINES: dict[str, float] = {
    "[OII] 3728": 3728.5,
    "Hbeta": 4862.7,
    "[OIII] 4960": 4960.3,
    "[OIII] 5008": 5008.2,
    "Halpha": 6564.6,
}
"""Lines masked by the published pipeline (Hahn et al. 2023, section 4), rest vacuum Angstrom (NIST)."""
WEAK_LINES: dict[str, float] = {
    "[NeIII] 3870": 3869.9,
    "H8 + HeI 3890": 3890.2,
    "[NeIII] 3968 + Hepsilon": 3970.1,
    "Hdelta": 4102.9,
    "Hgamma": 4341.7,
    "[OIII] 4364": 4364.4,
    "HeI 5877": 5877.2,
    "[OI] 6302": 6302.0,
    "[NII] 6549": 6549.9,
    "[NII] 6585": 6585.3,
    "HeI 6680": 6680.0,
    "[SII] 6718": 6718.3,
    "[SII] 6733": 6732.7,
    "[ArIII] 7138": 7137.8,
    "[OII] 7322": 7321.9,
    "[OII] 7332": 7332.2,
    "[SIII] 9071": 9071.1,
    "[SIII] 9533": 9533.2,
}
"""Further lines that a strong starburst shows; masked by ``"extended"``, half as wide."""


DEFAULT_LINES: dict[str, float] = {
    "[NII] 6585": 6585.3,
    "[SII] 6718": 6718.3,
    "[SII] 6733": 6732.7,
    "HeI 5877": 5877.2,
}
"""Lines that most star-forming galaxies show besides the published five; masked by ``"default"``, half as wide."""
INTERSTELLAR_LINES: dict[str, float] = {"NaI D": 5893.6}
"""Absorption by the galaxy's own interstellar gas, which no stellar library has; half as wide, in ``"default"`` and
``"extended"``. Na D alone was 43 % of the chi^2 of one real spectrum."""
CALCIUM_LINES: dict[str, float] = {"CaII K": 3934.8, "CaII H": 3969.6}
"""Ca H and K, interstellar in part, stellar for the most part: masked by ``"extended"`` alone."""


STRONG_LINES = ("[OIII] 5008", "Halpha")
"""Either of these in emission makes ``"auto"`` the extended mask."""
SEEN_EW_AA, SEEN_SNR = 10.0, 10.0
"""Equivalent width (rest frame, Angstrom) and S/N from which a strong line counts as seen. At 10 A of H alpha, H delta
and H gamma are filled by about 1 A, as much as a Gyr of age changes their absorption."""
CORE_AA, SIDE_AA = 8.0, (40.0, 100.0)
"""Half width of a line, and distances from it between which its continuum is measured, rest frame, Angstrom."""


def masked_pixels(observation: Observation, wave: FloatArray, options: ObservingOptions) -> BoolArray:
    """Pixels that a fit leaves out at emission lines.

    Parameters
    ----------
    observation
        The galaxy, whose spectra choose the mask where it is ``"auto"``.
    wave
        ``(npix,)`` observed vacuum wavelength, Angstrom.
    options
        Give the mask and its width.

    Returns
    -------
    numpy.ndarray
        ``(npix,)`` True where masked.
    """
    kind = options.line_mask
    if kind == "auto":
        kind = "extended" if lines_seen(observation) else "default"
    return emission_line_mask(wave, observation.redshift, kind, options.line_mask_half_width_aa)


def lines_seen(observation: Observation) -> bool:
    """Whether a strong line stands out of its continuum: weaker ones then matter, too."""
    return any(
        _is_seen(s.wave / (1 + observation.redshift) - PUBLISHED_LINES[line], s.flux, s.ivar, 1 + observation.redshift)
        for s in observation.spectra
        for line in STRONG_LINES
    )


def _is_seen(offset: FloatArray, flux: FloatArray, ivar: FloatArray, stretch: float) -> bool:
    """One line of one camera; `offset` is the distance from it, rest frame."""
    core = (np.abs(offset) < CORE_AA) & (ivar > 0)
    side = (np.abs(offset) > SIDE_AA[0]) & (np.abs(offset) < SIDE_AA[1]) & (ivar > 0)
    if np.count_nonzero(core) < 3 or np.count_nonzero(side) < 6:
        return False
    pixel = np.gradient(offset)[core] * stretch
    continuum = float(np.median(flux[side]))
    light = np.sort((flux[core] - continuum) * pixel)
    error = float(np.sqrt(np.sum(pixel**2 / ivar[core])))
    # without its two brightest pixels, so that a cosmic ray is no line
    return bool(light[:-2].sum() > SEEN_SNR * error and light.sum() > SEEN_EW_AA * stretch * continuum)


def emission_line_mask(
    wave: NDArray[np.float64], redshift: float, kind: LineMask, half_width_aa: float
) -> NDArray[np.bool_]:
    """Pixels to leave out.

    Parameters
    ----------
    wave
        ``(npix,)`` observed vacuum wavelength, Angstrom.
    redshift
        Of the galaxy.
    kind
        ``"published"``: five strong lines. ``"extended"``: weaker ones too, for strong starbursts, at half the width
        (it costs the cores of the higher Balmer lines, which carry age information in quiescent galaxies).
        ``"default"``: lines of ordinary star-forming galaxies and interstellar Na D. ``"none"``: nothing. (``"auto"``
        is resolved by `masked_pixels`.)
    half_width_aa
        Half width around each strong line, observed Angstrom.

    Returns
    -------
    NDArray
        ``(npix,)`` True where masked.
    """
    masked = np.zeros(wave.shape, dtype=bool)
    if kind == "none":
        return masked
    for line in PUBLISHED_LINES.values():
        masked |= np.abs(wave - line * (1 + redshift)) < half_width_aa
    narrow: dict[str, float] = {}
    if kind in ("default", "extended"):
        narrow |= DEFAULT_LINES | INTERSTELLAR_LINES
    if kind == "extended":
        narrow |= WEAK_LINES | CALCIUM_LINES
    for line in narrow.values():
        masked |= np.abs(wave - line * (1 + redshift)) < half_width_aa / 2
    return masked
