"""Posteriors under the other priors of the same history, from one fit: every draw gets the ratio of two priors.

Priors on age bins are densities of the same fractions of the mass (`provabgs.sps.histories.bin_priors`), and priors on
metallicity densities of the same numbers, so that the ratio is exact. How far it can be trusted is the number of
effective draws: where the data leave the prior alone and the two differ, few are left, and the galaxy must be fitted
again.

    other = reweight_history(posterior, prior="stochastic")
    other.n_effective, other.log_evidence, other.quantiles("t_age_mw")
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import logsumexp

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError, InputError
from provabgs.core.jax import jnp
from provabgs.core.weights import effective_sample_size, normalised, resample_systematic, weighted_quantiles
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.observe.cosmology import Cosmology
from provabgs.sps.histories import BinHistories
from provabgs.sps.histories.bins import bin_prior
from provabgs.sps.histories.metallicity import Z_PARAMETERS

LEAST_EFFECTIVE = 50.0
"""Effective draws below which no posterior is made of the weights."""
QUANTILES = (0.16, 0.5, 0.84)


@dataclass(frozen=True, eq=False)
class Reweighted:
    """A posterior under another prior, of its history or of its dust.

    Attributes
    ----------
    posterior
        As it was fitted.
    weights
        ``(nsample,)`` of its draws, 1 in sum.
    n_effective
        Effective number of draws (Kish), out of ``len(weights)``.
    log_evidence
        ln Z under the other prior; NaN where the fit has none.
    options
        What the other prior is: the history's options with it, or ``dust_prior``.
    """

    posterior: Posterior
    weights: FloatArray
    n_effective: float
    log_evidence: float
    options: Mapping[str, Any]

    def quantiles(self, name: str, q: tuple[float, ...] = QUANTILES) -> FloatArray:
        """Weighted quantiles of one parameter or derived property.

        Parameters
        ----------
        name
            Parameter or property.
        q
            Probabilities.

        Returns
        -------
        FloatArray
            ``(len(q),)`` in the quantity's unit.
        """
        return weighted_quantiles(self.posterior[name][None], self.weights[None], q)[0]

    def resampled(self, seed: int = 0) -> Posterior:
        """A posterior of equally weighted draws.

        Its parameters are those of the fit; under the other prior a fit may have others.

        Raises
        ------
        InputError
            When fewer than `LEAST_EFFECTIVE` draws are effective.
        """
        if self.n_effective < LEAST_EFFECTIVE:
            raise InputError(
                f"TARGETID {self.posterior.targetid}: {self.n_effective:.1f} of {len(self.weights)} draws are "
                f"effective under {dict(self.options)}; fit the galaxy under that prior"
            )
        kept = resample_systematic(self.weights, len(self.weights), np.random.default_rng(seed))
        old = self.posterior
        return replace(
            old,
            samples=old.samples[kept],
            log_prob=old.log_prob[kept],
            derived={k: v[kept] for k, v in old.derived.items()},
            diagnostics=replace(old.diagnostics, log_evidence=self.log_evidence),
        )


def reweight_history(
    posterior: Posterior,
    prior: str | None = None,
    prior_options: Mapping[str, Any] | None = None,
    z_prior: str | None = None,
) -> Reweighted:
    """The posterior of a galaxy under another prior of the history that it was fitted with.

    Parameters
    ----------
    posterior
        Of a fit of this package.
    prior
        Of age bins: ``"dirichlet"``, ``"continuity"`` or ``"stochastic"``; the fit's own when None.
    prior_options
        Options of that prior.
    z_prior
        ``"log"`` or ``"linear"``; the fit's own when None.

    Returns
    -------
    Reweighted
        With the number of effective draws.

    Raises
    ------
    InputError
        When the posterior has no draws.
    ConfigError
        When a prior on age bins is asked of another history or of an average over several, or a prior is not known.
    """
    if not len(posterior.samples):
        raise InputError(f"TARGETID {posterior.targetid} has no draws: STATUS {posterior.status.name}")
    config = FitConfig.model_validate(posterior.config_dict())
    if len(config.model.histories) > 1:
        raise ConfigError(
            f"model.history names {', '.join(config.model.histories)}: priors of a history belong to a fit under one"
        )
    options = dict(config.model.history_options)
    log_weight = np.zeros(len(posterior.samples))
    if prior is not None:
        log_weight += _bins_ratio(posterior, config, prior, prior_options)
        options |= {"prior": prior, "prior_options": dict(prior_options or {})}
    if z_prior is not None:
        log_weight += _metallicity_ratio(posterior, config, z_prior)
        options |= {"z_prior": z_prior}
    return Reweighted(
        posterior,
        normalised(log_weight),
        float(effective_sample_size(log_weight)),
        posterior.diagnostics.log_evidence + float(logsumexp(log_weight) - np.log(len(log_weight))),
        options,
    )


def _bins_ratio(
    posterior: Posterior, config: FitConfig, prior: str, prior_options: Mapping[str, Any] | None
) -> FloatArray:
    """Ln of the other prior over the fit's own, ``(nsample,)``."""
    model = load_model(config.model)
    histories = model.histories
    if not isinstance(histories, BinHistories):
        raise ConfigError(
            f"model.history = {config.model.history!r} has no prior {prior!r}: age bins do (model.history = 'bins')"
        )
    bins, t_age = histories.bins, Cosmology(config.observing.cosmology).age_gyr(posterior.redshift)
    names = [p.name for p in bins.parameters]
    values = {n: jnp.asarray(np.asarray(posterior[n], dtype=np.float64)) for n in names}
    share = np.asarray(bins.shares(values, model.tables(t_age)))
    edges = bins.edges.at(t_age)
    other = bin_prior(prior, bins.edges.n, prior_options)
    return other.log_density(share, edges) - bins.prior.log_density(share, edges)


