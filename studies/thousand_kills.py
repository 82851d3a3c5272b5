"""A thousand SIGKILLs at random moments of survey runs, and whether any catalog differs from an undisturbed one.

``python -m studies.thousand_kills --kills 1000 --seed 22``. A story is a run that is killed `--each` times, started
again each time, then left to end, and compared row by row and draw by draw with a run that was left alone. A third of
the stories begins with nothing, a third with a catalog of fewer inputs, a third with one whose CRASHED rows are fitted
again. The phase that a kill is for is drawn evenly from start-up, fitting, merging and summary, its moment evenly from
that phase's duration. After each kill the catalog, where there is one, is opened and read: it must answer with the
numbers of before or after. Runs are forked from one process and fits are dry ones (``studies/support/forked_runs.py``);
``studies.killed_run`` kills whole families of processes. Stories are kept in ``stories-seedSEED.jsonl``; the same
command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from provabgs.catalog import Catalog
from provabgs.catalog.compare import differences
from provabgs.catalog.layout import SUMMARY_NAME
from provabgs.core.errors import ProvabgsError
from provabgs.pipelines.config import RunConfig, parse_config
from studies.support.command import plain_parser, run_study
from studies.support.forked_runs import MARKER, PHASES, ForkServer, Phase, fork_run, write_inputs

FILES, ROWS = 3, 24
LIMIT_S = 120.0
STEP_S = 0.0005
KINDS = ("new", "extended", "retried")
Draws = dict[int, tuple[int, bytes]]
"""STATUS and draws of the stellar mass by TARGETID."""


def configuration(output: Path, inputs: Path, files: int, **run: Any) -> RunConfig:
    """A run of the first `files` tables."""
    return parse_config(
        {
            "run": {"output": str(output), "seed": 5, "fit": "studies.support.forked_runs:fit_observation", **run},
            "inputs": {"paths": [str(inputs / f"t{k}.fits") for k in range(files)], "reader": "photometry"},
            "store": {"n_samples": 16, "shard_rows": 10},
            "execution": {"batch": 4, "tries": 2},
        }
    )


def draws(root: Path) -> Draws:
    """What a reader gets from a catalog."""
    with Catalog.open(root) as catalog:
        status = catalog.table(["TARGETID", "STATUS"])
        samples = catalog.samples(None, ["LOGMSTAR"])
    ids, values = np.asarray(samples["TARGETID"]), np.asarray(samples["LOGMSTAR"])
    drawn = {int(i): values[k].tobytes() for k, i in enumerate(ids)}
    return {int(row["TARGETID"]): (int(row["STATUS"]), drawn.get(int(row["TARGETID"]), b"")) for row in status}


class Bench:
    """A folder with inputs, catalogs to start from, and the undisturbed one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inputs = folder / "in"
        if not self.inputs.exists():
            write_inputs(self.inputs, FILES, ROWS)
        marker = folder / "crashes"
        os.environ[MARKER] = str(marker)
        self.server = ForkServer()
        self.phase = Phase()
        self.lasts = dict.fromkeys(range(len(PHASES)), 0.05)
        whole = configuration(folder / "undisturbed", self.inputs, FILES)
        shutil.rmtree(whole.run.output, ignore_errors=True)
        self.follow(self.start(whole))
        self.start_from = {"new": None, "extended": folder / "fewer", "retried": folder / "crashed"}
        for name, files in (("fewer", FILES - 1), ("crashed", FILES)):
            shutil.rmtree(folder / name, ignore_errors=True)
            if name == "crashed":
                marker.touch()
            self.end(self.start(configuration(folder / name, self.inputs, files)))
            marker.unlink(missing_ok=True)
        self.before = {k: draws(root) if root else {} for k, root in self.start_from.items()}
        self.after = draws(folder / "undisturbed")

    def start(self, config: RunConfig) -> int:
        """A run's process id."""
        return fork_run(config, self.server, self.phase, self.folder / "runs.log")

    def end(self, pid: int) -> None:
        """Wait for a good end."""
        _, code = os.waitpid(pid, 0)
        if code:
            sys.exit(f"a run ended with {code}; see {self.folder / 'runs.log'}")

    def follow(self, pid: int) -> None:
        """Wait for the end, and note how long each phase takes."""
        spent = dict.fromkeys(self.lasts, 0.0)
        then = time.perf_counter()
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            time.sleep(STEP_S)
            now = time.perf_counter()
            spent[self.phase.now] += now - then
            then = now
        self.lasts = spent

    def kill(self, pid: int, target: int, delay: float) -> str:
        """SIGKILL some time after a phase has begun; the phase that was killed, "" when the run ended before."""
        begin, due = time.perf_counter(), None
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            now = time.perf_counter()
            if due is None and self.phase.now >= target:
                due = now + delay
            if due is not None and now >= due:
                found = PHASES[self.phase.now]
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return found
            if now - begin > max(LIMIT_S, 20 * sum(self.lasts.values())):
                os.kill(pid, signal.SIGKILL)
                sys.exit(f"a run hangs; see {self.folder / 'runs.log'}")
            time.sleep(STEP_S)
        return ""

    def readers_trouble(self, root: Path, kind: str) -> list[str]:
        """What is wrong with the answers of a catalog in the middle of a run."""
        if not (root / SUMMARY_NAME).exists():
            return ["no summary"] if self.start_from[kind] else []
        try:
            found = draws(root)
        except ProvabgsError as error:
            return [f"refused: {error}"]
        return [
            f"other numbers for {i}" for i, row in found.items() if row not in (self.before[kind].get(i), self.after[i])
        ]

    def story(self, number: int, rng: random.Random, kills: int, folder: Path) -> dict[str, Any]:
        """Kill, look, resume, compare."""
        kind = KINDS[number % len(KINDS)]
        root = folder / "catalog"
        if (base := self.start_from[kind]) is not None:
            shutil.copytree(base, root)
        config = configuration(root, self.inputs, FILES, retry=["INPUT_ERROR", "CRASHED"])
        record: dict[str, Any] = {"story": number, "kind": kind, "kills": [], "trouble": []}
        for _ in range(2 * kills):
            target = rng.randrange(len(PHASES))
            found = self.kill(self.start(config), target, rng.uniform(0.0, self.lasts[target]))
            record["trouble"] += self.readers_trouble(root, kind)
            if not found:
                break  # all is done: another run would have nothing to do
            record["kills"].append(found)
            if len(record["kills"]) == kills:
                break
        self.end(self.start(config))
        record["differences"] = differences(self.folder / "undisturbed", root)
        record["left"] = [str(p) for p in root.rglob(".tmp-*")]
        if draws(root) != self.after:
            record["trouble"].append("other numbers at the end")
        return record


