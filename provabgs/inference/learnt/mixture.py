"""Mixtures of Gaussians in some coordinates u and the redshift; given the redshift, densities of u.

Weights of the components depend on the redshift, means linearly, covariances do not: the conditional density is the
joint one over its marginal, ``p(u | z) = p(u, z) / p(z)``, which is exact for Gaussians.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.errors import InputError

ROWS = 1 << 16
"""Rows whose densities are computed at a time."""


class GaussianSum(NamedTuple):
    """A mixture at one redshift, in the form in which it is evaluated."""

    log_weight: FloatArray
    """``(K,)`` ln of weight over normalisation of each Gaussian."""
    mean: FloatArray
    """``(K, d)``."""
    whitening: FloatArray
    """``(K, d, d)`` lower triangular W with ``W^T W`` the inverse covariance."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture in (u, scaled redshift), the redshift last.

    Attributes
    ----------
    log_weight
        ``(K,)`` ln weights, 1 in sum.
    mean
        ``(K, D)``.
    covariance
        ``(K, D, D)``.

    Raises
    ------
    InputError
        For shapes that do not belong together, or a covariance that is none.
    """

    log_weight: FloatArray
    mean: FloatArray
    covariance: FloatArray

    def __post_init__(self) -> None:
        k, d = self.mean.shape if self.mean.ndim == 2 else (0, 0)
        if k == 0 or d < 2 or self.log_weight.shape != (k,) or self.covariance.shape != (k, d, d):
            raise InputError(
                f"a mixture has weights {self.log_weight.shape}, means {self.mean.shape} and covariances "
                f"{self.covariance.shape}; expected (K,), (K, D) and (K, D, D)"
            )
        try:
            np.linalg.cholesky(self.covariance)
        except np.linalg.LinAlgError:
            raise InputError("a covariance of the mixture is not positive definite") from None

    @property
    def joint(self) -> GaussianSum:
        """The mixture in u and redshift, ready to evaluate."""
        return prepared(self.log_weight, self.mean, self.covariance)

    @property
    def of_redshift(self) -> GaussianSum:
        """Its marginal in the scaled redshift, ready to evaluate."""
        return prepared(self.log_weight, self.mean[:, -1:], self.covariance[:, -1:, -1:])

    def at(self, scaled: float) -> GaussianSum:
        """The density of u at one redshift.

        Parameters
        ----------
        scaled
            The redshift, scaled.

        Returns
        -------
        GaussianSum
            Of d = D - 1 dimensions, ready to evaluate.
        """
        variance = self.covariance[:, -1, -1]
        slope = self.covariance[:, :-1, -1] / variance[:, None]
        off = scaled - self.mean[:, -1]
        log_weight = self.log_weight - 0.5 * (off**2 / variance + np.log(variance))
        inside = self.covariance[:, :-1, :-1] - slope[:, :, None] * self.covariance[:, None, :-1, -1]
        mean = self.mean[:, :-1] + slope * off[:, None]
        return prepared(log_weight - logsumexp(log_weight), mean, inside)

    def log_density(self, y: FloatArray | SingleArray) -> FloatArray:
        """Ln p(u | z).

        Parameters
        ----------
        y
            ``(n, D)`` coordinates and scaled redshift.

        Returns
        -------
        numpy.ndarray
            ``(n,)``; NaN where y is.
        """
        joint, marginal = self.joint, self.of_redshift
        out = np.empty(len(y))
        for first in range(0, len(y), ROWS):
            part = y[first : first + ROWS]
            top = log_sum(log_terms(joint, part))
            out[first : first + ROWS] = top - log_sum(log_terms(marginal, part[:, -1:]))
        return out


def prepared(log_weight: FloatArray, mean: FloatArray, covariance: FloatArray) -> GaussianSum:
    """Gaussians in the form in which they are evaluated.

    Parameters
    ----------
    log_weight
        ``(K,)`` ln weights.
    mean
        ``(K, d)``.
    covariance
        ``(K, d, d)``.
    """
    factor = np.linalg.cholesky(covariance)
    whitening = np.linalg.inv(factor)
    log_det = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    return GaussianSum(log_weight - log_det - 0.5 * mean.shape[1] * np.log(2 * np.pi), mean, whitening)


def log_terms(gaussians: GaussianSum, y: FloatArray | SingleArray) -> FloatArray | SingleArray:
    """Ln of each weighted Gaussian, in the precision of the points.

    Parameters
    ----------
    gaussians
        K of them.
    y
        ``(n, d)`` points.

    Returns
    -------
    numpy.ndarray
        ``(n, K)``.
    """
    k, d = gaussians.mean.shape
    all_of = gaussians.whitening.transpose(2, 0, 1).reshape(d, k * d)
    shift = np.einsum("kij,kj->ki", gaussians.whitening, gaussians.mean).ravel()
    white: SingleArray = y @ all_of.astype(y.dtype)
    white -= shift.astype(y.dtype)
    white *= white
    constant: SingleArray = gaussians.log_weight.astype(y.dtype)
    squares: SingleArray = white.reshape(len(y), k, d).sum(axis=2)
    return constant - y.dtype.type(0.5) * squares


def log_sum(terms: FloatArray | SingleArray) -> FloatArray | SingleArray:
    """Ln of the sum of exponentials along the last axis; -inf where every term is."""
    top = terms.max(axis=-1)
    safe = np.where(np.isneginf(top), 0, top).astype(terms.dtype)
    with np.errstate(divide="ignore"):
        off: FloatArray | SingleArray = np.subtract(terms, safe[..., None])
        out: FloatArray | SingleArray = np.log(np.exp(off).sum(axis=-1)) + safe
    return out
