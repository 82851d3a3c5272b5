"""Is the population inference calibrated? Synthetic surveys from a density's prior, inferred, and the ranks of truth.

If eta is drawn from its prior, a survey from p(theta | eta), data from the survey, and draws from each galaxy's exact
posterior under an inference prior p0, then truth falls uniformly through the posterior of eta (Talts et al. 2018,
arXiv:1804.06788), and central 68 % intervals hold it 68 % of the time. Inferences that forget p0, or start from
posteriors that are too narrow, must fail the same test: that is what `fault` is for.

Data are Gaussian measurements and p0 is a normal density, so that posteriors and p0 are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.population.density.grid import onto_histogram, onto_nodes
from provabgs.population.density.histogram import HistogramDensity
from provabgs.population.density.likelihood import Data, Draws
from provabgs.population.density.models import Density
from provabgs.population.density.nuts import SamplingOptions, sample_population
from provabgs.population.density.posterior import log_density_at

Fault = Literal["none", "prior left out", "posteriors too narrow"]
FAULTS: tuple[Fault, ...] = ("none", "prior left out", "posteriors too narrow")
SHRINK = 0.5
"""Factor on the width of individual posteriors in the fixture of that name."""
LEVELS = (0.68, 0.95)


@dataclass(frozen=True)
class Survey:
    """What synthetic surveys look like.

    Attributes
    ----------
    n_galaxy, n_draw
        Galaxies, and posterior draws of each.
    noise
        Sigma of a measurement of each property.
    prior_mean, prior_sigma
        Of the inference prior p0, a normal density alike in all properties: off centre and not much wider than the
        population, so that to forget it shows.
    """

    n_galaxy: int = 100
    n_draw: int = 256
    noise: float = 0.3
    prior_mean: float = 1.0
    prior_sigma: float = 1.0

    def draws(self, theta: FloatArray, rng: np.random.Generator, fault: Fault = "none") -> Draws:
        """Posterior draws of galaxies with true properties ``theta (n, d)``, ready for inference."""
        n, d = theta.shape
        observed = theta + self.noise * rng.standard_normal((n, d))
        precision = self.noise**-2 + self.prior_sigma**-2
        centre = (observed * self.noise**-2 + self.prior_mean * self.prior_sigma**-2) / precision
        width = precision**-0.5 * (SHRINK if fault == "posteriors too narrow" else 1.0)
        x = centre[:, None, :] + width * rng.standard_normal((n, self.n_draw, d))
        log_p0 = stats.norm.logpdf(x, self.prior_mean, self.prior_sigma).sum(axis=-1)
        if fault == "prior left out":
            log_p0 = np.zeros_like(log_p0)
        log_weight = -log_p0 - np.log(self.n_draw)
        return Draws(jnp.asarray(x, jnp.float32), jnp.asarray(log_weight, jnp.float32), jnp.ones(n))


class Calibration(NamedTuple):
    """Ranks of the truth, and what they say."""

    names: tuple[str, ...]
    """What is checked: functions of eta."""
    rank: FloatArray
    """``(nsurvey, nname)`` fraction of the posterior below the truth; uniform if all is right."""
    converged: NDArray[np.bool_]
    """``(nsurvey,)`` whether the chains passed their gate."""

    def coverage(self, level: float) -> FloatArray:
        """``(nname,)`` share of surveys whose central interval of that probability holds the truth."""
        return np.mean(np.abs(self.rank - 0.5) < 0.5 * level, axis=0)

    def error(self, level: float) -> float:
        """Binomial standard error of a coverage that is right."""
        return float(np.sqrt(level * (1 - level) / len(self.rank)))

    def p_values(self) -> FloatArray:
        """``(nname,)`` Kolmogorov-Smirnov probabilities of ranks as uneven as these, if all is right."""
        return np.array([stats.kstest(column, "uniform").pvalue for column in self.rank.T])

    def coverage_p_values(self, level: float) -> FloatArray:
        """``(nname,)`` binomial probabilities of coverages as far off as these, if all is right."""
        hits = np.sum(np.abs(self.rank - 0.5) < 0.5 * level, axis=0)
        return np.array([stats.binomtest(int(h), len(self.rank), level).pvalue for h in hits])

    def passes(self, p: float = 0.01) -> bool:
        """Whether ranks are uniform and coverages right, at probability `p` for all names and tests together."""
        found = np.concatenate([self.p_values(), *(self.coverage_p_values(q) for q in LEVELS)])
        return bool(np.min(found) > p / found.size)


def check(
    density: Density,
    survey: Survey,
    n_survey: int,
    seed: int,
    *,
    fault: Fault = "none",
    options: SamplingOptions | None = None,
    points: FloatArray | None = None,
    first: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Run `n_survey` synthetic surveys through the inference.

    Parameters
    ----------
    density
        Family of populations; truths come from its prior.
    survey
        Size and noise.
    n_survey
        Surveys.
    seed
        Of everything.
    fault
        Mistake to make on purpose.
    options
        Of the sampler.
    points
        ``(m, d)`` where the density is compared with the truth; five over the middle of the range by default.
    first
        Number of the first survey. A survey depends on its number and the seed alone, so that a study may be made in
        pieces.
    progress
        Called with the number of surveys done.

    Raises
    ------
    InputError
        For an unknown fault.
    """
    if fault not in FAULTS:
        raise InputError(f"fault {fault!r}: choose one of {', '.join(FAULTS)}")
    at = np.linspace(-1.5, 1.5, 5)[:, None] * np.ones(density.ndim) if points is None else points
    ranks, converged = [], []
    for k in range(first, first + n_survey):
        rng = np.random.default_rng([seed, k])
        truth = density.sample_prior(rng)
        draws = survey.draws(density.sample(truth, rng, survey.n_galaxy), rng, fault)
        found = sample_population(density, compressed(density, draws), rng, options=options, draws=draws, quiet=True)
        flat = found.flat
        inferred, true = (quantities(density, e, at) for e in (flat, truth[None]))
        ranks.append(np.mean(inferred < true, axis=0))
        converged.append(found.convergence.passes(1.02, 200))
        if progress:
            progress(k + 1 - first)
    return Calibration(quantity_names(density, at), np.array(ranks), np.array(converged))