def report(stories: list[dict[str, Any]]) -> int:
    """Print the tables; the number of stories that went wrong."""
    print("| catalogs that begin | stories | kills | " + " | ".join(PHASES) + " | differ at the end | wrong answers |")
    print("|---|" + "---|" * (len(PHASES) + 4))
    for kind in (*KINDS, "all"):
        mine = [s for s in stories if kind in (s["kind"], "all")]
        phases = Counter(p for s in mine for p in s["kills"])
        wrong = (sum(bool(s["differences"]) for s in mine), sum(bool(s["trouble"]) for s in mine))
        counts = (len(mine), sum(phases.values()), *(phases[p] for p in PHASES), *wrong)
        print(f"| {kind} | " + " | ".join(str(c) for c in counts) + " |")
    bad = [s for s in stories if s["differences"] or s["trouble"] or s["left"]]
    for s in bad:
        print(json.dumps(s))
    return len(bad)


def work(args: argparse.Namespace) -> None:
    """Kill until enough were killed, and print.

    Raises
    ------
    SystemExit
        When any catalog differs or answered wrongly.
    """
    args.output.mkdir(parents=True, exist_ok=True)
    kept = args.output / f"stories-seed{args.seed}.jsonl"
    stories = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    n = sum(len(s["kills"]) for s in stories)
    if n < args.kills:
        bench = Bench(args.output)
        try:
            print("durations, s: " + ", ".join(f"{PHASES[k]} {v:.2f}" for k, v in bench.lasts.items()), flush=True)
            while n < args.kills:
                number = len(stories)
                with TemporaryDirectory(dir=args.output) as folder:
                    rng = random.Random(f"{args.seed} {number}")
                    stories.append(bench.story(number, rng, args.each, Path(folder)))
                n += len(stories[-1]["kills"])
                with kept.open("a") as out:
                    out.write(json.dumps(stories[-1]) + "\n")
                if number % 10 == 9:
                    print(f"{n} kills in {len(stories)} stories", file=sys.stderr, flush=True)
        finally:
            bench.server.close()
    if report(stories):
        sys.exit(1)


def main() -> None:
    """Parse the command line and run."""
    parser = plain_parser("studies.thousand_kills", __doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--each", type=int, default=4, help="kills a story")
    parser.add_argument("--seed", type=int, default=22, help="of phases and moments")
    run_study(parser, work, {"kills": 4, "each": 2})


if __name__ == "__main__":
    main()
