"""The star-forming sequence: ridge line, intrinsic scatter and quenched fraction, from joint draws of M and SFR.

The population is a mixture at given log M = x (y = log SFR)::

    p(y | x) = (1 - f_Q) N(y; a + b (x - x0), s^2) + f_Q N(y; a + b (x - x0) - d, s_Q^2)

Galaxy i contributes ``ln sum_j p(y_ij | x_ij) p(x_ij) / p0(x_ij, y_ij)``, summed over its draws; p0 is the prior of the
draws (Hogg, Myers & Bovy 2010). The scatter s is therefore intrinsic: measurement errors and their correlation are
accounted for. The scatter of posterior medians is larger. p(x), the distribution of masses in the sample, is
deconvolved first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize
from scipy.special import logsumexp

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.core.weights import effective_sample_size, normalised, resample_systematic, student_t_proposal
from provabgs.population.survey.log_spline import fit_log_spline
from provabgs.population.survey.posterior_grid import posterior_grid

NAMES: tuple[str, ...] = ("slope", "intercept", "scatter", "quenched_fraction", "offset", "quenched_scatter")
"""b, a, s, f_Q, d, s_Q; dex, except for slope and fraction."""
SSFR_FLOOR = -14.0
"""log10 yr^-1. Draws of a lower specific SFR (-inf included: no star formed) are a third component of the mixture.
They count as quenched and do not enter ridge line or scatter."""
MIN_GALAXIES = 30
_T_DOF = 5.0
_INFLATION = 1.3
_LN_ROOT_2PI = 0.5 * float(np.log(2 * np.pi))
_CENTRE = np.array([0.0, 0.0, np.log(0.3), 0.0, np.log(1.5), np.log(0.5), np.nan])
_WIDTH = np.array([np.inf, np.inf, 1.0, 1.5, 0.4, 0.4, 1.0])
"""Gaussian priors of the coordinates; infinite is flat. The coordinates are slope, intercept, ln s, logit of the
quenched fraction among galaxies with star formation, ln d, ln s_Q, and logit of the fraction without star formation
(its prior is centred on the raw fraction)."""


@dataclass(frozen=True, eq=False)
class SequencePosterior:
    """Posterior of the star-forming sequence.

    Attributes
    ----------
    draws
        ``(n, 6)`` equally weighted, columns `NAMES`.
    pivot
        log10 M at which the intercept is quoted.
    method
        ``"posterior"``: importance-sampled exactly; ``"sandwich"``: Gaussian about the maximum of the weighted
        likelihood, with the covariance that unequal weights call for.
    n_galaxy
        Galaxies that entered.
    n_effective
        Effective number of importance draws (of the proposals made) behind ``"posterior"``; NaN otherwise.
    """

    draws: FloatArray
    pivot: float
    method: str
    n_galaxy: int
    n_effective: float

    def __getitem__(self, name: str) -> FloatArray:
        """Draws of one of `NAMES`."""
        if name not in NAMES:
            raise KeyError(f"{name!r} is not a parameter of the sequence; known: {', '.join(NAMES)}")
        return self.draws[:, NAMES.index(name)]

    def quantile(self, name: str, q: ArrayLike) -> FloatArray:
        """Quantiles of a parameter.

        Parameters
        ----------
        name
            One of `NAMES`.
        q
            Probabilities.

        Returns
        -------
        numpy.ndarray
            Shape of `q`.
        """
        return np.quantile(self[name], np.asarray(q, dtype=np.float64))

    def ridge(self, log_mass: ArrayLike) -> FloatArray:
        """Log SFR of the ridge line at log10 M, one row per draw."""
        x = np.atleast_1d(np.asarray(log_mass, dtype=np.float64)) - self.pivot
        return self["intercept"][:, None] + self["slope"][:, None] * x


def star_forming_sequence(
    log_mass: ArrayLike,
    log_sfr: ArrayLike,
    rng: np.random.Generator,
    log_prior: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    pivot: float = 10.5,
    n_proposal: int = 2000,
) -> SequencePosterior:
    """Posterior of slope, intercept, intrinsic scatter and quenched fraction.

    Parameters
    ----------
    log_mass, log_sfr
        ``(n, ndraw)`` joint draws, dex(Msun) and dex(Msun/yr). Draws with a non-finite mass are left out; see
        `SSFR_FLOOR` for those that form no stars.
    rng
        Source of random numbers.
    log_prior
        ``(n, ndraw)`` ln p0(x_ij, y_ij) of the inference prior; None for a flat one. The prior of SED models is not
        flat in log SFR: pass it (`provabgs.population.prior.induced.InducedPrior`).
    weight
        ``(n,)`` per galaxy, such as w / Vmax for a magnitude-limited sample; None for equal weights (a volume-limited
        one), which gives the exact posterior.
    pivot
        log10 M of the intercept.
    n_proposal
        Number of proposed draws.

    Returns
    -------
    SequencePosterior
        Draws of the six parameters.

    Raises
    ------
    InputError
        For fewer than `MIN_GALAXIES` galaxies, wrong shapes, galaxies without draws, weights not finite and > 0.
    """
    x, y, none, ln_w, w = _checked(log_mass, log_sfr, log_prior, weight)
    density = fit_log_spline(posterior_grid(np.where(np.isfinite(ln_w), x, np.nan), -ln_w), w)
    ln_w = ln_w + np.where(np.isfinite(ln_w), np.maximum(density.log_density(x), -700.0), 0.0)
    # without draws that form no stars the data only bound their fraction from above; a narrow prior then holds it
    start = _start(x - pivot, y, none, ln_w, w)
    centre = np.where(np.arange(7) < 6, _CENTRE, start)
    width = np.where(none.any() | (np.arange(7) < 6), _WIDTH, 0.1)
    arrays = tuple(jnp.asarray(a) for a in (centre, width, x - pivot, y, none, ln_w))
    weights = jnp.asarray(w / w.mean())

    def target(p: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = _value_and_gradient(jnp.asarray(p), weights, *arrays)
        return -float(value), -np.asarray(gradient)

    found = optimize.minimize(target, start, jac=True, method="BFGS", options={"gtol": 1e-4 * len(w), "maxiter": 300})
    best = jnp.asarray(found.x)
    information = -np.asarray(_hessian(best, weights, *arrays))
    covariance = _inverse(information)
    if weight is None:
        draws, n_effective = _importance(found.x, covariance, weights, arrays, rng, n_proposal)
        return SequencePosterior(_named(draws), pivot, "posterior", len(w), n_effective)
    score = np.asarray(weights)[:, None] * np.asarray(_scores(best, *arrays[2:]))
    covariance = covariance @ (score.T @ score + np.diag(1 / width**2)) @ covariance
    draws = rng.multivariate_normal(found.x, covariance, n_proposal, method="cholesky")
    return SequencePosterior(_named(draws), pivot, "sandwich", len(w), float("nan"))


def _checked(
    log_mass: ArrayLike, log_sfr: ArrayLike, log_prior: ArrayLike | None, weight: ArrayLike | None
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_], FloatArray, FloatArray]:
    """Mass, SFR, whether there is none, ln weight of draws (-inf where not usable), weight of galaxies."""
    x, y = np.asarray(log_mass, dtype=np.float64), np.asarray(log_sfr, dtype=np.float64)
    prior = np.zeros(x.shape) if log_prior is None else np.asarray(log_prior, dtype=np.float64)
    if x.ndim != 2 or y.shape != x.shape or prior.shape != x.shape:
        raise InputError(f"masses {x.shape}, SFRs {y.shape} and log_prior {prior.shape}: give (n, ndraw) each")
    w = np.ones(len(x)) if weight is None else np.asarray(weight, dtype=np.float64)
    if w.shape != (len(x),) or not (np.isfinite(w) & (w > 0)).all():
        raise InputError("weights must be one per galaxy, finite and > 0; leave bad rows out")
    if len(x) < MIN_GALAXIES:
        raise InputError(f"{len(x)} galaxies are too few for a star-forming sequence; need {MIN_GALAXIES}")
    good = np.isfinite(x) & ~np.isnan(y) & (y < np.inf) & np.isfinite(prior)
    if not good.any(axis=1).all():
        raise InputError(f"galaxy {int(np.argmin(good.any(axis=1)))} of {len(x)} has no finite draw; leave it out")
    # galaxies may keep different numbers of draws: each counts as a mean over its own
    ln_w = np.where(good, -prior, -np.inf) - np.log(good.sum(axis=1, keepdims=True))
    x = np.where(good, x, 0.0)
    none = good & (y < x + SSFR_FLOOR)
    return x, np.where(good & ~none, y, 0.0), none, ln_w, w


def _start(x: FloatArray, y: FloatArray, none: NDArray[np.bool_], ln_w: FloatArray, w: FloatArray) -> FloatArray:
    """A line through the upper part of the galaxies' means, by iterated clipping."""
    weight = np.exp(ln_w - logsumexp(ln_w, axis=1, keepdims=True))
    forming = (weight * ~none).sum(axis=1) > 0.5
    if not forming.any():
        raise InputError("no galaxy forms stars; there is no sequence to fit")
    idle_fraction = (weight * none).sum(axis=1)
    weight = weight * np.where(forming[:, None], ~none, True)
    weight /= weight.sum(axis=1, keepdims=True)
    mx, my = (weight * x).sum(axis=1), (weight * y).sum(axis=1)
    kept = forming.copy()
    line = np.array([0.7, float(np.median(my[forming]))])
    # clip below the line only, with the scatter above it: quenched galaxies lie on one side
    for _ in range(10):
        line = np.polyfit(mx[kept], my[kept], 1, w=np.sqrt(w[kept]))
        away = my - np.polyval(line, mx)
        kept = forming & (away > -2 * max(0.25, float(np.std(away[forming & (away > 0)]))))
    low = forming & ~kept
    quenched = float(np.clip(w[low].sum() / w[forming].sum(), 0.02, 0.95))
    offset = float(np.clip(-np.mean(away[low]), 0.7, 3.0)) if low.any() else 1.5
    idle = float(np.clip((w @ idle_fraction + 0.5 * w.mean()) / (w.sum() + w.mean()), 0.0, 0.95))
    logits = [float(np.log(f / (1 - f))) for f in (quenched, idle)]
    return np.array([*line, np.log(0.3), logits[0], np.log(offset), np.log(0.5), logits[1]])


