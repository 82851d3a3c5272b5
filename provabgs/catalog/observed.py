"""The data that were fitted, kept beside the samples, so that a posterior file can be drawn and checked on its own.

Layout, in the same HDF5 file as the posteriors::

    /observations/ROW             attributes: targetid, redshift, ra, dec, zerr, vdisp_kms, fiber_fraction, sha256
    /observations/ROW/spectra/K   wave (Angstrom), flux and ivar (1e-17 erg/s/cm2/A), resolution, sigma_aa
    /observations/ROW/photometry  bands, flux and ivar (nanomaggies), floor (fraction)
    /observations/ROW/photometry/curves/NAME  wave (Angstrom) and response of filters that speclite does not have

ROW counts the rows of ``/summary``; rows that could not be read have no group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from provabgs.catalog.shard import write_shard
from provabgs.catalog.shard_file import open_shard
from provabgs.core.atomic import atomic_path
from provabgs.core.errors import DataFileError, InputError
from provabgs.inference.posterior import Posterior
from provabgs.observe.filters import register_filter
from provabgs.observe.observation import Observation, Photometry, Spectrum

GROUP = "observations"
_DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError)


def write_fits(
    path: str | Path,
    fits: Iterable[tuple[Posterior, Observation | None]],
    *,
    attrs: Mapping[str, Any] | None = None,
    n_samples: int | None = None,
) -> None:
    """Write posteriors, every draw of them, and the data that they come from to one file, atomically.

    Parameters
    ----------
    path
        Final name; an existing file is replaced in one step.
    fits
        Each posterior with its observation, or with None where the row could not be read.
    attrs, n_samples
        As for `provabgs.catalog.shard.write_shard`; all draws are kept by default.
    """
    rows = list(fits)
    with atomic_path(path) as unfinished:
        write_shard(unfinished, [p for p, _ in rows], attrs=attrs, n_samples=n_samples, encoding="float32")
        with h5py.File(unfinished, "a") as f:
            group = f.create_group(GROUP)
            for row, (_, observation) in enumerate(rows):
                if observation is not None:
                    _write(group.create_group(str(row)), observation)


def read_fitted(path: str | Path, row: int) -> Observation:
    """The observation behind one row.

    Parameters
    ----------
    path
        File written by `write_fitted`.
    row
        Row in the file, from 0.

    Returns
    -------
    Observation
        As it was fitted.

    Raises
    ------
    InputError
        When the file keeps no data for this row (catalog shards do not, `provabgs fit` does).
    DataFileError
        When the file is damaged, or the data do not match the hash they were written with.
    """
    with open_shard(path) as f:
        group = f.get(f"{GROUP}/{row}")
        if group is None:
            raise InputError(f"{path}, row {row}: holds no data; fit it with `provabgs fit`, which keeps them")
        try:
            observation, expected = _read(group), str(group.attrs["sha256"])
        except _DAMAGE as error:
            raise DataFileError(f"{path}, row {row}: corrupt data ({type(error).__name__}); fit it again") from None
    if observation.digest() != expected:
        raise DataFileError(f"{path}, row {row}: data do not match their checksum; fit it again")
    return observation


def _write(group: h5py.Group, observation: Observation) -> None:
    o = observation
    mean, sigma = o.fiber_fraction if o.fiber_fraction is not None else (np.nan, np.nan)
    group.attrs.update(
        {"targetid": o.targetid, "redshift": o.redshift, "ra": o.ra, "dec": o.dec, "zerr": o.zerr}
        | {"vdisp_kms": o.vdisp_kms, "fiber_fraction": (mean, sigma), "sha256": o.digest()}
    )
    for k, s in enumerate(o.spectra):
        camera = group.create_group(f"spectra/{k}")
        camera.attrs["camera"] = s.camera
        if isinstance(s.sigma_aa, float):
            camera.attrs["sigma_aa"] = s.sigma_aa
        else:
            _dataset(camera, "sigma_aa", s.sigma_aa)
        for name in ("wave", "flux", "ivar", "resolution"):
            if getattr(s, name) is not None:
                _dataset(camera, name, getattr(s, name))
    if o.photometry is not None:
        bands = group.create_group("photometry")
        bands.create_dataset("bands", data=np.array(o.photometry.bands, dtype=object), dtype=h5py.string_dtype())
        bands["flux"], bands["ivar"] = o.photometry.flux, o.photometry.ivar
        if o.photometry.floor is not None:
            bands["floor"] = o.photometry.floor
        for curve in o.photometry.curves:
            bands[f"curves/{curve.name}/wave"] = curve.wave
            bands[f"curves/{curve.name}/response"] = curve.response


def _dataset(group: h5py.Group, name: str, array: NDArray[np.float64]) -> None:
    """Store in single precision where that loses nothing, as with what DESI stores in single precision."""
    single = array.astype(np.float32)
    data = single if np.array_equal(single, array) else array
    group.create_dataset(name, data=data, shuffle=True, compression="gzip", compression_opts=4, fletcher32=True)


def _read(group: h5py.Group) -> Observation:
    a = group.attrs
    mean, sigma = (float(x) for x in a["fiber_fraction"])
    photometry = None
    if "photometry" in group:
        p = group["photometry"]
        for name, curve in p.get("curves", {}).items():
            register_filter(name, curve["wave"][:], curve["response"][:])
        floor = p["floor"][:] if "floor" in p else None
        photometry = Photometry(tuple(p["bands"].asstr()[:]), p["flux"][:], p["ivar"][:], floor)
    cameras = group.get("spectra", {})
    return Observation(
        redshift=float(a["redshift"]),
        spectra=tuple(_read_camera(cameras[k]) for k in sorted(cameras, key=int)),
        photometry=photometry,
        fiber_fraction=None if np.isnan(mean) else (mean, sigma),
        targetid=int(a["targetid"]),
        ra=float(a["ra"]),
        dec=float(a["dec"]),
        zerr=float(a["zerr"]),
        vdisp_kms=float(a["vdisp_kms"]),
    )


def _read_camera(group: h5py.Group) -> Spectrum:
    resolution = group["resolution"][:] if "resolution" in group else None
    wave, flux, ivar = (group[name][:] for name in ("wave", "flux", "ivar"))
    sigma = group["sigma_aa"][:].astype(np.float64) if "sigma_aa" in group else float(group.attrs["sigma_aa"])
    return Spectrum(str(group.attrs["camera"]), wave, flux, ivar, resolution, sigma)
