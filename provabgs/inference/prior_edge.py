"""Posteriors that pile up at an edge of their prior: the data want values that the prior does not hold.

A posterior near an edge is no alarm by itself. It is one where its density does not fall towards the edge, and where
the edge is the prior's choice or a table's end, not one that nature has: dust of optical depth 0, a burst of age 0
(`Parameter.natural_edges`).
"""

from __future__ import annotations

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.sps.parameters import ParameterSet

EDGE_WIDTH = 0.01
"""Prior probability next to an edge within which draws count as at the edge."""
EDGE_FRACTION = 0.05
"""Share of the draws at an edge above which it is an alarm: five times the prior's own."""
BESIDE = 5
"""The density there is compared with that in a stretch this many times as wide."""
FALLING = 0.8
"""Density at the edge over that beside it, below which the posterior falls towards the edge."""
FEWEST = 20
"""Draws at an edge below which nothing is said: their density is not known."""


def edge_fractions(unit: FloatArray, parameters: ParameterSet) -> dict[str, float]:
    """Share of the draws that pile up at an edge of the prior, by coordinate of the unit cube.

    Parameters
    ----------
    unit
        ``(n, n_coordinate)`` draws in the prior's unit cube: coordinates are the prior's own probability.
    parameters
        Of the fit.

    Returns
    -------
    dict
        By coordinate; 0 where the posterior ends before the edge, or where the edge is a natural one.
    """
    out: dict[str, float] = {}
    for k, name in enumerate(parameters.coordinates):
        natural = parameters[name].natural_edges if name in parameters else "both"
        sides = {"low": unit[:, k], "high": 1 - unit[:, k]}
        out[name] = sum(piled_up(d) for side, d in sides.items() if natural not in (side, "both"))
    return out


def piled_up(distance: FloatArray) -> float:
    """Share of draws within `EDGE_WIDTH` of an edge, 0 where their density falls towards the edge.

    Parameters
    ----------
    distance
        ``(n,)`` from the edge, in prior probability. Where most draws are within `EDGE_WIDTH`, their own spread sets
        the scale on which densities are compared, so that a narrow posterior close to an edge is no alarm.

    Returns
    -------
    float
        0 to 1.
    """
    share = float(np.mean(distance < EDGE_WIDTH))
    if share * distance.size < FEWEST:
        return 0.0
    scale = min(EDGE_WIDTH, float(np.median(distance)) / BESIDE)
    inner = np.count_nonzero(distance <= scale)
    beside = np.count_nonzero((distance > scale) & (distance <= BESIDE * scale))
    return share if (BESIDE - 1) * inner >= FALLING * beside else 0.0
