"""One galaxy fitted under several libraries, families of histories or template errors, and the posteriors averaged.

Each combination of `model.library`, `model.history` and `observing.template_error` is an *alternative*, and a fit of
its own: masses can be integrated out (`provabgs.inference.marginalised`) under one Gaussian likelihood, and not under a
mixture of them. Draws are then taken from the alternatives in proportion to their weights, and each says where it is
from. Every fit has the galaxy's own random numbers, so that a library named twice gives the same draws twice.

Amplitudes are weighted by evidence, all equal a priori: with a fit under each, that is the exact marginal over the
grid. Libraries and families are weighted equally by default: evidence prefers the least wrong library by tens of nats,
which is no reason to believe that one, and can hardly tell families apart (docs/studies/histories.md). A parameter that
a family lacks is NaN in its draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError
from provabgs.core.messages import suggestion
from provabgs.inference.alternatives import Alternative, alternatives
from provabgs.inference.averaged_posterior import combine
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation


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
        When weights need the evidence and the sampler gives none, or `prior_bounds` names a parameter of no family.
    """
    fits = alternatives(config)
    if len(fits) == 1:
        return fit(observation, config, seed)
    fits = with_own_bounds(config, fits)
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


def with_own_bounds(config: FitConfig, fits: tuple[Alternative, ...]) -> tuple[Alternative, ...]:
    """Alternatives with those prior bounds alone whose parameters their family has.

    Parameters
    ----------
    config
        Gives `prior_bounds` for all families.
    fits
        The alternatives.

    Returns
    -------
    tuple of Alternative
        As they came where there is one family, or no bounds.

    Raises
    ------
    ConfigError
        For a name that no family has.
    """
    if len(config.model.histories) == 1 or not config.prior_bounds:
        return fits
    from provabgs.inference.backends import load_model  # brings in JAX: only when there is something to fit
    from provabgs.inference.likelihood.base import fit_parameters

    free = config.observing.may_fit_dispersion
    names = [fit_parameters(load_model(a.config.model), free).names for a in fits]
    everywhere = tuple(dict.fromkeys(name for own in names for name in own))
    if unknown := [name for name in config.prior_bounds if name not in everywhere]:
        raise ConfigError(f"prior_bounds.{unknown[0]}: no family has it{suggestion(unknown[0], everywhere)}")
    own = [{k: v for k, v in config.prior_bounds.items() if k in known} for known in names]
    changed = [a.config.model_copy(update={"prior_bounds": b}) for a, b in zip(fits, own, strict=True)]
    return tuple(a._replace(config=c) for a, c in zip(fits, changed, strict=True))


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
