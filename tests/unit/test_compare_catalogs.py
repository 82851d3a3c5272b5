"""Another catalog against ours: an offset that was injected comes back, whatever the other's conventions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.cosmology import WMAP7, FlatLambdaCDM, Planck13
from astropy.io import fits
from astropy.table import Table
from typer.testing import CliRunner

from provabgs.catalog import Catalog, write_catalog
from provabgs.catalog.conventions import LAYOUTS
from provabgs.catalog.offsets import compare, layout_of, read_other, statistics
from provabgs.cli.main import app
from provabgs.core.errors import ConfigError, InputError
from provabgs.inference.measured.quantity import Measured
from provabgs.pipelines.dry_run import synthetic_posterior

N = 400
INJECTED = 0.15
COLOUR = Measured("colour_u_v", "COLOR_U_V", "U - V", "mag", "rest-frame colour")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    made = []
    for i in range(N):
        p = synthetic_posterior(i + 1, rng, 30, redshift=float(rng.uniform(0.02, 0.5)))
        colour = {COLOUR.name: np.full(3, rng.uniform(0.5, 2.0))}
        made.append(
            replace(p, ra=10 + 0.01 * i, dec=1.0, measured_quantities=(COLOUR,), measured=colour, meta={"MAG_R": 18.0})
        )
    folder = tmp_path_factory.mktemp("ours")
    write_catalog(folder, made)
    return folder


@pytest.fixture(scope="module")
def ours(root: Path) -> Table:
    names = ["TARGETID", "RA", "DEC", "Z", "LOGMSTAR_P50", "LOGMSTAR_FORMED_P50", "LOGSFR_100MYR_P50", "F_FIBER_P50"]
    with Catalog.open(root) as catalog:
        return catalog.table(names)


def noisy(values: np.ndarray, seed: int = 2) -> np.ndarray:
    """Their value: ours less the offset, with a scatter of 0.1 dex."""
    return np.asarray(values) - INJECTED + 0.1 * np.random.default_rng(seed).standard_normal(len(values))


def offsets(root: Path, path: Path, layout: str, mapping: Path | None = None) -> dict[str, np.ndarray]:
    described = layout_of(layout, mapping)
    with Catalog.open(root) as catalog:
        table = statistics(compare(catalog, read_other(path, described), described))
    whole = table[table["AGAINST"] == "all"]
    return {str(r["QUANTITY"]): np.array([r["N"], r["OFFSET"], r["OFFSET_ERR"], r["SCATTER"]]) for r in whole}


def test_units_of_h(root: Path, ours: Table, tmp_path: Path) -> None:
    """FastSpecFit: masses and linear SFRs for h = 1, in two HDUs, in another order, half of the galaxies, zeros."""
    cosmology = FlatLambdaCDM(100.0, 0.3152)
    z = np.asarray(ours["Z"])
    to_h1 = 2 * np.log10(cosmology.luminosity_distance(z).value / Planck13.luminosity_distance(z).value)
    order = np.random.default_rng(3).permutation(N)[: N // 2]
    mass = (noisy(ours["LOGMSTAR_P50"]) + to_h1)[order]
    sfr = 10 ** (noisy(ours["LOGSFR_100MYR_P50"], 4) + to_h1)[order]
    mass[0] = 0.0
    hdus = [
        fits.table_to_hdu(Table({"TARGETID": np.asarray(ours["TARGETID"])[order], "Z": z[order]})),
        fits.table_to_hdu(Table({"LOGMSTAR": mass, "SFR": sfr})),
    ]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "f.fits")
    found = offsets(root, tmp_path / "f.fits", "fastspecfit")
    assert found["LOGMSTAR"][0] == N // 2 - 1
    assert found["LOGSFR_100MYR"][0] == N // 2
    for n, offset, error, scatter in found.values():
        assert offset == pytest.approx(INJECTED, abs=0.02)
        assert error == pytest.approx(0.1253 / np.sqrt(n), rel=0.2)
        assert scatter == pytest.approx(0.1, rel=0.2)
    # without the conversion it would be off by 0.34 dex
    assert np.median(to_h1) == pytest.approx(-0.34, abs=0.01)


def test_another_imf_by_position(root: Path, ours: Table, tmp_path: Path) -> None:
    """MPA-JHU: Kroupa, h = 0.7, no TARGETID, positions off by 0.3 arcsec, -1 for none."""
    z, cosmology = np.asarray(ours["Z"]), FlatLambdaCDM(70.0, 0.3)
    theirs = 2 * np.log10(cosmology.luminosity_distance(z).value / Planck13.luminosity_distance(z).value)
    mass = noisy(ours["LOGMSTAR_P50"]) + theirs + np.log10(0.66 / 0.61)
    sfr = noisy(ours["LOGSFR_100MYR_P50"]) + theirs + np.log10(0.67 / 0.63)
    mass[:5] = -1.0
    table = Table(
        {"RA": np.asarray(ours["RA"]) + 0.3 / 3600, "DEC": ours["DEC"], "LGM_TOT_P50": mass, "SFR_TOT_P50": sfr}
    )
    table.write(tmp_path / "m.ecsv")
    found = offsets(root, tmp_path / "m.ecsv", "mpa-jhu")
    assert found["LOGMSTAR"][0] == N - 5
    for values in found.values():
        assert values[1] == pytest.approx(INJECTED, abs=0.02)


def test_a_mapping_of_ones_own(root: Path, ours: Table, tmp_path: Path) -> None:
    """Salpeter, formed masses of the fiber alone, linear, WMAP7: every conversion at once; the parts are told."""
    z = np.asarray(ours["Z"])
    log = noisy(ours["LOGMSTAR_FORMED_P50"]) - np.log10(0.61) + np.log10(np.asarray(ours["F_FIBER_P50"]))
    log = log + 2 * np.log10(WMAP7.luminosity_distance(z).value / Planck13.luminosity_distance(z).value)
    Table({"ID": ours["TARGETID"], "M": 10**log}).write(tmp_path / "o.csv")
    mapping = tmp_path / "o.toml"
    mapping.write_text(
        'name = "mine"\nkey = "ID"\nimf = "salpeter"\nmass = "formed"\naperture = "fiber"\ncosmology = "WMAP7"\n'
        '[columns.LOGMSTAR]\ncolumn = "M"\nwhat = "mass"\nscale = "linear"\n'
    )
    described = layout_of(None, mapping)
    with Catalog.open(root) as catalog:
        (found,) = compare(catalog, read_other(tmp_path / "o.csv", described), described)
    assert np.median(found.offset) == pytest.approx(INJECTED, abs=0.02)
    assert set(found.steps) == {"IMF", "cosmology", "surviving", "aperture"}
    np.testing.assert_allclose(found.steps["IMF"], np.log10(0.61))
    assert list(found.against) == ["LOGMSTAR", "COLOR_U_V", "Z"]


def test_bins_find_a_trend(root: Path, ours: Table, tmp_path: Path) -> None:
    trend = noisy(ours["LOGMSTAR_P50"]) - 0.5 * (np.asarray(ours["Z"]) - 0.25)
    Table({"TARGETID": ours["TARGETID"], "PROVABGS_LOGMSTAR_BF": trend}).write(tmp_path / "p.fits")
    described = LAYOUTS["provabgs"]
    with Catalog.open(root) as catalog:
        table = statistics(compare(catalog, read_other(tmp_path / "p.fits", described), described), bins=4)
    by_z = table[table["AGAINST"] == "Z"]
    assert by_z["N"].sum() == N
    middle = 0.5 * (by_z["LOW"] + by_z["HIGH"])
    np.testing.assert_allclose(by_z["OFFSET"], INJECTED + 0.5 * (middle - 0.25), atol=0.04)
    by_mass = table[table["AGAINST"] == "LOGMSTAR"]
    np.testing.assert_allclose(by_mass["OFFSET"], INJECTED, atol=0.07)


def test_the_command_tabulates_and_draws(root: Path, ours: Table, tmp_path: Path) -> None:
    Table({"TARGETID": ours["TARGETID"], "PROVABGS_LOGMSTAR_BF": noisy(ours["LOGMSTAR_P50"])}).write(
        tmp_path / "p.fits"
    )
    command = ["compare", str(root), str(tmp_path / "p.fits"), "--layout", "provabgs", "-w", "Z > 0.1"]
    done = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "t.ecsv"), "-o", str(tmp_path / "f.png")])
    assert done.exit_code == 0, done.output
    assert "ours minus published PROVABGS" in done.output
    table = Table.read(tmp_path / "t.ecsv")
    assert table["OFFSET"][0] == pytest.approx(INJECTED, abs=0.02)
    assert table["N"][0] == np.sum(np.asarray(ours["Z"]) > 0.1)
    assert (tmp_path / "f.png").stat().st_size > 10_000


def test_what_cannot_be_compared(root: Path, ours: Table, tmp_path: Path) -> None:
    Table({"TARGETID": [1], "OTHER": [1.0]}).write(tmp_path / "x.csv")
    Table({"TARGETID": [-7], "PROVABGS_LOGMSTAR_BF": [10.0]}).write(tmp_path / "y.csv")
    (tmp_path / "bad.toml").write_text('imf = "kroupa01"\n')
    with pytest.raises(InputError, match="did you mean 'fastspecfit'"):
        layout_of("fastspecfi", None)
    with pytest.raises(InputError, match="say what the other table is"):
        layout_of(None, None)
    with pytest.raises(ConfigError, match="imf"):
        layout_of("mpa-jhu", tmp_path / "bad.toml")
    with pytest.raises(InputError, match="has none of the columns PROVABGS_LOGMSTAR_BF"):
        read_other(tmp_path / "x.csv", LAYOUTS["provabgs"])
    with pytest.raises(InputError, match="has no column id, by which CIGALE is joined"):
        read_other(tmp_path / "x.csv", LAYOUTS["cigale"])
    with (
        Catalog.open(root) as catalog,
        pytest.raises(InputError, match="no galaxy of the catalog is in the other table"),
    ):
        compare(catalog, read_other(tmp_path / "y.csv", LAYOUTS["provabgs"]), LAYOUTS["provabgs"])
    for layout in LAYOUTS.values():
        assert layout.source
