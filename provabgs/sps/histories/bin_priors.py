"""Priors on the star-formation rates of age bins: what is sampled, and how it becomes fractions of the mass.

All three are densities of the same fractions, so that a posterior under one becomes that under another by weights:
`log_density` is the density in the n - 1 ratios log10(SFR_i / SFR_i+1), normalised.

- `Dirichlet`: flat on the fractions of the mass formed in each bin, or of concentration alpha.
- `Continuity`: each ratio has a Student-t distribution of two degrees of freedom (Leja et al. 2019, arXiv:1811.03637).
- `Stochastic`: log SFR is a Gaussian process, the extended regulator model of Iyer et al. (2024, arXiv:2208.05938; from
  Tacchella, Forbes & Caplar 2020): ratios are normal with the covariance that its power spectrum gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from scipy import linalg
from scipy.special import gammaln

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError
from provabgs.core.jax import jax, jnp
from provabgs.sps.parameters import Parameter, Values

LOG10 = float(np.log(10.0))
RATIO_RANGE_DEX = (-10.0, 10.0)
"""Ratios beyond are cut off, as Prospector cuts them."""
LEAST_CONCENTRATION = 0.6
"""Weights ``f^(alpha - 1)`` over a flat prior have a variance above 1/2 alone; near it a few draws hold most."""


class BinPrior(Protocol):
    """A prior on the star-formation rates of n bins."""

    parameters: tuple[Parameter, ...]
    fractions: tuple[str, ...]
    """Parameters that are the fractions themselves; none where they follow from others."""
    log_prior_ratio: Callable[[jax.Array], jax.Array] | None
    """See `LinearBlock`."""

    def more(self, edges: FloatArray) -> Any:
        """What `shares` needs of bin edges ``(..., n + 1)``, Gyr."""
        ...

    def shares(self, values: Values, width: jax.Array, more: Any) -> jax.Array:
        """Fractions of the mass ``(batch, n)``.

        Parameters
        ----------
        values
            Parameters, each ``(batch,)``.
        width
            ``(n,)`` or ``(batch, n)`` widths of the bins.
        more
            From `more`.

        Returns
        -------
        jax.Array
            1 in sum.
        """
        ...

    def log_density(self, share: FloatArray, edges: FloatArray) -> FloatArray:
        """Normalised density in the ratios.

        Parameters
        ----------
        share
            ``(n_draw, n)`` fractions of the mass.
        edges
            ``(n + 1,)`` edges, Gyr.

        Returns
        -------
        FloatArray
            ``(n_draw,)``.
        """
        ...


def log_ratios(share: FloatArray, edges: FloatArray) -> FloatArray:
    """log10(SFR_i / SFR_i+1).

    Parameters
    ----------
    share
        ``(..., n)`` fractions of the mass.
    edges
        ``(n + 1,)`` edges, Gyr.

    Returns
    -------
    FloatArray
        ``(..., n - 1)``.
    """
    log_rate = np.log10(np.maximum(share, 1e-300) / np.diff(edges))
    return -np.diff(log_rate, axis=-1)


def shares_of_ratios(ratios: jax.Array, width: jax.Array) -> jax.Array:
    """Fractions of the mass from ratios.

    Parameters
    ----------
    ratios
        ``(batch, n - 1)`` log10(SFR_i / SFR_i+1).
    width
        ``(n,)`` or ``(batch, n)`` widths of the bins.

    Returns
    -------
    jax.Array
        ``(batch, n)``, 1 in sum.
    """
    log_rate = jnp.pad(-jnp.cumsum(ratios, axis=-1), ((0, 0), (1, 0)))
    log_rate -= jnp.max(log_rate, axis=-1, keepdims=True)  # bins of no mass underflow, none overflows
    share = 10.0**log_rate * jnp.asarray(width, ratios.dtype)
    return share / jnp.sum(share, axis=-1, keepdims=True)


class Dirichlet:
    """Flat on the fractions of the mass, or a Dirichlet distribution of another concentration.

    Parameters
    ----------
    n_bins
        Number of bins.
    concentration
        alpha of all bins or of each; another than 1 enters as a weight on draws of the masses.

    Raises
    ------
    ConfigError
        For a concentration below `LEAST_CONCENTRATION`, or another number of them.
    """

    def __init__(self, n_bins: int, concentration: float | Sequence[float] = 1.0) -> None:
        alpha = np.broadcast_to(np.asarray(concentration, float), n_bins) if np.ndim(concentration) == 0 else None
        alpha = np.asarray(concentration, float) if alpha is None else alpha
        if alpha.shape != (n_bins,):
            raise ConfigError(
                f"model.history_options: {alpha.size} concentrations for {n_bins} bins; give one or {n_bins}"
            )
        if not np.all(alpha >= LEAST_CONCENTRATION):
            raise ConfigError(
                f"model.history_options: concentration {alpha.min():g} is below {LEAST_CONCENTRATION}: its weights "
                "would leave few draws; prior = 'continuity' or 'stochastic' put little mass into bins by other means"
            )
        self.alpha = alpha
        self.parameters = tuple(
            Parameter(
                f"fbin{i}",
                f"FBIN{i}",
                rf"f_{{{i}}}",
                "",
                f"fraction of the mass formed in age bin {i}",
                prior="flat-dirichlet",
                bounds=(0.0, 1.0),
                role="linear",
                natural_edges="both",
            )
            for i in range(1, n_bins + 1)
        )
        self.fractions = tuple(p.name for p in self.parameters)
        self.log_prior_ratio = None if np.all(alpha == 1) else self._log_ratio

    def _log_ratio(self, share: jax.Array) -> jax.Array:
        constant = gammaln(self.alpha.sum()) - gammaln(self.alpha).sum() - gammaln(len(self.alpha))
        return constant + jnp.sum((self.alpha - 1) * jnp.log(jnp.maximum(share, 1e-300)), axis=-1)

    def more(self, edges: FloatArray) -> tuple[()]:
        """Nothing."""
        del edges
        return ()

    def shares(self, values: Values, width: jax.Array, more: Any) -> jax.Array:
        """See `BinPrior.shares`.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        width
            ``(n,)`` or ``(batch, n)`` widths of the bins.
        more
            From `more`.

        Returns
        -------
        jax.Array
            ``(batch, n)``, 1 in sum.
        """
        del width, more
        share = jnp.stack([values[n] for n in self.fractions], axis=-1)
        return share / jnp.sum(share, axis=-1, keepdims=True)

    def log_density(self, share: FloatArray, edges: FloatArray) -> FloatArray:
        """See `BinPrior.log_density`: the density of fractions times ``prod f_i ln(10)^(n - 1)``.

        Parameters
        ----------
        share
            ``(n_draw, n)`` fractions of the mass.
        edges
            ``(n + 1,)`` edges, Gyr.

        Returns
        -------
        FloatArray
            ``(n_draw,)``.
        """
        del edges
        n = len(self.alpha)
        of_alpha = gammaln(self.alpha.sum()) - gammaln(self.alpha).sum()
        return of_alpha + np.log(np.maximum(share, 1e-300)) @ self.alpha + (n - 1) * np.log(LOG10)


class Continuity:
    """Independent Student-t distributions of the ratios, of two degrees of freedom.

    Parameters
    ----------
    n_bins
        Number of bins.
    sigma_dex
        Their scale.

    Raises
    ------
    ConfigError
        For a scale that is not positive.
    """

    fractions: tuple[str, ...] = ()
    log_prior_ratio = None

    def __init__(self, n_bins: int, sigma_dex: float = 0.3) -> None:
        if not sigma_dex > 0:
            raise ConfigError(f"model.history_options: sigma_dex = {sigma_dex} must be above 0")
        self.sigma = float(sigma_dex)
        self.parameters = tuple(
            Parameter(
                f"logsfr_ratio{i}",
                f"LOGSFR_RATIO{i}",
                rf"\log_{{10}} {{\rm SFR}}_{{{i}}}/{{\rm SFR}}_{{{i + 1}}}",
                "dex",
                f"log10 of the SFR in age bin {i} over that in the next older",
                prior="student-t",
                bounds=RATIO_RANGE_DEX,
                centre=0.0,
                scale=self.sigma,
            )
            for i in range(1, n_bins)
        )

    def more(self, edges: FloatArray) -> tuple[()]:
        """Nothing."""
        del edges
        return ()

    def shares(self, values: Values, width: jax.Array, more: Any) -> jax.Array:
        """See `BinPrior.shares`.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        width
            ``(n,)`` or ``(batch, n)`` widths of the bins.
        more
            From `more`.

        Returns
        -------
        jax.Array
            ``(batch, n)``, 1 in sum.
        """
        del more
        return shares_of_ratios(jnp.stack([values[p.name] for p in self.parameters], axis=-1), width)

    def log_density(self, share: FloatArray, edges: FloatArray) -> FloatArray:
        """See `BinPrior.log_density`.

        Parameters
        ----------
        share
            ``(n_draw, n)`` fractions of the mass.
        edges
            ``(n + 1,)`` edges, Gyr.

        Returns
        -------
        FloatArray
            ``(n_draw,)``.
        """
        x = log_ratios(share, edges) / self.sigma
        end = RATIO_RANGE_DEX[1] / self.sigma
        within = end / np.sqrt(2 + end**2)
        each = -1.5 * np.log1p(0.5 * x**2) - np.log(2 * np.sqrt(2.0)) - np.log(self.sigma * within)
        return np.where(np.all(np.abs(x) <= end, axis=-1), each.sum(axis=-1), -np.inf)


class Stochastic:
    """A Gaussian process in log SFR, the extended regulator model; ratios are normal and correlated.

    Parameters
    ----------
    n_bins
        Number of bins.
    sigma_reg
        Standard deviation of log SFR by inflow and outflow, dex.
    tau_eq, tau_in
        Times of equilibrium and of inflow, Gyr.
    sigma_dyn, tau_dyn
        Standard deviation of log SFR by the dynamics of clouds, dex, and their time, Gyr.

    Raises
    ------
    ConfigError
        For a number that is not positive.
    """

    fractions: tuple[str, ...] = ()
    log_prior_ratio = None

    def __init__(
        self,
        n_bins: int,
        sigma_reg: float = 0.3,
        tau_eq: float = 2.5,
        tau_in: float = 7.0,
        sigma_dyn: float = 0.07,
        tau_dyn: float = 0.025,
    ) -> None:
        given = {
            "sigma_reg": sigma_reg, "tau_eq": tau_eq, "tau_in": tau_in, "sigma_dyn": sigma_dyn, "tau_dyn": tau_dyn,
        }  # fmt: skip
        for name, value in given.items():
            if not value > 0:
                raise ConfigError(f"model.history_options: {name} = {value} must be above 0")
        self.of = given
        self.parameters = tuple(
            Parameter(
                f"sfr_deviate{i}",
                f"SFR_DEVIATE{i}",
                rf"x_{{{i}}}",
                "",
                f"standard normal deviate {i} of the ratios of SFR of neighbouring bins",
                prior="normal",
                bounds=(-np.inf, np.inf),
                centre=0.0,
                scale=1.0,
            )
            for i in range(1, n_bins)
        )

    def covariance(self, edges: FloatArray) -> FloatArray:
        """Of the ratios, ``(..., n - 1, n - 1)`` dex^2, for bin edges ``(..., n + 1)``, Gyr; times are bin centres."""
        p, centre = self.of, 0.5 * (edges[..., 1:] + edges[..., :-1])
        apart = np.abs(centre[..., :, None] - centre[..., None, :])
        if np.isclose(p["tau_in"], p["tau_eq"], rtol=1e-6):
            regulator = (1 + apart / p["tau_eq"]) * np.exp(-apart / p["tau_eq"])
        else:
            terms = (p["tau_in"] * np.exp(-apart / p["tau_in"]), p["tau_eq"] * np.exp(-apart / p["tau_eq"]))
            regulator = (terms[0] - terms[1]) / (p["tau_in"] - p["tau_eq"])
        of_rates = p["sigma_reg"] ** 2 * regulator + p["sigma_dyn"] ** 2 * np.exp(-apart / p["tau_dyn"])
        rows = of_rates[..., :-1, :] - of_rates[..., 1:, :]
        return rows[..., :-1] - rows[..., 1:]

    def more(self, edges: FloatArray) -> FloatArray:
        """Lower Cholesky factors of the covariances, ``(..., n - 1, n - 1)``."""
        return np.asarray(np.linalg.cholesky(self.covariance(edges)), dtype=np.float64)

    def shares(self, values: Values, width: jax.Array, more: Any) -> jax.Array:
        """See `BinPrior.shares`.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        width
            ``(n,)`` or ``(batch, n)`` widths of the bins.
        more
            From `more`.

        Returns
        -------
        jax.Array
            ``(batch, n)``, 1 in sum.
        """
        x = jnp.stack([values[p.name] for p in self.parameters], axis=-1)
        factor = jnp.asarray(more, x.dtype)
        ratios = x @ factor.T if factor.ndim == 2 else jnp.einsum("bij,bj->bi", factor, x)
        return shares_of_ratios(ratios, width)

    def log_density(self, share: FloatArray, edges: FloatArray) -> FloatArray:
        """See `BinPrior.log_density`.

        Parameters
        ----------
        share
            ``(n_draw, n)`` fractions of the mass.
        edges
            ``(n + 1,)`` edges, Gyr.

        Returns
        -------
        FloatArray
            ``(n_draw,)``.
        """
        factor = self.more(edges)
        x = linalg.solve_triangular(factor, log_ratios(share, edges).T, lower=True)
        constant = 0.5 * len(factor) * np.log(2 * np.pi) + np.log(np.diagonal(factor)).sum()
        return -0.5 * np.sum(x**2, axis=0) - constant


KINDS: dict[str, Any] = {"dirichlet": Dirichlet, "continuity": Continuity, "stochastic": Stochastic}
"""Priors by the word that configurations use."""
