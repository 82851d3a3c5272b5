"""Posteriors of the compressed engine against the exact likelihood's: table and figure of docs/studies/likelihood.md.

    python -m studies.engine_posteriors --galaxies 24 --figures docs/figures

Mock galaxies of S/N 3 to 60 per pixel, and the real one of ../shared/reference/desi where it is there, are fitted with
the defaults. At every draw kept the exact ln L is computed; ``exact - engine`` is the log weight that turns the draws
into draws of the exact posterior. Reported per galaxy: scatter and range of that difference, the effective fraction of
the weights, and by how much the 16th, 50th and 84th percentile of every parameter and derived property move, in units
of the quantity's posterior sigma. Moves are compared with the Monte-Carlo error of the percentiles themselves.

Fits take tens of seconds each; one file per galaxy is kept in the output folder, and those that are there are not
fitted again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.weights import weighted_quantiles
from provabgs.desi import read_observation
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig, SamplerOptions
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.observe.observation import Observation
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from studies.support.command import QUICK, REFERENCE, run_study, study_parser, tracked
from studies.support.pieces import Arrays, kept_arrays
from tests.support.engine_mocks import draw_theta, mock
from tests.support.parameters import QUANTITIES, log_prior_of, prior_of

REAL_TARGET = 39633345008634465
REAL_COADD = REFERENCE / "desi" / "coadd-4-80613-thru20210324.fits"
LEVELS = (0.16, 0.5, 0.84)
SHOWN = (
    "logmstar_surviving", "log_sfr_1gyr", "t_age_mw", "log_z_mw", "beta1", "fburst", "tburst", "gamma1", "tau_bc",
    "tau_ism", "n_dust",
)  # fmt: skip
"""Drawn in the figure."""


class Outcome(NamedTuple):
    """One galaxy's fit beside the exact likelihood."""

    name: str
    snr: float
    status: str
    draws: FloatArray
    """``(n, nquantity)`` in the order of `QUANTITIES`."""
    difference: FloatArray
    """``(n,)`` exact minus engine's ln L, up to a constant."""
    ess: float
    """Smallest effective sample size of the chains."""

    @property
    def weights(self) -> FloatArray:
        """Importance weights, summing to 1."""
        w = np.exp(self.difference - self.difference.max())
        return w / w.sum()

    @property
    def efficiency(self) -> float:
        """Effective fraction of the weights."""
        return float(1 / (self.weights.size * np.sum(self.weights**2)))

    def shifts(self) -> FloatArray:
        """Moves of the percentiles by reweighting, posterior sigmas, ``(nquantity, 3)``; NaN where nothing varies."""
        columns = self.draws.T
        before = weighted_quantiles(columns, np.ones_like(columns), LEVELS)
        after = weighted_quantiles(columns, np.broadcast_to(self.weights, columns.shape), LEVELS)
        sigma = 0.5 * (before[:, 2] - before[:, 0])[:, None]
        return np.where(sigma > 0, (after - before) / np.where(sigma > 0, sigma, 1), np.nan)


def observe(i: int, seed: int) -> tuple[Observation, float, ObservingOptions]:
    """Galaxy `i`: its data, S/N and observing options; number -1 is the real one, a starburst."""
    if i < 0:
        data = read_observation(REAL_COADD, REAL_TARGET)
        flux, ivar = (np.concatenate([getattr(s, k) for s in data.spectra]) for k in ("flux", "ivar"))
        return data, float(np.median(flux * np.sqrt(ivar))), ObservingOptions(line_mask="extended")
    rng = np.random.default_rng([seed, i])
    theta, redshift = draw_theta(rng), float(rng.uniform(0.02, 0.5))
    snr = float(10 ** rng.uniform(np.log10(3), np.log10(60)))
    model = load_model(FitConfig().model)
    data = mock(model, theta, redshift, snr, rng, photsys="NS"[i % 2])
    return data, snr, ObservingOptions()


def fit(i: int, seed: int, sampler: SamplerOptions, folder: Path) -> Outcome:
    """Fit galaxy `i` and evaluate the exact likelihood at its draws; from its file where that is there."""
    path = folder / ("real.npz" if i < 0 else f"mock-{i:03d}.npz")
    fields = kept_arrays(path, lambda: _fit(i, seed, sampler))
    plain = {k: fields[k].item() for k in ("name", "snr", "status", "ess")}
    return Outcome(draws=fields["draws"], difference=fields["difference"], **plain)


