"""Tables of posteriors before and after a learnt prior: bias, coverage, and widths of distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import BoolArray, FloatArray, IntArray
from provabgs.core.weights import weighted_quantiles
from provabgs.inference.learnt import LEAST_EFFECTIVE, LearntPrior
from provabgs.population.learnt.apply import reweight_draws
from studies.support.drawn_fits import KeptFits

QUANTILES = (0.025, 0.16, 0.5, 0.84, 0.975)


class Regime(NamedTuple):
    """Galaxies of which a bias is reported: a property, and the range of its true value."""

    label: str
    name: str
    low: float = -25.0
    high: float = 25.0


REGIMES = (
    Regime("log mass formed", "LOGMSTAR_FORMED"),
    Regime("log mass formed, below 10", "LOGMSTAR_FORMED", high=10.0),
    Regime("log SFR, 1 Gyr", "LOGSFR_1GYR"),
    Regime("log SFR, 1 Gyr, below -1", "LOGSFR_1GYR", high=-1.0),
    Regime("log metallicity", "LOGZ_MW"),
    Regime("age", "T_AGE_MW"),
    Regime("age, below 5 Gyr", "T_AGE_MW", high=5.0),
)
WIDTHS = ("LOGMSTAR_FORMED", "LOGSSFR_1GYR", "LOGZ_MW", "T_AGE_MW")


class Stage(NamedTuple):
    """Posteriors of the same galaxies under one prior."""

    label: str
    draws: Mapping[str, FloatArray]
    """``(n, S)`` per property."""
    weight: FloatArray
    """``(n, S)``, each galaxy's 1 in sum; 0 for draws that are not there."""


class Stages(NamedTuple):
    """Posteriors before and after."""

    stages: tuple[Stage, ...]
    """Under the prior of the fits; reweighted; and, with refits, these in place of weights that collapsed."""
    n_effective: FloatArray
    """``(n,)`` effective draws after reweighting."""

    @property
    def collapsed(self) -> BoolArray:
        """Galaxies that ask for a fit under the learnt prior."""
        return self.n_effective < LEAST_EFFECTIVE

    def take(self, rows: IntArray) -> Stages:
        """Some of the galaxies."""
        stages = tuple(Stage(s.label, {k: v[rows] for k, v in s.draws.items()}, s.weight[rows]) for s in self.stages)
        return Stages(stages, self.n_effective[rows])


def stages_of(fits: KeptFits, prior: LearntPrior) -> Stages:
    """Galaxies before and after reweighting.

    Parameters
    ----------
    fits
        Under the prior of the fits.
    prior
        Learnt; each galaxy gets the half that it is not in.
    """
    values = np.stack([fits.draws[n] for n in prior.names], axis=-1)
    found = reweight_draws(prior, values, fits.columns["Z"], fits.columns["TARGETID"])
    stages = (Stage("before", fits.draws, even_weights(fits)), Stage("reweighted", fits.draws, found.weight))
    return Stages(stages, found.n_effective)


def with_refits(stages: Stages, refits: KeptFits, rows: Sequence[int]) -> Stages:
    """A further stage, in which fits under the learnt prior take the place of collapsed weights.

    Parameters
    ----------
    stages
        From `stages_of`.
    refits
        Under the learnt prior; those that are not CONVERGED do not count.
    rows
        ``(m,)`` which galaxies these are.
    """
    last = stages.stages[-1]
    good = np.flatnonzero(refits.columns["STATUS"] == 0)
    at = np.asarray(rows, dtype=np.int64)[good]
    draws = {name: v.copy() for name, v in last.draws.items()}
    for name, values in draws.items():
        values[at] = refits.draws[name][good]
    weight = last.weight.copy()
    weight[at] = even_weights(refits)[good]
    return stages._replace(stages=(*stages.stages, Stage("with refits", draws, weight)))


