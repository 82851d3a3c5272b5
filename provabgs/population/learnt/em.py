"""Mixtures of Gaussians fitted to galaxies that are known by weighted draws, by expectation maximisation.

The objective is that of `provabgs.population.density.likelihood`: with draws y_ij of weights w_ij (one over the
inference prior), ``sum_i v_i [ln 1/S_i sum_j w_ij g(y_ij) + 1/2 (1/n_effective,i - 1/S_i)]``, whose second term removes
the bias of the logarithm of a sum of few draws. With p_ij the share of draw j in galaxy i's sum, its gradient by
ln g(y_ij) is ``v_i p_ij (1 + p_ij - sum_j p_ij^2)``: these are the responsibilities of the draws, and a mixture that a
step does not change is a stationary point of the objective, the second term included. A weak prior keeps covariances
from collapsing onto single draws. Sums are accumulated block by block, so that memory does not grow with the number of
galaxies. Several mixtures, with weights of their own for the galaxies, are fitted in step: bootstraps read draws and
compute their products once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.core.progress import report
from provabgs.inference.learnt.mixture import GaussianSum, Mixture, log_sum
from provabgs.inference.learnt.prior import BACKGROUND

PRIOR_GALAXIES = 5.0
"""Galaxies that the prior of a component's covariance counts as."""
PRIOR_SIGMA = 0.5
"""Their scatter, in sigmas of the inference prior."""
LEAST_SIGMA = 0.05
"""Added to every covariance, in quadrature: the kernel of a draw."""


class Block(NamedTuple):
    """Some galaxies in memory."""

    y: SingleArray
    """``(n, S, D)`` coordinates and scaled redshift; 0 where a draw does not count."""
    log_weight: SingleArray
    """``(n, S)`` ln w_ij - ln S_i; -inf where a draw does not count."""
    weight: FloatArray
    """``(n,)`` of the galaxies, or ``(m, n)`` for each of m mixtures."""


class Sums(NamedTuple):
    """What a step needs to know of all galaxies, and what it says of them."""

    moments: FloatArray
    """``(K, F)`` sums of the features over each component's galaxies."""
    objective: float
    weight: float


class Galaxies(NamedTuple):
    """What a mixture says of each galaxy of a block."""

    log_sum: jax.Array
    """``(n,)`` ln of the galaxy's sum: evidence under the mixture over that under the inference prior."""
    member: jax.Array
    """``(n, S)`` shares of the draws, 1 in sum."""
    parts: jax.Array
    """``(n, S, K)`` shares of draws and components; what lacks to 1 is the background's."""


class Coefficients(NamedTuple):
    """A mixture as products with features: `features_of`."""

    joint: jax.Array
    """``(F, K)`` ln of each weighted Gaussian."""
    of_redshift: jax.Array
    """``(3, K)`` ln of each weighted Gaussian's marginal in the redshift."""


@jax.jit
def features_of(y: jax.Array) -> jax.Array:
    """Of points ``(..., D)``: 1, the coordinates, and their products; Gaussians are linear in them, to 1e-3 in ln."""
    i, j = np.triu_indices(y.shape[-1])
    flat = y.reshape(-1, y.shape[-1])
    return jnp.concatenate([jnp.ones((len(flat), 1), dtype=flat.dtype), flat, flat[:, i] * flat[:, j]], axis=1)


def _coefficients(mixture: Mixture) -> Coefficients:
    return Coefficients(_linear(mixture.joint), _linear(mixture.of_redshift))


def _linear(gaussians: GaussianSum) -> jax.Array:
    """``(F, K)`` whose product with the features is ln of each weighted Gaussian."""
    log_weight, mean, whitening = gaussians
    inverse = np.einsum("kij,kil->kjl", whitening, whitening)
    slope = np.einsum("kij,kj->ki", inverse, mean)
    i, j = np.triu_indices(mean.shape[1])
    square = -np.where(i == j, 0.5, 1.0) * inverse[:, i, j]
    constant = log_weight - 0.5 * np.einsum("ki,ki->k", slope, mean)
    return jnp.asarray(np.concatenate([constant[:, None], slope, square], axis=1).T, jnp.float32)


