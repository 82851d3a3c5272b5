"""Build ``desi_noise_model.h5``: what the noise of a DESI spectrum depends on, calibrated on real coadds.

Run from the repository root::

    python data/build_noise_model.py ../shared/reference

Ingredients: throughput shape per camera, dark-sky brightness and atmospheric extinction. They give the photon and
read noise of an exposure up to a smooth factor per camera, which is fitted to the inverse variances of faint targets
in real coadds, each at its own effective exposure time (from TSNR2, as DESI's pipeline defines it). The resolution is
the second moment of those coadds' resolution matrices, as a polynomial in wavelength.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from astropy.io import fits
from scipy.ndimage import gaussian_filter1d, median_filter

from provabgs.core.arrays import FloatArray
from provabgs.mocks.noise import CAMERAS, CameraNoise, NoiseModel

FAINT = (
    ("coadd-5-169-thru20210419.fits", 4),
    ("coadd-sv3-dark-26065.fits", 2),
    ("coadd-special-dark-27247.fits", 0),
)
"""Rows by which the factor is fitted: faint, all exposures good, so that their sky dominates."""
BRIGHT = ("coadd-4-80613-thru20210324.fits", 0)
"""Row held back to check the fit (a bright galaxy: source noise matters)."""
SECONDS_PER_TSNR2_LRG = 12.15
"""Effective dark time, s, per unit TSNR2_LRG (desispec.tsnr, calibrated on the main survey)."""
POLYNOMIAL_DEGREE = 3

PROVENANCE = {
    "throughput": "shape inverted from a real DESI coadd, normalised by hand; absolute scale absorbed by the factor",
    "sky": "UVES dark-sky atlas as in desihub/specter, 1e-17 erg/s/cm2/A/arcsec2",
    "extinction": "Kitt Peak mean extinction as in desihub/specter, mag per airmass",
    "coadds": "DESI coadds in the test data of fastspecfit 3.6.1 and specutils 2.4.0 (BSD-3)",
    "licence": "MIT for this derived table",
    "command": "python data/build_noise_model.py REFERENCE",
}


class Row(NamedTuple):
    """One camera of one real target."""

    wave: FloatArray
    flux: FloatArray
    sigma: FloatArray
    resolution: FloatArray
    seconds: float
    sky_factor: float
    n_exposure: int


def read_row(path: Path, row: int, camera: str) -> Row:
    """Spectrum, error (inf where masked), resolution, time, sky over dark, and number of exposures.

    The sky brightness is what makes the exposure time as short, effectively, as TSNR2 says.
    """
    c = camera.upper()
    with fits.open(path) as hdus:
        ivar = np.where(hdus[f"{c}_MASK"].data[row] == 0, hdus[f"{c}_IVAR"].data[row], 0.0).astype(float)
        exposures = hdus["EXP_FIBERMAP"].data
        good = (exposures["TARGETID"] == hdus["FIBERMAP"].data["TARGETID"][row]) & (exposures["FIBERSTATUS"] == 0)
        seconds = float(exposures["EXPTIME"][good].sum())
        effective = SECONDS_PER_TSNR2_LRG * float(hdus["SCORES"].data["TSNR2_LRG"][row])
        return Row(
            hdus[f"{c}_WAVELENGTH"].data.astype(float),
            hdus[f"{c}_FLUX"].data[row].astype(float),
            np.where(ivar > 0, 1.0 / np.sqrt(np.where(ivar > 0, ivar, 1.0)), np.inf),
            hdus[f"{c}_RESOLUTION"].data[row].astype(float),
            seconds,
            seconds / effective,
            int(good.sum()),
        )


def resolution_sigma(resolution: FloatArray, step: float) -> FloatArray:
    """Second moment of every column of a resolution matrix, Angstrom, ``(nwave,)``; NaN where it has no flux."""
    n_diag = len(resolution)
    # flux put into input pixel j lands, through band row d, in output pixel j - (n_diag // 2 - d)
    shift = np.arange(n_diag) - n_diag // 2
    total = resolution.sum(axis=0)
    total = np.where(total > 0.5, total, np.nan)
    mean = (shift[:, None] * resolution).sum(axis=0) / total
    return step * np.sqrt(((shift[:, None] - mean) ** 2 * resolution).sum(axis=0) / total)


def binned_sky(path: Path, wave: FloatArray, sigma: float) -> FloatArray:
    """Sky spectrum smoothed to the camera's resolution and sampled on its pixels."""
    sky_wave, sky = np.loadtxt(path, unpack=True)
    step = float(np.median(np.diff(sky_wave)))
    return np.interp(wave, sky_wave, gaussian_filter1d(sky, np.hypot(sigma, 0.8 / np.sqrt(12)) / step))


