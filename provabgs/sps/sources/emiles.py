"""SSP source: E-MILES (Vazdekis et al. 2016, MNRAS 463, 3409), an independent set beside FSPS and BC03.

Six metallicities and 25 ages of 63 Myr and more on Padova 2000 isochrones, as the source distribution of ppxf 8.2.6
carries the files. The files are read where they lie; nothing of them ships with this package. E-MILES has no younger
stars, and no flux beyond 8950 A from those of up to 80 Myr (solar) or 250 Myr ([M/H] = -1.71): both gaps are filled
from another library (`provabgs.sps.sources.fill`), and the provenance says so.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from provabgs.core.errors import DataFileError, InputError
from provabgs.sps.library import SSPLibrary
from provabgs.sps.sources.air import air_to_vacuum
from provabgs.sps.sources.base import BuildOptions, Progress, silent
from provabgs.sps.sources.fill import fill_red, fill_young

FOLDER_NAME = "ppxf/miles_models"
"""Where the files lie within ppxf."""
SPECTRUM_NAME = re.compile(r"Eun1\.30Z([mp])(\d\.\d\d)T(\d\d\.\d{4})_.*\.fits")
"""Unimodal IMF of slope 1.30, sign and value of [M/H], age in Gyr."""
MASS_NAME = "Vazdekis2012_ssp_mass_Padova00_UN_baseFe_v10.0.txt"
"""Surviving masses by IMF slope, [M/H] and age, beside the spectra."""
EMILES_SOLAR_Z = 0.019
"""Solar metallicity of the Padova 2000 isochrones, by which [M/H] is log10(Z / 0.019)."""
EMILES_LSUN_CGS = 3.826e33
"""Solar luminosity of the MILES units, erg/s."""
_HELP = (
    "pip download --no-deps --no-binary :all: ppxf==8.2.6 and give the .tar.gz, or the folder ppxf/miles_models of "
    "it, with --input"
)


class _Grid(NamedTuple):
    """What the files hold: [M/H], ages (Gyr), air wavelengths (A), spectra ``(nmet, nage, nwave)``."""

    m_h: NDArray[np.float64]
    age: NDArray[np.float64]
    wave_air: NDArray[np.float64]
    spectrum: NDArray[np.float32]
    sha256: str


def build_emiles(options: BuildOptions, progress: Progress = silent) -> SSPLibrary:
    """Library from the E-MILES files of ppxf; a `provabgs.sps.sources.base.Source`.

    Parameters
    ----------
    options
        ``input`` is the ``.tar.gz`` of ppxf 8.2.6, its unpacked folder, or the folder of the FITS files.
        ``young`` is the library that fills the gaps; the shipped FSPS library when None. The wavelengths
        kept are those that both have.
    progress
        Called once per metallicity.

    Returns
    -------
    SSPLibrary
        E-MILES, with young ages and missing red ends filled from the young library.

    Raises
    ------
    DataFileError
        When the files are missing, incomplete or of another kind.
    InputError
        When an option is of no use here, or the fill library lacks ages or wavelengths.
    """
    options.refuse("emiles", ("logzsol", "nebular", "timeout"))
    if options.input is None:
        raise InputError(f"source 'emiles' needs the files to read: {_HELP}")
    young = SSPLibrary.default() if options.young is None else SSPLibrary.load(options.young)
    if not options.input.exists():
        raise DataFileError(f"{options.input}: no such file; {_HELP}")
    if options.input.is_dir():
        library = read_emiles(options.input, options, progress)
    else:
        with tempfile.TemporaryDirectory(prefix="provabgs-emiles-") as folder:
            _unpack(options.input, Path(folder))
            library = read_emiles(Path(folder), options, progress)
    return fill_young(fill_red(library, young), young)


def _unpack(path: Path, folder: Path) -> None:
    """Write the spectra and the mass table of a ppxf source distribution into `folder`, flat."""
    found = 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name).name
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None and (SPECTRUM_NAME.fullmatch(name) or name == MASS_NAME):
                    (folder / name).write_bytes(content.read())
                    found += 1
    except (OSError, tarfile.TarError, EOFError) as err:
        raise DataFileError(f"{path}: not a source distribution ({err}); {_HELP}") from err
    if not found:
        raise DataFileError(f"{path}: no file {FOLDER_NAME}/Eun1.30*.fits in it; {_HELP}")


def read_emiles(folder: Path, options: BuildOptions, progress: Progress = silent) -> SSPLibrary:
    """Read the FITS files of `folder` and convert them to vacuum; ages below 63 Myr are absent.

    Parameters
    ----------
    folder
        Holds ``Eun1.30Z*T*.fits`` (or holds `FOLDER_NAME`) and the mass table.
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
        When files are missing, or are not such files.
    """
    for inner in (folder / FOLDER_NAME, folder / "miles_models"):
        folder = inner if inner.is_dir() else folder
    grid = _read_grid(folder, progress)
    wave = air_to_vacuum(grid.wave_air)
    keep = options.select_wave(wave)
    # Per Angstrom of vacuum: the interval has grown by the refractive index (its dispersion, 2e-5, neglected).
    stretch = (grid.wave_air / wave)[keep]
    spectrum = (grid.spectrum[:, :, keep] * stretch).astype(np.float32)
    return SSPLibrary(
        wave=wave[keep],
        log_age=np.log10(grid.age) + 9,
        logzsol=grid.m_h,
        spectrum=spectrum,
        surviving_mass=_surviving_mass(folder / MASS_NAME, grid.m_h, grid.age),
        z_solar=EMILES_SOLAR_Z,
        imf="Salpeter (unimodal, slope 1.30), 0.1-100 Msun",
        lsun_cgs=EMILES_LSUN_CGS,
        provenance={
            "source": "E-MILES SSPs v11, baseFe, Padova 2000 isochrones, as carried by ppxf 8.2.6",
            "licence": "MILES: use for non-commercial purposes is granted; ppxf: proprietary; not redistributed here",
            "citation": "Vazdekis et al. 2016 (MNRAS 463, 3409); Girardi et al. 2000 (A&AS 141, 371); ppxf: Cappellari "
            "2023 (MNRAS 526, 3273)",
            "conversion": "air to vacuum above 2000 A (Ciddor 1996), luminosity per Angstrom of vacuum",
            "known_errors": "no age below 63 Myr; no light beyond 8950 A below 80-250 Myr; red and infrared light of "
            "ages 0.1-1 Gyr up to 1.6 times FSPS's and BC03's; abundances of the Milky Way (alpha-rich at low [M/H]); "
            "resolution 5 A below 3060 A, 3 A to 3541 A, 2.51 A to 8950 A (FWHM), 60 km/s (sigma) beyond",
            "masses": "living stars and remnants, MILES table of v10 (Padova 2000, unimodal 1.30)",
            "input_sha256": grid.sha256,
        },
    )


def _read_grid(folder: Path, progress: Progress) -> _Grid:
    """All spectra of a folder; they must fill the product of their metallicities and ages."""
    files: dict[tuple[float, float], Path] = {}
    for path in sorted(folder.glob("Eun1.30*.fits")):
        match = SPECTRUM_NAME.fullmatch(path.name)
        if match:
            files[float(match[2]) * (-1 if match[1] == "m" else 1), float(match[3])] = path
    m_h, age = (np.array(sorted({key[i] for key in files})) for i in range(2))
    if m_h.size < 2 or age.size < 2:
        raise DataFileError(f"{folder}: fewer than two metallicities or ages of Eun1.30Z*T*.fits; {_HELP}")
    missing = [f"[M/H] = {z:+.2f}, {t:g} Gyr" for z in m_h for t in age if (z, t) not in files]
    if missing:
        raise DataFileError(f"{folder}: no E-MILES file for {missing[0]} ({len(missing)} missing); {_HELP}")
    spectra, digest, wave = [], hashlib.sha256(), np.zeros(0)
    for i, z in enumerate(m_h):
        for t in age:
            this, spectrum = _read_spectrum(files[z, t])
            if wave.size and not np.array_equal(this, wave):
                raise DataFileError(f"{files[z, t]}: other wavelengths than the files before; download them again")
            wave = this
            spectra.append(spectrum)
            digest.update(spectrum.tobytes())
        progress(i + 1, m_h.size, f"[M/H] = {z:+.2f}")
    return _Grid(m_h, age, wave, np.array(spectra).reshape(m_h.size, age.size, wave.size), digest.hexdigest())


def _read_spectrum(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Air wavelengths and Lsun/A per Msun formed of one file."""
    try:
        with fits.open(path, memmap=False) as hdus:
            header = hdus[0].header
            spectrum = np.asarray(hdus[0].data, dtype=np.float32)
            pixel = np.arange(spectrum.size, dtype=np.float64) + 1 - float(header.get("CRPIX1", 1))
            wave: NDArray[np.float64] = float(header["CRVAL1"]) + float(header["CDELT1"]) * pixel
    except (OSError, KeyError, TypeError, ValueError, IndexError) as err:
        raise DataFileError(f"{path}: not an E-MILES spectrum ({err}); {_HELP}") from err
    if spectrum.ndim != 1 or spectrum.size < 2:
        raise DataFileError(f"{path}: not an E-MILES spectrum (shape {spectrum.shape}); {_HELP}")
    return wave, spectrum


def _surviving_mass(path: Path, m_h: NDArray[np.float64], age: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(nmet, nage)`` mass in living stars and remnants per Msun formed, from the table's rows of slope 1.30."""
    try:
        rows = [line.split()[1:6] for line in path.read_text().splitlines() if line.startswith("UN")]
        table = np.array(rows, dtype=np.float64)
        table = table[np.isclose(table[:, 0], 1.30)]
        out = np.full((m_h.size, age.size), np.nan)
        for i, z in enumerate(m_h):
            for j, t in enumerate(age):
                # the table quotes [M/H] with more digits than the names: -0.3960 for -0.40
                near = (np.abs(table[:, 1] - z) < 0.02) & (np.abs(table[:, 2] / t - 1) < 0.01)
                out[i, j] = table[near][0, 4]
    except (OSError, ValueError, IndexError) as err:
        raise DataFileError(
            f"{path}: no surviving masses of unimodal slope 1.30 for these SSPs ({err}); {_HELP}"
        ) from err
    return out
