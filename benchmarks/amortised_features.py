"""What the amortised flow is told of a galaxy, and batches of simulated galaxies to learn it from.

Features are the posterior mean of the spectrum's components (Gaussian, under their prior: a linear statistic that is
sufficient as far as the components reach, and smooth in redshift and noise), logarithms of broad averages of the same,
bands and their noise over the level of the spectrum, S/N, redshift, brightness, and the prior of f_fiber.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from amortised_simulations import Frame, read_frame
from calibration import BAND_FLOOR, BAND_SIGMA

from provabgs.core.jax import jax, jnp
from provabgs.inference.compressed.reduction import REFERENCE_LOG_MASS
from provabgs.inference.marginalised import OUTER_NAMES
from provabgs.sps.parameters import PARAMETERS

LOG_SNR = (-0.25, 1.6)
"""log10 of S/N per pixel, over the mean level: a little more than the calibration study has."""
FRACTION = (0.2, 0.8)
SMEAR = 0.5
"""Scatter (ln) of the simulated noise floors. The floor is a share of the true flux: a network that is told the noise
would read the flux off it, which the likelihood does not."""
GROUPS, EACH = 16, 32
"""Redshifts in a batch, and galaxies at each."""
_MASS = next(p.bounds for p in PARAMETERS if p.name == "logmstar")
_F_FIBER = OUTER_NAMES.index("f_fiber")


class Batch(NamedTuple):
    """Noisy galaxies, grouped by redshift: ``(group, each, ...)``."""

    products: jax.Array
    sigma: jax.Array
    bands: jax.Array
    band_sigma: jax.Array
    fraction: jax.Array


class Epochs(NamedTuple):
    """Arrays of `Epoch`, one row per redshift."""

    redshift: jax.Array
    vectors: jax.Array
    root: jax.Array
    level: jax.Array
    log_scale: jax.Array


class Simulations(NamedTuple):
    """The file of simulations, in memory."""

    epochs: Epochs
    outer: jax.Array
    clean: jax.Array
    bands: jax.Array

    @classmethod
    def load(cls, path: Path) -> Simulations:
        with h5py.File(path) as file:
            n = int(file.attrs["n_done"])
            get = lambda name: np.asarray(file[name][:n], np.float32)  # noqa: E731
            epochs = Epochs(*(get(k) for k in ("redshifts", "vectors", "root", "level", "log_scale")))
            return cls(epochs, get("outer"), get("clean"), get("bands"))


def load_frame(path: Path) -> Frame:
    with h5py.File(path) as file:
        return read_frame(file)


def features(epochs: Epochs, batch: Batch, colours: jax.Array) -> jax.Array:
    """``(group, each, nfeature)``, not yet standardised."""
    level = jnp.maximum(jnp.einsum("gk,gek->ge", epochs.level, batch.products), 0.1 * batch.sigma)
    noise = (batch.sigma / level)[..., None]
    root, first = epochs.root[:, None], epochs.vectors[:, None, 0]
    # coefficients of mean and components under a prior of unit variance around (1, 0, 0, ...)
    gain = root / (root**2 + noise**2) * (batch.products / level[..., None] - root * first)
    coefficients = jnp.einsum("gik,gek->gei", epochs.vectors, gain).at[..., 0].add(1.0)
    broad = jnp.log(jnp.maximum(coefficients @ colours, 0.05 * noise))
    ratio = jnp.log(jnp.maximum(batch.bands, batch.band_sigma) / level[..., None])
    depth = jnp.log(batch.band_sigma / level[..., None])
    significance = jnp.arcsinh(batch.bands / batch.band_sigma)
    ones = jnp.ones_like(level)
    rest = [
        jnp.log(noise[..., 0]),
        epochs.redshift[:, None] * ones,
        jnp.log10(level) - epochs.log_scale[:, None] - REFERENCE_LOG_MASS,
        batch.fraction,
    ]
    return jnp.concatenate([coefficients, broad, ratio, depth, significance, jnp.stack(rest, axis=-1)], axis=-1)


def draw_batch(key: jax.Array, data: Simulations, n_redshift: tuple[int, int]) -> tuple[Epochs, Batch, jax.Array]:
    """Random galaxies of redshifts ``n_redshift[0] ... n_redshift[1] - 1`` with new mass, f_fiber, and noise."""
    k = jax.random.split(key, 9)
    group = jax.random.randint(k[0], (GROUPS,), *n_redshift)
    row = jax.random.randint(k[1], (GROUPS, EACH), 0, data.outer.shape[1])
    epochs = jax.tree.map(lambda x: x[group], data.epochs)
    outer, clean, bands = (x[group[:, None], row] for x in (data.outer, data.clean, data.bands))
    shape = (GROUPS, EACH)
    low, high = _MASS
    mass = 10.0 ** (jax.random.uniform(k[2], shape, minval=low, maxval=high) - REFERENCE_LOG_MASS)
    fraction = jax.random.uniform(k[3], shape, minval=FRACTION[0], maxval=FRACTION[1])
    # a Gaussian of a tenth's width: its truncation at 0 is ten sigmas away
    f_fiber = fraction * (1 + 0.1 * outer[..., _F_FIBER])
    clean, bands = clean * (mass * f_fiber)[..., None], bands * mass[..., None]
    level = jnp.einsum("gk,gek->ge", epochs.level, clean)
    sigma = level / 10.0 ** jax.random.uniform(k[4], shape, minval=LOG_SNR[0], maxval=LOG_SNR[1])
    products = clean + sigma[..., None] * jax.random.normal(k[5], clean.shape)
    smear = jnp.exp(SMEAR * jax.random.normal(k[6], bands.shape))
    band_sigma = jnp.hypot(jnp.asarray(BAND_SIGMA, jnp.float32), jnp.asarray(BAND_FLOOR, jnp.float32) * bands * smear)
    bands = bands + band_sigma * jax.random.normal(k[7], bands.shape)
    return epochs, Batch(products, sigma, bands, band_sigma, fraction), outer
