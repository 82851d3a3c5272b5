"""Composite spectra over the prior from which the compressed engine learns, computed once per process and model."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.jax import jax, jnp
from provabgs.inference.compressed.merged_nodes import BURST_MIN_GYR, merged_nodes, merged_spectra
from provabgs.inference.priors import N_LATENT, Prior, theta_from_unit
from provabgs.observe.linespread import spread_matrix, velocity_sigma
from provabgs.sps.dust import DustCurves, dust_curves, transmission
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import INDEX, Parameter

WAVE_RANGE = (1850.0, 11500.0)
"""Rest wavelengths that the engine learns, Angstrom."""
N_TRAIN, N_HELD_OUT = 2500, 240
"""Composites to learn from, and to measure the error on."""
AGE_RANGE = (5.0, 13.75)
"""Ages of the universe at the galaxies, Gyr (redshift 1.3 to 0)."""
SMOOTHING_KMS = 150.0
"""Points are SSPs smoothed by this: what lies below the resolution of the data need not be interpolated."""
CANDIDATE_STEP = 4
"""Every so many library wavelengths is a candidate point."""
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
    young: SingleArray
    """``(nmet * nyoung, ncand)`` smoothed SSPs at the candidates."""
    old: SingleArray
    values: SingleArray
    """``(ncomposite, ncand)`` composites at the candidates: smoothed stars times attenuation at the very point."""


def draw_composites(n: int, seed: int, extra: tuple[Parameter, ...] = ()) -> tuple[FloatArray, FloatArray]:
    """Parameters and ages of composites over the prior: a third without burst, a sixth pure bursts.

    Half of the bursts are uniform in the log of their age, and every fifth galaxy has thick and steep dust: rare in the
    prior, they look like nothing else.
    """
    rng = np.random.default_rng(seed)
    unit = rng.random((n, N_LATENT))
    if extra:
        unit = np.concatenate([unit, rng.random((n, len(extra)))], axis=1)
    theta = np.array(theta_from_unit(jnp.asarray(unit), Prior.create(extra=extra)))
    theta[: n // 3, INDEX["fburst"]] = 0.0
    theta[n // 3 : n // 2, INDEX["fburst"]] = 1.0
    t_age = rng.uniform(*AGE_RANGE, n)
    theta[::2, INDEX["tburst"]] = np.exp(rng.uniform(np.log(BURST_MIN_GYR), np.log(AGE_RANGE[1]), theta[::2].shape[0]))
    theta[:, INDEX["tburst"]] = np.minimum(theta[:, INDEX["tburst"]], t_age)
    theta[::5, INDEX["tau_ism"]] = rng.uniform(1.0, 3.0, theta[::5].shape[0])
    theta[::5, INDEX["n_dust"]] = rng.uniform(-2.0, -1.0, theta[::5].shape[0])
    order = rng.permutation(n)
    return theta[order], t_age[order]


@lru_cache(maxsize=2)
def training_set(model: SPSModel) -> TrainingSet:
    """Composites of a model (about a second)."""
    nodes = merged_nodes(model)
    theta, t_age = draw_composites(N_TRAIN + N_HELD_OUT, SEED, model.extra)
    tables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), nodes.tables(model.tables(t_age)))
    weights = jax.jit(lambda x, t: nodes.weights(model, x, t))(jnp.asarray(theta, jnp.float32), tables)
    dust = tuple(jnp.asarray(theta[:, INDEX[n]], jnp.float32) for n in ("tau_bc", "tau_ism", "n_dust"))

    library = model.library.wave
    inside = np.flatnonzero((library >= WAVE_RANGE[0]) & (library <= WAVE_RANGE[1]))
    window = slice(int(inside[0]), int(inside[-1]) + 1)
    wave = library[window]
    ssps = [np.ascontiguousarray(s[:, window]) for s in merged_spectra(model)]
    candidates = wave[20:-20:CANDIDATE_STEP]
    smooth = spread_matrix(wave, candidates, velocity_sigma(candidates, SMOOTHING_KMS)).astype(np.float32)
    young, old = (np.ascontiguousarray((smooth @ s.T).T) for s in ssps)
    return TrainingSet(
        wave=wave,
        first=window.start,
        spectra=np.asarray(_attenuated(weights, ssps, _curves(wave, model), dust)),
        candidates=candidates,
        young=young,
        old=old,
        values=np.asarray(_attenuated(weights, [young, old], _curves(candidates, model), dust)),
    )


def _curves(wave: FloatArray, model: SPSModel) -> DustCurves:
    return jax.tree.map(lambda c: jnp.asarray(c, jnp.float32), dust_curves(wave, model.birth_cloud_slope))


@jax.jit
def _attenuated(
    weights: tuple[jax.Array, jax.Array],
    ssps: list[SingleArray],
    curves: DustCurves,
    dust: tuple[jax.Array, jax.Array, jax.Array],
) -> jax.Array:
    old, young = transmission(curves, *dust)
    precision = jax.lax.Precision.HIGHEST
    return jnp.matmul(weights[0], ssps[0], precision=precision) * young + (
        jnp.matmul(weights[1], ssps[1], precision=precision) * old
    )
