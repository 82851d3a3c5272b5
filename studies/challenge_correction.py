"""What correcting the prior does to a mock challenge: biases and distributions, before and after, against the truth.

    python -m studies.challenge_correction CHALLENGE --figures docs/figures --refit 20

CHALLENGE is the directory of `provabgs mock challenge`, finished or not; it is only read. For each set of data fitted:

- posterior median minus truth in the regimes where published biases are largest, under the prior of the fits, under one
  flat in log sSFR, and under one flat in log sSFR, log Z and age. Draws are reweighted; of galaxies whose weights
  collapse, the worst ``--refit`` are sampled again under the corrected prior (kept in the output folder);
- the distributions of mass, SFR, metallicity and age over the galaxies: true, inferred with the prior left in, and with
  the induced prior divided out; mass is divided out with each of the others, on which priors depend at given mass.

Prints Markdown, writes ``challenge_correction.png``. Some four minutes per set of data on one core, plus ten seconds a
refit.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure
from numpy.typing import NDArray

from provabgs.catalog import read_posteriors, write_posteriors
from provabgs.desi import read_observations
from provabgs.inference.config import FitConfig
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.posterior import Posterior
from provabgs.mocks.challenge import MODES, Mode, load_posteriors, load_truth
from provabgs.mocks.files import coadd_name, read_truth
from provabgs.mocks.score import TRUTH_COLUMNS
from provabgs.observe.observation import Observation
from provabgs.plotting.population import AXIS
from provabgs.plotting.style import BAND_68, MODEL, PRIOR, TRUTH, new_figure, save, style
from provabgs.population.density.grid import onto_histogram
from provabgs.population.density.histogram import HistogramDensity
from provabgs.population.density.likelihood import Draws
from provabgs.population.density.nuts import SamplingOptions, sample_population
from provabgs.population.density.posterior import PopulationPosterior, PopulationWarning
from provabgs.population.density.reading import FlatPrior, open_population
from provabgs.population.prior.corrected import QUANTILES, REPORTED, CorrectedCatalog, bias_table, correct_catalog
from provabgs.population.prior.max_entropy import DEFAULT, MaxEntropyPrior
from studies.support.command import run_study, study_parser
from studies.support.toy_challenge import toy_challenge

PRIORS: dict[str, tuple[str, ...]] = {"sSFR": ("LOGSSFR_1GYR",), "all": DEFAULT}
"""Corrected priors by what they are flat in."""
PUBLISHED = {"log SFR < -1": "floor at -1", "low S/N, log Z": "0.3 dex", "age > 8 Gyr": "no ages above 8 Gyr"}
"""Biases that Hahn et al. (2023, arXiv:2202.01809) report."""
MASS = "LOGMSTAR_FORMED"
RANGES: dict[str, tuple[float, float, int]] = {
    MASS: (7.5, 12.5, 20),
    "LOGSFR_1GYR": (-6.0, 2.5, 34),
    "LOGZ_MW": (-4.0, -1.0, 24),
    "T_AGE_MW": (0.0, 13.0, 26),
}
"""Range and bins of each distribution; truths below it (no stars formed at all) count at its lower end."""
CUTS = {MASS: 10.0, "LOGSFR_1GYR": -1.0, "LOGZ_MW": -2.2, "T_AGE_MW": 8.0}
"""Where the share of galaxies below is compared with the truth."""
SAMPLING = SamplingOptions(n_chain=2, n_warmup=300, n_draw=600, n_start=8)
QUICK_SAMPLING = SamplingOptions(n_chain=2, n_warmup=50, n_draw=50, n_start=4)


class Recovered(NamedTuple):
    """The distribution of one property over the galaxies of a challenge."""

    truth: NDArray[np.float64]
    kept: PopulationPosterior
    """Prior left in."""
    divided: PopulationPosterior
    """Induced prior divided out."""


def work(arguments: argparse.Namespace) -> None:
    """Print the tables, draw the figure."""
    if arguments.challenge is None:
        arguments.challenge = toy_challenge(arguments.output / "challenge")
    truth = load_truth(arguments.challenge)
    modes = [m for m in arguments.modes if any((arguments.challenge / "fits" / m).glob("chunk-*.h5"))]
    if arguments.only != "distributions":
        print("| data | regime | n | published | before | flat in log sSFR | flat in all three |\n" + "|---" * 7 + "|")
        for mode in modes:
            biases(arguments, mode, truth)
    if arguments.only != "biases":
        sampling, folder = QUICK_SAMPLING if arguments.smoke else SAMPLING, arguments.challenge
        found = {m: {name: recover(folder, m, name, truth, sampling) for name in arguments.properties} for m in modes}
        print_distributions(found)
        if arguments.figures:
            with style():
                save(figure(found), arguments.figures / "challenge_correction.png")


# ---- galaxies --------------------------------------------------------------------------------------------------------


def biases(arguments: argparse.Namespace, mode: Mode, truth: Table) -> None:
    """Lines of the table of biases, and a sentence on weights and refits per prior."""
    known = {column: np.asarray(truth[column]) for column in TRUTH_COLUMNS.values()}
    faint = np.asarray(truth["FIBMAG_R"]) > np.median(truth["FIBMAG_R"])
    tables, notes = {}, []
    for label, names in PRIORS.items():
        found = correct_catalog(arguments.challenge, names, mode=mode, n_prior=arguments.prior_draws)
        collapsed = np.asarray(found.table["COLLAPSED"])
        again = refit(arguments, mode, label, found)
        tables[label] = bias_table(found.table, known, truth["TARGETID"], faint)
        notes.append(
            f"{mode}, flat in {', '.join(names)}: median {np.median(found.table['N_EFFECTIVE']):.0f} effective draws, "
            f"collapsed for {collapsed.sum()} of {collapsed.size}; {again}"
        )
    for one, three in zip(tables["sSFR"], tables["all"], strict=True):
        cells = [f"{one['bias']:+.3f}", f"{one['bias_corr']:+.3f}", f"{three['bias_corr']:+.3f}"]
        print(f"| {mode} | {one['regime']} | {one['n']} | {PUBLISHED.get(one['regime'], '')} | {' | '.join(cells)} |")
    print("\n" + "\n".join(notes) + "\n", flush=True)


def refit(arguments: argparse.Namespace, mode: Mode, label: str, found: CorrectedCatalog) -> str:
    """Sample the galaxies with the worst weights under the corrected prior, in place of their reweighted quantiles."""
    table = found.table
    rows = np.flatnonzero(table["COLLAPSED"])
    rows = rows[np.argsort(np.asarray(table["N_EFFECTIVE"])[rows])][: arguments.refit]
    stored = load_posteriors(arguments.challenge, mode)
    ess = []
    for row in rows:
        targetid = int(table["TARGETID"][row])
        posterior = refitted(arguments, f"{mode}-{label}-{targetid}.h5", stored[targetid], found.prior)
        ess.append(posterior.diagnostics.ess_min)
        for name in REPORTED:
            for q, value in zip(QUANTILES, np.quantile(values_of(posterior, name), QUANTILES), strict=True):
                table[f"{name}_P{100 * q:.0f}_CORR"][row] = value
    return f"{len(rows)} of these sampled again, smallest ESS {min(ess):.0f}" if ess else "none sampled again"


def refitted(arguments: argparse.Namespace, name: str, stored: Posterior, prior: MaxEntropyPrior) -> Posterior:
    """One galaxy's posterior under the corrected prior: from its file, or made now."""
    path = arguments.output / "refits" / name
    if not path.exists():
        config = FitConfig.model_validate_json(stored.config).model_copy(update={"prior_correction": prior.correction})
        path.parent.mkdir(parents=True, exist_ok=True)
        write_posteriors(path, [fit_observation(observation_of(arguments.challenge, stored.targetid), config)])
    return next(iter(read_posteriors(path)))


