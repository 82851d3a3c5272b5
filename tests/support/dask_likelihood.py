"""The population likelihood on a Dask cluster: shards stay where they were read, sums travel.

Each worker reads its own part of the catalog once, divides the prior out and keeps the draws (or what a grid makes of
them); a call sends eta and brings back a number, a gradient or a matrix. `sample_streamed` takes a `DaskLikelihood` as
it takes a `StreamedLikelihood`, and both give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.population.density.grid import onto_histogram, onto_nodes
from provabgs.population.density.histogram import HistogramDensity
from provabgs.population.density.likelihood import Data
from provabgs.population.density.models import Density
from provabgs.population.density.reading import PopulationData
from provabgs.population.density.streamed import StreamedLikelihood

if TYPE_CHECKING:
    from distributed import Client, Future


@dataclass(frozen=True, eq=False)
class DaskLikelihood:
    """ln L over parts of a catalog that live on workers.

    Attributes
    ----------
    density
        Family of populations.
    client
        Of the cluster.
    parts
        One future per part; hold on to this object as long as they shall live.
    """

    density: Density
    client: Client
    parts: tuple[Future, ...]

    @classmethod
    def spread(
        cls, client: Client, data: PopulationData, density: Density, limits: tuple[float, float] | None = None
    ) -> DaskLikelihood:
        """Divide a catalog by shards among the workers; they must see the same files.

        Parameters
        ----------
        client
            Of the cluster.
        data
            From `open_population`.
        density
            Family of populations.
        limits
            Put the draws of one property on a grid between them; histograms have their own, and otherwise the draws
            are kept.
        """
        shards = data.source.columns["SHARD"].astype(str)
        names = np.unique(shards)
        n_part = min(len(names), 4 * max(1, len(client.scheduler_info()["workers"])))
        pieces = [np.flatnonzero(np.isin(shards, group)) for group in np.array_split(names, n_part)]
        parts = [replace(data, source=data.source.take(rows), weight=data.weight[rows]) for rows in pieces]
        return cls(density, client, tuple(client.map(_load, parts, density=density, limits=limits, pure=False)))

    def first_part(self) -> Data:
        """The first part, brought here."""
        return self.parts[0].result()[0]

    def values(self, etas: FloatArray) -> FloatArray:
        """Ln L of ``etas (m, n_eta)``, ``(m,)``."""
        return np.sum(self._call("values", etas), axis=0)

    def value_and_grad(self, eta: FloatArray) -> tuple[float, FloatArray]:
        """Ln L and its gradient."""
        found = self._call("value_and_grad", eta)
        return float(sum(f[0] for f in found)), np.sum([f[1] for f in found], axis=0)

    def hessian(self, eta: FloatArray) -> FloatArray:
        """Second derivatives."""
        return np.sum(self._call("hessian", eta), axis=0)

    def effective_draws(self, eta: FloatArray) -> FloatArray:
        """Per galaxy; NaN where only a grid was kept."""
        return np.concatenate(self._call("effective_draws", eta))

    def _call(self, method: str, eta: FloatArray) -> list[Any]:
        """One method on every part, where the part is."""
        futures = self.client.map(_evaluate, self.parts, method=method, density=self.density, eta=eta, pure=False)
        return list(self.client.gather(futures))


def _load(part: PopulationData, density: Density, limits: tuple[float, float] | None) -> list[Data]:
    """Chunks of one part, in the memory of the worker that runs this."""
    if isinstance(density, HistogramDensity):
        return [onto_histogram(density, part.chunks())]
    if limits is not None:
        return [onto_nodes(*limits, part.chunks())]
    return list(part.chunks())


def _evaluate(chunks: list[Data], method: str, density: Density, eta: FloatArray) -> Any:
    return getattr(StreamedLikelihood(density, lambda: chunks), method)(eta)
