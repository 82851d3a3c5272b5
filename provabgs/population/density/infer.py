"""The posterior of a population from a catalog's galaxies: NUTS in memory, or importance sampling of streamed draws."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from provabgs.core.arrays import thin
from provabgs.core.errors import InputError
from provabgs.core.jax import jnp
from provabgs.core.progress import report
from provabgs.population.density.grid import onto_histogram, onto_nodes, too_coarse
from provabgs.population.density.histogram import HistogramDensity
from provabgs.population.density.importance import sample_streamed
from provabgs.population.density.likelihood import Draws, Gridded, LogSelected
from provabgs.population.density.models import Density, GaussianDensity, MixtureDensity
from provabgs.population.density.nuts import SamplingOptions, sample_population
from provabgs.population.density.posterior import PopulationPosterior, PopulationWarning
from provabgs.population.density.reading import PopulationData
from provabgs.population.density.streamed import StreamedLikelihood, gridded_chunks
from provabgs.population.prior.induced import InducedPrior

Kind = Literal["gaussian", "mixture", "histogram"]
KINDS: tuple[Kind, ...] = get_args(Kind)

IN_MEMORY = 2e7
"""Numbers (galaxies times nodes, or times draws and properties) up to which NUTS is used: milliseconds a gradient."""
HISTOGRAM_FACTOR = 5.0
"""Factor on `IN_MEMORY` for histograms: empty bins are too far from Gaussian for importance sampling."""
SLICE = 16_384
"""Gridded galaxies per chunk."""
N_COUNTED = 4096
"""Galaxies of a large catalog for which effective draws and Monte Carlo noise are computed."""
BINS = {1: 30, 2: 14}
"""Default number of bins per property of a histogram, by number of properties."""


def make_density(
    kind: Kind, limits: Sequence[tuple[float, float]], n_component: int = 2, n_bin: int | None = None
) -> Density:
    """A family of densities for populations inside some limits.

    Parameters
    ----------
    kind
        ``"gaussian"``, ``"mixture"`` or ``"histogram"``.
    limits
        Lower and upper limit per property.
    n_component
        Of a mixture.
    n_bin
        Of a histogram, per property; `BINS` when None.

    Returns
    -------
    Density
        A histogram is exactly on the limits; a Gaussian's scale is half their distance.

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
    """Range of the draws from 0.2 to 99.8 %, and a margin.

    Parameters
    ----------
    data
        The galaxies.
    margin
        Margin on either side, as a fraction of the range.

    Returns
    -------
    list
        Lower and upper limit per property.

    Raises
    ------
    InputError
        For a property that is the same in all draws.
    """
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

    Histograms take draws in bins; other densities take them on 384 nodes (one property) or as they are (several).
    Data up to `in_memory` numbers are sampled by NUTS, larger data by importance sampling over streamed chunks.

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
        ln alpha(eta), see `provabgs.population.density.likelihood`; NUTS only.
    in_memory
        Number of array entries up to which NUTS is used.

    Returns
    -------
    PopulationPosterior
        With its warnings.

    Raises
    ------
    InputError
        When limits hold no galaxy, or the density does not suit the properties.
    """
    box = list(limits) if limits is not None else default_limits(data)
    if len(box) != len(data.names):
        raise InputError(f"{len(box)} limits for {len(data.names)} properties {data.names}")
    density = make_density(kind, box, n_component, n_bin)
    gridded = _gridded(density, data, box)
    n_outside = len(data) - gridded.weight.shape[0] if gridded is not None else 0
    meta = _description(data, kind, box, n_outside)
    some = _clip(_some(data, N_COUNTED).load(), box)
    size = gridded.mass.size if gridded is not None else len(data) * 256 * density.ndim
    if size <= in_memory * (HISTOGRAM_FACTOR if kind == "histogram" else 1.0):
        held = gridded if gridded is not None else _clip(data.load(), box)
        report("sampling the posterior", 0, 0)
        found = sample_population(density, held, rng, selection=selection, options=options, draws=some, meta=meta)
    elif selection is not None:
        raise InputError("a selection term with streamed data: pass a StreamedLikelihood to sample_streamed")
    else:
        chunks = (lambda: gridded_chunks(gridded, SLICE)) if gridded is not None else (lambda: _clipped(data, box))
        streamed = StreamedLikelihood(density, chunks, counted=lambda: [some])
        weight = float(np.sum(data.weight))
        found = sample_streamed(streamed, rng, options=options, draws=[some], total_weight=weight, meta=meta)
        found = replace(found, n_galaxy=len(data) - n_outside)
    return _with_warnings(found, gridded)


def _description(data: PopulationData, kind: Kind, box: list[tuple[float, float]], n_outside: int) -> dict[str, Any]:
    """What went into an inference, kept with its result."""
    return {
        "names": data.names,
        "kind": kind,
        "limits": [list(b) for b in box],
        "prior": "induced" if isinstance(data.prior, InducedPrior) else "not divided out",
        "source": data.source.label,
        "n_rows": data.rows.n_rows,
        "n_used": data.rows.n_used,
        "excluded": data.rows.excluded,
        "n_outside_limits": n_outside,
        "outside_prior_draws": _beyond_prior(data),
    }


def _gridded(density: Density, data: PopulationData, box: list[tuple[float, float]]) -> Gridded | None:
    if isinstance(density, HistogramDensity):
        return onto_histogram(density, data.chunks())
    return onto_nodes(*box[0], data.chunks()) if density.ndim == 1 else None


def _clip(draws: Draws, box: list[tuple[float, float]]) -> Draws:
    """Draws without those outside the limits; galaxies that have none left get weight 0."""
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


def _some(data: PopulationData, n: int) -> PopulationData:
    """At most `n` galaxies, evenly chosen."""
    rows = thin(len(data), n)
    return replace(data, source=data.source.take(rows), weight=data.weight[rows])


def _beyond_prior(data: PopulationData) -> float:
    """Fraction of the draws (of some galaxies) beyond every draw of the tabulated prior; NaN without a table."""
    if not isinstance(data.prior, InducedPrior):
        return float("nan")
    few = _some(data, 500)
    draws = few.load()
    z = np.asarray(few.source.columns["Z"], dtype=np.float64)
    real = np.isfinite(np.asarray(draws.log_weight))
    # load() returns shard order
    order = np.argsort(few.source.columns["SHARD"].astype(str), kind="stable")
    return float(np.mean(data.prior.outside(np.asarray(draws.theta), z[order])[real]))


def _with_warnings(found: PopulationPosterior, gridded: Gridded | None) -> PopulationPosterior:
    """Add warnings on galaxies outside the limits, a grid that is too coarse, and draws beyond the prior's table."""
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
