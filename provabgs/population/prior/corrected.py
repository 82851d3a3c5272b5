"""Catalogs under a corrected prior: reweighted quantiles of every galaxy, collapsed weights, and the change of bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from provabgs.catalog.configuration import shared_config
from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.weights import weighted_quantiles
from provabgs.inference.config import FitConfig
from provabgs.population.prior.max_entropy import DEFAULT, N_PRIOR, MaxEntropyPrior
from provabgs.population.rows import RowSelection
from provabgs.population.sources import Source, fitted_source, open_source

REPORTED = ("LOGMSTAR_FORMED", "LOGMSTAR", "LOGSFR_1GYR", "LOGSSFR_1GYR", "LOGZ_MW", "T_AGE_MW")
"""Properties whose quantiles are given before and after."""
QUANTILES = (0.16, 0.5, 0.84)


class CorrectedCatalog(NamedTuple):
    """Summaries of a catalog's galaxies under a corrected prior."""

    table: Table
    """Per galaxy TARGETID, Z, N_EFFECTIVE, COLLAPSED, and quantiles NAME_P16 .. before, NAME_P16_CORR .. after."""
    prior: MaxEntropyPrior
    rows: RowSelection
    """Which galaxies entered, and why the others did not."""


def correct_catalog(
    path: str | Path,
    names: Sequence[str] = DEFAULT,
    *,
    where: str | None = None,
    mode: str = "both",
    claimed: FitConfig | None = None,
    include_not_converged: bool = False,
    prior: MaxEntropyPrior | None = None,
    n_prior: int | None = None,
) -> CorrectedCatalog:
    """Quantiles of every galaxy under a prior that is flat in `names`, by reweighting its draws.

    Parameters
    ----------
    path
        Catalog directory, posterior file or challenge folder; see `open_population`.
    names
        Properties made flat.
    where, mode, claimed, include_not_converged
        See `provabgs.population.density.reading.open_population`.
    prior
        A correction made before; None makes one at the median redshift of the galaxies.
    n_prior
        Number of prior draws for a correction that is made here.

    Returns
    -------
    CorrectedCatalog
        Table, correction and row selection.

    Raises
    ------
    InputError
        For unknown properties, or when no galaxy is left.
    ConfigError
        When the prior of the catalog is unknown, mixed, or not the one claimed.
    """
    source, rows = fitted_source(open_source(path, where, mode=mode), include_not_converged)
    config = shared_config(source.configs, claimed or (prior.config if prior else None), source.label)
    z = np.asarray(source.columns["Z"], dtype=np.float64)
    if prior is None:
        prior = MaxEntropyPrior.build(tuple(names), config, float(np.median(z)), n=n_prior or N_PRIOR)
    return CorrectedCatalog(_table(source, prior, z), prior, rows)


def _table(source: Source, prior: MaxEntropyPrior, z: FloatArray) -> Table:
    n = len(source)
    columns: dict[str, NDArray] = {
        "TARGETID": np.asarray(source.columns["TARGETID"]),
        "Z": z,
        "N_EFFECTIVE": np.full(n, np.nan),
        "COLLAPSED": np.zeros(n, dtype=bool),
    }
    for name in REPORTED:
        for q in QUANTILES:
            columns |= {key: np.full(n, np.nan) for key in _keys(name, q)}
    wanted = list(dict.fromkeys((*prior.names, *REPORTED)))
    for chunk in source.chunks(wanted):
        rows = chunk.positions
        found = prior.reweight(np.stack([chunk.values[k] for k in prior.names], axis=-1), z[rows])
        columns["N_EFFECTIVE"][rows], columns["COLLAPSED"][rows] = found.n_effective, found.collapsed
        for name in REPORTED:
            values = chunk.values[name]
            # the same estimator before and after: the difference is the prior's alone
            before = weighted_quantiles(values, np.where(np.isnan(values), 0.0, 1.0), QUANTILES)
            after = weighted_quantiles(values, found.weight, QUANTILES)
            for k, q in enumerate(QUANTILES):
                first, second = _keys(name, q)
                columns[first][rows], columns[second][rows] = before[:, k], after[:, k]
    return Table(columns)


