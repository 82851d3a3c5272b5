"""Surveys as data: what ships is what it was, a survey is added by a file, and what is wrong in it is named."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable, Table

from provabgs.catalog.observed import read_fitted, write_fits
from provabgs.core.errors import ConfigError, DataFileError, InputError, UnusableTargetError
from provabgs.core.status import Status
from provabgs.desi import read_observations
from provabgs.inference.config import FitConfig
from provabgs.observe import filters
from provabgs.observe.curves import read_filter
from provabgs.observe.extinction import band_transmission
from provabgs.observe.filters import FilterCurve, band_weights, effective_wavelength, load_filter, register_filter
from provabgs.observe.noise import band_floors
from provabgs.observe.observation import Observation, Photometry
from provabgs.observe.options import ObservingOptions
from provabgs.pipelines.config import RunConfig, load_config, parse_config
from provabgs.pipelines.dry_run import fit_observation
from provabgs.pipelines.inputs import DesiReader, PhotometryTableReader, make_reader
from provabgs.pipelines.manifest import check_manifest
from provabgs.surveys import SHIPPED, load_system, survey_columns
from tests.support.desi_files import Target, source_id, write_pair

LEGACY = load_system("legacy")
MINE = """
name = "mine"
description = "two bands of my own"
flux_unit = "uJy"
[bands.blue]
filter = "curves/blue.ecsv"
floor = 0.04
flux = "F_BLUE"
ivar = "W_BLUE"
magnitude = "MAG_MINE_BLUE"
[bands.red]
filter = "sdss2010-r"
extinction = 2.285
floor = 0.03
flux = "F_RED"
ivar = "W_RED"
magnitude = "MAG_MINE_RED"
[colours.MINE_COLOUR]
terms = [[1.0, "blue", "red"]]
[selection.IS_MINE]
columns = ["MY_BITS"]
bit = 3
"""


@pytest.fixture(autouse=True)
def _own_filters_of_one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "_OWN", {})


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A survey outside of the package, one curve with units beside it."""
    (tmp_path / "curves").mkdir()
    curve = QTable(
        {"wavelength": [440.0, 450.0, 500.0, 510.0] * u.nm, "transmission": [0.0, 50.0, 80.0, 0.0] * u.percent}
    )
    curve.write(tmp_path / "curves/blue.ecsv")
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return path


def config(folder: Path, **options: Any) -> RunConfig:
    inputs = {"paths": [str(folder)], "reader": "photometry", "options": options}
    return parse_config({"run": {"output": str(folder / "out")}, "inputs": inputs})


def table_of(folder: Path, **columns: Any) -> Path:
    table = Table({"TARGETID": [7, 8], "RA": [150.0, 150.1], "DEC": [2.0, 2.0], "Z": [0.1, 0.2], **columns})
    table.write(folder / "fluxes.fits", overwrite=True)
    return folder / "fluxes.fits"


def read_table(path: Path, **options: Any) -> list[Observation]:
    found = list(PhotometryTableReader(config(path.parent, **options).inputs).read(path, [7, 8], [0, 1]))
    assert [r.status for r in found] == [None, None]
    return [r.observation for r in found if r.observation is not None]


def columns_of(meta: dict[str, Any]) -> set[str]:
    return set(meta) - {"SURVEY_COLUMNS"}


# ---- what ships ----------------------------------------------------------------------------------------------------


# Filters, A(band)/E(B-V) and floors as they stood in observe/filters.py, desiutil.dust and observe/projection.py.
GOLDEN = {
    "N": {
        "g": ("BASS-g", 3.258, 0.02), "r": ("BASS-r", 2.176, 0.02), "z": ("MzLS-z", 1.199, 0.02),
        "W1": ("wise2010-W1", 0.184, 0.05), "W2": ("wise2010-W2", 0.113, 0.05),
        "W3": ("wise2010-W3", 0.0241, 0.05), "W4": ("wise2010-W4", 0.0091, 0.05),
    },
    "S": {
        "g": ("decam2014-g", 3.212, 0.02), "r": ("decam2014-r", 2.164, 0.02), "z": ("decam2014-z", 1.211, 0.02),
        "W1": ("wise2010-W1", 0.184, 0.05), "W2": ("wise2010-W2", 0.113, 0.05),
        "W3": ("wise2010-W3", 0.0241, 0.05), "W4": ("wise2010-W4", 0.0091, 0.05),
        "i": ("decam2014-i", None, 0.02),
    },
}  # fmt: skip


