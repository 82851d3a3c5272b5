"""The inference prior in the coordinates of a learnt prior: quantiles of each property, and their joint density."""

from __future__ import annotations

import numpy as np

from provabgs.catalog import expression
from provabgs.catalog.columns import LOG_PROB
from provabgs.catalog.names import sample_names
from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.inference.learnt.coordinates import MASS, MIN_DRAWS, Coordinates, tabulate
from provabgs.inference.learnt.mixture import Mixture
from provabgs.population.learnt.draws import DrawTable
from provabgs.population.learnt.em import begin, maximise
from provabgs.population.prior.draws import age_of_universe, draw_properties, schema_of

N_NODES = 5
"""Redshifts at which the prior is drawn from; one where the galaxies' range is narrower than `NARROW`."""
NARROW = 0.02
N_DRAWS = 100_000
"""Prior draws per redshift."""
N_FIT = 120_000
"""Draws that the joint density is fitted to."""
N_COMPONENT = 24
STEPS = 60


def check_names(names: tuple[str, ...], config: FitConfig) -> None:
    """Refuse properties that the model does not have, or too few of them.

    Parameters
    ----------
    names
        Sample columns.
    config
        Of the fits.

    Raises
    ------
    InputError
        Names the property, and those that there are.
    """
    known = [n for n in sample_names(schema_of(load_model(config.model))) if n != LOG_PROB]
    expression.check_names(list(names), known, "among the samples of this model")
    if len(set(names)) != len(names) or len(names) < 2:
        raise InputError(f"properties {', '.join(names)}: give two or more different ones")


def redshift_nodes(low: float, high: float) -> FloatArray:
    """Redshifts at which the prior is tabulated.

    Parameters
    ----------
    low, high
        Range of the galaxies.
    """
    return np.array([0.5 * (low + high)]) if high - low < NARROW else np.linspace(low, high, N_NODES)


def draw_values(config: FitConfig, names: tuple[str, ...], redshift: float, n: int, seed: list[int]) -> FloatArray:
    """Prior draws ``(n, d)`` of properties at one redshift.

    Parameters
    ----------
    config
        Whose prior it is.
    names
        Sample columns.
    redshift
        Of the galaxies.
    n
        Number of draws.
    seed
        Of the draws.
    """
    drawn = draw_properties(config, redshift, n, np.random.default_rng(seed))
    missing = [name for name in names if name not in drawn]
    if missing:
        raise InputError(f"{missing[0]!r}: densities are of logarithmic or stored columns; use {', '.join(drawn)}")
    return np.stack([drawn[name] for name in names], axis=-1)


def inference_prior(
    config: FitConfig,
    names: tuple[str, ...],
    z_range: tuple[float, float],
    scaling: tuple[float, float],
    seed: int,
    n_draws: int = N_DRAWS,
) -> tuple[Coordinates, Mixture]:
    """Coordinates and joint density of the inference prior.

    Parameters
    ----------
    config
        Whose prior it is.
    names
        Sample columns.
    z_range
        Redshifts of the galaxies.
    scaling
        Centre and scale of the scaled redshift.
    seed
        Of the draws.
    n_draws
        Prior draws per redshift node.

    Returns
    -------
    coordinates, base
        The map to coordinates, and the density of the prior in them; exact for the mass, which is independent of the
        other properties.

    Raises
    ------
    InputError
        For unknown properties, or such as do not vary.
    """
    nodes, n_draws = redshift_nodes(*z_range), max(n_draws, MIN_DRAWS)
    values = [draw_values(config, names, float(z), n_draws, [seed, k]) for k, z in enumerate(nodes)]
    ages = [age_of_universe(config, float(z)) for z in nodes]
    tables = np.stack([tabulate(v, names, age) for v, age in zip(values, ages, strict=True)])
    coordinates = Coordinates(names, config.observing.cosmology, nodes, tables)
    rng = np.random.default_rng([seed, len(nodes)])
    each = min(N_FIT // len(nodes), n_draws)
    half_step = 0.5 * (nodes[1] - nodes[0]) if len(nodes) > 1 else 0.0
    points = []
    for z, drawn in zip(nodes, values, strict=True):
        u = coordinates(drawn[:each, None], np.full(each, z))[:, 0]
        # each node stands for the redshifts around it: components must not sit on nodes
        around = np.clip(z + half_step * rng.uniform(-1, 1, each), *z_range)
        points.append(np.column_stack([u, (around - scaling[0]) / scaling[1]]))
    y = np.concatenate(points)
    free = [k for k, name in enumerate(names) if name != MASS]
    return coordinates, _with_mass(_fitted(y[:, [*free, -1]], rng), free, len(names))


def _fitted(y: FloatArray, rng: np.random.Generator) -> Mixture:
    """A mixture fitted to points."""
    n = len(y)
    table = DrawTable(
        y.astype(np.float32)[:, None], np.zeros((n, 1), dtype=np.float32), np.ones(n), np.arange(n, dtype=np.int64)
    )
    blocks = list(table)
    return maximise(begin(blocks, N_COMPONENT, rng, 0.0), blocks, STEPS, 2e-5, 0.0)[0]


def _with_mass(mixture: Mixture, free: list[int], d: int) -> Mixture:
    """The mixture with standard normal, independent coordinates where it has none."""
    if len(free) == d:
        return mixture
    k, at = len(mixture.log_weight), [*free, d]
    mean, covariance = np.zeros((k, d + 1)), np.repeat(np.eye(d + 1)[None], k, axis=0)
    mean[:, at] = mixture.mean
    covariance[np.ix_(range(k), at, at)] = mixture.covariance
    return Mixture(mixture.log_weight, mean, covariance)
