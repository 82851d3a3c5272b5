"""One likelihood, four ways: exact, compressed, and the published emulators' recipe evaluated from their weights.

    make bench        (or: pytest bench/test_bench_likelihood.py -m benchmark --benchmark-only)

Prints the table of docs/studies/likelihood.md: microseconds per ln L (median and quartiles over rounds of one batch),
ratio to the published recipe, memory. On a machine that is busy with other work add
``--benchmark-timer=time.process_time`` and keep XLA to one thread
(``XLA_FLAGS="--xla_cpu_multi_thread_eigen=false"``): processor time is what one core would take.
Data: one mock galaxy, three DESI cameras and five bands, S/N 20 per pixel.

The published recipe is what its authors' code does for one parameter vector: NMF and burst networks (here compiled,
which flatters them), redshifting, velocity dispersion by FFT in log wavelength, resampling by the trapezium rule,
DESI's resolution matrix, filters, chi^2. A second row gives the same networks in batches of 64 with our own operators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from provabgs.core.constants import C_AA, C_KMS, SPECTRUM_UNIT
from provabgs.core.jax import jax, jnp
from provabgs.emulator.published import PublishedEmulator, nmf_inputs
from provabgs.inference.compressed import CompressedLikelihood, make_log_likelihood, size_of
from provabgs.inference.compressed.normal_equations import make_normal_equations
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.observe.filters import load_filter
from provabgs.observe.linespread import resolution_matrix
from provabgs.observe.projection import project
from provabgs.sps.histories import NMFHistories
from provabgs.sps.model import SPSModel
from studies.support.command import REFERENCE
from tests.support.engine_mocks import NO_FLOOR, draw_theta, mock, near
from tests.support.parameters import column, prior_of, values_of

pytestmark = pytest.mark.benchmark
NETWORKS = REFERENCE / "provabgs"
REDSHIFT = 0.2
VDISP = 150.0
AB_ZERO = 3.631e-20
"""Zero point of AB magnitudes, erg/s/cm2/Hz."""


class Case:
    """The galaxy and its likelihoods."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.model = SPSModel()
        theta = draw_theta(rng)
        self.data = mock(self.model, theta, REDSHIFT, 20, rng)
        self.projection = project(self.data, self.model.library, NO_FLOOR)
        self.exact = ExactLikelihood(self.projection, self.model)
        self.compressed = CompressedLikelihood(self.projection, self.model)
        points = near(self.compressed, theta, prior_of(self.data), rng, n=64)
        self.points = jnp.tile(points, (16, 1))
        log_like = make_log_likelihood(self.model)
        self.gradient = jax.jit(jax.value_and_grad(lambda t, r: log_like(t, r).sum()))
        self.columns = jax.jit(make_normal_equations(self.model))
        self.exact_gradient = jax.jit(jax.value_and_grad(lambda t: self.exact(t).sum()))


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest, case: Case) -> Iterator[list[tuple[str, int, Any]]]:
    """Collects timings, prints the table at the end."""
    rows: list[tuple[str, int, Any]] = []
    yield rows
    published = next((s["median"] for name, _, s in rows if name.startswith("published recipe")), None)
    lines = ["", "| likelihood | batch | us per ln L, median | quartiles | published / this |", "|---|---|---|---|---|"]
    for name, batch, s in rows:
        each = [1e6 * s[k] / batch for k in ("median", "q1", "q3")]
        ratio = f"{published / (s['median'] / batch):.0f}" if published else "-"
        lines.append(f"| {name} | {batch} | {each[0]:.4g} | {each[1]:.4g}-{each[2]:.4g} | {ratio} |")
    arrays = case.exact.arrays
    exact_mb = sum(np.asarray(x).nbytes for x in jax.tree.leaves((arrays.spectrum, arrays.photometry))) / 1e6
    lines.append(
        f"\nmemory per galaxy: compressed {case.compressed.n_bytes / 1e6:.2f} MB "
        f"({size_of(case.compressed.reduction)}), "
        f"exact {exact_mb:.1f} MB beside the library's {case.model.library.spectrum.nbytes / 1e6:.0f} MB"
    )
    lines.append(f"single-precision matrix product, 1024 x 1024, same run: {_peak():.0f} GFLOP/s")
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n".join(lines))


