"""How large the error of the stellar library is, learnt from an ensemble by evidence: docs/studies/template_error.md.

    python -m studies.template_amplitude --kind bc03 --stars bc03.h5 --galaxies 100

Galaxies of `studies.honest_posteriors` are fitted under the preset ``honest`` with the components of the template error
scaled by each of several amplitudes. The evidence of a fit is a density of the galaxy's data, so that its logarithm,
summed over galaxies, is the log likelihood of the amplitude: its posterior (flat in log amplitude) is printed with the
parabola through it, and with a bootstrap over galaxies, which does not believe that the noise model is true. Then, per
amplitude, the coverage of the posteriors; and that of each galaxy's exact marginal over the grid, whose draws are the
fits' own in proportion to their evidence (``observing.template_error = [0.5, 0.7, ...]`` in a configuration). One file
per galaxy and amplitude is kept in the output folder, and those that are there are not fitted again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from provabgs.core.arrays import FloatArray
from provabgs.inference.config import SamplerOptions
from provabgs.inference.fit import fit_one
from studies.honest_posteriors import (
    HEADER,
    MAKERS,
    PROPERTIES,
    SEED,
    UNSEEN,
    Sample,
    config_of,
    galaxies_of,
    table_of,
)
from studies.support.command import QUICK, run_study, study_parser
from studies.support.pieces import Arrays, in_order, kept_arrays

AMPLITUDES = (0.5, 0.7, 1.0, 1.4, 2.0)
N_QUANTILE = 201
"""Numbers by which the draws of a property are kept."""
N_BOOTSTRAP = 2000


def fit_galaxy(sample: Sample, number: int, amplitude: float) -> Arrays:
    """Evidence of one galaxy under one amplitude, and truth and quantiles of the draws of each property."""
    galaxy = galaxies_of(*sample[:3]).make(number, seed=SEED)
    config = config_of(sample, "honest")
    observing = config.observing.model_copy(update={"template_error": amplitude})
    posterior = fit_one(galaxy.observation, config.model_copy(update={"observing": observing}), seed=SEED)
    d = posterior.diagnostics
    out: dict[str, object] = {"status": posterior.status.name, "n_eval": d.n_eval, "log_evidence": d.log_evidence}
    for name in PROPERTIES:
        draws = posterior[name]
        quantiles = np.quantile(draws, np.linspace(0, 1, N_QUANTILE)) if draws.size else np.full(N_QUANTILE, np.nan)
        out[name] = np.append(galaxy.truth[name], quantiles)
    return {k: np.asarray(v) for k, v in out.items()}


def kept_fit(folder: Path, sample: Sample, number: int, amplitude: float) -> Arrays:
    """`fit_galaxy`, from its file where it is there."""
    path = folder / f"{sample.kind}-{sample.histories}" / f"{amplitude:g}" / f"{number}.npz"
    return kept_arrays(path, lambda: fit_galaxy(sample, number, amplitude))


def fits(options: argparse.Namespace) -> Iterator[list[Arrays]]:
    """Fits of each galaxy under all amplitudes, galaxy by galaxy: a study that is stopped has whole galaxies."""
    sampler = QUICK if options.smoke else SamplerOptions(time_limit_s=options.time_limit)
    sample = Sample(options.kind, options.stars, options.histories, sampler)
    amplitudes = amplitudes_of(options)
    jobs = [(options.output, sample, i, a) for i in range(options.galaxies) for a in amplitudes]
    return _by_galaxy(in_order(kept_fit, jobs, options.workers), len(amplitudes))


def _by_galaxy(done: Iterator[Arrays], n: int) -> Iterator[list[Arrays]]:
    while row := [piece for _, piece in zip(range(n), done, strict=False)]:
        yield row


def amplitudes_of(options: argparse.Namespace) -> tuple[float, ...]:
    """Amplitudes of the command line, increasing."""
    return tuple(sorted(float(a) for a in options.amplitudes.split(",")))


def peak(log_amplitude: FloatArray, log_likelihood: FloatArray) -> tuple[float, float]:
    """Maximum and sigma in ln amplitude of the parabola through the three points about the best, held within the grid.

    Parameters
    ----------
    log_amplitude, log_likelihood
        ``(n,)`` with n >= 3.

    Returns
    -------
    float, float
        Sigma is NaN where the best is at an end of the grid.
    """
    best = int(np.argmax(log_likelihood))
    if not 0 < best < log_amplitude.size - 1:
        return float(log_amplitude[best]), float("nan")
    a, b, _ = np.polyfit(log_amplitude[best - 1 : best + 2], log_likelihood[best - 1 : best + 2], 2)
    return float(-b / (2 * a)), float(1 / np.sqrt(-2 * a))


def summary_of(row: Arrays) -> Arrays:
    """Truth, rank, median and half of the 68 % interval of each property, as `table_of` takes them."""
    return {name: _summary(row[name][0], row[name][1:], np.ones(N_QUANTILE)) for name in PROPERTIES}


def marginal_of(rows: list[Arrays]) -> Arrays:
    """The same of one galaxy's average over amplitudes by evidence."""
    log_z = np.array([float(r["log_evidence"]) for r in rows])
    weights = np.repeat(np.exp(log_z - logsumexp(log_z)), N_QUANTILE)
    return {
        name: _summary(rows[0][name][0], np.concatenate([r[name][1:] for r in rows]), weights) for name in PROPERTIES
    }


