"""Everything that goes wrong in a long run, done for real; each time the catalog ends equal to an undisturbed one.

Equal means row by row and sample by sample (`provabgs.catalog.compare.differences`), wall times left out.
"""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
from astropy.table import Table

from provabgs.catalog import Catalog
from provabgs.catalog.compare import differences
from provabgs.catalog.layout import shard_paths
from provabgs.core.status import Status
from provabgs.pipelines.config import parse_config
from provabgs.pipelines.keys import CERTIFICATE_NAME, KEY_NAME, write_pair
from provabgs.pipelines.supervisor import Batch, FitProcess

ROOT = Path(__file__).resolve().parents[2]
HANGS, SEGFAULTS, RAISES, EXITS = 100_003, 100_017, 200_006, 200_009
N_FILES, N_ROWS = 3, 100
LIMIT_S = 240.0


def write_inputs(folder: Path, n_rows: int = N_ROWS) -> None:
    """Three tables of fluxes in some six HEALPix pixels; one row of each cannot be fitted."""
    rng = np.random.default_rng(11)
    folder.mkdir()
    for k in range(N_FILES):
        table = Table(
            {
                "TARGETID": 100_000 * (k + 1) + np.arange(n_rows),
                "RA": 150.0 + 1.2 * rng.random(n_rows),
                "DEC": 2.0 + 1.2 * rng.random(n_rows),
                "Z": rng.uniform(0.02, 0.5, n_rows),
            }
        )
        for band in ("G", "R", "Z", "W1", "W2"):
            table[f"FLUX_{band}"] = rng.uniform(5, 50, n_rows)
            table[f"FLUX_IVAR_{band}"] = np.full(n_rows, 100.0)
        table["Z"][5 * k] = np.nan
        table.write(folder / f"t{k}.fits")


class Bench:
    """One run directory and the ways to start a run in it."""

    def __init__(self, folder: Path, inputs: Path) -> None:
        self.folder, self.inputs = folder, inputs
        self.output = folder / "out"
        self.faults = folder / "faults"
        self.faults.mkdir(parents=True)
        self.keys = folder / "keys"
        self.config = folder / "run.toml"
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "PROVABGS_FAULTS": str(self.faults)}
        self.write()

    def write(self, *, execution: str = "", cluster: str = "workers = 2", run: str = "") -> None:
        self.config.write_text(f"""
[run]
output = "{self.output}"
seed = 5
fit = "tests.support.faulty_fits:fit_observation"
{run}
[inputs]
paths = ["{self.inputs}"]
reader = "tests.support.faulty_fits:FlakyReader"
[store]
n_samples = 64
shard_rows = 40
[execution]
batch = 8
time_limit_s = 60
{execution}
[cluster]
{cluster}
""")

    def start(self, **options: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.support.run_catalog", str(self.config)]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, **options,  # type: ignore[call-overload]
        )  # fmt: skip

    def finish(self, expected: int = 0, limit_s: float = LIMIT_S, **options: object) -> str:
        """Run to the end; returns what it printed."""
        process = self.start(**options)
        out, err = process.communicate(timeout=limit_s)
        assert process.returncode == expected, f"exit code {process.returncode}\n{out}\n{err}"
        return out + err

    def n_work_files(self) -> int:
        return len(list((self.output / "work").glob("*/[!.]*.h5")))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs") / "in"
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, inputs: Path) -> Path:
    bench = Bench(tmp_path_factory.mktemp("undisturbed"), inputs)
    bench.finish()
    with Catalog.open(bench.output) as catalog:
        status = np.asarray(catalog.table(["STATUS"])["STATUS"])
    assert np.bincount(status)[[Status.CONVERGED, Status.NO_REDSHIFT]].tolist() == [
        N_FILES * N_ROWS - N_FILES,
        N_FILES,
    ]
    return bench.output


@pytest.fixture
def bench(tmp_path: Path, inputs: Path) -> Bench:
    return Bench(tmp_path / "bench", inputs)


