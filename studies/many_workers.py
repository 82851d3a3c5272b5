"""A hundred thousand galaxies through 64 simulated workers: memory of driver and scheduler over time, and the rate.

``python -m studies.many_workers --galaxies 100000 --workers 64 --hosts 2`` starts a scheduler of Dask's own, `--hosts`
processes that hold the Dask workers (one thread each, over TLS, as jobs bring them), and carries out a run from this
process. Everything is the product's (plan, driver, batches, work files, merging, shards, summary) but the fit
processes: the workers themselves make rows without samples. Resident memory is looked at every second and printed by
parts of the catalog; ``memory.jsonl`` keeps it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dask
import numpy as np
import psutil
from distributed import Worker

from bench.scheduler_speed import make_inputs
from provabgs.core.status import Status
from provabgs.inference.posterior import Posterior
from provabgs.pipelines import clusters, dask_worker
from provabgs.pipelines.config import RunConfig, parse_config
from provabgs.pipelines.keys import CERTIFICATE_NAME, KEY_NAME, read_pair, write_pair
from provabgs.pipelines.progress import Progress
from provabgs.pipelines.run import run
from provabgs.pipelines.supervisor import Batch
from studies.support.command import ROOT, plain_parser, run_study


class NoFit:
    """In place of a fit process: rows without samples."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    def fit(self, batch: Batch) -> list[Posterior]:
        """One row per galaxy."""
        fit, seed = self.config.fit, self.config.run.seed
        return [batch.failed(k, Status.NO_PHOTOMETRY, "no fit", fit, seed) for k in range(len(batch))]


def without_fits(config_json: str) -> tuple[RunConfig, NoFit]:
    """In place of `dask_worker.fit_process`."""
    local = dask_worker._LOCAL
    if getattr(local, "config_json", None) != config_json:
        local.config_json, local.config = config_json, RunConfig.model_validate_json(config_json)
        local.process = NoFit(local.config)
    return local.config, local.process


async def host(workers: int, folder: Path) -> None:
    """Workers in this process, until the scheduler ends."""
    setattr(dask_worker, "fit_process", without_fits)  # noqa: B010
    keys = read_pair(folder / "keys")
    made = [
        Worker(scheduler_file=str(folder / "scheduler.json"), nthreads=1, security=keys, memory_limit=0,
               protocol="tls://", host="127.0.0.1", dashboard=False, name=f"{os.getpid()}-{k}",
               local_directory=str(folder / "scratch"))
        for k in range(workers)
    ]  # fmt: skip
    await asyncio.gather(*made)
    await asyncio.gather(*(w.finished() for w in made))


class Memory:
    """Resident memory, MiB, of named processes, and rows done, once a second."""

    def __init__(self, processes: dict[str, list[int]]) -> None:
        self.processes = processes
        self.done = 0
        self.rows: list[dict[str, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Memory:
        add = Progress.add_fitted

        def count(progress: Progress, counts: Counter[int]) -> None:
            self.done += sum(counts.values())
            add(progress, counts)

        setattr(Progress, "add_fitted", count)  # noqa: B010
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        begin = time.perf_counter()
        while not self._stop.wait(1.0):
            row = {"s": time.perf_counter() - begin, "done": float(self.done)}
            for name, pids in self.processes.items():
                row[name] = sum(psutil.Process(p).memory_info().rss for p in pids if psutil.pid_exists(p)) / 2**20
            self.rows.append(row)


def start_cluster(folder: Path, workers: int, hosts: int) -> dict[str, list[subprocess.Popen[bytes]]]:
    """A scheduler and processes full of workers."""
    write_pair(folder / "keys")
    certificate, key = folder / "keys" / CERTIFICATE_NAME, folder / "keys" / KEY_NAME
    tls = ["--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key]
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--scheduler-file", folder / "scheduler.json"]
    command += ["--protocol", "tls", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *tls]
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    environment = {**os.environ, **threads, **clusters.dask_environment()}
    log = (folder / "cluster.log").open("ab")
    options: dict[str, Any] = {"cwd": ROOT, "env": environment, "stdout": log, "stderr": log}
    scheduler = subprocess.Popen([str(c) for c in command], **options)
    while not (folder / "scheduler.json").exists():
        if scheduler.poll() is not None:
            sys.exit(f"the scheduler does not start; see {folder / 'cluster.log'}")
        time.sleep(0.2)
    shares = [len(s) for s in np.array_split(np.arange(workers), hosts)]
    host_command = [sys.executable, "-m", "studies.many_workers", "-o", str(folder), "--host"]
    return {
        "scheduler": [scheduler],
        "workers": [subprocess.Popen([*host_command, str(n)], **options) for n in shares],
    }


def work(args: argparse.Namespace) -> None:
    """Run, and print memory by tenths."""
    folder = args.output.absolute()
    if args.host:
        with dask.config.set(clusters._DASK):
            asyncio.run(host(args.host, folder))
        return
    folder.mkdir(parents=True, exist_ok=True)
    make_inputs(folder / "in", args.galaxies)
    output = folder / "out"
    config = parse_config(
        {
            "run": {"output": str(output)},
            "inputs": {"paths": [str(folder / "in")], "reader": "photometry"},
            "cluster": {
                "kind": "address",
                "scheduler_file": str(folder / "scheduler.json"),
                "keys": str(folder / "keys"),
            },
        }
    )
    started = start_cluster(folder, args.workers, args.hosts)
    pids = {name: [p.pid for p in group] for name, group in started.items()}
    try:
        with Memory({"driver": [os.getpid()], **pids}) as memory:
            report = run(config, quiet=True)
    finally:
        for process in (p for group in started.values() for p in group):
            process.terminate()
            process.wait()
    (folder / "memory.jsonl").write_text("".join(json.dumps(r) + "\n" for r in memory.rows))
    print(
        f"{report.n_fitted} galaxies, {args.workers} workers in {args.hosts} processes: {report.wall_s:.0f} s, ", end=""
    )
    print(f"{report.n_fitted / report.wall_s:.0f} a second; catalog {report.n_catalog} rows, STATUS {report.status}")
    table(memory.rows, args.galaxies)


def table(rows: list[dict[str, float]], galaxies: int) -> None:
    """Memory when a tenth, a quarter ... of the rows were done."""
    names = ("driver", "scheduler", "workers")
    print("| rows done | s | " + " | ".join(f"{n}, MiB" for n in names) + " |\n|---|---|" + "---|" * len(names))
    for part in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0):
        row = next((r for r in rows if r["done"] >= part * galaxies), rows[-1] if rows else None)
        if row is not None:
            print(f"| {row['done']:.0f} | {row['s']:.0f} | " + " | ".join(f"{row[n]:.0f}" for n in names) + " |")
    late = [r for r in rows if r["done"] >= 0.5 * galaxies]
    if len(late) > 2 and late[-1]["done"] > late[0]["done"]:
        slopes = {n: np.polyfit([r["done"] for r in late], [r[n] for r in late], 1)[0] * 1e4 for n in names}
        print("second half, MiB per 10,000 galaxies: " + ", ".join(f"{n} {s:+.2f}" for n, s in slopes.items()))


def main() -> None:
    """Parse the command line and run."""
    parser = plain_parser("studies.many_workers", __doc__)
    parser.add_argument("--galaxies", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--hosts", type=int, default=2, help="processes that hold the workers")
    parser.add_argument("--host", type=int, default=0, help="used by the study itself: be one of them")
    run_study(parser, work, {"galaxies": 300, "workers": 4, "hosts": 2})


if __name__ == "__main__":
    main()
