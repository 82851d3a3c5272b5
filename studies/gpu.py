"""Fits of many galaxies on one card: converged galaxies a second, with R-hat and ESS, and what the card waits for.

``python -m studies.gpu`` starts a device server (`provabgs.inference.device`) on the device that JAX finds and fit
processes that ask it, and times them twice: sampling alone, and from data to posterior. Mock galaxies of the prior,
preset "honest", joint fits and bands alone; the server in double and in single precision; the same galaxies without
a server, one fit process a core. ``--rates`` calls `studies.gpu_rates` first, which measures the log posterior alone.

On a machine without a card the server takes a core like any other process: ``--smoke`` shows that all of it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from provabgs.core.threads import ONE_THREAD
from provabgs.inference.device.client import VARIABLE, Server
from provabgs.inference.device.launch import device_server
from provabgs.inference.device.messages import Ask, Counters
from studies.support.command import plain_parser, run_study

PATIENCE_S = 400.0
"""Longest wait for fit processes to get ready: the first compile."""
FIRST_SEED = 1000


class Processes:
    """Fit processes that wait for the word.

    Parameters
    ----------
    n
        How many.
    kind
        "both" or "photometry".
    each
        Galaxies of each.
    address
        The device server; empty for none.
    """

    def __init__(self, n: int, kind: str, each: int, address: str) -> None:
        environment = os.environ | ONE_THREAD | {VARIABLE: address, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-m", "studies.support.served_fits", kind]
        self._all = [
            subprocess.Popen(
                [*command, str(FIRST_SEED + i * each), str(each)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            )
            for i in range(n)
        ]  # fmt: skip
        self._lines: list[str] = []
        self._ready = threading.Semaphore(0)
        self._readers = [threading.Thread(target=self._read, args=(p,), daemon=True) for p in self._all]
        for reader in self._readers:
            reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "ready":
                self._ready.release()
            else:
                self._lines.append(line)
        self._ready.release()

    def wait(self) -> None:
        """Until all are ready (or gone)."""
        start = time.perf_counter()
        for _ in self._all:
            if not self._ready.acquire(timeout=max(PATIENCE_S - (time.perf_counter() - start), 0.1)):
                raise SystemExit(f"a fit process was not ready within {PATIENCE_S:g} s")

    def go(self) -> tuple[list[dict[str, Any]], float]:
        """Let them do what is next; their lines, and the wall time until the last was done."""
        self._lines.clear()
        start = time.perf_counter()
        for process in self._all:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        self.wait()
        return [json.loads(line.split(" ", 1)[1]) for line in self._lines], time.perf_counter() - start

    def end(self) -> None:
        """Let them leave."""
        for process in self._all:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


class Utilization(threading.Thread):
    """What nvidia-smi says of the card twice a second, per cent; nothing where there is none."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[float] = []
        self.over = threading.Event()

    def run(self) -> None:
        """Ask until `over` is set."""
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not self.over.wait(0.5):
            try:
                self.seen.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
            except (OSError, ValueError, subprocess.CalledProcessError):
                return


def count(address: str) -> Counters:
    """The server's counters."""
    answer = Server(address).say(Ask())
    assert isinstance(answer, Counters)
    return answer


def measure(kind: str, address: str, n_process: int, each: int, label: str, whole: bool) -> list[dict[str, Any]]:
    """Print one row; the galaxies as they were sampled."""
    processes = Processes(n_process, kind, each, address)
    processes.wait()
    before, watch = (count(address) if address else None), Utilization()
    watch.start()
    rows, wall = processes.go()
    watch.over.set()
    after = count(address) if address else None
    fitted_rate = "-"
    if whole:
        done, taken = processes.go()
        fitted_rate = f"{sum(d['status'] == 'CONVERGED' for d in done) / taken:.2f}"
    processes.end()
    n_converged = sum(r["converged"] for r in rows)
    calls = ("-", "-")
    if before is not None and after is not None:
        asked, padding = after.evaluations - before.evaluations, after.padding - before.padding
        calls = (f"{asked / max(asked + padding, 1):.2f}", f"{(after.busy_s - before.busy_s) / wall:.2f}")
    used = f"{np.mean(watch.seen):.0f} %" if watch.seen else "-"
    figures = {name: [r[name] for r in rows] for name in ("n_eval", "rhat", "ess", "host_s")}
    median, rate = {name: np.median(values) for name, values in figures.items()}, n_converged / wall
    cells = (
        *(label, kind, n_process, len(rows), n_converged, f"{median['n_eval']:.0f}"),
        *(f"{median['rhat']:.4f}, {max(figures['rhat']):.4f}", f"{median['ess']:.0f}, {min(figures['ess']):.0f}"),
        *(f"{rate:.2f}", f"{median['host_s']:.2f}", fitted_rate, *calls, used),
    )
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return rows


