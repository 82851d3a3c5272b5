"""Prospector's three parametric mocks and its chains (bd-j/exspect), made ready for fits of ours.

One galaxy, delayed exponential, redshift 0.1, FSPS with gas: ten bands of S/N 20, a spectrum of S/N 10 a pixel, and
both. Flux calibration of the spectrum is wrong by a smooth factor of up to 2.4, which Prospector fits as a polynomial.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.cosmology import WMAP9

from provabgs import Observation, Photometry, Spectrum
from provabgs.core.arrays import FloatArray
from provabgs.core.constants import C_AA, SOLAR_Z_PROVABGS, SPECTRUM_UNIT
from provabgs.core.errors import DataFileError
from studies.support.pieces import Arrays
from studies.support.prospector_data import MAGGY, chain_of

MOCKS = ("phot", "spec", "specphot")
REDSHIFT = 0.1
COSMOLOGY = "WMAP9"
T_AGE = float(WMAP9.age(REDSHIFT).value)
"""Age of the universe at the mock, Gyr. Prospector let stars be 13.8 Gyr old; draws of such are left out."""
TRUTH = {"logmass": 10.0, "logzsol": -0.3, "dust2": 0.3, "tage": 12.0, "tau": 4.0}
ORDER = 12
"""Of the polynomial that takes out the calibration."""
CLIP = 4.0
SN_PHOT, SN_SPEC = 20.0, 10.0
BANDS = {
    "galex_FUV": "galex-fuv",
    "galex_NUV": "galex-nuv",
    **{f"sdss_{b}0": f"sdss2010-{b}" for b in "ugriz"},
    **{f"twomass_{b}": f"twomass-{b}" for b in ("J", "H", "Ks")},
}
"""Names of sedpy, and of speclite."""


def read_mock(name: str, folder: Path) -> Arrays:
    """Arrays of a mock and of Prospector's chain.

    Parameters
    ----------
    name
        One of `MOCKS`.
    folder
        Of the files.

    Raises
    ------
    DataFileError
        Where the file is not there.
    """
    path = folder / f"mock_parametric_{name}.npz"
    if not path.is_file():
        raise DataFileError(f"{path}: not here; its arrays are those of bd-j/exspect's fitting/output, as .npz")
    with np.load(path, allow_pickle=False) as f:
        return {k: f[k] for k in f.files}


def has_spectrum(data: Arrays) -> bool:
    """Whether a mock has pixels."""
    return "wavelength" in data


def observation_of(data: Arrays, calibration: FloatArray | None = None) -> Observation:
    """A mock as an observation.

    Parameters
    ----------
    data
        Of a mock.
    calibration
        ``(npix,)`` factor that flux and error are divided by.
    """
    spectra: tuple[Spectrum, ...] = ()
    if has_spectrum(data):
        wave = data["wavelength"]
        cgs = MAGGY * C_AA / wave**2 / SPECTRUM_UNIT / (1.0 if calibration is None else calibration)
        ivar = np.where(data["mask"], 1 / (data["unc"] * cgs) ** 2, 0.0)
        spectra = (Spectrum("mock", wave, data["spectrum"] * cgs, ivar),)
    photometry = None
    if data["filters"].size:
        bands = tuple(BANDS[str(f)] for f in data["filters"])
        photometry = Photometry(bands, data["maggies"] * 1e9, 1 / (data["maggies_unc"] * 1e9) ** 2)
    fraction = (1.0, 0.3) if spectra and photometry is not None else None
    return Observation(REDSHIFT, spectra, photometry, fraction, targetid=1)


def smooth_ratio(spectrum: Spectrum, model: FloatArray) -> FloatArray:
    """Polynomial by which a spectrum differs from a model, as Prospector takes it out; lines and outliers clipped.

    Parameters
    ----------
    spectrum
        The data.
    model
        ``(npix,)`` the same pixels of a model.

    Returns
    -------
    FloatArray
        ``(npix,)``.
    """
    x = 2 * (spectrum.wave - spectrum.wave[0]) / np.ptp(spectrum.wave) - 1
    root = np.sqrt(spectrum.ivar)
    design = np.polynomial.legendre.legvander(x, ORDER)
    kept, ratio = root > 0, np.ones_like(x)
    for _ in range(5):
        a = (design * (model * root)[:, None])[kept]
        ratio = design @ np.linalg.lstsq(a, (spectrum.flux * root)[kept], rcond=None)[0]
        kept = (root > 0) & (np.abs(spectrum.flux - ratio * model) * root < CLIP)
    return np.asarray(ratio)


def delayed(tage: FloatArray, tau: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean age, Gyr, and log10 of the fraction formed in the last 100 Myr, of ``t exp(-t/tau)`` since `tage` ago.

    Parameters
    ----------
    tage, tau
        ``(n,)`` Gyr.
    """
    t = np.linspace(0, 1, 4001)[:, None] * tage
    rate = t * np.exp(-t / tau)
    total = np.trapezoid(rate, t, axis=0)

    def formed(x: FloatArray) -> FloatArray:
        return np.asarray(tau**2 * (1 - (1 + x / tau) * np.exp(-x / tau)))

    recent = 1 - formed(np.maximum(tage - 0.1, 0.0)) / formed(tage)
    return tage - np.trapezoid(rate * t, t, axis=0) / total, np.log10(np.maximum(recent, 1e-12))


