"""A number density in one variable, deconvolved from posterior draws: ln phi is a cubic spline, errors are analytic.

Galaxy i stands for w_i galaxies per unit volume (1/Vmax times its survey weights). Its draws, with the prior divided
out, give its likelihood L_i(m). The density phi maximises the weighted likelihood of a Poisson process::

    F = sum_i w_i ln int phi(m) L_i(m) dm  -  int phi(m) dm

At the maximum int phi = sum_i w_i, so shape and normalisation are fitted together. The expectation of F over the
galaxies that a survey happens to see is the likelihood of the whole volume; the maximum is therefore consistent. Its
covariance is H^-1 V H^-1 (the "sandwich"), with H the curvature of F and V the variance of the gradient of F: H^-1
alone would be wrong because the weights differ by orders of magnitude. The estimator is that of Hahn et al.
(arXiv:2306.06318, section 5) with a spline in place of a Gaussian mixture, and with errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg
from scipy.interpolate import BSpline

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.population.survey.posterior_grid import PosteriorGrid

_DEGREE = 3
_MAX_STEPS = 200
_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class LogSpline:
    """A fitted density with the covariance of its coefficients.

    Attributes
    ----------
    knots
        Knot vector of the cubic B-splines.
    coefficients
        ``(nbasis,)`` of ln phi.
    covariance
        ``(nbasis, nbasis)``.
    converged
        Whether the fit reached its maximum.
    """

    knots: FloatArray
    coefficients: FloatArray
    covariance: FloatArray
    converged: bool

    @property
    def support(self) -> tuple[float, float]:
        """Range on which the density is defined."""
        return float(self.knots[_DEGREE]), float(self.knots[-_DEGREE - 1])

    def basis(self, x: ArrayLike) -> FloatArray:
        """B-splines at `x`, ``(n, nbasis)``; beyond the support they are those of its nearer end."""
        inside = np.clip(np.asarray(x, dtype=np.float64), *self.support)
        return BSpline.design_matrix(inside, self.knots, _DEGREE).toarray()

    def log_density(self, x: ArrayLike) -> FloatArray:
        """Ln phi at `x`, any shape; per unit of x and volume."""
        v = np.asarray(x, dtype=np.float64)
        low, high = self.support
        value = BSpline(self.knots, self.coefficients, _DEGREE)(np.clip(v, low, high))
        return np.where((v >= low) & (v <= high), value, -np.inf)

    def log_sigma(self, x: ArrayLike) -> FloatArray:
        """Standard error of ln phi at `x`, ``(n,)``."""
        b = self.basis(x)
        return np.sqrt(np.einsum("ik,kl,il->i", b, self.covariance, b))

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Coefficients drawn from their Gaussian approximation.

        Parameters
        ----------
        rng
            Source of randomness.
        n
            Number of draws.

        Returns
        -------
        numpy.ndarray
            ``(n, nbasis)``.
        """
        root = linalg.cholesky(self.covariance + 1e-12 * np.eye(len(self.covariance)), lower=True)
        return self.coefficients + rng.standard_normal((n, self.coefficients.size)) @ root.T


def schechter_difference(n: int, spacing: float) -> FloatArray:
    """Differences of spline coefficients that vanish for every Schechter function.

    ln of a Schechter function of m = log10 M is ``a + b m + c 10^m``. Second differences d_k remove ``a + b m``. The
    second differences of ``c 10^m`` are geometric, ``d_{k+1} = 10^spacing d_k``, so that
    ``(d_{k+1} - 10^spacing d_k) / (1 + 10^spacing)`` is zero. For the sum of two Schechter functions with slopes -0.35
    and -1.47 it is at most 0.05 at a spacing of 0.25 dex.

    Parameters
    ----------
    n
        Number of coefficients.
    spacing
        Distance of the knots, dex.

    Returns
    -------
    numpy.ndarray
        ``(n - 3, n)``.
    """
    ratio = 10.0**spacing
    second = np.diff(np.eye(n), n=2, axis=0)
    return (second[1:] - ratio * second[:-1]) / (1 + ratio)


