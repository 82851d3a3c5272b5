"""Columns that every catalog has: identity, survey, quality of the fit, provenance. Each says when it is null."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column of the summary.

    Attributes
    ----------
    name
        Upper case.
    dtype
        numpy type; ``"S"`` for text of any length.
    unit
        As astropy reads it, empty when dimensionless.
    description
        What it is, in one line.
    null
        When it is null (NaN in shards), or which value says so there.
    ucd
        Unified content descriptor of the IVOA.
    since
        Version of provabgs that first wrote it.
    """

    name: str
    dtype: str
    unit: str
    description: str
    null: str = ""
    ucd: str = ""
    since: str = "0.1.0"


UNREAD = "the reader does not know it"
NO_DRAWS = "there are no draws"
NO_SPECTRUM = "no spectrum was fitted"
NO_TERM = "the noise model has no such term, or the data determine none of it"
NEXT = "0.2.0"
"""Version that is being written."""

SURVEY: tuple[Column, ...] = (
    Column("TSNR2_BGS", "f4", "", "template signal-to-noise squared for BGS", null=UNREAD, ucd="stat.snr"),
    Column("MAG_G", "f4", "mag", "g-band magnitude, corrected for Galactic extinction", null=UNREAD, ucd="phot.mag"),
    Column("MAG_R", "f4", "mag", "r-band magnitude, corrected for Galactic extinction", null=UNREAD, ucd="phot.mag"),
    Column("MAG_Z", "f4", "mag", "z-band magnitude, corrected for Galactic extinction", null=UNREAD, ucd="phot.mag"),
    Column("MAG_W1", "f4", "mag", "W1 magnitude (AB), corrected for Galactic extinction", null=UNREAD, ucd="phot.mag"),
    Column("FIBMAG_R", "f4", "mag", "r-band magnitude inside the fiber", null=UNREAD, ucd="phot.mag"),
    Column(
        "SCHLEGEL_COLOR",
        "f4",
        "mag",
        "(z - W1) - 1.2 (g - r) + 1.2, the BGS Faint selection colour",
        null=UNREAD,
        ucd="phot.color",
    ),
    Column(
        "Z_MAX",
        "f4",
        "",
        "largest redshift at which the galaxy passes the selection",
        null=UNREAD,
        ucd="src.redshift;stat.max",
    ),
    Column("W_ZFAIL", "f4", "", "weight for redshift failures", null=UNREAD, ucd="stat.weight"),
    Column("W_FIBASSIGN", "f4", "", "weight for fiber assignment", null=UNREAD, ucd="stat.weight"),
    Column("IS_BGS_BRIGHT", "i1", "", "1 in BGS Bright, 0 not, -1 unknown", null=UNREAD),
    Column("IS_BGS_FAINT", "i1", "", "1 in BGS Faint, 0 not, -1 unknown", null=UNREAD),
    Column("EBV", "f4", "mag", "Galactic reddening", null=UNREAD, ucd="phot.color.excess"),
    Column("ZWARN", "i8", "", "redrock's warning bits, -1 unknown", null=UNREAD, ucd="meta.code.qual"),
    Column("SPECTYPE", "S", "", "redrock's spectral type", null=UNREAD, ucd="src.class"),
    Column("PHOTSYS", "S", "", "N (BASS, MzLS) or S (DECam) photometry", null=UNREAD),
    Column("SURVEY", "S", "", "DESI survey", null=UNREAD, ucd="meta.dataset"),
    Column("PROGRAM", "S", "", "DESI program", null=UNREAD, ucd="meta.dataset"),
    Column(
        "INPUT", "S", "", "file that the row was read from, as the run names it", null=UNREAD, ucd="meta.id;meta.file"
    ),
    Column("ROW", "i4", "", "row in that file, from 0, -1 unknown", null=UNREAD, ucd="meta.record"),
)
"""Columns filled from `Posterior.meta` where it has a key of that name; unknown is NaN, -1 or empty."""

IDENTITY: tuple[Column, ...] = (
    Column("TARGETID", "i8", "", "DESI target identifier", null="never", ucd="meta.id;meta.main"),
    Column("RA", "f8", "deg", "right ascension", null=UNREAD, ucd="pos.eq.ra;meta.main"),
    Column("DEC", "f8", "deg", "declination", null=UNREAD, ucd="pos.eq.dec;meta.main"),
    Column(
        "Z",
        "f8",
        "",
        "redshift of the fit (Z_HP in the published catalog)",
        null="the redshift could not be read",
        ucd="src.redshift",
    ),
    Column("ZERR", "f4", "", "redshift error", null="unknown", ucd="stat.error;src.redshift"),
    Column(
        "HPIX_64",
        "i4",
        "",
        "HEALPix pixel, nside 64, nested; -1 without coordinates",
        null="-1: no coordinates",
        ucd="pos.healpix",
    ),
    Column("STATUS", "i2", "", "provabgs.core.status.Status", null="never", ucd="meta.code.status"),
)