def observation_of(challenge: Path, targetid: int) -> Observation:
    """The data of a mock galaxy."""
    for path in (challenge / "mocks").glob("truth-*.fits"):
        if targetid in read_truth(path)["TARGETID"]:
            coadd = path.with_name(coadd_name(int(path.stem.removeprefix("truth-"))))
            result = read_observations(coadd, targetids=[targetid])[0]
            if result.observation is not None:
                return result.observation
    raise SystemExit(f"{challenge / 'mocks'}: no data of TARGETID {targetid}")


def values_of(posterior: Posterior, column: str) -> NDArray[np.float64]:
    """Draws of a sample column."""
    names = {v: k for k, v in TRUTH_COLUMNS.items()} | {"LOGMSTAR": "logmstar_surviving"}
    if column == "LOGSSFR_1GYR":
        return posterior["log_sfr_1gyr"] - posterior["logmstar_surviving"]
    return posterior[names[column]]


# ---- distributions ---------------------------------------------------------------------------------------------------


def recover(challenge: Path, mode: Mode, name: str, truth: Table, sampling: SamplingOptions) -> Recovered:
    """True and inferred distributions of one property."""
    low, high, n_bin = RANGES[name]
    density = HistogramDensity.uniform(low, high, n_bin)
    names = [name] if name == MASS else [MASS, name]
    divided = open_population(challenge, names, mode=mode)
    found = []
    for data in (open_population(challenge, names, mode=mode, prior=FlatPrior()), divided):
        draws = data.load()
        last = Draws(draws.theta[..., -1:], draws.log_weight, draws.weight)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PopulationWarning)
            rng = np.random.default_rng(0)
            found.append(sample_population(density, onto_histogram(density, [last]), rng, options=sampling, draws=last))
    fitted = np.isin(np.asarray(truth["TARGETID"]), divided.source.columns["TARGETID"])
    values = np.asarray(truth[name], dtype=np.float64)[fitted]
    return Recovered(np.clip(values, low, high), *found)


