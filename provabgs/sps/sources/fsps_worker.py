"""The process in which python-fsps runs: ``python -m provabgs.sps.sources.fsps_worker REQUEST.json OUTPUT.npz``.

FSPS's Fortran ends the whole process with exit code 0 when a file displeases it, so success is the output file, which
appears under its name only when complete. Progress is printed as lines that begin with `PROGRESS_MARK`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from provabgs.core.errors import InputError
from provabgs.sps.sources.base import PROGRESS_MARK, REFUSAL_MARK, BuildOptions

IMF_CHABRIER = 1


def compute(options: BuildOptions) -> dict[str, Any]:
    """SSPs as asked for in `options` (``logzsol``, ``wave_range``, ``nebular``).

    Returns
    -------
    dict
        ``wave (nwave,)``, ``log_age (nage,)``, ``logzsol (nmet,)``, ``spectrum (nmet, nage, nwave)`` in Lsun/Angstrom
        per Msun formed, ``surviving_mass (nmet, nage)``, ``z_solar``, ``isochrones``, ``spectra``.

    Raises
    ------
    InputError
        When a metallicity lies outside FSPS's grid, where it would extrapolate, or no wavelength is left.
    """
    import fsps  # reads SPS_HOME when imported

    population = fsps.StellarPopulation(
        zcontinuous=1,
        sfh=0,
        imf_type=IMF_CHABRIER,
        add_dust_emission=False,
        dust1=0.0,
        dust2=0.0,
        add_neb_emission=options.nebular,
        add_neb_continuum=options.nebular,
    )
    # FSPS keeps its metallicities in single precision; what is meant is the round number.
    own = np.round(np.log10(population.zlegend / population.solar_metallicity), 4)
    logzsol = own if options.logzsol is None else np.array(options.logzsol, dtype=float)
    if logzsol[0] < own[0] or logzsol[-1] > own[-1]:
        raise InputError(
            f"logzsol {logzsol[0]:g}..{logzsol[-1]:g} leaves FSPS's grid {own[0]:g}..{own[-1]:g}; stay within"
        )
    keep = options.select_wave(population.wavelengths)
    report(0, logzsol.size, "engine ready")
    spectra, masses = [], []
    for i, value in enumerate(logzsol):
        population.params["logzsol"] = float(value)
        if options.nebular:
            population.params["gas_logz"] = float(value)
        _, spectrum = population.get_spectrum(tage=0.0, peraa=True)
        spectra.append(spectrum[:, keep].astype(np.float32))
        masses.append(np.array(population.stellar_mass))
        report(i + 1, logzsol.size, f"log Z/Zsun = {value:+.2f}")
    isochrones, library, _ = (name.decode().strip() for name in population.libraries)
    return {
        "wave": population.wavelengths[keep],
        "log_age": np.array(population.ssp_ages),
        "logzsol": logzsol,
        "spectrum": np.stack(spectra),
        "surviving_mass": np.stack(masses),
        "z_solar": round(float(population.solar_metallicity), 6),
        "isochrones": isochrones,
        "spectra": library,
    }


def report(done: int, total: int, what: str) -> None:
    """Print one line of progress for the process that waits.

    Parameters
    ----------
    done
        Steps done.
    total
        Steps in all.
    what
        What is done, in words.
    """
    print(f"{PROGRESS_MARK} {done} {total} {what}", flush=True)


def main(argv: list[str]) -> int:
    """Read the request, compute, write the answer."""
    request, output = Path(argv[0]), Path(argv[1])
    try:
        answer = compute(BuildOptions(**json.loads(request.read_text())))
    except InputError as err:
        print(REFUSAL_MARK, err, flush=True)
        return 2
    partial = output.with_suffix(".partial.npz")
    np.savez(partial, **answer)
    partial.replace(output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
