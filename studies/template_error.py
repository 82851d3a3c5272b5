"""Tables and figures of docs/studies/template_error.md.

Run, with libraries made by ``provabgs ssp build``::

    python -m studies.template_error --emiles emiles.h5 --bc03 bc03.h5 --figures docs/figures
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.data.build_template_error import (
    TRANSFER_NOISE,
    Composites,
    Difference,
    Perturbation,
    difference,
    draw,
    learn,
    left_over,
    perturbed,
    running_rms,
    wavelength_grid,
)
from provabgs.sps.imf import imf_light
from provabgs.sps.library import SSPLibrary
from studies.support.command import run_study, study_parser

REGIONS = (
    (2010, 3000),
    (3000, 3600),
    (3600, 4200),
    (4200, 5500),
    (5500, 7350),
    (7400, 8700),
    (8700, 11500),
    (11500, 25000),
    (25000, 50000),
)
SIZES = (5, 10, 15, 20, 25, 30, 40, 60)
"""Numbers of components of the table."""
LEVEL_AA = (4000, 9000)
FIT_AA = (3600, 8900)


def inside(wave: FloatArray, window: tuple[float, float]) -> NDArray[np.bool_]:
    """Mask of the grid within a window."""
    return (wave >= window[0]) & (wave < window[1])


def by_region(wave: FloatArray, d: FloatArray) -> str:
    """Rms of ``(n, nwave)`` by region, per cent, as cells of a table."""
    return " | ".join(f"{100 * np.sqrt((d[:, inside(wave, r)] ** 2).mean()):.2f}" for r in REGIONS)


def level(wave: FloatArray, d: FloatArray) -> FloatArray:
    """Median of ``(n, nwave)`` over `LEVEL_AA`: the difference in ln (light per mass)."""
    return np.median(d[:, inside(wave, LEVEL_AA)], axis=1)


def table_of_pairs(wave: FloatArray, pairs: list[Difference], imf: dict[str, float]) -> None:
    """What the libraries differ by."""
    print("\n| ln (L/M) | IMF expected | mean of the rest | scatter |\n|---|---|---|---|")
    for pair in pairs:
        x = level(wave, pair.d)
        expected = f"{imf[pair.name]:+.3f}" if pair.name in imf else "-"
        print(f"| {pair.name} | {expected} | {x.mean():+.3f} | {x.std():.3f} |")
    print(
        "\nrms of d, per cent: level included, level taken out, the mean of that over composites, structure below 50 A"
    )
    print("| pair | " + " | ".join(f"{a}-{b}" for a, b in REGIONS) + " |")
    for pair in pairs:
        shape = pair.d - level(wave, pair.d)[:, None]
        smooth = np.array([np.convolve(row, np.ones(41) / 41, mode="same") for row in pair.d])
        print(f"| {pair.name}, all | {by_region(wave, pair.d)} |")
        print(f"| {pair.name}, shape | {by_region(wave, shape)} |")
        print(f"| {pair.name}, mean shape | {by_region(wave, shape.mean(axis=0, keepdims=True))} |")
        print(f"| {pair.name}, fine structure | {by_region(wave, pair.d - smooth)} |")


def table_of_components(
    wave: FloatArray, train: list[Difference], extra: Difference, test: list[Difference], sizes: Sequence[int]
) -> None:
    """What K components leave of fresh composites."""
    print("\nleft by K components, per cent")
    both = np.concatenate([t.d for t in test])
    for k in sizes:
        modes, eigenvalues = learn(train, extra, wave, k)
        left = 1 - eigenvalues[:k].sum() / eigenvalues.sum()
        print(f"| {k} | {left:.1e} | {by_region(wave, left_over(modes, both)[0])} |")


def mass_pull(wave: FloatArray, modes: FloatArray, d: FloatArray, floor: FloatArray) -> tuple[float, float, float]:
    """Error of ln mass at fixed other parameters: rms, its quoted sigma, and rms of their ratio.

    A free scale is fitted to `FIT_AA` together with the components under their prior, at `TRANSFER_NOISE` and `floor`.
    """
    window = inside(wave, FIT_AA)
    design = np.vstack([modes[:, window], np.ones(window.sum())]).T
    weight = 1 / (TRANSFER_NOISE**2 + floor[window] ** 2)
    prior = np.diag(np.append(np.ones(len(modes)), 0.0))
    covariance = np.linalg.inv(design.T @ (design * weight[:, None]) + prior)
    error = (covariance @ (design.T @ (d[:, window] * weight).T))[-1]
    sigma = float(np.sqrt(covariance[-1, -1]))
    return float(np.sqrt((error**2).mean())), sigma, float(np.sqrt((error**2).mean()) / sigma)


def table_of_transfer(
    wave: FloatArray, train: list[Difference], extra: Difference, test: list[Difference], k: int
) -> None:
    """How components learnt without a library describe it, with and without the perturbed part."""
    print(
        f"\nheld-out library, {k} components: left by region and at 3600-8900 A fitted alone, per cent; "
        "largest rms coefficient; their sum of squares; error of log mass +- its sigma (rms pull)"
    )
    window = inside(wave, FIT_AA)
    for i, held in enumerate(test):
        others = [t for j, t in enumerate(train) if j != i]
        for name, pairs, more in (
            ("all", train, extra),
            ("without", others, extra),
            ("without, no perturbation", others, None),
        ):
            modes, _ = learn(pairs, more, wave, k)
            residual, _ = left_over(modes, held.d)
            optical, c = left_over(modes[:, window], held.d[:, window])
            floor = running_rms(residual)
            error, sigma, pull = mass_pull(wave, modes, held.d, floor)
            print(
                f"| {held.name}, {name} | {by_region(wave, residual)} | {100 * np.sqrt((optical**2).mean()):.2f} | "
                f"{np.sqrt((c**2).mean(axis=0)).max():.1f} | {np.median((c**2).sum(axis=1)):.0f} | "
                f"{error / np.log(10):.3f} +- {sigma / np.log(10):.3f} ({pull:.2f}) |"
            )


def figure_of_differences(wave: FloatArray, pairs: list[Difference], path: Path) -> None:
    """Mean difference and its rms by wavelength for each pair."""
    figure, axes = plt.subplots(len(pairs), 1, figsize=(9, 2.5 * len(pairs)), sharex=True, layout="constrained")
    for axis, pair in zip(axes, pairs, strict=True):
        shape = pair.d - level(wave, pair.d)[:, None]
        low, mid, high = np.quantile(shape, (0.16, 0.5, 0.84), axis=0)
        axis.fill_between(wave, low, high, color="C0", alpha=0.35, lw=0, label="68 % of composites")
        axis.plot(wave, mid, color="C0", lw=0.6, label="median")
        axis.plot(wave, running_rms(shape), color="k", lw=1.0, label="rms")
        axis.set(ylabel="ln L - ln L(FSPS)", ylim=(-0.45, 0.45), title=pair.name)
        axis.axhline(0, color="0.6", lw=0.5)
    axes[0].legend(ncol=3, fontsize=8)
    axes[-1].set(xscale="log", xlabel="rest wavelength [Angstrom]", xlim=(2000, 60000))
    ticks = (2000, 3000, 4000, 6000, 10000, 20000, 50000)
    axes[-1].set_xticks(ticks, [str(t) for t in ticks])
    axes[-1].minorticks_off()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def figure_of_components(wave: FloatArray, modes: FloatArray, curves: dict[str, FloatArray], path: Path) -> None:
    """The first components, and what is left by wavelength."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(9, 7), sharex=True, layout="constrained")
    for i in range(6):
        top.plot(wave, modes[i] - 0.4 * i, lw=0.7, label=f"{i + 1}")
        top.axhline(-0.4 * i, color="0.7", lw=0.4)
    top.set(ylabel="component (offset by 0.4 each)")
    top.legend(ncol=6, fontsize=8)
    total = np.sqrt((modes**2).sum(axis=0))
    bottom.plot(wave, total, color="k", lw=1.0, label="prior sigma of all components")
    for name, values in curves.items():
        bottom.plot(wave, values, lw=1.0, label=name)
    bottom.set(
        yscale="log", xscale="log", ylabel="rms of ln L", xlabel="rest wavelength [Angstrom]", xlim=(2000, 60000)
    )
    ticks = (2000, 3000, 4000, 6000, 10000, 20000, 50000)
    bottom.set_xticks(ticks, [str(t) for t in ticks])
    bottom.minorticks_off()
    bottom.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def other_libraries(options: argparse.Namespace, ours: SSPLibrary) -> dict[str, SSPLibrary]:
    """The two libraries; for ``--smoke`` ours, redder or bluer, in their place."""
    if options.emiles is not None and options.bc03 is not None:
        return {"E-MILES": SSPLibrary.load(options.emiles), "BC03": SSPLibrary.load(options.bc03)}
    x = np.log(ours.wave / 5500.0)
    tilted = {"E-MILES": 1 + 0.05 * x, "BC03": 1 - 0.03 * np.sin(3 * x)}
    return {name: replace(ours, spectrum=(ours.spectrum * t).astype(np.float32)) for name, t in tilted.items()}


