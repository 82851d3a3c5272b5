"""The spectral resolution of SSP libraries: how wide the stars' lines are before any galaxy broadens them.

A library says so itself, in ``provenance["resolution"]``, or is known by the name in ``provenance["source"]``.
"""

from __future__ import annotations

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError
from provabgs.sps.library import SSPLibrary

FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))

KNOWN: tuple[tuple[str, str], ...] = (
    # Vazdekis et al. 2016 (MNRAS 463, 3409), fig. 8; beyond 8950 A it is constant in velocity and left out
    ("E-MILES", "1680-3060: 3.0, 3060-3541: 5.0, 3541-8950: 2.51"),
    # MILES, and STELIB beyond it (Bruzual & Charlot 2003)
    ("BC03", "3540-7350: 2.54, 7350-8750: 3.0"),
    # Beifiori et al. 2011 (A&A 531, A109): 2.54 A; the library's own wavelengths in FSPS end at 7400 A
    ("MILES", "3600-7400: 2.54"),
)
"""Part of a source's name, and ranges of rest wavelength with the FWHM there, Angstrom; the first that fits counts."""


def library_sigma(library: SSPLibrary) -> FloatArray:
    """Gaussian width of a library's lines.

    Parameters
    ----------
    library
        Whose provenance says its resolution, or a source that is known.

    Returns
    -------
    numpy.ndarray
        ``(nwave,)`` sigma in rest-frame Angstrom at the library's wavelengths; 0 outside the ranges that are given:
        there the wavelengths are too far apart for any width to be subtracted.

    Raises
    ------
    ConfigError
        When neither is known, or the provenance cannot be read.
    """
    source = library.provenance.get("source", "unknown")
    text = library.provenance.get("resolution") or next((r for name, r in KNOWN if name in source), None)
    if text is None:
        raise ConfigError(
            f"the resolution of SSP library {source!r} is not known; write it into its provenance as resolution = "
            "'3600-7400: 2.54' (range and FWHM, Angstrom), or set observing.library_width = 'ignored'"
        )
    fwhm = np.zeros(library.wave.size)
    try:
        for part in text.split(","):
            span, value = part.split(":")
            low, high = (float(x) for x in span.split("-"))
            fwhm[(library.wave >= low) & (library.wave <= high)] = float(value)
    except ValueError:
        raise ConfigError(
            f"SSP library {source!r}: resolution {text!r} is not of the form '3600-7400: 2.54, 7400-9000: 3'"
        ) from None
    return fwhm / FWHM_PER_SIGMA
