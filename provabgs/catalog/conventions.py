"""What other catalogs mean by their columns, with sources, and factors from one convention to another.

- Initial mass function, from Salpeter: masses times 0.61 to Chabrier, 0.66 to Kroupa; SFRs 0.63, 0.67 (MD14).
- Cosmology and h: masses, SFRs and luminosities go with the square of the luminosity distance.
- Mass formed or surviving: our own galaxy-by-galaxy difference of the two.
- Aperture: what is of the fiber's light alone is divided by our f_fiber.

MD14: Madau & Dickinson (2014, ARA&A 52, 415), section 3.1.

Names and meanings of the columns were held against (November 2026): FastSpecFit's data model (doc/fastspec.rst, main
branch) and code (py/fastspecfit/continuum.py: LOGMSTAR is of "current mass in stars", SFR the templates' own;
cosmo.py: H0 = 100 and DESI's fiducial cosmology); pcigale's out parameters (creation_modules/bc03.py, sed/cosmology.py:
WMAP7; sed/__init__.py: sfr100Myrs is the mean of the last 100 Myr); SDSS's page "Galaxy Properties from the MPA-JHU
group" (Kroupa's IMF; total masses of model magnitudes) and the MPA's page of the SFR catalogue (h = 0.7, Omega_m 0.3).
Of the published PROVABGS catalog, whose data model is not public, names were held against scripts that read it.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from provabgs.core.arrays import FloatArray
from provabgs.inference.config import PRESETS
from provabgs.observe.cosmology import Cosmology
from provabgs.observe.options import ObservingOptions

Imf = Literal["chabrier", "kroupa", "salpeter"]
What = Literal["mass", "sfr", "absmag", "other"]
IMF_MASS: dict[str, float] = {"salpeter": 1.0, "kroupa": 0.66, "chabrier": 0.61}
"""Mass of the same light, over that with Salpeter's IMF."""
IMF_SFR: dict[str, float] = {"salpeter": 1.0, "kroupa": 0.67, "chabrier": 0.63}
"""Star-formation rate of the same light, over that with Salpeter's IMF."""


class FlatLCDM(BaseModel):
    """A flat cosmology by its numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    h0: float = Field(gt=0, description="Hubble constant, km/s/Mpc; 100 for quantities in units of h = 1")
    om0: float = Field(gt=0, lt=1, description="matter density")


class Other(BaseModel):
    """One column of another catalog."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str = Field(description="its name there")
    what: What = Field(description="which conversions it takes")
    scale: Literal["log", "linear"] = Field("log", description="'linear' is taken the log10 of; magnitudes are 'log'")


class Refit(BaseModel):
    """A convention of another catalog that only a fit under it can tell: `provabgs compare --explain`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    part: str = Field(pattern=r"[a-z][a-z0-9 -]*", description="what it is called: bands, history, dust, library ...")
    changes: dict[str, Any] = Field(description="options of a fit, by table, as under [fit]")


class Layout(BaseModel):
    """Another catalog: which columns are comparable with ours, and by what conventions they are made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    source: str = Field("", description="where the conventions are written")
    key: str | None = Field("TARGETID", description="column of the TARGETID; empty to join by position on the sky")
    ra: str = "RA"
    dec: str = "DEC"
    imf: Imf = "chabrier"
    mass: Literal["formed", "surviving"] = "surviving"
    aperture: Literal["total", "fiber"] = "total"
    cosmology: str | FlatLCDM = "Planck13"
    missing: tuple[float, ...] = Field((), description="values that mean none")
    columns: dict[str, Other] = Field(description="our quantity (LOGMSTAR, LOGSFR_1GYR, ABSMAG01_SDSS_R ...) to theirs")
    refit: tuple[Refit, ...] = Field((), description="its conventions as options of our fits, one after another")

    @field_validator("key")
    @classmethod
    def _by_position(cls, key: str | None) -> str | None:
        return key or None


def _column(name: str, what: What, scale: Literal["log", "linear"] = "log") -> Other:
    return Other(column=name, what=what, scale=scale)


_PLAIN_NOISE: dict[str, Any] = {
    "observing": {key: ObservingOptions.model_fields[key].default for key in PRESETS["honest"]["observing"]}
}
"""No error of the library, no calibration by camera, no clipping: as codes have it that know of none."""
_ONE_SCREEN: dict[str, Any] = {"prior_bounds": {"tau_bc": (0.0, 0.001), "n_dust": (-0.001, 0.001)}}
"""The same dust of Calzetti's slope before all stars."""
_OWN = ("LOGMSTAR", "LOGMSTAR_FORMED", "LOGSFR_100MYR", "LOGSFR_1GYR", "T_AGE_MW", "LOGZ_MW")