def _fit(i: int, seed: int, sampler: SamplerOptions) -> Arrays:
    data, snr, observing = observe(i, seed)
    config = FitConfig(preset="published", observing=observing, sampler=sampler)
    posterior = fit_observation(data, config, seed)
    model = load_model(config.model)
    exact = ExactLikelihood(project(data, model.library, observing), model)
    truth = -0.5 * np.asarray(sum(exact.chi2(posterior.samples)))
    engine = posterior.log_prob - log_prior_of(posterior.samples, prior_of(data))
    return {
        "name": np.array("real galaxy" if i < 0 else f"mock {i}"),
        "snr": np.array(snr),
        "status": np.array(posterior.status.name),
        "draws": np.stack([posterior[q] for q in QUANTITIES], axis=1),
        "difference": truth - engine,
        "ess": np.array(posterior.diagnostics.ess_min),
    }


def table(outcomes: list[Outcome]) -> str:
    """Markdown: one row per galaxy, then all of them."""
    lines = [
        "| galaxy | S/N | status | draws | ln L exact - engine: scatter | largest | effective fraction | "
        "shift of the median: typical, largest | 16, 84 %: typical, largest | Monte-Carlo error of a median |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for o in outcomes:
        centred = o.difference - np.median(o.difference)
        s = np.abs(o.shifts())
        error = np.sqrt(np.pi / 2 / o.ess)
        lines.append(
            f"| {o.name} | {o.snr:.1f} | {o.status} | {o.difference.size} | {centred.std():.4f} | "
            f"{np.abs(centred).max():.3f} | {o.efficiency:.4f} | {np.nanmedian(s[:, 1]):.4f}, "
            f"{np.nanmax(s[:, 1]):.3f} | {np.nanmedian(s[:, ::2]):.4f}, {np.nanmax(s[:, ::2]):.3f} | {error:.3f} |"
        )
    shifts = np.concatenate([np.abs(o.shifts()).ravel() for o in outcomes])
    shifts = shifts[np.isfinite(shifts)]
    scatter = [float(o.difference.std()) for o in outcomes]
    worst = min(o.efficiency for o in outcomes)
    lines.append(
        f"\nAll {len(outcomes)} galaxies, {shifts.size} percentiles: median move {np.median(shifts):.4f} sigma, "
        f"99 % {np.percentile(shifts, 99):.3f}, largest {shifts.max():.3f}; scatter of ln L {np.median(scatter):.4f} "
        f"(median), {max(scatter):.4f} (largest); smallest effective fraction {worst:.4f}."
    )
    return "\n".join(lines)


def figure(o: Outcome, outcomes: list[Outcome], path: Path) -> None:
    """One galaxy's marginal posteriors, engine and exact, and the moves of all percentiles of all galaxies."""
    fig, axes = plt.subplots(3, 4, figsize=(12, 7.5), constrained_layout=True)
    for ax, q in zip(axes.flat, SHOWN, strict=False):
        x = o.draws[:, QUANTITIES.index(q)]
        edges = np.linspace(np.quantile(x, 0.002), np.quantile(x, 0.998), 31)
        ax.hist(x, edges, color="0.75", density=True, label="engine")
        ax.hist(x, edges, weights=o.weights, histtype="step", color="tab:red", lw=1.3, density=True, label="exact")
        ax.set(xlabel=q, yticks=[])
    axes.flat[0].legend(frameon=False, fontsize=8, title=f"{o.name}, S/N {o.snr:.0f}", title_fontsize=8)
    ax = axes.flat[len(SHOWN)]
    for level, name in enumerate(("16 %", "median", "84 %")):
        moves = np.concatenate([x.shifts()[:, level] for x in outcomes])
        ordered = np.sort(np.abs(moves[np.isfinite(moves)]))
        ax.plot(np.maximum(ordered, 1e-4), 1 - np.arange(ordered.size) / ordered.size, label=name)
    ax.axvline(np.median([np.sqrt(np.pi / 2 / x.ess) for x in outcomes]), color="0.5", ls="--", lw=1)
    ax.set(xscale="log", yscale="log", xlabel=f"|move| / sigma, {len(outcomes)} galaxies", ylabel="fraction above")
    ax.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def work(options: argparse.Namespace) -> None:
    """Fit, compare, print the table, draw the figure."""
    outcomes, sampler = [], QUICK if options.smoke else SamplerOptions()
    wanted = [*([-1] if options.real and REAL_COADD.exists() else []), *range(options.galaxies)]
    for o in tracked((fit(i, options.seed, sampler, options.output) for i in wanted), len(wanted)):
        print(f"{o.name}: {o.status}, scatter {o.difference.std():.4f}", file=sys.stderr, flush=True)
        outcomes.append(o)
    print(table(outcomes))
    if options.figures:
        figure(outcomes[0], outcomes, options.figures / "engine_posteriors.png")


def main() -> None:
    """Parse the command line and run."""
    parser = study_parser("studies.engine_posteriors", __doc__)
    parser.add_argument("--galaxies", type=int, default=24)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--no-real", dest="real", action="store_false", help="mock galaxies alone")
    run_study(parser, work, {"galaxies": 1, "real": False})


if __name__ == "__main__":
    main()
