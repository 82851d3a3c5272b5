"""A sampler's target under a prior that differs from the uniform one by a known ratio.

Latent coordinates stay standard normal under the uncorrected prior, and the log of the ratio is added to what is
sampled. The collapsed posterior integrates masses under their uncorrected prior, on whose shares the ratio depends:
each draw of masses carries its ratio as a weight, so that draws stay exact; the marginal that annealing climbs, which
need only be near, takes the ratio at the conditional's middle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.inference.marginalised import CollapsedPosterior
from provabgs.inference.samplers import Target

LogRatio = Callable[[FloatArray], FloatArray]
"""``(n, 12)`` latent coordinates to ln of corrected over uncorrected prior, ``(n,)``."""


def tilt(target: Target, log_ratio: LogRatio) -> Target:
    """`target` under the prior that `log_ratio` makes of its own."""
    collapsed = None if target.collapsed is None else tilt_collapsed(target.collapsed, log_ratio)
    return replace(target, log_likelihood=lambda z: target.log_likelihood(z) + log_ratio(z), collapsed=collapsed)


def tilt_collapsed(posterior: CollapsedPosterior, log_ratio: LogRatio) -> CollapsedPosterior:
    """The collapsed form of the same; see the module's text."""

    def log_marginal(outer: FloatArray) -> FloatArray:
        middle, _ = posterior.draw_masses(outer, np.full((len(outer), 1, 5), 0.5))
        return posterior.log_marginal(outer) + log_ratio(middle)

    def draw_masses(outer: FloatArray, uniforms: FloatArray) -> tuple[FloatArray, FloatArray]:
        # E[mean weight x h(picked) x ratio(picked)] is the integral of h under the corrected prior, for any h
        latent, log_target = posterior.draw_masses(outer, uniforms)
        return latent, log_target + log_ratio(latent)

    return replace(posterior, log_marginal=log_marginal, draw_masses=draw_masses)
