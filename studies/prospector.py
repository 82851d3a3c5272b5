"""Our posterior beside Prospector's for the same data: the figure and table of docs/studies/prospector.md.

    python -m studies.prospector --workers 2 --figures docs/figures

The data are two mock spectra of an Illustris galaxy (S/N 100 a pixel, 3800-7100 A at rest, no gas) that Prospector's
authors made with FSPS and fitted with Prospector and dynesty (Johnson et al. 2021, arXiv:2012.01426; repository
bd-j/exspect): fourteen age bins with a Student-t prior on the ratios of neighbouring rates, and a delayed exponential.
Here the same bins, priors and dust are fitted. Prospector let stars be 13.7 Gyr old at redshift 0.1; so the spectrum is
moved to the redshift at which the universe has that age. Three fits of each: data translated into the light of the
library that ships, which tests model and sampler; data as they are, with no error of the library; and with the
preset ``honest``. Masses of the latter two are of Chabrier's IMF, Prospector's of Kroupa's.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import SOLAR_Z_PROVABGS
from provabgs.core.jax import jnp
from provabgs.core.weights import weighted_quantiles
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig, MeasureOptions, ModelOptions, SamplerOptions
from provabgs.inference.fit import fit_one
from provabgs.observe.cosmology import Cosmology
from provabgs.observe.options import ObservingOptions
from provabgs.sps.histories.bins import BinHistories
from studies.support.command import run_study
from studies.support.pieces import Arrays, kept_arrays
from studies.support.prospector_data import (
    AGE_GYR,
    FILES,
    N_BINS,
    TRUTH,
    edges_of,
    made_up,
    moved,
    rates,
    read,
    theirs,
    translated,
    true_history,
)
from studies.support.prospector_runs import comparison_parser, fit_all

SEED = 1
Z_SOLAR = SOLAR_Z_PROVABGS
"""The Z of ours that is the solar metallicity of the isochrones (docs/guide/model.md), 0.0190."""
LOGZ_RANGE = (-2.0, 0.2)
VARIANTS = ("translated", "fsps", "honest")
"""``translated``: data times the ratio of the truth under our library and under FSPS (their noise, our stars), errors
those of the pixels; ``fsps``: data as they are, errors those of the pixels; ``honest``: data as they are, preset."""


def config_of(name: str, variant: str, sampler: SamplerOptions) -> FitConfig:
    """Prospector's model and priors."""
    options: dict[str, Any] = {"metallicity": "constant"}
    if name == "bins":
        options |= {"n_bins": N_BINS, "prior": "continuity"}
    noise: dict[str, Any] = {} if variant == "honest" else {"noise": ()}
    return FitConfig(
        preset="honest" if variant == "honest" else "published",
        model=ModelOptions(history=name, history_options=options),
        observing=ObservingOptions(vdisp_kms="fit", line_mask="none", **noise),
        prior_bounds={
            "metallicity": (Z_SOLAR * 10 ** LOGZ_RANGE[0], Z_SOLAR * 10 ** LOGZ_RANGE[1]),
            "tau_bc": (0.0, 1e-4),
            "n_dust": (-1e-3, 1e-3),
        },
        sampler=sampler,
        measure=MeasureOptions(groups=()),
    )


def data_of(name: str, folder: Path | None) -> Arrays:
    """A mock; a small one of our own where there is no folder (``--smoke``)."""
    return made_up(name) if folder is None else read(name, folder)


def ours(name: str, variant: str, folder: Path | None, sampler: SamplerOptions) -> Arrays:
    """Fit, and keep draws of what is compared."""
    data, config = data_of(name, folder), config_of(name, variant, sampler)
    observation = moved(translated(data) if variant == "translated" else data)
    start = time.process_time()
    posterior = fit_one(observation, config, seed=SEED)
    cpu = time.process_time() - start
    out: dict[str, Any] = {"status": posterior.status.name, "message": posterior.message, "cpu": cpu}
    out |= {"n_eval": posterior.diagnostics.n_eval, "chi2": posterior.chi2_spec, "pixels": posterior.dof_spec}
    out |= {"logmass": posterior["logmstar"], "dust2": posterior["tau_ism"], "sigma_smooth": posterior["vdisp"]}
    out |= {"logzsol": np.log10(posterior["metallicity"] / Z_SOLAR), "age": posterior["t_age_mw"]}
    if name == "bins":
        histories = load_model(config.model).histories
        assert isinstance(histories, BinHistories)
        t_age = Cosmology("Planck13").age_gyr(observation.redshift)
        values = {p.name: jnp.asarray(posterior[p.name]) for p in histories.bins.parameters}
        share = histories.bins.shares(values, load_model(config.model).tables(t_age))
        out |= {"share": np.asarray(share), "edges": histories.bins.edges.at(t_age)}
    else:
        out |= {"tau": posterior["tau"], "tage": posterior["first_stars"] * AGE_GYR}
    return {k: np.asarray(v) for k, v in out.items()}


def kept(folder: Path, name: str, variant: str, reference: Path | None, sampler: SamplerOptions) -> Arrays:
    """`ours`, from its file where it is there."""
    return kept_arrays(folder / name / f"{variant}.npz", lambda: ours(name, variant, reference, sampler))


QUANTITIES = {
    "logmass": "log mass formed, relative",
    "logzsol": "log Z/Zsun",
    "dust2": "optical depth",
    "sigma_smooth": "dispersion, km/s",
    "age": "mass-weighted age, Gyr",
}