# ---- pure functions of their arguments, so that samples of equal shape share one compilation -------------------------


def _per_galaxy(p: jax.Array, x: jax.Array, y: jax.Array, none: jax.Array, ln_w: jax.Array) -> jax.Array:
    """``(n,)`` ln of each galaxy's sum over draws."""
    slope, intercept, ln_s, logit, ln_d, ln_q, idle = p
    away = y - intercept - slope * x
    main = -0.5 * (away * jnp.exp(-ln_s)) ** 2 - ln_s - jax.nn.softplus(logit)
    quenched = -0.5 * ((away + jnp.exp(ln_d)) * jnp.exp(-ln_q)) ** 2 - ln_q - jax.nn.softplus(-logit)
    # a draw without star formation has a probability, not a density: one dex wide by convention
    mixture = jnp.logaddexp(main, quenched) - _LN_ROOT_2PI - jax.nn.softplus(idle)
    return jax.scipy.special.logsumexp(ln_w + jnp.where(none, -jax.nn.softplus(-idle), mixture), axis=1)


def _objective(
    p: jax.Array,
    w: jax.Array,
    centre: jax.Array,
    width: jax.Array,
    x: jax.Array,
    y: jax.Array,
    none: jax.Array,
    ln_w: jax.Array,
) -> jax.Array:
    prior = -0.5 * jnp.sum(((p - centre) / width) ** 2)
    return jnp.sum(w * _per_galaxy(p, x, y, none, ln_w)) + prior