@pytest.mark.parametrize("photsys", ["N", "S"])
def test_legacy_numbers_are_what_they_were(photsys: str) -> None:
    for name, (filter_name, coefficient, floor) in GOLDEN[photsys].items():
        band = LEGACY.bands[name]
        assert band.filter_at(photsys) == filter_name
        assert band.coefficient(filter_name) == coefficient
        assert (band.flux, band.ivar) == (f"FLUX_{name.upper()}", f"FLUX_IVAR_{name.upper()}")
        assert band_floors([filter_name], LEGACY.floors([filter_name]), ObservingOptions()) == [floor]
        # without a survey, as in an Observation of one's own
        assert band_floors([filter_name], np.array([np.nan]), ObservingOptions()) == [floor]
        expected = 10 ** (-0.4 * coefficient * 0.2) if coefficient else band_transmission(filter_name, 0.2)
        assert LEGACY.transmission(filter_name, 0.2) == pytest.approx(expected, rel=1e-14)
    assert LEGACY.filters(photsys) == tuple(GOLDEN[photsys][n][0] for n in ("g", "r", "z", "W1", "W2"))
    assert set(LEGACY.filters(photsys, LEGACY.bands)) == {f for f, _, _ in GOLDEN[photsys].values()}
    assert LEGACY.bands["i"].filter_at("N") is None


# survey_columns of 361b5b3 for FLUX_GRZW1W2 = 10, 20, 30, 40, 25 at E(B-V) = 0.05 and FIBERFLUX_R = 8
MAGNITUDES = {
    "N": {"MAG_G": 19.8371, "MAG_R": 19.138625010840048, "MAG_Z": 18.747246863200843, "MAG_W1": 18.485650021680094,
          "FIBMAG_R": 20.24227503252014, "SCHLEGEL_COLOR": 0.6234268545288074},
    "S": {"MAG_G": 19.8394, "MAG_R": 19.139225010840047, "MAG_Z": 18.746646863200844, "MAG_W1": 18.485650021680094,
          "FIBMAG_R": 20.24227503252014, "SCHLEGEL_COLOR": 0.620786854528805},
}  # fmt: skip


@pytest.mark.parametrize("photsys", ["N", "S"])
def test_desi_reader_fills_the_survey_columns(photsys: str, tmp_path: Path) -> None:
    bits = {"BGS_TARGET": 2, "SV1_BGS_TARGET": 0}
    release = {"N": 9011, "S": 9010}[photsys]
    coadd = write_pair(tmp_path, [Target(source_id(1), fibermap={"PHOTSYS": photsys, "RELEASE": release, **bits})])
    result = read_observations(coadd)[0]  # as `provabgs fit` reads it
    assert result.observation is not None
    meta = result.observation.meta
    expected = {**MAGNITUDES[photsys], "IS_BGS_BRIGHT": 1, "IS_BGS_FAINT": 0}
    assert {k: meta.get(k) for k in expected} == expected
    reader = DesiReader(parse_config({"run": {"output": "o"}, "inputs": {"paths": ["x"]}}).inputs)  # as a run does
    in_run = next(iter(reader.read(coadd, [result.targetid], [0]))).observation
    assert in_run is not None
    assert {k: v for k, v in in_run.meta.items() if k in expected} == expected
    assert in_run.digest() == result.observation.digest()


