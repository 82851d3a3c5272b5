"""Mixtures of Gaussians fitted to galaxies that are known by weighted draws, by expectation maximisation.

The objective is that of `provabgs.population.density.likelihood`: with draws y_ij of weights w_ij (one over the
inference prior), ``sum_i v_i [ln 1/S_i sum_j w_ij g(y_ij) + 1/2 (1/n_effective,i - 1/S_i)]``, whose second term removes
the bias of the logarithm of a sum of few draws. With p_ij the share of draw j in galaxy i's sum, its gradient by
ln g(y_ij) is ``v_i p_ij (1 + p_ij - sum_j p_ij^2)``: these are the responsibilities of the draws, and a mixture that a
step does not change is a stationary point of the objective, the second term included. A weak prior keeps covariances
from collapsing onto single draws. Sums are accumulated block by block, so that memory does not grow with the number of
galaxies.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.errors import InputError
from provabgs.core.progress import report
from provabgs.inference.learnt.mixture import Mixture, log_sum, log_terms
from provabgs.inference.learnt.prior import BACKGROUND

PRIOR_GALAXIES = 2.0
"""Galaxies that the prior of a component's covariance counts as."""
PRIOR_SIGMA = 0.2
"""Their scatter, in sigmas of the inference prior."""
LEAST_SIGMA = 0.05
"""Added to every covariance, in quadrature: the kernel of a draw."""


class Block(NamedTuple):
    """Some galaxies in memory."""

    y: SingleArray
    """``(n, S, D)`` coordinates and scaled redshift; 0 where a draw does not count."""
    features: SingleArray
    """``(n S, F)`` see `features_of`."""
    log_weight: SingleArray
    """``(n, S)`` ln w_ij - ln S_i; -inf where a draw does not count."""
    weight: FloatArray
    """``(n,)`` of the galaxies."""


class Sums(NamedTuple):
    """What a step needs to know of all galaxies, and what it says of them."""

    moments: FloatArray
    """``(K, F)`` sums of the features over each component's galaxies."""
    objective: float
    weight: float


class Galaxies(NamedTuple):
    """What a mixture says of each galaxy of a block."""

    log_sum: FloatArray
    """``(n,)`` ln of the galaxy's sum: evidence under the mixture over that under the inference prior."""
    member: SingleArray
    """``(n, S)`` shares of the draws, 1 in sum."""
    parts: SingleArray
    """``(n, S, K)`` shares of draws and components; what lacks to 1 is the background's."""


def features_of(y: SingleArray) -> SingleArray:
    """Of points ``(n, D)``: 1, the coordinates, and their products; Gaussians are linear in them, to 1e-3 in ln."""
    i, j = np.triu_indices(y.shape[1])
    return np.concatenate([np.ones((len(y), 1), dtype=y.dtype), y, y[:, i] * y[:, j]], axis=1)


def _coefficients(mixture: Mixture) -> SingleArray:
    """``(F, K)`` whose product with the features is ln of each weighted Gaussian."""
    log_weight, mean, whitening = mixture.joint
    inverse = np.einsum("kij,kil->kjl", whitening, whitening)
    slope = np.einsum("kij,kj->ki", inverse, mean)
    i, j = np.triu_indices(mean.shape[1])
    square = -np.where(i == j, 0.5, 1.0) * inverse[:, i, j]
    constant = log_weight - 0.5 * np.einsum("ki,ki->k", slope, mean)
    return np.concatenate([constant[:, None], slope, square], axis=1).T.astype(np.float32)


def judge(mixture: Mixture, block: Block, background: float = BACKGROUND) -> Galaxies:
    """Shares of the draws of each galaxy.

    Parameters
    ----------
    mixture
        The density.
    block
        Draws.
    background
        Share of the inference prior that is added to the density.

    Returns
    -------
    Galaxies
        Of the density with the background.
    """
    n, s, _ = block.y.shape
    parts = (block.features @ _coefficients(mixture)).reshape(n, s, -1)
    marginal = log_sum(log_terms(mixture.of_redshift, block.y[:, 0, -1:]))
    parts += (block.log_weight + np.float32(np.log1p(-background)) - marginal[:, None])[..., None]
    top = np.maximum(parts.reshape(n, -1).max(axis=1), np.float32(-60))
    parts -= top[:, None, None]
    np.exp(parts, out=parts)
    here = np.isfinite(block.log_weight)
    each = background * np.exp(-top) / np.maximum(here.sum(axis=1), 1)
    total = parts.sum(axis=2) + np.where(here, each[:, None], 0).astype(np.float32)
    norm = np.maximum(total.sum(axis=1), np.float32(1e-30))
    parts /= norm[:, None, None]
    return Galaxies(np.log(norm.astype(np.float64)) + top, total / norm[:, None], parts)


def sums(mixture: Mixture, block: Block, background: float = BACKGROUND) -> Sums:
    """A block's part of what a step needs.

    Parameters
    ----------
    mixture
        The density so far.
    block
        Draws.
    background
        Share of the inference prior.
    """
    galaxies = judge(mixture, block, background)
    concentration = np.einsum("ij,ij->i", galaxies.member, galaxies.member)
    factor = (1 + galaxies.member - concentration[:, None]) * block.weight.astype(np.float32)[:, None]
    parts = galaxies.parts
    parts *= factor[..., None]
    moments = parts.reshape(-1, parts.shape[2]).T @ block.features
    n_draw = np.maximum(np.isfinite(block.log_weight).sum(axis=1), 1)
    each = galaxies.log_sum + 0.5 * (concentration - 1 / n_draw)
    return Sums(moments.astype(np.float64), float(block.weight @ each), float(block.weight.sum()))


