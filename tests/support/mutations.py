"""Damaged DESI files from a seed, and what the readers say of each: run as a process with a limit on its memory.

    python -m tests.support.mutations FOLDER SEED FIRST COUNT

writes one line of JSON for each mutation: its number, what was done, and how it ended.
"""

from __future__ import annotations

import gzip
import io
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from tests.support.desi_files import DEFAULTS, Target, coadd_hdus, redrock_hdus, source_id

MEMORY = 6 << 30
"""Address space of the process, bytes."""
SLOW_S = 5.0
"""Wall time of one file, far beyond what one takes."""
TARGETS = [Target(source_id(1), z=0.1), Target(source_id(2), z=0.2), Target(source_id(2), z=0.2), Target(-5)]
CARDS = (
    *("BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "TFIELDS", "XTENSION", "EXTNAME", "BUNIT"),
    *("BSCALE", "BZERO", "BLANK", "SIMPLE", "END", "CHECKSUM", "DATASUM", "ZIMAGE", "GROUPS", "EXTVER"),
    *(f"T{kind}{k}" for kind in ("FORM", "TYPE", "SCAL", "ZERO", "NULL", "DIM", "UNIT") for k in (1, 2, 5, 9, 30)),
)
VALUES = (
    *("0", "-1", "1", "3", "7", "999", "2147483647", "1099511627776", "-32", "64", "1.5E30", "NAN", "T", "F", ""),
    *(
        "'K'",
        "'1PD(9)'",
        "'99999999D'",
        "'A'",
        "'0D'",
        "'(3,3)'",
        "'nm'",
        "'10**9999999 erg'",
        "'TARGETID'",
        "'B_FLUX'",
    ),
    *("'REDSHIFTS'", "'FIBERMAP'", "'BINTABLE'", "'IMAGE'", "'abc", "'\u00e5'", "'1e-17 erg / (s cm2 Angstrom)'"),
)
COLUMNS: dict[str, Callable[[int], Any]] = {
    "D": lambda n: np.full(n, 1e300),
    "3D": lambda n: np.zeros((n, 3)),
    "M": lambda n: np.full(n, 1j),
    "L": lambda n: np.ones(n, dtype=bool),
    "K": lambda n: np.full(n, -(2**63)),
    "B": lambda n: np.full(n, 255, dtype=np.uint8),
    "9A": lambda n: np.array(["nonsense"] * n),
    "E": lambda n: np.full(n, np.nan),
    "PD()": lambda n: np.array([np.ones(k % 3) for k in range(n)], dtype=object),
}


def packed(hdus: fits.HDUList, checksum: bool) -> bytes:
    stream = io.BytesIO()
    hdus.writeto(stream, checksum=checksum)
    return stream.getvalue()


def catalog_hdus() -> fits.HDUList:
    n = len(TARGETS)
    light = {k: np.full(n, v) for k, v in DEFAULTS.items() if k.startswith(("FLUX_", "FIBERFLUX_"))}
    columns = {"RELEASE": np.full(n, 9010), "BRICKID": np.full(n, 500_000), "OBJID": np.arange(1, n + 1)}
    columns |= {"RA": np.full(n, 150.0), "DEC": np.full(n, 2.0), "TYPE": np.array(["SER"] * n), **light}
    made = [fits.Column(k, {"i": "K", "f": "D", "U": "3A"}[v.dtype.kind], array=v) for k, v in columns.items()]
    return fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(made, name="CATALOG")])


MAKERS: dict[str, Callable[[], fits.HDUList]] = {
    "coadd": lambda: coadd_hdus(TARGETS),
    "redrock": lambda: redrock_hdus(TARGETS),
    "tractor": catalog_hdus,
}


def headers(data: bytes) -> list[int]:
    """Where headers begin."""
    return [k for k in range(0, len(data), 2880) if data[k : k + 8] in (b"SIMPLE  ", b"XTENSION")]


def flip(data: bytearray, rng: np.random.Generator, among: list[int]) -> None:
    data[int(rng.choice(among))] ^= 1 << int(rng.integers(8))


