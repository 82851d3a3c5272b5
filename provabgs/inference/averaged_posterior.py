"""The average of one galaxy's posteriors under several alternatives (`provabgs.inference.averaging` says which)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import logsumexp

from provabgs.core.arrays import FloatArray, IntArray
from provabgs.core.errors import ConfigError
from provabgs.core.identity import stream_of
from provabgs.inference.alternatives import Alternative, alternatives, distinct
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Diagnostics, Posterior
from provabgs.observe.nuisance import DISPERSION
from provabgs.observe.options import ASSUMED_VDISP_KMS
from provabgs.sps.derived import DerivedProperty
from provabgs.sps.library import SHIPPED

LIBRARY = "library"
"""Property of draws: place in `model.library`, from 0."""
AMPLITUDE = "template_error"
"""Property of draws: amplitude of the template error."""
SURVEY_COLUMNS = "SURVEY_COLUMNS"
"""Key of `Posterior.meta` that describes further columns to catalogs (`provabgs.catalog.columns`)."""


def combine(config: FitConfig, fits: tuple[Alternative, ...], posteriors: list[Posterior], seed: int) -> Posterior:
    """The average of the posteriors of all alternatives.

    Parameters
    ----------
    config
        Gives the weights of libraries.
    fits, posteriors
        One posterior per alternative.
    seed
        Of the order in which draws are shuffled.

    Returns
    -------
    Posterior
        As many draws as a single fit. Best fit, chi^2 and quality are those of the alternative of the highest evidence
        (the highest density, where there is no evidence); R-hat, ESS and STATUS the worst of all. The evidence of each
        is a column (`LOG_EVIDENCE_` and its label) and in the message.

    Raises
    ------
    ConfigError
        When weights need the evidence and the sampler gives none, or the fits have different parameters.
    """
    worst = max(posteriors, key=lambda p: p.status)
    if not worst.status.has_samples:
        label = fits[posteriors.index(worst)].label
        return replace(worst, message=f"{label}: {worst.message}")
    if any(p.parameters != posteriors[0].parameters for p in posteriors):
        raise ConfigError("the fits under several libraries have different parameters; they cannot be averaged")
    log_z = np.array([p.diagnostics.log_evidence for p in posteriors])
    weights = weights_of(config, fits, log_z)
    known = bool(np.all(np.isfinite(log_z)))
    best = int(np.argmax(log_z)) if known else int(np.argmax([p.log_prob.max() for p in posteriors]))
    counts = _shares(weights, max(len(p.samples) for p in posteriors))
    picks = [_evenly(len(p.samples), n) for p, n in zip(posteriors, counts, strict=True)]
    order = _rng(seed, stream_of(posteriors[0].targetid, posteriors[0].data_hash)).permutation(int(counts.sum()))
    base = log_z if known else np.zeros(len(fits))

    def joined(draws: list[FloatArray]) -> FloatArray:
        return np.concatenate([d[pick] for d, pick in zip(draws, picks, strict=True)])[order]

    with np.errstate(divide="ignore"):
        log_share = np.log(weights) - base
    derived = {name: joined([p.derived[name] for p in posteriors]) for name in posteriors[0].derived}
    tags = {}
    for prop, values in _tags(config, fits):
        tags[prop] = values[best]
        derived[prop.name] = joined([np.full(len(p.samples), v) for p, v in zip(posteriors, values, strict=True)])
    top = posteriors[best]
    return replace(
        top,
        status=worst.status,
        message=_message(fits, posteriors, log_z, weights),
        properties=(*top.properties, *tags),
        samples=joined([p.samples for p in posteriors]),
        log_prob=joined([p.log_prob + share for p, share in zip(posteriors, log_share, strict=True)]),
        derived=derived,
        best_fit_derived=top.best_fit_derived | {p.name: float(v) for p, v in tags.items()},
        diagnostics=_diagnostics(posteriors, best, log_z),
        prior_edge={
            k: float(sum(w * p.prior_edge[k] for w, p in zip(weights, posteriors, strict=True))) for k in top.prior_edge
        },
        meta=_meta(top.meta, fits, log_z),
    )


def weights_of(config: FitConfig, fits: tuple[Alternative, ...], log_evidence: FloatArray) -> FloatArray:
    """Weights of alternatives: amplitudes of one library by evidence, libraries as configured.

    Parameters
    ----------
    config
        Its `model.library_weights` is read.
    fits
        The alternatives.
    log_evidence
        ``(n,)`` of each; NaN where unknown.

    Returns
    -------
    FloatArray
        ``(n,)``, which sum to 1.

    Raises
    ------
    ConfigError
        When the evidence is needed and not known.
    """
    library = np.array([a.library for a in fits])
    by_evidence = config.model.library_weights == "evidence"
    needed = by_evidence or len(config.observing.amplitudes) > 1
    if needed and not np.all(np.isfinite(log_evidence)):
        raise ConfigError(
            f"sampler.name = {config.sampler.name!r} gives no evidence, which library_weights = 'evidence' and several "
            "amplitudes of template_error need; take the default sampler, or equal weights and one amplitude"
        )
    if not needed:
        return np.full(len(fits), 1.0 / len(fits))
    if by_evidence:
        return np.exp(log_evidence - logsumexp(log_evidence))
    total = np.array([logsumexp(log_evidence[library == k]) for k in library])
    return np.exp(log_evidence - total) / len(set(library.tolist()))


def parts_of(posterior: Posterior, config: FitConfig) -> list[tuple[Alternative, IntArray]]:
    """Which draws of an averaged posterior are of which alternative.

    Parameters
    ----------
    posterior
        From `fit_average`, or read from a catalog.
    config
        Its configuration.

    Returns
    -------
    list of (Alternative, rows)
        Those that have draws, in order; all rows for a posterior of one fit. Where the data chose whether the velocity
        dispersion was fitted, their configurations say which it was.
    """
    fits = alternatives(_as_chosen(posterior, config))
    if len(fits) == 1:
        return [(fits[0], np.arange(len(posterior.samples)))]
    distance = np.zeros((len(posterior.samples), len(fits)))
    for prop, values in _tags(config, fits):
        distance += np.abs(posterior.derived[prop.name][:, None] - values)  # stored draws are rounded
    nearest = np.argmin(distance, axis=1)
    return [(fits[i], np.flatnonzero(nearest == i)) for i in np.unique(nearest)]


def _as_chosen(posterior: Posterior, config: FitConfig) -> FitConfig:
    """A configuration that makes of any part of the data what the fit made of its own."""
    observing = config.observing
    if not observing.may_fit_dispersion:
        return config
    chosen = "fit" if DISPERSION.name in posterior.parameters else ASSUMED_VDISP_KMS
    return config.model_copy(update={"observing": observing.model_copy(update={"vdisp_kms": chosen})})


def _tags(config: FitConfig, fits: tuple[Alternative, ...]) -> list[tuple[DerivedProperty, FloatArray]]:
    """Properties that say which alternative a draw is of, and their value for each."""
    out = []
    if len(config.model.libraries) > 1:
        names = distinct([SHIPPED if path is None else path.stem for path in config.model.libraries])
        told = ", ".join(f"{k} {name}" for k, name in enumerate(names))
        prop = DerivedProperty(LIBRARY, "LIBRARY", r"{\rm library}", "", f"SSP library of the draw: {told}")
        out.append((prop, np.array([float(a.library) for a in fits])))
    if len(config.observing.amplitudes) > 1:
        prop = DerivedProperty(
            AMPLITUDE, "TEMPLATE_ERROR", r"a_{\rm template}", "", "amplitude of the template error, prior sigmas"
        )
        out.append((prop, np.array([a.amplitude for a in fits])))
    return out


def _message(fits: tuple[Alternative, ...], posteriors: list[Posterior], log_z: FloatArray, weights: FloatArray) -> str:
    """What to mind of each fit, and how well each explains the data."""
    parts = [f"{a.label}: {p.message}" for a, p in zip(fits, posteriors, strict=True) if p.message]
    if not np.all(np.isfinite(log_z)):
        return "; ".join([*parts, f"averaged over {', '.join(a.label for a in fits)}"])
    below = log_z - log_z.max()
    told = (f"{a.label} {d:.1f} ({w:.2f})" for a, d, w in zip(fits, below, weights, strict=True))
    return "; ".join([*parts, f"ln evidence below the best (weight): {', '.join(told)}"])


def _diagnostics(posteriors: list[Posterior], best: int, log_z: FloatArray) -> Diagnostics:
    """The worst of all fits, and their total cost; anything else is the best one's."""
    each = [p.diagnostics for p in posteriors]
    return replace(
        each[best],
        rhat=_worst([d.rhat for d in each], max),
        ess_bulk=_worst([d.ess_bulk for d in each], min),
        ess_tail=_worst([d.ess_tail for d in each], min),
        n_eval=sum(d.n_eval for d in each),
        n_divergent=sum(d.n_divergent for d in each),
        runtime_s=sum(d.runtime_s for d in each),
        log_evidence=float(logsumexp(log_z) - np.log(len(each))),
        engine_dlnl=float(np.max([d.engine_dlnl for d in each])),
        evidence_spread=float(np.max([d.evidence_spread for d in each])),
        vdisp_fixed=each[0].vdisp_fixed,
    )


