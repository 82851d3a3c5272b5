"""Coordinates in which a population is learnt: each property as a quantile of its own prior, in standard normals.

``u_k = Phi^-1(F_k(x_k | z))`` with F_k the distribution function that the inference prior induces on property k. The
prior is then a standard normal in every coordinate, the bounds of each property lie at infinity, and the Jacobian of
the map cancels in the ratio of two densities. Ages count as a fraction of the age of the universe.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from provabgs.core.arrays import FloatArray, draws_and_redshifts
from provabgs.core.errors import InputError
from provabgs.observe.cosmology import Cosmology

PROPERTIES = ("LOGMSTAR_FORMED", "LOGSSFR_1GYR", "LOGZ_MW", "T_AGE_MW", "TAU_ISM")
"""Learnt by default. The formed mass is independent of the others under every prior of ours."""
MASS = "LOGMSTAR_FORMED"
AGES = ("T_AGE_MW",)
FLOOR = {"LOGSSFR_1GYR": -16.0, "LOGSSFR_100MYR": -16.0}
"""What a galaxy without stars of that age counts as, log10 of 1/yr: no data tell lower values apart."""
REACH = 6.0
"""Coordinates end here, in sigmas."""
NODES = np.linspace(-4.2, 4.2, 169)
"""Coordinates at which the prior's quantiles are tabulated."""
MIN_DRAWS = 20_000
AGE_NODES = 1024


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The map from properties to coordinates.

    Attributes
    ----------
    names
        Sample columns, d of them.
    cosmology
        Gives the age of the universe.
    redshifts
        ``(m,)`` increasing nodes; between them coordinates are interpolated, beyond them constant.
    tables
        ``(m, d, len(NODES))`` quantiles of the prior at the nodes, increasing.
    """

    names: tuple[str, ...]
    cosmology: str
    redshifts: FloatArray
    tables: FloatArray

    def __post_init__(self) -> None:
        m, d = len(self.redshifts), len(self.names)
        if self.tables.shape != (m, d, NODES.size) or m == 0 or d == 0:
            raise InputError(f"quantiles of shape {self.tables.shape}; expected ({m}, {d}, {NODES.size})")
        if np.any(np.diff(self.redshifts) <= 0) or np.any(np.diff(self.tables, axis=-1) <= 0):
            raise InputError("redshifts and quantiles of a prior must increase")

    def __call__(self, values: ArrayLike, redshift: ArrayLike) -> FloatArray:
        """Coordinates of properties.

        Parameters
        ----------
        values
            ``(n, S, d)`` properties in the order of `names`, each in its own unit.
        redshift
            ``(n,)`` of the galaxies.

        Returns
        -------
        numpy.ndarray
            ``(n, S, d)`` between -`REACH` and `REACH`; NaN where a property is NaN.

        Raises
        ------
        InputError
            For arrays of other shapes.
        """
        v, z = draws_and_redshifts(values, redshift, len(self.names))
        out = np.zeros(v.shape)
        share = self.shares(z)
        age = ages_of(z, Cosmology(self.cosmology))[:, None]
        for k, name in enumerate(self.names):
            x = v[..., k] / age if name in AGES else np.maximum(v[..., k], FLOOR.get(name, -np.inf))
            for node, table in enumerate(self.tables[:, k]):
                rows = np.flatnonzero(share[:, node] > 0)
                if rows.size:
                    out[rows, :, k] += share[rows, node, None] * look_up(x[rows], table)
        return out

    def shares(self, redshift: FloatArray) -> FloatArray:
        """Weights of the nodes at redshifts ``(n,)``: ``(n, m)``, 1 in sum."""
        place = np.interp(redshift, self.redshifts, np.arange(len(self.redshifts)))
        return np.maximum(1 - np.abs(place[:, None] - np.arange(len(self.redshifts))), 0.0)


def ages_of(redshift: FloatArray, cosmology: Cosmology) -> FloatArray:
    """Age of the universe at many redshifts, Gyr: of more than `AGE_NODES`, linear between these, good to 1e-6.

    Parameters
    ----------
    redshift
        ``(n,)``.
    cosmology
        Whose ages; 0.2 ms each.

    Returns
    -------
    numpy.ndarray
        ``(n,)``.
    """
    if len(redshift) <= AGE_NODES:
        return np.asarray(cosmology.age_gyr(redshift)) if len(redshift) else np.zeros(0)
    nodes = np.linspace(redshift.min(), redshift.max(), AGE_NODES)
    return np.interp(redshift, nodes, cosmology.age_gyr(nodes))


def look_up(x: FloatArray, table: FloatArray) -> FloatArray:
    """Coordinate of a property: linear between quantiles, and beyond them with the outermost slope up to `REACH`.

    Parameters
    ----------
    x
        Values of the property, of any shape.
    table
        ``(len(NODES),)`` its quantiles under the prior.

    Returns
    -------
    numpy.ndarray
        Of the shape of x; NaN where x is.
    """
    step = NODES[1] - NODES[0]
    with np.errstate(invalid="ignore"):
        low = np.minimum(x - table[0], 0) * step / (table[1] - table[0])
        high = np.maximum(x - table[-1], 0) * step / (table[-1] - table[-2])
        return np.clip(np.interp(x, table, NODES) + low + high, -REACH, REACH)


def tabulate(draws: FloatArray, names: tuple[str, ...], t_age: float) -> FloatArray:
    """Quantiles of prior draws at one redshift.

    Parameters
    ----------
    draws
        ``(n, d)`` properties, each in its own unit; at least `MIN_DRAWS`.
    names
        Sample columns.
    t_age
        Age of the universe, Gyr.

    Returns
    -------
    numpy.ndarray
        ``(d, len(NODES))``, strictly increasing.

    Raises
    ------
    InputError
        For too few draws, or a property that does not vary.
    """
    if len(draws) < MIN_DRAWS:
        raise InputError(f"{len(draws)} prior draws are too few to tabulate the prior; draw {MIN_DRAWS} at least")
    out = np.empty((len(names), NODES.size))
    for k, name in enumerate(names):
        x = draws[:, k] / t_age if name in AGES else np.maximum(draws[:, k], FLOOR.get(name, -np.inf))
        if not np.isfinite(x).all() or not np.ptp(x) > 0:
            raise InputError(f"{name} has NaN, infinite or equal values under the prior: it cannot be learnt; leave it")
        q = np.quantile(x, ndtr(NODES))
        # equal quantiles, of properties that pile up somewhere, would have no inverse
        out[k] = np.maximum.accumulate(q) + 1e-9 * np.ptp(x) * np.arange(NODES.size)
    return out
