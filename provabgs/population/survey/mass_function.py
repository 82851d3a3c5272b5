"""The probabilistic stellar mass function: Phi(log M) with errors from posterior draws, Vmax and survey weights.

Two estimators. `stacked_mass_function` adds the posteriors, each weighted by w / Vmax. It is biased: the sum of
posteriors is the mass function broadened by the errors of individual masses (Eddington bias: too many massive
galaxies). `mass_function` deconvolves: it infers the density whose convolution with each galaxy's errors gives the
observed posteriors (`provabgs.population.survey.log_spline`; Hahn et al., arXiv:2306.06318). Units are Mpc^-3 dex^-1,
without h.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.population.survey.log_spline import LogSpline, fit_log_spline
from provabgs.population.survey.posterior_grid import PosteriorGrid, posterior_grid

MIN_GALAXIES = 10.0
"""Bins with fewer galaxies than this are flagged."""


@dataclass(frozen=True, eq=False)
class MassFunction:
    """A mass function in bins.

    Attributes
    ----------
    edges
        ``(nbin + 1,)`` log10 M.
    phi
        ``(nbin,)`` mean of Phi in each bin, Mpc^-3 dex^-1; NaN in empty bins.
    covariance
        ``(nbin, nbin)`` of ln phi; NaN in rows of empty bins.
    n_galaxies
        ``(nbin,)`` expected number of galaxies in the bin: the sum of their probabilities to lie in it.
    n_effective
        ``(nbin,)`` number of equally weighted galaxies with the same Poisson error.
    method
        ``"deconvolved"`` or ``"stacked"``.
    spline
        The density behind the bins, for the deconvolved one.
    """

    edges: FloatArray
    phi: FloatArray
    covariance: FloatArray
    n_galaxies: FloatArray
    n_effective: FloatArray
    method: str
    spline: LogSpline | None = None

    @property
    def centre(self) -> FloatArray:
        """``(nbin,)`` middle of the bins."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    @property
    def log_sigma(self) -> FloatArray:
        """``(nbin,)`` standard error of ln phi."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def few(self) -> NDArray[np.bool_]:
        """``(nbin,)`` True for bins of fewer than `MIN_GALAXIES`, empty ones included; their errors are unreliable."""
        return ~(np.minimum(self.n_galaxies, self.n_effective) >= MIN_GALAXIES)

    def interval(self, probability: float = 0.68) -> tuple[FloatArray, FloatArray]:
        """Central intervals of phi (log-normal), lower and upper ends, each ``(nbin,)``."""
        half = float(ndtri(0.5 + probability / 2)) * self.log_sigma
        return self.phi * np.exp(-half), self.phi * np.exp(half)


def _checked_edges(edges: ArrayLike) -> FloatArray:
    e = np.asarray(edges, dtype=np.float64)
    if e.ndim != 1 or e.size < 2 or not np.isfinite(e).all() or not (np.diff(e) > 0).all():
        raise InputError("bin edges must be finite and increasing, at least two of them")
    return e


def _overlap(grid: PosteriorGrid, edges: FloatArray) -> FloatArray:
    """Fraction of each grid cell that lies in each bin, ``(ngrid, nbin)``."""
    low, high = grid.centre[:, None] - grid.step / 2, grid.centre[:, None] + grid.step / 2
    return np.clip((np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])) / grid.step, 0.0, 1.0)


def _per_volume(inverse_volume: ArrayLike, weight: ArrayLike | None, n: int) -> FloatArray:
    """``(n,)`` galaxies per Mpc^3 that each galaxy stands for; refused unless finite and > 0."""
    w = np.asarray(inverse_volume, dtype=np.float64) * (1.0 if weight is None else np.asarray(weight, dtype=np.float64))
    if w.shape != (n,):
        raise InputError(f"weights have shape {w.shape} for {n} galaxies; give one 1/Vmax and one weight per galaxy")
    bad = ~(np.isfinite(w) & (w > 0))
    if bad.any():
        raise InputError(
            f"weight over Vmax of galaxy {int(np.argmax(bad))} is {w[np.argmax(bad)]:g} ({int(bad.sum())} of {n} are "
            "NaN, zero or negative); leave these galaxies out"
        )
    return w


def stacked_mass_function(
    log_mass: ArrayLike,
    inverse_volume: ArrayLike,
    edges: ArrayLike,
    weight: ArrayLike | None = None,
    log_prior: ArrayLike | None = None,
) -> MassFunction:
    """Sum of posteriors, each divided by its Vmax: biased by the width of the posteriors (see the module's text).

    Errors are Poisson: the variance of bin b is ``sum_i (w_i p_ib)^2``.

    Parameters
    ----------
    log_mass, inverse_volume, edges, weight, log_prior
        As in `mass_function`.

    Returns
    -------
    MassFunction
        With method ``"stacked"``.

    Raises
    ------
    InputError
        As in `mass_function`.
    """
    e = _checked_edges(edges)
    grid = posterior_grid(log_mass, log_prior)
    w = _per_volume(inverse_volume, weight, grid.matrix.shape[0])
    in_bin = grid.matrix @ _overlap(grid, e)  # probability of each galaxy to lie in each bin
    density = w @ in_bin
    variance = (w[:, None] * in_bin).T @ (w[:, None] * in_bin)
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = variance / np.outer(density, density)
        n_effective = density**2 / ((w**2) @ in_bin)
    phi = np.where(density > 0, density / np.diff(e), np.nan)
    return MassFunction(e, phi, covariance, in_bin.sum(axis=0), np.nan_to_num(n_effective), "stacked")


def mass_function(
    log_mass: ArrayLike,
    inverse_volume: ArrayLike,
    edges: ArrayLike,
    weight: ArrayLike | None = None,
    log_prior: ArrayLike | None = None,
    regions: ArrayLike | None = None,
    area_fraction: ArrayLike | None = None,
    spacing: float = 0.25,
    departure: float = 0.8,
) -> MassFunction:
    """The deconvolved mass function.

    Parameters
    ----------
    log_mass
        ``(n, ndraw)`` posterior draws of log10 M/Msun, formed or surviving; NaN are left out.
    inverse_volume
        ``(n,)`` 1/Vmax, Mpc^-3 (`provabgs.population.survey.visibility.VisibleVolumes.inverse`).
    edges
        ``(nbin + 1,)`` bin edges, log10 M. Galaxies beyond the edges also constrain the density and are used.
    weight
        ``(n,)`` survey weights (`provabgs.population.weights.combine_weights`).
    log_prior
        ``(n, ndraw)`` ln prior density of log M at the draws; None for the flat prior of `logmstar`.
    regions, area_fraction
        Sky regions for jackknife errors (`provabgs.population.survey.sky_regions.sky_regions`); Poisson errors if None.
    spacing, departure
        See `provabgs.population.survey.log_spline.fit_log_spline`.

    Returns
    -------
    MassFunction
        With method ``"deconvolved"`` and its spline.

    Raises
    ------
    InputError
        For edges out of order, galaxies without draws, weights or volumes that are NaN, zero or negative.
    """
    e = _checked_edges(edges)
    grid = posterior_grid(log_mass, log_prior)
    w = _per_volume(inverse_volume, weight, grid.matrix.shape[0])
    spline = fit_log_spline(grid, w, spacing, departure, regions, area_fraction)
    overlap = _overlap(grid, e)
    density = np.exp(spline.log_density(grid.centre)) * grid.step
    in_bin = density @ overlap
    with np.errstate(divide="ignore", invalid="ignore"):
        # d ln(in_bin) / d coefficients: the basis averaged over the density in each bin
        slope = (overlap * density[:, None]).T @ spline.basis(grid.centre) / in_bin[:, None]
        # probability of each galaxy to lie in each bin, with the density as its prior
        updated = grid.matrix.multiply(density).tocsr()
        member = (updated @ overlap) / updated.sum(axis=1)[:, None]
        n_effective = (w @ member) ** 2 / (w**2 @ member)
    covariance = slope @ spline.covariance @ slope.T
    # in a bin that no galaxy reaches the spline is an extrapolation
    phi = np.where(member.sum(axis=0) > 0, in_bin / np.diff(e), np.nan)
    return MassFunction(e, phi, covariance, member.sum(axis=0), np.nan_to_num(n_effective), "deconvolved", spline)


def completeness_limit(
    log_mass: ArrayLike, margin_near: ArrayLike, inverse_volume: ArrayLike, quantile: float = 0.95
) -> float:
    """Mass above which the survey selects a fraction `quantile` of all mass-to-light ratios at its near end.

    Each galaxy is dimmed, at constant mass-to-light ratio, until it is just selected at z_low. Galaxies of this
    mass-to-light ratio and a lower mass are selected nowhere, and no weight can replace them (Pozzetti et al. 2010,
    A&A 523, A13). Galaxies count by 1/Vmax.

    Parameters
    ----------
    log_mass, margin_near
        ``(n, ndraw)`` draws of log10 M and their margins at the near end, mag (`VisibleVolumes.margin_near`).
    inverse_volume
        ``(n,)`` 1/Vmax, Mpc^-3.
    quantile
        Fraction of the volume density.

    Returns
    -------
    float
        log10 M.
    """
    limit = np.nanmedian(np.asarray(log_mass) - 0.4 * np.asarray(margin_near), axis=1)
    order = np.argsort(limit)
    cumulative = np.cumsum(np.asarray(inverse_volume, dtype=np.float64)[order])
    return float(limit[order][np.searchsorted(cumulative, quantile * cumulative[-1])])


@dataclass(frozen=True)
class Schechter:
    """Sum of Schechter functions with one characteristic mass.

    Attributes
    ----------
    log_m
        log10 of the characteristic mass.
    phi
        Normalisations, Mpc^-3.
    alpha
        Slopes at the faint end, one per normalisation.
    label
        Where the numbers come from.
    """

    log_m: float
    phi: tuple[float, ...]
    alpha: tuple[float, ...]
    label: str = ""

    def __call__(self, log_mass: ArrayLike) -> FloatArray:
        """Phi, Mpc^-3 dex^-1, at log10 M."""
        x = 10.0 ** (np.asarray(log_mass, dtype=np.float64) - self.log_m)
        total = sum(p * x ** (a + 1) for p, a in zip(self.phi, self.alpha, strict=True))
        return np.log(10) * np.exp(-x) * total


BALDRY_2012 = Schechter(10.66, (3.96e-3, 0.79e-3), (-0.35, -1.47), "Baldry et al. 2012, GAMA, z < 0.06")
"""Baldry et al. (2012, MNRAS 421, 621), double Schechter fit: Chabrier IMF, surviving mass, H0 = 70 km/s/Mpc."""
