"""Counterparts of the published figures, and the table of accuracies, of a finished or unfinished mock challenge.

    python -m studies.challenge_figures CHALLENGE --figures docs/figures

CHALLENGE is the directory of `provabgs mock challenge`; it is only read. Written: ``mock_challenge_posterior.png`` (one
galaxy), ``_truth.png``, ``_delta.png`` (each property, three sets of data), ``_accuracy.png`` (eta in bins of the true
property), ``_dependence.png`` (of r_fiber, r, g - r, r - z), ``_plane.png`` (over the M*-SFR plane) and ``_priors.png``
(induced priors). The table, next to the numbers of Hahn et al. (2023, arXiv:2202.01809), goes to standard output as
Markdown. Some ten minutes for 2,000 galaxies, mostly eta; ``--only`` makes some of the figures, for instance
those that a run that was stopped did not come to.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from provabgs.core.status import Status
from provabgs.desi import read_observations
from provabgs.inference.config import FitConfig
from provabgs.inference.predictive import predict
from provabgs.mocks import figures
from provabgs.mocks.challenge import MODES, Mode, load_posteriors, load_truth
from provabgs.mocks.files import read_truth
from provabgs.mocks.score import TRUTH_COLUMNS, Scored, accuracy_of, collect
from provabgs.population.accuracy import infer_accuracy
from provabgs.population.prior.draws import draw_properties
from studies.support.command import run_study, study_parser
from studies.support.toy_challenge import toy_challenge

ROWS: tuple[tuple[str, str, str, float, float, str], ...] = (
    ("logmstar", "log M* formed, dex", "all", -np.inf, np.inf, "sigma 0.1, no bias"),
    ("logmstar", "log M* formed, dex", "below 10", -np.inf, 10.0, ""),
    ("logmstar", "log M* formed, dex", "10 to 11", 10.0, 11.0, ""),
    ("logmstar", "log M* formed, dex", "above 11", 11.0, np.inf, ""),
    ("log_sfr_1gyr", "log SFR 1 Gyr, dex", "above -1", -1.0, np.inf, "sigma 0.1"),
    ("log_sfr_1gyr", "log SFR 1 Gyr, dex", "below -1", -np.inf, -1.0, "floor at -1 (photometry alone: 0)"),
    ("log_z_mw", "log Z_MW, dex", "all", -np.inf, np.inf, "sigma 0.15, bias +0.2 to +0.3 (photometry alone: 0.5)"),
    ("t_age_mw", "t_age,MW, Gyr", "below 5", -np.inf, 5.0, "sigma 0.5"),
    ("t_age_mw", "t_age,MW, Gyr", "5 to 8", 5.0, 8.0, "sigma 0.5"),
    ("t_age_mw", "t_age,MW, Gyr", "above 8", 8.0, np.inf, "capped near 8"),
)
"""Property, title, range of the true value in words and numbers, and what was published of spectrum + photometry."""
PROPERTIES = {
    "logmstar": "LOGMSTAR_FORMED",
    "log_sfr_1gyr": "LOGSFR_1GYR",
    "log_z_mw": "LOGZ_MW",
    "t_age_mw": "T_AGE_MW",
}
"""Scored properties among the prior's draws."""


NAMES = ("posterior", "truth", "delta", "accuracy", "dependence", "plane", "priors", "table")


def work(options: argparse.Namespace) -> None:
    """Make the figures asked for, and print the table."""
    challenge, min_count = options.challenge or toy_challenge(options.output / "challenge"), options.min_count
    folder = options.figures or options.output
    scored = {mode: s for mode in MODES if len(s := collect(challenge, mode, options.draws))}
    print(", ".join(f"{mode}: {len(s)} galaxies, {s.converged.mean():.1%} converged" for mode, s in scored.items()))
    by_mode = (
        {mode: accuracy_of(s, None, min_count) for mode, s in scored.items()}
        if {"delta", "accuracy"} & set(options.only)
        else {}
    )
    makers: dict[str, Callable[[], Figure]] = {
        "posterior": lambda: posterior_figure(challenge, scored["both"], options.targetid),
        "truth": lambda: figures.truth_figure(scored),
        "delta": lambda: figures.delta_figure(scored, by_mode),
        "accuracy": lambda: figures.accuracy_figure(by_mode),
        "dependence": lambda: figures.dependence_figure(scored, min_count=min_count),
        "plane": lambda: figures.plane_figure(scored["both"], min_count),
        "priors": lambda: prior_figure(challenge, scored, options.prior_draws),
    }
    for name, make in makers.items():
        if name in options.only:
            start = time.monotonic()
            dpi = 80 if name == "posterior" else 90
            path = figures.save(make(), folder / f"mock_challenge_{name}.png", dpi=dpi)
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB, {time.monotonic() - start:.0f} s", flush=True)
    if "table" in options.only:
        print("\n".join(table(scored)))


