"""Small DESI files, written by the tests themselves, with every kind of defect on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from provabgs.desi.targetid import encode_targetid

BUNIT = "10**-17 erg/(s cm2 Angstrom)"
NPIX = {"B": 60, "R": 50, "Z": 70}
START = {"B": 4000.0, "R": 6000.0, "Z": 8000.0}
NDIAG = 5


def wavelength(camera: str) -> np.ndarray:
    return START[camera] + 0.8 * np.arange(NPIX[camera])


def source_id(objid: int, brickid: int = 500_000, release: int = 9010) -> int:
    return int(encode_targetid(release, brickid, objid))


@dataclass
class Target:
    """One row: flux `level` (1e-17 erg/s/cm2/A) everywhere, `ivar`, and any FIBERMAP column to override."""

    targetid: int
    level: float = 2.0
    ivar: float = 4.0
    z: float = 0.2
    zwarn: int = 0
    spectype: str = "GALAXY"
    fibermap: dict[str, Any] = field(default_factory=dict)


DEFAULTS: dict[str, Any] = {
    "OBJTYPE": "TGT",
    "TARGET_RA": 150.0,
    "TARGET_DEC": 2.0,
    "COADD_FIBERSTATUS": 0,
    "COADD_NUMEXP": 1,
    "RELEASE": 9010,
    "EBV": 0.05,
    "PHOTSYS": "S",
    "FLUX_G": 10.0,
    "FLUX_R": 20.0,
    "FLUX_Z": 30.0,
    "FLUX_W1": 40.0,
    "FLUX_W2": 25.0,
    "FLUX_IVAR_G": 400.0,
    "FLUX_IVAR_R": 100.0,
    "FLUX_IVAR_Z": 25.0,
    "FLUX_IVAR_W1": 4.0,
    "FLUX_IVAR_W2": 1.0,
    "FIBERFLUX_G": 4.0,
    "FIBERFLUX_R": 8.0,
    "FIBERFLUX_Z": 12.0,
    "MEAN_PSF_TO_FIBER_SPECFLUX": 0.8,
}


def _table(name: str, columns: dict[str, Any]) -> fits.BinTableHDU:
    made = []
    for key, values in columns.items():
        a = np.asarray(values)
        if a.dtype.kind == "U":
            fmt = f"{max(a.dtype.itemsize // 4, 1)}A"
        else:
            fmt = {"i": "K", "f": "D", "b": "L"}[a.dtype.kind]
        made.append(fits.Column(name=key, format=fmt, array=a))
    return fits.BinTableHDU.from_columns(made, name=name)


def coadd_hdus(
    targets: Sequence[Target],
    cameras: str = "BRZ",
    mask_dtype: str = "i4",
    drop_columns: Sequence[str] = (),
    exposures: dict[str, Any] | None = None,
) -> fits.HDUList:
    n = len(targets)
    rows = [{**DEFAULTS, **t.fibermap} for t in targets]
    columns: dict[str, Any] = {"TARGETID": np.array([t.targetid for t in targets], dtype=np.int64)}
    columns |= {k: np.array([r[k] for r in rows]) for k in rows[0] if k not in drop_columns}
    hdus = fits.HDUList([fits.PrimaryHDU(), _table("FIBERMAP", columns)])
    if exposures is not None:
        hdus.append(_table("EXP_FIBERMAP", exposures))
    for c in cameras:
        shape = (n, NPIX[c])
        flux = np.ones(shape, "f4") * np.array([[t.level] for t in targets], "f4")
        ivar = np.ones(shape, "f4") * np.array([[t.ivar] for t in targets], "f4")
        kernel = np.array([0.05, 0.2, 0.5, 0.2, 0.05], "f4")
        resolution = np.broadcast_to(kernel[None, :, None], (n, NDIAG, NPIX[c])).copy()
        for kind, data, unit in (
            ("WAVELENGTH", wavelength(c), "Angstrom"),
            ("FLUX", flux, BUNIT),
            ("IVAR", ivar, "10**+34 (s2 cm4 Angstrom2) / erg2"),
            ("MASK", np.zeros(shape, mask_dtype), None),
            ("RESOLUTION", resolution, None),
        ):
            hdu = fits.ImageHDU(data, name=f"{c}_{kind}")
            if unit:
                hdu.header["BUNIT"] = unit
            hdus.append(hdu)
    return hdus


def redrock_hdus(targets: Sequence[Target], extra: Sequence[dict[str, Any]] = ()) -> fits.HDUList:
    rows = [
        {"TARGETID": t.targetid, "Z": t.z, "ZERR": 1e-5, "ZWARN": t.zwarn, "SPECTYPE": t.spectype, "DELTACHI2": 100.0}
        for t in targets
    ]
    rows += [{**rows[0], **e} for e in extra]
    return fits.HDUList([fits.PrimaryHDU(), _table("REDSHIFTS", {k: np.array([r[k] for r in rows]) for k in rows[0]})])


def write(hdus: fits.HDUList, path: Path) -> Path:
    hdus.writeto(path, overwrite=True)
    return path


def write_pair(folder: Path, targets: Sequence[Target], **kwargs: Any) -> Path:
    """A coadd with its redrock file beside it; returns the coadd."""
    write(redrock_hdus(targets), folder / "redrock-main-bright-1.fits")
    return write(coadd_hdus(targets, **kwargs), folder / "coadd-main-bright-1.fits")


def write_table(
    path: Path, name: str, columns: dict[str, Any], header: dict[str, Any] | None = None, also: str = ""
) -> Path:
    """One table HDU `name`, header cards on the primary, and an extra one-row table `also`."""
    primary = fits.PrimaryHDU()
    primary.header.update(header or {})
    hdus = fits.HDUList([primary, _table(name, columns)])
    if also:
        hdus.append(_table(also, {"TARGETID": np.array([1])}))
    return write(hdus, path)


def write_production(root: Path, coadds: dict[str, Sequence[Target]]) -> Path:
    """A production's folder with coadds and redrock files at paths such as ``healpix/main/bright/100/10016/...``.

    Parameters
    ----------
    root
        The production's folder, made where it is not there.
    coadds
        Targets by the path of the folder and stem, ``healpix/main/bright/100/10016/main-bright-10016``. Coadds of
        pixels get the header of DESI's.
    """
    for where, targets in coadds.items():
        folder, stem = root / where.rpartition("/")[0], where.rpartition("/")[2]
        folder.mkdir(parents=True, exist_ok=True)
        hdus, kind = coadd_hdus(targets), where.partition("/")[0]
        cards: dict[str, str | int]
        if kind in ("healpix", "spectra"):
            survey, program, pixel = stem.split("-")
            cards = {"SURVEY": survey, "PROGRAM": program, "SPGRP": "uniqpix" if kind == "spectra" else kind}
            hdus[0].header.update({**cards, "SPGRPVAL": int(pixel)})
        else:
            petal, tile, night = stem.split("-")
            cards = {"SPGRP": where.split("/")[1], "SPGRPVAL": int(night.removeprefix("thru")), "PETAL": int(petal)}
            hdus[0].header.update({**cards, "TILEID": int(tile)})
        write(hdus, folder / f"coadd-{stem}.fits")
        write(redrock_hdus(targets), folder / f"redrock-{stem}.fits")
    return root


def write_tiles(root: Path, tiles: Sequence[tuple[int, str, str, int]]) -> Path:
    """A production's table of tiles: TILEID, SURVEY, FAPRGRM, LASTNIGHT."""
    lines = ["TILEID,SURVEY,PROGRAM,FAPRGRM,LASTNIGHT", *(f"{t},{s},{p.upper()}x,{p},{n}" for t, s, p, n in tiles)]
    (root / f"tiles-{root.name}.csv").write_text("\n".join(lines) + "\n")
    return root
