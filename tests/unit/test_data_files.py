"""Files of our own formats: whatever they hold, their numbers or one sentence that names the file and the cure."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from provabgs.catalog import write_posteriors
from provabgs.core.errors import ConfigError, DataFileError, InputError
from provabgs.core.hdf5 import attribute
from provabgs.inference.prior_correction import load_correction
from provabgs.mocks.challenge import load_posteriors
from provabgs.pipelines.config import RunConfig, load_config, parse_config
from provabgs.pipelines.dry_run import synthetic_posterior
from provabgs.pipelines.inputs import make_reader
from provabgs.pipelines.manifest import MANIFEST_NAME, check_manifest
from provabgs.sps.library import SSPLibrary
from tests.support.small_library import small_library

SHARED = Path(os.environ.get("PROVABGS_SHARED", Path(__file__).resolve().parents[3] / "shared"))
NULL_SETTINGS = SHARED / "cases/store/run-settings-null.json"


@pytest.fixture
def ssp(tmp_path: Path) -> Path:
    path = tmp_path / "ssp.h5"
    small_library(np.arange(3000.0, 9000.0, 300.0)).save(path)
    return path


def one_line(error: BaseException, path: Path) -> str:
    text = str(error)
    assert str(path) in text
    assert len(text.splitlines()) == 1
    return text


def set_attr(name: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda f: f.attrs.__setitem__(name, value)


def replace_by(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(f: h5py.File) -> None:
        del f[name]
        f[name] = value

    return change


def kept_elsewhere(f: h5py.File) -> None:
    values = f["wave"][:]
    del f["wave"]
    f.create_dataset("wave", shape=values.shape, dtype=values.dtype, external=[("/dev/zero", 0, values.nbytes)])


def sparse(f: h5py.File) -> None:
    del f["spectrum"]
    f.create_dataset("spectrum", shape=(1 << 20, 1 << 20), dtype="f8", chunks=(64, 64))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (set_attr("z_solar", 5.0), "z_solar spans 5 to 5, expected 0.005 to 0.05"),
        (set_attr("z_solar", np.nan), "z_solar is 'nan', not a finite number"),
        (set_attr("z_solar", "0.02"), "not a finite number"),
        (set_attr("z_solar", 0.02), "does not match its recorded SHA-256"),
        (set_attr("lsun_cgs", 3.828e33), "does not match its recorded SHA-256"),
        (set_attr("lsun_cgs", 3.828e26), "lsun_cgs spans"),
        (set_attr("imf", "Salpeter (1955)"), "does not match its recorded SHA-256"),
        (set_attr("imf", ""), "imf is empty"),
        (set_attr("sha256", "0"), "does not match its recorded SHA-256"),
        (lambda f: f["spectrum"].__setitem__((0, 0, 3), np.nan), "spectrum holds NaN"),
        (lambda f: f["spectrum"].__setitem__((0, 0, 3), 0.5), "does not match its recorded SHA-256"),
        (lambda f: f["wave"].__setitem__(slice(None), f["wave"][:] * 1e8), "wave spans"),
        (lambda f: f["surviving_mass"].__setitem__(0, 3.0), "surviving_mass spans"),
        (lambda f: f.create_dataset("line_nodes", data=[3]), "does not match its recorded SHA-256"),
        (replace_by("wave", h5py.ExternalLink("/etc/passwd", "x")), "wave is a link"),
        (replace_by("wave", h5py.SoftLink("/log_age")), "wave is a link"),
        (replace_by("wave", "words"), "wave is no array of numbers"),
        (replace_by("wave", np.zeros((3, 3))), "one-dimensional"),
        (kept_elsewhere, "wave lie in another file"),
        (sparse, "more than 4 GiB"),
        (lambda f: f.__delitem__("log_age"), "lacks 'log_age'"),
        (set_attr("format", np.zeros(3)), "not an SSP library of format"),
    ],
)
def test_a_library_that_was_touched_is_refused(ssp: Path, damage: Callable[[h5py.File], None], message: str) -> None:
    with h5py.File(ssp, "r+") as f:
        damage(f)
    with pytest.raises(DataFileError, match=message) as caught:
        SSPLibrary.load(ssp)
    one_line(caught.value, ssp)


@pytest.mark.parametrize("change", [{"z_solar": 0.02}, {"lsun_cgs": 3.828e33}, {"imf": "Kroupa (2001)"}])
def test_the_hash_of_a_library_covers_the_meaning_of_its_numbers(ssp: Path, change: dict[str, Any]) -> None:
    library = SSPLibrary.load(ssp)
    other = replace(library, **change)
    assert other.digest() != library.digest()
    assert replace(library, provenance={"source": "x"}).digest() == library.digest()
    other.save(ssp)
    assert SSPLibrary.load(ssp).digest() == other.digest()
    for name, value in {"z_solar": 0.0142, "lsun_cgs": 3.839e33, "imf": "Chabrier (2003)"}.items():
        if name in change:
            with h5py.File(ssp, "r+") as f:
                f.attrs[name] = value
    with pytest.raises(DataFileError, match="SHA-256"):
        SSPLibrary.load(ssp)


def test_structures_have_checksums_and_texts_no_heap(ssp: Path) -> None:
    with h5py.File(ssp) as f:
        objects: list[Any] = [f]
        f.visititems(lambda _, item: objects.append(item))
        kinds = {o.attrs.get_id(name).dtype.kind for o in objects for name in o.attrs}
        assert kinds == {"S", "f"}  # texts of any length, kind "O", would lie in a heap
        assert attribute(f, "format") == "provabgs-ssp-1"
    assert ssp.read_bytes()[8] == 3  # superblock version


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reads: list[Callable[[Path], Any]] = [SSPLibrary.load, load_correction, load_config]
    for read in reads:
        with pytest.raises(InputError, match="no plain file") as caught:
            read(pipe)
        one_line(caught.value, pipe)


def config(folder: Path, reader: str = "desi") -> RunConfig:
    return parse_config({"run": {"output": str(folder)}, "inputs": {"paths": [str(folder)], "reader": reader}})


@pytest.mark.parametrize(
    "text", ['{"format":"provabgs-run-1","settings":null}', "null", "[]", "[" * 100_000, "\0", "{}", '{"format": []}']
)
def test_a_manifest_of_nonsense_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_NAME).write_text(text)
    with pytest.raises(DataFileError, match="not a manifest that this version can read; choose another") as caught:
        check_manifest(config(tmp_path))
    one_line(caught.value, tmp_path / MANIFEST_NAME)


def test_the_manifest_among_the_cases(tmp_path: Path) -> None:
    if not NULL_SETTINGS.is_file():
        pytest.skip("the folder of cases that failed once is not here (PROVABGS_SHARED)")
    (tmp_path / MANIFEST_NAME).write_bytes(NULL_SETTINGS.read_bytes())
    with pytest.raises(DataFileError, match="not a manifest that this version can read"):
        check_manifest(config(tmp_path))


@pytest.mark.parametrize(
    "name", ["os:system", "os:getcwd", "builtins:exit", "builtins:dict", "subprocess:Popen", "os:path", "sys:path"]
)
def test_what_is_no_reader_is_not_called(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    monkeypatch.setattr("os.system", lambda *a: called.append(a))
    with pytest.raises(ConfigError, match=f"reader = '{name}' is no reader.*name a class with pattern, scan and read"):
        make_reader(config(tmp_path, name).inputs)
    assert not called


def test_a_module_that_fails_when_imported_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_reader.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"give 'module:object' \(division by zero"):
        make_reader(config(tmp_path, "broken_reader:Reader").inputs)


def test_fits_of_another_mode_are_noticed(tmp_path: Path) -> None:
    made = [synthetic_posterior(i, np.random.default_rng(i), 20) for i in range(3)]
    for mode in ("both", "spectrum"):
        path = tmp_path / "fits" / mode / "chunk-0.h5"
        path.parent.mkdir(parents=True)
        write_posteriors(path, made, attrs={"mode": "both"})
    assert sorted(load_posteriors(tmp_path, "both")) == [0, 1, 2]
    with pytest.raises(DataFileError, match="holds fits of mode 'both', not 'spectrum'"):
        load_posteriors(tmp_path, "spectrum")
