"""The fits that a configuration with several SSP libraries, families of histories or template errors consists of."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import NamedTuple

from provabgs.inference.config import FitConfig
from provabgs.sps.library import SHIPPED


class Alternative(NamedTuple):
    """One fit among several."""

    label: str
    """Library, family of histories, amplitude: those of which there are several, as messages name them."""
    library: int
    """Place in `model.library`."""
    history: int
    """Place in `model.history`."""
    amplitude: float
    config: FitConfig
    """Of this fit alone."""


def alternatives(config: FitConfig) -> tuple[Alternative, ...]:
    """The fits that a configuration asks for.

    Parameters
    ----------
    config
        With one library or several, and likewise families of histories and amplitudes of the template error.

    Returns
    -------
    tuple of Alternative
        One per combination. Masses are in those of the first library, and the time limit is shared.
    """
    model, libraries, amplitudes = config.model, config.model.libraries, config.observing.amplitudes
    n = len(libraries) * len(model.histories) * len(amplitudes)
    if n == 1:
        return (Alternative("", 0, 0, amplitudes[0], config),)
    reference = model.mass_library
    if reference is None and len(libraries) > 1:
        reference = libraries[0] or Path(SHIPPED)
    names = distinct([SHIPPED if path is None else path.stem for path in libraries])
    sampler = config.sampler.model_copy(update={"time_limit_s": config.sampler.time_limit_s / n})
    out = []
    for k, h, amplitude in product(range(len(libraries)), range(len(model.histories)), amplitudes):
        history = model.histories[h]
        stars = {"library": libraries[k], "mass_library": reference, "library_weights": "equal"}
        births = {"history": history, "history_options": model.options_of(history), "history_weights": "equal"}
        told = [names[k]] if len(libraries) > 1 else []
        told += [history] if len(model.histories) > 1 else []
        told += [f"amplitude {amplitude:g}"] if len(amplitudes) > 1 else []
        alone = config.model_copy(
            update={
                "model": model.model_copy(update=stars | births),
                "observing": config.observing.model_copy(update={"template_error": amplitude}),
                "sampler": sampler,
            }
        )
        out.append(Alternative(" ".join(told), k, h, amplitude, alone))
    return tuple(out)


def distinct(names: list[str]) -> list[str]:
    """Names with a number behind those met before."""
    return [n if (k := names[:i].count(n)) == 0 else f"{n}_{k + 1}" for i, n in enumerate(names)]