def test_columns_need_what_they_are_made_of() -> None:
    names = LEGACY.filters("S")
    no_w1 = LEGACY.photometry(names, [10.0, -1.0, 30.0, 40.0, 25.0], [1.0, 1.0, 1.0, 0.0, 1.0])
    found = survey_columns(LEGACY, no_w1, {"FIBERFLUX_R": np.float32(0.0), "BGS_TARGET": np.int64(1)})
    described = found.pop("SURVEY_COLUMNS")
    assert list(described) == list(found)
    assert found == {"MAG_G": 20.0, "MAG_Z": pytest.approx(18.8071968), "IS_BGS_BRIGHT": 0, "IS_BGS_FAINT": 1}
    assert survey_columns(LEGACY, None, {}) == {"SURVEY_COLUMNS": {}}


def test_another_surveys_g_is_not_mag_g(tmp_path: Path) -> None:
    sdss = Photometry(("sdss2010-g", "sdss2010-r", "sdss2010-z", "wise2010-W1"), np.full(4, 10.0), np.ones(4))
    assert columns_of(survey_columns(LEGACY, sdss, {})) == {"MAG_W1"}
    assert columns_of(survey_columns(load_system("sdss"), sdss, {})) == {"MAG_SDSS_G", "MAG_SDSS_R", "MAG_SDSS_Z"}
    assert LEGACY.magnitude_column("sdss2010-g") is None
    assert np.isnan(LEGACY.floors(["sdss2010-g"])).all()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_surveys_have_filters_and_columns_of_their_own(name: str) -> None:
    system = load_system(name)
    assert system.name == name
    for band in system.bands.values():
        for filter_name in band.filters().values():
            assert load_filter(filter_name).name == filter_name
            assert 0 < LEGACY.transmission(filter_name, 0.1) < 1
    others = {c.name for n in SHIPPED if n != name for c in load_system(n).filled_columns()}
    assert not {c.name for c in system.filled_columns()} & others
    waves = [effective_wavelength(f) for f in system.filters(bands=system.bands)]
    assert waves == sorted(waves)


def test_variants() -> None:
    assert (LEGACY.variant(" n"), LEGACY.variant()) == ("N", "S")
    with pytest.raises(InputError, match="PHOTSYS 'U' is not known in survey legacy; give 'N' or 'S'"):
        LEGACY.filters("U")
    with pytest.raises(InputError, match="has no variants"):
        load_system("sdss").filters("N")
    with pytest.raises(InputError, match="no band 'y'; bands are g, r, i"):
        LEGACY.band("y")


# ---- a survey's file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("floor = 0.03", "flor = 0.03", r"\[bands\] red.flor is no key; did you mean floor\?"),
        ("floor = 0.03", "", r"\[bands\] red.floor is required \(noise floor"),
        ("floor = 0.03", 'floor = "3 %"', r"\[bands\] red.floor = '3 %': .*valid number"),
        ("floor = 0.03", "floor = 3", r"\[bands\] red.floor = 3: .*less than 1"),
        ("2.285", '"2.285"', r"\[bands\] red.extinction = '2.285': give a number"),
        ('"sdss2010-r"', "3", r"\[bands\] red.filter = 3: give a filter name or a curve file"),
        ('"sdss2010-r"', '{ N = "sdss2010-r" }', r"bands.red.filter: variant N is not known; .* no \[variants\]"),
        ('"sdss2010-r"', '"sdss2010-k"', r"bands.red.filter: filter 'sdss2010-k' is not known; this group has"),
        ('"sdss2010-r"', '"sdss2010-R"', r"bands.red.filter = 'sdss2010-R': write 'sdss2010-r'"),
        ("blue.ecsv", "green.ecsv", r"bands.blue.filter: .*green.ecsv: no such file"),
        ("MAG_MINE_RED", "MAG_R", r"bands.red.magnitude: catalog column MAG_R is that of survey legacy"),
        ("MAG_MINE_RED", "MAG_MINE_BLUE", "catalog column MAG_MINE_BLUE is filled twice"),
        ("MINE_COLOUR", "SCHLEGEL_COLOR", "colours.SCHLEGEL_COLOR: catalog column SCHLEGEL_COLOR is that of"),
        ('"blue", "red"', '"blue", "green"', "colours.MINE_COLOUR: no band 'green'; bands are blue, red"),
        ("bit = 3", "bit = true", r"\[selection\] IS_MINE.bit = True: .*valid integer"),
        ('"uJy"', '"kg"', "'kg' is no unit of flux density; give nanomaggy"),
        ("[bands.red]", "[band.red]", r"\[band\] is no key; did you mean bands"),
        ("[bands.red]", "[bands.red", "not a TOML file"),
    ],
)  # fmt: skip
def test_errors_name_file_key_and_cure(mine: Path, old: str, new: str, message: str) -> None:
    assert old in MINE
    mine.write_text(MINE.replace(old, new))
    with pytest.raises((ConfigError, DataFileError), match=message) as caught:
        load_system(mine)
    assert str(caught.value).startswith(f"{mine}: ")
    assert "\n" not in str(caught.value)