def mutate(kind: str, whole: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """One mutation: what was done, and the damaged file."""
    data = bytearray(whole)
    blocks = len(data) // 2880
    at = 2880 * int(rng.integers(blocks))
    what = str(
        rng.choice(["flips", "header", "card", "card", "insert", "cut", "block", "noise", "end", "column", "gzip"])
    )
    if what == "flips":
        for _ in range(int(rng.integers(1, 30))):
            flip(data, rng, [int(rng.integers(len(data)))])
    elif what == "header":
        start = int(rng.choice(headers(whole)))
        for _ in range(int(rng.integers(1, 6))):
            flip(data, rng, [int(rng.integers(start, min(start + 2880, len(data))))])
    elif what == "card":
        key, value = str(rng.choice(CARDS)), str(rng.choice(VALUES))
        places = [k for k in range(0, len(data), 80) if data[k : k + 8].rstrip() == key.encode()]
        card = f"{key:<8}= {value:>20}"[:80].ljust(80).encode("latin-1")
        start = int(rng.choice(places)) if places else int(rng.choice(headers(whole))) + 80 * int(rng.integers(1, 8))
        data[start : start + 80] = card
        what = f"card {key} = {value}"
    elif what == "insert":
        data[at:at] = bytes(rng.choice([0, 32, 64, 255], 1).astype(np.uint8)) * (2880 * int(rng.integers(1, 3)))
    elif what == "cut":
        del data[at : at + 2880]
    elif what == "block":
        other = 2880 * int(rng.integers(blocks))
        data[at : at + 2880] = data[other : other + 2880]
    elif what == "noise":
        size = int(rng.integers(1, 3000))
        data[at : at + size] = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
    elif what == "end":
        del data[int(rng.integers(len(data))) :]
    elif what == "column":
        return odd_column(kind, rng)
    elif what == "gzip":
        squeezed = bytearray(gzip.compress(whole, 1))
        if rng.random() < 0.5:
            del squeezed[int(rng.integers(len(squeezed))) :]
        else:
            flip(squeezed, rng, [int(rng.integers(len(squeezed)))])
        return "gzip", bytes(squeezed)
    return what, bytes(data)


def odd_column(kind: str, rng: np.random.Generator) -> tuple[str, bytes]:
    """A file one of whose columns is not what it should be."""
    hdus = MAKERS[kind]()
    table = hdus[1]
    name, fmt = str(rng.choice(table.columns.names)), str(rng.choice(list(COLUMNS)))
    columns = [c for c in table.columns if c.name != name]
    odd = fits.Column(name, fmt, array=COLUMNS[fmt](len(table.data)))
    hdus[1] = fits.BinTableHDU.from_columns([*columns, odd], name=table.name)
    return f"column {name} as {fmt}", packed(hdus, checksum=bool(rng.random() < 0.5))


def read(folder: Path) -> str:
    """How reading ends: "refused" in one line, or what became of the rows; raises where it must not."""
    from provabgs.core.errors import DataFileError
    from provabgs.desi import read_observations

    try:
        results = read_observations(
            folder / "coadd-x.fits", folder / "redrock-x.fits", folder / "tractor.fits", options=None
        )
    except DataFileError as error:
        if "\n" in str(error) or not any(name in str(error) for name in ("coadd-x", "redrock-x", "tractor")):
            raise AssertionError("not one line that names the file") from error
        return f"refused: {error}"
    for result in results:
        assert (result.observation is None) == (result.status is not None)
        assert result.observation is not None or result.message, "no reason"
    return "read: " + ",".join("ready" if r.status is None else r.status.name for r in results)


def fingerprint(folder: Path) -> str | None:
    """Digests of what is read; None for what is refused."""
    from provabgs.core.errors import DataFileError
    from provabgs.desi import read_observations

    try:
        results = read_observations(folder / "coadd-x.fits", folder / "redrock-x.fits", folder / "tractor.fits")
    except DataFileError:
        return None
    return "|".join(r.observation.digest() if r.observation is not None else "-" for r in results)


def main(folder: Path, seed: int, first: int, count: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    names = {"coadd": "coadd-x.fits", "redrock": "redrock-x.fits", "tractor": "tractor.fits"}
    whole = {(kind, c): packed(make(), c) for kind, make in MAKERS.items() for c in (False, True)}
    for kind, name in names.items():
        (folder / name).write_bytes(whole[kind, True])
    good = fingerprint(folder)
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        kind, checksum = str(rng.choice(list(MAKERS))), bool(rng.random() < 0.5)
        what, data = mutate(kind, whole[kind, checksum], rng)
        path = folder / names[kind]
        path.write_bytes(data)
        start, silent = time.perf_counter(), False
        try:
            outcome = read(folder)
            if (
                checksum
                and outcome.startswith("read")
                and not what.startswith(("column", "card CHECKSUM", "card DATASUM"))
            ):
                seen = fingerprint(folder)
                silent = seen is not None and any(
                    b not in ("-", a) for a, b in zip((good or "").split("|"), seen.split("|"), strict=False)
                )
        except Exception as error:
            outcome = f"raised: {type(error).__name__}: {error}"
        took = time.perf_counter() - start
        record = {"number": number, "kind": kind, "what": what, "checksum": checksum, "outcome": outcome[:200]}
        print(json.dumps({**record, "seconds": round(took, 2), "silent": silent}), flush=True)
        path.write_bytes(whole[kind, True])


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(x) for x in sys.argv[2:5]))
