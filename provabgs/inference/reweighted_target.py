"""A sampler's target under a prior that differs from the uniform one by a known ratio.

Latent coordinates stay standard normal under the uncorrected prior, and the log of the ratio is added to what is
sampled. The marginalised posterior integrates masses under their uncorrected prior, on whose fractions the ratio
depends: each draw of masses carries its ratio as a weight, so that the final importance weights are exact. The
annealing stage needs only an approximate marginal; it uses the prior ratio at the conditional median of the masses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.inference.samplers import MarginalPosterior, Target

LogRatio = Callable[[FloatArray], FloatArray]
"""``(n, n_latent)`` latent coordinates to ln of corrected over uncorrected prior, ``(n,)``."""


def reweight(target: Target, log_ratio: LogRatio) -> Target:
    """A target under another prior.

    Parameters
    ----------
    target
        Under the uncorrected prior.
    log_ratio
        Ln of the corrected prior over it.

    Returns
    -------
    Target
        Without a gradient: the ratio has none.
    """
    marginal = None if target.marginal is None else reweight_marginal(target.marginal, log_ratio)
    return replace(
        target, log_likelihood=lambda z: target.log_likelihood(z) + log_ratio(z), marginal=marginal, gradient=None
    )


def reweight_marginal(posterior: MarginalPosterior, log_ratio: LogRatio) -> MarginalPosterior:
    """The marginalised form of `reweight`; see the module's text.

    Parameters
    ----------
    posterior
        Under the uncorrected prior.
    log_ratio
        Ln of the corrected prior over the uncorrected one.

    Returns
    -------
    MarginalPosterior
        Its draws, weighted, are of the corrected posterior.
    """

    def log_marginal(outer: FloatArray) -> FloatArray:
        middle, _ = posterior.draw_linear(outer, np.full((len(outer), 1, posterior.n_uniform), 0.5))
        return posterior.log_marginal(outer) + log_ratio(middle)

    def draw_linear(outer: FloatArray, uniforms: FloatArray) -> tuple[FloatArray, FloatArray]:
        # E[mean weight x h(picked) x ratio(picked)] is the integral of h under the corrected prior, for any h
        latent, log_target = posterior.draw_linear(outer, uniforms)
        return latent, log_target + log_ratio(latent)

    return replace(posterior, log_marginal=log_marginal, draw_linear=draw_linear)