def _keys(name: str, q: float) -> tuple[str, str]:
    return f"{name}_P{100 * q:.0f}", f"{name}_P{100 * q:.0f}_CORR"


REGIMES: dict[str, tuple[str, str, float, float]] = {
    "all, log M formed": ("LOGMSTAR_FORMED", "LOGMSTAR_FORMED", -np.inf, np.inf),
    "all, log SFR": ("LOGSFR_1GYR", "LOGSFR_1GYR", -np.inf, np.inf),
    "log SFR < -1": ("LOGSFR_1GYR", "LOGSFR_1GYR", -np.inf, -1.0),
    "all, log Z": ("LOGZ_MW", "LOGZ_MW", -np.inf, np.inf),
    "log Z < -2.2": ("LOGZ_MW", "LOGZ_MW", -np.inf, -2.2),
    "all, age": ("T_AGE_MW", "T_AGE_MW", -np.inf, np.inf),
    "age > 8 Gyr": ("T_AGE_MW", "T_AGE_MW", 8.0, np.inf),
}
"""Name -> property, true property that selects, its range: the regimes in which published biases are largest."""


def bias_table(
    correction: Table, truth: Mapping[str, ArrayLike], targetid: ArrayLike, low_snr: ArrayLike | None = None
) -> Table:
    """Median and 68 % half-width of (posterior median - truth), before and after correction.

    Parameters
    ----------
    correction
        Table of `CorrectedCatalog`.
    truth
        True values per sample column, of the galaxies `targetid`; -inf (no stars formed) is left out.
    targetid
        ``(n,)``.
    low_snr
        ``(n,)`` True for galaxies of low S/N: adds their row for log Z.

    Returns
    -------
    Table
        One row per regime: n, bias and scatter before and after, and the same without collapsed galaxies.

    Raises
    ------
    InputError
        When no galaxy has a truth.
    """
    position = {int(t): i for i, t in enumerate(np.asarray(targetid))}
    found = np.array([position.get(int(t), -1) for t in correction["TARGETID"]])
    if not (found >= 0).any():
        raise InputError("none of the galaxies has a truth; is this the challenge that the truth belongs to?")
    regimes = dict(REGIMES)
    if low_snr is not None:
        regimes["low S/N, log Z"] = ("LOGZ_MW", "LOW", 0.5, np.inf)
    table = {k: np.asarray(v, dtype=np.float64) for k, v in truth.items()}
    if low_snr is not None:
        table["LOW"] = np.asarray(low_snr, dtype=np.float64)
    rows = []
    for label, (name, by, low, high) in regimes.items():
        true = np.where(found >= 0, table[name][found], np.nan)
        key = np.where(found >= 0, table[by][found], np.nan)
        use = np.isfinite(true) & (key > low) & (key < high)
        kept = use & ~np.asarray(correction["COLLAPSED"])
        before, after = (np.asarray(correction[f"{name}_P50{s}"]) - true for s in ("", "_CORR"))
        rows.append((label, int(use.sum()), *_spread(before[use]), *_spread(after[use]), int(kept.sum()),
                     *_spread(before[kept]), *_spread(after[kept])))  # fmt: skip
    names = ["regime", "n", "bias", "scatter", "bias_corr", "scatter_corr", "n_kept", "bias_kept", "scatter_kept",
             "bias_kept_corr", "scatter_kept_corr"]  # fmt: skip
    return Table(rows=rows, names=names)


def _spread(delta: FloatArray) -> tuple[float, float]:
    """Median and 68 % half-width; NaN for fewer than three."""
    if delta.size < 3:
        return float("nan"), float("nan")
    low, mid, high = np.quantile(delta, QUANTILES)
    return float(mid), float(0.5 * (high - low))
