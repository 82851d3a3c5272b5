"""Build the dust-emission grid that ships.

Run, with the seven tables of Draine & Li (2007, ApJ 657, 810) as FSPS carries them (``FSPS/dust/dustem`` of
https://github.com/cconroy20/fsps, MIT licence)::

    python -m provabgs.data.build_dust_emission --dust FOLDER -o data/dust_emission.h5

Emission. Each table has L_nu per hydrogen atom for dust in one radiation field of strength Umin and for dust in
fields from Umin to 1e6. Both are turned to L per Angstrom and divided by their integral over all wavelengths of the
table (1 um to 1 cm); the integrals are kept, because a mixture of both is a mixture per hydrogen atom.
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
from provabgs.sps.dust_grid import DustGrid
from provabgs.sps.sources.precision import round_mantissa

QPAH = {"00": 0.47, "10": 1.12, "20": 1.77, "30": 2.50, "40": 3.19, "50": 3.90, "60": 4.58}
"""Mass fraction of dust in PAHs, per cent, by the table's number (Draine & Li 2007, table 3)."""
UMIN = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7, 8, 12, 15, 20, 25)
"""Radiation fields of the pairs of columns, in units of the field near the Sun."""
LONGEST_AA = 4.0e5
"""End of the wavelengths that are kept, Angstrom: W4 ends at 28 um."""
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


def build(folder: Path) -> DustGrid:
    """The grid from seven tables."""
    digest, shapes, powers = hashlib.sha256(), [], []
    for number in QPAH:
        path = folder / f"DL07_MW3.1_{number}.dat"
        wave_um, l_nu = read_table(path)
        digest.update(path.read_bytes())
        wave, shape, power = normalised(wave_um, l_nu)
        kept = wave <= LONGEST_AA
        shapes.append(shape[:, kept].reshape(len(UMIN), 2, -1))
        powers.append(power.reshape(len(UMIN), 2))
    all_powers = np.stack(powers)
    return DustGrid(
        wave=wave[kept],
        qpah=np.array(list(QPAH.values())),
        umin=np.array(UMIN, np.float64),
        shape=round_mantissa(np.stack(shapes).astype(np.float32), BITS),
        power=all_powers / all_powers[0, UMIN.index(1), 0],
        provenance={
            "source": "dust emission of Draine & Li 2007",
            "citation": "Draine & Li 2007 (ApJ 657, 810); FSPS: Conroy, Gunn & White 2009 (ApJ 699, 486)",
            "dust": "DL07_MW3.1_{00..60}.dat of FSPS, Milky Way grains with R_V = 3.1; 3.3 um PAH feature reduced by "
            "50 %, as those files say",
            "dust_sha256": f"{digest.hexdigest()} (of the seven files, one after another)",
            "licence": "MIT (FSPS's)",
            "normalisation": f"over {wave_um[0]:g}-{wave_um[-1]:g} um by the trapezoidal rule",
            "known_errors": "emission begins at 1 um",
            "command": "python -m provabgs.data.build_dust_emission --dust FOLDER",
        },
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 2 with one line on a bad input."""
    parser = argparse.ArgumentParser(prog="python -m provabgs.data.build_dust_emission", description=__doc__)
    parser.add_argument("--dust", type=Path, required=True, help="folder with DL07_MW3.1_00.dat ... 60.dat")
    parser.add_argument("-o", "--output", type=Path, required=True, help="grid to write, .h5")
    options = parser.parse_args(argv)
    try:
        grid = build(options.dust)
        grid.save(options.output)
    except (ProvabgsError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB, sha256 {grid.digest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
