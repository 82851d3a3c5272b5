"""Maximum-entropy prior correction: a prior that is flat in chosen derived properties, and otherwise what it was.

Of all priors under which the properties f_k have given distributions, the one closest to the original pi (of maximal
entropy relative to it) is ``pi(theta) prod_k g_k(f_k(theta))`` (Handley & Millea 2019, arXiv:1804.08143). For one
property, g is one over the induced density. For several, the g_k that make every *marginal* flat are found by
iterative proportional fitting over prior draws; making the joint density flat as well would need a histogram in as many
dimensions and would give most weight to corners of property space that hardly any history reaches.

Flat means flat between limits; beyond them g keeps its value at the limit, so that no draw gets an unbounded weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provabgs.core.arrays import FloatArray, draws_and_redshifts
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.core.weights import effective_sample_size, normalised
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.inference.learnt.coordinates import AGES
from provabgs.inference.prior_correction import Factor, PriorCorrection, log_ratio_function, log_ratio_of_properties
from provabgs.inference.priors import Prior, theta_from_unit
from provabgs.inference.reweighted_target import reweight
from provabgs.inference.samplers import Target
from provabgs.observe.cosmology import Cosmology
from provabgs.population.prior.draws import age_of_universe, draw_properties, prior_of
from provabgs.population.prior.proportional_fitting import N_BIN, fit_marginals
from provabgs.sps.derived import derived_properties
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import SPSModel

LIMITS: dict[str, tuple[float, float]] = {
    "LOGSSFR_1GYR": (-13.5, -9.0),
    "LOGSSFR_100MYR": (-13.5, -8.5),
    "LOGZ_MW": (-3.7, -1.6),
    "T_AGE_MW": (0.1, 0.95),
}
"""Ranges in which properties are made flat (dex of 1/yr; dex; ages as a fraction of the age of the universe)."""
DEFAULT = ("LOGSSFR_1GYR", "LOGZ_MW", "T_AGE_MW")
COLLAPSE = 20.0
"""Effective draws below which a reweighted posterior is called collapsed."""
N_PRIOR = 400_000


class Reweighted(NamedTuple):
    """Weights that turn draws under the fitted prior into draws under the corrected one."""

    weight: FloatArray
    """``(n, S)``, each row sums to 1; 0 for draws that do not count."""
    n_effective: FloatArray
    """``(n,)`` Kish's effective number of draws."""
    collapsed: NDArray[np.bool_]
    """``(n,)`` True for fewer than `COLLAPSE` effective draws, or fewer than a twentieth of the galaxy's draws."""