def work(options: argparse.Namespace) -> None:
    """Print the tables, draw the figures."""
    ours = SSPLibrary.default()
    others = other_libraries(options, ours)
    wave, sigma = wavelength_grid(ours.wave[0], ours.wave[-1])
    draws, fresh = draw(options.draws, 17), draw(options.draws // 4, 18)
    mine = Composites(ours, wave, sigma)
    made = {name: Composites(library, wave, sigma) for name, library in others.items()}
    train = [difference(mine, c, name, draws) for name, c in made.items()]
    test = [difference(mine, c, name, fresh) for name, c in made.items()]
    cross = difference(made["BC03"], made["E-MILES"], "E-MILES - BC03", draws)
    extra = perturbed(mine, draws, Perturbation(), 19)
    imf = {name: imf_light(library.imf) - imf_light(ours.imf) for name, library in others.items()}
    k = options.components
    table_of_pairs(wave, [*train, cross, extra], imf)
    table_of_components(wave, train, extra, test, SIZES if k >= 30 else (k,))
    for n in sorted({min(20, k), k}):
        table_of_transfer(wave, train, extra, test, n)
    if not options.figures:
        return
    figure_of_differences(wave, [*train, extra], options.figures / "template_error_differences.png")
    modes, _ = learn(train, extra, wave, k)
    curves = {f"left of {t.name}, all libraries": running_rms(left_over(modes, t.d)[0]) for t in test}
    for i, held in enumerate(test):
        without, _ = learn([t for j, t in enumerate(train) if j != i], extra, wave, k)
        curves[f"left of {held.name}, learnt without it"] = running_rms(left_over(without, held.d)[0])
    figure_of_components(wave, modes, curves, options.figures / "template_error_components.png")


def main() -> None:
    """Parse the command line and run."""
    parser = study_parser("studies.template_error", __doc__)
    parser.add_argument("--emiles", type=Path, help="library of E-MILES; only --smoke goes without")
    parser.add_argument("--bc03", type=Path, help="library of BC03")
    parser.add_argument("--draws", type=int, default=800)
    parser.add_argument("--components", type=int, default=30)
    run_study(parser, work, {"draws": 24, "components": 6}, needs=("emiles", "bc03"))


if __name__ == "__main__":
    main()