LAYOUTS: dict[str, Layout] = {
    "own": Layout(
        name="the other fits of this package",
        source="a catalog, posterior file or HATS export of this package; nothing to convert under one cosmology",
        columns={name: _column(f"{name}_P50", "other") for name in _OWN},
    ),
    "fastspecfit": Layout(
        name="FastSpecFit",
        source="its data model: Chabrier (2003), surviving masses; masses, SFRs and absolute magnitudes for h = 1; its "
        "SFR is that of its youngest templates, instantaneous by its data model",
        cosmology=FlatLCDM(h0=100.0, om0=0.3152),
        missing=(0.0,),
        columns={
            "LOGMSTAR": _column("LOGMSTAR", "mass"),
            "LOGSFR_10MYR": _column("SFR", "sfr", "linear"),
            "LOGSFR_100MYR": _column("SFR", "sfr", "linear"),
            "ABSMAG01_SDSS_R": _column("ABSMAG01_SDSS_R", "absmag"),
            "DN4000_MODEL": _column("DN4000_MODEL", "other"),
        },
        refit=(
            Refit(part="noise", changes=_PLAIN_NOISE),
            Refit(part="history", changes={"model": {"history": "bins"}}),
            Refit(part="dust", changes=_ONE_SCREEN),
        ),
    ),
    "provabgs": Layout(
        name="published PROVABGS",
        source="Hahn et al. (2023b) and the production's scripts: PROVABGS_LOGMSTAR_BF is the surviving mass",
        columns={"LOGMSTAR": _column("PROVABGS_LOGMSTAR_BF", "mass")},
        refit=(
            Refit(part="bands", changes={"observing": {"bands": ("g", "r", "z"), "filter_group": "decam2014"}}),
            Refit(part="noise", changes={"observing": _PLAIN_NOISE["observing"] | {"noise": (), "line_mask": "none"}}),
            Refit(
                part="resolution",
                changes={"observing": {"vdisp_kms": 0.0, "resolution": "ignored", "fiber_error": "released"}},
            ),
            Refit(part="code", changes={"model": {"conventions": "published-code"}}),
        ),
    ),
    "cigale": Layout(
        name="CIGALE",
        source="Boquien et al. (2019, A&A 622, A103): bayes.stellar.m_star is of living stars and remnants, Msun; "
        "WMAP7; the IMF is the configuration's (bc03 imf = 1, Chabrier, is assumed)",
        key="id",
        cosmology="WMAP7",
        columns={
            "LOGMSTAR": _column("bayes.stellar.m_star", "mass", "linear"),
            "LOGSFR_100MYR": _column("bayes.sfh.sfr100Myrs", "sfr", "linear"),
        },
        refit=(
            Refit(part="data", changes={"use": "photometry"}),
            Refit(part="noise", changes=_PLAIN_NOISE),
            Refit(part="history", changes={"model": {"history": "delayed-tau"}}),
            Refit(part="dust", changes=_ONE_SCREEN),
        ),
    ),
    "mpa-jhu": Layout(
        name="MPA-JHU",
        source="SDSS DR8 galSpecExtra (masses from model magnitudes, SFRs), galSpecIndx (D4000_N) and galSpecInfo (RA, "
        "DEC), side by side; Kauffmann et al. (2003), Brinchmann et al. (2004), Salim et al. (2007): Kroupa (2001); "
        "h = 0.7; the whole galaxy; surviving masses",
        key=None,
        imf="kroupa",
        cosmology=FlatLCDM(h0=70.0, om0=0.3),
        missing=(-9999.0, -99.9, -1.0),
        columns={
            "LOGMSTAR": _column("LGM_TOT_P50", "mass"),
            "LOGSFR_100MYR": _column("SFR_TOT_P50", "sfr"),
            "DN4000": _column("D4000_N", "other"),
        },
        refit=(Refit(part="data", changes={"use": "photometry"}), Refit(part="noise", changes=_PLAIN_NOISE)),
    ),
}
"""Catalogs whose conventions are known, by the name that ``provabgs compare --layout`` takes."""


def distance_ratio(theirs: str | FlatLCDM, redshift: FloatArray, ours: Cosmology) -> FloatArray:
    """log10 of our luminosity distance over theirs.

    Parameters
    ----------
    theirs
        Another catalog's cosmology.
    redshift
        ``(n,)``.
    ours
        Cosmology of our fits.

    Returns
    -------
    numpy.ndarray
        ``(n,)``.
    """
    known = np.asarray(ours.luminosity_distance_cm(redshift))
    if isinstance(theirs, str):
        other = np.asarray(Cosmology(theirs).luminosity_distance_cm(redshift))
    else:
        from astropy.cosmology import FlatLambdaCDM  # slow to import

        other = np.asarray(FlatLambdaCDM(theirs.h0, theirs.om0).luminosity_distance(redshift).to_value("cm"))
    return np.asarray(np.log10(known / other))


def to_ours(
    layout: Layout,
    column: Other,
    values: FloatArray,
    log_distance: FloatArray,
    surviving_over_formed: FloatArray,
    log_f_fiber: FloatArray,
) -> tuple[FloatArray, dict[str, FloatArray]]:
    """A column of another catalog in our conventions: Chabrier, surviving, our cosmology, the whole galaxy.

    Parameters
    ----------
    layout, column
        What it is there.
    values
        ``(n,)`` as they stand there.
    log_distance
        ``(n,)`` log10 of our luminosity distance over theirs.
    surviving_over_formed
        ``(n,)`` our log10 of surviving mass over mass formed.
    log_f_fiber
        ``(n,)`` our log10 of f_fiber.

    Returns
    -------
    values, steps
        ``(n,)``; and what was added for each convention, dex or mag, so that an offset's parts can be told.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log10(values) if column.scale == "linear" else np.asarray(values, dtype=np.float64)
    value = np.where(np.isfinite(value), value, np.nan)
    steps: dict[str, FloatArray] = {}
    if column.what in ("mass", "sfr"):
        table = IMF_MASS if column.what == "mass" else IMF_SFR
        steps["IMF"] = np.full(value.shape, np.log10(table["chabrier"] / table[layout.imf]))
        steps["cosmology"] = 2 * log_distance
    if column.what == "absmag":
        steps["cosmology"] = -5 * log_distance
    if column.what == "mass" and layout.mass == "formed":
        steps["surviving"] = surviving_over_formed
    if layout.aperture == "fiber" and column.what != "other":
        steps["aperture"] = 2.5 * log_f_fiber if column.what == "absmag" else -log_f_fiber
    for step in steps.values():
        value = value + step
    return value, steps
