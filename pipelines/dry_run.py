"""A stand-in for the fit, at no cost: rehearse a run's inputs, scheduler, disk and faults before spending core-hours.

Set ``fit = "provabgs.pipelines.dry_run:fit_observation"`` under ``[run]``. Rows carry SAMPLER = "dry-run", so that
nobody takes them for science.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from provabgs.core.status import Status
from provabgs.core.versions import versions
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Diagnostics, Posterior, identity_of
from provabgs.inference.quality import Quality
from provabgs.inference.standard import PARAMETERS, PROPERTIES
from provabgs.observe.observation import Observation
from provabgs.observe.projection import require_redshift

N_DRAWS = 512


def fit_observation(observation: Observation, config: FitConfig, seed: int) -> Posterior:
    """Draws from a made-up Gaussian posterior that depends on (data, seed) alone, with a real fit's shape.

    Parameters
    ----------
    observation, config, seed
        As of a fit; of the configuration `z_max` is heeded.

    Returns
    -------
    Posterior
        Of plausible numbers.

    Raises
    ------
    UnusableTargetError
        For a galaxy beyond `z_max`, as the true fit does.
    """
    require_redshift(observation, config.observing)
    digest = observation.digest()
    posterior = synthetic_posterior(
        observation.targetid,
        np.random.default_rng([seed, int(digest[:12], 16)]),
        N_DRAWS,
        redshift=observation.redshift,
    )
    return replace(posterior, **identity_of(observation), seed=seed, config=config.model_dump_json())


def synthetic_posterior(
    targetid: int, rng: np.random.Generator, n_draws: int = N_DRAWS, *, redshift: float = 0.1
) -> Posterior:
    """A converged-looking posterior of plausible numbers.

    Parameters
    ----------
    targetid
        Identifier.
    rng
        Source of the numbers.
    n_draws
        Draws.
    redshift
        Redshift of the row.
    """
    uniform = rng.uniform(0.1, 0.9, PARAMETERS.size)
    low = np.array([max(p.bounds[0], -10.0) for p in PARAMETERS])
    width = np.array([min(p.bounds[1], 2.0) - lo if p.prior == "normal" else p.bounds[1] - lo
                      for p, lo in zip(PARAMETERS, low, strict=True)])  # fmt: skip
    centre = low + width * uniform
    samples = np.clip(centre + 0.02 * width * rng.standard_normal((n_draws, PARAMETERS.size)), low, low + width)
    for group in (list(g) for g in PARAMETERS.groups if len(g) > 1):
        samples[:, group] /= samples[:, group].sum(axis=1, keepdims=True)
    centres = (10.0, 0.3, 0.4, -2.0, 6.0)
    spread = (0.8, 0.7, 0.7, 0.3, 2.0)
    derived = {
        d.name: c + s * rng.standard_normal() + 0.1 * s * rng.standard_normal(n_draws)
        for d, c, s in zip(PROPERTIES, centres, spread, strict=True)
    }
    log_prob = -0.5 * rng.chisquare(PARAMETERS.size, n_draws) - 3000.0
    best = int(np.argmax(log_prob))
    quantities = (*PARAMETERS.names, *derived)
    return Posterior(
        targetid=targetid,
        redshift=redshift,
        status=Status.CONVERGED,
        samples=samples,
        log_prob=log_prob,
        derived=derived,
        best_fit=samples[best],
        best_fit_derived={k: float(v[best]) for k, v in derived.items()},
        diagnostics=Diagnostics(
            rhat=dict.fromkeys(quantities, 1.001),
            ess_bulk=dict.fromkeys(quantities, 400.0),
            ess_tail=dict.fromkeys(quantities, 380.0),
            n_eval=n_draws,
            runtime_s=0.0,
            sampler="dry-run",
        ),
        chi2_spec=float(rng.chisquare(7000)),
        chi2_phot=float(rng.chisquare(5)),
        dof_spec=7000,
        dof_phot=5,
        prior_edge=dict.fromkeys(PARAMETERS.names, 0.0),
        quality=Quality(0.5, 0.5, 0.5, tension=1.0, residual=2.5, residual_wave=5000.0, residual_width=50.0),
        config=FitConfig().model_dump_json(),
        versions=versions(),
    )
