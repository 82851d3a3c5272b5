"""Mock observations as DESI files: coadd, redrock, photometry inside FIBERMAP, and the truth beside them.

The files are read by the ordinary reader (`provabgs.desi.read_observations`), which knows nothing of mocks. Truth
tables are FITS with one row per galaxy; columns carry units.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from provabgs.core.errors import DataFileError, InputError
from provabgs.desi import decode_targetid
from provabgs.mocks.histories import SimulatedGalaxies, true_properties
from provabgs.mocks.make import MockGalaxy
from provabgs.mocks.photometry import LEGACY, PHOTSYS, magnitude

_BANDS = tuple(LEGACY.bands[name] for name in LEGACY.fitted_bands())
_OPTICAL = ("g", "r", "z")
_RELEASE = 9010
TRUTH_UNITS = {
    "Z": "",
    "LOGMSTAR_FORMED": "dex(Msun)",
    "LOGSFR_1GYR": "dex(Msun / yr)",
    "LOGSFR_100MYR": "dex(Msun / yr)",
    "LOGZ_MW": "dex",
    "T_AGE_MW": "Gyr",
    "F_FIBER": "",
    "TAU_V": "",
    "COS_INCLINATION": "",
    "MU": "",
    "VDISP_BULGE": "km / s",
    "HALF_LIGHT": "arcsec",
    **{str(LEGACY.bands[name].magnitude): "mag" for name in _OPTICAL},
    str(LEGACY.bands["r"].fiber_magnitude): "mag",
    "SNR_B": "",
    "SNR_R": "",
    "SNR_Z": "",
}
"""Columns of the truth table after TARGETID and GALAXY_ID, with their units; magnitudes are noiseless."""


def coadd_name(chunk: int) -> str:
    """File name of one chunk's coadd; its redrock file is beside it as the reader expects."""
    return f"coadd-mock-bright-{chunk}.fits"


def write_desi_files(mocks: Sequence[MockGalaxy], directory: str | Path, chunk: int = 0) -> tuple[Path, Path]:
    """Write one coadd and one redrock file; returns their paths.

    Files are written under a temporary name and renamed, so that an interrupted run leaves no half file behind.
    """
    if not mocks:
        raise InputError("no mock galaxies to write")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    coadd = directory / coadd_name(chunk)
    redrock = directory / coadd.name.replace("coadd", "redrock")
    _write(coadd, [fits.PrimaryHDU(), _table("FIBERMAP", _fibermap(mocks)), *_exposures(mocks), *_cameras(mocks)])
    redshifts = Table(
        {
            "TARGETID": _ids(mocks),
            "Z": [m.redshift for m in mocks],
            "ZERR": np.full(len(mocks), 1e-5),
            "ZWARN": np.zeros(len(mocks), dtype=np.int64),
            "SPECTYPE": ["GALAXY"] * len(mocks),
            "SUBTYPE": [""] * len(mocks),
            "DELTACHI2": np.full(len(mocks), 1e4),
        }
    )
    _write(redrock, [fits.PrimaryHDU(), _table("REDSHIFTS", redshifts)])
    return coadd, redrock


def _ids(mocks: Sequence[MockGalaxy]) -> NDArray[np.int64]:
    return np.array([m.targetid for m in mocks], dtype=np.int64)


def _table(name: str, table: Table) -> fits.BinTableHDU:
    hdu = fits.table_to_hdu(table)
    hdu.name = name
    return hdu


