"""Files and inputs on which an earlier version failed, and what is said of each now.

``python -m studies.known_cases ../shared/cases`` reads the damaged files of ``reader/`` as their ``command.txt`` says
(without the fit), and runs the scripts of ``input/`` in copies. One line each; exceptions that are no message for users
are counted. What scripts print is to be judged by eye: they name what they expect.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from provabgs.core.errors import ProvabgsError
from provabgs.desi import read_observations
from studies.support.command import ROOT, plain_parser, run_study
from tests.support.desi_files import Target, coadd_hdus, redrock_hdus, source_id

LIMIT_S = 900


def read_case(folder: Path) -> str:
    """What reading the files of a case ends in."""
    words = shlex.split((folder / "command.txt").read_text().splitlines()[0])
    paths = {k: Path(ROOT, words[words.index(k) + 1]) if k in words else None for k in ("--redrock", "--photometry")}
    coadd = Path(ROOT, words[2])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = read_observations(coadd, paths["--redrock"], paths["--photometry"])
    except ProvabgsError as error:
        return "refused: " + re.sub(r"/\S+/", "", str(error))
    except Exception as error:
        return f"TRACEBACK: {type(error).__name__}: {error}"
    said = [f"{r.status.name}: {r.message}" if r.status else f"ready, {r.message or 'no note'}" for r in rows]
    return "rows: " + "; ".join(said)


def run_case(folder: Path, cases: Path) -> str:
    """Last lines that the script of a case prints, with ``Traceback`` where there was one."""
    script = next(folder.glob("try.*"))
    with TemporaryDirectory() as scratch:
        copy = Path(scratch) / "input" / folder.name
        shutil.copytree(cases / "input", Path(scratch) / "input")
        for file in (p for p in copy.iterdir() if p.suffix in (".py", ".sh", ".toml")):
            file.write_text(file.read_text().replace("pipelines.rehearsal", "pipelines.dry_run"))  # its name since
        program = [sys.executable] if script.suffix == ".py" else ["bash"]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
        try:
            done = subprocess.run(
                [*program, str(copy / script.name)], cwd=copy, env=environment,
                capture_output=True, text=True, timeout=LIMIT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return "HANG"
    text = (done.stdout + done.stderr).strip()
    raised = re.findall(r"^(\w[\w.]*(?:Error|Exception)): ", text, re.MULTILINE) if "Traceback" in text else []
    mark = "" if all(name.startswith("provabgs.core.errors.") for name in raised) else "TRACEBACK "
    return f"{mark}rc {done.returncode}: " + " / ".join(text.splitlines()[-12:])


def made_up(folder: Path) -> Path:
    """One case, for ``--smoke``: a coadd that lacks its end."""
    case = folder / "reader" / "01-cut"
    (folder / "input").mkdir(parents=True)
    case.mkdir(parents=True)
    coadd, redrock = (case / f"{name}-cut.fits" for name in ("coadd", "redrock"))
    coadd_hdus([Target(source_id(1))]).writeto(coadd)
    redrock_hdus([Target(source_id(1))]).writeto(redrock)
    coadd.write_bytes(coadd.read_bytes()[:-3000])
    (case / "command.txt").write_text(f"provabgs fit {coadd} --redrock {redrock}\n")
    return folder


def work(args: argparse.Namespace) -> None:
    """Go through all cases.

    Raises
    ------
    SystemExit
        When one ends in a traceback or hangs.
    """
    bad = 0
    if args.cases is None:
        args.cases = made_up(args.output)
    chosen = [f for kind in ("reader", "input") for f in sorted((args.cases / kind).iterdir()) if args.only in f.name]
    for folder in chosen:
        begin = time.perf_counter()
        if (folder / "command.txt").exists():
            said = read_case(folder)
        elif any(folder.glob("try.*")):
            said = run_case(folder, args.cases)
        else:
            continue
        bad += said.startswith(("TRACEBACK", "HANG"))
        print(f"{folder.parent.name}/{folder.name} ({time.perf_counter() - begin:.1f} s): {said}", flush=True)
    print(f"{len(chosen)} cases, {bad} tracebacks or hangs")
    if bad:
        sys.exit(1)


def main() -> None:
    """Parse the command line and run."""
    parser = plain_parser("studies.known_cases", __doc__)
    parser.add_argument("cases", type=Path, nargs="?", help="folder with reader/ and input/")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    run_study(parser, work, {}, needs=("cases",))


if __name__ == "__main__":
    main()
