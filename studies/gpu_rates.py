"""Log posteriors of many galaxies at once: a leading galaxy axis, single and double precision, overhead of a launch.

``python -m studies.gpu_rates`` takes the device that JAX finds, within 8 minutes; on a CPU say ``--galaxies 16 64``. It
makes a few different galaxies (joint fits, preset "honest"), brings their reductions to one size class and repeats them
to each number of galaxies. Measured is the marginal log posterior, masses integrated out, that annealing calls, at 64
draws of each galaxy's posterior. No fit is measured here (`studies.gpu` does that), but the last lines divide by the
evaluations that a fit takes now: a bound on fits per second, for a sampler without any cost of its own.

"double" is what fits use: matrix products single, their sums, masses and integrals double. "single" has no double at
all. The shift is the difference of the two at the draws, less its mean for each galaxy, which no posterior sees.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.core.weights import normalised, resample_systematic
from provabgs.inference.backends import load_model
from provabgs.inference.compressed import CompressedLikelihood, size_of
from provabgs.inference.compressed.normal_equations import make_normal_equations
from provabgs.inference.compressed.reduction import Size
from provabgs.inference.config import FitConfig
from provabgs.inference.fit_observation import prior_of
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.likelihood.base import LinearSystem
from provabgs.inference.marginalised import marginal_of_arrays, marginalise
from provabgs.inference.priors import Prior
from provabgs.inference.samplers.populations import anneal
from provabgs.observe.as_configured import as_configured
from provabgs.observe.projection import project
from provabgs.observe.spectrum_fraction import with_spectrum_fraction
from studies.support.command import plain_parser, run_study
from studies.support.prior_galaxies import simulate

N_DRAWS = 64
"""Of each galaxy, in one call."""
FIT_EVALUATIONS = 40_000
"""Of a joint fit, in the median (docs/studies/speed.md)."""
CALLS = 5
"""Timed, of which the median is printed."""
PRECISIONS = {"double": True, "single": False}


class Galaxies(NamedTuple):
    """Galaxies of one size class, each array with a leading galaxy axis."""

    outer: FloatArray
    """``(n, N_DRAWS, n_outer)`` draws of their marginal posteriors."""
    data: Any
    prior: Prior
    size: Size


def make(seeds: range) -> tuple[Galaxies, Callable[..., jax.Array]]:
    """Galaxies and the function ``(outer, data, prior) -> (n, N_DRAWS)`` of them."""
    config = FitConfig()
    model = load_model(config.model)
    likelihoods, priors = [], []
    for seed in seeds:
        observation, _ = with_spectrum_fraction(as_configured(simulate(seed, "honest")[0], config.observing))
        exact = ExactLikelihood(project(observation, model.library, config.observing), model)
        likelihoods.append(CompressedLikelihood(exact.projection, model))
        priors.append(prior_of(exact, observation, config))
    sizes = [size for one in likelihoods if (size := size_of(one.reduction)) is not None]
    size = Size(*np.max(sizes, axis=0).tolist())
    padded = [CompressedLikelihood(one.projection, model, size=size) for one in likelihoods]
    outer = [
        _draws(one.linear_system, model, prior, i) for i, (one, prior) in enumerate(zip(padded, priors, strict=True))
    ]
    function = marginal_of_arrays(make_normal_equations(model), model.linear_block)
    galaxies = Galaxies(np.stack(outer), _stacked([one.reduction for one in padded]), _stacked(priors), size)
    return galaxies, jax.vmap(function)


def _draws(system: LinearSystem, model: Any, prior: Prior, seed: int) -> FloatArray:
    """Draws of one galaxy's marginal posterior, by one population."""
    rng = np.random.default_rng(seed)
    posterior = marginalise(system, model.linear_block, prior, np.ones(model.linear_block.n))
    pool = anneal(posterior, rng).pool
    return pool.outer[resample_systematic(normalised(pool.log_weights()), N_DRAWS, rng)]


def _stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees)


def _repeated(galaxies: Galaxies, n: int) -> tuple[Any, ...]:
    """The arrays of `n` galaxies on the device, by repeating those there are; single where double is off."""
    rows = np.arange(n) % len(galaxies.outer)
    return jax.tree.map(lambda x: jnp.asarray(x[rows]), (galaxies.outer, galaxies.data, galaxies.prior))


