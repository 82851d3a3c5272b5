"""The one table of catalog columns: shards, the Parquet summary, queries and exports read from here."""

from __future__ import annotations

from dataclasses import dataclass

from provabgs.sps.parameters import DERIVED, GAS, PARAMETERS, DerivedProperty, Parameter


@dataclass(frozen=True)
class Column:
    """One column of the summary: name, numpy type (``"S"`` for text of any length), unit and meaning."""

    name: str
    dtype: str
    unit: str
    description: str


SAMPLED: dict[str, str] = {
    **{p.name: p.column for p in PARAMETERS},
    **{d.name: d.column for d in DERIVED},
}
"""Python name -> column name of every quantity of which samples are kept: 13 parameters, then derived properties."""

OPTIONAL: dict[str, str] = {p.name: p.column for p in GAS}
"""Likewise of parameters that only some fits have; kept among a posterior's derived quantities.

Shards hold samples of them where some galaxy has any; their columns of the summary are NaN elsewhere.
"""

LOG_PROB = "LOG_PROB"
"""Column of the log posterior density of each draw."""

SAMPLE_COLUMNS: tuple[str, ...] = (*SAMPLED.values(), LOG_PROB)
"""Datasets of a shard's ``samples`` group, each ``(N, S)``; there may be more, of `OPTIONAL`."""

QUANTILES: dict[str, float] = {"P16": 0.16, "P50": 0.50, "P84": 0.84}
"""Suffixes of the quantile columns and the quantiles they hold."""

SURVEY: tuple[Column, ...] = (
    Column("TSNR2_BGS", "f4", "", "template signal-to-noise squared for BGS"),
    Column("MAG_G", "f4", "mag", "g-band magnitude, corrected for Galactic extinction"),
    Column("MAG_R", "f4", "mag", "r-band magnitude, corrected for Galactic extinction"),
    Column("MAG_Z", "f4", "mag", "z-band magnitude, corrected for Galactic extinction"),
    Column("MAG_W1", "f4", "mag", "W1 magnitude (AB), corrected for Galactic extinction"),
    Column("FIBMAG_R", "f4", "mag", "r-band magnitude inside the fiber"),
    Column("SCHLEGEL_COLOR", "f4", "mag", "(z - W1) - 1.2 (g - r) + 1.2, the BGS Faint selection colour"),
    Column("Z_MAX", "f4", "", "largest redshift at which the galaxy passes the selection"),
    Column("W_ZFAIL", "f4", "", "weight for redshift failures"),
    Column("W_FIBASSIGN", "f4", "", "weight for fiber assignment"),
    Column("IS_BGS_BRIGHT", "i1", "", "1 in BGS Bright, 0 not, -1 unknown"),
    Column("IS_BGS_FAINT", "i1", "", "1 in BGS Faint, 0 not, -1 unknown"),
    Column("EBV", "f4", "mag", "Galactic reddening"),
    Column("ZWARN", "i8", "", "redrock's warning bits, -1 unknown"),
    Column("SPECTYPE", "S", "", "redrock's spectral type"),
    Column("PHOTSYS", "S", "", "N (BASS, MzLS) or S (DECam) photometry"),
    Column("SURVEY", "S", "", "DESI survey"),
    Column("PROGRAM", "S", "", "DESI program"),
    Column("INPUT", "S", "", "file that the row was read from, as the run names it"),
    Column("ROW", "i4", "", "row in that file, from 0, -1 unknown"),
)
"""Columns filled from `Posterior.meta` where it has a key of that name; unknown is NaN, -1 or empty."""

IDENTITY: tuple[Column, ...] = (
    Column("TARGETID", "i8", "", "DESI target identifier"),
    Column("RA", "f8", "deg", "right ascension"),
    Column("DEC", "f8", "deg", "declination"),
    Column("Z", "f8", "", "redshift of the fit (Z_HP in the published catalog)"),
    Column("ZERR", "f4", "", "redshift error"),
    Column("HPIX_64", "i4", "", "HEALPix pixel, nside 64, nested; -1 without coordinates"),
    Column("STATUS", "i2", "", "provabgs.core.status.Status"),
)