def _marginal(features: jax.Array, n: int, of: Coefficients) -> jax.Array:
    """Ln density of the redshifts of `n` galaxies; draws of a galaxy have one redshift, the last coordinate."""
    first = features.reshape(n, -1, features.shape[1])[:, 0]
    d = round((np.sqrt(1 + 8 * features.shape[1]) - 3) / 2)
    return jax.nn.logsumexp(first[:, jnp.array([0, d, features.shape[1] - 1])] @ of.of_redshift, axis=1)


@jax.jit
def _log_density(y: jax.Array, of: Coefficients) -> jax.Array:
    features = features_of(y)
    joint = jax.nn.logsumexp(features @ of.joint, axis=1).reshape(y.shape[:2])
    return joint - _marginal(features, len(y), of)[:, None]


def log_density_of(mixture: Mixture, y: SingleArray) -> FloatArray:
    """`Mixture.log_density` of galaxies' draws, compiled, in single precision: to 1e-3 where densities count.

    Parameters
    ----------
    mixture
        The density.
    y
        ``(n, S, D)`` coordinates and scaled redshift, the same for all draws of a galaxy.

    Returns
    -------
    numpy.ndarray
        ``(n, S)``.
    """
    return np.asarray(_log_density(jnp.asarray(y, jnp.float32), _coefficients(mixture)), dtype=np.float64)


@partial(jax.jit, static_argnames="background")
def _judged(features: jax.Array, log_weight: jax.Array, of: Coefficients, background: float) -> Galaxies:
    n, s = log_weight.shape
    parts = (features @ of.joint).reshape(n, s, -1)
    parts += (log_weight + np.float32(np.log1p(-background)) - _marginal(features, n, of)[:, None])[..., None]
    top = jnp.maximum(parts.max(axis=(1, 2)), np.float32(-60))
    parts = jnp.exp(parts - top[:, None, None])
    here = jnp.isfinite(log_weight)
    each = np.float32(background) * jnp.exp(-top) / jnp.maximum(here.sum(axis=1), 1).astype(jnp.float32)
    total = parts.sum(axis=2) + jnp.where(here, each[:, None], np.float32(0))
    norm = jnp.maximum(total.sum(axis=1), np.float32(1e-30))
    return Galaxies(jnp.log(norm) + top, total / norm[:, None], parts / norm[:, None, None])


@partial(jax.jit, static_argnames="background")
def _moments(
    features: jax.Array, log_weight: jax.Array, weight: jax.Array, of: Coefficients, background: float
) -> tuple[jax.Array, jax.Array]:
    """Moments ``(K, F)`` of a block, and the objective of each galaxy ``(n,)``."""
    galaxies = _judged(features, log_weight, of, background)
    concentration = (galaxies.member**2).sum(axis=1)
    factor = (1 + galaxies.member - concentration[:, None]) * weight[:, None]
    parts = galaxies.parts * factor[..., None]
    n_draw = jnp.maximum(jnp.isfinite(log_weight).sum(axis=1), 1).astype(jnp.float32)
    each = galaxies.log_sum + np.float32(0.5) * (concentration - 1 / n_draw)
    return parts.reshape(-1, parts.shape[2]).T @ features, each


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
    return _judged(features_of(block.y), block.log_weight, _coefficients(mixture), background)


def totals_of(
    mixtures: Sequence[Mixture],
    blocks: Iterable[Block],
    background: float = BACKGROUND,
    of: Sequence[int] | None = None,
) -> list[Sums]:
    """What a step of each mixture needs to know of all galaxies; draws are read once for all of them.

    Parameters
    ----------
    mixtures
        The densities so far.
    blocks
        Galaxies, with one weight each, or one for each mixture.
    background
        Share of the inference prior.
    of
        Which rows of the weights the mixtures have; all if left out.
    """
    linear = [_coefficients(mixture) for mixture in mixtures]
    moments: list[FloatArray] = [np.zeros(c.joint.T.shape) for c in linear]
    objective, total = np.zeros(len(linear)), np.zeros(len(linear))
    for block in blocks:
        features, log_weight = features_of(block.y), jnp.asarray(block.log_weight)
        for m, coefficients in enumerate(linear):
            weight = block.weight if block.weight.ndim == 1 else block.weight[m if of is None else of[m]]
            found, each = _moments(features, log_weight, weight.astype(np.float32), coefficients, background)
            moments[m] += np.asarray(found, dtype=np.float64)
            objective[m] += weight @ np.asarray(each, dtype=np.float64)
            total[m] += weight.sum()
    return [Sums(*of_one) for of_one in zip(moments, objective.tolist(), total.tolist(), strict=True)]


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


