"""Twenty thousand damaged files from a seed, and what is said of each: a table of tried, handled and failed, by kind.

``python -m studies.damaged_files --count 10000 --seed 2026`` damages 10,000 DESI files (``tests.support.mutations``:
coadd, redrock, Tractor) and 10,000 files of our own (``tests.support.store_mutations``), each read in a process with
6 GiB of address space. One line of JSON per file goes to ``desi.jsonl`` and ``store.jsonl``: the same command goes on
behind the last. Failures are printed: files that change what is read without an error (silent), readers that take more
than a minute (hangs) or are killed, and exceptions that are no message for users (tracebacks). Exit code 1 if any.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from studies.support.command import ROOT, plain_parser, run_study

KINDS = {"desi": "tests.support.mutations", "store": "tests.support.store_mutations"}
HANG_S = 60.0
"""No answer for so long, of a reader that takes 0.1 s, is a hang."""
START_S = 300.0
"""Imports and the good files, on a busy machine."""
BATCH = 1000
"""Files a process."""
ENDS = ("read", "refused", "silent", "hang", "killed", "traceback")
FAILURES = ENDS[2:]


def records(path: Path) -> list[dict[str, Any]]:
    """Outcomes so far; a last line that was cut is dropped from the file too."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        path.write_text("".join(lines[:-1]))
        lines.pop()
    return [json.loads(line) for line in lines]


def batch(kind: str, seed: int, first: int, count: int, path: Path) -> None:
    """Append outcomes of some files; a reader that hangs or dies is an outcome too, and ends the batch."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    with TemporaryDirectory(prefix="provabgs-damaged-") as scratch, path.open("a") as out:
        command = [sys.executable, "-m", KINDS[kind], scratch, str(seed), str(first), str(count)]
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **threads}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stderr is not None
        watch = selectors.DefaultSelector()
        watch.register(process.stdout, selectors.EVENT_READ)
        done = 0
        while done < count:
            answered = watch.select(timeout=HANG_S if done else START_S)
            line = process.stdout.readline() if answered else ""
            if not line.endswith("\n"):
                process.kill()
                words = process.stderr.read()[-300:]
                if not done:
                    sys.exit(f"{kind}: the process did not start: {words}")
                how = "killed" if answered else "hang"
                lost = {"number": first + done, "kind": "?", "what": "?", "outcome": f"{how}: {words}", "silent": False}
                out.write(json.dumps({**lost, "seconds": HANG_S}) + "\n")
                break
            out.write(line)
            out.flush()
            done += 1
        process.wait()


def end(record: dict[str, Any]) -> str:
    """One of `ENDS`."""
    if record["silent"]:
        return "silent"
    word = str(record["outcome"]).partition(":")[0]
    return "traceback" if word == "raised" else word


def report(found: dict[str, list[dict[str, Any]]]) -> int:
    """Print the table and what failed; the number of failures."""
    print(f"| file | tried | {' | '.join(ENDS)} | longest, s |")
    print("|---|" + "---|" * (len(ENDS) + 2))
    total: Counter[str] = Counter()
    for group in found.values():
        for name in sorted({str(r["kind"]) for r in group}):
            mine = [r for r in group if r["kind"] == name]
            counts = Counter(end(r) for r in mine)
            total += counts
            slowest = max(float(r["seconds"]) for r in mine)
            print(f"| {name} | {len(mine)} | {' | '.join(str(counts[e]) for e in ENDS)} | {slowest:.1f} |")
    print(f"| **all** | {sum(total.values())} | {' | '.join(str(total[e]) for e in ENDS)} | |")
    failed = [(name, r) for name, rows in found.items() for r in rows if end(r) in FAILURES]
    for name, r in failed:
        print(f"{end(r)}: {name} {r['number']}, {r['kind']}, {r['what']}: {r['outcome']}")
    return len(failed)


def work(args: argparse.Namespace) -> None:
    """Damage, read, and print.

    Raises
    ------
    SystemExit
        When any file failed.
    """
    args.output.mkdir(parents=True, exist_ok=True)
    found = {}
    for kind in KINDS:
        path = args.output / f"{kind}-seed{args.seed}.jsonl"
        while (n := len(records(path))) < args.count:
            batch(kind, args.seed, n, min(BATCH, args.count - n), path)
            print(f"{kind}: {len(records(path))} of {args.count}", file=sys.stderr, flush=True)
        found[kind] = records(path)[: args.count]
    if report(found):
        sys.exit(1)


def main() -> None:
    """Parse the command line and run."""
    parser = plain_parser("studies.damaged_files", __doc__)
    parser.add_argument("--count", type=int, default=10_000, help="files of either group")
    parser.add_argument("--seed", type=int, default=2026)
    run_study(parser, work, {"count": 40})


if __name__ == "__main__":
    main()
