"""The fits that a configuration with several SSP libraries, or several amplitudes of their error, consists of."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from provabgs.inference.config import FitConfig
from provabgs.sps.library import SHIPPED


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
    names = distinct([SHIPPED if path is None else path.stem for path in libraries])
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


def distinct(names: list[str]) -> list[str]:
    """Names with a number behind those met before."""
    return [n if (k := names[:i].count(n)) == 0 else f"{n}_{k + 1}" for i, n in enumerate(names)]
