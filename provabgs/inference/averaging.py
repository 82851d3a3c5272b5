"""One galaxy fitted under several SSP libraries, or several amplitudes of their error, and the posteriors averaged.

Each combination of `model.library` and `observing.template_error` is an *alternative*, and a fit of its own: masses can
be integrated out (`provabgs.inference.marginalised`) under one Gaussian likelihood, and not under a mixture of them.
Draws are then taken from the alternatives in proportion to their weights, and each says where it is from. Every fit has
the galaxy's own random numbers, so that a library named twice gives the same draws twice.

Amplitudes are weighted by evidence, all equal a priori: with a fit under each, that is the exact marginal over the
grid. Libraries are weighted equally by default: evidence prefers the least wrong of them by tens of nats, which is no
reason to believe that one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from provabgs.core.arrays import FloatArray, IntArray
from provabgs.core.errors import ConfigError
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Diagnostics, Posterior
from provabgs.observe.observation import Observation
from provabgs.sps.derived import DerivedProperty
from provabgs.sps.library import SHIPPED

LIBRARY = "library"
"""Property of draws: place in `model.library`, from 0."""
AMPLITUDE = "template_error"
"""Property of draws: amplitude of the template error."""
SURVEY_COLUMNS = "SURVEY_COLUMNS"
"""Key of `Posterior.meta` that describes further columns to catalogs (`provabgs.catalog.columns`)."""


class Alternative(NamedTuple):
    """One fit among several."""

    label: str
    """Library, amplitude, or both, as messages name it."""
    library: int
    """Place in `model.library`."""
    amplitude: float
    config: FitConfig
    """Of this fit alone."""


def alternatives(config: FitConfig) -> tuple[Alternative, ...]:
    """The fits that a configuration asks for.

    Parameters
    ----------
    config
        With one library or several, one amplitude of their error or several.

    Returns
    -------
    tuple of Alternative
        One per combination. Masses are in those of the first library, and the time limit is shared.
    """
    libraries, amplitudes = config.model.libraries, config.observing.amplitudes
    n = len(libraries) * len(amplitudes)
    if n == 1:
        return (Alternative("", 0, amplitudes[0], config),)
    reference = config.model.mass_library
    if reference is None and len(libraries) > 1:
        reference = libraries[0] or Path(SHIPPED)
    names = _distinct([SHIPPED if path is None else path.stem for path in libraries])
    sampler = config.sampler.model_copy(update={"time_limit_s": config.sampler.time_limit_s / n})
    out = []
    for k, path in enumerate(libraries):
        model = config.model.model_copy(update={"library": path, "mass_library": reference, "library_weights": "equal"})
        for amplitude in amplitudes:
            observing = config.observing.model_copy(update={"template_error": amplitude})
            told = [names[k]] if len(libraries) > 1 else []
            told += [f"amplitude {amplitude:g}"] if len(amplitudes) > 1 else []
            alone = config.model_copy(update={"model": model, "observing": observing, "sampler": sampler})
            out.append(Alternative(" ".join(told), k, amplitude, alone))
    return tuple(out)


def fit_average(
    observation: Observation,
    config: FitConfig,
    seed: int,
    fit: Callable[[Observation, FitConfig, int], Posterior],
) -> Posterior:
    """Fit one galaxy under every alternative and average; under one alternative, the fit itself.

    Parameters
    ----------
    observation
        The galaxy's data.
    config
        Of all fits.
    seed
        Seed of the run, the same for all.
    fit
        Samples one observation under one alternative.

    Returns
    -------
    Posterior
        One galaxy's row. Its STATUS is the worst of the fits', and if one of them has no samples, so has this one.

    Raises
    ------
    ConfigError
        When weights need the evidence and the sampler gives none.
    """
    fits = alternatives(config)
    if len(fits) == 1:
        return fit(observation, config, seed)
    cleaned, without = without_shared_outliers(observation, [a.config for a in fits])
    posteriors = [fit(cleaned, alone, seed) for alone in without]
    if not all(isinstance(p, Posterior) for p in posteriors):
        return posteriors[0]  # the caller says what a fit must return
    posteriors = [replace(p, meta={**observation.meta, **p.meta}) for p in posteriors]
    made = combine(config, fits, posteriors, seed)
    if cleaned is not observation:
        masked = [a.wave[a.ivar != b.ivar] for a, b in zip(observation.spectra, cleaned.spectra, strict=True)]
        made = replace(made, quality=replace(made.quality, clipped=np.concatenate(masked)))
    return replace(made, data_hash=observation.digest())


def without_shared_outliers(observation: Observation, configs: list[FitConfig]) -> tuple[Observation, list[FitConfig]]:
    """Data without the pixels that are outliers under every library: evidences compare for the same pixels alone.

    Parameters
    ----------
    observation
        The galaxy's data.
    configs
        One per fit.

    Returns
    -------
    observation, configs
        The outliers with ivar 0, and the configurations with nothing more to clip; as they came where none clips.
    """
    clips = observation.spectra and configs[0].observing.clip_sigma is not None and configs[0].use != "photometry"
    if len(configs) == 1 or not clips:
        return observation, configs
    from provabgs.inference.backends import load_model  # brings in JAX: only when there is something to fit
    from provabgs.observe.projection import project

    shared: FloatArray | None = None
    for model_options, observing in {c.model.model_dump_json(): (c.model, c.observing) for c in configs}.values():
        plain = observing.model_copy(update={"noise": ()})
        spectrum = project(replace(observation, photometry=None), load_model(model_options).library, plain).spectrum
        clipped = np.zeros(0) if spectrum is None else spectrum.clipped
        shared = clipped if shared is None else np.intersect1d(shared, clipped)
    spectra = tuple(
        replace(s, ivar=np.where(np.isin(s.wave, shared if shared is not None else []), 0.0, s.ivar))
        for s in observation.spectra
    )
    cleaned = replace(observation, spectra=spectra)
    without = [c.model_copy(update={"observing": c.observing.model_copy(update={"clip_sigma": None})}) for c in configs]
    return cleaned, without


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
    order = _rng(seed, posteriors[0].targetid).permutation(int(counts.sum()))
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
        Those that have draws, in order; all rows for a posterior of one fit.
    """
    fits = alternatives(config)
    if len(fits) == 1:
        return [(fits[0], np.arange(len(posterior.samples)))]
    distance = np.zeros((len(posterior.samples), len(fits)))
    for prop, values in _tags(config, fits):
        distance += np.abs(posterior.derived[prop.name][:, None] - values)  # stored draws are rounded
    nearest = np.argmin(distance, axis=1)
    return [(fits[i], np.flatnonzero(nearest == i)) for i in np.unique(nearest)]


def _tags(config: FitConfig, fits: tuple[Alternative, ...]) -> list[tuple[DerivedProperty, FloatArray]]:
    """Properties that say which alternative a draw is of, and their value for each."""
    out = []
    if len(config.model.libraries) > 1:
        names = _distinct([SHIPPED if path is None else path.stem for path in config.model.libraries])
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
    columns = _distinct(["LOG_EVIDENCE_" + re.sub(r"[^A-Z0-9]+", "_", a.label.upper())[:24] for a in fits])
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


def _distinct(names: list[str]) -> list[str]:
    """Names with a number behind those met before."""
    return [n if (k := names[:i].count(n)) == 0 else f"{n}_{k + 1}" for i, n in enumerate(names)]