def _peak() -> float:
    """Best rate of a large matrix product, GFLOP/s: the limit that the engine's products have."""
    import time

    a = jnp.asarray(np.random.default_rng(0).random((1024, 1024), dtype=np.float32))
    product = jax.jit(lambda x: x @ x)
    product(a).block_until_ready()
    best = np.inf
    for _ in range(10):
        start = time.process_time()
        product(a).block_until_ready()
        best = min(best, time.process_time() - start)
    return 2 * 1024**3 / best / 1e9


def run(benchmark: Any, report: list, name: str, batch: int, call: Callable[[], Any], rounds: int = 40) -> None:
    benchmark.pedantic(lambda: jax.block_until_ready(call()), rounds=rounds, warmup_rounds=2)
    s = benchmark.stats.stats
    report.append((name, batch, {"median": s.median, "q1": s.q1, "q3": s.q3}))


@pytest.mark.skipif(not NETWORKS.is_dir(), reason="the published emulators' weights (../shared/reference) are not here")
def test_published_recipe(benchmark: Any, report: list, case: Case) -> None:
    recipe = Recipe(case)
    theta = np.asarray(case.points[:64])
    run(benchmark, report, "published recipe, one by one", 1, lambda: recipe(theta[:1]), rounds=40)
    both = recipe(theta[:1]), float(recipe.batched(case.points[:1])[0])
    assert both[0] == pytest.approx(both[1], rel=0.1)  # one physics, two ways to observe it


@pytest.mark.skipif(not NETWORKS.is_dir(), reason="the published emulators' weights (../shared/reference) are not here")
def test_published_networks_batched(benchmark: Any, report: list, case: Case) -> None:
    recipe = Recipe(case)
    run(benchmark, report, "its networks, our operators", 64, lambda: recipe.batched(case.points[:64]), rounds=8)


def test_exact(benchmark: Any, report: list, case: Case) -> None:
    run(benchmark, report, "exact", 64, lambda: case.exact(case.points[:64]), rounds=8)


def test_exact_gradient(benchmark: Any, report: list, case: Case) -> None:
    run(benchmark, report, "exact, with gradient", 64, lambda: case.exact_gradient(case.points[:64]), rounds=5)


@pytest.mark.parametrize("batch", [64, 256, 1024])
def test_compressed(benchmark: Any, report: list, case: Case, batch: int) -> None:
    run(benchmark, report, "compressed", batch, lambda: case.compressed(case.points[:batch]))


@pytest.mark.parametrize("batch", [64, 256, 1024])
def test_columns(benchmark: Any, report: list, case: Case, batch: int) -> None:
    """What the sampler calls: four columns and their products per set of outer parameters."""
    points = case.points[:batch]
    run(benchmark, report, "compressed, four columns", batch, lambda: case.columns(points, case.compressed.reduction))


@pytest.mark.parametrize("batch", [64, 256, 1024])
def test_compressed_gradient(benchmark: Any, report: list, case: Case, batch: int) -> None:
    points = case.points[:batch]
    name = "compressed, with gradient"
    run(benchmark, report, name, batch, lambda: case.gradient(points, case.compressed.reduction))


def test_reduction(benchmark: Any, report: list, case: Case) -> None:
    """Building one galaxy's reduction, in the table as one 'ln L' of a batch of 1."""

    def build() -> jax.Array:
        spectrum = CompressedLikelihood(case.projection, case.model).reduction.spectrum
        assert spectrum is not None
        return spectrum.rows

    run(benchmark, report, "(building a reduction, per galaxy)", 1, build, rounds=10)


