"""Data kept beside the samples: whatever a file holds, the observation that was fitted or one error comes out."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from provabgs.catalog.observed import read_fitted, write_fits
from provabgs.catalog.shard import read_shard
from provabgs.core.errors import DataFileError, InputError
from provabgs.core.hdf5 import create
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.pipelines.dry_run import synthetic_posterior

ROOT = Path(__file__).resolve().parents[2]
WAVE = np.linspace(4000.0, 5000.0, 400)
PHOTOMETRY = Photometry(("decam2014-g", "decam2014-r"), np.array([3.0, 5.0]), np.array([100.0, 90.0]))
OBSERVATION = Observation(
    0.1, (Spectrum("b", WAVE, WAVE / 4000, np.ones(400), sigma_aa=0.7),), PHOTOMETRY, (0.5, 0.1), targetid=7
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "fit.h5"
    posterior = synthetic_posterior(7, np.random.default_rng(0), 20)
    write_fits(made, [(posterior, OBSERVATION), (posterior, None)])
    return made


def test_round_trip(path: Path) -> None:
    assert read_fitted(path, 0).digest() == OBSERVATION.digest()
    with pytest.raises(InputError, match="row 1: holds no data"):
        read_fitted(path, 1)


def external(f: h5py.File, name: str) -> None:
    del f[name]
    f[name] = h5py.ExternalLink("/etc/passwd", "x")


def soft(f: h5py.File, name: str) -> None:
    del f[name]
    f[name] = h5py.SoftLink("/observations")


def huge(f: h5py.File, name: str) -> None:
    del f[name]
    f.create_dataset(name, shape=(1 << 20, 1 << 20), dtype="f8", chunks=(64, 64), compression="gzip")


def twice(f: h5py.File, name: str) -> None:
    f[f"{name}-again"] = f[name]


@pytest.mark.parametrize("damage", [external, soft, huge, twice])
@pytest.mark.parametrize("name", ["photometry/flux", "spectra/0/wave", "spectra/0"])
def test_links_and_sizes_are_refused(path: Path, damage: Callable[[h5py.File, str], None], name: str) -> None:
    with h5py.File(path, "r+") as f:
        damage(f, f"observations/0/{name}")
    with pytest.raises(DataFileError, match=r"fit\.h5, row 0: corrupt data"):
        read_fitted(path, 0)


def test_the_group_itself_may_be_no_link(path: Path) -> None:
    with h5py.File(path, "r+") as f:
        f["observations/2"] = h5py.SoftLink("/observations/0")
    with pytest.raises(DataFileError, match="is a link"):
        read_fitted(path, 2)


def test_flipped_bits_are_noticed(path: Path) -> None:
    whole, rng = path.read_bytes(), np.random.default_rng(3)
    refused = list[str]()
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 30))):
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            assert read_fitted(path, 0).digest() == OBSERVATION.digest()
        except DataFileError as error:
            refused.append(str(error))
    assert len(refused) > 30
    assert all(len(said.splitlines()) == 1 for said in refused)


def test_no_locks_are_needed(path: Path, tmp_path: Path) -> None:
    """Some file systems have none; here somebody holds those that HDF5 would ask for."""
    with path.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert read_fitted(path, 0).digest() == OBSERVATION.digest()
        assert [p.targetid for p in read_shard(path)] == [7, 7]
        with create(path, "a") as f:
            f.attrs["note"] = "written"
    open_calls = [
        f"{source.relative_to(ROOT)}: {line.strip()}"
        for folder in ("provabgs", "mocks", "pipelines")
        for source in (ROOT / folder).rglob("*.py")
        for line in source.read_text().splitlines()
        if re.search(r"h5py\.File\(", line) and 'driver="core"' not in line
    ]
    assert len(open_calls) == 1, open_calls  # core/hdf5.py's own
