"""Iterative proportional fitting: weights of draws under which every marginal is flat."""

from __future__ import annotations

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError

N_BIN = 40
"""Bins per property."""
SWEEPS = 60
"""Most sweeps over the properties; sweeps end earlier when every marginal is flat to 1 %."""


def fit_marginals(
    x: FloatArray, edges: list[FloatArray], names: tuple[str, ...]
) -> tuple[list[FloatArray], list[float]]:
    """Factors g_k whose product makes the marginal of every property flat.

    Each sweep divides every g_k by the marginal of property k under the current product of all g. g is evaluated as
    the same piecewise linear function that the correction uses, so the marginals that become flat are those of the
    correction as applied.

    Parameters
    ----------
    x
        ``(n, d)`` prior draws of the properties.
    edges
        Per property the ``(N_BIN + 1,)`` edges of its bins; draws outside keep the value of g at the nearer edge.
    names
        Of the properties, for messages.

    Returns
    -------
    log_g
        Per property ``(N_BIN,)`` ln g at the centres of the bins.
    deviation
        Per property the largest relative deviation of its marginal from flat, over bins.

    Raises
    ------
    InputError
        For a bin with fewer than 10 draws.
    """
    centres = [0.5 * (e[1:] + e[:-1]) for e in edges]
    cell = [np.clip(np.digitize(x[:, k], e) - 1, -1, N_BIN) for k, e in enumerate(edges)]
    cell = [np.where((x[:, k] < edges[k][0]) | (x[:, k] >= edges[k][-1]), N_BIN, c) for k, c in enumerate(cell)]
    for k, name in enumerate(names):
        empty = np.flatnonzero(np.bincount(cell[k], minlength=N_BIN + 1)[:N_BIN] < 10)
        if empty.size:
            low, high = edges[k][empty[0]], edges[k][empty[0] + 1]
            raise InputError(
                f"{name} from {low:.3g} to {high:.3g}: fewer than 10 of {len(x)} prior draws ({empty.size} such bins), "
                "and no weight can fill an empty bin; narrow the limits, or draw more"
            )
    log_g = [np.zeros(N_BIN) for _ in names]
    # prod_k g_k at every draw, kept per property: a sweep changes one factor at a time
    factor = [np.ones(len(x)) for _ in names]
    deviation = [np.inf for _ in names]
    for _ in range(SWEEPS):
        for k in range(len(names)):
            weight = np.prod(factor, axis=0)
            marginal = np.bincount(cell[k], weight, minlength=N_BIN + 1)[:N_BIN]
            marginal = marginal / marginal.mean()
            deviation[k] = float(np.max(np.abs(marginal - 1)))
            log_g[k] = log_g[k] - np.log(marginal)
            factor[k] = np.exp(np.interp(x[:, k], centres[k], log_g[k]))
        if max(deviation) < 0.01:
            break
    return log_g, deviation
