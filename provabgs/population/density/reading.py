"""Stored posteriors as weighted draws with the prior divided out, one chunk in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provabgs.catalog import expression
from provabgs.catalog.configuration import shared_config
from provabgs.catalog.names import sample_names
from provabgs.core.arrays import FloatArray, thin
from provabgs.core.errors import ConfigError, InputError
from provabgs.core.jax import jnp
from provabgs.inference.config import FitConfig
from provabgs.population.density.likelihood import Draws
from provabgs.population.density.streamed import pad
from provabgs.population.prior.induced import N_DRAWS, InducedPrior
from provabgs.population.rows import RowSelection
from provabgs.population.sources import Source, fitted_source, open_source
from provabgs.population.weights import combine_weights, likelihood_weights

CHUNK = 4096
"""Galaxies per chunk: 4 MB per property at 256 draws, single precision."""


class PriorDensity(Protocol):
    """The density p0 that draws are divided by."""

    def log_density(self, values: ArrayLike, redshift: ArrayLike) -> FloatArray:
        """Ln p0 of posterior draws.

        Parameters
        ----------
        values
            ``(n, S, d)``.
        redshift
            ``(n,)`` of the galaxies.

        Returns
        -------
        numpy.ndarray
            ``(n, S)``.
        """
        ...


@dataclass(frozen=True, eq=False)
class FlatPrior:
    """No division: for draws under a prior that is flat in the properties, or to show the effect of not dividing."""

    def log_density(self, values: ArrayLike, redshift: ArrayLike) -> FloatArray:  # noqa: ARG002 - one interface
        """Zero everywhere.

        Parameters
        ----------
        values
            ``(n, S, d)`` properties.
        redshift
            Not used.

        Returns
        -------
        FloatArray
            ``(n, S)``.
        """
        return np.zeros(np.asarray(values).shape[:2])


@dataclass(frozen=True, eq=False)
class PopulationData:
    """Galaxies of a catalog as a population's data; iterate `chunks` as often as needed.

    Attributes
    ----------
    source
        The rows in use.
    names
        Properties, sample columns.
    prior
        Divided out of the draws.
    weight
        ``(n,)`` of the galaxies.
    rows
        Which galaxies of the catalog are in, and why the others are not.
    dtype
        Precision of the draws.
    size
        Galaxies per chunk.
    """

    source: Source
    names: tuple[str, ...]
    prior: PriorDensity
    weight: FloatArray
    rows: RowSelection
    dtype: Any = np.float32
    size: int = CHUNK

    def __len__(self) -> int:
        return len(self.source)

    def chunks(self) -> Iterator[Draws]:
        """Draws of all galaxies, `size` at a time, in shard order; the last chunk is filled up with weight 0."""
        waiting: list[tuple[FloatArray, FloatArray, FloatArray]] = []
        held = 0
        for piece in self._pieces():
            waiting.append(piece)
            held += len(piece[2])
            while held >= self.size:
                theta, log_weight, weight = _join(waiting)
                yield self._draws(theta[: self.size], log_weight[: self.size], weight[: self.size])
                waiting = [(theta[self.size :], log_weight[self.size :], weight[self.size :])]
                held -= self.size
        if held:
            # a small catalog stays as small as it is
            whole = self._draws(*_join(waiting))
            yield pad(whole, self.size) if len(self) > self.size else whole

    def load(self) -> Draws:
        """All of them in memory."""
        parts = list(self._pieces())
        return self._draws(*_join(parts))

    def region(self, n: int = 2000) -> FloatArray:
        """Some draws ``(m, d)``, for ranges and scales: of at most `n` galaxies, evenly chosen, at most 64 each."""
        few = PopulationData(
            self.source.take(thin(len(self), n)),
            self.names,
            FlatPrior(),
            np.ones(min(n, len(self))),
            self.rows,
        )
        out = [t[:, :: max(1, t.shape[1] // 64)].reshape(-1, len(self.names))[_good(w, t)] for t, w, _ in few._pieces()]
        return np.concatenate(out)

    def _draws(self, theta: FloatArray, log_weight: FloatArray, weight: FloatArray) -> Draws:
        return Draws(
            jnp.asarray(theta, dtype=self.dtype), jnp.asarray(log_weight, dtype=self.dtype), jnp.asarray(weight)
        )

    def _pieces(self) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
        """theta, log weight and galaxy weight, shard by shard."""
        for chunk in self.source.chunks(list(self.names)):
            rows = chunk.positions
            theta = np.stack([chunk.values[n] for n in self.names], axis=-1)
            yield weigh(
                theta, np.asarray(self.source.columns["Z"], dtype=np.float64)[rows], self.prior, self.weight[rows]
            )


def weigh(
    theta: FloatArray, redshift: FloatArray, prior: PriorDensity, weight: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draws with ln weights ``-ln(S_i p0)``.

    Parameters
    ----------
    theta
        ``(n, S, d)`` draws. NaN is padding. -inf (log SFR of a quiescent galaxy) is kept in the denominator S_i but
        contributes zero density.
    redshift
        ``(n,)``.
    prior
        p0.
    weight
        ``(n,)`` of the galaxies.

    Returns
    -------
    theta
        ``(n, S, d)`` finite; 0 for draws that do not count.
    log_weight
        ``(n, S)``; -inf for draws that do not count.
    weight
        As given.
    """
    padding = np.any(np.isnan(theta), axis=-1)
    finite = np.all(np.isfinite(theta), axis=-1)
    number = np.maximum((~padding).sum(axis=1, keepdims=True), 1)
    clean = np.where(finite[..., None], theta, 0.0)
    log_weight = np.where(finite, -prior.log_density(np.where(finite[..., None], theta, np.nan), redshift), -np.inf)
    return clean, log_weight - np.log(number), weight


