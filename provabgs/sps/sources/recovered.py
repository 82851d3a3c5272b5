"""SSP source: the FSPS MIST + MILES + Chabrier grid recovered from the published PROVABGS burst emulator.

The grid lets the package ship a default library without FSPS. Its errors are known and repaired or stated here.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from provabgs.core.constants import FSPS_LSUN_CGS
from provabgs.core.errors import DataFileError, InputError
from provabgs.sps.library import SSPLibrary
from provabgs.sps.sources.base import BuildOptions, Progress, silent

_ARRAYS = ("wave", "logage", "logzsol", "Z", "spec", "mstar")
_SOURCE = (
    "FSPS SSPs, MIST isochrones, MILES library (BaSeL outside 3600-7400 A), Chabrier IMF, no dust, no nebular "
    "emission. Ages >= 10 Myr: the published PROVABGS burst emulator (seeds 0-199) evaluated with the dust off. "
    "Ages < 10 Myr and 2000-2305 A: an FSPS 0.4.8 run with MIST v2.5"
)
FSPS_CITATION = (
    "FSPS: Conroy, Gunn & White 2009 (ApJ 699, 486), Conroy & Gunn 2010 (ApJ 712, 833); MIST: Choi et al. 2016 "
    "(ApJ 823, 102); MILES: Sanchez-Blazquez et al. 2006 (MNRAS 371, 703); IMF: Chabrier 2003 (PASP 115, 763)"
)
_SPECTRUM_ERRORS = (
    "against the published NMF emulator over 100 prior draws: mean offset <= 1.1 % in every band of 2000-50000 A, "
    "scatter 0.3-1.9 %, optical shape 0.5 %; weakest below 3000 A (up to 7 % at old ages) and at 3-5 um (4 %)"
)


def build_recovered(options: BuildOptions, progress: Progress = silent) -> SSPLibrary:
    """Library from the recovered grid at ``options.input``; a `provabgs.sps.sources.base.Source`.

    Parameters
    ----------
    options
        ``input`` is the grid (.npz); ``wave_range`` is honoured.
    progress
        Called once, when the grid is read.

    Returns
    -------
    SSPLibrary
        See `read_recovered`.

    Raises
    ------
    InputError
        When ``input`` is not given, or an option is of no use here.
    DataFileError
        When the file is missing or not such a grid.
    """
    options.refuse("recovered", ("logzsol", "nebular", "timeout", "young"))
    if options.input is None:
        raise InputError("source 'recovered' needs the grid to read: give --input GRID.npz")
    library = read_recovered(options.input)
    keep = options.select_wave(library.wave)
    progress(1, 1, "grid read")
    return replace(library, wave=library.wave[keep], spectrum=np.ascontiguousarray(library.spectrum[:, :, keep]))


def read_recovered(path: str | Path) -> SSPLibrary:
    """Read the recovered grid and repair the surviving mass.

    FSPS's surviving mass exceeds the mass formed at the youngest ages (its pre-main-sequence isochrones), which is
    clipped to 1; at the highest metallicity it is wrong at all ages and is replaced by that of the neighbouring
    metallicity.

    Parameters
    ----------
    path
        The ``.npz`` with ``wave, logage, logzsol, Z, spec, mstar``: spectra in Lsun/Angstrom per Msun formed.

    Returns
    -------
    SSPLibrary
        12 metallicities, 104 ages, 4899 vacuum wavelengths.

    Raises
    ------
    DataFileError
        When the file is missing, is not an ``.npz``, or lacks one of the arrays.
    """
    path = Path(path)
    if not path.exists():
        raise DataFileError(f"{path}: no such file; give the recovered FSPS grid (.npz) with --input")
    try:
        with np.load(path, allow_pickle=False) as npz:
            arrays = {name: npz[name] for name in _ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as err:
        raise DataFileError(f"{path}: not the recovered SSP grid ({err}); it must hold {', '.join(_ARRAYS)}") from err
    surviving, note = _mend_surviving_mass(arrays["mstar"].astype(np.float64), arrays["logage"])
    return SSPLibrary(
        wave=arrays["wave"].astype(np.float64),
        log_age=arrays["logage"].astype(np.float64),
        # The file's Z is float32 / 0.0142 to 1e-9; the exact grid values are the rounded ones.
        logzsol=np.round(arrays["logzsol"].astype(np.float64), 6),
        spectrum=arrays["spec"].astype(np.float32),
        surviving_mass=surviving,
        z_solar=0.0142,
        imf="Chabrier (2003)",
        lsun_cgs=FSPS_LSUN_CGS,
        provenance={
            "source": _SOURCE,
            "licence": "MIT (the published emulator's licence)",
            "citation": "PROVABGS: Hahn et al. 2023 (arXiv:2202.01809); emulator: Kwon et al. 2023 (arXiv:2209.14323); "
            + FSPS_CITATION,
            "convention": "logzsol is what FSPS was given; PROVABGS quotes it as Z = 0.0190 * 10**logzsol",
            "input_file": path.name,
            "input_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "known_errors": f"spectra: {_SPECTRUM_ERRORS}. surviving mass: {note}",
        },
    )


def _mend_surviving_mass(mstar: NDArray[np.float64], log_age: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    """Repaired ``(nmet, nage)`` surviving mass and what was done, in words."""
    mended = mstar.copy()
    mended[-1] = mended[-2]
    above = mended > 1
    oldest = f"{10 ** (log_age[above.any(axis=0)].max() - 6):.2g} Myr" if above.any() else "no age"
    note = (
        f"highest metallicity replaced by its neighbour (had {mstar[-1, -1]:.2f} at the oldest age against "
        f"{mstar[-2, -1]:.2f}); {int(above.sum())} nodes above 1 (up to {mended.max():.2f}, ages <= {oldest}) "
        "clipped to 1"
    )
    return np.minimum(mended, 1.0), note
