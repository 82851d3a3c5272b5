"""One galaxy's posterior by backend, overlaid, and the differences of several: figure and table of docs/emulator.md.

    python benchmarks/emulator_posteriors.py --galaxies 3 --figure docs/figures/emulator_posteriors.png

Each mock galaxy (S/N 20 per pixel and five bands) is sampled with the compressed engine, and with the emulator: as it
is, corrected at the best draws of that first fit, and sampled again (`EmulatedLikelihood.with_reference`). The exact
posterior is the compressed engine's draws reweighted by the exact likelihood. Differences are of means, in sigmas of
the exact posterior. Ten to thirty seconds a galaxy.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from engine_mocks import NO_FLOOR, draw_theta, mock  # noqa: E402

from provabgs.core.arrays import FloatArray, thin  # noqa: E402
from provabgs.core.jax import jnp  # noqa: E402
from provabgs.data import data_path  # noqa: E402
from provabgs.emulator.weights import load_emulator  # noqa: E402
from provabgs.inference.compressed import CompressedLikelihood  # noqa: E402
from provabgs.inference.config import SamplerOptions  # noqa: E402
from provabgs.inference.fit_observation import make_target  # noqa: E402
from provabgs.inference.likelihood import ExactLikelihood  # noqa: E402
from provabgs.inference.likelihood.emulated import EmulatedLikelihood  # noqa: E402
from provabgs.inference.marginalised import collapse  # noqa: E402
from provabgs.inference.priors import N_LATENT, Prior, theta_from_latent  # noqa: E402
from provabgs.inference.samplers import get_sampler  # noqa: E402
from provabgs.observe.projection import project  # noqa: E402
from provabgs.plotting.style import new_figure, save, style  # noqa: E402
from provabgs.sps.model import SPSModel  # noqa: E402
from provabgs.sps.parameters import INDEX, NAMES, label  # noqa: E402

COMPARED = [n for n in NAMES if n != "f_fiber"]
SHOWN = ("logmstar", "beta1", "beta4", "fburst", "tburst", "gamma1", "gamma2", "tau_bc", "tau_ism", "n_dust")
N_REFERENCE = 64
N_WEIGHTED = 4000


class Sampled(NamedTuple):
    """A posterior."""

    theta: FloatArray
    """``(n, 13)``."""
    log_like: FloatArray
    rhat: float
    n_eval: int
    seconds: float


def sample(likelihood: EmulatedLikelihood | CompressedLikelihood, exact: ExactLikelihood, prior: Prior) -> Sampled:
    """Sample one posterior."""
    start = time.perf_counter()
    target = make_target(likelihood, exact, prior)
    if isinstance(likelihood, EmulatedLikelihood):
        weight = np.asarray(exact.tables.weight)
        target = replace(target, collapsed=collapse(likelihood.equations, likelihood.reduction, prior, weight))
    result = get_sampler("auto")(target, np.random.default_rng(3), SamplerOptions())
    flat = result.draws.reshape(-1, N_LATENT)
    theta = np.asarray(theta_from_latent(jnp.asarray(flat), prior))
    seconds = time.perf_counter() - start
    return Sampled(theta, result.log_likelihood.reshape(-1), float(result.convergence.rhat_max), result.n_eval, seconds)


def exact_weights(s: Sampled, exact: ExactLikelihood) -> tuple[FloatArray, FloatArray]:
    """`N_WEIGHTED` draws ``(n, 13)`` and their importance weights under the exact likelihood."""
    pick = thin(len(s.theta), N_WEIGHTED)
    spec, phot = exact.chi2(s.theta[pick])
    log_weight = -0.5 * (spec + phot) - s.log_like[pick]
    weight = np.exp(log_weight - log_weight.max())
    return s.theta[pick], weight / weight.sum()


def differences(s: Sampled, theta: FloatArray, weight: FloatArray) -> FloatArray:
    """Of means, in sigmas of the exact posterior, ``(12,)``."""
    index = [INDEX[n] for n in COMPARED]
    mean = weight @ theta
    sigma = np.sqrt(weight @ (theta - mean) ** 2)
    return ((s.theta.mean(axis=0) - mean) / sigma)[index]


def figure(posteriors: dict[str, tuple[FloatArray, FloatArray | None]], path: Path) -> None:
    """Marginals of one galaxy, overlaid."""
    with style():
        fig = new_figure(9.0, 4.0)
        axes = fig.subplots(2, 5)
        colours = ("#8a8a8a", "#3a78b5", "#f2a541", "#c8553d")
        for ax, name in zip(axes.flat, SHOWN, strict=True):
            log = name.startswith("gamma")
            values = [np.log10(t[:, INDEX[name]]) if log else t[:, INDEX[name]] for t, _ in posteriors.values()]
            low, high = np.percentile(np.concatenate(values), [0.2, 99.8])
            bins = np.linspace(low, high, 31)
            for k, (who, (_, weight)) in enumerate(posteriors.items()):
                drawn = {"histtype": "stepfilled", "alpha": 0.35} if k == 0 else {"histtype": "step", "lw": 1.1}
                ax.hist(values[k], bins, weights=weight, density=True, color=colours[k], label=who, **drawn)
            ax.set(xlabel=f"log10 {label(name)}" if log else label(name), yticks=[])
            ax.xaxis.set_major_locator(MaxNLocator(4))
        axes[0, 0].legend(fontsize=6, loc="upper left")
        save(fig, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--galaxies", type=int, default=3)
    parser.add_argument("--figure", type=Path, default=None)
    options = parser.parse_args()
    model, weights = SPSModel(), load_emulator(data_path("emulator_paper.h5"))
    all_sizes: dict[str, list[FloatArray]] = {}
    print("| galaxy | z | backend | R-hat | evaluations | seconds | mean - exact, largest | ESS of exact weights |")
    print("|---|---|---|---|---|---|---|---|")
    for k in range(options.galaxies):
        rng = np.random.default_rng(100 + k)
        z, theta = float(rng.uniform(0.05, 0.4)), draw_theta(rng)
        data = mock(model, theta, z, 20, rng)
        projection = project(data, model.library, NO_FLOOR)
        prior, exact = Prior.create(data.fiber_fraction), ExactLikelihood(projection, model)
        compressed = CompressedLikelihood(projection, model)
        found = {"compressed": sample(compressed, exact, prior)}
        reference, weight = exact_weights(found["compressed"], exact)
        emulated = EmulatedLikelihood(compressed, weights)
        found["emulator, first fit"] = first = sample(emulated, exact, prior)
        best = first.theta[np.argsort(first.log_like)[-len(first.theta) // 2 :]]
        draws = best[thin(len(best), N_REFERENCE)]
        found["emulator, with reference"] = sample(emulated.with_reference(draws), exact, prior)
        for name, s in found.items():
            size = np.abs(differences(s, reference, weight))
            text = f"{s.rhat:.3f} | {s.n_eval} | {s.seconds:.1f} | {size.max():.2f} ({COMPARED[int(size.argmax())]})"
            _, own = exact_weights(s, exact)
            ess = 1 / (own**2).sum()
            print(f"| {k} | {z:.2f} | {name} | {text} | {ess:.0f} of {N_WEIGHTED} |", flush=True)
            all_sizes.setdefault(name, []).append(size)
        if k == 0 and options.figure is not None:
            shown: dict[str, tuple[FloatArray, FloatArray | None]] = {"exact": (reference, weight)}
            shown |= {name: (s.theta, None) for name, s in found.items()}
            figure(shown, options.figure)
    print("\n| backend | galaxies | means within 0.1 sigma of the exact | median difference | 95 % | largest |")
    print("|---" * 6 + "|")
    for name, rows in all_sizes.items():
        size = np.array(rows)
        text = (
            f"{np.median(size):.3f} | {np.quantile(size, 0.95):.3f} | {size.max():.2f} (galaxy {size.max(1).argmax()})"
        )
        print(f"| {name} | {len(size)} | {np.mean(size < 0.1):.1%} | {text} |")


if __name__ == "__main__":
    main()