Totals = Callable[[Sequence[Mixture], Any, float, Sequence[int] | None], list[Sums]]
"""`totals_of`, or what does the same in pieces."""


def maximise(
    start: Mixture,
    blocks: Iterable[Block],
    steps: int,
    tolerance: float = 1e-5,
    background: float = BACKGROUND,
    totals: Totals = totals_of,
) -> tuple[Mixture, float]:
    """`maximise_all` of one mixture.

    Parameters
    ----------
    start, blocks, steps, tolerance, background, totals
        See there.
    """
    return maximise_all([start], blocks, steps, tolerance, background, totals)[0]


def maximise_all(
    starts: Sequence[Mixture],
    blocks: Iterable[Block],
    steps: int,
    tolerance: float = 1e-5,
    background: float = BACKGROUND,
    totals: Totals = totals_of,
) -> list[tuple[Mixture, float]]:
    """Steps in threes, the third extrapolated from the first two (SQUAREM, Varadhan & Roland 2008), as long as it pays.

    Parameters
    ----------
    starts
        Where to begin.
    blocks
        Galaxies, with one weight each, or one for each mixture; gone through once a step for all mixtures together.
    steps
        Most steps.
    tolerance
        Rise of the objective per galaxy and step that is still worth one; a mixture that gains less takes no more.
    background
        Share of the inference prior.
    totals
        Goes through the galaxies.

    Returns
    -------
    list of mixture, objective
        The densities, and the objective per galaxy one step before each.
    """
    done: list[tuple[Mixture, float]] = [(start, -np.inf) for start in starts]
    active, before = list(range(len(starts))), list(starts)

    def sums(mixtures: Sequence[Mixture], of: Sequence[int]) -> list[Sums]:
        return totals(mixtures, blocks, background, of)

    mixtures = [stepped(f) for f in sums(before, active)]
    for k in range(n := max(steps // 3, 1)):
        report("learning: steps, at most", k, n)
        before, found = _third_step(before, mixtures, sums, active)
        mixtures = [stepped(f) for f in found]
        still = []
        for i, (m, mixture, f) in enumerate(zip(active, mixtures, found, strict=True)):
            objective = f.objective / max(f.weight, 1e-300)
            if objective - done[m][1] >= 3 * tolerance:
                still.append(i)
            done[m] = (mixture, objective)
        active = [active[i] for i in still]
        before, mixtures = [before[i] for i in still], [mixtures[i] for i in still]
        if not active:
            break
    return done


def _third_step(
    before: Sequence[Mixture],
    mixtures: Sequence[Mixture],
    sums: Callable[[Sequence[Mixture], Sequence[int]], list[Sums]],
    of: Sequence[int],
) -> tuple[list[Mixture], list[Sums]]:
    """Where two more steps lead, by extrapolation if that is better than the first of them, and the sums there."""
    here = sums(mixtures, of)
    after = [stepped(f) for f in here]
    jumps = [_extrapolated(*three) for three in zip(before, mixtures, after, strict=True)]
    tried = [c if jump is None else jump for jump, c in zip(jumps, after, strict=True)]
    found = sums(tried, of)
    refused = [i for i, jump in enumerate(jumps) if jump is not None and not found[i].objective >= here[i].objective]
    if refused:
        again = sums([after[i] for i in refused], [of[i] for i in refused])
        for i, f in zip(refused, again, strict=True):
            tried[i], found[i] = after[i], f
    return tried, found


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
        member = np.asarray(judge(one, block, background).member, dtype=np.float64)
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
