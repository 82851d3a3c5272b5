"""SSP source: python-fsps itself, run in a process of its own (see `provabgs.sps.sources.fsps_worker`)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import deque
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from provabgs.core.constants import FSPS_LSUN_CGS
from provabgs.core.errors import DataFileError, InputError, MissingDependencyError, ProvabgsError
from provabgs.sps.library import SSPLibrary
from provabgs.sps.sources.base import PROGRESS_MARK, REFUSAL_MARK, BuildOptions, Progress, silent
from provabgs.sps.sources.recovered import FSPS_CITATION

REQUIRES = "fsps>=0.4.7,<0.5"
"""The wheels built with MIST and MILES; 0.5.0's is MIST + C3K at R = 100, too coarse for DESI."""
NEEDED_FILES = (
    "data/emlines_info.dat",
    "data/FILTER_LIST",
    "data/allfilters.dat",
    "ISOCHRONES/MIST/zlegend.dat",
    "SPECTRA/MILES/miles.lambda",
    "SPECTRA/MILES/zlegend.dat",
    "SPECTRA/BaSeL3.1/basel_logt.dat",
    "SPECTRA/Hot_spectra/WMBASIC.teff",
    "nebular/ZAU_ND_mist.cont",
)
"""A few of the 83 files that FSPS opens: enough to tell a checkout of FSPS from another folder."""

_GET_DATA = "git clone --depth 1 https://github.com/cconroy20/fsps.git and export SPS_HOME=<that folder>"


def build_fsps(options: BuildOptions, progress: Progress = silent) -> SSPLibrary:
    """Library computed by python-fsps; a `provabgs.sps.sources.base.Source`.

    MIST + MILES + Chabrier, dust off, nebular emission as asked, FSPS's own ages, its own metallicities unless
    ``options.logzsol`` names others (interpolated by FSPS, ``zcontinuous=1``).

    Parameters
    ----------
    options
        All but ``input`` and ``young`` are honoured.
    progress
        Called as steps complete.

    Returns
    -------
    SSPLibrary
        Single precision; the surviving mass is clipped to 1.

    Raises
    ------
    MissingDependencyError
        When python-fsps is not installed in a version we know, or SPS_HOME is not set.
    DataFileError
        When SPS_HOME is not a folder with FSPS's data, or FSPS stops at one of its files.
    InputError
        When an option makes no sense.
    ProvabgsError
        When FSPS takes longer than ``options.timeout``.
    """
    options.refuse("fsps", ("input", "young"))
    version, home = check_python_fsps(), check_sps_home()
    if options.logzsol is not None and (len(options.logzsol) < 2 or np.any(np.diff(options.logzsol) <= 0)):
        raise InputError(f"logzsol must be two or more increasing numbers, got {options.logzsol}")
    answer = _run_engine(options, progress)
    surviving, note = _clip_surviving_mass(answer["surviving_mass"], answer["log_age"])
    return SSPLibrary(
        wave=answer["wave"],
        log_age=answer["log_age"],
        logzsol=answer["logzsol"],
        spectrum=answer["spectrum"],
        surviving_mass=surviving,
        z_solar=float(answer["z_solar"]),
        imf="Chabrier (2003)",
        lsun_cgs=FSPS_LSUN_CGS,
        provenance={
            "source": f"python-fsps {version}: isochrones {answer['isochrones']}, spectra {answer['spectra']}, "
            f"dust off, nebular emission {'on' if options.nebular else 'off'}",
            "fsps_data": f"revision {_git_revision(home)}",
            "licence": "MIT (FSPS, python-fsps)",
            "citation": FSPS_CITATION,
            "known_errors": f"surviving mass: {note}; luminosities 0.07 % high (python-fsps takes c = 3e18 A/s)",
        },
    )


def check_python_fsps() -> str:
    """Version of the installed python-fsps, without importing it (importing needs SPS_HOME).

    Raises
    ------
    MissingDependencyError
        When it is absent or of another series.
    """
    try:
        version = metadata.version("fsps")
    except metadata.PackageNotFoundError:
        raise MissingDependencyError(
            "source 'fsps' needs python-fsps, which is not installed; pip install 'provabgs[fsps]'"
        ) from None
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if not (0, 4, 7) <= numbers < (0, 5):
        raise MissingDependencyError(
            f"source 'fsps' knows python-fsps 0.4.7-0.4.x, found {version}; pip install '{REQUIRES}'"
        )
    return version