@dataclass(frozen=True, eq=False)
class MaxEntropyPrior:
    """A corrected prior, relative to the one of a configuration, for galaxies at one redshift.

    Attributes
    ----------
    names
        Properties made flat: sample columns, keys of `LIMITS`.
    config
        Whose prior is corrected.
    redshift
        Where the table was made; ages count as fractions of the universe's, so that it serves its neighbourhood too.
    nodes, log_g
        Per property ``(nbin,)`` coordinate and ln g, linear in between and constant beyond.
    largest
        Largest ln weight among the prior draws: the envelope of rejection sampling.
    flatness
        Per property: largest relative deviation of the corrected marginal from flat, over bins.
    """

    names: tuple[str, ...]
    config: FitConfig
    redshift: float
    nodes: tuple[FloatArray, ...]
    log_g: tuple[FloatArray, ...]
    largest: float
    flatness: dict[str, float]

    @classmethod
    def build(
        cls,
        names: tuple[str, ...] = DEFAULT,
        config: FitConfig | None = None,
        redshift: float = 0.2,
        *,
        limits: Mapping[str, tuple[float, float]] | None = None,
        n: int = N_PRIOR,
        seed: int = 0,
    ) -> MaxEntropyPrior:
        """Find the g_k by iterative proportional fitting over prior draws.

        Parameters
        ----------
        names
            Properties to make flat, keys of `LIMITS`.
        config
            Configuration whose prior is corrected; the default one when None.
        redshift
            Of the prior draws.
        limits
            Ranges other than `LIMITS`, by property.
        n
            Number of prior draws.
        seed
            Seed of the draws.

        Returns
        -------
        MaxEntropyPrior
            Normalised: the mean of its weights over the prior is 1.

        Raises
        ------
        InputError
            For an unknown property, a configuration whose prior is a corrected one already, or a bin within the limits
            that no prior draw reaches: no weight can fill an empty bin.
        """
        config = config or FitConfig()
        if config.prior_correction is not None:
            raise InputError(
                "the prior of this configuration is a corrected one already; correct the one on parameters"
            )
        for name in names:
            if name not in LIMITS:
                raise InputError(f"{name!r} cannot be made flat; choose among {', '.join(LIMITS)}")
        if not names or len(set(names)) != len(names):
            raise InputError(f"properties {tuple(names)}: give one or more different ones")
        drawn = draw_properties(config, redshift, n, np.random.default_rng(seed))
        age = age_of_universe(config, redshift)
        x = np.stack([drawn[k] / (age if k in AGES else 1.0) for k in names], axis=1)
        edges = [np.linspace(*{**LIMITS, **(limits or {})}[k], N_BIN + 1) for k in names]
        log_g, flatness = fit_marginals(x, edges, names)
        nodes = tuple(0.5 * (e[1:] + e[:-1]) for e in edges)
        total = sum(np.interp(x[:, k], nodes[k], log_g[k]) for k in range(len(names)))
        shift = float(np.log(np.mean(np.exp(total))))
        log_g[0] = log_g[0] - shift  # the corrected prior is normalised: E_pi[prod g] = 1
        largest = float(np.max(total)) - shift
        flat = dict(zip(names, flatness, strict=True))
        return cls(tuple(names), config, redshift, nodes, tuple(log_g), largest, flat)

    # ---- weights of stored draws ---------------------------------------------------------------------------------

    def log_ratio(self, values: ArrayLike, redshift: ArrayLike) -> FloatArray:
        """Ln of the corrected over the fitted prior at properties.

        Parameters
        ----------
        values
            ``(n, S, d)`` draws, properties in the order of `names`; NaN gives NaN.
        redshift
            ``(n,)`` of the galaxies.

        Returns
        -------
        numpy.ndarray
            ``(n, S)``.

        Raises
        ------
        InputError
            For arrays of other shapes.
        """
        v, z = draws_and_redshifts(values, redshift, len(self.names))
        age = np.asarray(Cosmology(self.config.observing.cosmology).age_gyr(z))[:, None]
        out = np.zeros(v.shape[:2])
        for k, name in enumerate(self.names):
            x = v[..., k] / age if name in AGES else v[..., k]
            out += np.where(np.isnan(x), np.nan, np.interp(np.nan_to_num(x, nan=0.0), self.nodes[k], self.log_g[k]))
        return out

    def reweight(self, values: ArrayLike, redshift: ArrayLike) -> Reweighted:
        """Weights that turn stored draws into draws under the corrected prior.

        Parameters
        ----------
        values
            ``(n, S, d)`` draws, as in `log_ratio`; NaN draws get weight 0.
        redshift
            ``(n,)`` of the galaxies.

        Returns
        -------
        Reweighted
            Weights, effective draws, and which galaxies have too few of them.

        Raises
        ------
        InputError
            For a galaxy without a finite draw.
        """
        log_w = self.log_ratio(values, redshift)
        there = np.isfinite(log_w)
        if not there.any(axis=1).all():
            raise InputError(f"row {int(np.argmin(there.any(axis=1)))} has no draw; leave it out")
        n_effective = effective_sample_size(log_w)
        floor = np.maximum(COLLAPSE, 0.05 * there.sum(axis=1))
        return Reweighted(normalised(log_w), n_effective, n_effective < np.minimum(floor, there.sum(axis=1)))

    # ---- sampling, where weights collapse ----------------------------------------------------------------------------

    @property
    def correction(self) -> PriorCorrection:
        """The correction in the form of `FitConfig.prior_correction`, for fits under the corrected prior."""
        factors = [
            Factor(name=name, nodes=tuple(nodes.tolist()), log_g=tuple(np.round(log_g, 6).tolist()))
            for name, nodes, log_g in zip(self.names, self.nodes, self.log_g, strict=True)
        ]
        return PriorCorrection(redshift=self.redshift, factors=tuple(factors))

    def log_ratio_theta(self, model: SPSModel, tables: HistoryTables) -> Callable[[jax.Array], jax.Array]:
        """Ln of the corrected over the fitted prior as a function of parameters, traceable by JAX.

        Parameters
        ----------
        model
            SPS model of the configuration.
        tables
            Its history tables at the redshift of the galaxy.

        Returns
        -------
        callable
            Parameters of the model ``(batch, nparameter)`` to ``(batch,)``.
        """
        correction = self.correction
        return lambda theta: log_ratio_of_properties(correction, derived_properties(model, theta, tables), tables)

    def correct_target(self, target: Target, prior: Prior, model: SPSModel, tables: HistoryTables) -> Target:
        """A sampler's target under the corrected prior, its marginalised form included.

        Parameters
        ----------
        target
            Under the prior of the configuration.
        prior
            That prior, for the galaxy.
        model, tables
            SPS model, and its history tables at the galaxy's redshift.

        Returns
        -------
        Target
            Without a gradient; see `provabgs.inference.reweighted_target.reweight`.
        """
        return reweight(target, log_ratio_function(self.correction, model, prior, tables))

    def sample(self, rng: np.random.Generator, n: int, *, batch: int = 20_000) -> FloatArray:
        """Parameters drawn from the corrected prior, by rejection from the prior of the configuration.

        The envelope of the rejection is the largest weight among the draws of `build`; a draw with a larger weight is
        accepted.

        Parameters
        ----------
        rng
            Source of randomness.
        n
            Number of draws.
        batch
            Proposals per call of the model.

        Returns
        -------
        numpy.ndarray
            ``(n, nparameter)``, columns in the order of the fit's parameters (`Prior.parameters` of `prior_of`).
        """
        model = load_model(self.config.model)
        tables = model.tables(age_of_universe(self.config, self.redshift))
        prior = prior_of(self.config, model)
        ratio = jax.jit(self.log_ratio_theta(model, tables))
        kept: list[FloatArray] = []
        while sum(map(len, kept)) < n:
            theta = theta_from_unit(jnp.asarray(rng.uniform(size=(batch, prior.n_coordinate))), prior)
            log_ratio = np.asarray(ratio(prior.parameters.select(theta, model.parameters)))
            accept = np.log(rng.uniform(size=batch)) < log_ratio - self.largest
            kept.append(np.asarray(theta)[accept])
        return np.concatenate(kept)[:n]