def shifts(one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> str:
    """How far medians of quantities are apart, in widths of the posterior, over galaxies that both converged."""
    by_seed = {r["seed"]: r for r in other if r["converged"]}
    found = [
        np.abs(np.subtract(r["median"], by_seed[r["seed"]]["median"])) / np.maximum(np.abs(r["width"]), 1e-9)
        for r in one
        if r["converged"] and r["seed"] in by_seed
    ]
    if not found:
        return "no galaxy converged in both"
    values = np.concatenate(found)
    return f"median {np.median(values):.3f}, 95 % {np.percentile(values, 95):.3f}, of {len(found)} galaxies"


COLUMNS = (
    *("likelihood", "fit", "processes", "galaxies", "converged", "evaluations", "R-hat: median, largest"),
    *("ESS: median, least", "converged a second", "host s a galaxy", "fitted a second", "filled", "lanes busy"),
    "card used",
)
HEADER = f"\n| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def work(options: argparse.Namespace) -> None:
    """Measure and print all."""
    start = time.perf_counter()
    if options.rates:
        subprocess.run([sys.executable, "-m", "studies.gpu_rates", "--galaxies", "64", "1024", "4096"], check=False)
    print(f"{os.cpu_count()} cores; calls of {options.width} galaxies of 1,024 draws.{HEADER}", flush=True)
    each = options.each
    cores = options.cores or os.cpu_count() or 1
    compared: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for kind in options.kinds:
        for name in options.precisions:
            kept, more = 2 * options.processes + 8, ["--single"] * (name == "single")
            with device_server(options.width, kept, *more) as address:
                rows = measure(kind, address, options.processes, each, name, whole=name == "double")
                compared[kind, name] = rows
        if not options.no_baseline:
            total = max(1, options.processes * each // cores // 2)
            compared[kind, "none"] = measure(kind, "", cores, total, "no server", whole=True)
    print()
    for (kind, name), rows in compared.items():
        if name != "double" and (kind, "double") in compared:
            print(f"{kind}: medians of {name} less double, sigmas: {shifts(rows, compared[kind, 'double'])}")
    print("Two fits of a galaxy with other random numbers differ by Monte Carlo error.")
    print(f"{time.perf_counter() - start:.0f} s in all.")


def main() -> None:
    """Parse the command line and measure."""
    parser = plain_parser("studies.gpu", __doc__)
    parser.add_argument("--kinds", nargs="+", choices=["both", "photometry"], default=["both", "photometry"])
    parser.add_argument("--precisions", nargs="+", choices=["double", "single"], default=["double", "single"])
    parser.add_argument("--processes", type=int, default=48, help="fit processes that ask the server")
    parser.add_argument("--each", type=int, default=8, help="galaxies of each process")
    parser.add_argument("--width", type=int, default=16, help="galaxies in a call")
    parser.add_argument("--cores", type=int, default=0, help="fit processes without a server; 0: one a core")
    parser.add_argument("--no-baseline", action="store_true", help="leave out fits without a server")
    parser.add_argument("--rates", action="store_true", help="call studies.gpu_rates first")
    smoke = {"kinds": ["photometry"], "precisions": ["double"], "processes": 2, "each": 1, "width": 2, "rates": False}
    smoke |= {"no_baseline": True}
    run_study(parser, work, smoke)


if __name__ == "__main__":
    main()