def _summary(truth: float, values: FloatArray, weights: FloatArray) -> FloatArray:
    order = np.argsort(values)
    cumulative = (np.cumsum(weights[order]) - 0.5 * weights[order]) / weights.sum()
    low, median, high = np.interp([0.16, 0.5, 0.84], cumulative, values[order])
    rank = np.interp(truth, values[order], cumulative, left=0.0, right=1.0)
    return np.array([truth, rank, median, 0.5 * (high - low)])


def table_of_amplitudes(log_z: FloatArray, amplitudes: tuple[float, ...]) -> str:
    """Posterior over the amplitude of galaxies' log evidences ``(ngalaxy, namplitude)``, as Markdown and a sentence."""
    x, total = np.log(amplitudes), log_z.sum(axis=0)
    rng = np.random.default_rng(SEED)
    resampled = log_z[rng.integers(0, len(log_z), (N_BOOTSTRAP, len(log_z)))].sum(axis=1)
    probability = np.exp(total - logsumexp(total))
    share = np.bincount(np.argmax(resampled, axis=1), minlength=x.size) / N_BOOTSTRAP
    lines = ["| amplitude | ln evidence below the best | probability | best in bootstraps |", "|---|---|---|---|"]
    for a, t, p, s in zip(amplitudes, total - total.max(), probability, share, strict=True):
        lines.append(f"| {a:g} | {t:.1f} | {p:.3f} | {s:.2f} |")
    if x.size < 3:
        return "\n".join(lines)
    mean, sigma = peak(x, total)
    low, high = np.exp(np.quantile([peak(x, r)[0] for r in resampled], (0.16, 0.84)))
    told = f"Amplitude {np.exp(mean):.2f}, 68 % {low:.2f}-{high:.2f} by bootstrap; its ln by parabola +-{sigma:.2f}."
    return "\n".join([*lines, "", told])


def work(options: argparse.Namespace) -> None:
    """Fit, and print the posterior over the amplitude and the coverage under each."""
    amplitudes, galaxies = amplitudes_of(options), []
    for rows in fits(options):
        galaxies.append(rows)
        told = [f"{r['status']} {float(r['log_evidence']):.1f}" for r in rows]
        print(f"{len(galaxies)}/{options.galaxies} {', '.join(told)}", flush=True)
    log_z = np.array([[float(r["log_evidence"]) for r in rows] for rows in galaxies])
    known = np.all(np.isfinite(log_z), axis=1)
    good = np.array([all(str(r["status"]) == "CONVERGED" for r in rows) for rows in galaxies]) & known
    if not known.any():
        print("no galaxy has an evidence under every amplitude")
        return
    kind = f"{options.kind} stars, {options.histories} histories"
    print(f"\n{kind}: {known.sum()} galaxies, {good.sum()} CONVERGED under every amplitude\n")
    print(f"{table_of_amplitudes(log_z[known], amplitudes)}\n")
    if good.any() and not good.all():
        print(f"CONVERGED in all:\n\n{table_of_amplitudes(log_z[good], amplitudes)}\n")
    kept = [rows for rows, k in zip(galaxies, known, strict=True) if k]
    for i, a in enumerate(amplitudes):
        print(f"Coverage at amplitude {a:g}:\n\n{HEADER}\n{table_of([summary_of(rows[i]) for rows in kept])}\n")
    print(f"Each galaxy's marginal over amplitudes:\n\n{HEADER}\n{table_of([marginal_of(rows) for rows in kept])}\n")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = study_parser("studies.template_amplitude", __doc__)
    parser.add_argument("--kind", choices=tuple(UNSEEN), default="own", help="stars that the galaxies are made of")
    parser.add_argument("--stars", help="SSP library of these stars; none for the package's own")
    parser.add_argument("--histories", choices=tuple(MAKERS), default="foreign", help="as for honest_posteriors")
    parser.add_argument("--amplitudes", default=",".join(f"{a:g}" for a in AMPLITUDES), help="with commas between")
    parser.add_argument("--galaxies", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=120.0, help="seconds a fit")
    run_study(parser, work, {"galaxies": 1, "time_limit": 20.0, "amplitudes": "0.7,1.4"}, argv)


if __name__ == "__main__":
    main()