def _worst(tables: list[dict[str, float]], of: Callable[..., float]) -> dict[str, float]:
    """Per quantity, the worst over fits; NaN where it varies in none."""
    out = {}
    for name in tables[0]:
        values = [t[name] for t in tables if name in t and not np.isnan(t[name])]
        out[name] = of(values) if values else float("nan")
    return out


def _meta(meta: dict[str, Any], fits: tuple[Alternative, ...], log_z: FloatArray) -> dict[str, Any]:
    """The galaxy's notes with the evidence of each fit as a column of catalogs."""
    columns = distinct(["LOG_EVIDENCE_" + re.sub(r"[^A-Z0-9]+", "_", a.label.upper())[:24] for a in fits])
    described = {
        column: {"dtype": "f8", "description": f"log evidence under {a.label}"}
        for column, a in zip(columns, fits, strict=True)
    }
    values = {column: float(z) for column, z in zip(columns, log_z, strict=True)}
    return meta | values | {SURVEY_COLUMNS: dict(meta.get(SURVEY_COLUMNS, {})) | described}


def _shares(weights: FloatArray, n: int) -> IntArray:
    """Whole numbers of draws in proportion to weights, `n` in all (largest remainders)."""
    counts = np.floor(weights * n).astype(np.int64)
    counts[np.argsort(counts - weights * n, kind="stable")[: n - int(counts.sum())]] += 1
    return counts


def _evenly(n: int, count: int) -> IntArray:
    """`count` evenly spaced indices among `n`; with repetition where there are fewer."""
    return np.floor((np.arange(count) + 0.5) * n / max(count, 1)).astype(np.int64)


def _rng(seed: int, targetid: int) -> np.random.Generator:
    """Of the order of draws: neighbours must not alternate, or thinning keeps those of one library alone."""
    return np.random.default_rng(np.random.SeedSequence([seed, targetid & (2**64 - 1), 1]))
