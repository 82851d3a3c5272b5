"""Composite spectra over the prior from which the compressed likelihood learns, computed once per process and model."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.jax import jax, jnp
from provabgs.inference.compressed.merged_nodes import merged_nodes, merged_spectra, reemitted_rows
from provabgs.inference.compressed.places import Places, energy_places, evaluate, places_of, reemission
from provabgs.inference.likelihood.base import fit_parameters
from provabgs.inference.priors import Prior, theta_from_unit
from provabgs.observe.linespread import spread_matrix, velocity_sigma
from provabgs.sps.composite import Parts
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import ParameterSet

WAVE_RANGE = (1850.0, 11500.0)
"""Rest wavelengths that the compressed likelihood learns, Angstrom."""
N_TRAIN, N_HELD_OUT = 2500, 240
"""Composites to learn from, and to measure the error on."""
AGE_RANGE = (5.0, 13.75)
"""Ages of the universe at the galaxies, Gyr (redshift 1.3 to 0)."""
SMOOTHING_KMS = 150.0
"""Points are SSPs smoothed by this: what lies below the resolution of the data need not be interpolated."""
CANDIDATE_STEP = 4
"""Every so many library wavelengths is a candidate point."""
WALK_WIDENING = 4.0
"""A third of the composites have steps from age bin to age bin (in SFR, in Z) larger than the prior's by this."""
SEED = 20230202


class TrainingSet(NamedTuple):
    """Composites, attenuated, and the smoothed SSPs at candidate points; `N_HELD_OUT` composites come last."""

    wave: FloatArray
    """``(nwave,)`` rest Angstrom, a contiguous part of the library's axis."""
    first: int
    """Index of ``wave[0]`` on the library's axis."""
    spectra: SingleArray
    """``(ncomposite, nwave)`` attenuated, per Msun formed."""
    candidates: FloatArray
    """``(ncand,)`` rest Angstrom of candidate points."""
    ssps: Parts
    """Each ``(nrow, ncand)`` smoothed rows of `merged_spectra` at the candidates."""
    reemitted: SingleArray | None
    """``(nreemitted, ncand)`` smoothed rows of emissions that dust powers."""
    values: SingleArray
    """``(ncomposite, ncand)`` composites at the candidates: smoothed stars times attenuation at the very point."""


def draw_composites(model: SPSModel, n: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Parameters and ages of composites over the prior, rare corners of it drawn more often.

    With the published histories a third have no burst and a sixth are pure bursts, half of the bursts are uniform in
    the log of their age, and every fifth galaxy has thick and steep dust: rare in the prior, they look like nothing
    else. Parameters that a model lacks are left out.

    Parameters
    ----------
    model
        Whose prior it is.
    n
        Number of composites.
    seed
        Of the random numbers.

    Returns
    -------
    theta, t_age
        ``(n, nparameter)`` of the model, and ``(n,)`` ages of the universe, Gyr.
    """
    rng = np.random.default_rng(seed)
    parameters, fit = model.parameters, fit_parameters(model)
    unit = rng.random((n, len(fit.coordinates)))
    theta = np.array(fit.select(theta_from_unit(jnp.asarray(unit), Prior.of(fit)), parameters))
    column = {name: theta[:, i] for i, name in enumerate(parameters.names)}  # views: what is set below is set in theta
    low, high = AGE_RANGE
    t_age = rng.uniform(min(max(low, 1.001 * model.histories.least_t_age_gyr), high), high, n)
    if "fburst" in parameters:
        column["fburst"][: n // 3] = 0.0
        column["fburst"][n // 3 : n // 2] = 1.0
    if "tburst" in parameters:
        youngest, half = parameters["tburst"].bounds[0], column["tburst"][::2]
        half[:] = np.exp(rng.uniform(np.log(youngest), np.log(AGE_RANGE[1]), half.size))
        column["tburst"][:] = np.minimum(column["tburst"], t_age)
    if "tau_ism" in parameters and "n_dust" in parameters:
        fifth = column["tau_ism"][::5].size
        column["tau_ism"][::5] = rng.uniform(1.0, 3.0, fifth)
        column["n_dust"][::5] = rng.uniform(-2.0, -1.0, fifth)
    for name in names_of_walks(parameters):
        column[name][: n // 3] *= WALK_WIDENING
    order = rng.permutation(n)
    return theta[order], t_age[order]


def names_of_walks(parameters: ParameterSet) -> tuple[str, ...]:
    """Parameters of histories that are steps with a peaked prior: data may ask for steps that it rarely makes."""
    return tuple(p.name for p in parameters.of_role("shape") if p.prior in ("normal", "student-t"))


@lru_cache(maxsize=4)
def training_set(model: SPSModel) -> TrainingSet:
    """Composites of a model (about a second)."""
    nodes = merged_nodes(model)
    theta, t_age = draw_composites(model, N_TRAIN + N_HELD_OUT, SEED)
    tables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), nodes.tables(model.tables(t_age)))
    values = model.parameters.values(jnp.asarray(theta, jnp.float32))
    weights = jax.jit(lambda v, t: nodes.weights(model, v, t))(values, tables)
    power = reemission(model, weights, values, energy_places(model))

    library = model.library.wave
    inside = np.flatnonzero((library >= WAVE_RANGE[0]) & (library <= WAVE_RANGE[1]))
    window = slice(int(inside[0]), int(inside[-1]) + 1)
    wave = library[window]
    ssps = Parts(*(np.ascontiguousarray(s[:, window]) for s in merged_spectra(model)))
    rows = reemitted_rows(model)
    rows = None if rows is None else np.ascontiguousarray(rows[:, window])
    # not the outermost wavelengths: there the smoothing kernel would be cut off
    candidates = wave[20:-20:CANDIDATE_STEP]
    smooth = spread_matrix(wave, candidates, velocity_sigma(candidates, SMOOTHING_KMS)).astype(np.float32)
    smoothed = Parts(*(np.ascontiguousarray((smooth @ s.T).T) for s in ssps))
    smoothed_rows = None if rows is None else np.ascontiguousarray((smooth @ rows.T).T)

    def composites(places: Places) -> SingleArray:
        return np.asarray(jax.jit(lambda v, w, p: evaluate(model, w, v, p, power))(values, weights, places))

    return TrainingSet(
        wave=wave,
        first=window.start,
        spectra=composites(places_of(model, ssps, wave, rows)),
        candidates=candidates,
        ssps=smoothed,
        reemitted=smoothed_rows,
        values=composites(places_of(model, smoothed, candidates, smoothed_rows)),
    )