_value = jax.jit(_objective)
_value_and_gradient = jax.jit(jax.value_and_grad(_objective))
_hessian = jax.jit(jax.hessian(_objective))
_scores = jax.jit(jax.jacfwd(_per_galaxy))


def _inverse(information: FloatArray) -> FloatArray:
    """Covariance from the information; directions that the data do not constrain get a variance of 10."""
    value, vector = np.linalg.eigh(information)
    return (vector / np.maximum(value, 0.1)) @ vector.T


def _importance(
    best: FloatArray,
    covariance: FloatArray,
    weights: jax.Array,
    arrays: tuple[jax.Array, ...],
    rng: np.random.Generator,
    n: int,
) -> tuple[FloatArray, float]:
    """Draws from the posterior by importance resampling, and their effective number.

    The proposal is a Student t about the maximum, a little wider than the curvature there asks for.
    """
    factor = np.asarray(np.linalg.cholesky(_INFLATION * covariance), dtype=np.float64)
    proposal, ln_q = student_t_proposal(best, factor, _T_DOF, n, rng)
    ln_ratio = np.array([float(_value(jnp.asarray(p), weights, *arrays)) for p in proposal]) - ln_q
    chosen = resample_systematic(normalised(ln_ratio), n, rng)
    return proposal[chosen], float(effective_sample_size(ln_ratio))


def _named(p: FloatArray) -> FloatArray:
    """Columns `NAMES` from the coordinates."""
    idle = 1 / (1 + np.exp(-p[:, 6]))
    fraction = idle + (1 - idle) / (1 + np.exp(-p[:, 3]))
    return np.stack([p[:, 0], p[:, 1], np.exp(p[:, 2]), fraction, np.exp(p[:, 4]), np.exp(p[:, 5])], axis=1)