@contextmanager
def _precision(double: bool) -> Iterator[None]:
    """Double precision, or none at all: what asks for it gets single."""
    with jax.enable_x64(double), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Explicitly requested dtype", UserWarning)
        yield


def seconds(function: Callable[[], jax.Array]) -> tuple[float, float]:
    """Wall time of the first call, which compiles, and the median of `CALLS` more."""
    taken = []
    for _ in range(CALLS + 1):
        start = time.perf_counter()
        jax.block_until_ready(function())
        taken.append(time.perf_counter() - start)
    return taken[0], float(np.median(taken[1:]))


def throughput(galaxies: Galaxies, function: Callable[..., jax.Array], numbers: list[int]) -> dict[str, float]:
    """Print a row for each number of galaxies and precision; evaluations a second of the fastest, by precision."""
    best = dict.fromkeys(PRECISIONS, 0.0)
    print("\n| precision | galaxies | MB of galaxies | first call, s | call, ms | evaluations a second |")
    print("|---|---|---|---|---|---|")
    for name, double in PRECISIONS.items():
        for n in numbers:
            with _precision(double):
                arrays, compiled = _repeated(galaxies, n), jax.jit(function)
                megabytes = sum(x.nbytes for x in jax.tree.leaves(arrays)) / 1e6
                first, call = seconds(lambda: compiled(*arrays))  # noqa: B023
            rate = n * N_DRAWS / call
            best[name] = max(best[name], rate)
            print(f"| {name} | {n} | {megabytes:.0f} | {first:.1f} | {1e3 * call:.1f} | {rate:.3g} |", flush=True)
    return best


def overhead(galaxies: Galaxies, function: Callable[..., jax.Array]) -> None:
    """Print what one launch costs: of an empty function, and of a single draw of a single galaxy."""
    x = jnp.zeros(())
    empty = jax.jit(lambda y: y + 1)
    outer, data, prior = _repeated(galaxies, 1)
    one, compiled = outer[:, :1], jax.jit(function)
    times = [seconds(lambda: empty(x))[1], seconds(lambda: compiled(one, data, prior))[1]]
    print(f"\nOne launch: {1e6 * times[0]:.0f} microseconds; one evaluation of one galaxy: {1e6 * times[1]:.0f}.")


def precision(galaxies: Galaxies, function: Callable[..., jax.Array]) -> None:
    """Print how far single precision is from double, nats."""
    values = []
    for double in PRECISIONS.values():
        with _precision(double):
            values.append(np.asarray(jax.jit(function)(*_repeated(galaxies, len(galaxies.outer))), np.float64))
    shift = values[1] - values[0]
    finite = np.isfinite(shift)
    shift = np.where(finite, shift, np.nan)
    shift -= np.nanmean(shift, axis=1, keepdims=True)
    scatter, lost = np.nanstd(shift, axis=1), int((~finite).sum())
    print(f"\nSingle less double, {len(shift)} galaxies x {N_DRAWS} draws: scatter of the log posterior, nats,")
    print(f"{np.median(scatter):.2g} in the median galaxy, {scatter.max():.2g} in the worst; {lost} draws not finite.")


def work(options: argparse.Namespace) -> None:
    """Make the galaxies and print all."""
    start, device = time.perf_counter(), jax.devices()[0]
    galaxies, function = make(range(600, 600 + options.different))
    print(f"Device: {device.device_kind} ({device.platform}). {options.different} different galaxies, repeated;")
    points, rows = galaxies.size
    print(f"size class {points} points, {rows} rows; made in {time.perf_counter() - start:.0f} s.")
    precision(galaxies, function)
    overhead(galaxies, function)
    best = throughput(galaxies, function, options.galaxies)
    for name, rate in best.items():
        print(f"\n{name}: {rate:.3g} evaluations a second bound joint fits to {rate / FIT_EVALUATIONS:.3g} a second.")
    print(f"\n{time.perf_counter() - start:.0f} s in all.")


def main() -> None:
    """Parse the command line and measure."""
    parser = plain_parser("studies.gpu_rates", __doc__)
    parser.add_argument("--galaxies", type=int, nargs="+", default=[64, 256, 1024, 4096], help="in one call")
    parser.add_argument("--different", type=int, default=8, help="different galaxies, which are then repeated")
    run_study(parser, work, {"galaxies": [2], "different": 2})


if __name__ == "__main__":
    main()
