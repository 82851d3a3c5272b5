"""One galaxy's posterior by backend, overlaid, differences of several: figure and table of docs/studies/emulator.md.

    python -m studies.emulator_posteriors --galaxies 24 --figures docs/figures

Each mock galaxy (S/N 20 per pixel and five bands) is sampled with the compressed engine, and with the emulator: as it
is, corrected at the best draws of that first fit, and sampled again (`EmulatedLikelihood.with_reference`). The exact
posterior is the compressed engine's draws reweighted by the exact likelihood. Differences are of means, in sigmas of
the exact posterior. Ten to thirty seconds a galaxy; one file per galaxy is kept.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from provabgs.core.arrays import FloatArray, thin
from provabgs.data import data_path
from provabgs.emulator.weights import load_emulator
from provabgs.inference.compressed import CompressedLikelihood
from provabgs.inference.config import SamplerOptions
from provabgs.inference.fit_observation import make_target
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.likelihood.emulated import EmulatedLikelihood
from provabgs.inference.priors import Prior
from provabgs.inference.samplers import SAMPLERS
from provabgs.inference.standard import PARAMETERS, label
from provabgs.observe.projection import project
from provabgs.plotting.style import new_figure, save, style
from provabgs.sps.model import SPSModel
from studies.support.command import QUICK, run_study, study_parser
from studies.support.pieces import Arrays, kept_arrays
from tests.support.engine_mocks import NO_FLOOR, draw_theta, mock
from tests.support.parameters import N_FREE, column, prior_of, theta_of

COMPARED = [n for n in PARAMETERS.names if n != "f_fiber"]
SHOWN = ("logmstar", "beta1", "beta4", "fburst", "tburst", "gamma1", "gamma2", "tau_bc", "tau_ism", "n_dust")
BACKENDS = ("compressed", "emulator, first fit", "emulator, with reference")
N_REFERENCE = 64


class Sampled(NamedTuple):
    """A posterior."""

    theta: FloatArray
    """``(n, 13)``."""
    log_like: FloatArray
    rhat: float
    n_eval: int
    seconds: float


def sample(
    likelihood: EmulatedLikelihood | CompressedLikelihood, exact: ExactLikelihood, prior: Prior, sampler: SamplerOptions
) -> Sampled:
    """Sample one posterior."""
    start = time.perf_counter()
    target = make_target(likelihood, exact.model, exact.tables, prior)
    result = SAMPLERS["auto"](target, np.random.default_rng(3), sampler)
    theta = theta_of(result.draws.reshape(-1, N_FREE), prior)
    seconds = time.perf_counter() - start
    return Sampled(theta, result.log_likelihood.reshape(-1), float(result.convergence.rhat_max), result.n_eval, seconds)


def exact_weights(s: Sampled, exact: ExactLikelihood, n: int) -> tuple[FloatArray, FloatArray]:
    """``(n, 13)`` draws and their importance weights under the exact likelihood."""
    pick = thin(len(s.theta), n)
    spec, phot = exact.chi2(s.theta[pick])
    log_weight = -0.5 * (spec + phot) - s.log_like[pick]
    weight = np.exp(log_weight - log_weight.max())
    return s.theta[pick], weight / weight.sum()


def differences(s: Sampled, theta: FloatArray, weight: FloatArray) -> FloatArray:
    """Of means, in sigmas of the exact posterior, ``(12,)``."""
    exact, found = column(theta, *COMPARED), column(s.theta, *COMPARED)
    mean = weight @ exact
    sigma = np.sqrt(weight @ (exact - mean) ** 2)
    return (found.mean(axis=0) - mean) / sigma


def figure(posteriors: dict[str, tuple[FloatArray, FloatArray | None]], path: Path) -> None:
    """Marginals of one galaxy, overlaid."""
    with style():
        fig = new_figure(9.0, 4.0)
        axes = fig.subplots(2, 5)
        colours = ("#8a8a8a", "#3a78b5", "#f2a541", "#c8553d")
        for ax, name in zip(axes.flat, SHOWN, strict=True):
            log = name.startswith("gamma")
            values = [np.log10(column(t, name)) if log else column(t, name) for t, _ in posteriors.values()]
            low, high = np.percentile(np.concatenate(values), [0.2, 99.8])
            bins = np.linspace(low, high, 31)
            for k, (who, (_, weight)) in enumerate(posteriors.items()):
                drawn = {"histtype": "stepfilled", "alpha": 0.35} if k == 0 else {"histtype": "step", "lw": 1.1}
                ax.hist(values[k], bins, weights=weight, density=True, color=colours[k], label=who, **drawn)
            ax.set(xlabel=f"log10 {label(name)}" if log else label(name), yticks=[])
            ax.xaxis.set_major_locator(MaxNLocator(4))
        axes[0, 0].legend(fontsize=6, loc="upper left")
        save(fig, path)


def compare(k: int, sampler: SamplerOptions, n: int) -> Arrays:
    """Galaxy `k`: thinned posteriors by backend, what each took, and the exact posterior as weighted draws."""
    model, weights = SPSModel(), load_emulator(data_path("emulator_paper.h5"))
    rng = np.random.default_rng(100 + k)
    z, theta = float(rng.uniform(0.05, 0.4)), draw_theta(rng)
    data = mock(model, theta, z, 20, rng)
    projection = project(data, model.library, NO_FLOOR)
    prior, exact = prior_of(data), ExactLikelihood(projection, model)
    compressed = CompressedLikelihood(projection, model)
    found = {"compressed": sample(compressed, exact, prior, sampler)}
    reference, weight = exact_weights(found["compressed"], exact, n)
    emulated = EmulatedLikelihood(compressed, weights)
    found["emulator, first fit"] = first = sample(emulated, exact, prior, sampler)
    best = first.theta[np.argsort(first.log_like)[-len(first.theta) // 2 :]]
    corrected = emulated.with_reference(best[thin(len(best), N_REFERENCE)])
    found["emulator, with reference"] = sample(corrected, exact, prior, sampler)
    out: Arrays = {"z": np.array(z), "reference": reference, "weight": weight}
    for name, s in found.items():
        _, own = exact_weights(s, exact, n)
        out[f"{name}: numbers"] = np.array([s.rhat, s.n_eval, s.seconds, 1 / (own**2).sum()])
        out[f"{name}: differences"] = differences(s, reference, weight)
        out[f"{name}: theta"] = s.theta[thin(len(s.theta), n)]
    return out


def line(k: int, name: str, found: Arrays) -> str:
    """One row of the table of galaxies."""
    size = np.abs(found[f"{name}: differences"])
    rhat, n_eval, seconds, ess = found[f"{name}: numbers"]
    return (
        f"| {k} | {found['z']:.2f} | {name} | {rhat:.3f} | {n_eval:.0f} | {seconds:.1f} | "
        f"{size.max():.2f} ({COMPARED[int(size.argmax())]}) | {ess:.0f} of {len(found['weight'])} |"
    )


def work(options: argparse.Namespace) -> None:
    """Sample what is not done yet, print the tables, draw the first galaxy."""
    sampler = QUICK if options.smoke else SamplerOptions()
    all_sizes: dict[str, list[FloatArray]] = {name: [] for name in BACKENDS}
    print("| galaxy | z | backend | R-hat | evaluations | seconds | mean - exact, largest | ESS of exact weights |")
    print("|---|---|---|---|---|---|---|---|")
    for k in range(options.galaxies):
        found = kept_arrays(options.output / f"galaxy-{k:03d}.npz", partial(compare, k, sampler, options.weighted))
        for name, sizes in all_sizes.items():
            print(line(k, name, found), flush=True)
            sizes.append(np.abs(found[f"{name}: differences"]))
        if k == 0 and options.figures:
            shown: dict[str, tuple[FloatArray, FloatArray | None]] = {"exact": (found["reference"], found["weight"])}
            shown |= {name: (found[f"{name}: theta"], None) for name in BACKENDS}
            figure(shown, options.figures / "emulator_posteriors.png")
    print("\n| backend | galaxies | means within 0.1 sigma of the exact | median difference | 95 % | largest |")
    print("|---" * 6 + "|")
    for name, rows in all_sizes.items():
        size = np.array(rows)
        text = (
            f"{np.median(size):.3f} | {np.quantile(size, 0.95):.3f} | {size.max():.2f} (galaxy {size.max(1).argmax()})"
        )
        print(f"| {name} | {len(size)} | {np.mean(size < 0.1):.1%} | {text} |")


def main() -> None:
    """Parse the command line and run."""
    parser = study_parser("studies.emulator_posteriors", __doc__)
    parser.add_argument("--galaxies", type=int, default=24)
    parser.add_argument("--weighted", type=int, default=4000, help="draws that get the weight of the exact likelihood")
    run_study(parser, work, {"galaxies": 1, "weighted": 200})


if __name__ == "__main__":
    main()
