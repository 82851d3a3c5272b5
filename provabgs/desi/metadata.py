"""What goes with an observation besides its data: provenance, quality, notes for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from provabgs.desi.catalogs import Match
from provabgs.desi.coadd import CameraData
from provabgs.desi.photometry import TargetPhotometry
from provabgs.desi.redrock import SAME_REDSHIFT, Redshift
from provabgs.desi.source import Source

_KEPT = (
    *("MORPHTYPE", "SHAPE_R", "RELEASE", "COADD_EXPTIME", "COADD_NUMEXP", "COADD_FIBERSTATUS", "TSNR2_BGS", "HPXPIXEL"),
    *("FLUX_G", "FLUX_R", "FLUX_Z", "FLUX_W1", "FIBERFLUX_R", "FIBERTOTFLUX_R", "GAIA_PHOT_G_MEAN_MAG"),
    *("BGS_TARGET", "SV1_BGS_TARGET", "SV2_BGS_TARGET", "SV3_BGS_TARGET", "DESI_TARGET"),
)
"""FIBERMAP columns handed on in ``meta`` under their own names: as the file has them, dust and all."""


def median_snr(data: CameraData) -> float:
    """Median S/N per usable pixel, NaN without any."""
    use = data.ivar > 0
    return float(np.median(data.flux[use] * np.sqrt(data.ivar[use]))) if np.any(use) else math.nan


def quality_notes(cameras: Sequence[CameraData], redshift: Redshift) -> list[str]:
    """What a person should know before trusting a fit of this target."""
    notes = []
    snr = [s for s in map(median_snr, cameras) if math.isfinite(s)]
    if snr and max(snr) < 1.0:
        notes.append(
            f"median S/N per pixel is {max(snr):.2f} at best: continuum hardly detected, redshift to be checked"
        )
    bad = sum(c.n_bad for c in cameras)
    if bad:
        notes.append(f"{bad} pixels with NaN or impossible flux or ivar taken out")
    if redshift.n_rows > 1:
        apart = f", which differ by {redshift.spread:.3g} (1 + z)" if redshift.spread > SAME_REDSHIFT else ""
        notes.append(f"best of {redshift.n_rows} redshift rows{apart}")
    return notes


def build_meta(
    source: Source,
    rows: Sequence[int],
    row: Mapping[str, Any],
    redshift: Redshift,
    cameras: Sequence[CameraData],
    light: TargetPhotometry,
    match: Match | None,
) -> dict[str, Any]:
    """Provenance and quality, plain scalars and strings; files by name, without the paths of one machine."""
    meta: dict[str, Any] = {k: row[k] for k in _KEPT if k in row} | source.file.origin.columns
    photometry = light.photometry
    meta.update(
        N_EXPOSURE_ROWS=len(rows),
        REDROCK=source.redrock.path.name if source.redrock else "",
        PHOTOMETRY=(match.file or source.catalog.path.name) if source.catalog and match else "FIBERMAP",
        PHOTOMETRY_MATCH=match.how if match else "FIBERMAP",
        PHOTSYS=light.photsys,
        N_BANDS=photometry.n_valid if photometry else 0,
        Z_SOURCE=redshift.source,
        ZWARN=redshift.zwarn,
        SPECTYPE=redshift.spectype,
        DELTACHI2=redshift.deltachi2,
        N_MASKED=sum(c.n_masked for c in cameras),
        N_BAD_PIXELS=sum(c.n_bad for c in cameras),
    )
    meta.update({f"SNR_{c.camera.upper()}": median_snr(c) for c in cameras})
    return meta
