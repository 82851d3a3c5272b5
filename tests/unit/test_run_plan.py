"""Plans: inputs found, named, listed once; duplicates, target tables, unreadable files; locks; manifests."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table

from provabgs.core.errors import ConfigError, DataFileError, InputError
from provabgs.core.status import Status
from provabgs.pipelines.config import RunConfig, parse_config
from provabgs.pipelines.inputs import PhotometryTableReader, make_reader
from provabgs.pipelines.lock import DirectoryLock
from provabgs.pipelines.manifest import check_manifest
from provabgs.pipelines.plan import SCAN_CACHE, estimate, make_plan
from provabgs.pipelines.run import run


def write(path: Path, ids: list[int], ra: float = 150.0, z: float = 0.1) -> None:
    n = len(ids)
    table = Table({"TARGETID": ids, "RA": np.full(n, ra), "DEC": np.full(n, 2.0), "Z": np.full(n, z)})
    for band in ("G", "R", "Z"):
        table[f"FLUX_{band}"], table[f"FLUX_IVAR_{band}"] = np.full(n, 10.0), np.full(n, 4.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.write(path, overwrite=True)


def config(tmp_path: Path, **inputs: Any) -> RunConfig:
    options = {"paths": [str(tmp_path / "in")], "reader": "photometry", **inputs}
    return parse_config({"run": {"output": str(tmp_path / "out")}, "inputs": options})


def test_every_row_of_every_file_is_planned(tmp_path: Path) -> None:
    write(tmp_path / "in/a.fits", [1, 2, 3])
    write(tmp_path / "in/deep/b.ecsv", [4, 5], ra=200.0)
    plan = make_plan(config(tmp_path))
    assert sorted(plan.targetid) == [1, 2, 3, 4, 5]
    groups = {pixel: plan.targetid[rows].tolist() for pixel, rows in plan.groups()}
    assert sorted(groups.values()) == [[1, 2, 3], [4, 5]]
    cost = estimate(plan, config(tmp_path))
    assert (cost.galaxies, cost.files, cost.shards) == (5, 2, 2)
    assert cost.core_hours == pytest.approx(25 / 3600)


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ConfigError, match=r"holds no file like \*\.fits"):
        make_plan(config(tmp_path))
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        make_plan(config(tmp_path, paths=[str(tmp_path / "nowhere")]))
    with pytest.raises(ConfigError, match="matches no file"):
        make_plan(config(tmp_path, paths=[str(tmp_path / "*.xyz")]))
    with pytest.raises(ConfigError, match="file_list"):
        make_plan(config(tmp_path, paths=[], file_list=str(tmp_path / "none.txt")))
    with pytest.raises(ConfigError, match=r"give 'module:object'"):
        make_reader(config(tmp_path, reader="nosuchmodule:Reader").inputs)
    with pytest.raises(ConfigError, match=r"options\.colour is no option of the photometry reader"):
        make_reader(config(tmp_path, options={"colour": 1}).inputs)


def test_duplicates(tmp_path: Path) -> None:
    write(tmp_path / "in/a.fits", [1, 2, -7])
    write(tmp_path / "in/b.fits", [2, 3, -7])
    with pytest.raises(InputError, match=r"TARGETID 2 is in .*a\.fits \(row 1\) and .*b\.fits \(row 0\)"):
        make_plan(config(tmp_path))
    first = make_plan(config(tmp_path, duplicates="first"))
    assert sorted(first.targetid) == [-7, -7, 1, 2, 3]  # stuck fibers are no galaxies: each row is kept
    assert [first.names[f] for f in first.file[first.targetid == 2]] == ["a.fits"]
    assert len(make_plan(config(tmp_path, duplicates="keep"))) == 6


def test_names_do_not_depend_on_where_the_data_lie(tmp_path: Path) -> None:
    write(tmp_path / "in/x/a.fits", [1])
    write(tmp_path / "in/y/a.fits", [2])
    with pytest.raises(ConfigError, match="have one name; set root"):
        make_plan(config(tmp_path))
    assert make_plan(config(tmp_path, root=str(tmp_path / "in"))).names == ("x/a.fits", "y/a.fits")
    with pytest.raises(ConfigError, match="root"):
        make_plan(config(tmp_path, root=str(tmp_path / "elsewhere")))


def test_target_table_and_file_list(tmp_path: Path) -> None:
    write(tmp_path / "in/a.fits", [1, 2, 3])
    write(tmp_path / "more/b.fits", [4])
    (tmp_path / "list.txt").write_text("# files\nmore/b.fits\n")
    Table({"TARGETID": [2, 4, 99]}).write(tmp_path / "t.csv")
    plan = make_plan(config(tmp_path, file_list=str(tmp_path / "list.txt"), targets=str(tmp_path / "t.csv")))
    assert sorted(plan.targetid) == [2, 4]
    assert plan.n_missing == 1
    Table({"ID": [2]}).write(tmp_path / "u.csv")
    with pytest.raises(DataFileError, match="no column TARGETID"):
        make_plan(config(tmp_path, targets=str(tmp_path / "u.csv")))


def test_unreadable_files_are_kept_apart_and_listed_files_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in/a.fits", [1, 2])
    (tmp_path / "in/b.fits").write_bytes(b"SIMPLE  = junk")
    plan = make_plan(config(tmp_path))
    assert [p.name for p, _ in plan.unreadable] == ["b.fits"]
    assert len(plan) == 2
    scanned: list[str] = []
    scan = PhotometryTableReader.scan

    def spy(self: PhotometryTableReader, path: Path) -> object:
        scanned.append(path.name)
        return scan(self, path)

    monkeypatch.setattr(PhotometryTableReader, "scan", spy)
    write(tmp_path / "in/b.fits", [3])
    assert sorted(make_plan(config(tmp_path)).targetid) == [1, 2, 3]
    assert scanned == ["b.fits"]
    write(tmp_path / "in/a.fits", [7, 8])
    assert sorted(make_plan(config(tmp_path)).targetid) == [3, 7, 8]
    (tmp_path / "out" / SCAN_CACHE).write_bytes(b"junk")
    assert sorted(make_plan(config(tmp_path)).targetid) == [3, 7, 8]


def test_photometry_reader_makes_observations_or_reasons(tmp_path: Path) -> None:
    write(tmp_path / "in/a.fits", [1, 2], z=0.2)
    write(tmp_path / "in/b.fits", [3], z=-0.2)
    reader = PhotometryTableReader(config(tmp_path).inputs)
    good = list(reader.read(tmp_path / "in/a.fits", [2, 5], [1, 9]))
    assert [(r.targetid, r.row) for r in good] == [(2, 1)]
    assert good[0].observation is not None
    assert good[0].observation.photometry is not None
    assert good[0].observation.photometry.bands == ("decam2014-g", "decam2014-r", "decam2014-z")
    bad = list(reader.read(tmp_path / "in/b.fits", [3], [0]))
    assert bad[0].status is Status.REDSHIFT_OUT_OF_RANGE


def test_lock_of_a_living_remote_run_is_respected_until_it_is_stale(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    lock.write_text(json.dumps({"host": "another-node", "pid": 17}))
    with pytest.raises(InputError, match="host another-node, process 17"), DirectoryLock(tmp_path):
        pass
    old = time.time() - 1000
    os.utime(lock, (old, old))
    with DirectoryLock(tmp_path), pytest.raises(InputError, match="another run"), DirectoryLock(tmp_path):
        pass
    with DirectoryLock(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, 524])
def test_lock_without_kernel_locks_goes_by_the_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_locks(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with DirectoryLock(tmp_path), pytest.raises(InputError, match=f"process {os.getpid()}"), DirectoryLock(tmp_path):
        pass
    (tmp_path / "run.lock").write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1}))
    with DirectoryLock(tmp_path):  # its process is dead
        pass


@pytest.mark.parametrize("fit", ["nosuchmodule:fit", "provabgs.inference.fit_observation", "provabgs.nosuch:fit", ":"])
def test_a_fit_that_is_not_there_is_found_out_at_once(tmp_path: Path, fit: str) -> None:
    write(tmp_path / "in/a.fits", [1])
    bad = config(tmp_path).model_dump()
    bad["run"]["fit"] = fit
    with pytest.raises(ConfigError, match=r"\[run\] fit = .*give 'module:object'"):
        run(parse_config(bad), quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_reader_that_breaks_on_a_file_does_not_stop_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in/a.fits", [1])
    write(tmp_path / "in/b.fits", [2])
    scan = PhotometryTableReader.scan

    def breaks(self: PhotometryTableReader, path: Path) -> object:
        if path.name == "a.fits":
            raise KeyError("EXTNAME")
        return scan(self, path)

    monkeypatch.setattr(PhotometryTableReader, "scan", breaks)
    plan = make_plan(config(tmp_path))
    assert plan.targetid.tolist() == [2]
    assert "a.fits: cannot be listed (KeyError" in plan.unreadable[0][1]


def test_settings_must_not_change_under_a_catalog(tmp_path: Path) -> None:
    first = config(tmp_path)
    check_manifest(first)
    check_manifest(first)
    other = first.model_dump()
    other["fit"]["sampler"]["rhat"] = 1.2
    with pytest.raises(ConfigError, match=r"fit\.sampler\.rhat was 1\.01, now 1\.2"):
        check_manifest(parse_config(other))
    other["run"]["allow_mixed"] = True
    check_manifest(parse_config(other))
    (tmp_path / "out/run.json").write_text("{")
    with pytest.raises(DataFileError, match=r"run\.json"):
        check_manifest(first)