def share_below(found: PopulationPosterior, name: str) -> NDArray[np.float64]:
    """``(ndraw,)`` share of the population below `CUTS`."""
    low, high, n_bin = RANGES[name]
    share = found.parameters()["density"] * (high - low) / n_bin
    edges = np.linspace(low, high, n_bin + 1)
    below = np.clip((CUTS[name] - edges[:-1]) / np.diff(edges), 0, 1)
    return share @ below


def distance(found: PopulationPosterior, truth: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """``(ndraw,)`` Wasserstein distance of the inferred distribution to the true one, in units of the property."""
    low, high, n_bin = RANGES[name]
    edges = np.linspace(low, high, n_bin + 1)
    step = (high - low) / n_bin
    inferred = np.cumsum(found.parameters()["density"] * step, axis=1)
    true = np.mean(truth[:, None] <= edges[1:], axis=0)
    return np.sum(np.abs(inferred - true), axis=1) * step


def print_distributions(found: dict[str, dict[str, Recovered]]) -> None:
    """Table: share of galaxies below a cut, and distance to the true distribution, before and after."""
    print(
        "| data | property | n | share below | truth | prior left in | divided out | distance: left in | divided out |"
    )
    print("|---" * 9 + "|")
    for mode, by_name in found.items():
        for name, r in by_name.items():
            n = len(r.truth)
            true = float(np.mean(r.truth < CUTS[name]))
            both = (r.kept, r.divided)
            shares = [f"{s.mean():.2f} +- {s.std():.2f}" for s in (share_below(f, name) for f in both)]
            distances = [f"{d.mean():.2f}" for d in (distance(f, r.truth, name) for f in both)]
            cells = [f"{CUTS[name]:g}", f"{true:.2f} +- {np.sqrt(true * (1 - true) / n):.2f}", *shares, *distances]
            print(f"| {mode} | {name} | {n} | {' | '.join(cells)} |")
    worst = max(f.convergence.rhat_max for d in found.values() for r in d.values() for f in (r.kept, r.divided))
    print(f"\nlargest R-hat of the chains: {worst:.3f}", flush=True)


def figure(found: dict[str, dict[str, Recovered]]) -> Figure:
    """True and inferred distributions, a row per set of data and a column per property."""
    columns = next(iter(found.values()))
    out = new_figure(3.1 * len(columns), 2.4 * len(found))
    axes = out.subplots(len(found), len(columns), squeeze=False)
    for row, (mode, by_name) in zip(axes, found.items(), strict=True):
        for ax, (name, r) in zip(row, by_name.items(), strict=True):
            low, high, n_bin = RANGES[name]
            edges = np.linspace(low, high, n_bin + 1)
            x = 0.5 * (edges[1:] + edges[:-1])
            q = r.divided.quantiles(x)
            ax.fill_between(x, q[0], q[2], color=BAND_68, lw=0, label="prior divided out, 68 %")
            ax.plot(x, q[1], color=MODEL, lw=1.2)
            ax.plot(x, r.kept.quantiles(x)[1], color=PRIOR, lw=1.2, ls="--", label="prior left in")
            ax.hist(r.truth, edges[::2].tolist(), density=True, histtype="step", color=TRUTH, lw=1.4, label="truth")
            ax.set(xlabel=AXIS[name], xlim=(low, high), ylim=(0, None), title=f"{mode}, n = {len(r.truth)}")
    axes[0, 0].set_ylabel("density")
    axes[0, 0].legend(loc="upper left", fontsize="x-small")
    return out


def main() -> None:
    """Parse the command line and run."""
    parser = study_parser("studies.challenge_correction", __doc__)
    parser.add_argument("challenge", type=Path, nargs="?", help="only --smoke makes one of its own")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--properties", nargs="+", default=list(RANGES), choices=RANGES, help="of distributions")
    parser.add_argument("--refit", type=int, default=0, help="collapsed galaxies to sample again, per prior and data")
    parser.add_argument("--prior-draws", type=int, help="of each corrected prior; the package's number if left out")
    parser.add_argument("--only", choices=("biases", "distributions"))
    smoke = {"modes": ["both"], "properties": [MASS], "prior_draws": 100_000}
    run_study(parser, work, smoke, needs=("challenge",))


if __name__ == "__main__":
    main()