def _write(path: Path, hdus: list[Any]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    hdus[0].header["ORIGIN"] = "provabgs mock"
    fits.HDUList(hdus).writeto(temporary, overwrite=True)
    temporary.replace(path)


def _fibermap(mocks: Sequence[MockGalaxy]) -> Table:
    n = len(mocks)
    decoded = [decode_targetid(m.targetid) for m in mocks]
    columns: dict[str, Any] = {
        "TARGETID": _ids(mocks),
        "COADD_FIBERSTATUS": np.zeros(n, dtype=np.int32),
        "TARGET_RA": [m.ra for m in mocks],
        "TARGET_DEC": [m.dec for m in mocks],
        "OBJTYPE": ["TGT"] * n,
        "RELEASE": np.full(n, _RELEASE, dtype=np.int16),
        "BRICKID": np.array([d.brickid for d in decoded], dtype=np.int32),
        "BRICK_OBJID": np.array([d.objid for d in decoded], dtype=np.int32),
        "MORPHTYPE": ["SER"] * n,
        "EBV": np.zeros(n, dtype=np.float32),
        "SHAPE_R": np.array([m.photometry.half_light for m in mocks], dtype=np.float32),
        "PHOTSYS": [PHOTSYS] * n,
        "BGS_TARGET": np.full(n, 2, dtype=np.int64),
        "COADD_NUMEXP": np.array([m.conditions.n_exposure for m in mocks], dtype=np.int16),
        "COADD_EXPTIME": np.array([m.conditions.exposure_s for m in mocks], dtype=np.float32),
    }
    for j, band in enumerate(_BANDS):
        columns[band.flux] = np.array([m.photometry.flux[j] for m in mocks], dtype=np.float32)
        columns[band.ivar] = np.array([m.photometry.ivar[j] for m in mocks], dtype=np.float32)
    for j, band in enumerate(_BANDS):
        if band.fiberflux is None:
            continue
        fiber = [m.photometry.fiber_fraction * m.photometry.flux[j] for m in mocks]
        columns[band.fiberflux] = np.array(fiber, dtype=np.float32)
        columns[band.fiberflux.replace("FIBER", "FIBERTOT")] = columns[band.fiberflux]
    return Table(columns)


def _exposures(mocks: Sequence[MockGalaxy]) -> list[Any]:
    """EXP_FIBERMAP (one row per exposure) and SCORES."""
    who = [m for m in mocks for _ in range(m.conditions.n_exposure)]
    exposures = Table(
        {
            "TARGETID": _ids(who),
            "EXPTIME": [m.conditions.exposure_s / m.conditions.n_exposure for m in who],
            "FIBERSTATUS": np.zeros(len(who), dtype=np.int32),
            "PSF_TO_FIBER_SPECFLUX": [m.conditions.psf_to_fiber for m in who],
        }
    )
    scores = {"TARGETID": _ids(mocks)}
    for j, camera in enumerate("BRZ"):
        snr = [float(np.median(m.spectrum[j].flux * np.sqrt(m.spectrum[j].ivar))) for m in mocks]
        scores[f"MEDIAN_COADD_SNR_{camera}"] = np.array(snr, dtype=np.float32)
    return [_table("EXP_FIBERMAP", exposures), _table("SCORES", Table(scores))]


def _cameras(mocks: Sequence[MockGalaxy]) -> list[Any]:
    hdus: list[Any] = []
    for j, first in enumerate(mocks[0].spectrum):
        name = first.camera.upper()
        flux = np.array([m.spectrum[j].flux for m in mocks], dtype=np.float32)
        images = {
            "WAVELENGTH": first.wave,
            "FLUX": flux,
            "IVAR": np.array([m.spectrum[j].ivar for m in mocks], dtype=np.float32),
            "MASK": np.zeros(flux.shape, dtype=np.int32),
            "RESOLUTION": np.array([m.spectrum[j].resolution for m in mocks], dtype=np.float32),
        }
        units = {"WAVELENGTH": "Angstrom", "FLUX": "10**-17 erg/(s cm2 Angstrom)"}
        units["IVAR"] = "10**+34 (s2 cm4 Angstrom2) / erg2"
        for kind, data in images.items():
            hdu = fits.ImageHDU(data, name=f"{name}_{kind}")
            if kind in units:
                hdu.header["BUNIT"] = units[kind]
            hdus.append(hdu)
    return hdus


def truth_table(mocks: Sequence[MockGalaxy], galaxies: SimulatedGalaxies) -> Table:
    """True properties of each mock galaxy; see `TRUTH_UNITS` and `provabgs.mocks.histories.true_properties`."""
    rows = [m.row for m in mocks]
    truth = true_properties(galaxies.select(rows))
    median_snr = [[float(np.median(c.true_flux * np.sqrt(c.ivar))) for c in m.spectrum] for m in mocks]
    snr = np.reshape(median_snr, (len(mocks), -1))
    mags = magnitude(np.reshape([m.photometry.true_flux for m in mocks], (len(mocks), -1)))
    fraction = np.array([m.photometry.fiber_fraction for m in mocks])
    values = {
        "Z": [m.redshift for m in mocks],
        "LOGMSTAR_FORMED": truth["logmstar"],
        "LOGSFR_1GYR": truth["log_sfr_1gyr"],
        "LOGSFR_100MYR": truth["log_sfr_100myr"],
        "LOGZ_MW": truth["log_z_mw"],
        "T_AGE_MW": truth["t_age_mw"],
        "F_FIBER": fraction,
        "TAU_V": [m.dust.tau_v for m in mocks],
        "COS_INCLINATION": [m.dust.cos_inclination for m in mocks],
        "MU": [m.dust.mu for m in mocks],
        "VDISP_BULGE": [m.sed.bulge_dispersion for m in mocks],
        "HALF_LIGHT": [m.photometry.half_light for m in mocks],
        **{str(LEGACY.bands[name].magnitude): mags[:, j] for j, name in enumerate(_OPTICAL)},
        str(LEGACY.bands["r"].fiber_magnitude): mags[:, 1] - 2.5 * np.log10(fraction),
        **{f"SNR_{c}": snr[:, j] for j, c in enumerate("BRZ")},
    }
    table = Table({"TARGETID": _ids(mocks), "GALAXY_ID": galaxies.galaxy_id[rows]})
    for name, value in values.items():
        table[name] = np.asarray(value, dtype=np.float64)
        # FITS has no word for dex: the unit stands in the description
        table[name].description = TRUTH_UNITS[name]
    return table


def write_truth(table: Table, path: str | Path, provenance: dict[str, str]) -> None:
    """Write a truth table as FITS, its provenance in the header as HISTORY."""
    path = Path(path)
    hdu = _table("TRUTH", table)
    for i, name in enumerate(table.colnames, start=1):
        hdu.header[f"TCOMM{i}"] = str(table[name].description or "")
    for key, value in provenance.items():
        hdu.header.add_history(f"{key}: {value}")
    _write(path, [fits.PrimaryHDU(), hdu])


def read_truth(path: str | Path) -> Table:
    """Read a truth table.

    Raises
    ------
    DataFileError
        When the file is missing or lacks the TRUTH table.
    """
    path = Path(path)
    if not path.is_file():
        raise DataFileError(f"{path}: no such file; make it with `provabgs mock make`")
    try:
        return Table.read(path, hdu="TRUTH")
    except (OSError, KeyError, ValueError) as err:
        raise DataFileError(f"{path}: cannot be read as a truth table ({err})") from err