QUALITY: tuple[Column, ...] = (
    Column("RHAT_MAX", "f4", "", "largest rank-normalised split R-hat"),
    Column("ESS_MIN", "f4", "", "smallest bulk or tail effective sample size"),
    Column("N_EVAL", "i8", "", "likelihood evaluations spent"),
    Column("N_DIVERGENT", "i4", "", "divergent transitions"),
    Column("LOG_EVIDENCE", "f8", "", "log evidence where the sampler gives it"),
    Column("RUNTIME_S", "f4", "s", "wall time of the fit"),
    Column("CHI2_SPEC", "f8", "", "chi^2 of the best fit, spectrum"),
    Column("CHI2_PHOT", "f8", "", "chi^2 of the best fit, photometry"),
    Column("DOF_SPEC", "i4", "", "pixels in CHI2_SPEC"),
    Column("DOF_PHOT", "i4", "", "bands in CHI2_PHOT"),
    Column("PRIOR_EDGE", "i4", "", "bit k: more than 5 % of draws of parameter k lie at an edge of its prior"),
    Column("N_DRAWS", "i4", "", "draws that the fit returned"),
    Column("N_SAMPLES", "i4", "", "draws kept in the store"),
)

PRIOR_EDGE_FRACTION = 0.05
"""Fraction of draws at a prior edge above which the PRIOR_EDGE bit is set."""

PROVENANCE: tuple[Column, ...] = (
    Column("SAMPLER", "S", "", "sampler that made the draws"),
    Column("SEED", "i8", "", "seed of the fit"),
    Column("DATA_HASH", "S", "", "SHA-256 of the fitted data"),
    Column("CONFIG_ID", "i4", "", "row of the shard's `configs`"),
    Column("VERSIONS_ID", "i4", "", "row of the shard's `versions`"),
    Column("MESSAGE", "S", "", "why there are no samples, or what to mind"),
    Column("META", "S", "", "what else the reader kept, JSON"),
)


def _statistics() -> tuple[Column, ...]:
    """Quantiles, best fit, R-hat and effective sample sizes of every sampled quantity."""
    columns: list[Column] = []
    quantities: tuple[Parameter | DerivedProperty, ...] = (*PARAMETERS, *DERIVED, *GAS)
    for quantity in quantities:
        what, unit = quantity.description, quantity.unit
        for suffix, q in QUANTILES.items():
            columns.append(Column(f"{quantity.column}_{suffix}", "f4", unit, f"{100 * q:.0f} % quantile: {what}"))
        columns.append(Column(f"{quantity.column}_BF", "f8", unit, f"best fit: {what}"))
        columns.append(Column(f"{quantity.column}_RHAT", "f4", "", f"R-hat: {what}"))
        columns.append(Column(f"{quantity.column}_ESS_BULK", "f4", "", f"bulk effective sample size: {what}"))
        columns.append(Column(f"{quantity.column}_ESS_TAIL", "f4", "", f"tail effective sample size: {what}"))
    columns += [
        Column(f"{p.column}_EDGE", "f4", "", f"fraction of draws within 1 % of a prior edge: {p.description}")
        for p in (*PARAMETERS, *GAS)
    ]
    return tuple(columns)


STATISTICS: tuple[Column, ...] = _statistics()
COLUMNS: tuple[Column, ...] = (*IDENTITY, *SURVEY, *QUALITY, *STATISTICS, *PROVENANCE)
"""Every column of the summary, in order."""
BY_NAME: dict[str, Column] = {c.name: c for c in COLUMNS}

VOLATILE: frozenset[str] = frozenset({"RUNTIME_S", "VERSIONS_ID", "CONFIG_ID"})
"""Columns that may differ between two runs that made the same catalog: wall time, and positions in per-shard tables."""
