"""Read DESI coadd and spectra files by HDU name, one row at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.io import fits
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import DataFileError
from provabgs.core.messages import first_line
from provabgs.desi.fitsfile import READ_ERRORS, hdu_names, native, open_fits, read_columns, require_hdus
from provabgs.surveys import load_system

Columns = dict[str, NDArray[Any]]

LEGACY = load_system("legacy")
_FLUX_UNIT = 1e-17 * u.erg / u.s / u.cm**2 / u.AA
_FIBER_TOTAL = [f"FIBERTOTFLUX_{band.upper()}" for band, columns in LEGACY.bands.items() if columns.fiberflux]
_TARGETING = [
    f"{survey}{kind}_TARGET" for survey in ("", "SV1_", "SV2_", "SV3_") for kind in ("DESI", "BGS", "MWS", "SCND")
]
FIBERMAP_COLUMNS: tuple[str, ...] = (
    *("TARGETID", "OBJTYPE", "TARGET_RA", "TARGET_DEC", "COADD_FIBERSTATUS", "FIBERSTATUS", "COADD_NUMEXP"),
    *("COADD_EXPTIME", "RELEASE", "BRICKID", "BRICK_OBJID", "MORPHTYPE", "SHAPE_R", "EBV", "PHOTSYS", "TILEID"),
    *("MEAN_PSF_TO_FIBER_SPECFLUX", "PSF_TO_FIBER_SPECFLUX", "GAIA_PHOT_G_MEAN_MAG", "HPXPIXEL"),
    *(*LEGACY.photometric_columns, *_FIBER_TOTAL, *_TARGETING),
)
"""What is read of FIBERMAP, where present."""
_EXP_COLUMNS = ("TARGETID", "PSF_TO_FIBER_SPECFLUX", "FIBERSTATUS", "IN_COADD_B", "IN_COADD_R", "IN_COADD_Z")
RESTRICTED_BIT = 1 << 3
"""FIBERSTATUS bit of a positioner of restricted reach: harmless, desispec coadds such exposures."""


class CameraData(NamedTuple):
    """One camera of one target, as calibrated by DESI (Galactic dust still in).

    Attributes
    ----------
    camera
        ``"b"``, ``"r"``, ``"z"`` (or ``"brz"`` where the cameras were combined).
    wave
        ``(npix,)`` vacuum Angstrom.
    flux, ivar
        ``(npix,)`` 1e-17 erg/s/cm2/A and its inverse variance; unusable pixels have ivar 0.
    resolution
        ``(ndiag, npix)`` or None.
    n_masked
        Pixels with ivar > 0 in the file that MASK took out.
    n_bad
        Pixels taken out because flux or ivar is NaN, infinite, or ivar negative.
    """

    camera: str
    wave: FloatArray
    flux: FloatArray
    ivar: FloatArray
    resolution: FloatArray | None
    n_masked: int
    n_bad: int


@dataclass(frozen=True, eq=False)
class CoaddFile:
    """The index of a coadd or spectra file: its tables in memory, its spectra on disk.

    Attributes
    ----------
    path
        The file.
    fibermap
        ``(nrow,)`` columns of FIBERMAP (`FIBERMAP_COLUMNS`, those present).
    exp_fibermap
        ``(nexp,)`` columns of EXP_FIBERMAP; empty without that HDU.
    scores
        ``(nrow,)`` TSNR2_BGS of SCORES; empty without.
    cameras
        Cameras in the file, in file order.
    coadded
        False for a spectra file, whose rows are single exposures.
    """

    path: Path
    fibermap: Columns
    exp_fibermap: Columns
    scores: Columns
    cameras: tuple[str, ...]
    coadded: bool

    @classmethod
    def open(cls, path: str | Path) -> CoaddFile:
        """Read the tables of a DESI file; `DataFileError` when it is missing, broken, or not a DESI file."""
        file = Path(path)
        with open_fits(file) as hdus:
            what = "a DESI coadd or spectra file"
            require_hdus(hdus, ["FIBERMAP"], file, what)
            cameras = [n.removesuffix("_WAVELENGTH") for n in hdu_names(hdus) if n.endswith("_WAVELENGTH")]
            if not cameras:
                require_hdus(hdus, [f"{c}_{k}" for c in "BRZ" for k in ("WAVELENGTH", "FLUX", "IVAR")], file, what)
            require_hdus(hdus, [f"{c}_{k}" for c in cameras for k in ("FLUX", "IVAR")], file, what)
            fibermap = read_columns(hdus["FIBERMAP"], FIBERMAP_COLUMNS, file)
            if "TARGETID" not in fibermap:
                raise DataFileError(f"{file}: is not {what}: FIBERMAP has no column TARGETID")
            _check_shapes(hdus, cameras, fibermap["TARGETID"].size, file)
            for camera in cameras:
                _wavelength(hdus, camera, file)
                _flux_scale(hdus[f"{camera}_FLUX"], file)
            has = set(hdu_names(hdus))
            exposures = read_columns(hdus["EXP_FIBERMAP"], _EXP_COLUMNS, file) if "EXP_FIBERMAP" in has else {}
            scores = read_columns(hdus["SCORES"], ("TARGETID", "TSNR2_BGS"), file) if "SCORES" in has else {}
            if scores and scores.get("TARGETID", fibermap["TARGETID"]).tolist() != fibermap["TARGETID"].tolist():
                scores = {}
            coadded = "COADD_NUMEXP" in fibermap or "COADD_FIBERSTATUS" in fibermap
        return cls(file, fibermap, exposures, scores, tuple(c.lower() for c in cameras), coadded)

    @property
    def targetids(self) -> NDArray[np.int64]:
        """``(nrow,)`` TARGETID of each row."""
        return self.fibermap["TARGETID"]

    @property
    def exposures(self) -> Columns:
        """Columns of the single exposures: EXP_FIBERMAP of a coadd, FIBERMAP itself of a spectra file."""
        return self.exp_fibermap if self.coadded else self.fibermap

    def groups(self) -> dict[int, list[int]]:
        """Rows of each target, in file order: its first row in a coadd, all its exposures in a spectra file."""
        found: dict[int, list[int]] = {}
        for row, targetid in enumerate(self.targetids.tolist()):
            rows = found.setdefault(targetid, [])
            if not rows or not self.coadded:
                rows.append(row)
        return found

    def usable(self, rows: Sequence[int]) -> list[int]:
        """Those of `rows` that a coadd would take: all in a coadd, FIBERSTATUS 0 (or RESTRICTED) in a spectra file."""
        if self.coadded or "FIBERSTATUS" not in self.fibermap:
            return list(rows)
        status = self.fibermap["FIBERSTATUS"]
        return [r for r in rows if int(status[r]) & ~RESTRICTED_BIT == 0]

    def check_targetid(self, targetid: int) -> None:
        """Raise `DataFileError` unless the file holds `targetid`; says how many there are and which is nearest."""
        ids = self.targetids
        if not np.any(ids == targetid):
            hint = ""
            if ids.size:
                # Python integers: the difference of two int64 may overflow.
                nearest = min(ids.tolist(), key=lambda t: abs(t - int(targetid)))
                hint = f"; the nearest is {nearest}"
            raise DataFileError(f"{self.path}: no such TARGETID {targetid} among its {ids.size} rows{hint}")

    def row_values(self, row: int) -> dict[str, Any]:
        """FIBERMAP (and SCORES) of one row as plain Python scalars."""
        return {k: v[row].item() for k, v in (*self.fibermap.items(), *self.scores.items())}

    def iter_spectra(
        self, groups: Iterable[Sequence[int]], cameras: Sequence[str] | None = None
    ) -> Iterator[tuple[CameraData, ...] | DataFileError]:
        """Read the spectra of groups of rows with the file opened once; only those rows are read.

        Parameters
        ----------
        groups
            Rows that belong together; several are combined by inverse variance (see `combine_exposures`).
        cameras
            Restrict to these; None for all.

        Yields
        ------
        cameras
            The cameras of one group, or the error that reading it ended in: yielded, because raising it would end
            the iteration for the groups that follow.
        """
        wanted = [c for c in self.cameras if cameras is None or c in {w.lower() for w in cameras}]
        with open_fits(self.path) as hdus:
            # astropy looks a name up by walking through all headers: a third of the reading time of a large file.
            images = {str(h.name).upper(): h for h in hdus}
            grids = {c: _wavelength(hdus, c, self.path) for c in wanted}
            scales = {c: _flux_scale(hdus[f"{c.upper()}_FLUX"], self.path) for c in wanted}
            for rows in groups:
                try:
                    spectra = tuple(
                        combine_exposures([_read_camera(images, c, grids[c], scales[c], row) for row in rows])
                        for c in wanted
                    )
                except READ_ERRORS as error:
                    yield DataFileError(f"{self.path}: row {rows[0]} cannot be read ({first_line(error)})")
                else:
                    yield spectra


def _check_shapes(hdus: fits.HDUList, cameras: Sequence[str], nrow: int, path: Path) -> None:
    """Refuse a file whose images do not fit its FIBERMAP and wavelengths."""
    for camera in cameras:
        npix = int(np.prod(hdus[f"{camera}_WAVELENGTH"].shape))
        for kind in ("FLUX", "IVAR", "MASK"):
            name = f"{camera}_{kind}"
            if name in hdus and tuple(hdus[name].shape) != (nrow, npix):
                raise DataFileError(
                    f"{path}: HDU {name} has shape {tuple(hdus[name].shape)}, but FIBERMAP and {camera}_WAVELENGTH "
                    f"ask for {(nrow, npix)}; the file is damaged"
                )


def _unit(hdu: Any) -> u.UnitBase | None:
    """BUNIT of an image, None when there is none; an unreadable one comes back as astropy's UnrecognizedUnit."""
    text = str(hdu.header.get("BUNIT", "")).strip()
    return u.Unit(text, parse_strict="silent") if text else None


