"""A number density in one variable, deconvolved from posterior draws: ln phi is a cubic spline, errors are analytic.

Galaxy i stands for w_i galaxies per unit volume (its inverse Vmax times its weights) and its draws tell where on the
axis it may lie, L_i(m). The density maximises the weighted likelihood of a Poisson process::

    F = sum_i w_i ln int phi(m) L_i(m) dm  -  int phi(m) dm

whose maximum has int phi = sum_i w_i: shape and normalisation come together. F is the expectation, over which galaxies
a survey happens to see, of the likelihood of the whole volume, so that its maximum is consistent, while errors follow
from the variance of its gradient (the "sandwich"), not from its curvature alone: weights may differ by orders of
magnitude. This is the estimator of Hahn et al. (arXiv:2306.06318, section 5) with a spline in place of a Gaussian
mixture and with errors.

Draws fall on a fine grid, so that a sum over draws is a sparse matrix product and a million galaxies fit in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, sparse
from scipy.interpolate import BSpline

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError

_DEGREE = 3
_MAX_STEPS = 200
_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class PosteriorGrid:
    """Posterior draws of one quantity as probabilities on a grid.

    Attributes
    ----------
    centre
        ``(ngrid,)`` evenly spaced.
    matrix
        ``(n, ngrid)`` sparse; row i is proportional to the likelihood of galaxy i (draws over prior) and sums to 1.
    """

    centre: FloatArray
    matrix: sparse.csr_array

    @property
    def step(self) -> float:
        """Distance of grid points."""
        return float(self.centre[1] - self.centre[0])


def posterior_grid(
    draws: ArrayLike, log_prior: ArrayLike | None = None, step: float = 0.02, margin: float = 0.25
) -> PosteriorGrid:
    """Put draws on a grid that holds them all.

    Parameters
    ----------
    draws
        ``(n, ndraw)``; NaN and infinite ones are left out.
    log_prior
        ``(n, ndraw)`` ln of the prior under which the draws were made, divided out; None for a flat prior.
    step, margin
        Spacing, and how far the grid goes on beyond the draws.

    Raises
    ------
    InputError
        For a galaxy without a finite draw, or wrong shapes.
    """
    x = np.asarray(draws, dtype=np.float64)
    if x.ndim != 2 or x.size == 0:
        raise InputError(f"draws have shape {x.shape}; give (galaxies, draws)")
    ln_w = np.zeros(x.shape) if log_prior is None else -np.asarray(log_prior, dtype=np.float64)
    if ln_w.shape != x.shape:
        raise InputError(f"log_prior has shape {ln_w.shape}, draws {x.shape}")
    good = np.isfinite(x) & np.isfinite(ln_w)
    if not good.any(axis=1).all():
        raise InputError(f"galaxy {int(np.argmin(good.any(axis=1)))} of {len(x)} has no finite draw; leave it out")
    low, high = float(x[good].min()) - margin, float(x[good].max()) + margin
    centre = np.floor(low / step) * step + step * (np.arange(int(np.ceil((high - low) / step)) + 1) + 0.5)
    weight = np.where(good, np.exp(ln_w - np.max(ln_w, axis=1, where=good, initial=-np.inf, keepdims=True)), 0.0)
    weight /= weight.sum(axis=1, keepdims=True)
    row, column = np.nonzero(good)
    cell = np.clip(((x[row, column] - centre[0]) / step + 0.5).astype(np.int64), 0, centre.size - 1)
    # the conversion to compressed rows adds up draws that share a cell
    matrix = sparse.coo_array((weight[row, column], (row, cell)), shape=(len(x), centre.size)).tocsr()
    return PosteriorGrid(centre, matrix)


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
        """``(n, nbasis)`` coefficients drawn from their Gaussian approximation."""
        root = linalg.cholesky(self.covariance + 1e-12 * np.eye(len(self.covariance)), lower=True)
        return self.coefficients + rng.standard_normal((n, self.coefficients.size)) @ root.T


def schechter_difference(n: int, spacing: float) -> FloatArray:
    """``(n - 3, n)`` differences of spline coefficients that vanish for every Schechter function.

    ln of a Schechter function of log10 M is ``a + b m + c 10^m``. Second differences remove the line; what is left is
    geometric, ``d_{k+1} = 10^spacing d_k``, so that ``(d_{k+1} - 10^spacing d_k) / (1 + 10^spacing)`` is zero. The sum
    of two Schechter functions with slopes -0.35 and -1.47 has 0.05 or less at a spacing of 0.25 dex.
    """
    ratio = 10.0**spacing
    second = np.diff(np.eye(n), n=2, axis=0)
    return (second[1:] - ratio * second[:-1]) / (1 + ratio)


class _Problem:
    """F, its gradient and curvature for weights scaled to a mean of one."""

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
    area_share: ArrayLike | None = None,
) -> LogSpline:
    """Fit ln phi.

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
        ``(n,)`` whole numbers from 0, sky regions; errors then come from the scatter between regions (infinitesimal
        jackknife) and include what clusters galaxies. None for Poisson errors.
    area_share
        Share of each region in the area; equal if None.

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
    # the prior's strength is counted in galaxies as they weigh locally: with weights over four decades, one number
    # would drown the heavy galaxies or drop the light ones
    problem = _Problem(grid, w / unit, knots, departure, local)
    beta, converged = _maximise(problem, beta)
    covariance = _sandwich(problem, beta, regions, area_share)
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
    area_share: ArrayLike | None,
) -> FloatArray:
    """Covariance of the coefficients: inverse information times variance of the gradient times inverse information."""
    mean = problem.scores(beta)[0]
    weighted = problem.weight[:, None] * mean
    if regions is None:
        variance = weighted.T @ weighted  # compound Poisson: no mean to subtract, the number of galaxies varies too
    else:
        variance = _between_regions(weighted, np.asarray(regions), area_share)
    # the prior's own share: its precision is `local / departure^2` in units of weight, times the weight once more
    variance = variance + problem.difference.T @ ((problem.precision * problem.local)[:, None] * problem.difference)
    _, observed, complete = problem.derivatives(beta)
    if linalg.eigvalsh(observed)[0] <= 1e-10 * linalg.eigvalsh(complete)[-1]:
        observed = complete
    inverse = linalg.inv(observed)
    return inverse @ variance @ inverse


def _between_regions(weighted: FloatArray, regions: NDArray[np.int_], area_share: ArrayLike | None) -> FloatArray:
    """Variance of the sum of scores from its scatter between regions of the sky."""
    if regions.shape != (len(weighted),) or regions.min() < 0:
        raise InputError(f"regions {regions.shape} of {len(weighted)} galaxies must be one each, from 0")
    count = int(regions.max()) + 1
    share = np.full(count, 1 / count) if area_share is None else np.asarray(area_share, dtype=np.float64)
    if count < 2 or share.size < count:
        raise InputError(
            f"{count} sky regions with {share.size} areas: give at least two regions, and an area for each"
        )
    total = np.zeros((share.size, weighted.shape[1]))
    np.add.at(total, regions, weighted)
    excess = total - share[:, None] * total.sum(axis=0) / share.sum()
    return excess.T @ excess * share.size / (share.size - 1)