QUALITY: tuple[Column, ...] = (
    Column("RHAT_MAX", "f4", "", "largest rank-normalised split R-hat", null=NO_DRAWS, ucd="stat.param"),
    Column("ESS_MIN", "f4", "", "smallest bulk or tail effective sample size", null=NO_DRAWS, ucd="stat.param"),
    Column("N_EVAL", "i8", "", "likelihood evaluations spent", null="never; 0 without a fit", ucd="meta.number"),
    Column("N_DIVERGENT", "i4", "", "divergent transitions", null="never"),
    Column(
        "LOG_EVIDENCE",
        "f8",
        "",
        "log evidence where the sampler gives it",
        null="the sampler gives none",
        ucd="stat.likelihood",
    ),
    Column(
        "LOG_EVIDENCE_SPREAD",
        "f4",
        "",
        "log evidence of the best independent start over the second best",
        null="the sampler gives none",
        since=NEXT,
    ),
    Column(
        "ENGINE_DLNL",
        "f4",
        "",
        "scatter in ln L of the likelihood backend about the exact likelihood",
        null="nothing was compared",
    ),
    Column(
        "VDISP_FIXED",
        "f8",
        "km / s",
        "stellar velocity dispersion at which the fit held it; fitted ones are in the columns of VDISP",
        null="it was fitted, or there was no spectrum",
        ucd="phys.veloc.dispersion",
        since=NEXT,
    ),
    Column("RUNTIME_S", "f4", "s", "wall time of the fit", null="there was no fit", ucd="time.duration"),
    Column("CHI2_SPEC", "f8", "", "chi^2 of the best fit, spectrum", null=NO_SPECTRUM, ucd="stat.fit.chi2"),
    Column(
        "CHI2_PHOT", "f8", "", "chi^2 of the best fit, photometry", null="no bands were fitted", ucd="stat.fit.chi2"
    ),
    Column("DOF_SPEC", "i4", "", "pixels in CHI2_SPEC", null="never; 0 without a spectrum", ucd="stat.fit.dof"),
    Column("DOF_PHOT", "i4", "", "bands in CHI2_PHOT", null="never; 0 without bands", ucd="stat.fit.dof"),
    Column(
        "PRIOR_EDGE",
        "i8",
        "",
        "bit k: more than 5 % of draws of the fit's parameter k pile up at a prior edge",
        null="never",
        ucd="meta.code.qual",
    ),
    Column("N_DRAWS", "i4", "", "draws that the fit returned", null="never", ucd="meta.number"),
    Column("N_SAMPLES", "i4", "", "draws kept in the store", null="never", ucd="meta.number"),
)

FIT_QUALITY: tuple[Column, ...] = (
    Column(
        "FLAG",
        "i4",
        "",
        "what is doubtful, bits of provabgs.inference.flags.Flag; 0 is the recommended cut",
        null="never",
        ucd="meta.code.qual",
        since=NEXT,
    ),
    Column(
        "P_SPEC",
        "f8",
        "",
        "posterior-predictive p-value of chi^2, spectrum",
        null=NO_SPECTRUM,
        ucd="stat.probability",
        since=NEXT,
    ),
    Column(
        "P_SPEC_BINNED",
        "f8",
        "",
        "posterior-predictive p-value of chi^2, spectrum in bins of 8 good pixels",
        null=NO_SPECTRUM,
        ucd="stat.probability",
        since=NEXT,
    ),
    Column(
        "P_PHOT",
        "f8",
        "",
        "posterior-predictive p-value of chi^2, photometry given the spectrum",
        null="no bands were fitted",
        ucd="stat.probability",
        since=NEXT,
    ),
    Column(
        "TENSION",
        "f4",
        "",
        "distance of the bands from what spectrum and prior predict for them, sigmas",
        null="spectrum or bands are absent, or the spectrum predicts no band to within three times its error",
        ucd="stat.fit.param",
        since=NEXT,
    ),
    Column(
        "RESIDUAL",
        "f4",
        "",
        "largest mean residual over a window of the spectrum, in its sigmas, signed",
        null=NO_SPECTRUM,
        ucd="stat.fit.residual",
        since=NEXT,
    ),
    Column(
        "RESIDUAL_WAVE",
        "f4",
        "Angstrom",
        "centre of that window, rest frame, vacuum",
        null=NO_SPECTRUM,
        ucd="em.wl",
        since=NEXT,
    ),
    Column(
        "RESIDUAL_WIDTH",
        "f4",
        "Angstrom",
        "width of that window, rest frame",
        null=NO_SPECTRUM,
        ucd="em.wl;spect.line.width",
        since=NEXT,
    ),
    Column(
        "TEMPLATE_RMS",
        "f4",
        "",
        "rms coefficient of template error, prior sigmas; 1 expected",
        null=NO_TERM,
        since=NEXT,
    ),
    Column("TEMPLATE_P", "f8", "", "probability of larger coefficients of template error", null=NO_TERM, since=NEXT),
    Column(
        "CALIBRATION_RMS",
        "f4",
        "",
        "rms coefficient of calibration errors, prior sigmas",
        null=NO_TERM,
        since=NEXT,
    ),
    Column(
        "CALIBRATION_P", "f8", "", "probability of larger coefficients of calibration errors", null=NO_TERM, since=NEXT
    ),
    Column(
        "FIBER_COLOUR_RMS",
        "f4",
        "",
        "rms coefficient of the fiber's colour, prior sigmas",
        null=NO_TERM,
        since=NEXT,
    ),
    Column(
        "FIBER_COLOUR_P", "f8", "", "probability of larger coefficients of the fiber's colour", null=NO_TERM, since=NEXT
    ),
    Column(
        "NOISE_RMS",
        "f4",
        "",
        "rms coefficient of all other noise templates, prior sigmas",
        null=NO_TERM,
        since=NEXT,
    ),
    Column(
        "NOISE_P", "f8", "", "probability of larger coefficients of all other noise templates", null=NO_TERM, since=NEXT
    ),
    Column("N_CLIPPED", "i4", "", "pixels masked as outliers", null="never", since=NEXT),
)
"""How well the data are described: FLAG, the numbers of `provabgs.inference.quality.Quality`, and outliers."""