def _flux_scale(hdu: Any, path: Path) -> float:
    """Factor to 1e-17 erg/s/cm2/A from BUNIT (1 without BUNIT); `DataFileError` when it is no flux density."""
    unit = _unit(hdu)
    if unit is None:
        return 1.0
    try:
        return float((1 * unit).to_value(_FLUX_UNIT))
    except (u.UnitConversionError, TypeError) as error:
        raise DataFileError(
            f"{path}: HDU {hdu.name} is in {hdu.header['BUNIT']!r}, not a flux density per Angstrom like DESI's "
            "10**-17 erg/(s cm2 Angstrom); convert it and mend BUNIT"
        ) from error


def _wavelength(hdus: fits.HDUList, camera: str, path: Path) -> FloatArray:
    """``(npix,)`` wavelengths of one camera, Angstrom, whatever length unit the file declares."""
    hdu = hdus[f"{camera.upper()}_WAVELENGTH"]
    wave = native(hdu.data).astype(np.float64).ravel()
    unit = _unit(hdu)
    try:
        return wave * (1.0 if unit is None else float((1 * unit).to_value(u.AA)))
    except (u.UnitConversionError, TypeError) as error:
        raise DataFileError(f"{path}: HDU {hdu.name} is in {hdu.header['BUNIT']!r}, not a length") from error