def bare_camera(reference: Path, camera: str, rows: list[Row]) -> CameraNoise:
    """Camera with throughput, sky, extinction and resolution; factor still 1."""
    wave = rows[0].wave
    moments = np.nanmedian([resolution_sigma(r.resolution, 0.8) for r in rows], axis=0)
    x = CameraNoise.scaled(wave)
    inner = np.isfinite(moments) & (np.abs(x) < 0.99)
    thru_wave, thru = np.loadtxt(reference / "noise" / f"thru_{camera}.dat", unpack=True, usecols=(0, 1))
    ext_wave, extinction = np.loadtxt(reference / "noise" / "extinction_kpno.dat", unpack=True)
    return CameraNoise(
        name=camera,
        wave=wave,
        throughput=np.interp(wave, thru_wave, thru),
        sky=binned_sky(reference / "noise" / "sky_dark_uves.dat", wave, float(np.nanmedian(moments))),
        extinction=np.interp(wave, ext_wave, extinction),
        ln_factor=np.zeros(POLYNOMIAL_DEGREE + 1),
        sigma_poly=np.polynomial.polynomial.polyfit(x[inner], moments[inner], POLYNOMIAL_DEGREE),
    )


def ln_ratio(camera: CameraNoise, row: Row) -> FloatArray:
    """ln(measured sigma / model sigma) per pixel, NaN where masked; smoothed over 101 pixels."""
    source = np.clip(median_filter(np.where(np.isfinite(row.sigma), row.flux, 0.0), 101), 0.0, None)
    model = camera.sigma(source, row.seconds, row.sky_factor, n_exposure=row.n_exposure)
    ratio = np.log(row.sigma / model)
    good = np.isfinite(ratio)
    filled = np.interp(row.wave, row.wave[good], ratio[good])
    return np.where(good, median_filter(filled, 101), np.nan)


def fit_camera(reference: Path, name: str) -> tuple[CameraNoise, dict[str, float]]:
    """Calibrated camera and how it agrees: median and scatter of measured over model sigma."""
    rows = [read_row(reference / "desi" / file, row, name) for file, row in FAINT]
    bare = bare_camera(reference, name, rows)
    mean = np.nanmean([ln_ratio(bare, r) for r in rows], axis=0)
    x = CameraNoise.scaled(bare.wave)
    good = np.isfinite(mean)
    factor = np.polynomial.polynomial.polyfit(x[good], mean[good], POLYNOMIAL_DEGREE)
    camera = bare._replace(ln_factor=factor)
    agreement = {}
    bright = read_row(reference / "desi" / BRIGHT[0], BRIGHT[1], name)
    labels = [f.split("-thru")[0].removesuffix(".fits") for f, _ in FAINT] + ["check_" + BRIGHT[0].split("-thru")[0]]
    for label, row in zip(labels, [*rows, bright], strict=True):
        ratio = ln_ratio(camera, row)
        agreement[f"{label}_median"] = float(np.exp(np.nanmedian(ratio)))
        agreement[f"{label}_scatter"] = float(np.nanstd(ratio))
    return camera, agreement


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "desi_noise_model.h5")
    options = parser.parse_args()
    fitted = {name: fit_camera(options.reference, name) for name in CAMERAS}
    model = NoiseModel({name: camera for name, (camera, _) in fitted.items()}, PROVENANCE)
    model.save(options.out)
    with h5py.File(options.out, "a") as f:
        for name, (camera, agreement) in fitted.items():
            f[name].attrs.update({f"agreement_{k}": v for k, v in agreement.items()})
            zero = camera.sigma(np.zeros(camera.wave.size), 180.0)
            print(
                name, f"sigma(180 s, no source) = {np.median(zero):.3f}", {k: round(v, 3) for k, v in agreement.items()}
            )


if __name__ == "__main__":
    main()
