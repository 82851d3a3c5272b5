"""All that the page of one galaxy shows beyond its row: data, predictions, histories, draws, and words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray, thin
from provabgs.gallery.pack import pack
from provabgs.inference.flags import in_words
from provabgs.inference.posterior import Posterior
from provabgs.inference.predictive import (
    PhotometryPrediction,
    Predictive,
    SpectrumPrediction,
    bands_of,
    predict,
    predict_histories,
)
from provabgs.observe.filters import load_filter, short_name
from provabgs.observe.masks import CALCIUM_LINES, DEFAULT_LINES, INTERSTELLAR_LINES, PUBLISHED_LINES, WEAK_LINES
from provabgs.observe.observation import Observation
from provabgs.plotting.corner import drawn_in_log, draws_of, free_parameters, key_quantities

N_PREDICTED = 120
"""Draws that bands are computed from."""
N_DRAWS = 400
"""Draws kept for the corner plot."""
N_SED, N_TIME = 900, 160
"""Points of spectra behind bands and of histories."""
LEVELS = ("low95", "low68", "median", "high68", "high95")
LINES: dict[str, float] = PUBLISHED_LINES | DEFAULT_LINES | INTERSTELLAR_LINES | WEAK_LINES | CALCIUM_LINES


def page_of(posterior: Posterior, observation: Observation | None = None, n_draws: int = N_PREDICTED) -> dict[str, Any]:
    """Everything about one galaxy, as JSON.

    Parameters
    ----------
    posterior
        With or without samples.
    observation
        The data that were fitted, where they are known; without them there is no spectrum and there are no bands.
    n_draws
        Draws that bands are computed from.

    Returns
    -------
    dict
        For `write_chunk`.
    """
    p = posterior
    page: dict[str, Any] = {
        "targetid": str(p.targetid),
        "words": in_words(p),
        "message": p.message,
        "config": p.config_dict(),
        "versions": p.versions,
        "seed": p.seed,
        "data": p.data_hash,
        "sampler": p.diagnostics.sampler,
    }
    if len(p.samples) == 0:
        return page
    page |= {"quantities": _quantities(p), "draws": _draws(p)}
    if observation is None:
        page["history"] = _history(*predict_histories(p, n_draws))
        return page
    predictive = predict(p, observation, n_draws)
    page["history"] = _history(predictive.time, predictive.sfr, predictive.zh)
    if predictive.spectrum is not None:
        page["spectrum"] = _spectrum(predictive.spectrum)
        page["lines"] = _lines(p.redshift, predictive.spectrum)
    if predictive.photometry is not None:
        page["bands"] = _bands(predictive.photometry)
        page["sed"] = _sed(predictive, predictive.photometry)
    return page


def _quantities(posterior: Posterior) -> list[dict[str, Any]]:
    """What draws there are of, derived properties first; which of them a corner plot shows at first."""
    p = posterior
    free = {*free_parameters(p), *(q.name for q in p.properties)}
    key = key_quantities(p)
    shown = [q for q in (*p.properties, *p.parameters) if q.name in free and np.ptp(p[q.name]) > 0]
    return [
        {
            "name": q.name,
            "column": q.column,
            "unit": q.unit,
            "description": q.description,
            "log": drawn_in_log(q),
            "key": q.name in key,
        }
        for q in shown
    ]


def _draws(posterior: Posterior) -> dict[str, Any]:
    """Draws as the corner plot draws them (log10 where the prior is log-uniform), by name."""
    keep = thin(len(posterior.samples), N_DRAWS)
    names = [q["name"] for q in _quantities(posterior)]
    return pack({name: draws_of(posterior, name)[0][keep].astype(np.float32) for name in names})


def _levels(draws: FloatArray) -> dict[str, NDArray[np.float32]]:
    with np.errstate(invalid="ignore"):
        return {name: level.astype(np.float32) for name, level in zip(LEVELS, bands_of(draws), strict=True)}


def _spectrum(data: SpectrumPrediction) -> dict[str, Any]:
    """Pixels by wavelength within each camera: data, errors, model, and which the fit left out."""
    cameras = list(dict.fromkeys(data.camera.tolist()))
    state = np.where(data.clipped, 2, np.where(data.masked, 1, 0)).astype(np.uint8)
    columns: dict[str, NDArray[Any]] = {
        "wave": data.wave.astype(np.float32),
        "flux": data.flux.astype(np.float32),
        "sigma": data.sigma.astype(np.float32),
        "camera": np.array([cameras.index(c) for c in data.camera.tolist()], dtype=np.uint8),
        "state": state,
        **_levels(data.model),
    }
    return {"cameras": cameras, "pixels": pack(columns)}


def _lines(redshift: float, data: SpectrumPrediction) -> list[list[Any]]:
    """Lines within the spectrum: name, observed wavelength, and whether it is a strong one."""
    low, high = float(data.wave.min()), float(data.wave.max())
    found = [(name, rest * (1 + redshift), name in PUBLISHED_LINES) for name, rest in LINES.items()]
    return [[name, round(wave, 2), strong] for name, wave, strong in sorted(found, key=lambda x: x[1])
            if low < wave < high]  # fmt: skip


def _bands(data: PhotometryPrediction) -> list[dict[str, Any]]:
    levels = _levels(data.model)
    pulls = _levels((data.flux - data.model) / data.sigma)
    return [
        {
            "name": short_name(band),
            "filter": band,
            "wave": float(data.wave[k]),
            "flux": float(data.flux[k]),
            "sigma": float(data.sigma[k]),
            "model": [float(levels[name][k]) for name in LEVELS],
            "pull": [float(pulls[name][k]) for name in LEVELS],
        }
        for k, band in enumerate(data.bands)
    ]


def _sed(predictive: Predictive, data: PhotometryPrediction) -> dict[str, Any]:
    """The spectrum behind the bands, at wavelengths that a plot can show."""
    curves = [load_filter(b) for b in data.bands]
    inside = [c.wave[c.response > 0.02 * c.response.max()] for c in curves]
    low, high = 0.8 * min(w[0] for w in inside), 1.2 * max(w[-1] for w in inside)
    seen = np.flatnonzero((predictive.sed_wave > low) & (predictive.sed_wave < high))
    grid = np.geomspace(predictive.sed_wave[seen[0]], predictive.sed_wave[seen[-1]], N_SED)
    seen = np.unique(seen[np.clip(np.searchsorted(predictive.sed_wave[seen], grid), 0, seen.size - 1)])
    return pack({"wave": predictive.sed_wave[seen].astype(np.float32), **_levels(predictive.sed[:, seen])})


def _history(time: FloatArray, sfr: FloatArray, zh: FloatArray) -> dict[str, Any]:
    keep = thin(len(time), N_TIME)
    columns = {"time": time[keep].astype(np.float32)}
    columns |= {f"sfr_{k}": v for k, v in _levels(sfr[:, keep]).items()}
    columns |= {f"zh_{k}": v for k, v in _levels(zh[:, keep]).items()}
    return pack(columns)