def with_derived(draws: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Draws with mass-weighted age and log SFR of the last 100 Myr."""
    age, recent = delayed(draws["tage"], draws["tau"])
    return draws | {"age": age, "logsfr": draws["logmass"] + recent - 8.0}


def truth_of() -> dict[str, float]:
    """What the mocks were made of."""
    return {k: float(v[0]) for k, v in with_derived({k: np.array([v]) for k, v in TRUTH.items()}).items()}


def theirs(data: Arrays) -> dict[str, FloatArray]:
    """Prospector's draws of galaxies no older than the universe, and their weights."""
    chain = chain_of(data)
    chain["weight"] = np.where(chain["tage"] <= T_AGE, chain["weight"], 0.0)
    chain["weight"] /= chain["weight"].sum()
    return with_derived(chain | {"logmass": np.log10(chain["mass"])})


def made_up(name: str) -> Arrays:
    """Arrays of the same names without the files, for ``--smoke``."""
    rng, n = np.random.default_rng(1), 200
    data: Arrays = {"filters": np.array(list(BANDS) if name != "spec" else [], dtype="U16")}
    if name != "spec":
        flux = np.array([0.4, 0.4, 0.6, 1.6, 2.7, 3.5, 4.2, 5.9, 5.8, 6.3]) * 1e-8
        data |= {"maggies": flux, "maggies_unc": flux / SN_PHOT}
    if name != "phot":
        wave = np.linspace(4200.0, 7900.0, 400)
        flux = 2e-8 * (wave / 5500) ** 2
        data |= {"wavelength": wave, "mask": np.ones(400, dtype=bool), "unc": flux / SN_SPEC}
        data["spectrum"] = flux * (1 + rng.standard_normal(400) / SN_SPEC)
    labels = ["mass", "logzsol", "dust2", "tage", "tau"]
    centre = np.array([10 ** TRUTH["logmass"], *(TRUTH[k] for k in labels[1:])])
    chain = centre * (1 + 0.02 * rng.standard_normal((n, len(labels))))
    chain[:, 3] = np.minimum(chain[:, 3], T_AGE)
    data |= {"chain": chain, "theta_labels": np.array(labels), "weights": np.ones(n)}
    return data | {"sampling_duration_s": np.asarray(np.nan)}


def metallicity_bounds(low: float = -2.0, high: float = 0.19) -> tuple[float, float]:
    """Prospector's range of log Z/Zsun as Z of ours."""
    return (SOLAR_Z_PROVABGS * 10**low, SOLAR_Z_PROVABGS * 10**high)
