"""What the workflow costs besides fitting: no-op fits through the whole machinery, scaling, and memory.

    python -m bench.scheduler_speed overhead --galaxies 20000
    python -m bench.scheduler_speed scaling --galaxies 400 --seconds 0.25
    python -m bench.scheduler_speed memory --galaxies 10000
    python -m bench.scheduler_speed tls --repeats 7

``overhead`` runs fits that take no time and states the cost per galaxy; ``scaling`` runs fits that keep a core busy
for a given time on 1 and 2 workers (strong: the same galaxies; weak: twice as many on two); ``memory`` follows the
resident memory of workers and fit processes; ``tls`` compares encrypted with open connections, in turns, by tasks that
do nothing and by the start of a cluster.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from astropy.table import Table

from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation
from provabgs.pipelines import dry_run
from provabgs.pipelines.cluster_options import ClusterOptions
from provabgs.pipelines.clusters import open_cluster
from provabgs.pipelines.config import RunConfig, parse_config
from provabgs.pipelines.run import run
from studies.support.command import ROOT, plain_parser, run_study


def busy_fit(observation: Observation, config: object, seed: int) -> Posterior:
    """Keep one core busy for BENCH_SECONDS of processor time."""
    end = time.process_time() + float(os.environ["BENCH_SECONDS"])
    while time.process_time() < end:
        np.linalg.svd(np.ones((50, 50)))
    return dry_run.fit_observation(observation, config, seed)


def make_inputs(folder: Path, n: int, per_file: int = 1000) -> None:
    """Tables of fluxes, one HEALPix-sized patch each."""
    rng = np.random.default_rng(0)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for k, start in enumerate(range(0, n, per_file)):
        m = min(per_file, n - start)
        table = Table({"TARGETID": start + np.arange(m)})
        table["RA"] = 0.9 * (k % 300) + 0.5 * rng.random(m)
        table["DEC"] = 0.9 * (k // 300) + 0.5 * rng.random(m)
        table["Z"] = rng.uniform(0.01, 0.5, m)
        for band in ("G", "R", "Z"):
            table[f"FLUX_{band}"], table[f"FLUX_IVAR_{band}"] = rng.uniform(5, 50, m), np.full(m, 100.0)
        table.write(folder / f"t{k:05d}.fits")


def configuration(folder: Path, workers: int, fit: str, batch: int) -> RunConfig:
    """A run of table rows in `folder`, which is emptied of an earlier one."""
    output = folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    return parse_config(
        {
            "run": {"output": str(output), "fit": fit},
            "inputs": {"paths": [str(folder / "in")], "reader": "photometry"},
            "execution": {"batch": batch},
            "cluster": {"workers": workers},
        }
    )


class Watch:
    """Resident memory of all descendants, and their processor time, sampled twice a second."""

    def __init__(self, progress: Path) -> None:
        self.progress, self._stop = progress, threading.Event()
        self.samples: list[tuple[float, dict[str, float]]] = []
        self.processor: dict[int, tuple[str, float]] = {}
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.5):
            memory = {}
            for p in psutil.Process().children(recursive=True):
                try:
                    kind = "fit" if "pipelines.child" in " ".join(p.cmdline()) else "worker"
                    memory[f"{kind} {p.pid}"] = p.memory_info().rss / 2**20
                    times = p.cpu_times()
                    self.processor[p.pid] = (kind, times.user + times.system)
                except psutil.Error:
                    continue
            self.samples.append((time.perf_counter(), memory))


def fitting_seconds(folder: Path, workers: int, fit: str, batch: int) -> tuple[float, float]:
    """Wall time of a whole run, and of the part between the first and the last work file."""
    config = configuration(folder, workers, fit, batch)
    start = time.perf_counter()
    first = threading.Event()
    marks: list[float] = []

    def look() -> None:
        while not first.wait(0.02):
            if any((config.run.output / "work").glob("*/*.h5")):
                marks.append(time.perf_counter())
                return

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    report = run(config, quiet=True)
    first.set()
    wall = time.perf_counter() - start
    assert report.n_fitted == report.n_planned
    return wall, start + wall - marks[0]


def overhead(folder: Path, n: int, batch: int) -> None:
    """Cost of everything but the fit, in processor time: wall time means little on a shared machine."""
    make_inputs(folder / "in", n)
    driver = time.process_time()
    with Watch(folder) as watch:
        wall, steady = fitting_seconds(folder, 2, "provabgs.pipelines.dry_run:fit_observation", batch)
    driver = time.process_time() - driver
    print(f"{n} no-op fits, batches of {batch}: {wall:.1f} s in all, {steady:.1f} s from the first batch on")
    spent = {"driver and scheduler": driver}
    for kind, seconds in watch.processor.values():
        spent[kind] = spent.get(kind, 0.0) + seconds
    for kind, seconds in spent.items():
        print(f"{kind}: {1e3 * seconds / n:.2f} ms of processor time a galaxy, {seconds / n / 5:.3%} of a fit of 5 s")
    total = sum(spent.values())
    print(f"all: {1e3 * total / n:.2f} ms, {total / n / 5:.3%}")


def scaling(folder: Path, n: int, seconds: float) -> None:
    """Fits that keep a core busy for `seconds`, on one and two workers."""
    os.environ["BENCH_SECONDS"] = str(seconds)
    os.environ["PYTHONPATH"] = str(ROOT)
    fit = "bench.scheduler_speed:busy_fit"
    results = {}
    for label, workers, count in (("one", 1, n), ("strong", 2, n), ("weak", 2, 2 * n)):
        make_inputs(folder / "in", count, per_file=100)
        results[label] = fitting_seconds(folder, workers, fit, 4)
        print(f"{label}: {workers} workers, {count} galaxies: {results[label][1]:.1f} s", flush=True)
    one = results["one"][1]
    print(f"strong scaling 1 -> 2: {100 * one / (2 * results['strong'][1]):.1f} %")
    print(f"weak scaling 1 -> 2:   {100 * one / results['weak'][1]:.1f} %")
    print(f"one worker against pure fit time: {100 * n * seconds / one:.1f} %")


def memory(folder: Path, n: int) -> None:
    """Resident memory of a worker and its fit process, early and late in a run."""
    make_inputs(folder / "in", n)
    config = configuration(folder, 1, "provabgs.pipelines.dry_run:fit_observation", 16)
    config = config.model_copy(update={"execution": config.execution.model_copy(update={"restart_after": 0})})
    with Watch(config.run.output) as watch:
        run(config, quiet=True)
    for kind in ("worker", "fit"):
        series = [max((v for k, v in m.items() if k.startswith(kind)), default=0.0) for _, m in watch.samples]
        series = [s for s in series if s > 40.0]  # not the start, nor multiprocessing's own small helpers
        tenth = max(1, len(series) // 10)
        early = np.median(series[tenth : 2 * tenth])
        print(f"{kind}: {early:.0f} MB after a tenth of {n} fits, {series[-1]:.0f} MB at the end")
    print(json.dumps([round(sum(m.values())) for _, m in watch.samples][:: max(1, len(watch.samples) // 12)]))


def _tasks(tls: bool, n: int, folder: Path) -> tuple[float, float, float]:
    """Seconds that a cluster takes to start and that `n` empty tasks take, wall and processor time of this process."""
    start = time.perf_counter()
    with open_cluster(ClusterOptions(workers=2, tls=tls), 2, folder) as client:
        client.gather(client.map(abs, range(100), pure=False))
        began, began_cpu = time.perf_counter(), time.process_time()
        client.gather(client.map(abs, range(n), pure=False))
        return began - start, time.perf_counter() - began, time.process_time() - began_cpu


def tls(folder: Path, n: int, repeats: int) -> None:
    """What TLS costs: the same empty tasks over encrypted and over open connections, in turns."""
    rows: dict[bool, list[tuple[float, float, float]]] = {True: [], False: []}
    for k in range(repeats):
        for on in (True, False) if k % 2 else (False, True):
            rows[on].append(_tasks(on, n, folder))
            print("TLS " if on else "open", *(f"{x:.2f}" for x in rows[on][-1]), flush=True)
    found = {on: np.array(r) for on, r in rows.items()}
    for c, what in enumerate(("start of the cluster", f"{n} empty tasks", "the same, processor time of the scheduler")):
        ratio = found[True][:, c] / found[False][:, c]
        low, middle, high = np.percentile(ratio, [16, 50, 84])
        plain, encrypted = (np.median(found[on][:, c]) for on in (False, True))
        print(f"{what}: {plain:.2f} s open, {encrypted:.2f} s TLS, ratio {middle:.3f} ({low:.3f} to {high:.3f})")


def work(options: argparse.Namespace) -> None:
    """Measure what was asked for; the folder is removed afterwards."""
    if options.what == "overhead":
        overhead(options.output, options.galaxies, options.batch)
    elif options.what == "scaling":
        scaling(options.output, options.galaxies, options.seconds)
    elif options.what == "tls":
        tls(options.output, options.galaxies, options.repeats)
    else:
        memory(options.output, options.galaxies)
    shutil.rmtree(options.output, ignore_errors=True)


def main() -> None:
    """Parse the command line and run."""
    parser = plain_parser("bench.scheduler_speed", __doc__)
    parser.add_argument("what", nargs="?", default="overhead", choices=["overhead", "scaling", "memory", "tls"])
    parser.add_argument("--galaxies", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=0.25, help="scaling: processor time of a fit")
    parser.add_argument("--repeats", type=int, default=7, help="tls: pairs of clusters")
    parser.add_argument("--batch", type=int, default=16)
    run_study(parser, work, {"galaxies": 20})


if __name__ == "__main__":
    main()
