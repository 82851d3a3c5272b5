"""The nebular grid from python-fsps: what FSPS's tables held comes out, on black bodies (tests/support/sps_home.py)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from provabgs.core.constants import FSPS_LSUN_CGS
from provabgs.data.build_nebular_fsps import build, main
from provabgs.sps.library import SSPLibrary
from provabgs.sps.nebular import NebularGrid, with_nebular
from tests.support.sps_home import write_stand_in

if importlib.util.find_spec("fsps") is None:
    pytest.skip("python-fsps is not installed (pip install 'provabgs[fsps]')", allow_module_level=True)

LINE, CONTINUUM = 1e-47, 1e-60
"""What the stand-in's tables hold: Lsun per photon in every line, Lsun/Hz per photon."""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return write_stand_in(tmp_path_factory.mktemp("sps") / "home")


def test_grid_from_fsps(home, monkeypatch, tmp_path):
    monkeypatch.setenv("SPS_HOME", str(home))
    grid = build((-3.0, -2.0), (-0.3, 0.0))
    grid.save(tmp_path / "g.h5")
    grid = NebularGrid.load(tmp_path / "g.h5")
    assert grid.line_wave.size == 166
    assert grid.gas_log_age[-1] == pytest.approx(7.0)  # the oldest in the tables
    # FSPS counts photons up to its last wavelength below 912 A, we up to the limit itself
    np.testing.assert_allclose(grid.lines.astype(float) / FSPS_LSUN_CGS, LINE, rtol=0.03)
    at = (grid.wave > 2000) & (grid.wave < 50000)
    per_hz = grid.continuum.astype(float) * grid.wave**2 / 2.99792458e18 / FSPS_LSUN_CGS
    np.testing.assert_allclose(per_hz[..., at], CONTINUUM, rtol=0.03)
    assert np.all(np.diff(grid.log_photon_rate, axis=1) < 0)
    stars = SSPLibrary.default()
    lit = with_nebular(stars, grid, -2.5, -0.1)
    inside = (grid.line_wave > stars.wave[1]) & (grid.line_wave < stars.wave[-2])
    np.testing.assert_array_equal(lit.wave[lit.line_nodes], grid.line_wave[inside])


def test_bad_fsps_data_is_named(home, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("SPS_HOME", raising=False)
    assert main(["-o", str(tmp_path / "g.h5")]) == 2
    assert "SPS_HOME is not set" in capsys.readouterr().err
    monkeypatch.setenv("SPS_HOME", str(home))
    lines = home / "nebular" / "ZAU_ND_mist.lines"
    content = lines.read_text()
    lines.write_text("#\n")
    try:
        assert main(["-o", str(tmp_path / "g.h5")]) == 2
        assert "FSPS stopped" in capsys.readouterr().err
    finally:
        lines.write_text(content)
