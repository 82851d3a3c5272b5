"""Memory of one fit process over hundreds of mixed fits: joint, spectrum, bands; N and S; cameras, masks, redshifts.

``python -m studies.fit_memory --fits 500`` sends galaxies, one a request, to the fit process of a run
(`provabgs.pipelines.supervisor.FitProcess`) and prints its resident memory, compiled functions and the arrays that JAX
holds, along the way. Nineteen fits of twenty take a loose convergence criterion and 2,000 evaluations at most
(``--evaluations``), the twentieth the default sampler: what a process keeps comes from shapes and windows, which the
cheap fits have too. The process is never replaced, unless ``--memory`` gives the limit of ``[execution] memory``. Rows
go to ``fits.jsonl`` while it runs.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from provabgs.core.memory import resident_bytes
from provabgs.inference.config import FitConfig
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation, Photometry
from provabgs.observe.target import TargetResult
from provabgs.pipelines.config import InputOptions, parse_config
from provabgs.pipelines.inputs import Scan
from provabgs.pipelines.supervisor import Batch, FitProcess
from studies.support.command import QUICK, plain_parser, run_study
from studies.support.prior_galaxies import CAMERAS, NO_FLOOR, simulate

NORTH = {"decam2014-g": "BASS-g", "decam2014-r": "BASS-r", "decam2014-z": "MzLS-z"}
N_GALAXIES = 25
"""Made once each; masks, cameras, bands and redshift label make every fit's data different."""
DEFAULT_EVERY = 20
QUICK_EVALUATIONS = 2_000


def mixed(number: int) -> Observation:
    """A galaxy of which something is left out: kind, bands, cameras and masked pixels by its number."""
    rng = np.random.default_rng([number, 5])
    whole, _ = simulate(number % N_GALAXIES)
    photometry, spectra = whole.photometry, whole.spectra
    assert photometry is not None
    kind = ("joint", "spectrum", "bands")[number % 3]
    n_band = int(rng.integers(3, 6))
    names = photometry.bands[:n_band]
    if number % 2:
        names = tuple(NORTH.get(b, b) for b in names)
    light = Photometry(names, photometry.flux[:n_band], photometry.ivar[:n_band])
    kept = [s for s in spectra if rng.random() < 0.8] or list(spectra[:1])
    shown = []
    for s in kept:
        ivar = np.where(rng.random(s.ivar.size) < 0.05 * rng.random(), 0.0, s.ivar)
        shown.append(replace(s, ivar=ivar))
    z = float(np.clip(whole.redshift * rng.uniform(0.9, 1.1), 0.01, 0.59))
    return replace(
        whole, redshift=z, targetid=number, meta={},
        spectra=() if kind == "bands" else tuple(shown), photometry=None if kind == "spectrum" else light,
        fiber_fraction=None if kind == "bands" else whole.fiber_fraction,
    )  # fmt: skip


class MixedReader:
    """Makes galaxies in place of reading them."""

    pattern: tuple[str, ...] = ("mixed",)

    def __init__(self, options: InputOptions) -> None:
        pass

    def scan(self, path: Path) -> Scan:
        """Nothing: no run is planned."""
        raise NotImplementedError

    def read(self, path: Path, targetids: Sequence[int], rows: Sequence[int]) -> Iterator[TargetResult]:
        """Yield galaxies by their numbers."""
        for targetid, row in zip(targetids, rows, strict=True):
            yield TargetResult(targetid, row, mixed(targetid), None, f"made, not read from {path}")


def fit_and_count(observation: Observation, config: FitConfig, seed: int) -> Posterior:
    """The fit, and what JAX holds after it."""
    import jax

    from provabgs.core.compilations import n_compiled

    posterior = fit_observation(observation, config, seed)
    gc.collect()
    arrays = sum(a.nbytes for a in jax.live_arrays())
    held = {"N_COMPILED": n_compiled(), "JAX_BYTES": int(arrays)}
    return replace(posterior, meta={**posterior.meta, **held})


def follow(args: argparse.Namespace) -> list[dict[str, float]]:
    """Fit, and note what the process holds after each fit."""
    config = parse_config(
        {
            "run": {"output": str(args.output), "fit": "studies.fit_memory:fit_and_count"},
            "inputs": {"paths": ["mixed"], "reader": "studies.fit_memory:MixedReader"},
            "fit": {"observing": NO_FLOOR.model_dump()},
            "execution": {"restart_after": 0, "memory": args.memory, "time_limit_s": 3600},
        }
    )
    quick = config.fit.model_copy(update={"sampler": QUICK.model_copy(update={"max_eval": args.evaluations})})
    rows: list[dict[str, float]] = []
    with FitProcess(config) as process, (args.output / "fits.jsonl").open("w") as out:
        for n in range(args.fits):
            begin = time.perf_counter()
            batch = Batch("mixed", "mixed", (n,), (n,), (np.nan,), (np.nan,))
            posterior = process.fit(batch, config.fit if n % DEFAULT_EVERY == DEFAULT_EVERY - 1 else quick)[0]
            assert process._process is not None
            held = resident_bytes(process._process.pid) / 2**30
            row = {"fit": n + 1, "status": int(posterior.status), "GiB": held, "pid": process._process.pid}
            row |= {k: posterior.meta.get(k, 0) for k in ("N_COMPILED", "JAX_BYTES")}
            rows.append({**row, "seconds": time.perf_counter() - begin})
            out.write(json.dumps(rows[-1]) + "\n")
            out.flush()
            if n % 10 == 9:
                print(f"{n + 1} fits, {held:.2f} GiB", file=sys.stderr, flush=True)
    return rows


def work(args: argparse.Namespace) -> None:
    """Fit and print."""
    args.output.mkdir(parents=True, exist_ok=True)
    rows = follow(args)
    print(f"{len(CAMERAS)} cameras, {N_GALAXIES} galaxies, STATUS {dict(_counts(rows))}")
    print("| fits | resident, GiB | largest so far | compiled functions | arrays of JAX, MiB | s a fit, median |")
    print("|---|---|---|---|---|---|")
    marks = sorted({1, 10, *(round(f * len(rows)) for f in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0))} - {0})
    for n in (m for m in marks if m <= len(rows)):
        last, seen = rows[n - 1], [r["GiB"] for r in rows[:n]]
        pace = np.median([r["seconds"] for r in rows[max(0, n - 50) : n]])
        held = f"{last['N_COMPILED']:.0f} | {last['JAX_BYTES'] / 2**20:.0f}"
        print(f"| {n} | {last['GiB']:.2f} | {max(seen):.2f} | {held} | {pace:.1f} |")
    half = rows[len(rows) // 2 :]
    if len(half) > 2:
        slope = np.polyfit([r["fit"] for r in half], [r["GiB"] for r in half], 1)[0]
        print(f"second half: {1024 * slope:+.2f} MiB a fit; processes: {len({r['pid'] for r in rows})}")


def _counts(rows: list[dict[str, float]]) -> dict[int, int]:
    values, counts = np.unique([int(r["status"]) for r in rows], return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def main() -> None:
    """Parse the command line and run."""
    parser = plain_parser("studies.fit_memory", __doc__)
    parser.add_argument("--fits", type=int, default=500)
    parser.add_argument("--evaluations", type=int, default=QUICK_EVALUATIONS, help="of the cheap fits, at most")
    parser.add_argument("--memory", default=None, help="[execution] memory: '4GB'")
    run_study(parser, work, {"fits": 3})


if __name__ == "__main__":
    main()