def total_of(mixture: Mixture, blocks: Iterable[Block], background: float = BACKGROUND) -> Sums:
    """`sums` over all blocks.

    Parameters
    ----------
    mixture
        The density so far.
    blocks
        Galaxies.
    background
        Share of the inference prior.
    """
    pieces = [sums(mixture, block, background) for block in blocks]
    moments = np.sum([p.moments for p in pieces], axis=0)
    return Sums(moments, sum(p.objective for p in pieces), sum(p.weight for p in pieces))


def stepped(found: Sums) -> Mixture:
    """The mixture that the sums ask for."""
    k, n_feature = found.moments.shape
    d = round((np.sqrt(1 + 8 * n_feature) - 3) / 2)
    i, j = np.triu_indices(d)
    second = np.empty((k, d, d))
    second[:, i, j] = second[:, j, i] = found.moments[:, 1 + d :]
    n = np.maximum(found.moments[:, 0], 1e-6)
    mean = found.moments[:, 1 : 1 + d] / n[:, None]
    scatter = second - n[:, None, None] * mean[:, :, None] * mean[:, None, :]
    prior = PRIOR_GALAXIES * PRIOR_SIGMA**2 * np.eye(d)
    covariance = (scatter + prior) / (n + PRIOR_GALAXIES)[:, None, None] + LEAST_SIGMA**2 * np.eye(d)
    weight = (n + 1) / (n.sum() + k)
    return Mixture(np.log(weight), mean, covariance)


def maximise(
    start: Mixture, blocks: Iterable[Block], steps: int, tolerance: float = 1e-5, background: float = BACKGROUND
) -> tuple[Mixture, float]:
    """Steps in threes, the third extrapolated from the first two (SQUAREM, Varadhan & Roland 2008), as long as it pays.

    Parameters
    ----------
    start
        Where to begin.
    blocks
        Galaxies; gone through once a step.
    steps
        Most steps.
    tolerance
        Rise of the objective per galaxy and step that is still worth one.
    background
        Share of the inference prior.

    Returns
    -------
    mixture, objective
        The density, and the objective per galaxy one step before it.
    """
    found, past = total_of(start, blocks, background), -np.inf
    before, mixture = start, stepped(found)
    for k in range(n := max(steps // 3, 1)):
        report("learning: steps, at most", k, n)
        here = total_of(mixture, blocks, background)
        after = stepped(here)
        jump = _extrapolated(before, mixture, after)
        found = here if jump is None else total_of(jump, blocks, background)
        if jump is None or not found.objective >= here.objective:
            found, jump = total_of(after, blocks, background), after
        before, mixture = jump, stepped(found)
        objective = found.objective / max(found.weight, 1e-300)
        if objective - past < 3 * tolerance:
            return mixture, objective
        past = objective
    return mixture, past


def _extrapolated(a: Mixture, b: Mixture, c: Mixture) -> Mixture | None:
    """Where three steps in a row lead to; None where that is no mixture."""
    one, two, three = (np.concatenate([m.log_weight, m.mean.ravel(), m.covariance.ravel()]) for m in (a, b, c))
    first, bend = two - one, (three - two) - (two - one)
    size = float(np.linalg.norm(bend))
    if size == 0:
        return None
    length = max(float(np.linalg.norm(first)) / size, 1.0)
    theta = one + 2 * length * first + length**2 * bend
    k, d = a.mean.shape
    log_weight = theta[:k] - log_sum(theta[:k])
    try:
        return Mixture(log_weight, theta[k : k + k * d].reshape(k, d), theta[k + k * d :].reshape(k, d, d))
    except InputError:
        return None


def begin(
    blocks: Iterable[Block], n_component: int, rng: np.random.Generator, background: float = BACKGROUND
) -> Mixture:
    """A mixture to begin with: one Gaussian, then clusters of one draw per galaxy under that Gaussian.

    Parameters
    ----------
    blocks
        Galaxies.
    n_component
        Components.
    rng
        Picks the draws and the clusters.
    background
        Share of the inference prior.
    """
    d = next(iter(blocks)).y.shape[-1]
    one = Mixture(np.zeros(1), np.zeros((1, d)), np.eye(d)[None])
    one, _ = maximise(one, blocks, 40, 1e-4, background)
    if n_component == 1:
        return one
    picked: list[SingleArray] = []
    for block in blocks:
        member = judge(one, block, background).member.astype(np.float64)
        cumulative = np.cumsum(member, axis=1)
        at = (cumulative < rng.random((len(member), 1)) * cumulative[:, -1:]).sum(axis=1)
        some = block.weight > 0
        picked.append(block.y[np.arange(len(at)), np.minimum(at, member.shape[1] - 1)][some])
    y = np.concatenate(picked).astype(np.float64)
    scale = np.sqrt(np.diagonal(one.covariance[0]))
    _, label = kmeans2(y / scale, n_component, minit="++", rng=rng)
    return _of_clusters(y, label, n_component, one)


def _of_clusters(y: FloatArray, label: NDArray[np.int32], k: int, one: Mixture) -> Mixture:
    """A mixture of clusters; an empty one is as wide as all of them."""
    count = np.bincount(label, minlength=k)
    mean = np.stack([y[label == i].mean(axis=0) if count[i] else one.mean[0] for i in range(k)])
    weight = (count + 1) / (count.sum() + k)
    return Mixture(np.log(weight), mean, np.repeat(one.covariance * 0.5, k, axis=0))
