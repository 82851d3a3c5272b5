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
from provabgs.sps.parameters import Parameter, ParameterSet

LIBRARY = "library"
"""Property of draws: place in `model.library`, from 0."""
HISTORY = "history"
"""Property of draws: place in `model.history`, from 0."""
AMPLITUDE = "template_error"
"""Property of draws: amplitude of the template error."""
SURVEY_COLUMNS = "SURVEY_COLUMNS"
"""Key of `Posterior.meta` that describes further columns to catalogs (`provabgs.catalog.columns`)."""


def combine(config: FitConfig, fits: tuple[Alternative, ...], posteriors: list[Posterior], seed: int) -> Posterior:
    """The average of the posteriors of all alternatives.

    Parameters
    ----------
    config
        Gives the weights of libraries and families.
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
        When weights need the evidence and the sampler gives none, or a parameter of one fit has the name of another's.
    """
    worst = max(posteriors, key=lambda p: p.status)
    if not worst.status.has_samples:
        label = fits[posteriors.index(worst)].label
        return replace(worst, message=f"{label}: {worst.message}")
    parameters = _parameters(fits, posteriors)
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
        parameters=parameters,
        properties=(*top.properties, *tags),
        samples=joined([_columns(p.samples, p.parameters, parameters) for p in posteriors]),
        log_prob=joined([p.log_prob + share for p, share in zip(posteriors, log_share, strict=True)]),
        derived=derived,
        best_fit=_columns(top.best_fit, top.parameters, parameters),
        best_fit_derived=top.best_fit_derived | {p.name: float(v) for p, v in tags.items()},
        diagnostics=_diagnostics(posteriors, best, log_z),
        prior_edge=_prior_edge(weights, posteriors),
        meta=_meta(top.meta, fits, log_z),
    )


def _parameters(fits: tuple[Alternative, ...], posteriors: list[Posterior]) -> ParameterSet:
    """Parameters of all fits: those of the first, then what others have beside them."""
    known: dict[str, tuple[str, Parameter]] = {}
    for fit, posterior in zip(fits, posteriors, strict=True):
        for parameter in posterior.parameters:
            label, first = known.setdefault(parameter.name, (fit.label, parameter))
            if first != parameter:
                raise ConfigError(
                    f"parameter {parameter.name!r} of {label} is not that of {fit.label}; these fits cannot be averaged"
                )
        if {p.name for p in posterior.properties} != {p.name for p in posteriors[0].properties}:
            raise ConfigError(f"{fit.label} has other derived properties than {fits[0].label}; they cannot be averaged")
    return ParameterSet(tuple(parameter for _, parameter in known.values()))


def _columns(theta: FloatArray, own: ParameterSet, everything: ParameterSet) -> FloatArray:
    """Parameter vectors ``(..., size)`` of one fit among the parameters of all: NaN for those that it lacks."""
    if own == everything:
        return theta
    out = np.full((*theta.shape[:-1], everything.size), np.nan)
    out[..., everything.indices(own.names)] = theta
    return out


def _prior_edge(weights: FloatArray, posteriors: list[Posterior]) -> dict[str, float]:
    """Fractions of draws at an edge, over the fits that have the coordinate."""
    out: dict[str, float] = {}
    for name in dict.fromkeys(k for p in posteriors for k in p.prior_edge):
        having = [(w, p.prior_edge[name]) for w, p in zip(weights, posteriors, strict=True) if name in p.prior_edge]
        total = sum(w for w, _ in having)
        out[name] = float(sum(w * edge for w, edge in having) / total) if total > 0 else 0.0
    return out


def weights_of(config: FitConfig, fits: tuple[Alternative, ...], log_evidence: FloatArray) -> FloatArray:
    """Weights of alternatives: amplitudes by evidence, families of histories and libraries as configured.

    Parameters
    ----------
    config
        Its `model.library_weights` and `model.history_weights` are read.
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
    model = config.model
    by_evidence = {"library": model.library_weights == "evidence", "history": model.history_weights == "evidence"}
    several = {"library": len(model.libraries) > 1, "history": len(model.histories) > 1}
    asked = [f"{k}_weights = 'evidence'" for k in by_evidence if by_evidence[k] and several[k]]
    asked += ["several amplitudes of template_error"] if len(config.observing.amplitudes) > 1 else []
    if asked and not np.all(np.isfinite(log_evidence)):
        raise ConfigError(
            f"sampler.name = {config.sampler.name!r} gives no evidence, which {' and '.join(asked)} need; take the "
            "default sampler, or equal weights and one amplitude"
        )
    log_z = log_evidence if asked else np.zeros(len(fits))
    # every library has all families, and these all amplitudes: what a level adds sums to the same in each of its groups
    pairs = [(a.library, a.history) for a in fits]
    of_pair = {pair: _mean_evidence(log_z, [p == pair for p in pairs]) for pair in pairs}
    of_pairs = np.array(list(of_pair.values()))
    of_library = {k: _mean_evidence(of_pairs, [p[0] == k for p in of_pair]) for k, _ in pairs}
    family, library = np.array([of_pair[p] for p in pairs]), np.array([of_library[k] for k, _ in pairs])
    log_weight = log_z - family
    if by_evidence["history"]:
        log_weight += family - library
    if by_evidence["library"]:
        log_weight += library
    return np.asarray(np.exp(log_weight - logsumexp(log_weight)))


def _mean_evidence(log_z: FloatArray, chosen: list[bool]) -> float:
    """Log of the mean evidence of those chosen, equal a priori."""
    return float(logsumexp(log_z[np.array(chosen)]) - np.log(sum(chosen)))


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
    if len(config.model.histories) > 1:
        told = ", ".join(f"{k} {name}" for k, name in enumerate(config.model.histories))
        prop = DerivedProperty(HISTORY, "HISTORY", r"{\rm history}", "", f"family of histories of the draw: {told}")
        out.append((prop, np.array([float(a.history) for a in fits])))
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
    """Per quantity, the worst over the fits that have it; NaN where it varies in none."""
    out = {}
    for name in dict.fromkeys(name for table in tables for name in table):
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