def check_sps_home() -> Path:
    """Folder of FSPS's data.

    Raises
    ------
    MissingDependencyError
        When SPS_HOME is not set.
    DataFileError
        When it is not a folder, or one of `NEEDED_FILES` is not in it.
    """
    value = os.environ.get("SPS_HOME", "")
    if not value:
        raise MissingDependencyError(f"source 'fsps' needs FSPS's data, but SPS_HOME is not set; {_GET_DATA}")
    home = Path(value)
    if not home.is_dir():
        raise DataFileError(f"SPS_HOME={value}: no such folder; {_GET_DATA}")
    for name in NEEDED_FILES:
        if not (home / name).is_file():
            raise DataFileError(f"SPS_HOME={value}: {name} is missing, so these are not FSPS's data; {_GET_DATA}")
    return home


def _run_engine(options: BuildOptions, progress: Progress) -> dict[str, NDArray]:
    """Run the worker and read its answer."""
    with tempfile.TemporaryDirectory(prefix="provabgs-fsps-") as folder:
        request, output = Path(folder) / "request.json", Path(folder) / "answer.npz"
        wanted = {"logzsol": options.logzsol, "wave_range": options.wave_range, "nebular": options.nebular}
        request.write_text(json.dumps(wanted))
        command = [sys.executable, "-m", "provabgs.sps.sources.fsps_worker", str(request), str(output)]
        words, code, timed_out = _watch(command, options.timeout, progress)
        if timed_out:
            raise ProvabgsError(
                f"FSPS did not finish within {options.timeout:g} s (last output: {words!r}); raise --timeout"
            )
        if words.startswith(REFUSAL_MARK):
            raise InputError(words.removeprefix(REFUSAL_MARK).strip())
        if not output.exists():
            raise DataFileError(
                f"SPS_HOME={os.environ['SPS_HOME']}: FSPS stopped (exit code {code}), its last words: "
                f"{words!r}; mend or re-clone the data"
            )
        with np.load(output, allow_pickle=False) as npz:
            return {name: npz[name] for name in npz.files}


def _watch(command: list[str], timeout: float, progress: Progress) -> tuple[str, int, bool]:
    """Run `command`, passing its progress on: ``(last words, exit code, killed for its time)``."""
    lines: deque[str] = deque(maxlen=50)
    expired = threading.Event()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=_environment()
    ) as process:

        def expire() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(timeout, expire)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(PROGRESS_MARK):
                    _, done, total, what = line.rstrip().split(" ", 3)
                    progress(int(done), int(total), what)
                elif line.strip():
                    lines.append(line.strip())
        except BaseException:
            process.kill()  # an interrupted parent leaves no FSPS process behind
            raise
        finally:
            timer.cancel()
    return _last_words(list(lines)), process.returncode, expired.is_set()


def _last_words(lines: list[str]) -> str:
    """What the process died of: its last line, or gfortran's runtime error with the line before (it names the file)."""
    for i, line in enumerate(lines):
        if line.startswith("Fortran runtime error"):
            return " ".join(lines[max(i - 1, 0) : i + 1])
    return lines[-1] if lines else ""


def _environment() -> dict[str, str]:
    """Environment of the worker: unbuffered, so that its last words arrive."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "GFORTRAN_UNBUFFERED_ALL": "1"}


def _clip_surviving_mass(mass: NDArray[np.float64], log_age: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    """Surviving mass <= 1 and a note on what was clipped."""
    above = mass > 1
    if not above.any():
        return mass, "as FSPS gives it"
    oldest = 10 ** (log_age[above.any(axis=0)].max() - 6)
    note = f"{int(above.sum())} nodes above 1 (up to {mass.max():.2f}, ages <= {oldest:.2g} Myr) clipped to 1"
    return np.minimum(mass, 1.0), note


def _git_revision(home: Path) -> str:
    """Commit of the checkout of FSPS's data, read from its files; ``unknown`` outside a checkout."""
    head = home / ".git" / "HEAD"
    if not head.is_file():
        return "unknown"
    content = head.read_text().strip()
    if not content.startswith("ref: "):
        return content
    reference = home / ".git" / content.removeprefix("ref: ")
    return reference.read_text().strip() if reference.is_file() else "unknown"
