"""Synthetic surveys of a known mass function: magnitude-limited, with noisy posteriors; to test estimators on.

Everything that a real survey does to a mass function is in them: galaxies fill the volume evenly (or in clumps), their
mass-to-light ratios scatter, those that measure brighter than the limit are taken, and each has a posterior of its
mass, of its own width. What is left out is the SED: magnitudes change with redshift by the distance modulus and a
K-correction of 2.5 log10(1 + z).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import MPC_CM
from provabgs.population.survey.mass_function import BALDRY_2012, Schechter
from provabgs.population.survey.selection import MagnitudeLimit
from provabgs.population.survey.visibility import VisibleVolumes, visible_volumes
from provabgs.population.survey.volume import SurveyVolume

_SUN_R = 4.65
"""Absolute AB magnitude of the Sun in r (Willmer 2018, ApJS 236, 47)."""
_BAND = "decam2014-r"


@dataclass(frozen=True)
class SurveyRecipe:
    """A synthetic survey.

    Attributes
    ----------
    truth
        Mass function.
    mass_range
        log10 M between which galaxies are made.
    survey
        Area and redshifts.
    limit
        Magnitude limit, r.
    mass_to_light
        Mean and scatter of log10 M/L, solar units, r.
    sigma
        Smallest and largest posterior width, dex; each galaxy's is drawn in between.
    n_draw
        Posterior draws per galaxy.
    magnitude_error
        Of the measured magnitude by which galaxies are selected.
    clumping
        Scatter of ln density between the cells of the sky; 0 for an even distribution.
    cells
        Cells in RA and Dec.
    """

    truth: Schechter = BALDRY_2012
    mass_range: tuple[float, float] = (8.0, 12.0)
    survey: SurveyVolume = field(default_factory=lambda: SurveyVolume(20.0, 0.01, 0.3))
    limit: float = 19.5
    mass_to_light: tuple[float, float] = (0.25, 0.15)
    sigma: tuple[float, float] = (0.1, 0.25)
    n_draw: int = 100
    magnitude_error: float = 0.02
    clumping: float = 0.0
    cells: tuple[int, int] = (6, 5)


@dataclass(frozen=True, eq=False)
class SyntheticSurvey:
    """What was observed, and the truth."""

    log_mass: FloatArray
    """``(n, ndraw)`` posterior draws under a flat prior."""
    volumes: VisibleVolumes
    redshift: FloatArray
    ra: FloatArray
    dec: FloatArray
    cell: NDArray[np.int64]
    """Cell of the sky of each galaxy; cells have equal areas."""
    true_log_mass: FloatArray

    def __len__(self) -> int:
        return len(self.redshift)


def absolute_to_apparent(redshift: ArrayLike, survey: SurveyVolume) -> FloatArray:
    """Distance modulus plus the K-correction of these surveys, mag."""
    z = np.asarray(redshift, dtype=np.float64)
    mpc = survey.cosmology.luminosity_distance_cm(np.atleast_1d(z)).reshape(z.shape) / MPC_CM
    return 5 * np.log10(mpc) + 25 + 2.5 * np.log10(1 + z)


def true_mass_function(recipe: SurveyRecipe, edges: ArrayLike) -> FloatArray:
    """Mean of the true mass function in each bin, Mpc^-3 dex^-1, ``(nbin,)``."""
    e = np.asarray(edges, dtype=np.float64)
    nodes, weights = np.polynomial.legendre.leggauss(16)
    x = 0.5 * (e[1:] + e[:-1])[:, None] + 0.5 * np.diff(e)[:, None] * nodes
    inside = (x >= recipe.mass_range[0]) & (x <= recipe.mass_range[1])
    return 0.5 * np.sum(weights * np.where(inside, recipe.truth(x), 0.0), axis=1)


def make_survey(recipe: SurveyRecipe, rng: np.random.Generator) -> SyntheticSurvey:
    """One synthetic survey: the number of galaxies in its volume is Poisson (times the clumping)."""
    survey = recipe.survey
    n_cell = recipe.cells[0] * recipe.cells[1]
    density = np.exp(recipe.clumping * rng.standard_normal(n_cell) - 0.5 * recipe.clumping**2)
    grid = np.linspace(*recipe.mass_range, 4001)
    number = np.concatenate(
        [[0.0], np.cumsum(0.5 * np.diff(grid) * (recipe.truth(grid)[1:] + recipe.truth(grid)[:-1]))]
    )
    per_cell = rng.poisson(number[-1] * survey.total / n_cell * density)
    n = int(per_cell.sum())
    mass = np.interp(rng.uniform(0, number[-1], n), number, grid)
    z_table = np.geomspace(survey.z_low, survey.z_high, 4001)
    redshift = np.interp(rng.uniform(0, survey.total, n), survey.within(z_table), z_table)
    ratio = recipe.mass_to_light[0] + recipe.mass_to_light[1] * rng.standard_normal(n)
    absolute = _SUN_R - 2.5 * (mass - ratio)
    modulus = np.interp(np.log(redshift), np.log(z_table), absolute_to_apparent(z_table, survey))
    magnitude = absolute + modulus + recipe.magnitude_error * rng.standard_normal(n)
    seen = np.flatnonzero(magnitude < recipe.limit)
    cell = np.repeat(np.arange(n_cell), per_cell)[seen]
    ra, dec = _positions(recipe, cell, rng)
    sigma = rng.uniform(*recipe.sigma, seen.size)
    centre = mass[seen] + sigma * rng.standard_normal(seen.size)
    draws = centre[:, None] + sigma[:, None] * rng.standard_normal((seen.size, recipe.n_draw))
    z_grid = survey.redshift_grid(step=0.02, log_step=0.1)
    track = (magnitude[seen] - modulus[seen])[:, None] + absolute_to_apparent(z_grid, survey)
    margin = MagnitudeLimit(_BAND, recipe.limit).margin({_BAND: track})
    return SyntheticSurvey(
        draws, visible_volumes(margin[:, None, :], z_grid, survey), redshift[seen], ra, dec, cell, mass[seen]
    )


def _positions(
    recipe: SurveyRecipe, cell: NDArray[np.int64], rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Random positions in cells of a field around (180, 0) degrees, of the survey's area: cells in RA and sin Dec."""
    side = np.sqrt(recipe.survey.area_deg2)
    half = np.degrees(np.arcsin(min(1.0, np.radians(side) / 2)))
    i, j = np.divmod(cell, recipe.cells[1])
    ra = 180 + side * ((i + rng.random(cell.size)) / recipe.cells[0] - 0.5)
    sine = np.sin(np.radians(half)) * (2 * (j + rng.random(cell.size)) / recipe.cells[1] - 1)
    return ra, np.degrees(np.arcsin(sine))


