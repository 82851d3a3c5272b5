"""Samplers behind one interface: a log-probability in, samples with diagnostics out."""

from __future__ import annotations

from provabgs.core.errors import ConfigError
from provabgs.inference.samplers.annealed import sample_annealed
from provabgs.inference.samplers.base import Sampler, SamplerResult, StartError, Target
from provabgs.inference.samplers.ensemble import sample_emcee

SAMPLERS: dict[str, Sampler] = {"annealed": sample_annealed, "emcee": sample_emcee}
"""Samplers by the name used in configurations."""
DEFAULT_SAMPLER = "annealed"

__all__ = ["DEFAULT_SAMPLER", "SAMPLERS", "Sampler", "SamplerResult", "StartError", "Target", "get_sampler"]


def get_sampler(name: str) -> Sampler:
    """Sampler by name, ``"auto"`` for the default.

    Raises
    ------
    ConfigError
        For an unknown name.
    """
    key = DEFAULT_SAMPLER if name == "auto" else name
    if key not in SAMPLERS:
        raise ConfigError(f"sampler.name = {name!r}: choose one of auto, {', '.join(SAMPLERS)}")
    return SAMPLERS[key]
