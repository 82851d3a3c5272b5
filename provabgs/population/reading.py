"""From stored posteriors to weighted draws: shard by shard, the prior divided out, memory that of one chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provabgs.catalog import expression
from provabgs.catalog.names import sample_names
from provabgs.catalog.samples import read_chunks
from provabgs.core.arrays import FloatArray, thin
from provabgs.core.errors import ConfigError, InputError
from provabgs.core.jax import jnp
from provabgs.inference.config import FitConfig
from provabgs.population.induced import N_DRAWS, InducedPrior
from provabgs.population.likelihood import Draws, pad
from provabgs.population.priordraws import config_of
from provabgs.population.sources import Chosen, Source, galaxy_weights, open_source, usable

CHUNK = 4096
"""Galaxies per chunk: 4 MB per property at 256 draws, single precision."""


class PriorDensity(Protocol):
    """What draws are divided by."""

    def log_density(self, values: ArrayLike, redshift: ArrayLike) -> FloatArray:
        """Ln p0 of ``values (n, S, d)`` at ``redshift (n,)``, ``(n, S)``."""
        ...


@dataclass(frozen=True, eq=False)
class FlatPrior:
    """No division: for draws made under a prior that is flat in the properties, or to see what leaving it out does."""

    def log_density(self, values: ArrayLike, redshift: ArrayLike) -> FloatArray:  # noqa: ARG002 - one interface
        """Zero."""
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
    chosen
        What was left out.
    dtype
        Precision of draws handed out.
    """

    source: Source
    names: tuple[str, ...]
    prior: PriorDensity
    weight: FloatArray
    chosen: Chosen
    dtype: Any = np.float32
    size: int = CHUNK
    _kept: list[Draws] = field(default_factory=list)

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
        """``(m, d)`` draws of the first `n` galaxies, for ranges and scales; at most 64 of each."""
        few = PopulationData(
            self.source.take(np.unique(thin(len(self), n))),
            self.names,
            FlatPrior(),
            np.ones(min(n, len(self))),
            self.chosen,
        )
        out = [t[:, :: max(1, t.shape[1] // 64)].reshape(-1, len(self.names))[_good(w, t)] for t, w, _ in few._pieces()]
        return np.concatenate(out)

    def _draws(self, theta: FloatArray, log_weight: FloatArray, weight: FloatArray) -> Draws:
        return Draws(
            jnp.asarray(theta, dtype=self.dtype), jnp.asarray(log_weight, dtype=self.dtype), jnp.asarray(weight)
        )

    def _pieces(self) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
        """theta, log weight and galaxy weight, shard by shard."""
        c = self.source.columns
        for chunk in read_chunks(self.source.root, c["SHARD"], c["SHARD_ROW"].astype(np.int64), list(self.names)):
            rows = chunk.positions
            theta = np.stack([chunk.values[n] for n in self.names], axis=-1)
            yield weigh(theta, np.asarray(c["Z"], dtype=np.float64)[rows], self.prior, self.weight[rows])


def weigh(
    theta: FloatArray, redshift: FloatArray, prior: PriorDensity, weight: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draws ``(n, S, d)`` with ln weights ``-ln(S_i p0)``.

    NaN draws are padding and do not count; infinite ones (log SFR of a galaxy that formed nothing) count as draws to
    which no finite density gives probability.
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
    path, where, mode
        See `open_source`.
    names
        Sample columns (LOGMSTAR, LOGSFR_1GYR, LOGZ_MW, T_AGE_MW ...), one to three.
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

    Raises
    ------
    InputError
        For unknown columns, unusable weights, or when no galaxy is left.
    ConfigError
        When the prior is unknown, mixed, or not the one claimed.
    """
    expression.check_names(list(names), sample_names(), "among the samples")
    source, chosen = usable(open_source(path, where, mode=mode, columns=weights), include_not_converged)
    weight = galaxy_weights(source, weights)
    z = np.asarray(source.columns["Z"], dtype=np.float64)
    if not (np.isfinite(z) & (z > 0)).all():
        bad = int(np.argmin(np.isfinite(z) & (z > 0)))
        raise InputError(f"{source.label}: TARGETID {source.columns['TARGETID'][bad]} has redshift {z[bad]:g}")
    if not isinstance(prior, FlatPrior):
        theirs = config_of(source.configs, claimed or (prior.config if prior else None), source.label)
        if prior is None:
            prior = InducedPrior.build(
                tuple(names), theirs, z_range=(float(z.min()), float(z.max())), n=n_prior or N_DRAWS
            )
        elif prior.names != tuple(names):
            raise ConfigError(f"the prior is of {prior.names}, the population of {tuple(names)}")
    return PopulationData(source, tuple(names), prior, weight, chosen)


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