def compressed(density: Density, draws: Draws) -> Data:
    """Draws in the form in which the likelihood is fastest: bins, a grid in one dimension, or as they are."""
    if isinstance(density, HistogramDensity):
        return onto_histogram(density, [draws])
    if density.ndim > 1:
        return draws
    x = np.asarray(draws.theta)[np.isfinite(np.asarray(draws.log_weight))]
    low, high = float(x.min()), float(x.max())
    margin = 0.01 * (high - low)
    return onto_nodes(low - margin, high + margin, [draws])


def quantities(density: Density, etas: FloatArray, points: FloatArray) -> FloatArray:
    """``(n, nname)`` ln density at the points and, where there are such, means and sigmas or smoothness."""
    log_p = log_density_at(density, etas, points)
    parameters = jax.vmap(density.transform)(jnp.asarray(etas))
    extra = [np.asarray(v) for k, v in parameters.items() if k in ("mean", "sigma", "tau")]
    return np.concatenate([log_p, *(e.reshape(len(etas), -1) for e in extra)], axis=1)


def quantity_names(density: Density, points: FloatArray) -> tuple[str, ...]:
    """Names of `quantities`."""
    names = [f"ln p({', '.join(f'{v:.2g}' for v in p)})" for p in points]
    for key, value in density.transform(jnp.zeros(density.n_eta)).items():
        if key in ("mean", "sigma", "tau"):
            names += [f"{key}[{i}]" if np.size(value) > 1 else key for i in range(np.size(value))]
    return tuple(names)