def open_population(
    path: str | Path,
    names: Sequence[str],
    *,
    where: str | None = None,
    mode: str = "both",
    weights: Sequence[str] = (),
    prior: InducedPrior | FlatPrior | None = None,
    claimed: FitConfig | None = None,
    include_not_converged: bool = False,
    n_prior: int | None = None,
) -> PopulationData:
    """Galaxies of a catalog, a posterior file or a challenge as data for a population density.

    Parameters
    ----------
    path
        Catalog directory, posterior file or challenge folder; see `open_source`.
    names
        Sample columns (LOGMSTAR, LOGSFR_1GYR, LOGZ_MW, T_AGE_MW ...), one to three.
    where, mode
        See `open_source`.
    weights
        Summary columns to weigh galaxies by (W_ZFAIL, W_FIBASSIGN).
    prior
        None tabulates the prior that the catalog's own configuration induces. One that is given must be of that
        configuration.
    claimed
        Configuration that the catalog is believed to have been fitted under.
    include_not_converged
        Take galaxies of STATUS NOT_CONVERGED too.
    n_prior
        Prior draws per redshift node.

    Returns
    -------
    PopulationData
        Read lazily.

    Raises
    ------
    InputError
        For unknown columns, unusable weights, or when no galaxy is left.
    ConfigError
        When the prior is unknown, mixed, or not the one claimed.
    """
    source, rows = fitted_source(open_source(path, where, mode=mode, columns=weights), include_not_converged)
    expression.check_names(list(names), sample_names(source.schema), "among the samples")
    named = {name: source.columns[name] for name in weights}
    combined = combine_weights(named, len(source), "raise", source.columns["TARGETID"], source.label)
    weight = likelihood_weights(combined.weight)
    z = np.asarray(source.columns["Z"], dtype=np.float64)
    if not (np.isfinite(z) & (z > 0)).all():
        bad = int(np.argmin(np.isfinite(z) & (z > 0)))
        raise InputError(f"{source.label}: TARGETID {source.columns['TARGETID'][bad]} has redshift {z[bad]:g}")
    # draws divided by another prior than their own give a wrong population without any sign of it
    if not isinstance(prior, FlatPrior):
        theirs = shared_config(source.configs, claimed or (prior.config if prior else None), source.label)
        if prior is None:
            prior = InducedPrior.build(
                tuple(names), theirs, z_range=(float(z.min()), float(z.max())), n=n_prior or N_DRAWS
            )
        elif prior.names != tuple(names):
            raise ConfigError(f"the prior is of {prior.names}, the population of {tuple(names)}")
    return PopulationData(source, tuple(names), prior, weight, rows)


def _join(parts: list[tuple[FloatArray, FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Concatenate; shards may keep different numbers of draws."""
    width = max(p[1].shape[1] for p in parts)
    theta = np.concatenate([np.pad(p[0], ((0, 0), (0, width - p[0].shape[1]), (0, 0))) for p in parts])
    log_weight = np.concatenate(
        [np.pad(p[1], ((0, 0), (0, width - p[1].shape[1])), constant_values=-np.inf) for p in parts]
    )
    return theta, log_weight, np.concatenate([p[2] for p in parts])


def _good(log_weight: FloatArray, theta: FloatArray) -> NDArray[np.bool_]:
    """Which of the thinned draws count."""
    return np.isfinite(log_weight[:, :: max(1, theta.shape[1] // 64)]).ravel()
