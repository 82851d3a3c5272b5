"""One call from a catalog's galaxies to the posterior of their population, by whatever route their number asks for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Literal, get_args

import numpy as np

from provabgs.core.arrays import thin
from provabgs.core.errors import InputError
from provabgs.core.jax import jnp
from provabgs.population.densities import Density, GaussianDensity, MixtureDensity
from provabgs.population.grid import onto_histogram, onto_nodes, too_coarse
from provabgs.population.histogram import HistogramDensity
from provabgs.population.induced import InducedPrior
from provabgs.population.likelihood import (
    Draws,
    Gridded,
    LogSelected,
    StreamedLikelihood,
    gridded_chunks,
)
from provabgs.population.posterior import PopulationPosterior, PopulationWarning
from provabgs.population.reading import PopulationData
from provabgs.population.sampling import SamplingOptions, sample_population
from provabgs.population.streamed import sample_streamed

Kind = Literal["gaussian", "mixture", "histogram"]
KINDS: tuple[Kind, ...] = get_args(Kind)

IN_MEMORY = 2e7
"""Numbers (galaxies times nodes, or times draws and properties) up to which NUTS is used: milliseconds a gradient."""
PATIENCE = 5.0
"""Factor on it for histograms, whose empty bins are too far from Gaussian for importance sampling."""
SLICE = 16_384
"""Gridded galaxies per chunk."""
N_COUNTED = 4096
"""Galaxies of a large catalog by which effective draws are counted."""
BINS = {1: 30, 2: 14}
"""Bins per property of a histogram unless told otherwise."""


def make_density(
    kind: Kind, limits: Sequence[tuple[float, float]], n_component: int = 2, n_bin: int | None = None
) -> Density:
    """A density family for populations inside `limits`, one pair per property.

    Raises
    ------
    InputError
        For an unknown kind or limits out of order.
    """
    if kind not in KINDS:
        raise InputError(f"density {kind!r}: choose one of {', '.join(KINDS)}")
    low, high = (np.array(v, dtype=np.float64) for v in zip(*limits, strict=True))
    if not (np.isfinite([low, high]).all() and np.all(low < high)):
        raise InputError(f"limits {[tuple(v) for v in limits]}: need finite low < high")
    if kind == "histogram":
        if len(limits) not in BINS:
            raise InputError(f"a histogram of {len(limits)} properties; one or two are possible, or another density")
        return HistogramDensity.uniform(low, high, n_bin or BINS[len(limits)])
    normal = GaussianDensity(tuple((0.5 * (low + high)).tolist()), tuple((0.5 * (high - low)).tolist()))
    return normal if kind == "gaussian" else MixtureDensity(normal, n_component)


def default_limits(data: PopulationData, margin: float = 0.05) -> list[tuple[float, float]]:
    """Range of the draws, 0.2 to 99.8 %, and a little more on either side."""
    low, high = np.quantile(data.region(), [0.002, 0.998], axis=0)
    if not np.all(high > low):
        raise InputError(f"{data.source.label}: {data.names[int(np.argmin(high - low))]} is the same in all draws")
    width = high - low
    return list(zip((low - margin * width).tolist(), (high + margin * width).tolist(), strict=True))


def infer_population(
    data: PopulationData,
    kind: Kind = "histogram",
    *,
    limits: Sequence[tuple[float, float]] | None = None,
    n_component: int = 2,
    n_bin: int | None = None,
    rng: np.random.Generator,
    options: SamplingOptions | None = None,
    selection: LogSelected | None = None,
    in_memory: float = IN_MEMORY,
) -> PopulationPosterior:
    """Posterior of a population's density.

    One property: draws are put on a grid (a histogram's own bins, or 384 nodes). Several: a histogram likewise, other
    densities take the draws as they are. What fits in memory is sampled by NUTS, larger catalogs by importance
    sampling over the stream.

    Parameters
    ----------
    data
        From `open_population`.
    kind
        ``"gaussian"``, ``"mixture"`` or ``"histogram"``.
    limits
        Range of each property in which the population is sought; draws outside do not count. By default that of the
        draws.
    n_component, n_bin
        Of a mixture; of a histogram, per property.
    rng
        Source of randomness.
    options
        Of the sampler.
    selection
        ln alpha(eta), see `provabgs.population.likelihood`; NUTS only.
    in_memory
        Size up to which NUTS is used.

    Raises
    ------
    InputError
        When limits hold no galaxy, or the density does not suit the properties.
    """
    box = list(limits) if limits is not None else default_limits(data)
    if len(box) != len(data.names):
        raise InputError(f"{len(box)} limits for {len(data.names)} properties {data.names}")
    density = make_density(kind, box, n_component, n_bin)
    chunks = data.chunks if kind == "histogram" or density.ndim == 1 else lambda: _clipped(data, box)
    gridded = _gridded(density, data, box)
    meta = {
        "names": data.names,
        "kind": kind,
        "limits": [list(b) for b in box],
        "prior": "induced" if isinstance(data.prior, InducedPrior) else "not divided out",
        "source": data.source.label,
        **asdict(data.chosen),
        "n_outside_limits": len(data) - gridded.weight.shape[0] if gridded is not None else 0,
        "outside_prior_draws": _beyond_prior(data),
    }
    size = gridded.share.size if gridded is not None else len(data) * 256 * density.ndim
    if size <= in_memory * (PATIENCE if kind == "histogram" else 1.0):
        draws = _in_memory(data) if gridded is None else None
        counted = _first(data)
        found = sample_population(
            density,
            _clip(draws, box) if draws is not None else gridded,  # type: ignore[arg-type]
            rng,
            selection=selection,
            options=options,
            draws=_clip(counted, box),
            meta=meta,
        )
    else:
        if selection is not None:
            raise InputError("a selection term with streamed data: pass a StreamedLikelihood to sample_streamed")
        source = (lambda: gridded_chunks(gridded, SLICE)) if gridded is not None else chunks
        some = _clip(_first(data), box)
        streamed = StreamedLikelihood(density, source, counted=lambda: [some])
        weight = float(np.sum(data.weight))
        found = sample_streamed(streamed, rng, options=options, draws=[some], total_weight=weight, meta=meta)
        found = replace(found, n_galaxy=len(data) - int(meta["n_outside_limits"]))
    return _mind(found, gridded)


def _gridded(density: Density, data: PopulationData, box: list[tuple[float, float]]) -> Gridded | None:
    if isinstance(density, HistogramDensity):
        return onto_histogram(density, data.chunks())
    return onto_nodes(*box[0], data.chunks()) if density.ndim == 1 else None


def _clip(draws: Draws, box: list[tuple[float, float]]) -> Draws:
    """Draws outside the limits no longer count; galaxies that have none left get weight 0."""
    theta, log_weight = np.asarray(draws.theta), np.asarray(draws.log_weight)
    low, high = np.array(box).T
    inside = np.all((theta >= low) & (theta <= high), axis=-1) & np.isfinite(log_weight)
    some = inside.any(axis=1)
    kept = np.where(inside | ~some[:, None], log_weight, -np.inf).astype(log_weight.dtype)
    kept = np.where(np.isfinite(kept).any(axis=1, keepdims=True), kept, 0).astype(log_weight.dtype)
    return Draws(draws.theta, jnp.asarray(kept), jnp.asarray(np.where(some, np.asarray(draws.weight), 0.0)))


def _clipped(data: PopulationData, box: list[tuple[float, float]]) -> Iterator[Draws]:
    for chunk in data.chunks():
        yield _clip(chunk, box)


def _in_memory(data: PopulationData) -> Draws:
    return data.load()


def _first(data: PopulationData) -> Draws:
    """Some thousand galaxies at most, evenly chosen."""
    if len(data) <= N_COUNTED:
        return data.load()
    rows = thin(len(data), N_COUNTED)
    return replace(data, source=data.source.take(rows), weight=data.weight[rows]).load()


def _beyond_prior(data: PopulationData) -> float:
    """Share of the draws (of some galaxies) that lie beyond every draw of the tabulated prior; NaN without one."""
    if not isinstance(data.prior, InducedPrior):
        return float("nan")
    rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), 500)).round().astype(int))
    few = replace(data, source=data.source.take(rows), weight=data.weight[rows])
    draws = few.load()
    z = np.asarray(few.source.columns["Z"], dtype=np.float64)
    real = np.isfinite(np.asarray(draws.log_weight))
    # load() returns shard order
    order = np.argsort(few.source.columns["SHARD"].astype(str), kind="stable")
    return float(np.mean(data.prior.outside(np.asarray(draws.theta), z[order])[real]))


def _mind(found: PopulationPosterior, gridded: Gridded | None) -> PopulationPosterior:
    """Add what only the whole knows: galaxies outside the limits, grids too coarse, draws beyond the prior's table."""
    extra = []
    if found.meta["n_outside_limits"]:
        extra.append(f"{found.meta['n_outside_limits']} galaxies have no draw inside the limits and were left out")
    if gridded is not None and "sigma" in (parameters := found.parameters()):
        narrowest = np.median(parameters["sigma"].reshape(len(found.flat), -1), axis=0)
        if too_coarse(gridded, narrowest):
            extra.append(f"a component of width {narrowest.min():.3g} is too narrow for the grid; give narrower limits")
    if found.meta["outside_prior_draws"] > 0.05:
        extra.append(
            f"{100 * found.meta['outside_prior_draws']:.0f} % of the draws lie beyond those of the tabulated prior, "
            "which is continued by a constant there"
        )
    for sentence in extra:
        warnings.warn(sentence, PopulationWarning, stacklevel=3)
    return replace(found, warnings=(*found.warnings, *extra))
