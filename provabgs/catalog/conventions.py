"""What other catalogs mean by their columns, with sources, and factors from one convention to another.

- Initial mass function, from Salpeter: masses times 0.61 to Chabrier, 0.66 to Kroupa; SFRs 0.63, 0.67 (MD14).
- Cosmology and h: masses, SFRs and luminosities go with the square of the luminosity distance.
- Mass formed or surviving: our own galaxy-by-galaxy difference of the two.
- Aperture: what is of the fiber's light alone is divided by our f_fiber.

MD14: Madau & Dickinson (2014, ARA&A 52, 415), section 3.1.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from provabgs.core.arrays import FloatArray
from provabgs.observe.cosmology import Cosmology

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

    @field_validator("key")
    @classmethod
    def _by_position(cls, key: str | None) -> str | None:
        return key or None


def _column(name: str, what: What, scale: Literal["log", "linear"] = "log") -> Other:
    return Other(column=name, what=what, scale=scale)


LAYOUTS: dict[str, Layout] = {
    "fastspecfit": Layout(
        name="FastSpecFit",
        source="its manual: Chabrier, surviving masses; masses, SFRs and absolute magnitudes in units of h = 1",
        cosmology=FlatLCDM(h0=100.0, om0=0.3152),
        missing=(0.0,),
        columns={
            "LOGMSTAR": _column("LOGMSTAR", "mass"),
            "LOGSFR_100MYR": _column("SFR", "sfr", "linear"),
            "ABSMAG01_SDSS_R": _column("ABSMAG01_SDSS_R", "absmag"),
            "DN4000_MODEL": _column("DN4000_MODEL", "other"),
        },
    ),
    "provabgs": Layout(
        name="published PROVABGS",
        source="Hahn et al. (2023b) and the production's scripts: PROVABGS_LOGMSTAR_BF is the surviving mass",
        columns={"LOGMSTAR": _column("PROVABGS_LOGMSTAR_BF", "mass")},
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
    ),
    "mpa-jhu": Layout(
        name="MPA-JHU",
        source="Kauffmann et al. (2003), Brinchmann et al. (2004), Salim et al. (2007): Kroupa; h = 0.7; corrected to "
        "the whole galaxy; surviving masses",
        key=None,
        imf="kroupa",
        cosmology=FlatLCDM(h0=70.0, om0=0.3),
        missing=(-9999.0, -99.9, -1.0),
        columns={
            "LOGMSTAR": _column("LGM_TOT_P50", "mass"),
            "LOGSFR_100MYR": _column("SFR_TOT_P50", "sfr"),
            "DN4000": _column("D4000_N", "other"),
        },
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