def test_surveys_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"survey 'legaci' is not known; did you mean legacy\?"):
        load_system("legaci")
    with pytest.raises(ConfigError, match="no such file; give a survey's TOML file"):
        load_system(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="survey = 3"):
        load_system(3)  # type: ignore[arg-type]


def test_a_copy_of_a_shipped_survey_may_fill_its_columns(tmp_path: Path) -> None:
    text = (Path(filters.__file__).parents[1] / "surveys/legacy.toml").read_text()
    (tmp_path / "dr11.toml").write_text(text.replace('"legacy"', '"dr11"').replace("floor = 0.02", "floor = 0.07"))
    copied = load_system(tmp_path / "dr11.toml")
    assert copied.floors(copied.filters("N")).tolist() == [0.07, 0.07, 0.07, 0.05, 0.05]
    assert copied.digest() != LEGACY.digest()


# ---- tables --------------------------------------------------------------------------------------------------------


def test_sdss_tables_are_read_by_name(tmp_path: Path) -> None:
    fluxes = {f"FLUX_{b}": [10.0 * k, 20.0] for k, b in enumerate("UGRIZ", start=1)}
    path = table_of(tmp_path, **fluxes, **{f"FLUX_IVAR_{b}": [4.0, 0.0 if b == "U" else 1.0] for b in "UGRIZ"})
    first, second = read_table(path, survey="sdss")
    assert first.photometry is not None
    assert first.photometry.bands == tuple(f"sdss2010-{b}" for b in "ugriz")
    assert first.photometry.flux.tolist() == [10.0, 20.0, 30.0, 40.0, 50.0]
    np.testing.assert_array_equal(first.photometry.floor, [0.05, 0.02, 0.02, 0.02, 0.03])
    assert first.meta["PHOTOMETRIC_SYSTEM"] == "sdss"
    assert first.meta["MAG_SDSS_U"] == 20.0
    assert not {"MAG_G", "MAG_R", "MAG_Z", "SCHLEGEL_COLOR", "PHOTSYS"} & set(first.meta)
    assert "MAG_SDSS_U" not in second.meta
    two = read_table(path, survey="sdss", bands=["r", "g"])[0]
    assert two.photometry is not None
    assert two.photometry.bands == ("sdss2010-r", "sdss2010-g")