def _read_camera(hdus: Mapping[str, Any], camera: str, wave: FloatArray, scale: float, row: int) -> CameraData:
    """One camera of one row; masked and impossible pixels get flux 0, ivar 0."""
    name = camera.upper()
    flux = native(hdus[f"{name}_FLUX"].section[row]).astype(np.float64) * scale
    ivar = native(hdus[f"{name}_IVAR"].section[row]).astype(np.float64) / scale**2
    bad = ~np.isfinite(ivar) | (ivar < 0) | (~np.isfinite(flux) & ~(ivar == 0))
    masked = np.zeros(wave.size, dtype=bool)
    if f"{name}_MASK" in hdus:
        masked = native(hdus[f"{name}_MASK"].section[row]) != 0
    n_masked = int(np.count_nonzero(masked & ~bad & (ivar > 0)))
    use = ~bad & ~masked & (ivar > 0)
    resolution = None
    if f"{name}_RESOLUTION" in hdus:
        resolution = native(hdus[f"{name}_RESOLUTION"].section[row]).astype(np.float64)
    return CameraData(
        camera, wave, np.where(use, flux, 0.0), np.where(use, ivar, 0.0), resolution, n_masked, int(bad.sum())
    )


def combine_exposures(exposures: Sequence[CameraData]) -> CameraData:
    """Inverse-variance mean of several exposures of one target in one camera.

    Flux and resolution matrix are averaged with the same weights, as desispec does; cosmic rays are not searched
    for, so that DESI's own coadds are the better input where they exist. One exposure comes back as it is.
    """
    if len(exposures) == 1:
        return exposures[0]
    ivar = np.array([e.ivar for e in exposures])
    total = ivar.sum(axis=0)
    share = ivar / np.where(total > 0, total, 1.0)
    flux = np.sum(share * np.array([e.flux for e in exposures]), axis=0)
    resolution = None
    matrices = [e.resolution for e in exposures if e.resolution is not None]
    if len(matrices) == len(exposures):
        stack = np.nan_to_num(np.array(matrices))
        # Where nothing was measured the plain mean keeps the matrix well defined for its neighbours.
        weight = np.where(total > 0, share, 1.0 / len(exposures))
        resolution = np.sum(weight[:, None, :] * stack, axis=0)
    first = exposures[0]
    return CameraData(
        first.camera,
        first.wave,
        flux,
        total,
        resolution,
        sum(e.n_masked for e in exposures),
        sum(e.n_bad for e in exposures),
    )
