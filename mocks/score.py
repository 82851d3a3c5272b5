"""Scores of a mock challenge: posteriors against truth, in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray, thin
from provabgs.core.status import Status
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.mocks.challenge import STORED_DRAWS, Mode, load_posteriors, load_truth
from provabgs.population.accuracy_bins import BIN_WIDTHS, BinAccuracy, accuracy_in_bins
from provabgs.population.prior.density_table import DensityTable, tabulate_equal_counts
from provabgs.population.prior.draws import draw_properties

TRUTH_COLUMNS: dict[str, str] = {
    "logmstar": "LOGMSTAR_FORMED",
    "log_sfr_1gyr": "LOGSFR_1GYR",
    "log_z_mw": "LOGZ_MW",
    "t_age_mw": "T_AGE_MW",
}
"""Scored properties and their columns in the truth table; the properties of the published figures."""


class Scored(NamedTuple):
    """Galaxies of one mode with their truth, row by row."""

    mode: Mode
    truth: Table
    draws: dict[str, FloatArray]
    """Per property ``(n, nsample)``; NaN where a galaxy has fewer draws."""
    converged: NDArray[np.bool_]
    runtime_s: FloatArray
    n_failed: int
    """Galaxies without any samples; they are not among the rows."""

    def __len__(self) -> int:
        return len(self.truth)


def collect(output: str | Path, mode: Mode, max_draws: int = STORED_DRAWS) -> Scored:
    """Bring posteriors and truth of one mode together; galaxies not yet fitted are left out.

    NOT_CONVERGED posteriors are kept and marked: leaving them out would flatter the result.
    """
    truth, found = load_truth(output), load_posteriors(output, mode)
    fitted = [i for i, t in enumerate(truth["TARGETID"]) if int(t) in found]
    posteriors = [found[int(truth["TARGETID"][i])] for i in fitted]
    kept = [k for k, p in enumerate(posteriors) if p.status.has_samples]
    chosen = [posteriors[k] for k in kept]
    return Scored(
        mode,
        truth[[fitted[k] for k in kept]],
        {name: _draws(chosen, name, max_draws) for name in TRUTH_COLUMNS},
        np.array([p.status == Status.CONVERGED for p in chosen], dtype=bool),
        np.array([p.diagnostics.runtime_s for p in chosen], dtype=np.float64),
        len(posteriors) - len(chosen),
    )


def _draws(posteriors: list[Posterior], name: str, max_draws: int) -> FloatArray:
    out = np.full((len(posteriors), max_draws), np.nan)
    for row, posterior in enumerate(posteriors):
        values = posterior[name]
        pick = thin(values.size, max_draws)
        out[row, : pick.size] = values[pick]
    return out


def induced_priors(fit: FitConfig, redshift: float = 0.2, n: int = 200_000, seed: int = 0) -> dict[str, DensityTable]:
    """The density that the prior on parameters induces on each scored property.

    The published figures show these densities to be far from flat; they cause the biases at low S/N.

    Parameters
    ----------
    fit
        Configuration of the fits.
    redshift
        Of the galaxies.
    n
        Number of prior draws.
    seed
        Seed of the draws.

    Returns
    -------
    dict
        Table by property name, a callable of values.
    """
    drawn = draw_properties(fit, redshift, n, np.random.default_rng(seed))
    return {name: tabulate_equal_counts(drawn[column]) for name, column in TRUTH_COLUMNS.items()}


def accuracy_of(
    scored: Scored, priors: dict[str, DensityTable] | None = None, min_count: int = 10
) -> dict[str, list[BinAccuracy]]:
    """Accuracy of each property in the published bins of its true value; divided by `priors` where given."""
    return {
        name: accuracy_in_bins(
            scored.draws[name],
            np.asarray(scored.truth[column]),
            width=BIN_WIDTHS[name],
            log_prior=priors[name] if priors else None,
            min_count=min_count,
        )
        for name, column in TRUTH_COLUMNS.items()
    }


def accuracy_table(by_mode: dict[Mode, dict[str, list[BinAccuracy]]]) -> Table:
    """One row per mode, property and bin: peak, medians and 68 % intervals of mu and sigma."""
    rows = []
    for mode, properties in by_mode.items():
        for name, bins in properties.items():
            for b in bins:
                mu, sigma = (b.posterior.quantile(k, [0.16, 0.5, 0.84]) for k in ("mu", "sigma"))
                peak = b.posterior.peak
                rows.append((mode, name, b.low, b.high, b.n_galaxy, *peak, *mu, *sigma, b.posterior.n_effective))
    quantiles = [f"{k}_{q}" for k in ("mu", "sigma") for q in ("low", "median", "high")]
    names = ["mode", "property", "low", "high", "n", "mu_peak", "sigma_peak", *quantiles, "n_effective"]
    if not rows:
        return Table(names=names, dtype=["U10", "U20", *(["f8"] * (len(names) - 2))])
    return Table(rows=rows, names=names)


def summary_table(scored: dict[Mode, Scored]) -> Table:
    """Plain scores per mode and property over all galaxies: median and 68 % half-width of (posterior median - truth),
    and the share of truths inside the 68 % interval, which is 0.68 for honest posteriors.
    """
    rows = []
    for mode, s in scored.items():
        for name, column in TRUTH_COLUMNS.items():
            truth = np.asarray(s.truth[column], dtype=np.float64)
            known = np.isfinite(truth)
            if not known.any():
                continue
            low, mid, high = np.nanquantile(s.draws[name][known], [0.16, 0.5, 0.84], axis=1)
            delta = mid - truth[known]
            inside = np.mean((truth[known] > low) & (truth[known] < high))
            half = 0.5 * float(np.diff(np.quantile(delta, [0.16, 0.84]))[0])
            runtime = float(np.median(s.runtime_s))
            rows.append(
                (
                    mode,
                    name,
                    int(known.sum()),
                    float(np.median(delta)),
                    half,
                    inside,
                    float(s.converged.mean()),
                    runtime,
                )
            )
    names = ["mode", "property", "n", "median_delta", "half_width_68", "coverage_68", "converged", "runtime_s"]
    return Table(rows=rows, names=names) if rows else Table(names=names)