class _Problem:
    """F, its gradient and its curvature, for weights scaled to a mean of one."""

    def __init__(
        self, grid: PosteriorGrid, weight: FloatArray, knots: FloatArray, departure: float, local: FloatArray
    ) -> None:
        self.grid, self.weight = grid, weight
        self.basis = BSpline.design_matrix(grid.centre, knots, _DEGREE).toarray()
        self.difference = schechter_difference(self.basis.shape[1], float(knots[1] - knots[0]))
        self.local = np.exp(np.abs(self.difference) @ np.log(local) / np.abs(self.difference).sum(axis=1))
        self.precision = self.local / departure**2
        self.penalty = self.difference.T @ (self.precision[:, None] * self.difference)

    def density(self, beta: FloatArray) -> FloatArray:
        """Phi on the grid times its spacing."""
        return np.exp(np.clip(self.basis @ beta, -700, 700)) * self.grid.step

    def value(self, beta: FloatArray) -> float:
        phi = self.density(beta)
        likelihood = np.maximum(self.grid.matrix @ phi, 1e-300)
        return float(self.weight @ np.log(likelihood) - phi.sum() - 0.5 * beta @ self.penalty @ beta)

    def scores(self, beta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """``(n, nbasis)`` expectation of the basis under each galaxy's updated posterior; phi; the likelihoods."""
        phi = self.density(beta)
        likelihood = np.maximum(self.grid.matrix @ phi, 1e-300)
        return (self.grid.matrix @ (phi[:, None] * self.basis)) / likelihood[:, None], phi, likelihood

    def derivatives(self, beta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Gradient, information (minus the Hessian), and the complete-data information, which is always positive."""
        mean, phi, likelihood = self.scores(beta)
        gradient = mean.T @ self.weight - self.basis.T @ phi - self.penalty @ beta
        complete = self.basis.T @ (phi[:, None] * self.basis) + self.penalty
        updated = phi * (self.grid.matrix.T @ (self.weight / likelihood))
        second = self.basis.T @ (updated[:, None] * self.basis) - mean.T @ (self.weight[:, None] * mean)
        return gradient, complete - second, complete


def fit_log_spline(
    grid: PosteriorGrid,
    weight: ArrayLike,
    spacing: float = 0.25,
    departure: float = 0.8,
    regions: ArrayLike | None = None,
    area_fraction: ArrayLike | None = None,
) -> LogSpline:
    """Fit ln phi by Newton's method.

    Parameters
    ----------
    grid
        From `posterior_grid`.
    weight
        ``(n,)`` galaxies per unit volume that each stands for, > 0.
    spacing
        Distance of the spline's knots. Finer than the posteriors' width only adds noise.
    departure
        Prior sigma of the departure from a Schechter function, per knot, in ln phi (see `schechter_difference`).
    regions
        ``(n,)`` sky region of each galaxy, whole numbers from 0. Errors then come from the scatter between regions
        (infinitesimal jackknife) and include the variance due to clustering. None for Poisson errors.
    area_fraction
        ``(nregion,)`` fraction of the area in each region; equal fractions if None.

    Returns
    -------
    LogSpline
        Density with the covariance of its coefficients.

    Raises
    ------
    InputError
        For weights that are not finite and > 0, fewer than two regions, or wrong shapes.
    """
    w = np.asarray(weight, dtype=np.float64)
    n = grid.matrix.shape[0]
    if w.shape != (n,) or not (np.isfinite(w) & (w > 0)).all():
        raise InputError(f"weights {w.shape} of {n} galaxies must be one each, finite and > 0; leave bad rows out")
    low, high = grid.centre[0] - grid.step, grid.centre[-1] + grid.step
    pieces = max(1, int(np.ceil((high - low) / spacing)))
    knots = low + (high - low) / pieces * np.arange(-_DEGREE, pieces + _DEGREE + 1)
    unit = w.mean()
    problem = _Problem(grid, w / unit, knots, departure, np.ones(pieces + _DEGREE))
    beta, local = _start(problem)
    # the precision of the prior is scaled by the typical weight of galaxies near each knot: weights span four decades,
    # and one precision for all knots would dominate the galaxies of small weight or be lost among those of large weight
    problem = _Problem(grid, w / unit, knots, departure, local)
    beta, converged = _maximise(problem, beta)
    covariance = _sandwich(problem, beta, regions, area_fraction)
    return LogSpline(knots, beta + np.log(unit), covariance, converged)


def _start(problem: _Problem) -> tuple[FloatArray, FloatArray]:
    """Coefficients near the stacked posterior, and the typical weight of galaxies near each of them."""
    matrix, w = problem.grid.matrix, problem.weight
    stacked = matrix.T @ w
    total, square = problem.basis.T @ stacked, problem.basis.T @ (matrix.T @ w**2)
    known = total > 1e-3 * w.min()
    k = np.arange(total.size)
    log_w = np.log(np.divide(square, total, out=np.ones_like(total), where=known))
    local = np.exp(np.interp(k, k[known], log_w[known]))
    smooth = np.log(stacked / problem.grid.step + 1e-3 * stacked.max() / np.ptp(problem.grid.centre))
    return np.linalg.lstsq(problem.basis, smooth, rcond=None)[0], local


def _maximise(problem: _Problem, beta: FloatArray) -> tuple[FloatArray, bool]:
    """Newton's method, with the complete-data information where the curvature is not positive; always uphill."""
    value = problem.value(beta)
    for _ in range(_MAX_STEPS):
        gradient, observed, complete = problem.derivatives(beta)
        try:
            step = linalg.cho_solve(linalg.cho_factor(observed), gradient)
        except linalg.LinAlgError:
            step = linalg.cho_solve(linalg.cho_factor(complete), gradient)
        # coefficients are ln densities: beyond e^30 the exponentials overflow
        step *= min(1.0, 30.0 / np.abs(step).max())
        for _ in range(30):
            trial = problem.value(beta + step)
            if trial >= value:
                break
            step = step / 2
        beta, gain, value = beta + step, trial - value, trial
        if 0 <= gain < _TOLERANCE * max(1.0, float(problem.weight.sum())) and float(gradient @ step) < 1e-6:
            return beta, True
    return beta, False


def _sandwich(
    problem: _Problem,
    beta: FloatArray,
    regions: ArrayLike | None,
    area_fraction: ArrayLike | None,
) -> FloatArray:
    """Covariance of the coefficients: inverse information times variance of the gradient times inverse information."""
    mean = problem.scores(beta)[0]
    weighted = problem.weight[:, None] * mean
    if regions is None:
        variance = (
            weighted.T @ weighted
        )  # compound Poisson: the number of galaxies varies too, so no mean is subtracted
    else:
        variance = _between_regions(weighted, np.asarray(regions), area_fraction)
    # the prior's part of the variance: its precision `local / departure^2` is in units of weight, hence `local` again
    variance = variance + problem.difference.T @ ((problem.precision * problem.local)[:, None] * problem.difference)
    _, observed, complete = problem.derivatives(beta)
    if linalg.eigvalsh(observed)[0] <= 1e-10 * linalg.eigvalsh(complete)[-1]:
        observed = complete
    inverse = linalg.inv(observed)
    return inverse @ variance @ inverse


def _between_regions(weighted: FloatArray, regions: NDArray[np.int_], area_fraction: ArrayLike | None) -> FloatArray:
    """Variance of the sum of scores from its scatter between regions of the sky."""
    if regions.shape != (len(weighted),) or regions.min() < 0:
        raise InputError(f"regions {regions.shape} of {len(weighted)} galaxies must be one each, from 0")
    count = int(regions.max()) + 1
    fraction = np.full(count, 1 / count) if area_fraction is None else np.asarray(area_fraction, dtype=np.float64)
    if count < 2 or fraction.size < count:
        raise InputError(
            f"{count} sky regions with {fraction.size} areas: give at least two regions, and an area for each"
        )
    total = np.zeros((fraction.size, weighted.shape[1]))
    np.add.at(total, regions, weighted)
    excess = total - fraction[:, None] * total.sum(axis=0) / fraction.sum()
    return excess.T @ excess * fraction.size / (fraction.size - 1)