def _metallicity_ratio(posterior: Posterior, config: FitConfig, z_prior: str) -> FloatArray:
    """Ln of the other prior over the fit's own, ``(nsample,)``: flat in Z has ``1 / (b - a)``, in log Z that over Z."""
    if z_prior not in ("log", "linear"):
        raise ConfigError(f"z_prior = {z_prior!r}; use 'log' or 'linear'")
    wanted = "log-uniform" if z_prior == "log" else "uniform"
    out = np.zeros(len(posterior.samples))
    found = [p for p in posterior.parameters if p.name in Z_PARAMETERS or p.name.startswith("gamma")]
    if not found:
        raise ConfigError(f"model.history = {config.model.history!r} has no metallicity of a log or linear prior")
    for p in found:
        if p.prior == wanted:
            continue
        low, high = config.prior_bounds.get(p.name, p.bounds)
        to_linear = np.log(posterior[p.name]) + np.log(np.log(high / low)) - np.log(high - low)
        out += to_linear if z_prior == "linear" else -to_linear
    return out


def reweighted_columns(
    posterior: Posterior, priors: Iterable[str], names: Iterable[str] | None = None
) -> dict[str, float]:
    """Catalog columns of one galaxy under other priors on its age bins.

    Parameters
    ----------
    posterior
        Of a fit with age bins.
    priors
        Words of `provabgs.sps.histories.bin_priors.KINDS`, each with its default options.
    names
        Parameters and properties; the derived properties when None.

    Returns
    -------
    dict
        ``N_EFFECTIVE_{PRIOR}``, ``LOG_EVIDENCE_{PRIOR}`` and ``{COLUMN}_P16_{PRIOR}``, ``_P50_`` and ``_P84_``; the
        quantiles are NaN below `LEAST_EFFECTIVE` draws.

    Raises
    ------
    ConfigError
        See `reweight_history`.
    InputError
        When the posterior has no draws.
    """
    chosen = tuple(names) if names is not None else tuple(posterior.derived)
    out: dict[str, float] = {}
    for prior in priors:
        other, end = reweight_history(posterior, prior), prior.upper()
        out |= {f"N_EFFECTIVE_{end}": other.n_effective, f"LOG_EVIDENCE_{end}": other.log_evidence}
        for name in chosen:
            known = other.n_effective >= LEAST_EFFECTIVE
            values = other.quantiles(name) if known else np.full(len(QUANTILES), np.nan)
            column = posterior.quantity(name).column
            out |= {f"{column}_P{100 * q:.0f}_{end}": float(v) for q, v in zip(QUANTILES, values, strict=True)}
    return out
