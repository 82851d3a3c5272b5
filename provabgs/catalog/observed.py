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
from provabgs.core.hdf5 import DAMAGE, Contents, create, fixed, under
from provabgs.core.messages import first_line
from provabgs.inference.posterior import Posterior
from provabgs.observe.filters import register_filter
from provabgs.observe.observation import Observation, Photometry, Spectrum

GROUP = "observations"


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
        with create(unfinished, "a") as f:
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
        try:
            contents = under(f, f"{GROUP}/{row}")
            observation = None if contents is None else _read(contents)
            expected = "" if contents is None else contents.text("sha256")
        except DAMAGE as error:
            raise DataFileError(f"{path}, row {row}: corrupt data ({first_line(error)}); fit it again") from None
    if observation is None:
        raise InputError(f"{path}, row {row}: holds no data; fit it with `provabgs fit`, which keeps them")
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
        names = [band.encode() for band in o.photometry.bands]
        bands.create_dataset("bands", data=np.array(names, dtype=fixed(names)))
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


def _read(found: Contents) -> Observation:
    attrs, arrays = found.attrs[""], found.arrays
    mean, sigma = (float(x) for x in attrs["fiber_fraction"])
    photometry = None
    if "photometry" in found.attrs:
        for name in _below(found, "photometry/curves"):
            wave, response = (found.numbers(f"photometry/curves/{name}/{part}") for part in ("wave", "response"))
            register_filter(name, wave, response)
        flux, ivar = (arrays[f"photometry/{name}"] for name in ("flux", "ivar"))
        photometry = Photometry(found.texts("photometry/bands"), flux, ivar, arrays.get("photometry/floor"))
    return Observation(
        redshift=float(attrs["redshift"]),
        spectra=tuple(_read_camera(found, f"spectra/{k}") for k in sorted(_below(found, "spectra"), key=int)),
        photometry=photometry,
        fiber_fraction=None if np.isnan(mean) else (mean, sigma),
        targetid=int(attrs["targetid"]),
        ra=float(attrs["ra"]),
        dec=float(attrs["dec"]),
        zerr=float(attrs["zerr"]),
        vdisp_kms=float(attrs["vdisp_kms"]),
    )


def _below(found: Contents, group: str) -> list[str]:
    """Names of the groups in a group."""
    return [name.removeprefix(f"{group}/") for name in found.attrs if name.startswith(f"{group}/")]


def _read_camera(found: Contents, group: str) -> Spectrum:
    wave, flux, ivar = (found.arrays[f"{group}/{name}"] for name in ("wave", "flux", "ivar"))
    sigma = found.arrays.get(f"{group}/sigma_aa")
    return Spectrum(
        found.text("camera", group), wave, flux, ivar, found.arrays.get(f"{group}/resolution"),
        found.number("sigma_aa", group) if sigma is None else sigma.astype(np.float64),
    )  # fmt: skip
