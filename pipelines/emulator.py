"""`provabgs emulator train`: from a configuration to weights, again and again until they are there.

Stages: an SSP library (when FSPS is the source); spectra for the principal components; spectra in their coordinates;
the network; the file of weights, with its errors measured on composites that took no part.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from distributed import as_completed

import provabgs
from provabgs.core.arrays import FloatArray
from provabgs.core.atomic import atomic_path, sweep
from provabgs.core.errors import ConfigError
from provabgs.emulator.assemble import assemble, burst_table
from provabgs.emulator.basis import Basis, fit_basis
from provabgs.emulator.component import ComponentEmulator
from provabgs.emulator.encoding import Encoding
from provabgs.emulator.evaluation import ErrorSummary, composite_errors
from provabgs.emulator.training import Trained, TrainingState, new_state, standardisation, train
from provabgs.emulator.training_spectra import Parts, smooth_ranges
from provabgs.emulator.weights import save_emulator
from provabgs.inference.prior_draws import draw_prior
from provabgs.inference.priors import Prior
from provabgs.pipelines.clusters import open_cluster
from provabgs.pipelines.emulator_checkpoint import restore, store
from provabgs.pipelines.emulator_config import EmulatorConfig
from provabgs.pipelines.emulator_shards import (
    STAGES,
    Stage,
    compute_shard,
    is_done,
    library_path,
    load_training_model,
    read_bases,
    read_shards,
    shard_sizes,
    write_bases,
)
from provabgs.pipelines.lock import DirectoryLock
from provabgs.pipelines.stopping import orderly_stop
from provabgs.sps.model import SPSModel
from provabgs.sps.sources import BuildOptions, build_library

WORKER_TRIES = 4
"""A shard that loses its worker this often stops the training."""
CHECK_RANGE = (2500.0, 11000.0)
"""Rest wavelengths over which errors are quoted, Angstrom."""
CHECKPOINT_S = 15.0
"""Least time between checkpoints, seconds."""
N_COMPOSITE = 2000
"""Composites on which the finished emulator is measured."""

Show = Callable[[str, int, int], None]
"""Called with (what is done, steps done, steps in all)."""


@dataclass
class TrainingReport:
    """What a training did.

    Attributes
    ----------
    output
        File of weights.
    n_computed
        Draws whose spectra this call computed.
    n_found
        Draws found in shards of earlier calls.
    wall_s
        Seconds by stage, of this call.
    errors
        Relative errors of attenuated composites that took no part.
    trained
        Training curve and network.
    """

    output: str
    n_computed: int = 0
    n_found: int = 0
    wall_s: dict[str, float] = field(default_factory=dict)
    errors: ErrorSummary | None = None
    trained: Trained | None = None

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        start = time.monotonic()
        yield
        self.wall_s[stage] = self.wall_s.get(stage, 0.0) + time.monotonic() - start


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def train_emulator(config: EmulatorConfig, show: Show = _silent) -> TrainingReport:
    """Train an emulator and write its weights; may be stopped at any moment and called again.

    Raises
    ------
    ConfigError, InputError
        For settings that cannot be used, and when another training is at work on the directory.
    DataFileError, MissingDependencyError
        When FSPS, its data, or a library are not to be had.
    """
    report = TrainingReport(str(config.emulator.output))
    work = config.emulator.work
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"[emulator] work = {work}: cannot be made ({error.strerror})") from None
    with DirectoryLock(work), orderly_stop():
        sweep(work)
        with report.timed("library"):
            _fill_library(config, show)
        model = load_training_model(config)
        with report.timed("spectra"):
            bases = _all_spectra(config, model, report, show)
        with report.timed("network"):
            trained, standard = _train(config, model, show)
        with report.timed("assembly"):
            emulator = _assemble(config, model, bases, trained, standard)
        with report.timed("measurement"):
            report.errors = measure(emulator, model, config, N_COMPOSITE)
        _write(config, emulator, trained, report)
    report.trained = trained
    return report


def _fill_library(config: EmulatorConfig, show: Show) -> None:
    """Run FSPS, where it is the source and has not been run."""
    path = library_path(config)
    if config.source.kind != "fsps" or path is None or path.exists():
        return
    s = config.source
    options = BuildOptions(wave_range=s.wave_range, logzsol=s.logzsol, nebular=s.nebular, timeout=s.timeout_s)
    library = build_library("fsps", options, lambda done, total, what: show(f"FSPS: {what}", done, total), bits=None)
    with atomic_path(path) as temporary:
        library.save(temporary)


def _all_spectra(config: EmulatorConfig, model: SPSModel, report: TrainingReport, show: Show) -> tuple[Basis, Basis]:
    """Compute what is missing of the shards, and the bases between the first stage and the others."""
    missing = _missing(config)
    report.n_found = sum(shard_sizes(config, s)[i] for s in STAGES for i in _done(config, s))
    if not missing and (bases := read_bases(config)) is not None:
        return bases
    with open_cluster(config.cluster, WORKER_TRIES, config.emulator.work) as client:
        report.n_computed += _compute(client, config, [m for m in missing if m[0] == "basis"], show)
        found = read_bases(config)
        if found is None:
            show("principal components", 0, 1)
            found = _find_bases(config, model)
            write_bases(config, found)
        report.n_computed += _compute(client, config, [m for m in _missing(config) if m[0] != "basis"], show)
    return found


def _done(config: EmulatorConfig, stage: Stage) -> list[int]:
    return [i for i in range(len(shard_sizes(config, stage))) if is_done(config, stage, i)]


def _missing(config: EmulatorConfig) -> list[tuple[Stage, int]]:
    """Shards that are not there."""
    return [(s, i) for s in STAGES for i in range(len(shard_sizes(config, s))) if not is_done(config, s, i)]


def _compute(client: Any, config: EmulatorConfig, shards: list[tuple[Stage, int]], show: Show) -> int:
    """Have workers compute shards; returns the number of draws."""
    if not shards:
        return 0
    settings = config.model_dump(mode="json")
    what = f"spectra: {shards[0][0].replace('_', '-')}"
    futures = [client.submit(compute_shard, settings, stage, index, pure=False) for stage, index in shards]
    n_draw = 0
    for done, future in enumerate(as_completed(futures), start=1):
        n_draw += future.result()
        future.release()
        show(what, done, len(shards))
    return n_draw


def _find_bases(config: EmulatorConfig, model: SPSModel) -> tuple[Basis, Basis]:
    """Principal components of young light and, over all SFH bases together, of old light."""
    spectra = read_shards(config, "basis").y
    n_young, n_wave = len(Parts.of(model, config.data.t_age).young), model.library.wave.size
    young, old = (s.reshape(-1, n_wave) for s in (spectra[:, :n_young], spectra[:, n_young:]))
    wave = model.library.wave
    return fit_basis(young, wave, config.basis.young), fit_basis(old, wave, config.basis.old)


def _train(config: EmulatorConfig, model: SPSModel, show: Show) -> tuple[Trained, tuple[FloatArray, FloatArray]]:
    """Train the network, from its last checkpoint where there is one."""
    data, held_out = read_shards(config, "train"), read_shards(config, "held_out")
    standard = standardisation(data.y)
    shift, scale = standard
    scaled = [(s.x, ((s.y - shift) / scale).astype(np.float32)) for s in (data, held_out)]
    encoding = Encoding.of(model, *smooth_ranges(config.data.t_age))
    options = config.network.options()
    state = restore(config, new_state(encoding, data.y.shape[1], options, config.emulator.seed))
    last_saved = time.monotonic()

    def on_look(now: TrainingState) -> None:
        nonlocal last_saved
        look = now.history[-1]
        show(f"network: held-out error {100 * look.held_out:.4f} %", look.step, options.steps)
        if time.monotonic() - last_saved > CHECKPOINT_S:
            store(config, now)
            last_saved = time.monotonic()

    n_part = sum(len(p) for p in Parts.of(model, config.data.t_age))
    trained = train(state, encoding, scaled[0], scaled[1], scale[0], n_part, options, config.emulator.seed, on_look)
    store(config, state)
    return trained, standard


def _assemble(
    config: EmulatorConfig,
    model: SPSModel,
    bases: tuple[Basis, Basis],
    trained: Trained,
    standard: tuple[FloatArray, FloatArray],
) -> ComponentEmulator:
    burst, burst_basis = burst_table(model, config.data.tburst_min, config.basis.burst)
    parts = Parts.of(model, config.data.t_age)
    ranges = smooth_ranges(config.data.t_age)
    provenance = {
        "software": f"provabgs {provabgs.__version__}",
        "settings": config.settings(),
        "ssp_library": json.dumps(model.library.provenance),
        "command": "provabgs emulator train CONFIG (settings: the attribute of that name)",
        "licence": "MIT",
    }
    everything = (*bases, burst_basis)
    return assemble(model, parts, everything, trained.network, standard, burst, ranges, provenance)


def measure(
    emulator: ComponentEmulator, model: SPSModel, config: EmulatorConfig, n: int, seed: int = 1
) -> ErrorSummary:
    """Errors of attenuated composites over the full prior, against the exact model."""
    rng = np.random.default_rng([config.emulator.seed, len(STAGES), seed])
    theta, t_age = draw_composites(model, n, config.data.t_age, rng)
    tburst = theta[:, model.parameters.index("tburst")]
    np.maximum(tburst, config.data.tburst_min, out=tburst)
    return composite_errors(emulator, model, theta, t_age, CHECK_RANGE).summary()


def draw_composites(
    model: SPSModel, n: int, t_age: tuple[float, float], rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Parameters ``(n, nparameter)`` from a model's prior and ages of the universe ``(n,)``, flat in `t_age`, Gyr."""
    return draw_prior(Prior.of(model.parameters), n, rng), rng.uniform(*t_age, n)


def _write(config: EmulatorConfig, emulator: ComponentEmulator, trained: Trained, report: TrainingReport) -> None:
    assert report.errors is not None
    emulator.provenance["errors"] = report.errors.describe()
    emulator.provenance["training"] = (
        f"{config.data.n_train} draws, {trained.history[-1].step} steps; held-out error of a part "
        f"{100 * min(h.held_out for h in trained.history):.4f} %, after the refit {100 * trained.refit:.4f} %"
    )
    curve = np.array([tuple(h) for h in trained.history])
    with atomic_path(config.emulator.output) as temporary:
        save_emulator(emulator, temporary, curve)
