"""Tables of fluxes and targets as people have them: one odd row costs itself, identifiers are exact."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table

from provabgs.core.errors import ConfigError, DataFileError
from provabgs.core.status import Status
from provabgs.observe.target import TargetResult
from provabgs.pipelines.config import InputOptions, parse_config
from provabgs.pipelines.inputs import PhotometryTableReader
from provabgs.pipelines.plan import find_inputs, make_plan
from provabgs.pipelines.tables import read_table, row_ids

FIRST = 39627783185368040
BANDS = ("G", "R", "Z", "W1", "W2")
HEAD = ",".join(["TARGETID", "RA", "DEC", "Z", "PHOTSYS", *(f"FLUX_{b},FLUX_IVAR_{b}" for b in BANDS)])


def row(k: int, targetid: str | None = None, photsys: str = "S", z: str = "0.15", w1: str = "52.0") -> str:
    name = str(FIRST + k) if targetid is None else targetid
    return f"{name},{150 + 0.01 * k},2.0,{z},{photsys},20.0,6.2,42.0,1.4,68.0,0.54,{w1},0.15,36.0,0.3"


def read(path: Path, **options: Any) -> list[TargetResult]:
    reader = PhotometryTableReader(InputOptions(paths=("x",), reader="photometry", options=options))
    scan = reader.scan(path)
    found = list(reader.read(path, scan.targetid.tolist(), scan.row.tolist()))
    assert [r.row for r in found] == list(range(scan.row.size))
    return found


def csv(folder: Path, *rows: str, head: str = HEAD, encoding: str = "utf-8") -> Path:
    path = folder / "galaxies.csv"
    path.write_text("\n".join([head, *rows]) + "\n", encoding=encoding)
    return path


@pytest.mark.parametrize(
    ("odd", "status", "why"),
    [
        (row(1, photsys=""), Status.BAD_DATA, "PHOTSYS is blank"),
        (row(1, photsys="X"), Status.BAD_DATA, "'X' is not known"),
        (row(1, targetid=""), Status.INPUT_ERROR, "row 1: TARGETID is blank"),
        (row(1, targetid="39627783185368041.0"), Status.INPUT_ERROR, "is no integer"),
        (row(1, targetid="3.9e16"), Status.INPUT_ERROR, "is no integer"),
        (row(1, targetid="galaxy"), Status.INPUT_ERROR, "is no integer"),
        (row(1, z=""), Status.NO_REDSHIFT, "redshift is nan"),
        (row(1, z="far"), Status.NO_REDSHIFT, "redshift is nan"),
        (row(1, z="-1"), Status.REDSHIFT_OUT_OF_RANGE, "not positive"),
        (row(1, w1="bright"), Status.BAD_DATA, "NaN or infinite flux"),
    ],
)
def test_one_odd_row_costs_itself(tmp_path: Path, odd: str, status: Status, why: str) -> None:
    first, second, third = read(csv(tmp_path, row(0), odd, row(2)))
    for good, k in ((first, 0), (third, 2)):
        assert good.observation is not None
        assert good.targetid == good.observation.targetid == FIRST + k
        assert good.observation.photometry is not None
        assert good.observation.photometry.flux.tolist() == [20.0, 42.0, 68.0, 52.0, 36.0]
    assert second.status == status
    assert why in second.message


def test_headers_in_any_case_and_with_a_byte_order_mark(tmp_path: Path) -> None:
    for head, encoding in ((HEAD.lower(), "utf-8"), (HEAD, "utf-8-sig"), (HEAD.title(), "utf-8-sig")):
        result = read(csv(tmp_path, row(0), head=head, encoding=encoding))[0]
        assert result.observation is not None
        assert result.targetid == FIRST
    with pytest.raises(DataFileError, match="ra and Ra are both RA"):
        read(csv(tmp_path, row(0) + ",1", head=HEAD.replace("RA", "ra") + ",Ra"))
    with pytest.raises(DataFileError, match="no text in UTF-8"):
        read(csv(tmp_path, row(0, photsys="Å"), encoding="latin-1"))


def test_floating_point_identifiers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "targets.fits"
    Table({"TARGETID": np.array([FIRST, FIRST + 1], dtype=float)}).write(path)
    with pytest.raises(DataFileError, match=r"targets.fits: column TARGETID is stored as float64"):
        row_ids(read_table(path, ("TARGETID",)), path)
    inputs = {"paths": [str(csv(tmp_path, row(0), row(1)))], "reader": "photometry", "targets": str(path)}
    config = parse_config({"run": {"output": str(tmp_path / "out")}, "inputs": inputs})
    with pytest.raises(DataFileError, match="float64"):
        make_plan(config)
    Table({"targetid": np.array([FIRST + 1])}).write(path, overwrite=True)
    assert make_plan(config).targetid.tolist() == [FIRST + 1]
    Table({"TARGETID": np.array([str(FIRST + 1), "x"])}).write(path, overwrite=True)
    with pytest.raises(ConfigError, match="row 1: TARGETID 'x' is no integer"):
        make_plan(config)


def test_units_of_columns_are_converted_or_refused(tmp_path: Path) -> None:
    table = Table.read(csv(tmp_path, row(0)), format="ascii.csv")
    path = tmp_path / "galaxies.ecsv"
    table["FLUX_G"].unit, table["FLUX_IVAR_G"].unit = "uJy", "1/uJy2"
    table.write(path, overwrite=True)
    found = read(path)[0].observation
    assert found is not None
    assert found.photometry is not None
    assert found.photometry.flux[0] == pytest.approx(20 / 3.631)
    assert found.photometry.ivar[0] == pytest.approx(6.2 * 3.631**2)
    table["FLUX_G"].unit = "K"
    table.write(path, overwrite=True)
    with pytest.raises(DataFileError, match="column FLUX_G is in K, not in nanomaggy"):
        read(path)


def test_a_table_without_photsys_says_whose_filters_it_took(tmp_path: Path) -> None:
    head, cells = HEAD.replace("PHOTSYS,", ""), row(0).replace(",S,", ",")
    assert read(csv(tmp_path, cells, head=head))[0].message == "no column PHOTSYS: filters of S"
    assert read(csv(tmp_path, cells, head=head), variant="N")[0].message == ""
    zero = read(csv(tmp_path, row(0) + ",0.0", head=HEAD + ",EBV"), dereddened=False)[0]
    assert zero.message == "EBV is 0: nothing is corrected for Galactic dust"


def test_tables_that_are_none(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    with pytest.raises(DataFileError, match="pipe or a device"):
        read_table(pipe, ())
    (tmp_path / "cut.fits").write_bytes(b"SIMPLE  =" + b" " * 3000)
    with pytest.raises(DataFileError, match=r"cut\.fits"):
        read_table(tmp_path / "cut.fits", ())


def test_inputs_are_found_through_links_and_in_folders_with_brackets(tmp_path: Path) -> None:
    def found(*paths: Path) -> list[str]:
        options = InputOptions(paths=tuple(map(str, paths)), reader="photometry")
        return [p.parent.name for p in find_inputs(options, PhotometryTableReader(options))]

    real, odd, parent = tmp_path / "real", tmp_path / "prod [v1]", tmp_path / "parent"
    for folder in (real, odd, parent):
        folder.mkdir()
    csv(real, row(0))
    csv(odd, row(0))
    (parent / "linked").symlink_to(real)
    (real / "back").symlink_to(parent)  # a circle
    assert found(parent) == ["linked"]
    assert found(odd) == found(odd / "*.csv") == found(odd / "galaxies.csv") == ["prod [v1]"]
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ConfigError, match="pipe or a device"):
        found(tmp_path / "pipe.csv")
