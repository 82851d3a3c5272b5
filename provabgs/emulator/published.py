"""The published PROVABGS emulators, evaluated from a file of arrays.

Used to reproduce published posteriors and as an independent source in parity tests. Layers are
``a = x W + b; x = (beta + (1 - beta) sigmoid(alpha a)) a`` (the activation of speculator, Alsing et al. 2020, equation
8), the last one linear; then PCA and standardisation back to ln L(lambda) in Lsun/Angstrom per Msun formed
(Hahn et al. 2023, section 4; Kwon et al. 2023).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from provabgs.core.errors import DataFileError
from provabgs.core.jax import jax, jnp
from provabgs.sps.parameters import Values

N_CHUNKS = 4
Weights = list[dict[str, jax.Array]]
"""Arrays of each chunk, by name; a pytree."""
CLIP = 1e-8
"""Lower clip of the betas in the published Dirichlet transform."""


class PublishedEmulator:
    """One of the published networks: the NMF (composite) one or the burst (SSP) one.

    Parameters
    ----------
    path
        ``.npz`` of arrays: for each chunk c0..c3 the layers ``W<i>``, ``b<i>``, ``alpha<i>``, ``beta<i>`` and the
        scalers ``theta_*``, ``pca_*``, ``lnspec_*``, ``wave``.

    Raises
    ------
    DataFileError
        When the file is missing or lacks an array.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as f:
                arrays = {k: f[k] for k in f.files if k.startswith("c")}
        except (OSError, ValueError) as err:
            raise DataFileError(f"{path}: not a readable .npz of emulator weights ({err})") from err
        if not all(f"c{i}_wave" in arrays and f"c{i}_W0" in arrays for i in range(N_CHUNKS)):
            raise DataFileError(f"{path}: chunks c0..c{N_CHUNKS - 1} of the published emulator are incomplete")
        self.wave: NDArray[np.float64] = np.concatenate([arrays[f"c{i}_wave"] for i in range(N_CHUNKS)])
        self.weights: Weights = [_chunk_arrays(arrays, f"c{i}_") for i in range(N_CHUNKS)]
        bad = [k for k, a in arrays.items() if not np.all(np.isfinite(a))]
        if bad:
            raise DataFileError(f"{path}: {bad[0]} holds NaN or infinite numbers; copy the file again")
        self.n_inputs = int(self.weights[0]["W0"].shape[0])

    def ln_luminosity(self, inputs: jax.Array) -> jax.Array:
        """Ln L (Lsun/Angstrom per Msun formed), ``(batch, nwave)``, for network inputs ``(batch, n_inputs)``."""
        return _compiled(self.weights, jnp.asarray(inputs, dtype=jnp.float32))


def ln_luminosity(weights: Weights, x: jax.Array) -> jax.Array:
    """Ln L ``(batch, nwave)`` of all chunks, a pure function of weights and inputs ``(batch, n_inputs)``."""
    return jnp.concatenate([_chunk_ln_luminosity(chunk, x) for chunk in weights], axis=1)


_compiled = jax.jit(ln_luminosity)


def _chunk_arrays(arrays: dict[str, NDArray[np.float32]], prefix: str) -> dict[str, jax.Array]:
    names = [k for k in arrays if k.startswith(prefix) and k != f"{prefix}wave"]
    return {k.removeprefix(prefix): jnp.asarray(arrays[k]) for k in names}


def _chunk_ln_luminosity(chunk: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    y = (x - chunk["theta_shift"]) / chunk["theta_scale"]
    last = max(int(k[1:]) for k in chunk if k[0] == "W")
    for i in range(last):
        a = y @ chunk[f"W{i}"] + chunk[f"b{i}"]
        beta = chunk[f"beta{i}"]
        y = (beta + (1 - beta) * jax.nn.sigmoid(chunk[f"alpha{i}"] * a)) * a
    y = y @ chunk[f"W{last}"] + chunk[f"b{last}"]
    pca = (y * chunk["pca_scale"] + chunk["pca_shift"]) @ chunk["pca_basis"]
    return pca * chunk["lnspec_scale"] + chunk["lnspec_shift"]


def nmf_inputs(values: Values, t_age: jax.Array | float) -> jax.Array:
    """Inputs of the published NMF network, ``(batch, 9)``: Dirichlet-transformed betas, gammas, dust, t_age (Gyr).

    ``x1 = 1 - beta1``, ``x2 = 1 - beta2 / x1``, ``x3 = 1 - beta3 / (x1 x2)`` (Betancourt 2012), clipped at 1e-8.
    """
    b = [values[f"beta{i}"] for i in (1, 2, 3)]
    x1 = jnp.clip(1 - b[0], CLIP, 1 - CLIP)
    x2 = jnp.clip(1 - b[1] / x1, CLIP, 1 - CLIP)
    x3 = jnp.clip(1 - b[2] / (x1 * x2), CLIP, 1 - CLIP)
    rest = [values[n] for n in ("gamma1", "gamma2", "tau_bc", "tau_ism", "n_dust")]
    return jnp.stack([x1, x2, x3, *rest, jnp.broadcast_to(jnp.asarray(t_age), x1.shape)], axis=1)
