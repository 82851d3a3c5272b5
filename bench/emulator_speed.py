"""Time per spectrum and per ln L: emulators beside the published network, the exact model, the compressed engine.

    python -m bench.emulator_speed [--reference FOLDER]

Everything is timed in one run, in turn (round after round over all), in processor time: a busy machine is busy for
all; median and quartiles over rounds. FOLDER holds the published networks' arrays. About a minute on one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from provabgs.core.jax import jax, jnp
from provabgs.data import data_path
from provabgs.emulator.published import PublishedEmulator, nmf_inputs
from provabgs.emulator.rest_frame import RestFrameEmulator
from provabgs.emulator.weights import load_emulator
from provabgs.inference.compressed import CompressedLikelihood, size_of
from provabgs.inference.compressed.normal_equations import make_normal_equations
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.likelihood.emulated import EmulatedLikelihood, make_log_likelihood
from provabgs.observe.projection import project
from provabgs.sps.model import SPSModel
from studies.support.command import plain_parser, run_study
from tests.support.engine_mocks import NO_FLOOR, draw_theta, mock, near
from tests.support.parameters import prior_draws, prior_of, put, stars_of, values_of

BATCHES, LIKELIHOOD_BATCHES = (1, 64, 1024), (64, 256, 1024)
T_AGE = 11.0

Timed = dict[tuple[str, int], Callable[[], Any]]


def rest_frame(reference: Path | None, largest: int) -> Timed:
    """Rest-frame ln L of smooth histories on all 4,899 wavelengths, checks of range included.

    Parameters
    ----------
    reference
        Folder of the published networks' arrays; they are left out without it.
    largest
        Largest batch, spectra.
    """
    model = SPSModel.published()
    rng = np.random.default_rng(0)
    theta = jnp.asarray(put(prior_draws(max(BATCHES), rng), fburst=0.0, logmstar=0.0))
    inputs = nmf_inputs(values_of(theta), T_AGE)
    ours = RestFrameEmulator(load_emulator(data_path("emulator_published.h5")), model)
    spectrum, tables = jax.jit(model.spectrum), model.tables(T_AGE)

    def log_spectrum(theta: jax.Array) -> jax.Array:
        return jnp.log(spectrum(stars_of(theta), tables, model.flat_spectra))

    calls: Timed = {}
    for n in (b for b in BATCHES if b <= largest):
        x, part = inputs[:n], theta[:n]
        if reference is not None:
            published = PublishedEmulator(reference / "emulator_nmf_v0.1.npz")
            calls["published network", n] = partial(published.ln_luminosity, x)
        calls["emulator (a)", n] = partial(ours.ln_luminosity, x)
        calls["exact model", n] = partial(log_spectrum, part)
    return calls


def likelihoods(largest: int) -> tuple[Timed, str]:
    """Ln L, its gradient, and the normal equations that the sampler asks for; one galaxy, S/N 20."""
    rng, model = np.random.default_rng(1), SPSModel()
    theta = draw_theta(rng)
    data = mock(model, theta, 0.2, 20, rng)
    projection = project(data, model.library, NO_FLOOR)
    compressed = CompressedLikelihood(projection, model)
    weights = load_emulator(data_path("emulator_paper.h5"))
    emulated = EmulatedLikelihood(compressed, weights)
    exact = ExactLikelihood(projection, model)
    points = jnp.tile(near(compressed, theta, prior_of(data), rng, n=64), (16, 1))
    log_like = make_log_likelihood(weights, model)
    gradient = jax.jit(jax.value_and_grad(lambda t, r: log_like(t, r).sum()))
    columns, emulated_columns = jax.jit(make_normal_equations(model)), jax.jit(emulated.linear_system.equations)
    calls: Timed = {("ln L, exact", 64): lambda: exact(points[:64])}
    for n in (b for b in LIKELIHOOD_BATCHES if b <= largest):
        part = points[:n]
        calls["ln L, compressed", n] = partial(compressed, part)
        calls["ln L, emulator (b)", n] = partial(emulated, part)
        calls["ln L and gradient, emulator (b)", n] = partial(gradient, part, emulated.reduction)
        calls["normal equations, compressed", n] = partial(columns, part, compressed.reduction)
        calls["normal equations, emulator (b)", n] = partial(emulated_columns, part, emulated.reduction)
    return calls, str(size_of(compressed.reduction))


def measure(calls: Timed, rounds: int) -> dict[tuple[str, int], np.ndarray]:
    """Processor seconds of every round, ``(rounds,)`` each."""
    for call in calls.values():
        jax.block_until_ready(call())
    times: dict[tuple[str, int], list[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            start = time.process_time()
            jax.block_until_ready(call())
            times[key].append(time.process_time() - start)
    return {key: np.array(t) for key, t in times.items()}


def report(calls: Timed, rounds: int) -> None:
    """Print a table, microseconds per spectrum."""
    print("\n| what | batch | CPU us each, median | quartiles |\n|---|---|---|---|")
    for (name, n), seconds in sorted(measure(calls, rounds).items(), key=lambda item: item[0][1]):
        low, median, high = 1e6 * np.percentile(seconds, [25, 50, 75]) / n
        print(f"| {name} | {n} | {median:.4g} | {low:.4g}-{high:.4g} |")


def work(options: argparse.Namespace) -> None:
    """Time everything and print the tables."""
    report(rest_frame(options.reference, options.largest), options.rounds)
    calls, size = likelihoods(options.largest)
    report(calls, options.rounds)
    print(f"\nthe galaxy's {size}")


def main() -> None:
    """Parse the command line and run."""
    parser = plain_parser("bench.emulator_speed", __doc__)
    parser.add_argument("--reference", type=Path, help="folder of the published networks' arrays")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--largest", type=int, default=1024, help="largest batch")
    run_study(parser, work, {"rounds": 1, "largest": 64})


if __name__ == "__main__":
    main()