class Recipe:
    """The published recipe for one galaxy."""

    def __init__(self, case: Case) -> None:
        self.nmf = PublishedEmulator(NETWORKS / "emulator_nmf_v0.1.npz")
        self.burst = PublishedEmulator(NETWORKS / "emulator_burst_seed0_199.npz")
        self.case = case
        self.t_age, self.factor = case.projection.t_age, case.projection.flux_factor
        self.rest = self.nmf.wave
        self.wave = self.rest * (1 + REDSHIFT)
        self.even = np.exp(np.linspace(np.log(3400.0), np.log(10200.0), 16384))
        frequency = np.fft.rfftfreq(self.even.size, np.log(self.even[1] / self.even[0]))
        self.kernel = np.exp(-2 * (np.pi * frequency * VDISP / C_KMS) ** 2)
        spectra = sorted(case.data.spectra, key=lambda s: s.wave[0])
        self.cameras = [(s, resolution_matrix(s.resolution).tocsr()) for s in spectra if s.resolution is not None]
        assert case.data.photometry is not None
        self.photometry = case.data.photometry
        self.filters = [load_filter(b) for b in self.photometry.bands]
        histories = case.model.histories
        assert isinstance(histories, NMFHistories)
        self.bursts = histories.bases

    def luminosity(self, theta: np.ndarray) -> np.ndarray:
        """Rest-frame spectra of both networks, mixed, ``(batch, nwave)``."""
        smooth = jnp.exp(self.nmf.ln_luminosity(nmf_inputs(values_of(theta), self.t_age)))
        at_burst = self.bursts.metallicity_bases(column(theta, "tburst"))
        z = np.einsum("ib,bi->b", at_burst, column(theta, "gamma1", "gamma2"))
        log_z = np.log10(np.clip(z, 4.49e-5, 4.49e-2))
        dust = column(theta, "tau_ism", "n_dust")
        inputs = np.column_stack([np.log10(column(theta, "tburst")), log_z, dust])
        burst = np.exp(np.asarray(self.burst.ln_luminosity(jnp.asarray(inputs))))
        burst = np.stack([np.interp(self.rest, self.burst.wave, b) for b in burst])
        f = column(theta, "fburst")[:, None]
        return 10 ** column(theta, "logmstar")[:, None] * ((1 - f) * np.asarray(smooth) + f * burst)

    def __call__(self, theta: np.ndarray) -> float:
        """Ln L of one parameter vector, ``(1, 13)``."""
        flux = self.factor * self.luminosity(theta)[0]
        even = np.interp(np.log(self.even), np.log(self.wave), flux)
        even = np.fft.irfft(np.fft.rfft(even) * self.kernel, even.size)
        running = np.concatenate([[0.0], np.cumsum(0.5 * (even[1:] + even[:-1]) * np.diff(self.even))])
        chi2 = 0.0
        for s, resolution in self.cameras:
            edges = np.append(s.wave - 0.4, s.wave[-1] + 0.4)
            pixels = np.diff(np.interp(edges, self.even, running)) / 0.8
            residual = s.flux - column(theta, "f_fiber")[0] * (resolution @ pixels)
            chi2 += float(np.sum(s.ivar * residual**2))
        phot = self.photometry
        for curve, data, ivar in zip(self.filters, phot.flux, phot.ivar, strict=True):
            weight = np.interp(self.wave, curve.wave, curve.response, left=0.0, right=0.0)
            photons = np.trapezoid(self.wave * flux * weight, self.wave)
            zero = C_AA * AB_ZERO * np.trapezoid(weight / self.wave, self.wave)
            chi2 += float(ivar * (data - photons * SPECTRUM_UNIT / zero * 1e9) ** 2)
        return -0.5 * chi2

    def batched(self, theta: jax.Array) -> np.ndarray:
        """Ln L of many parameter vectors with the operators of `project`."""
        flux = jnp.asarray(self.factor * self.luminosity(np.asarray(theta)))
        s, p = self.case.exact.arrays.spectrum, self.case.exact.arrays.photometry
        assert s is not None
        assert p is not None
        pixels = column(theta, "f_fiber")[:, None] * _apply(s.operator, flux)
        chi2 = jnp.sum(s.ivar * (s.flux - pixels) ** 2, axis=1)
        return np.asarray(-0.5 * (chi2 + jnp.sum(p.ivar * (p.flux - flux @ p.operator.T) ** 2, axis=1)))


@jax.jit
def _apply(operator: Any, flux: jax.Array) -> jax.Array:
    return operator.apply(flux)
