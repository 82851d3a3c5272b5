"""SSP source: E-MILES (Vazdekis et al. 2016, MNRAS 463, 3409), an independent set beside FSPS and BC03.

Six metallicities and 25 ages of 63 Myr and more on Padova 2000 isochrones, as the source distribution of ppxf 8.2.6
carries the files. The files are read where they lie; nothing of them ships with this package. E-MILES has no younger
stars: they are filled from another library (`fill_young`), and the provenance says so.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from provabgs.core.errors import DataFileError, InputError
from provabgs.sps.library import SSPLibrary
from provabgs.sps.sources.air import air_to_vacuum
from provabgs.sps.sources.base import BuildOptions, Progress, silent

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
JOIN_WINDOW_AA = (4000.0, 7000.0)
JOIN_AGES_GYR = (0.06, 1.1)
"""Wavelengths and ages over which the fill library's light per unit mass is scaled to that of E-MILES."""

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
        ``young`` is the library that fills ages below 63 Myr; the shipped FSPS library when None. The wavelengths
        kept are those that both have.
    progress
        Called once per metallicity.

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
        return fill_young(read_emiles(options.input, options, progress), young)
    with tempfile.TemporaryDirectory(prefix="provabgs-emiles-") as folder:
        _unpack(options.input, Path(folder))
        return fill_young(read_emiles(Path(folder), options, progress), young)


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
            "known_errors": "no age below 63 Myr; abundance ratios follow the Milky Way (alpha-rich at low [M/H]); "
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


def fill_young(library: SSPLibrary, young: SSPLibrary) -> SSPLibrary:
    """Add the ages of `young` below the youngest of `library`.

    One factor, the same at all metallicities, ages and wavelengths, scales the light per unit mass of `young`: the
    median of ``L_library / L_young`` over `JOIN_AGES_GYR` and `JOIN_WINDOW_AA`. It stands for the other IMF. Surviving
    masses of `young` are raised by what the two libraries differ by at the youngest age of `library`, fading
    to nothing at age 0.

    Parameters
    ----------
    library
        Without young stars.
    young
        Reaches below and above the youngest age of `library`.

    Returns
    -------
    SSPLibrary
        On the wavelengths of `library` that `young` has too, and the metallicities of `library`.

    Raises
    ------
    InputError
        When `young` has no younger age, or they share no wavelengths.
    """
    keep = (library.wave >= young.wave[0]) & (library.wave <= young.wave[-1])
    before = young.log_age < library.log_age[0] - 1e-6
    if not before.any() or before.all() or np.count_nonzero(keep) < 2:
        raise InputError(
            f"the library for young stars covers {young.age_gyr[0] * 1e3:.3g} Myr to {young.age_gyr[-1]:.3g} Gyr and "
            f"{young.wave[0]:.0f}-{young.wave[-1]:.0f} A; it must overlap {library.age_gyr[0] * 1e3:.3g} Myr and "
            f"{library.wave[0]:.0f}-{library.wave[-1]:.0f} A"
        )
    wave = library.wave[keep]
    spectrum = np.ascontiguousarray(library.spectrum[:, :, keep])
    factor = _light_ratio(library, young)
    masses = np.array([np.interp(library.logzsol, young.logzsol, m) for m in young.surviving_mass.T]).T
    join = np.array([np.interp(library.log_age[0], young.log_age, row) for row in masses])
    share = young.age_gyr[before] / library.age_gyr[0]
    masses = masses[:, before] + (library.surviving_mass[:, :1] - join[:, None]) * share
    filled = np.array([_on_grid(row, young.wave, wave) for row in _at_metallicity(young, library.logzsol, before)])
    return SSPLibrary(
        wave=wave,
        log_age=np.concatenate([young.log_age[before], library.log_age]),
        logzsol=library.logzsol,
        spectrum=np.concatenate([(factor * filled).astype(np.float32), spectrum], axis=1),
        surviving_mass=np.concatenate([np.clip(masses, 0.0, 1.0), library.surviving_mass], axis=1),
        z_solar=library.z_solar,
        imf=library.imf,
        lsun_cgs=library.lsun_cgs,
        provenance={
            **library.provenance,
            "young": f"ages below {library.age_gyr[0] * 1e3:.3g} Myr are those of another library (sha256 "
            f"{young.digest()}, {young.provenance.get('source', 'source unknown')}), times {factor:.4f}, the ratio of "
            f"light per Msun formed over {JOIN_WINDOW_AA[0]:.0f}-{JOIN_WINDOW_AA[1]:.0f} A, "
            f"{JOIN_AGES_GYR[0] * 1e3:.0f} Myr-{JOIN_AGES_GYR[1]:.1f} Gyr",
        },
    )


def _at_metallicity(
    library: SSPLibrary, logzsol: NDArray[np.float64], ages: NDArray[np.bool_] | slice
) -> Iterable[NDArray[np.float64]]:
    """Spectra ``(nage, nwave)`` of some ages of a library at each of `logzsol`, linear in log Z, clamped."""
    for z in np.clip(logzsol, library.logzsol[0], library.logzsol[-1]):
        i = int(np.clip(np.searchsorted(library.logzsol, z) - 1, 0, library.logzsol.size - 2))
        a = (z - library.logzsol[i]) / (library.logzsol[i + 1] - library.logzsol[i])
        yield (1 - a) * library.spectrum[i, ages] + a * library.spectrum[i + 1, ages]


def _on_grid(rows: NDArray[np.float64], old: NDArray[np.float64], new: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([np.interp(new, old, row) for row in rows])


def _light_ratio(library: SSPLibrary, young: SSPLibrary) -> float:
    """Median of the light per mass of `library` over that of `young` at equal log10(Z/Zsun) and age.

    Each in its own solar luminosity, so that the factor turns the one unit into the other, too.
    """
    ages = (library.age_gyr >= JOIN_AGES_GYR[0]) & (library.age_gyr <= JOIN_AGES_GYR[1])
    ages[0] = True
    mine, other = ((x.wave >= JOIN_WINDOW_AA[0]) & (x.wave <= JOIN_WINDOW_AA[1]) for x in (library, young))
    if np.count_nonzero(mine) < 2 or np.count_nonzero(other) < 2:
        raise InputError(
            f"both libraries must cover {JOIN_WINDOW_AA[0]:.0f}-{JOIN_WINDOW_AA[1]:.0f} A to be joined; widen "
            "--wave-min/--wave-max"
        )
    own = np.trapezoid(library.spectrum[:, ages][:, :, mine].astype(float), library.wave[mine], axis=-1)
    rows = np.array(
        [np.trapezoid(s[:, other], young.wave[other]) for s in _at_metallicity(young, library.logzsol, slice(None))]
    )
    fill = np.array([np.interp(library.log_age[ages], young.log_age, row) for row in rows])
    return float(np.median(own / fill))
