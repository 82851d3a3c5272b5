"""Samplers behind one interface: a log-probability in, samples with diagnostics out."""

from __future__ import annotations

from provabgs.core.registry import Registry
from provabgs.inference.samplers.annealed import sample_annealed
from provabgs.inference.samplers.base import MarginalPosterior, Sampler, SamplerResult, StartError, Target
from provabgs.inference.samplers.ensemble import sample_emcee

SAMPLERS: Registry[Sampler] = Registry("sampler", "sampler.name")
"""Samplers by the name used in configurations."""
SAMPLERS.register("auto", sample_annealed)
SAMPLERS.register("annealed", sample_annealed)
SAMPLERS.register("emcee", sample_emcee)

__all__ = ["SAMPLERS", "MarginalPosterior", "Sampler", "SamplerResult", "StartError", "Target"]
