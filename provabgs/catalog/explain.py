"""Why two catalogs differ: a sample of galaxies is fitted again under the other's conventions, one after another.

The mean offset of our catalog from another is split into what each convention adds. With v_0 our values, v_k those of
fits under the first k conventions of the other, and t the other's values in our units,

    mean(v_0 - t) = sum_k mean(v_(k-1) - v_k) + mean(v_K - t)

over the galaxies of which every fit gave a value. The last term is what the conventions leave: the other's code, its
library, what our configuration cannot express. The parts depend on the order of the conventions. The first part,
``repeat``, is of fits under our own configuration with another seed: the noise of the sampler.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.table import Table

from provabgs.catalog.conventions import Layout
from provabgs.catalog.offsets import Comparison, our_column
from provabgs.catalog.query import Catalog
from provabgs.catalog.shard import read_shard, write_shard
from provabgs.core.arrays import FloatArray, IntArray
from provabgs.core.config import check_config
from provabgs.core.errors import DataFileError, InputError
from provabgs.inference.config import FitConfig
from provabgs.inference.fit import fit_one
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation

REPEAT, REST, TOTAL = "repeat", "rest", "total"
Progress = Callable[[str, int, int], None]


class Step(NamedTuple):
    """Our configuration with the other's conventions up to one of them.

    Attributes
    ----------
    part
        The convention.
    config
        Of the fits.
    """

    part: str
    config: FitConfig


def steps_of(config: FitConfig, layout: Layout) -> list[Step]:
    """Configurations from ours to the other's.

    Parameters
    ----------
    config
        Ours.
    layout
        Whose `refit` is laid over it, entry by entry; one that changes nothing is left out.

    Returns
    -------
    list of Step
        The first is ours.

    Raises
    ------
    InputError
        When the layout has no convention that a fit could follow.
    ConfigError
        For an option that does not exist.
    """
    if not layout.refit:
        raise InputError(f"{layout.name} names no conventions to fit under; give [[refit]] entries with --mapping")
    steps, options = [Step(REPEAT, config)], config.model_dump()
    for refit in layout.refit:
        options = _laid_over(options, refit.changes)
        changed = check_config(FitConfig, options, f"{layout.name}, refit {refit.part!r}")
        if changed != steps[-1].config:
            steps.append(Step(refit.part, changed))
    return steps


def _laid_over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options with others over them, table by table; null is a value."""
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = _laid_over(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged


def config_of(catalog: Catalog) -> FitConfig:
    """The one configuration of a catalog's fits.

    Raises
    ------
    InputError
        When it has several.
    """
    configs = json.loads(catalog.metadata.get("provabgs:configs", "[]"))
    if len(configs) != 1:
        raise InputError(f"the catalog has fits of {len(configs)} configurations; --explain needs fits of one")
    return FitConfig.model_validate_json(configs[0])


def sample(found: Sequence[Comparison], n: int) -> IntArray:
    """Galaxies spread evenly over the masses of those that every quantity can be compared of.

    Parameters
    ----------
    found
        From `provabgs.catalog.offsets.compare`.
    n
        How many; all where there are fewer.

    Returns
    -------
    numpy.ndarray
        TARGETIDs.

    Raises
    ------
    InputError
        When there is none.
    """
    ids = found[0].targetid
    for c in found[1:]:
        ids = np.intersect1d(ids, c.targetid)
    if not ids.size:
        raise InputError("no galaxy has every quantity in both catalogs")
    place = {int(t): i for i, t in enumerate(found[0].targetid)}
    mass = found[0].against["LOGMSTAR"][[place[int(t)] for t in ids]]
    ordered = ids[np.lexsort((ids, mass))]
    return np.sort(ordered[np.unique(np.linspace(0, ids.size - 1, min(n, ids.size)).round().astype(int))])


def refit(
    steps: Sequence[Step],
    targetids: IntArray,
    data: Callable[[int], Observation],
    folder: Path,
    *,
    seed: int = 1,
    progress: Progress | None = None,
    fit: Callable[[Observation, FitConfig, int], Posterior] = fit_one,
) -> Iterator[Path]:
    """Fit a sample under each configuration; what is in the folder already is not fitted again.

    Parameters
    ----------
    steps
        From `steps_of`.
    targetids
        Galaxies.
    data
        TARGETID to observation.
    folder
        Where each fit is kept, complete or absent; made when missing.
    seed
        Of the fits; another than the catalog's, so that `REPEAT` shows the sampler's noise.
    progress
        Told what is fitted, how many fits are done, and of how many.
    fit
        What fits an observation.

    Yields
    ------
    pathlib.Path
        File of each fit, by step and galaxy.
    """
    done, total = 0, len(steps) * len(targetids)
    for number, (part, config) in enumerate(steps):
        for targetid in targetids.tolist():
            if progress is not None:
                progress(f"{part}: {targetid}", done, total)
            path = folder / f"{number}-{part.replace(' ', '-')}" / f"{targetid}.h5"
            if not _is_of(path, config):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_shard(path, [fit(data(targetid), config, seed)], encoding="float32")
            done += 1
            yield path
    if progress is not None:
        progress("fits", done, total)


def _is_of(path: Path, config: FitConfig) -> bool:
    """Whether a fit under this configuration is there; one under another, or a damaged one, is made anew."""
    try:
        (posterior,) = read_shard(path)
        return FitConfig.model_validate_json(posterior.config) == config
    except (DataFileError, ValueError, OSError):
        return False


def split(found: Sequence[Comparison], steps: Sequence[Step], targetids: IntArray, files: Sequence[Path]) -> Table:
    """The mean offset of each quantity, and the parts that add up to it.

    Parameters
    ----------
    found
        From `provabgs.catalog.offsets.compare`.
    steps, targetids, files
        From `steps_of`, `sample` and `refit`.

    Returns
    -------
    Table
        QUANTITY, PART, MEAN (ours before minus after the convention), MEAN_ERR (its standard error over the galaxies)
        and N. Units and definitions that were converted come first, `REST` and `TOTAL` last; the parts add up to the
        total, over the N galaxies of which every fit gave a value. ``meta["INCOMPLETE"]`` counts the others, by
        quantity; ``meta["NOT_CONVERGED"]`` fits that are used all the same, by step.
    """
    values, unconverged = _values([c.quantity for c in found], len(steps), targetids, files)
    rows: list[tuple[str, str, float, float, int]] = []
    incomplete: dict[str, int] = {}
    for c in found:
        at = np.searchsorted(np.sort(c.targetid), targetids)
        place = np.argsort(c.targetid)[at]
        chain = np.vstack([c.ours[place], values[c.quantity], c.theirs[place]])
        good = np.isfinite(chain).all(axis=0)
        incomplete[c.quantity] = int((~good).sum())
        converted = {name: step[place] for name, step in c.steps.items() if np.any(step != 0)}
        parts = {f"{name}, converted": step for name, step in converted.items()}
        parts |= {step.part: chain[k] - chain[k + 1] for k, step in enumerate(steps)}
        parts |= {REST: chain[-2] - chain[-1]}
        parts |= {TOTAL: np.sum([chain[0] - chain[-1], *converted.values()], axis=0)}
        rows += [(c.quantity, name, *_mean(part[good])) for name, part in parts.items()]
    table = Table(rows=rows, names=("QUANTITY", "PART", "MEAN", "MEAN_ERR", "N"))
    table.meta["INCOMPLETE"] = incomplete
    table.meta["NOT_CONVERGED"] = {s.part: n for s, n in zip(steps, unconverged, strict=True) if n}
    return table


def _values(
    quantities: list[str], n_steps: int, targetids: IntArray, files: Sequence[Path]
) -> tuple[dict[str, FloatArray], list[int]]:
    """``(steps, n)`` of each quantity, NaN where a fit gave none; and how many fits of a step did not converge."""
    unconverged = []
    out = {q: np.full((n_steps, targetids.size), np.nan) for q in quantities}
    for step in range(n_steps):
        of_step = files[step * targetids.size : (step + 1) * targetids.size]
        with Catalog.open_files(of_step) as catalog:
            columns = {q: our_column(catalog, q) for q in quantities}
            unconverged.append(len(catalog.select("STATUS == 'NOT_CONVERGED'")))
            rows = catalog.table(["TARGETID", *(c for c in columns.values() if c is not None)])
        order = np.searchsorted(targetids, np.asarray(rows["TARGETID"]))
        for quantity, column in columns.items():
            if column is not None:
                out[quantity][step, order] = np.asarray(rows[column], dtype=np.float64)
    return out, unconverged


def _mean(values: FloatArray) -> tuple[float, float, int]:
    """Mean, its standard error, and number."""
    n = int(values.size)
    error = float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return (float(np.mean(values)) if n else float("nan")), error, n


def residual(table: Table) -> float:
    """How far the parts are from adding up to the totals: rounding, or a mistake.

    Parameters
    ----------
    table
        From `split`.
    """
    worst = 0.0
    for quantity in dict.fromkeys(table["QUANTITY"]):
        of_it = table[table["QUANTITY"] == quantity]
        parts = of_it["MEAN"][of_it["PART"] != TOTAL]
        worst = max(worst, abs(float(np.sum(parts) - of_it["MEAN"][of_it["PART"] == TOTAL][0])))
    return worst
