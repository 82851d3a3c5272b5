"""Read DESI coadd and spectra files by HDU name, one row at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import DataFileError
from provabgs.core.identity import exact_id
from provabgs.core.messages import first_line
from provabgs.desi.columns import Kind
from provabgs.desi.fiberstatus import camera_is_good
from provabgs.desi.fitsfile import Columns, FitsFile, open_fits
from provabgs.desi.images import check_shapes, flux_scale, read_wavelength
from provabgs.desi.origin import Origin, origin_of
from provabgs.desi.target_bits import is_target
from provabgs.surveys import load_system

LEGACY = load_system("legacy")
_FIBER_TOTAL = [f"FIBERTOTFLUX_{band.upper()}" for band, columns in LEGACY.bands.items() if columns.fiberflux]
_TARGETING = [
    f"{survey}{kind}_TARGET" for survey in ("", "SV1_", "SV2_", "SV3_") for kind in ("DESI", "BGS", "MWS", "SCND")
]
_WHOLE = (
    *("COADD_FIBERSTATUS", "FIBERSTATUS", "COADD_NUMEXP", "RELEASE", "BRICKID", "BRICK_OBJID", "TILEID", "HPXPIXEL"),
    *_TARGETING,
)
_NUMBERS = (
    *("TARGET_RA", "TARGET_DEC", "COADD_EXPTIME", "SHAPE_R", "EBV", "MEAN_PSF_TO_FIBER_SPECFLUX"),
    *("PSF_TO_FIBER_SPECFLUX", "GAIA_PHOT_G_MEAN_MAG", *LEGACY.photometric_columns, *_FIBER_TOTAL),
)
FIBERMAP_COLUMNS: dict[str, Kind] = {
    "TARGETID": "id",
    **dict.fromkeys(("OBJTYPE", "MORPHTYPE", "PHOTSYS"), "text"),
    **dict.fromkeys(_WHOLE, "whole"),
    **dict.fromkeys(_NUMBERS, "number"),
}
"""What is read of FIBERMAP, where present."""
_EXP_COLUMNS: dict[str, Kind] = {
    "TARGETID": "id",
    "PSF_TO_FIBER_SPECFLUX": "number",
    **dict.fromkeys(("FIBERSTATUS", "IN_COADD_B", "IN_COADD_R", "IN_COADD_Z"), "whole"),
}
_SCORES: dict[str, Kind] = {"TARGETID": "id", "TSNR2_BGS": "number"}
_IMAGES = ("WAVELENGTH", "FLUX", "IVAR", "MASK", "RESOLUTION")
FLUX_MAX, IVAR_MAX = 1e8, 1e8
"""Beyond these, in 1e-17 erg/s/cm2/A and its inverse square, a pixel is damaged: 1e8 is the flux of Sirius."""
RESOLUTION_MAX = 10.0
"""Elements of a resolution matrix are weights of pixels."""


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
    notes
        What of the tables could not be used, for people.
    verify
        Whether checksums are looked at.
    origin
        Survey and program.
    """

    path: Path
    fibermap: Columns
    exp_fibermap: Columns
    scores: Columns
    cameras: tuple[str, ...]
    coadded: bool
    notes: tuple[str, ...] = ()
    verify: bool = field(default=True, repr=False)
    origin: Origin = field(default_factory=Origin)

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> CoaddFile:
        """Read the tables of a DESI file.

        Parameters
        ----------
        path
            The file.
        verify
            Whether checksums are looked at.

        Raises
        ------
        DataFileError
            When it is missing, broken, or not a DESI file.
        """
        file = Path(path)
        with open_fits(file, verify=verify) as fits:
            what = "a DESI coadd or spectra file"
            fits.require(["FIBERMAP"], what)
            cameras = [n.removesuffix("_WAVELENGTH") for n in fits.names if n.endswith("_WAVELENGTH")]
            known = {"FIBERMAP", "EXP_FIBERMAP", "SCORES", *(f"{c}_{kind}" for c in cameras for kind in _IMAGES)}
            for unknown in (h for h in fits.hdus[1:] if h.name not in known):
                fits.check(unknown)  # a damaged EXTNAME must not pass for a camera or a mask that is not there
            if not cameras:
                fits.require([f"{c}_{k}" for c in "BRZ" for k in ("WAVELENGTH", "FLUX", "IVAR")], what)
            fits.require([f"{c}_{k}" for c in cameras for k in ("FLUX", "IVAR")], what)
            fibermap, odd = fits.read_columns(fits["FIBERMAP"], FIBERMAP_COLUMNS)
            notes = [f"FIBERMAP column {name} {why}, not used" for name, why in odd.items()]
            if "TARGETID" in odd:
                raise DataFileError(f"{file}: FIBERMAP column TARGETID {odd['TARGETID']}")
            if "TARGETID" not in fibermap:
                raise DataFileError(f"{file}: is not {what}: FIBERMAP has no column TARGETID")
            check_shapes(fits, cameras, fibermap["TARGETID"].size)
            for camera in cameras:
                read_wavelength(fits, camera)
                flux_scale(fits, camera)
            exposures = _optional(fits, "EXP_FIBERMAP", _EXP_COLUMNS, notes)
            scores = _optional(fits, "SCORES", _SCORES, notes)
            if scores and scores.get("TARGETID", fibermap["TARGETID"]).tolist() != fibermap["TARGETID"].tolist():
                scores = {}
            if any(values.size != fibermap["TARGETID"].size for values in scores.values()):
                scores = {}
            names = fits.fields(fits["FIBERMAP"])
            coadded = "COADD_NUMEXP" in names or "COADD_FIBERSTATUS" in names
            origin = origin_of(file, fits.hdus[0], names)
        notes += [origin.note] if origin.note else []
        cameras = [c.lower() for c in cameras]
        return cls(file, fibermap, exposures, scores, tuple(cameras), coadded, tuple(notes), verify, origin)

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
        return {t: rows[:1] if self.coadded else list(rows) for t, rows in self._rows.items()}

    def chosen(self, targets: Sequence[str]) -> NDArray[np.bool_]:
        """``(nrow,)`` whether a row is any of these targets (`provabgs.desi.target_bits`); all are where none is named.

        Raises
        ------
        DataFileError
            When FIBERMAP does not say.
        """
        if not targets:
            return np.ones(self.targetids.size, dtype=bool)
        return is_target(targets, self.origin.survey, self.fibermap, self.path)

    def rows_of(self, targetid: int) -> list[int]:
        """All rows of a target."""
        return self._rows.get(targetid, [])

    @cached_property
    def _rows(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for row, targetid in enumerate(self.targetids.tolist()):
            found.setdefault(targetid, []).append(row)
        return found

    def usable(self, rows: Sequence[int]) -> list[int]:
        """Those of `rows` that a coadd would take in any camera: all in a coadd, by FIBERSTATUS in a spectra file."""
        good = {row for camera in self.cameras for row in self.usable_in(camera, rows)}
        return [row for row in rows if row in good]

    def usable_in(self, camera: str, rows: Sequence[int]) -> list[int]:
        """Those of `rows` that a coadd would take in one camera.

        Parameters
        ----------
        camera
            ``"b"``, ``"r"``, ``"z"``, or several letters where cameras were combined.
        rows
            Rows of the file.
        """
        if self.coadded or "FIBERSTATUS" not in self.fibermap:
            return list(rows)
        status = self.fibermap["FIBERSTATUS"]
        return [r for r in rows if camera_is_good(int(status[r]), camera)]

    def check_targetid(self, targetid: int) -> None:
        """Raise `DataFileError` unless the file holds `targetid`; says how many there are and which is nearest."""
        ids = self.targetids
        if not np.any(ids == targetid):
            hint = ""
            if ids.size:
                # Python integers: the difference of two int64 may overflow.
                nearest = min(ids.tolist(), key=lambda t: abs(t - exact_id(targetid)))
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
        with open_fits(self.path, verify=self.verify) as fits:
            readers: dict[str, _CameraReader | DataFileError] = {}
            for c in wanted:
                try:
                    readers[c] = _CameraReader(fits, c)
                except DataFileError as error:
                    readers[c] = error
            for rows in groups:
                try:
                    spectra = []
                    for c in wanted:
                        reader, good = readers[c], self.usable_in(c, rows)
                        if isinstance(reader, DataFileError):
                            raise reader
                        if good:
                            spectra.append(combine_exposures([reader.read(row) for row in good]))
                except DataFileError as error:
                    yield error
                except (OSError, EOFError) as error:
                    yield DataFileError(f"{self.path}: row {rows[0]} cannot be read ({first_line(error)})")
                else:
                    yield tuple(spectra)


def _optional(fits: FitsFile, name: str, kinds: dict[str, Kind], notes: list[str]) -> Columns:
    """Columns of a table that helps where it is there; what is odd about it is noted."""
    hdu = fits.find(name)
    if hdu is None:
        return {}
    columns, odd = fits.read_columns(hdu, kinds)
    notes += [f"{name} column {column} {why}, not used" for column, why in odd.items()]
    return columns


class _CameraReader:
    """The images of one camera in an open file."""

    def __init__(self, fits: FitsFile, camera: str) -> None:
        name = camera.upper()
        self.camera, self.fits = camera, fits
        self.wave = read_wavelength(fits, name)
        self.scale = flux_scale(fits, name)
        self.images = {kind: fits.find(f"{name}_{kind}") for kind in _IMAGES[1:]}

    def _row(self, kind: str, row: int) -> NDArray[Any] | None:
        hdu = self.images[kind]
        return None if hdu is None else self.fits.image(hdu, row)

    def read(self, row: int) -> CameraData:
        """One row; masked and impossible pixels get flux 0, ivar 0."""
        flux, ivar = (np.asarray(self._row(kind, row), dtype=np.float64) for kind in ("FLUX", "IVAR"))
        with np.errstate(over="ignore", invalid="ignore"):
            flux, ivar = flux * self.scale, ivar / self.scale**2
        impossible = ~(np.abs(flux) <= FLUX_MAX) & ~(ivar == 0)
        bad = ~(ivar <= IVAR_MAX) | (ivar < 0) | impossible
        mask = self._row("MASK", row)
        masked = np.zeros(self.wave.size, dtype=bool) if mask is None else mask != 0
        n_masked = int(np.count_nonzero(masked & ~bad & (ivar > 0)))
        use = ~bad & ~masked & (ivar > 0)
        flux, ivar = np.where(use, flux, 0.0), np.where(use, ivar, 0.0)
        return CameraData(self.camera, self.wave, flux, ivar, self._resolution(row), n_masked, int(bad.sum()))

    def _resolution(self, row: int) -> FloatArray | None:
        """The resolution matrix in bands, None where the file has none."""
        found = self._row("RESOLUTION", row)
        if found is None:
            return None
        matrix = found.astype(np.float64)
        worst = np.abs(np.where(np.isfinite(matrix), matrix, 0.0)).max(initial=0.0)
        if worst > RESOLUTION_MAX:
            raise DataFileError(
                f"{self.fits.path}: row {row}: HDU {self.camera.upper()}_RESOLUTION holds {worst:.2g}, where weights "
                "of pixels are at most about 1; the file is damaged: fetch it again"
            )
        return matrix


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
