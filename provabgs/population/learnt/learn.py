"""Learning a population prior from a catalog: which galaxies, the inference prior divided out, two halves, an ensemble.

What is learnt is the population of the galaxies of the catalog, as selected, times the weights that are given: that is
the prior of a galaxy of the same selection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from provabgs.catalog.configuration import shared_config
from provabgs.core.arrays import FloatArray, thin
from provabgs.core.errors import ConfigError, InputError
from provabgs.core.versions import versions
from provabgs.inference.backends import stars_of
from provabgs.inference.config import FitConfig
from provabgs.inference.learnt import LEAST_EFFECTIVE, LearntPrior, half_of, meaning_of
from provabgs.inference.learnt.coordinates import PROPERTIES
from provabgs.inference.learnt.mixture import Mixture
from provabgs.inference.learnt.prior import with_background
from provabgs.population.learnt.draws import Conversion, DrawTable, read_draws
from provabgs.population.learnt.em import begin, log_density_of, maximise, maximise_all
from provabgs.population.learnt.induced import N_DRAWS, check_names, draw_values, inference_prior
from provabgs.population.learnt.pieces import IN_MEMORY, Each, Labour, Scratch, totals_in_pieces
from provabgs.population.rows import RowSelection, fitted_rows
from provabgs.population.sources import Source, open_source
from provabgs.population.weights import combine_weights, likelihood_weights

LEAST_GALAXIES = 40
"""Fewer galaxies say less of a population than the prior of the fits does."""
PER_COMPONENT = 40
"""Galaxies of a half per component of its mixture, up to `MOST_COMPONENTS`."""
MOST_COMPONENTS = 8
FEW = 4000
"""Galaxies on which a mixture is found before all of a half are gone through."""
STEPS, STEPS_ALL, STEPS_MEMBER = 300, 12, 45
REFUSED_EFFECTIVE = 5.0
"""Median effective draws below which draws do not determine a population."""
N_JUDGED = 20_000
"""Galaxies of which effective draws and evidence are reported."""


class LearnOptions(NamedTuple):
    """How a prior is learnt."""

    names: tuple[str, ...] = PROPERTIES
    n_component: int | None = None
    """Of each mixture; None chooses by the number of galaxies."""
    n_member: int = 5
    """Bootstraps of each half."""
    n_draws: int = 128
    """Most draws of a galaxy that are used."""
    n_prior: int = N_DRAWS
    """Prior draws per redshift."""
    seed: int = 0
    in_memory: int = IN_MEMORY
    """Bytes of draws above which they go to a scratch file; with workers all do."""


class Learnt(NamedTuple):
    """A learnt prior, and what was used."""

    prior: LearntPrior
    rows: RowSelection


class Judgement(NamedTuple):
    """What the density of the other half says of galaxies."""

    gain: float
    """Mean ln of evidence under the learnt over that under the inference prior, per galaxy."""
    n_effective: FloatArray
    """``(n,)`` effective draws."""


def learn_prior(
    path: str | Path,
    options: LearnOptions | None = None,
    *,
    where: str | None = None,
    mode: str = "both",
    weights: Sequence[str] = (),
    claimed: FitConfig | None = None,
    labour: Labour | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Learnt:
    """Learn the population of a catalog's galaxies as a prior for them.

    Parameters
    ----------
    path
        Catalog directory, posterior file or challenge folder.
    options
        Properties, sizes and seed.
    where, mode
        See `provabgs.population.sources.open_source`.
    weights
        Summary columns to weigh galaxies by (W_ZFAIL, W_FIBASSIGN).
    claimed
        Configuration that the catalog is believed to have been fitted under.
    labour
        Who reads shards and sums over galaxies; this process if left out.
    say
        Takes sentences of progress.

    Returns
    -------
    Learnt
        The prior, and which galaxies were left out. The same for the same catalog, options and seed, with
        any number of workers.

    Raises
    ------
    InputError
        For unknown properties, unusable weights, fewer than `LEAST_GALAXIES` galaxies, or too few effective draws.
    ConfigError
        When fits of several models or priors are mixed, or were made under a learnt prior already.
    """
    source = open_source(path, where, mode=mode, columns=[*weights, "FLAG"])
    return learn_from(source, options, weights=weights, claimed=claimed, labour=labour, say=say)


def learn_from(
    source: Source,
    options: LearnOptions | None = None,
    *,
    weights: Sequence[str] = (),
    claimed: FitConfig | None = None,
    labour: Labour | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Learnt:
    """`learn_prior` of galaxies that are open already.

    Parameters
    ----------
    source
        With the column FLAG and those of the weights.
    options, weights, claimed, labour, say
        See `learn_prior`.

    Returns
    -------
    Learnt
        See `learn_prior`.
    """
    options, labour = options or LearnOptions(), labour or Labour()
    source, rows = usable(source)
    config = shared_config(source.configs, claimed, source.label)
    if config.prior is not None:
        raise ConfigError(
            f"{source.label}: was fitted under a learnt prior ({config.prior.path.name}); learn from the fits under "
            "the inference prior, or the prior would be counted twice"
        )
    check_names(options.names, config)
    named = {name: source.columns[name] for name in weights}
    combined = combine_weights(named, len(source), "raise", source.columns["TARGETID"], source.label)
    weight = likelihood_weights(combined.weight)
    z = np.asarray(source.columns["Z"], dtype=np.float64)
    z_range, scaling = (float(z.min()), float(z.max())), (float(z.mean()), max(float(z.std()), 0.02))
    say(rows.sentence())
    coordinates, base = inference_prior(config, options.names, z_range, scaling, options.seed, options.n_prior)
    say(f"the inference prior of {', '.join(options.names)} is tabulated")
    with Scratch(0 if labour.folder else options.in_memory, labour.folder) as scratch:
        scaled, conversion = (z - scaling[0]) / scaling[1], Conversion(coordinates, base, options.n_draws)
        table = read_draws(source, weight, conversion, scaled, scratch, labour.each)
        halves = tuple(learn_half(table.half(k), k, options, say, labour.each) for k in (0, 1))
        judged = [judge_half(table.half(k), halves[1 - k]) for k in (0, 1)]
    prior = LearntPrior(coordinates, base, (halves[0], halves[1]), scaling[0], scaling[1], z_range, meaning_of(config))
    found = provenance(source, rows, config, options) | report(judged)
    normalisation = [round(_normalisation(prior, k, config, options.seed), 3) for k in (0, 1)]
    return Learnt(replace(prior, provenance=found | {"normalisation": normalisation}), rows)


def usable(source: Source) -> tuple[Source, RowSelection]:
    """Galaxies that a prior may be learnt from: CONVERGED, FLAG 0, with a redshift.

    Parameters
    ----------
    source
        With the column FLAG.

    Returns
    -------
    source, rows
        The galaxies kept; counts of the others by reason.

    Raises
    ------
    InputError
        When fewer than `LEAST_GALAXIES` are left.
    """
    c = source.columns
    rows = fitted_rows(c["STATUS"], c["N_SAMPLES"])
    rows.drop(np.asarray(c["FLAG"], dtype=np.float64) != 0, "with FLAG set")
    z = np.asarray(c["Z"], dtype=np.float64)
    rows.drop(~(np.isfinite(z) & (z > 0)), "without a redshift")
    halves = np.bincount(half_of(np.asarray(c["TARGETID"], dtype=np.int64))[rows.keep], minlength=2)
    if 2 * halves.min() < LEAST_GALAXIES:
        raise InputError(
            f"{source.label}: {rows.n_used} galaxies are left ({halves[0]} and {halves[1]} in the halves), of which no "
            f"population can be learnt; take {LEAST_GALAXIES} or more (left out: {rows.reasons})"
        )
    return source.take(np.flatnonzero(rows.keep)), rows


def learn_half(
    table: DrawTable,
    half: int,
    options: LearnOptions,
    say: Callable[[str], None] = lambda _: None,
    each: Each = map,
) -> tuple[Mixture, ...]:
    """The members of one half: mixtures of bootstraps of its galaxies.

    Parameters
    ----------
    table
        Its galaxies.
    half
        Its number.
    options
        Sizes and seed.
    say
        Takes sentences of progress.
    each
        Who sums over pieces of many galaxies.

    Returns
    -------
    tuple of Mixture
        `LearnOptions.n_member` of them.
    """
    n = len(table)
    k = options.n_component or int(np.clip(n // PER_COMPONENT, 1, MOST_COMPONENTS))
    few = list(table.part(thin(n, FEW)))  # small enough to stay in memory
    mixture, score = maximise(begin(few, k, np.random.default_rng([options.seed, half])), few, STEPS)
    totals = partial(totals_in_pieces, each=each)
    if n > FEW:
        mixture, score = maximise(mixture, table, STEPS_ALL, totals=totals)
    say(f"half {half}: {n} galaxies, {k} components, {score:+.3f} in ln evidence per galaxy")
    # galaxies are in the order of their TARGETIDs, so that their numbers do not depend on the shards
    rngs = [np.random.default_rng([options.seed, half, b]) for b in range(options.n_member)]
    blocks = table.weighted(np.stack([rng.poisson(1.0, n) for rng in rngs]).astype(np.float64))
    starts = [mixture] * options.n_member
    if n <= FEW:
        members = maximise_all(starts, list(blocks), STEPS_MEMBER)
    else:
        members = maximise_all(starts, blocks, STEPS_ALL, totals=totals)
    return tuple(member for member, _ in members)


def judge_half(table: DrawTable, members: Sequence[Mixture]) -> Judgement:
    """What a density says of galaxies that it was not learnt from.

    Parameters
    ----------
    table
        Galaxies.
    members
        Of the other half.

    Returns
    -------
    Judgement
        Of at most `N_JUDGED` galaxies.

    Raises
    ------
    InputError
        When draws of half of the galaxies are hardly effective.
    """
    gains, effective = [], []
    for block in table.part(thin(len(table), N_JUDGED)):
        good = np.isfinite(block.log_weight)
        number = np.maximum(good.sum(axis=1, keepdims=True), 1)
        over_base = np.where(good, block.log_weight + np.log(number), 0.0)
        ratios = [np.exp(with_background(log_density_of(m, block.y) + over_base)) for m in members]
        ratio = np.where(good, np.mean(ratios, axis=0), 0.0)
        gains.append(np.log(ratio.sum(axis=1) / number[:, 0]))
        effective.append(ratio.sum(axis=1) ** 2 / np.maximum((ratio**2).sum(axis=1), 1e-300))
    n_effective = np.concatenate(effective)
    if np.median(n_effective) < REFUSED_EFFECTIVE:
        raise InputError(
            f"half of the galaxies rest on fewer than {REFUSED_EFFECTIVE:g} effective draws, which determine no "
            "population; keep more draws of each galaxy (n_samples), or fit under a wider prior"
        )
    return Judgement(float(np.mean(np.concatenate(gains))), n_effective)


def report(judged: Sequence[Judgement]) -> dict[str, object]:
    """Effective draws and evidence, in numbers that are kept with the prior."""
    n_effective = np.concatenate([j.n_effective for j in judged])
    return {
        "gain_of_other_half": [round(j.gain, 4) for j in judged],
        "effective_draws": [round(float(q), 1) for q in np.quantile(n_effective, (0.05, 0.5))],
        "collapsed": round(float(np.mean(n_effective < LEAST_EFFECTIVE)), 4),
    }


def provenance(source: Source, rows: RowSelection, config: FitConfig, options: LearnOptions) -> dict[str, object]:
    """Where a prior is from: kept in its file.

    Parameters
    ----------
    source
        Galaxies that were used.
    rows
        Which those are.
    config
        Of their fits.
    options
        How it was learnt.
    """
    shards = ",".join(f"{name}:{sha256}" for name, sha256 in sorted(source.shards.items()))
    stars = stars_of(config.model)
    half = half_of(np.asarray(source.columns["TARGETID"], dtype=np.int64))
    return {
        "catalog": Path(source.label).name,
        "catalog_sha256": hashlib.sha256(shards.encode()).hexdigest(),
        "galaxies": [int((half == k).sum()) for k in (0, 1)],
        "left_out": rows.excluded,
        "imf": stars.imf,
        "library_sha256": stars.digest(),
        "draws": options.n_draws,
        "members": options.n_member,
        "seed": options.seed,
        "versions": dict(versions()),
    }


def _normalisation(prior: LearntPrior, half: int, config: FitConfig, seed: int, n: int = 20_000) -> float:
    """Mean of learnt over inference prior over draws of the latter, which is 1 where both densities are right."""
    z = 0.5 * sum(prior.z_range)
    drawn = draw_values(config, prior.names, z, n, [seed, 99, half])
    y = prior.points(drawn[:, None], np.full(n, z))[:, 0]
    base = prior.base.log_density(y)
    ratios = [np.exp(with_background(m.log_density(y) - base)) for m in prior.halves[half]]
    return float(np.mean(ratios))
