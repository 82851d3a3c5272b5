"""The examples of docs/guide/desi.md and the one of SPARCL in docs/guide/survey.md do what the pages say."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from provabgs.cli.main import app
from provabgs.core.config import check_config
from provabgs.desi.selection import DesiSelection
from provabgs.pipelines.config import InputOptions, load_config
from provabgs.pipelines.inputs import make_reader
from provabgs.pipelines.plan import make_plan
from tests.support.desi_files import Target, source_id, write_production, write_table
from tests.unit.test_desi_joins import fastspec, zcatalog
from tests.unit.test_sparcl import RECORDED, Retrieved

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide"
PAGE = (GUIDE / "desi.md").read_text()
BRIGHT, FAINT = (Target(source_id(k), fibermap={"BGS_TARGET": 1 << bit}) for k, bit in ((1, 1), (2, 0)))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all files that the page names, and the environment of a machine that has DESI's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DESI_SPECTRO_REDUX", str(tmp_path / "redux"))
    coadds = {
        f"healpix/main/{program}/100/{pixel}/main-{program}-{pixel}": rows
        for program, pixel, rows in (("bright", 10016, [BRIGHT]), ("bright", 10017, [FAINT]), ("dark", 10016, [BRIGHT]),
                                     ("dark", 10017, [FAINT]))
    }  # fmt: skip
    write_production(tmp_path / "redux/iron", coadds)
    ids = [BRIGHT.targetid, FAINT.targetid]
    zcatalog(tmp_path / "zpix-main-bright.fits", ids, {"SURVEY": "main", "PROGRAM": "bright"}, Z=[0.12, 0.13])
    zcatalog(tmp_path / "BGS_BRIGHT_full.dat.fits", ids, WEIGHT_ZFAIL=[1.1, 1.0], FRACZ_TILELOCID=[0.8, 1.0])
    (tmp_path / "EDR_VI_BGS_v1.csv").write_text(
        f"TARGETID,VI_Z,VI_QUALITY,VI_SPECTYPE\n{FAINT.targetid},0.5,4,GALAXY\n"
    )
    fastspec(tmp_path / "fastspec-main-bright.fits", ids)
    sweep = {"RELEASE": [9010], "BRICKID": [500_000], "OBJID": [1], "RA": [150.0], "DEC": [2.0], "EBV": [0.05]}
    sweep |= {f"FLUX_{b}": [30.0] for b in "GRIZ"} | {f"FLUX_IVAR_{b}": [9.0] for b in "GRIZ"}
    write_table(tmp_path / "sweep-150p000-160p005.fits", "SWEEP", {k: np.array(v) for k, v in sweep.items()})
    return tmp_path


def test_the_selection(here: Path) -> None:
    (here / "run.toml").write_text(blocks(PAGE, "toml")[0])
    plan = make_plan(load_config(here / "run.toml"))
    assert sorted(plan.sample.tolist()) == ["main/bright"] * 2 + ["main/dark"] * 2
    assert plan.n_apart == 2
    commands = re.findall(r"^    provabgs (desi list .*?)(?:\s+#.*)?$", PAGE, flags=re.MULTILINE)
    assert len(commands) == 3
    shown = [CliRunner().invoke(app, command.split()) for command in commands]
    assert [done.exit_code for done in shown] == [0, 0, 0]
    assert [len(done.stdout.splitlines()) for done in shown] == [4, 4, 1]
    assert "4 rows, 2 targets; 2 of them in several surveys or programs" in shown[1].stderr


def test_the_joins(here: Path) -> None:
    (here / "run.toml").write_text(blocks(PAGE, "toml")[1])
    config = load_config(here / "run.toml")
    plan = make_plan(config)
    assert plan.targetid.tolist() == [BRIGHT.targetid]
    (path,) = {plan.files[k] for k in plan.file}
    (row,) = make_reader(config.inputs).read(path, [BRIGHT.targetid], [0])
    seen = row.observation
    assert seen is not None, row.message
    assert (seen.redshift, seen.vdisp_kms) == (0.12, 180.0)
    assert (seen.meta["W_ZFAIL"], seen.meta["W_FIBASSIGN"]) == (1.1, 1.25)
    assert seen.photometry is not None
    assert "decam2014-i" in seen.photometry.bands


def test_the_python(here: Path) -> None:
    (code,) = blocks(PAGE, "python")
    name = "coadd-main-bright-10016.fits"
    (here / name).symlink_to(here / f"redux/iron/healpix/main/bright/100/10016/{name}")
    names: dict[str, Any] = {}
    exec(compile(code, "desi.md", "exec"), names)
    (row,) = names["rows"]
    assert (row.observation.redshift, row.observation.meta["W_ZFAIL"]) == (0.12, 1.1)


def test_sparcl(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [b for b in blocks((GUIDE / "survey.md").read_text(), "python") if "SparclClient" in b]
    asked: list[Any] = []

    class SparclClient:
        """As sparcl.client.SparclClient, without a network."""

        def find(self, outfields: list[str], constraints: dict[str, Any]) -> SimpleNamespace:
            return SimpleNamespace(ids=[r["sparcl_id"] for r in RECORDED])

        def retrieve(self, uuid_list: list[str], include: list[str]) -> Retrieved:
            asked.extend(include)
            return Retrieved([{k: v for k, v in r.items() if k in (*include, "_dr")} for r in RECORDED])

    package, client = ModuleType("sparcl"), ModuleType("sparcl.client")
    client.SparclClient = SparclClient  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sparcl", package)
    monkeypatch.setitem(sys.modules, "sparcl.client", client)
    names: dict[str, Any] = {"provabgs": __import__("provabgs")}
    exec(compile(code, "survey.md", "exec"), names)
    assert [row.status for row in names["rows"]] == [None, None, None]
    assert names["galaxy"].spectra[0].n_valid == 600
    assert {"wavelength", "flux", "ivar", "mask", "wave_sigma"} <= set(asked)


def test_every_key_is_on_the_page() -> None:
    for key in (*DesiSelection.model_fields, *InputOptions.model_fields["joins"].annotation.model_fields):  # type: ignore[union-attr]
        assert f"`{key}`" in PAGE, key
    assert check_config(DesiSelection, {"specprod": "iron", "tile": 1}, "test").night == "last"