def even_weights(fits: KeptFits) -> FloatArray:
    """The same weight for all draws that are there."""
    there = ~np.isnan(fits.draws["T_AGE_MW"])
    return np.where(there, 1.0, 0.0) / np.maximum(there.sum(axis=1, keepdims=True), 1)


def row_of(regime: Regime, stages: Sequence[Stage], truth: FloatArray) -> str:
    """One row: median offset, half of its central 68 %, coverage of 68 and 95 %, median sigma; stage by stage."""
    use = np.isfinite(truth) & (truth > regime.low) & (truth < regime.high)
    if use.sum() < 3:
        return f"| {regime.label} | {int(use.sum())} | | | | | |"
    cells: list[list[str]] = [[] for _ in range(5)]
    t = truth[use]
    for stage in stages:
        q = weighted_quantiles(np.asarray(stage.draws[regime.name])[use], stage.weight[use], QUANTILES)
        off = q[:, 2] - t
        numbers = (
            f"{np.median(off):+.2f}",
            f"{0.5 * np.diff(np.quantile(off, (0.16, 0.84)))[0]:.2f}",
            f"{100 * np.mean((t > q[:, 1]) & (t < q[:, 3])):.0f}",
            f"{100 * np.mean((t > q[:, 0]) & (t < q[:, 4])):.0f}",
            f"{np.median(q[:, 3] - q[:, 1]) / 2:.2f}",
        )
        for cell, number in zip(cells, numbers, strict=True):
            cell.append(number)
    return f"| {regime.label} | {int(use.sum())} | " + " | ".join(" / ".join(c) for c in cells) + " |"


def header(stages: Sequence[Stage]) -> str:
    """Of the table of regimes."""
    order = " / ".join(s.label for s in stages)
    return (
        f"Cells: {order}.\n\n| regime | galaxies | bias | scatter | within 68 % | within 95 % | sigma |\n"
        "|---|---|---|---|---|---|---|"
    )


def pooled(stage: Stage, name: str) -> tuple[FloatArray, FloatArray]:
    """Draws of all galaxies of one property, and their weights; infinite ones have none."""
    values = np.asarray(stage.draws[name])
    there = np.isfinite(values)
    return np.where(there, values, 0.0), np.where(there, stage.weight, 0.0)


def width(values: FloatArray, weight: FloatArray) -> float:
    """Half of the central 68 % of a weighted sample."""
    order = np.argsort(values.ravel())
    share = np.cumsum(weight.ravel()[order])
    low, high = np.interp((0.16, 0.84), share / share[-1], values.ravel()[order])
    return float(0.5 * (high - low))


def widths_of(stages: Sequence[Stage], truth: Mapping[str, FloatArray]) -> str:
    """Markdown: widths of the distributions of some properties: true, and of all draws at each stage.

    Parameters
    ----------
    stages
        Posteriors.
    truth
        ``(n,)`` per property.
    """
    labels = ["true", *(s.label for s in stages)]
    lines = [f"| width of the distribution of | {' | '.join(labels)} |\n|---|{'---|' * len(labels)}"]
    for name in WIDTHS:
        true = truth[name][np.isfinite(truth[name])]
        numbers = [width(true, np.ones(true.size)), *(width(*pooled(s, name)) for s in stages)]
        lines.append(f"| {name} | " + " | ".join(f"{x:.2f}" for x in numbers) + " |")
    return "\n".join(lines)


def tables_of(found: Stages, truth: Mapping[str, FloatArray]) -> str:
    """Both tables, and a sentence on effective draws.

    Parameters
    ----------
    found
        Posteriors before and after.
    truth
        ``(n,)`` per property.
    """
    lines = [header(found.stages), *(row_of(r, found.stages, truth[r.name]) for r in REGIMES), ""]
    lines += [widths_of(found.stages, truth), ""]
    lines.append(
        f"{len(found.n_effective)} galaxies; median {np.median(found.n_effective):.0f} effective draws, "
        f"{int(found.collapsed.sum())} galaxies below {LEAST_EFFECTIVE:g}"
    )
    return "\n".join(lines)
