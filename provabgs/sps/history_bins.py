"""Star-formation histories in bins of lookback time, for any history: masses formed, and times by which they formed.

A history puts its mass on age nodes; between two nodes the mass stays with them. A node on either side of each edge,
`SPLIT` apart, therefore gives the mass of each bin exactly, whatever the history is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.chunks import in_chunks
from provabgs.core.jax import jax, jnp
from provabgs.sps.model import SPSModel

SPLIT = 1e-5
"""Relative distance of the nodes that stand on either side of an edge."""
YOUNGEST_GYR = 1e-5
"""Youngest node; what formed later counts as formed then."""
EDGES_GYR = np.round(
    np.concatenate([[0.01, 0.02, 0.03, 0.05, 0.07], np.arange(0.1, 0.299, 0.02), np.arange(0.3, 14.001, 0.05)]), 6
)
"""``(nedge,)`` edges of the bins, Gyr of lookback time; the first bin begins at 0, the last is open."""
CHUNK = 128
"""Draws handled at a time."""


def formed_in_bins(model: SPSModel, theta: FloatArray, t_age: float) -> FloatArray:
    """Mass formed in each bin of `EDGES_GYR`.

    Parameters
    ----------
    model
        The SPS model.
    theta
        ``(n, nparameter)`` of the model.
    t_age
        Age of the universe at the galaxy, Gyr.

    Returns
    -------
    numpy.ndarray
        ``(n, nedge + 1)`` Msun formed; a burst before the galaxy's birth is in none.
    """
    tables = jax.tree.map(jnp.asarray, model.histories.tables(t_age, node_ages()))
    masses = in_chunks(lambda t: _compiled(model)(t, tables), theta, CHUNK)
    bins = masses.reshape(len(theta), EDGES_GYR.size + 1, 2).sum(axis=2)
    total = model.parameters.values(theta)[model.linear_block.total]
    return 10.0 ** np.asarray(total, dtype=np.float64)[:, None] * bins.astype(np.float64)


def node_ages() -> FloatArray:
    """``(2 nedge + 2,)`` two nodes for each bin: its ends, drawn in by `SPLIT`."""
    either = np.stack([EDGES_GYR * (1 - SPLIT), EDGES_GYR * (1 + SPLIT)], axis=1).reshape(-1)
    return np.concatenate([[YOUNGEST_GYR], either, [20.0]])


def formed_within(bins: FloatArray, span_gyr: float) -> FloatArray:
    """Mass formed in the last `span_gyr`.

    Parameters
    ----------
    bins
        ``(n, nedge + 1)`` of `formed_in_bins`.
    span_gyr
        One of `EDGES_GYR`.

    Returns
    -------
    numpy.ndarray
        ``(n,)`` Msun.
    """
    return np.asarray(bins[:, : edge(span_gyr) + 1].sum(axis=1))


def edge(time_gyr: float) -> int:
    """Place of a lookback time in `EDGES_GYR`."""
    place = int(np.argmin(np.abs(EDGES_GYR - time_gyr)))
    assert abs(EDGES_GYR[place] - time_gyr) < 1e-9, time_gyr
    return place


def time_by_which(bins: FloatArray, fraction: float, t_age: float) -> FloatArray:
    """Lookback time by which a fraction of the mass had formed, even star formation within a bin.

    Parameters
    ----------
    bins
        ``(n, nedge + 1)`` of `formed_in_bins`.
    fraction
        Of the mass formed.
    t_age
        Age of the universe at the galaxy, Gyr: the end of the last bin that holds mass.

    Returns
    -------
    numpy.ndarray
        ``(n,)`` Gyr; half a bin (0.025 Gyr above 0.3 Gyr) is the resolution.
    """
    younger = np.concatenate([np.zeros((len(bins), 1)), np.cumsum(bins, axis=1)], axis=1)
    ends = np.minimum(np.concatenate([[0.0], EDGES_GYR, [20.0]]), t_age)
    wanted = (1 - fraction) * younger[:, -1]
    return np.array([_crossing(ends, row, value) for row, value in zip(younger, wanted, strict=True)])


def _crossing(ends: FloatArray, younger: FloatArray, value: float) -> float:
    """Where a running sum reaches a value; NaN where it never rises."""
    if younger[-1] <= 0:
        return float("nan")
    k = int(np.clip(np.searchsorted(younger, value, side="left"), 1, ends.size - 1))
    step = younger[k] - younger[k - 1]
    share = (value - younger[k - 1]) / step if step > 0 else 1.0
    return float(ends[k - 1] + share * (ends[k] - ends[k - 1]))


@lru_cache(maxsize=4)
def _compiled(model: SPSModel) -> Callable[[FloatArray, Any], jax.Array]:
    """Masses on the nodes per unit of mass formed, ``(batch, 2 nedge + 2)``."""
    ages = node_ages()
    nodes = model.histories.nodes(ages, ages)

    def masses(theta: jax.Array, tables: Any) -> jax.Array:
        return model.histories.node_masses(model.parameters.values(theta), tables, nodes)

    return jax.jit(masses)