def line_of(label: str, draws: dict[str, FloatArray], weight: FloatArray | None, against: dict[str, Any]) -> str:
    """Median and error of each quantity, with its distance from Prospector's median in Prospector's errors."""
    cells = []
    for name in QUANTITIES:
        w = np.ones(draws[name].size) if weight is None else weight
        low, median, high = weighted_quantiles(draws[name][None], w[None], (0.16, 0.5, 0.84))[0]
        cells.append(f"{median:.3f} +- {0.5 * (high - low):.3f}")
        if name in against:
            cells[-1] += f" ({(median - against[name][0]) / against[name][1]:+.1f})"
    return f"| {label} | {' | '.join(cells)} |"


def rows_of(name: str, data: Arrays, fits: dict[str, Arrays]) -> list[str]:
    """The table of one mock."""
    other, age = theirs(name, data), true_history(data)[1]
    against = {}
    for q in QUANTITIES:
        low, median, high = weighted_quantiles(other[q][None], other["weight"][None], (0.16, 0.5, 0.84))[0]
        against[q] = (median, 0.5 * (high - low))
    truth = TRUTH | {"age": age}
    lines = [f"| {name} | " + " | ".join(QUANTITIES.values()) + " |", "|---|" + "---|" * len(QUANTITIES)]
    lines.append("| truth | " + " | ".join(f"{truth[q]:.3f}" for q in QUANTITIES) + " |")
    lines.append(line_of("Prospector", other, other["weight"], {}))
    lines += [line_of(variant, fit, None, against) for variant, fit in fits.items()]
    for variant, fit in fits.items():
        n_eval, cpu, theirs_s = int(fit["n_eval"]), float(fit["cpu"]), float(data["sampling_duration_s"])
        lines.append(
            f"{variant}: {fit['status']} {fit['message']}, {n_eval:,} evaluations, {cpu:.0f} s of processor time "
            f"(Prospector {theirs_s:,.0f} s), chi2 {float(fit['chi2']):.0f} of {fit['pixels']} pixels"
        )
    if name == "bins":
        lines += bin_lines(other, fits)
    return lines


def bin_lines(other: dict[str, FloatArray], fits: dict[str, Arrays]) -> list[str]:
    """Largest and median distance of the rates in the bins, in Prospector's errors."""
    edges, q = edges_of(), (0.16, 0.5, 0.84)
    weight = np.broadcast_to(other["weight"], (N_BINS, other["weight"].size))
    low, median, high = weighted_quantiles(rates(other["share"], edges).T, weight, q).T
    out = []
    for variant, fit in fits.items():
        ours = np.quantile(rates(fit["share"], fit["edges"]), q, axis=0)
        shift, width = np.abs(ours[1] - median) / (0.5 * (high - low)), (ours[2] - ours[0]) / (high - low)
        out.append(
            f"{variant}: rates in the bins differ by {np.median(shift):.2f} of Prospector's errors in the median, by "
            f"{shift.max():.2f} at most; errors are {np.median(width):.2f} of Prospector's"
        )
    return out


COLOURS = {"translated": "#0072B2", "fsps": "#D55E00", "honest": "#009E73"}
"""Of Okabe and Ito."""


def figure(data: Arrays, fits: dict[str, Arrays], path: Path) -> None:
    """Rates in the bins, ours beside Prospector's and the truth."""
    edges, other = edges_of(), theirs("bins", data)
    edge = np.maximum(edges, 1e-2)
    fig, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
    weight = np.broadcast_to(other["weight"], (N_BINS, other["weight"].size))
    low, median, high = weighted_quantiles(rates(other["share"], edges).T, weight, (0.16, 0.5, 0.84)).T
    axis.fill_between(edge, np.append(low, low[-1]), np.append(high, high[-1]), step="post", color="0.8")
    axis.step(edge, np.append(median, median[-1]), where="post", color="0.4", label="Prospector, 68 %")
    axis.step(
        edge, np.append(*2 * [rates(true_history(data)[0], edges)])[: N_BINS + 1], where="post", color="k", ls=":"
    )
    centre = np.sqrt(edge[1:] * edge[:-1])
    for i, (variant, fit) in enumerate(fits.items()):
        low, median, high = np.quantile(rates(fit["share"], fit["edges"]), (0.16, 0.5, 0.84), axis=0)
        x = centre * 10 ** (0.04 * (i - 1))
        axis.errorbar(x, median, [median - low, high - median], fmt="o", ms=4, color=COLOURS[variant], label=variant)
    axis.set(xscale="log", xlabel="lookback time (Gyr)", ylabel=r"log$_{10}$ SFR / mass formed (1/yr)")
    axis.legend(fontsize=8)
    fig.savefig(path / "prospector.png", dpi=150)
    plt.close(fig)


def work(options: argparse.Namespace) -> None:
    """Fit, and print the tables."""
    folder = None if options.smoke else options.data
    fits = fit_all(kept, options, options.histories.split(","), VARIANTS)
    for name, of in fits.items():
        print("\n" + "\n".join(rows_of(name, data_of(name, folder), of)))
    if options.figures and "bins" in fits:
        figure(data_of("bins", folder), fits["bins"], options.figures)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = comparison_parser("studies.prospector", __doc__, VARIANTS, 1200.0)
    parser.add_argument("--histories", default=",".join(FILES), help=f"of {', '.join(FILES)}")
    run_study(parser, work, {"variants": "honest", "histories": "delayed-tau"}, argv)


if __name__ == "__main__":
    main()
