"""Figures of docs/studies/honest.md from the fits that `studies.honest_posteriors` kept.

    python -m studies.honest_figures -o FOLDER --figures docs/figures

Distribution of the rank of the truth within each posterior, by kind of galaxy and preset, against the uniform
distribution that calibrated posteriors have; and offsets from the truth by S/N. Nothing is fitted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from studies.honest_posteriors import MAKERS, PROPERTIES, UNSEEN, known
from studies.support.command import run_study, study_parser
from studies.support.lgalaxies_galaxies import LGALAXIES
from studies.support.pieces import Arrays, kept_arrays

LABELS = {
    "logmstar": "mass formed",
    "logmstar_surviving": "mass surviving",
    "log_sfr_100myr": "SFR, 100 Myr",
    "log_sfr_1gyr": "SFR, 1 Gyr",
    "log_z_mw": "metallicity",
    "t_age_mw": "age",
}
COLOURS = {"own": "#0072B2", "bc03": "#D55E00", "emiles": "#009E73"}
"""Of Okabe and Ito: told apart by colour-blind people, too."""
SIMULATED = "#CC79A7"
"""Galaxies of a simulation, whatever their stars."""
STYLES = {"honest": "-", "published": ":"}
KINDS = {"own": "shipped stars", "bc03": "BC03", "emiles": "E-MILES"}
KOLMOGOROV_95 = 1.358


def kept(folder: Path) -> dict[tuple[str, str, str], list[Arrays]]:
    """Fits by kind, histories and preset.

    Raises
    ------
    InputError
        When the folder holds none.
    """
    out = {}
    for kind in UNSEEN:
        for histories in MAKERS:
            for preset in STYLES:
                paths = sorted((folder / f"{kind}-{histories}" / preset).glob("[0-9]*.npz"))
                rows = [dict(np.load(path, allow_pickle=False)) for path in paths if not path.stem.endswith(".part")]
                if rows:
                    out[kind, histories, preset] = rows
    if not out:
        raise InputError(f"{folder}: no fits here; `python -m studies.honest_posteriors -o {folder}` makes them")
    return out


def ranks(rows: list[Arrays], name: str) -> FloatArray:
    """Sorted ranks of the truth."""
    values, counts = known(rows, name)
    return np.sort(values[1, counts])


def draw_ranks(axis: Axes, rows: list[Arrays], name: str, colour: str, style: str, label: str) -> None:
    """Fraction of galaxies at or below each rank, less the uniform expectation."""
    rank = ranks(rows, name)
    if not rank.size:
        return
    x = np.linspace(0, 1, 201)
    axis.plot(x, np.searchsorted(rank, x, side="right") / rank.size - x, style, color=colour, lw=1.4, label=label)


def coverage_figure(fits: dict[tuple[str, str, str], list[Arrays]], path: Path) -> None:
    """One row per source of histories, one column per property.

    Parameters
    ----------
    fits
        From `kept`.
    path
        File to write.
    """
    sources = [h for h in MAKERS if any(key[1] == h for key in fits)]
    shape = (len(sources), len(PROPERTIES))
    figure, axes = plt.subplots(*shape, figsize=(14, 1 + 2.6 * len(sources)), sharex=True, sharey=True, squeeze=False)
    for row, histories in zip(axes, sources, strict=True):
        here = {key: rows for key, rows in fits.items() if key[1] == histories}
        band = KOLMOGOROV_95 / np.sqrt(max(len(rows) for rows in here.values()))
        for axis, name in zip(row, PROPERTIES, strict=True):
            axis.axhspan(-band, band, color="0.9", zorder=0)
            axis.axhline(0, color="0.6", lw=0.8)
            for (kind, _, preset), rows in here.items():
                draw_ranks(axis, rows, name, COLOURS[kind], STYLES[preset], f"{KINDS[kind]}, {preset} ({len(rows)})")
            axis.set_ylim(-0.55, 0.55)
        row[0].set_ylabel(f"{histories} histories")
        row[-1].legend(fontsize=6, loc="lower left")
    for axis, name in zip(axes[0], PROPERTIES, strict=True):
        axis.set_title(LABELS[name], fontsize=10)
    figure.supxlabel("rank of the truth within the posterior")
    figure.supylabel("fraction at or below, less uniform")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def offsets_figure(fits: dict[tuple[str, str, str], list[Arrays]], path: Path) -> None:
    """Posterior median less truth, with 68 % intervals, by S/N; preset "honest".

    Parameters
    ----------
    fits
        From `kept`.
    path
        File to write.
    """
    chosen = {key: rows for key, rows in fits.items() if key[2] == "honest" and key[1] != "prior"} or fits
    figure, axes = plt.subplots(2, 3, figsize=(12, 6), sharex=True)
    for axis, name in zip(axes.flat, PROPERTIES, strict=True):
        for (kind, histories, _), rows in chosen.items():
            values, good = known(rows, name)
            truth, _, median, sigma = values[:, good]
            mark, colour = ("s", SIMULATED) if histories == LGALAXIES else ("o", COLOURS[kind])
            style = {"fmt": mark, "ms": 3, "lw": 0.5, "alpha": 0.6, "color": colour}
            label = f"{KINDS[kind]}, {histories}"
            sn = np.array([float(r["sn"]) for r in rows])[good]
            axis.errorbar(sn, median - truth, sigma, label=label, **style)
        axis.axhline(0, color="0.3", lw=0.8)
        axis.set_xscale("log")
        limit = 6.0 if name == "t_age_mw" else 1.2
        axis.set_ylim(-limit, limit)
        axis.set_title(LABELS[name] + (", Gyr" if name == "t_age_mw" else ", dex"), fontsize=10)
    axes[0, 0].legend(fontsize=7)
    figure.supxlabel("S/N per pixel, r camera")
    figure.supylabel("posterior median less truth")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def work(options: argparse.Namespace) -> None:
    """Draw both figures and say how many fits they hold."""
    if options.smoke:
        _made_up(options.output)
    fits = kept(options.output)
    for (kind, histories, preset), rows in fits.items():
        print(f"{kind} stars, {histories} histories, preset {preset}: {len(rows)} galaxies")
    if options.figures:
        coverage_figure(fits, options.figures / "honest_coverage.png")
        offsets_figure(fits, options.figures / "honest_offsets.png")


def _made_up(folder: Path) -> None:
    """A few calibrated results, for ``--smoke``."""
    rng = np.random.default_rng(0)
    where = folder / "own-foreign" / "honest"
    for i in range(8):
        sigma = rng.uniform(0.1, 0.3, len(PROPERTIES))
        pull = rng.standard_normal(len(PROPERTIES))
        rows = np.stack([np.full(sigma.size, 10.0), rng.uniform(size=sigma.size), 10 + pull * sigma, sigma], axis=1)
        arrays = {"sn": np.asarray(10.0), **dict(zip(PROPERTIES, rows, strict=True))}
        kept_arrays(where / f"{i}.npz", arrays.copy)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = study_parser("studies.honest_figures", __doc__)
    parser.set_defaults(output=parser.get_default("output").with_name("honest_posteriors"))
    run_study(parser, work, {}, argv)


if __name__ == "__main__":
    main()