def make_sequence(
    n: int, rng: np.random.Generator, truth: Mapping[str, float], n_draw: int = 100, pivot: float = 10.5
) -> tuple[FloatArray, FloatArray]:
    """Joint posterior draws ``(n, n_draw)`` of log M and log SFR of galaxies on and below a known sequence.

    Errors are 0.08-0.2 dex in mass, 0.1-0.35 dex in SFR, anticorrelated (-0.3); the prior of the draws is flat.

    Parameters
    ----------
    truth
        Keys `provabgs.population.survey.star_forming_sequence.NAMES`.
    """
    x = rng.normal(pivot - 0.2, 0.5, n)
    quenched = rng.random(n) < truth["quenched_fraction"]
    away = np.where(
        quenched,
        -truth["offset"] + truth["quenched_scatter"] * rng.standard_normal(n),
        truth["scatter"] * rng.standard_normal(n),
    )
    y = truth["intercept"] + truth["slope"] * (x - pivot) + away
    sigma = np.stack([rng.uniform(0.08, 0.2, n), rng.uniform(0.1, 0.35, n)])
    root = np.linalg.cholesky([[1.0, -0.3], [-0.3, 1.0]])
    centre = np.stack([x, y]) + sigma * (root @ rng.standard_normal((2, n)))
    noise = np.einsum("ab,bij->aij", root, rng.standard_normal((2, n, n_draw)))
    log_mass, log_sfr = centre[:, :, None] + sigma[:, :, None] * noise
    return log_mass, log_sfr