def test_legacy_tables_take_variant_dust_and_bits(tmp_path: Path) -> None:
    fluxes = {f"FLUX_{b}": [10.0, 10.0] for b in ("G", "R", "Z", "W1")}
    ivars = {f"FLUX_IVAR_{b}": [1.0, 1.0] for b in ("G", "R", "Z", "W1")}
    path = table_of(tmp_path, **fluxes, **ivars, EBV=[0.1, 0.1], BGS_TARGET=[2, 1], FIBERFLUX_R=[5.0, 5.0])
    first = read_table(path, variant="n", dereddened=False)[0]
    assert first.photometry is not None
    assert first.photometry.bands == ("BASS-g", "BASS-r", "MzLS-z", "wise2010-W1")
    np.testing.assert_allclose(first.photometry.flux, 10 * 10 ** (0.04 * np.array([3.258, 2.176, 1.199, 0.184])))
    np.testing.assert_allclose(first.photometry.ivar, (first.photometry.flux / 10) ** -2)
    assert first.meta["PHOTSYS"] == "N"
    assert (first.meta["IS_BGS_BRIGHT"], first.meta["IS_BGS_FAINT"]) == (1, 0)
    assert first.meta["MAG_G"] == pytest.approx(20 - 0.3258)
    assert {"FIBMAG_R", "SCHLEGEL_COLOR"} <= set(first.meta)
    path = table_of(tmp_path, **fluxes, **ivars, PHOTSYS=["N", "U"])
    reader = PhotometryTableReader(config(tmp_path).inputs)
    north, neither = reader.read(path, [7, 8], [0, 1])
    assert north.observation is not None
    assert north.observation.meta["PHOTSYS"] == "N"
    assert (neither.status, "PHOTSYS 'U'" in neither.message) == (Status.BAD_DATA, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"surwey": "sdss"}, r"options.surwey is no option of the photometry reader; did you mean survey\?"),
        ({"survey": "sds"}, "did you mean sdss"),
        ({"bands": ["q"]}, "survey legacy has no band 'q'"),
        ({"variant": "U"}, "PHOTSYS 'U' is not known"),
        ({"dereddened": "no"}, "options.dereddened = 'no': give true or false"),
    ],
)
def test_reader_options_are_checked(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_reader(config(tmp_path, **options).inputs)


def test_tables_that_lack_columns(tmp_path: Path) -> None:
    path = table_of(tmp_path, FLUX_G=[1.0, 1.0])
    with pytest.raises(DataFileError, match=r"no flux of survey sdss \(FLUX_U with FLUX_IVAR_U"):
        read_table(path, survey="sdss")
    with pytest.raises(DataFileError, match="no column EBV"):
        read_table(path, dereddened=False)


def test_own_survey_with_own_curve(mine: Path) -> None:
    jansky = 3.631  # one nanomaggy is 3.631 uJy
    path = table_of(
        mine.parent, F_BLUE=[10 * jansky, 1.0], F_RED=[20 * jansky, 1.0], W_BLUE=[4.0, 1.0], W_RED=[4.0, 1.0],
        MY_BITS=[8, 7],
    )  # fmt: skip
    first, second = read_table(path, survey=str(mine))
    assert first.photometry is not None
    assert first.photometry.bands == ("mine-blue", "sdss2010-r")
    np.testing.assert_allclose(first.photometry.flux, [10.0, 20.0], rtol=1e-12)
    np.testing.assert_allclose(first.photometry.ivar, 4.0 * jansky**2, rtol=1e-12)
    np.testing.assert_array_equal(first.photometry.floor, [0.04, 0.03])
    assert first.meta["MAG_MINE_BLUE"] == pytest.approx(20.0)
    assert first.meta["MINE_COLOUR"] == pytest.approx(2.5 * np.log10(2))
    assert (first.meta["IS_MINE"], second.meta["IS_MINE"]) == (1, 0)
    curve = load_filter("mine-blue")
    np.testing.assert_allclose(curve.wave, [4400.0, 4500.0, 5000.0, 5100.0])
    np.testing.assert_allclose(curve.response, [0.0, 0.5, 0.8, 0.0])
    flat = 3.631e-29 * 2.99792458e18 / np.arange(4000.0, 5600.0) ** 2 / 1e-17  # one nanomaggy at every wavelength
    assert band_weights("mine-blue", np.arange(4000.0, 5600.0)) @ flat == pytest.approx(1.0, rel=1e-5)


def test_survey_file_is_found_beside_the_configuration_and_guards_the_run(mine: Path) -> None:
    path = mine.parent / "run.toml"
    path.write_text(
        '[run]\noutput = "out"\n[inputs]\npaths = ["in"]\nreader = "photometry"\noptions = { survey = "mine.toml" }\n'
    )
    run = load_config(path)
    assert run.inputs.options["survey"] == str(mine)
    assert isinstance(make_reader(run.inputs), PhotometryTableReader)
    run.run.output.mkdir()
    check_manifest(run)
    check_manifest(run)
    mine.write_text(MINE.replace("floor = 0.03", "floor = 0.06"))
    with pytest.raises(ConfigError, match=r"inputs\.survey was"):
        check_manifest(run)


def test_worked_example_of_the_docs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/surveys.md").read_text()
    blocks = [part.split("```")[0] for part in page.split("```toml\n")[1:]]
    (tmp_path / "jpas").mkdir()
    (tmp_path / "jpas/jpas.toml").write_text(blocks[0])
    (tmp_path / "jpas/J0515.dat").write_text("5050 0\n5150 1\n5250 0\n")
    (tmp_path / "run.toml").write_text('[run]\noutput = "out"\n' + blocks[1])
    reader = make_reader(load_config(tmp_path / "run.toml").inputs)
    assert isinstance(reader, PhotometryTableReader)
    columns = [c.name for c in reader.survey.filled_columns()]
    assert columns == ["MAG_JPAS_J0515", "MAG_JPAS_R", "JPAS_COLOR", "IS_JPAS"]
    for name in columns:
        assert name in page
    namespace: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], namespace)
    assert [c.name for c in namespace["photometry"].curves] == ["jplus-J0515", "jplus-J0660"]


