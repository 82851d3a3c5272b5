"""Nebular grid from python-fsps (Byler et al. 2017): `python -m provabgs.data.build_nebular_fsps -o OUT.h5`.

Needs python-fsps and FSPS's data (``$SPS_HOME``), as ``provabgs ssp build --source fsps`` does. Ionising photons are
those of the same SSPs as that command makes, so that a library and a grid from FSPS belong together; by them FSPS's own
emission is divided, which leaves its tables. FSPS runs in a process of its own: its Fortran ends the process when a
file displeases it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import C_AA, FSPS_LSUN_CGS
from provabgs.core.errors import DataFileError, ProvabgsError
from provabgs.data.build_nebular import continuum_wavelengths
from provabgs.sps.nebular import FLOOR, LYMAN_LIMIT_AA, NebularGrid, ionising_photon_rate
from provabgs.sps.sources.fsps_source import check_python_fsps, check_sps_home
from provabgs.sps.sources.fsps_worker import IMF_CHABRIER

LOG_U = (-4.0, -3.5, -3.0, -2.5, -2.0, -1.5, -1.0)
GAS_LOGZ = (-2.0, -1.5, -1.0, -0.6, -0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2)
"""Nodes of the tables that FSPS carries (Byler et al. 2017, section 2)."""
MAX_LOG_AGE = 8.0
NO_LIGHT = 1e-60
"""What FSPS calls no line at all is 1e-70, Lsun per Msun formed."""
CITATION = "Byler et al. 2017 (ApJ 840, 44); Conroy, Gunn & White 2009 (ApJ 699, 486); CLOUDY: Ferland et al. 2013"


def compute(log_u: Sequence[float], gas_logz: Sequence[float]) -> dict[str, Any]:
    """Arrays of a `NebularGrid`, by FSPS in this process."""
    import fsps  # reads SPS_HOME when imported

    population = fsps.StellarPopulation(
        zcontinuous=1,
        sfh=0,
        imf_type=IMF_CHABRIER,
        add_dust_emission=False,
        dust1=0.0,
        dust2=0.0,
        add_neb_emission=True,  # at the start: FSPS reads its nebular tables once, or not at all
        add_neb_continuum=True,
        nebemlineinspec=False,
    )
    population.params["add_neb_emission"] = False
    wave, log_age = np.array(population.wavelengths), np.array(population.ssp_ages)
    logzsol = np.round(np.log10(population.zlegend / population.solar_metallicity), 4)
    young = log_age <= MAX_LOG_AGE + 1e-6
    stars = np.array([_spectra(population, wave, young, logzsol=z) for z in logzsol])
    rate = ionising_photon_rate(wave, stars, FSPS_LSUN_CGS)

    solar = int(np.argmin(np.abs(logzsol)))
    population.params["add_neb_emission"] = True
    grid = continuum_wavelengths()
    lines, continuum = [], []
    for z in gas_logz:
        for u in log_u:
            total = _spectra(population, wave, young, logzsol=logzsol[solar], gas_logz=z, gas_logu=u)
            gas = np.where(wave > LYMAN_LIMIT_AA, total - stars[solar], 0.0)
            lines.append(np.array(population.emline_luminosity)[young])
            continuum.append([np.interp(grid, wave, row) for row in gas])
    lit = np.max(lines, axis=(0, 2)) > NO_LIGHT  # FSPS lights no gas around stars older than its tables say
    per_photon = FSPS_LSUN_CGS / rate[solar, lit][:, None]
    shape = (len(gas_logz), len(log_u), -1)
    return {
        "log_u": np.array(log_u),
        "gas_logz": np.array(gas_logz),
        "gas_log_age": log_age[young][lit],
        "line_wave": np.array(population.emline_wavelengths),
        "lines": _by_age(np.array(lines)[:, lit] * per_photon, shape),
        "wave": grid,
        "continuum": _by_age(np.maximum(np.array(continuum)[:, lit], 0.0) * per_photon, shape),
        "star_log_z": np.log10(population.zlegend),
        "star_log_age": log_age[young][lit],
        "log_photon_rate": np.log10(np.maximum(rate[:, lit], 1.0)),
    }


def _spectra(population: Any, wave: FloatArray, young: NDArray[np.bool_], **parameters: float) -> FloatArray:
    """SSPs of the young ages, ``(nage, nwave)`` Lsun/Angstrom per Msun formed."""
    for name, value in parameters.items():
        population.params[name] = float(value)
    _, lnu = population.get_spectrum(tage=0.0)
    return np.asarray(lnu)[young] * C_AA / wave**2


def _by_age(values: FloatArray, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """``(ngas * nu, nage, n)`` to ``(ngas, nage, nu, n)``; what single precision cannot hold is none."""
    values = values.reshape(shape[0], shape[1], *values.shape[1:])
    return np.where(values > FLOOR, values, 0.0).swapaxes(1, 2).astype(np.float32)


def build(log_u: Sequence[float] = LOG_U, gas_logz: Sequence[float] = GAS_LOGZ) -> NebularGrid:
    """The grid from FSPS's data under ``$SPS_HOME``.

    Raises
    ------
    MissingDependencyError, DataFileError
        When python-fsps or its data are absent, or the engine gave up.
    """
    version, home = check_python_fsps(), check_sps_home()
    with tempfile.TemporaryDirectory(prefix="provabgs-nebular-") as folder:
        output = Path(folder) / "answer.npz"
        request = json.dumps({"log_u": list(log_u), "gas_logz": list(gas_logz)})
        command = [sys.executable, "-m", "provabgs.data.build_nebular_fsps", "--worker", request, "-o", str(output)]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if not output.exists():
            words = [line for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
            raise DataFileError(
                f"SPS_HOME={home}: FSPS stopped (exit code {ended.returncode}), its last words: "
                f"{(words or ['none'])[-1]!r}; mend or re-clone the data"
            )
        with np.load(output, allow_pickle=False) as npz:
            arrays = {name: npz[name] for name in npz.files}
    order = np.argsort(arrays["line_wave"], kind="stable")
    arrays["lines"], arrays["line_wave"] = arrays["lines"][..., order], arrays["line_wave"][order]
    return NebularGrid(
        line_names=tuple(f"{w:.2f}" for w in arrays["line_wave"]),
        provenance={
            "source": f"python-fsps {version}: nebular tables of the isochrones' own spectra, and their photons",
            "licence": "MIT (FSPS, python-fsps)",
            "citation": CITATION,
            "command": "python -m provabgs.data.build_nebular_fsps",
        },
        **arrays,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 2 with one line on a bad input."""
    parser = argparse.ArgumentParser(prog="python -m provabgs.data.build_nebular_fsps", description=__doc__)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path, required=True, help="grid to write, .h5")
    options = parser.parse_args(argv)
    if options.worker:
        partial = options.output.with_suffix(".partial.npz")
        np.savez(partial, **compute(**json.loads(options.worker)))
        partial.replace(options.output)
        return 0
    try:
        grid = build()
        grid.save(options.output)
    except (ProvabgsError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB, sha256 {grid.digest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
