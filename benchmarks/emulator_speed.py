"""Time per spectrum and per ln L: emulators beside the published network, the exact model, the compressed engine.

    python benchmarks/emulator_speed.py [--reference FOLDER]

Everything is timed in one run, in turn (round after round over all), in processor time: a busy machine is busy for
all; median and quartiles over rounds. FOLDER holds the published networks' arrays. About a minute on one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from engine_mocks import NO_FLOOR, draw_theta, mock, near  # noqa: E402

from provabgs.core.jax import jax, jnp  # noqa: E402
from provabgs.data import data_path  # noqa: E402
from provabgs.emulator.published import PublishedEmulator, nmf_inputs  # noqa: E402
from provabgs.emulator.rest_frame import RestFrameEmulator  # noqa: E402
from provabgs.emulator.weights import load_emulator  # noqa: E402
from provabgs.inference.compressed import CompressedLikelihood, size_of  # noqa: E402
from provabgs.inference.compressed.normal_equations import make_normal_equations  # noqa: E402
from provabgs.inference.likelihood import ExactLikelihood  # noqa: E402
from provabgs.inference.likelihood.emulated import EmulatedLikelihood, make_log_likelihood  # noqa: E402
from provabgs.inference.priors import N_LATENT, Prior, theta_from_unit  # noqa: E402
from provabgs.observe.projection import project  # noqa: E402
from provabgs.sps.model import SPSModel  # noqa: E402
from provabgs.sps.parameters import INDEX  # noqa: E402

ROUNDS = 25
BATCHES = (1, 64, 1024)
T_AGE = 11.0

Timed = dict[tuple[str, int], Callable[[], Any]]


def rest_frame(reference: Path | None) -> Timed:
    """Rest-frame ln L of smooth histories on all 4,899 wavelengths, checks of range included."""
    model = SPSModel.published()
    rng = np.random.default_rng(0)
    theta = theta_from_unit(jnp.asarray(rng.random((max(BATCHES), N_LATENT))), Prior.create())
    theta = theta.at[:, INDEX["fburst"]].set(0.0).at[:, INDEX["logmstar"]].set(0.0)
    inputs = nmf_inputs(theta, T_AGE)
    ours = RestFrameEmulator(load_emulator(data_path("emulator_published.h5")), model)
    spectrum, tables = jax.jit(model.spectrum), model.tables(T_AGE)
    calls: Timed = {}
    for n in BATCHES:
        x, part = inputs[:n], theta[:n]
        if reference is not None:
            published = PublishedEmulator(reference / "emulator_nmf_v0.1.npz")
            calls["published network", n] = lambda p=published, x=x: p.ln_luminosity(x)
        calls["emulator (a)", n] = lambda x=x: ours.ln_luminosity(x)
        calls["exact model", n] = lambda part=part: jnp.log(spectrum(part, tables, model.flat_spectra))
    return calls


def likelihoods() -> tuple[Timed, str]:
    """ln L, its gradient, and the normal equations that the sampler asks for; one galaxy, S/N 20."""
    rng, model = np.random.default_rng(1), SPSModel()
    theta = draw_theta(rng)
    data = mock(model, theta, 0.2, 20, rng)
    projection = project(data, model.library, NO_FLOOR)
    compressed = CompressedLikelihood(projection, model)
    weights = load_emulator(data_path("emulator_paper.h5"))
    emulated = EmulatedLikelihood(compressed, weights)
    exact = ExactLikelihood(projection, model)
    points = jnp.tile(near(compressed, theta, Prior.create(data.fiber_fraction), rng, n=64), (16, 1))
    log_like = make_log_likelihood(weights)
    gradient = jax.jit(jax.value_and_grad(lambda t, r: log_like(t, r).sum()))
    columns, emulated_columns = jax.jit(make_normal_equations(model)), jax.jit(emulated.equations)
    calls: Timed = {("ln L, exact", 64): lambda: exact(points[:64])}
    for n in (64, 256, 1024):
        part = points[:n]
        calls["ln L, compressed", n] = lambda p=part: compressed(p)
        calls["ln L, emulator (b)", n] = lambda p=part: emulated(p)
        calls["ln L and gradient, emulator (b)", n] = lambda p=part: gradient(p, emulated.reduction)
        calls["normal equations, compressed", n] = lambda p=part: columns(p, compressed.reduction).q
        calls["normal equations, emulator (b)", n] = lambda p=part: emulated_columns(p, emulated.reduction).q
    return calls, str(size_of(compressed.reduction))


def measure(calls: Timed) -> dict[tuple[str, int], np.ndarray]:
    """Processor seconds of every round, ``(ROUNDS,)`` each."""
    for call in calls.values():
        jax.block_until_ready(call())
    times: dict[tuple[str, int], list[float]] = {key: [] for key in calls}
    for _ in range(ROUNDS):
        for key, call in calls.items():
            start = time.process_time()
            jax.block_until_ready(call())
            times[key].append(time.process_time() - start)
    return {key: np.array(t) for key, t in times.items()}


def report(calls: Timed) -> None:
    """Print a table, microseconds per spectrum."""
    print("\n| what | batch | CPU us each, median | quartiles |\n|---|---|---|---|")
    for (name, n), seconds in sorted(measure(calls).items(), key=lambda item: item[0][1]):
        low, median, high = 1e6 * np.percentile(seconds, [25, 50, 75]) / n
        print(f"| {name} | {n} | {median:.4g} | {low:.4g}-{high:.4g} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, default=None)
    options = parser.parse_args()
    report(rest_frame(options.reference))
    calls, size = likelihoods()
    report(calls)
    print(f"\nthe galaxy's {size}")


if __name__ == "__main__":
    main()
