"""A survey run of real fits, killed on the way, against one that was left alone.

``python -m studies.killed_run MOCKS -o FOLDER --kills 3`` fits the coadds under MOCKS (``provabgs mock make``) twice
with ``provabgs run``: once undisturbed, once with all its processes sent SIGKILL after random fractions of the first
run's time, and started again by the same command each time. It prints what was kept after each kill, and compares both
catalogs row by row and sample by sample. ``--use photometry --sampler aim_eval=0`` (stop at the gate) is quickest.
The undisturbed run goes on where it was; the killed one needs a new folder, or its old one deleted.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from provabgs.catalog import Catalog
from provabgs.catalog.compare import differences
from provabgs.catalog.layout import shard_paths
from provabgs.catalog.shard import read_block
from provabgs.core.status import Status
from provabgs.mocks.challenge import ChallengeConfig, make_mocks
from provabgs.mocks.make import MockConfig
from provabgs.pipelines.config import RunOptions
from studies.support.command import plain_parser, run_study

N_SMOKE = 4
"""Galaxies that ``--smoke`` makes."""
CONFIG = """
[run]
output = "{output}"
seed = 7
fit = "{fit}"

[execution]
batch = 2

[inputs]
paths = ["{mocks}"]

[cluster]
workers = {workers}

[fit]
use = "{use}"

[fit.sampler]
{sampler}
"""


def write_config(folder: Path, name: str, args: argparse.Namespace) -> Path:
    """A run's configuration; output beside it."""
    path = folder / f"{name}.toml"
    settings = {"mocks": args.mocks.resolve(), "workers": args.workers, "use": args.use, "fit": args.fit}
    path.write_text(CONFIG.format(output=name, sampler="\n".join(args.sampler), **settings))
    return path


def start(config: Path) -> subprocess.Popen[bytes]:
    """``provabgs run``, leader of a process group of its own."""
    log = config.with_suffix(".log").open("ab")
    return subprocess.Popen(
        [sys.executable, "-m", "provabgs.cli.main", "run", str(config)], stdout=log, stderr=log, start_new_session=True
    )


def finish(config: Path) -> float:
    """Run to the end; seconds."""
    begin = time.perf_counter()
    code = start(config).wait()
    if code:
        sys.exit(f"{config}: `provabgs run` ended with {code}; see {config.with_suffix('.log')}")
    return time.perf_counter() - begin


def kill_all(pid: int) -> None:
    """SIGKILL to a process and everything that it started, workers and their fit processes included."""
    parent = psutil.Process(pid)
    family = [parent, *parent.children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=30)


def kept(output: Path) -> int:
    """Rows in finished shards."""
    if not output.exists():
        return 0
    return sum(len(read_block(path)) for path in shard_paths(output))


def work(args: argparse.Namespace) -> None:
    """Run twice, compare, and say what was found.

    Raises
    ------
    SystemExit
        When the catalogs differ.
    """
    args.output.mkdir(parents=True, exist_ok=True)
    if args.mocks is None:
        make_mocks(ChallengeConfig(output=args.output / "challenge", mock=MockConfig(n=N_SMOKE), chunk=N_SMOKE))
        args.mocks = args.output / "challenge" / "mocks"
    undisturbed, killed = (write_config(args.output, name, args) for name in ("undisturbed", "killed"))
    seconds = finish(undisturbed)
    print(f"undisturbed: {kept(args.output / 'undisturbed')} galaxies in {seconds:.0f} s", flush=True)
    rng = random.Random(args.seed)
    for number in range(args.kills):
        begin, process = time.perf_counter(), start(killed)
        try:
            process.wait(timeout=rng.uniform(0.15, 0.45) * seconds)
            what = "ended before its kill"
        except subprocess.TimeoutExpired:
            kill_all(process.pid)
            process.wait()
            what = "killed"
        done, after = kept(args.output / "killed"), time.perf_counter() - begin
        print(f"{number + 1}: {what} after {after:.0f} s, {done} galaxies in finished shards", flush=True)
    print(f"same command again: {finish(killed):.0f} s", flush=True)
    found = differences(args.output / "undisturbed", args.output / "killed")
    with Catalog.open(args.output / "killed") as catalog:
        status = np.asarray(catalog.table(["STATUS"])["STATUS"])
    counts = {Status(int(s)).name: int(np.sum(status == s)) for s in np.unique(status)}
    print(f"{len(status)} galaxies: {counts}")
    print("equal, row by row and sample by sample" if not found else "\n".join(["DIFFERENT", *found]))
    if found:
        sys.exit(1)


def main() -> None:
    """Parse the command line and run."""
    parser = plain_parser("studies.killed_run", __doc__)
    parser.add_argument("mocks", type=Path, nargs="?", help="folder of coadd and redrock files")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--use", choices=("both", "spectrum", "photometry"), default="both")
    parser.add_argument("--sampler", nargs="*", default=(), metavar="KEY=VALUE", help="of [fit.sampler]: aim_eval=0")
    parser.add_argument("--fit", default=RunOptions.model_fields["fit"].default, help="module:function of the fits")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    smoke = {"kills": 1, "workers": 1, "fit": "provabgs.pipelines.dry_run:fit_observation"}
    run_study(parser, work, smoke, needs=("mocks",))


if __name__ == "__main__":
    main()