CLIPPED = Column(
    "CLIPPED",
    "S",
    "Angstrom",
    "observed wavelengths of the pixels masked as outliers, the first 1000",
    null="empty: none",
    ucd="em.wl",
    since=NEXT,
)
"""Kept in shards and posterior files, not in the Parquet summary."""

PROVENANCE: tuple[Column, ...] = (
    Column("SAMPLER", "S", "", "sampler that made the draws", null="there was no fit", ucd="meta.id;meta.software"),
    Column("SEED", "i8", "", "seed of the fit", null="never", ucd="meta.id"),
    Column("DATA_HASH", "S", "", "SHA-256 of the fitted data", null="the data could not be read", ucd="meta.checksum"),
    Column("CONFIG_ID", "i4", "", "row of the shard's `configs`", null="never"),
    Column("VERSIONS_ID", "i4", "", "row of the shard's `versions`", null="never"),
    Column("MODEL_ID", "i4", "", "row of the shard's `models`, -1 without samples", null="-1: there are no draws"),
    Column(
        "MESSAGE", "S", "", "why there are no samples, or what to mind", null="there is nothing to say", ucd="meta.note"
    ),
    Column("META", "S", "", "what else the reader kept, JSON", null="never; {} for nothing", ucd="meta.note"),
)

LOCATION: tuple[Column, ...] = (
    Column("SHARD", "S", "", "shard file, relative to the catalog's directory", null="never", ucd="meta.id;meta.file"),
    Column("SHARD_ROW", "i4", "", "row in that shard", null="never", ucd="meta.record"),
)
"""Columns of the Parquet summary alone: where a row's draws are."""

QUANTITY_UCDS: dict[str, str] = {
    "LOGMSTAR_FORMED": "phys.mass", "LOGMSTAR": "phys.mass", "LOGSFR_100MYR": "phys.SFR", "LOGSFR_1GYR": "phys.SFR",
    "LOGZ_MW": "phys.abund.Z", "T_AGE_MW": "time.age", "FBURST": "phys.mass;arith.ratio", "TBURST": "time.age",
    "TAU_BC": "phys.absorption.opticalDepth", "TAU_ISM": "phys.absorption.opticalDepth",
    "VDISP": "phys.veloc.dispersion", "F_FIBER": "phot.flux;arith.ratio",
}  # fmt: skip
"""UCD of parameters and derived properties, by column."""
LATER = frozenset({"LIGHT_ERROR", "VDISP", "LIBRARY", "HISTORY", "TEMPLATE_ERROR"})
"""Quantities that came with `NEXT`."""


def statistic(name: str, suffix: str, dtype: str, unit: str, description: str, ucd: str = "") -> Column:
    """A column that says something of a quantity's draws.

    Parameters
    ----------
    name
        Column of the quantity.
    suffix
        Of the statistic.
    dtype, unit, description
        Of the column.
    ucd
        Of the statistic; that of the quantity is joined to it.

    Returns
    -------
    Column
        Null without draws, and for galaxies whose model lacks the quantity.
    """
    of_quantity = QUANTITY_UCDS.get(name, "stat.value")
    parts = [of_quantity, ucd] if ucd and (of_quantity, ucd) != ("stat.value", "stat.value") else [of_quantity]
    since = NEXT if name in LATER else "0.1.0"
    null = f"{NO_DRAWS}, or the galaxy's model lacks the quantity"
    return Column(f"{name}_{suffix}", dtype, unit, description, null=null, ucd=";".join(parts), since=since)
