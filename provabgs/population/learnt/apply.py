"""Every galaxy of a catalog under a learnt population prior, by reweighting its stored draws."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from provabgs.catalog.configuration import shared_config
from provabgs.catalog.names import sample_names
from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError, InputError
from provabgs.core.weights import effective_sample_size, normalised, weighted_quantiles
from provabgs.inference.config import FitConfig
from provabgs.inference.learnt import LEAST_EFFECTIVE, LearntPrior, half_of
from provabgs.population.rows import RowSelection, fitted_rows
from provabgs.population.sources import Source, open_source

REPORTED = (
    *("LOGMSTAR_FORMED", "LOGMSTAR", "LOGSFR_100MYR", "LOGSFR_1GYR", "LOGSSFR_1GYR"),
    *("LOGZ_MW", "T_AGE_MW", "TAU_ISM"),
)
"""Properties whose quantiles are given under both priors, of those that a catalog has."""
QUANTILES = (0.16, 0.5, 0.84)
GALAXIES = 1024
"""Galaxies whose weights are computed at a time."""


class Weighted(NamedTuple):
    """Weights that turn draws under the inference prior into draws under the population prior."""

    weight: FloatArray
    """``(n, S)``, 1 in sum; 0 for draws that do not count."""
    members: FloatArray
    """``(members, n, S)`` the same under each member of the ensemble alone."""
    n_effective: FloatArray
    """``(n,)``."""
    log_evidence: FloatArray
    """``(n,)`` ln of the evidence under the population prior over that under the inference prior."""


class Applied(NamedTuple):
    """A catalog under a population prior."""

    table: Table
    """One row a galaxy; see `apply_prior`."""
    rows: RowSelection
    """Which galaxies are in it, and why the others are not."""

    @property
    def collapsed(self) -> Table:
        """TARGETID and POP_N_EFFECTIVE of galaxies to be fitted again: what ``provabgs run --targets`` takes."""
        again = np.asarray(self.table["POP_COLLAPSED"]) & ~np.asarray(self.table["POP_REFITTED"])
        return self.table[again]["TARGETID", "POP_N_EFFECTIVE"]


def reweight_draws(
    prior: LearntPrior, values: FloatArray, redshift: FloatArray, targetid: NDArray[np.int64]
) -> Weighted:
    """Weights of the draws of galaxies under a learnt prior, each galaxy's of the half that it is not in.

    Parameters
    ----------
    prior
        The learnt prior.
    values
        ``(n, S, d)`` draws in the order of ``prior.names``; NaN draws get weight 0.
    redshift, targetid
        ``(n,)``.

    Returns
    -------
    Weighted
        Of the mean of the members, and of each.
    """
    log_members = prior.log_ratio(values, redshift, targetid)
    log_members = np.where(np.isnan(log_members), -np.inf, log_members)
    mean = np.logaddexp.reduce(log_members, axis=0) - np.log(len(log_members))
    number = np.maximum(np.isfinite(mean).sum(axis=1), 1)
    log_evidence = np.logaddexp.reduce(mean, axis=1) - np.log(number)
    return Weighted(normalised(mean), normalised(log_members), effective_sample_size(mean), log_evidence)


def apply_prior(
    path: str | Path,
    prior: LearntPrior,
    *,
    where: str | None = None,
    mode: str = "both",
    claimed: FitConfig | None = None,
    include_not_converged: bool = False,
    least_effective: float = LEAST_EFFECTIVE,
    refits: str | Path | None = None,
) -> Applied:
    """Quantiles of every galaxy under the inference prior and under the population prior.

    Parameters
    ----------
    path
        Catalog directory, posterior file or challenge folder.
    prior
        From `provabgs.population.learnt.learn.learn_prior`.
    where, mode
        See `provabgs.population.sources.open_source`.
    claimed
        Configuration that the catalog is believed to have been fitted under.
    include_not_converged
        Take galaxies of STATUS NOT_CONVERGED too.
    least_effective
        Effective draws below which weights count as collapsed.
    refits
        Catalog of fits under this prior (``fit.prior``), whose draws count in place of weights.

    Returns
    -------
    Applied
        Columns: TARGETID, Z, FLAG; NAME_P16, _P50, _P84 under the inference prior, as in the catalog; POP_NAME_P16,
        _P50, _P84 under the population prior, NaN where weights collapsed and no refit is there, and POP_NAME_ERR, the
        scatter of the median over the members of the prior; POP_N_EFFECTIVE, POP_COLLAPSED, POP_LOG_EVIDENCE (over that
        of the inference prior), POP_HALF, the half that the galaxy is in and its prior was *not* learnt from, and
        POP_REFITTED, whether POP_NAME columns are of a refit.

    Raises
    ------
    ConfigError
        When the catalog's fits are of another model, history, cosmology or prior than the learnt prior, or mixed; when
        refits were not made under this very prior.
    InputError
        When no galaxy is left.
    """
    source = open_source(path, where, mode=mode, columns=["FLAG"])
    return apply_to(
        source,
        prior,
        refits=None if refits is None else open_source(refits),
        claimed=claimed,
        include_not_converged=include_not_converged,
        least_effective=least_effective,
    )


def apply_to(
    source: Source,
    prior: LearntPrior,
    *,
    claimed: FitConfig | None = None,
    include_not_converged: bool = False,
    least_effective: float = LEAST_EFFECTIVE,
    refits: Source | None = None,
) -> Applied:
    """`apply_prior` of galaxies that are open already.

    Parameters
    ----------
    source
        With the column FLAG.
    prior, claimed, include_not_converged, least_effective, refits
        See `apply_prior`.

    Returns
    -------
    Applied
        See `apply_prior`.
    """
    config = shared_config(source.configs, claimed, source.label)
    if config.prior is not None:
        raise ConfigError(f"{source.label}: was fitted under a learnt prior already; reweighting would count it twice")
    prior.check(config)
    rows = fitted_rows(source.columns["STATUS"], source.columns["N_SAMPLES"], include_not_converged)
    low, high = prior.z_range
    rows.drop(~prior.covers(source.columns["Z"]), f"beyond the prior's redshifts {low:.3g} to {high:.3g}")
    rows.require_some(source.label)
    source = source.take(np.flatnonzero(rows.keep))
    table = _table(source, prior, least_effective)
    if refits is not None:
        _take_refits(table, refits, prior)
    return Applied(table, rows)


def _table(source: Source, prior: LearntPrior, least_effective: float) -> Table:
    n, ids = len(source), np.asarray(source.columns["TARGETID"], dtype=np.int64)
    z = np.asarray(source.columns["Z"], dtype=np.float64)
    reported = [name for name in REPORTED if name in sample_names(source.schema)]
    columns: dict[str, NDArray] = {"TARGETID": ids, "Z": z, "FLAG": np.asarray(source.columns["FLAG"], dtype=np.int32)}
    columns |= {k: np.full(n, np.nan) for k in ("POP_N_EFFECTIVE", "POP_LOG_EVIDENCE")}
    columns |= {"POP_COLLAPSED": np.zeros(n, dtype=bool), "POP_HALF": half_of(ids).astype(np.int16)}
    columns["POP_REFITTED"] = np.zeros(n, dtype=bool)
    for name in reported:
        keys = [key for q in QUANTILES for key in _keys(name, q)]
        columns |= {key: np.full(n, np.nan) for key in (*keys, f"POP_{name}_ERR")}
    for chunk in source.chunks(list(dict.fromkeys((*prior.names, *reported)))):
        for first in range(0, len(chunk.positions), GALAXIES):
            part = slice(first, first + GALAXIES)
            values, at = {k: v[part] for k, v in chunk.values.items()}, chunk.positions[part]
            draws = np.stack([values[k] for k in prior.names], axis=-1)
            found = reweight_draws(prior, draws, z[at], ids[at])
            collapsed = found.n_effective < least_effective
            columns["POP_N_EFFECTIVE"][at], columns["POP_COLLAPSED"][at] = found.n_effective, collapsed
            columns["POP_LOG_EVIDENCE"][at] = found.log_evidence
            for name in reported:
                for key, column in _quantiles(name, values[name], found, collapsed).items():
                    columns[key][at] = column
    table = Table(columns)
    table.meta["PRIORSHA"] = prior.sha256
    return table


def _take_refits(table: Table, refits: Source, prior: LearntPrior) -> None:
    """Lay the posteriors of fits under the prior over those by weights."""
    config = shared_config(refits.configs, None, refits.label)
    if config.prior is None:
        raise ConfigError(f"{refits.label}: was fitted under the inference prior; refits need fit.prior")
    if config.prior.sha256 != prior.sha256:
        raise ConfigError(
            f"{refits.label}: was fitted under another learnt prior ({config.prior.path.name}); apply that one, or fit "
            "again under this one"
        )
    refits = refits.take(np.flatnonzero(fitted_rows(refits.columns["STATUS"], refits.columns["N_SAMPLES"]).keep))
    ids, z = np.asarray(refits.columns["TARGETID"], dtype=np.int64), np.asarray(refits.columns["Z"], dtype=np.float64)
    place = {int(targetid): row for row, targetid in enumerate(table["TARGETID"])}
    if strange := [int(i) for i in ids if int(i) not in place]:
        raise InputError(
            f"{refits.label}: {len(strange)} galaxies (TARGETID {strange[0]}, ...) are not among those of the catalog"
        )
    reported = [name for name in REPORTED if f"POP_{name}_P50" in table.colnames]
    for chunk in refits.chunks(list(dict.fromkeys((*prior.names, *reported)))):
        for first in range(0, len(chunk.positions), GALAXIES):
            part = slice(first, first + GALAXIES)
            at = chunk.positions[part]
            draws = np.stack([chunk.values[k][part] for k in prior.names], axis=-1)
            ratio = prior.log_ratio(draws, z[at], ids[at])
            ratio = np.where(np.isnan(ratio), -np.inf, ratio)
            with np.errstate(invalid="ignore"):  # of draws that are missing
                off = np.nan_to_num(ratio - np.logaddexp.reduce(ratio, axis=0), nan=-np.inf)
            same = np.where(np.isnan(draws).any(axis=-1), 0.0, 1.0)
            n_effective = np.asarray(same.sum(axis=1))
            own = Weighted(same / same.sum(axis=1, keepdims=True), normalised(off), n_effective, np.zeros(len(at)))
            rows = [place[int(i)] for i in ids[at]]
            table["POP_REFITTED"][rows] = True
            for name in reported:
                found = _quantiles(name, chunk.values[name][part], own, np.zeros(len(at), dtype=bool))
                for key in (key for key in found if key.startswith("POP_")):
                    table[key][rows] = found[key]


def _quantiles(
    name: str, values: FloatArray, found: Weighted, collapsed: NDArray[np.bool_]
) -> Mapping[str, FloatArray]:
    """Columns of one property; the same estimator under both priors, so that their difference is the prior's alone."""
    before = weighted_quantiles(values, np.where(np.isnan(values), 0.0, 1.0), QUANTILES)
    after = np.where(collapsed[:, None], np.nan, weighted_quantiles(values, found.weight, QUANTILES))
    with np.errstate(invalid="ignore"):  # medians of a rate that is zero are -inf under every member
        scatter = np.std([weighted_quantiles(values, w, (0.5,))[:, 0] for w in found.members], axis=0, ddof=0)
    out = {f"POP_{name}_ERR": np.where(collapsed, np.nan, scatter)}
    for k, q in enumerate(QUANTILES):
        first, second = _keys(name, q)
        out |= {first: before[:, k], second: after[:, k]}
    return out


def _keys(name: str, q: float) -> tuple[str, str]:
    return f"{name}_P{100 * q:.0f}", f"POP_{name}_P{100 * q:.0f}"