def posterior_figure(challenge: Path, scored: Scored, targetid: int | None) -> Figure:
    """The fit of spectrum + photometry of one galaxy; without a choice the converged one of median S/N in r."""
    if targetid is None:
        snr = np.where(scored.converged, np.asarray(scored.truth["SNR_R"]), np.nan)
        targetid = int(scored.truth["TARGETID"][np.nanargmin(np.abs(snr - np.nanmedian(snr)))])
    posterior = load_posteriors(challenge, "both")[targetid]
    for path in sorted((challenge / "mocks").glob("truth-*.fits")):
        rows = read_truth(path)
        place = np.flatnonzero(np.asarray(rows["TARGETID"]) == targetid)
        if place.size:
            coadd = path.with_name(f"coadd-mock-bright-{path.stem.removeprefix('truth-')}.fits")
            observation = read_observations(coadd)[int(place[0])].observation
            truth = {name: float(rows[column][place[0]]) for name, column in TRUTH_COLUMNS.items()}
            truth["f_fiber"] = float(rows["F_FIBER"][place[0]])
            if observation is None or posterior.status != Status.CONVERGED:
                raise SystemExit(f"TARGETID {targetid}: has no converged fit to show")
            return figures.posterior_figure(posterior, predict(posterior, observation), truth)
    raise SystemExit(f"TARGETID {targetid}: is not among the mocks of {challenge}")


def prior_figure(challenge: Path, scored: dict[Mode, Scored], n_draw: int) -> Figure:
    """Induced priors at the median redshift of the mocks."""
    config = FitConfig.model_validate(json.loads((challenge / "challenge.json").read_text())["fit"])
    redshift = float(np.median(load_truth(challenge)["Z"]))
    drawn = draw_properties(config, redshift, n_draw, np.random.default_rng(0))
    return figures.prior_figure({name: drawn[column] for name, column in PROPERTIES.items()}, scored)


def table(scored: dict[Mode, Scored]) -> list[str]:
    """Markdown: posterior means of mu and sigma per property, range and set of data, beside the published numbers."""
    lines = [
        f"| property | true range | n | {' | '.join(f'{m}: mu, sigma' for m in scored)} | published |",
        "|---" * (4 + len(scored)) + "|",
    ]
    for name, title, words, low, high, published in ROWS:
        cells, n = [], 0
        for s in scored.values():
            truth = np.asarray(s.truth[TRUTH_COLUMNS[name]], dtype=np.float64)
            rows = np.isfinite(truth) & (truth >= low) & (truth < high)
            n = max(n, int(rows.sum()))
            cells.append(_cell(s.draws[name][rows] - truth[rows, None]))
        lines.append(f"| {title} | {words} | {n} | {' | '.join(cells)} | {published} |")
    return lines


def _cell(delta: np.ndarray) -> str:
    """Mean of mu and sigma, each with its 68 % half-width."""
    if len(delta) < 3:
        return "too few"
    found = infer_accuracy(delta)
    weight_mu, weight_sigma = found.probability.sum(axis=1), found.probability.sum(axis=0)
    mu, sigma = float(found.mu @ weight_mu), float(found.sigma @ weight_sigma)
    half = [0.5 * float(np.diff(found.quantile(k, [0.16, 0.84]))[0]) for k in ("mu", "sigma")]
    return f"{mu:+.2f} +- {half[0]:.2f}, {sigma:.2f} +- {half[1]:.2f}"


def main() -> None:
    """Parse the command line and run."""
    parser = study_parser("studies.challenge_figures", __doc__)
    parser.add_argument("challenge", type=Path, nargs="?", help="only --smoke makes one of its own")
    parser.add_argument("--min-count", type=int, default=10, help="bins of this many galaxies or fewer are left out")
    parser.add_argument("--draws", type=int, default=400, help="draws per galaxy that enter eta")
    parser.add_argument("--prior-draws", type=int, default=100_000, help="of the figure of induced priors")
    parser.add_argument("--targetid", type=int, help="galaxy of the posterior figure; one of typical S/N if left out")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    run_study(parser, work, {"min_count": 1, "draws": 50, "prior_draws": 5000}, needs=("challenge",))


if __name__ == "__main__":
    main()
