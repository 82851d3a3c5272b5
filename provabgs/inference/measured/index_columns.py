"""Spectral indices of the data and of the draws."""

from __future__ import annotations

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.inference.measured.quantity import VALUE_ERROR, Drawn, Measured
from provabgs.inference.measured.spectra import Spectra
from provabgs.observe.observation import Observation
from provabgs.sps.indices import DN4000, HDELTA_A, INDICES, MGB, Index, measure_index

_ABOUT: dict[str, tuple[str, str, str]] = {
    DN4000.name: ("DN4000", "", "narrow 4000 A break (Balogh et al. 1999)"),
    HDELTA_A.name: ("HDELTA_A", "Angstrom", "H delta absorption, HdA of Worthey & Ottaviani (1997)"),
    MGB.name: ("MGB", "Angstrom", "Mg b absorption of Trager et al. (1998)"),
}
REACH_AA = 100.0
"""Wavelengths beyond the outermost windows that are kept, Angstrom."""


def model_indices(spectra: Spectra) -> list[Drawn]:
    """Indices of the draws' rest-frame spectra, one value per draw."""
    wave = spectra.wave
    near = (wave > DN4000.blue[0] - REACH_AA) & (wave < MGB.red[1] + REACH_AA)
    return [
        Drawn(_quantity(i, "model"), measure_index(i, wave[near], spectra.luminosity[:, near]).value) for i in INDICES
    ]


def data_indices(observation: Observation | None) -> list[tuple[Measured, FloatArray]]:
    """Indices of the observed spectrum.

    Parameters
    ----------
    observation
        The galaxy; None or one without spectra has none.

    Returns
    -------
    list of (Measured, values)
        Value and error, rest frame; NaN where pixels do not cover an index.
    """
    if observation is None or not observation.spectra:
        return [(_quantity(i, "data"), np.full(2, np.nan)) for i in INDICES]
    wave, flux, ivar = merged_pixels(observation)
    rest = wave / (1 + observation.redshift)
    found = [measure_index(i, rest, flux, ivar) for i in INDICES]
    # equivalent widths are measured on rest-frame wavelengths: there is nothing left to divide by 1 + z
    return [
        (_quantity(i, "data"), np.array([float(m.value), float(m.error)])) for i, m in zip(INDICES, found, strict=True)
    ]


def merged_pixels(observation: Observation) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Wavelength, flux and ivar of all cameras' pixels in the order of wavelength, each ``(npix,)``."""
    joined = [np.concatenate([getattr(s, name) for s in observation.spectra]) for name in ("wave", "flux", "ivar")]
    order = np.argsort(joined[0], kind="stable")
    wave, flux, ivar = (a[order] for a in joined)
    return wave, flux, ivar


def _quantity(index: Index, of: str) -> Measured:
    column, unit, text = _ABOUT[index.name]
    ucd = "phot.flux.density;arith.ratio" if index is DN4000 else "spect.line.eqWidth"
    if of == "model":
        return Measured(
            f"{index.name}_model", f"{column}_MODEL", rf"{{\rm {index.name}}}".replace("_", r"\_"), unit,
            f"{text}, of the model: the library's resolution, no velocity dispersion, no noise templates",
            null="there are no draws, or the library does not reach it", ucd=ucd,
        )  # fmt: skip
    return Measured(
        index.name, column, rf"{{\rm {index.name}}}".replace("_", r"\_"), unit,
        f"{text}, of the data: not corrected for emission, resolution or velocity dispersion",
        suffixes=VALUE_ERROR, null="usable pixels cover less than 90 % of one of its windows", ucd=ucd,
    )  # fmt: skip