def wait_for(condition: Callable[[], bool], limit: float = 60.0, step: float = 0.05) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(step)


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def fit_processes(process: subprocess.Popen[str]) -> list[psutil.Process]:
    found = []
    for p in descendants(process):
        try:
            if "provabgs.pipelines.process" in " ".join(p.cmdline()):
                found.append(p)
        except psutil.Error:
            continue
    return found


def assert_gone(processes: list[psutil.Process], limit: float = 30.0) -> None:
    _, alive = psutil.wait_procs(processes, timeout=limit)
    alive = [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not alive, f"left behind: {[p.cmdline() for p in alive]}"


def kill_at_random(bench: Bench, marks: tuple[int, ...], rng: random.Random) -> None:
    """Start the run again and again; SIGKILL it a random moment after so many files were written in all."""
    for least in marks:
        process = bench.start()
        wait_for(lambda least=least: bench.n_work_files() + 5 * len(shard_paths(bench.output)) >= least)  # type: ignore[misc]
        time.sleep(rng.uniform(0.0, 0.5))
        family = descendants(process)
        process.kill()
        process.communicate()
        assert_gone(family)


def test_whole_run_killed_three_times(bench: Bench, undisturbed: Path) -> None:
    kill_at_random(bench, (1, 8, 16), random.Random(4))
    bench.finish()
    assert differences(undisturbed, bench.output) == []
    assert not list(bench.output.rglob(".tmp-*"))


@pytest.mark.slow
def test_three_thousand_galaxies_killed_three_times(tmp_path: Path) -> None:
    write_inputs(tmp_path / "in", 1000)
    for name in ("undisturbed", "killed"):
        bench = Bench(tmp_path / name, tmp_path / "in")
        if name == "killed":
            kill_at_random(bench, (20, 120, 250), random.Random(8))
        bench.finish(limit_s=600.0)
    with Catalog.open(bench.output) as catalog:
        assert len(catalog) == 3000
    assert differences(tmp_path / "undisturbed" / "out", bench.output) == []


@pytest.mark.parametrize("worker_tries", [1, 10])  # 1: every lost worker divides its batch
def test_workers_and_fit_processes_killed(bench: Bench, undisturbed: Path, worker_tries: int) -> None:
    bench.write(execution=f"worker_tries = {worker_tries}")
    process = bench.start()
    wait_for(lambda: bench.n_work_files() >= 2)
    fits = fit_processes(process)
    assert len(fits) == 2
    fits[0].kill()
    time.sleep(0.5)
    worker = next(p.parent() for p in fit_processes(process))
    assert worker is not None
    assert worker.pid != process.pid
    worker.kill()
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, out + err
    assert differences(undisturbed, bench.output) == []


def test_hangs_and_crashes_are_quarantined_then_mended(bench: Bench, undisturbed: Path) -> None:
    bench.write(execution="tries = 2\nstart_limit_s = 30", run="")
    bench.config.write_text(bench.config.read_text().replace("time_limit_s = 60", "time_limit_s = 2"))
    # the first galaxy of a process is allowed start_limit_s more: keep that short, but long enough to import
    bench.config.write_text(bench.config.read_text().replace("start_limit_s = 30", "start_limit_s = 12"))
    (bench.faults / "hostile").touch()
    bench.finish()
    with Catalog.open(bench.output) as catalog:
        table = catalog.select("STATUS >= 30").table(["TARGETID", "STATUS", "MESSAGE"])
    found = {int(t): (Status(int(s)), str(m)) for t, s, m in table.iterrows()}
    assert {t: s for t, (s, _) in found.items()} == {
        HANGS: Status.TIMED_OUT,
        SEGFAULTS: Status.CRASHED,
        RAISES: Status.CRASHED,
        EXITS: Status.CRASHED,
    }
    assert "time limit of 2 s" in found[HANGS][1]
    assert "SIGSEGV (2 tries)" in found[SEGFAULTS][1]
    # what was assumed about the row stands between the error and the tries
    assert re.search(r"ZeroDivisionError: a bug in the fit; no column PHOTSYS.* \(2 tries\)", found[RAISES][1])
    assert "exit code 7" in found[EXITS][1]
    before = {p.name: p.stat().st_mtime_ns for p in shard_paths(bench.output)}
    (bench.faults / "hostile").unlink()
    bench.write(run='retry = ["TIMED_OUT", "CRASHED"]')
    printed = bench.finish()
    assert re.search(r"\b4 fitted now", printed)
    assert differences(undisturbed, bench.output) == []
    rewritten = [p for p in shard_paths(bench.output) if p.stat().st_mtime_ns != before[p.name]]
    assert 1 <= len(rewritten) <= 4 < len(before)


def test_damaged_shards_are_made_again(bench: Bench, undisturbed: Path) -> None:
    shutil.copytree(undisturbed, bench.output)
    shards = shard_paths(bench.output)
    shards[0].write_bytes(shards[0].read_bytes()[:-1000])
    with h5py.File(shards[1]) as f:  # a byte of the data: HDF5 leaves gaps between its parts, where none would count
        where = f["samples/LOGMSTAR"].id.get_chunk_info(0)
    content = bytearray(shards[1].read_bytes())
    content[where.byte_offset + where.size // 2] ^= 0xFF
    shards[1].write_bytes(content)
    shards[2].unlink()
    printed = bench.finish()
    assert printed.count("made again:") == 2
    assert shards[0].name in printed
    assert shards[1].name in printed
    assert differences(undisturbed, bench.output) == []


def test_unreadable_inputs_are_named_and_come_in_later(bench: Bench, undisturbed: Path, tmp_path: Path) -> None:
    own = tmp_path / "in"
    shutil.copytree(bench.inputs, own)
    bench.inputs = own
    bench.write()
    whole = (own / "t2.fits").read_bytes()
    (own / "t2.fits").write_bytes(whole[:3000])  # cannot even be listed
    (bench.faults / "unreadable").touch()  # t1 can be listed, not read
    printed = bench.finish(expected=3)
    assert "t2.fits" in printed
    with Catalog.open(bench.output) as catalog:
        table = catalog.table(["STATUS", "MESSAGE", "INPUT"])
    assert len(table) == 2 * N_ROWS
    lost = table[table["STATUS"] == Status.INPUT_ERROR]
    assert set(lost["INPUT"]) == {"t1.fits"}
    assert len(lost) == N_ROWS
    assert "the file server is away" in lost["MESSAGE"][0]
    (own / "t2.fits").write_bytes(whole)
    (bench.faults / "unreadable").unlink()
    bench.finish()
    assert differences(undisturbed, bench.output) == []


def test_two_runs_on_one_directory_then_a_polite_stop(bench: Bench, undisturbed: Path) -> None:
    first = bench.start()
    wait_for(lambda: (bench.output / "run.lock").exists() and bench.n_work_files() > 0)
    os.kill(first.pid, signal.SIGSTOP)  # a slow second start must not find the first one finished
    printed = bench.finish(expected=2)
    assert f"another run is at work on it (host {socket.gethostname()}, process {first.pid})" in printed
    os.kill(first.pid, signal.SIGCONT)
    family = descendants(first)
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=LIMIT_S)
    assert first.returncode == 143, out + err
    assert "run the same command to go on" in err
    assert_gone(family)
    bench.finish()
    assert differences(undisturbed, bench.output) == []


# JAX warns of every fork in a process that has loaded it; the child here execs at once
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_writes_that_fail(bench: Bench, undisturbed: Path) -> None:
    def limit_file_size() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    printed = bench.finish(expected=2, preexec_fn=limit_file_size)
    assert "cannot write" in printed
    assert "free space there and run again" in printed
    bench.finish()
    assert not list(bench.output.rglob(".tmp-*"))
    assert differences(undisturbed, bench.output) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "none", str(folder)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("may not mount a small tmpfs here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def read_only(tmp_path: Path, inputs: Path) -> Iterator[Path]:
    """The inputs once more, at another place to which nobody can write."""
    folder = tmp_path / "dvs_ro"
    folder.mkdir()
    done = subprocess.run(["mount", "--bind", "-o", "ro", str(inputs), str(folder)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("may not mount a folder a second time here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_read_only_mount_gives_the_same_rows(bench: Bench, undisturbed: Path, inputs: Path, read_only: Path) -> None:
    with pytest.raises(OSError, match="Read-only"):
        (read_only / "x").touch()
    bench.inputs = read_only
    bench.write()
    bench.finish()
    assert differences(undisturbed, bench.output) == []
    bench.inputs = inputs  # the same rows by the other mount
    bench.write()
    assert re.search(r"\b0 fitted now", bench.finish())


@pytest.mark.slow
def test_full_disk(bench: Bench, undisturbed: Path, small_disk: Path) -> None:
    bench.output = small_disk / "out"
    bench.write()
    printed = bench.finish(expected=2)
    assert "cannot write" in printed
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    bench.finish()
    assert differences(undisturbed, bench.output) == []


def test_scheduler_killed(bench: Bench, undisturbed: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    address = f"tls://127.0.0.1:{port}"
    write_pair(bench.keys)
    bench.write(
        cluster=f'kind = "address"\naddress = "{address}"\nkeys = "{bench.keys}"', execution="scheduler_limit_s = 4"
    )
    first = start_dask(bench, port)
    process = bench.start()
    try:
        wait_for(lambda: bench.n_work_files() >= 2)
        first[0].kill()
        out, err = process.communicate(timeout=LIMIT_S)
    finally:
        stop_dask(first)
    assert process.returncode == 2, out + err
    assert "the Dask scheduler is gone" in err
    second = start_dask(bench, port)
    try:
        bench.finish()
    finally:
        stop_dask(second)
    assert differences(undisturbed, bench.output) == []


def start_dask(bench: Bench, port: int) -> list[subprocess.Popen[bytes]]:
    """A scheduler and two workers as a user starts them by hand."""
    quiet = {"env": bench.environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    certificate, key = str(bench.keys / CERTIFICATE_NAME), str(bench.keys / KEY_NAME)
    tls = ["--protocol", "tls", "--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key]
    scheduler = subprocess.Popen(
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--dashboard-address", ":0", *tls], **quiet
    )  # type: ignore[call-overload]
    worker = [*dask, "worker", f"tls://127.0.0.1:{port}", "--nthreads", "1", "--nworkers", "2", "--no-dashboard", *tls]
    return [scheduler, subprocess.Popen([*worker, "--death-timeout", "20"], **quiet)]  # type: ignore[call-overload]


def stop_dask(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("memory", "replaced"), [("50MB", True), ("50GB", False), (None, False)])
def test_a_fit_process_that_holds_too_much_is_replaced(inputs: Path, memory: str | None, replaced: bool) -> None:
    config = parse_config(
        {
            "run": {"output": "out", "fit": "provabgs.pipelines.dry_run:fit_observation"},
            "inputs": {"paths": [str(inputs)], "reader": "photometry"},
            "execution": {"memory": memory},
        }
    )
    ids = [tuple(range(100_000 + 8 * k + 1, 100_000 + 8 * k + 5)) for k in range(2)]
    seen, status = [], []
    with FitProcess(config) as process:
        for targetids in ids:
            rows = tuple(t - 100_000 for t in targetids)
            batch = Batch(str(inputs / "t0.fits"), "t0.fits", targetids, rows, (150.0,) * 4, (2.0,) * 4)
            status += [p.status for p in process.fit(batch)]
            assert process._process is not None
            seen.append(process._process.pid)
    assert status == [Status.CONVERGED] * 8
    assert (seen[0] != seen[1]) == replaced