# ---- filter curves -------------------------------------------------------------------------------------------------

WAVE, RESPONSE = [4000.0, 4500.0, 5000.0], [0.0, 1.0, 0.0]


def test_registered_filters_are_used_like_any_other() -> None:
    curve = register_filter("mine-g", WAVE, RESPONSE)
    assert load_filter("mine-g") is curve
    # a triangle of variance 500^2 / 6 has <1 / lambda> = (1 + 0.00206) / 4500
    assert effective_wavelength("mine-g") == pytest.approx(4500 / 1.00206, rel=1e-5)
    assert 0.6 < band_transmission("mine-g", 0.1) < 0.8
    assert register_filter("mine-h", np.array(WAVE) / 1e4 * u.um, RESPONSE).wave == pytest.approx(curve.wave)


@pytest.mark.parametrize(
    ("name", "wave", "response", "message"),
    [
        ("a b", WAVE, RESPONSE, "filter name 'a b'"),
        ("decam2014-g", WAVE, RESPONSE, "one of speclite's"),
        ("x-g", WAVE[::-1], RESPONSE, "strictly increasing"),
        ("x-g", [4000.0, np.nan, 5000.0], RESPONSE, "strictly increasing"),
        ("x-g", WAVE, [0.0, -1.0, 0.0], "response is -1 at 4500 A"),
        ("x-g", WAVE, [0.0, np.nan, 0.0], "response is nan at 4500 A"),
        ("x-g", WAVE, [0.0, 0.0, 0.0], "0 everywhere"),
        ("x-g", WAVE, [0.0, 1.0], "one length"),
        ("x-g", [0.40, 0.45, 0.50], RESPONSE, "give Angstrom, or a Quantity"),
        ("x-g", WAVE * u.s, RESPONSE, "wavelengths are in s; give Angstrom"),
        ("x-g", WAVE, RESPONSE * u.m, "response are in m; give dimensionless"),
        ("x-g", ["a", "b", "c"], RESPONSE, "wavelengths are no numbers"),
        ("x-g", np.ma.masked_equal(WAVE, 4500.0), RESPONSE, "masked"),
    ],
)
def test_what_is_no_filter_curve(name: str, wave: Any, response: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        register_filter(name, wave, response)
    assert filters._OWN == {}


def test_a_name_keeps_its_curve() -> None:
    register_filter("mine-g", WAVE, RESPONSE)
    with pytest.raises(InputError, match="'mine-g' belongs to another curve already"):
        register_filter("mine-g", WAVE, [0.0, 1.0, 0.5])


def test_photometry_takes_curves_and_carries_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    curve = FilterCurve("mine-g", np.array(WAVE), np.array(RESPONSE))
    light = Photometry((curve, "decam2014-r"), [10.0, 20.0], [1.0, 1.0], floor=[0.04, np.nan])
    assert light.bands == ("mine-g", "decam2014-r")
    galaxy = Observation(0.1, (), light, targetid=3)
    other = FilterCurve("mine-g", np.array(WAVE), np.array([0.0, 1.0, 0.5]))
    write_fits(tmp_path / "fits.h5", [(fit_observation(galaxy, FitConfig(), 0), galaxy)])
    sent = pickle.dumps(galaxy)  # to another process
    for received in (lambda: pickle.loads(sent), lambda: read_fitted(tmp_path / "fits.h5", 0)):
        monkeypatch.setattr(filters, "_OWN", {})
        found = received()
        assert found.digest() == galaxy.digest()
        np.testing.assert_array_equal(load_filter("mine-g").response, RESPONSE)
        np.testing.assert_array_equal(found.photometry.floor, [0.04, np.nan])
    monkeypatch.setattr(filters, "_OWN", {})
    changed = Observation(0.1, (), Photometry((other, "decam2014-r"), [10.0, 20.0], [1.0, 1.0], [0.04, np.nan]))
    assert changed.digest() != galaxy.digest()
    assert copy.copy(changed).digest() == changed.digest()


def test_floors_of_the_fit_overrule_the_survey_and_nan_means_default() -> None:
    bands, survey = ("sdss2010-g", "wise2010-W1", "decam2014-r"), np.array([0.04, 0.06, np.nan])
    assert band_floors(bands, survey, ObservingOptions()).tolist() == [0.04, 0.06, 0.02]
    assert band_floors(bands, survey, ObservingOptions(floor_optical=0.0)).tolist() == [0.0, 0.06, 0.0]
    assert band_floors(bands, survey, ObservingOptions(floor_infrared=0.1)).tolist() == [0.04, 0.1, 0.02]
    for bad in ([-0.1], [0.1, 0.1], [np.inf]):
        with pytest.raises(UnusableTargetError, match="floor"):
            Photometry(("decam2014-r",), [1.0], [1.0], floor=bad)


def test_curve_files(tmp_path: Path) -> None:
    for name, text in (
        ("a.dat", "# my curve\n4000 0\n4500 1 # peak\n\n5000 0\n"),
        ("a.csv", "wavelength,response\n4000,0\n4500,1\n5000,0\n"),
    ):
        (tmp_path / name).write_text(text)
        np.testing.assert_array_equal(read_filter(tmp_path / name, "x-g").wave, WAVE)
    QTable({"throughput": RESPONSE, "lambda": [0.4, 0.45, 0.5] * u.um}).write(tmp_path / "a.fits")
    curve = read_filter(tmp_path / "a.fits", "x-g")
    np.testing.assert_allclose(curve.wave, WAVE)
    np.testing.assert_array_equal(curve.response, RESPONSE)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.dat", "4000 0 1\n5000 1 1\n", "has 3 columns"),
        ("a.dat", "4000 0\nfive 1\n", "cannot be read as a filter curve"),
        ("a.dat", "# nothing\n", "holds no numbers"),
        ("a.dat", "5000 0\n4000 1\n", "strictly increasing"),
        ("a.ecsv", "no table", "cannot be read|has 1 column"),
        ("a.fits", "no table", "cannot be read"),
        ("a.pkl", "x", "unknown kind of filter curve"),
        ("", "", "unknown kind|no such file"),
    ],
)
def test_curve_files_that_are_none(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / (name or "missing.dat")
    if name:
        path.write_text(text)
    with pytest.raises(DataFileError, match=message) as caught:
        read_filter(path, "x-g")
    assert str(path) in str(caught.value)
