"""The FSPS engine itself, on black bodies: the library builder, and our model against FSPS's own composites and dust.

`tests/support/sps_home.py` writes data that the python-fsps wheel accepts, so this runs wherever the wheel installs.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from provabgs.core.constants import SOLAR_Z_PROVABGS
from provabgs.core.errors import DataFileError, InputError, MissingDependencyError, ProvabgsError
from provabgs.core.jax import jnp
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel
from provabgs.sps.sources import BuildOptions, build_library
from tests.support import sps_home
from tests.support.parameters import STARS

if importlib.util.find_spec("fsps") is None:
    pytest.skip("python-fsps is not installed (pip install 'provabgs[fsps]')", allow_module_level=True)

REFERENCE_SCRIPT = Path(__file__).resolve().parents[1] / "support" / "engine_reference.py"
WAVE_RANGE = (2000.0, 60000.0)
T_AGE = 11.5  # Gyr, between two age nodes
DUST = {"dust_type": 4, "dust1_index": -0.7, "dust_tesc": 8.0}
DUST_CASES = ((0.0, 1.0, 0.0), (1.0, 0.5, -0.7), (3.0, 3.0, -2.0), (0.3, 2.0, 1.0))  # tau_bc, tau_ism, n_dust
BURST_NODES = (6.5, 8.0, 8.05, 9.5)  # log10 yr: the last young node is 8.00
GAMMAS = {"gamma1": 8e-3, "gamma2": 3e-3}
CLIPPED_LOGZ = float(np.log10(4.49e-2 / SOLAR_Z_PROVABGS))  # what a huge gamma is clipped to


def theta(**values: float) -> jnp.ndarray:
    """One parameter vector: 1 Msun formed, no dust, Z at its upper clip, SFH of the first basis, unless told."""
    defaults = {"beta1": 1.0, "tburst": 1.0, "gamma1": 1e6, "gamma2": 1e6}
    return jnp.asarray(STARS.theta(defaults | values, default=0.0)).reshape(1, -1)


def dust_params(tau_bc: float, tau_ism: float, n_dust: float) -> dict[str, float]:
    return DUST | {"dust1": tau_bc, "dust2": tau_ism, "dust_index": n_dust}


def forward_table(model: SPSModel, basis: int, refine: int = 0) -> dict[str, list[float]]:
    """SFH of one basis as FSPS wants it: forward time, Msun/yr, for 1 Msun formed; its knots, and `refine` more."""
    bases = model.histories.bases
    knots = bases.time[bases.time < T_AGE]
    extra = np.geomspace(1e-4, T_AGE, refine) if refine else np.empty(0)
    lookback = np.unique(np.concatenate([knots, extra, [T_AGE]]))
    sfr = bases.sfh_bases(lookback, T_AGE)[basis] * 1e-9
    # FSPS divides by the SFR of a bin's young edge.
    forward = T_AGE - lookback[::-1]
    return {"age": forward.tolist(), "sfr": np.maximum(sfr, 1e-20)[::-1].tolist(), "z": None}


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sps_home.write_stand_in(tmp_path_factory.mktemp("sps_home") / "home")


@pytest.fixture(scope="session")
def steps() -> list[tuple[int, int, str]]:
    return []


@pytest.fixture(scope="session")
def built(stand_in: Path, steps: list[tuple[int, int, str]]) -> SSPLibrary:
    """Library built from the stand-in, all metallicities, through the subprocess."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPS_HOME", str(stand_in))
        options = BuildOptions(wave_range=WAVE_RANGE)
        return build_library("fsps", options, lambda *step: steps.append(step), bits=None)


@pytest.fixture(scope="session")
def model(built: SSPLibrary) -> SPSModel:
    return SPSModel(built)


@pytest.fixture(scope="session")
def engine(stand_in: Path, model: SPSModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The engine's own answers, spectra cut to the library's wavelengths."""
    ssp: dict[str, object] = {"zcontinuous": 1, "tage": 0.0}
    cases: list[dict[str, object]] = [
        {"name": f"node{k}", "zcontinuous": 0, "tage": 0.0, "params": {"zmet": k}} for k in (1, 7, 12)
    ]
    cases.append({**ssp, "name": "between_z", "params": {"logzsol": -0.37}})
    cases.append({**ssp, "name": "between_ages", "tage": 0.333, "params": {"logzsol": 0.0}})
    for i, dust in enumerate(DUST_CASES):
        params = dust_params(*dust) | {"logzsol": CLIPPED_LOGZ}
        cases.append({**ssp, "name": f"burst{i}", "params": params})
        table = forward_table(model, i)
        cases.append({**ssp, "name": f"csp{i}", "tage": T_AGE, "params": params | {"sfh": 3}, "sfh": table})
    table = forward_table(model, 2, refine=400)
    z_quoted = np.asarray(history_z(model, T_AGE - np.array(table["age"])))
    table["z"] = (z_quoted / SOLAR_Z_PROVABGS * model.library.z_solar).tolist()
    params = dust_params(*DUST_CASES[1]) | {"sfh": 3}
    cases.append({"name": "csp_zh", "zcontinuous": 3, "tage": T_AGE, "params": params, "sfh": table})

    folder = tmp_path_factory.mktemp("engine")
    (folder / "cases.json").write_text(json.dumps(cases))
    subprocess.run(
        [sys.executable, str(REFERENCE_SCRIPT), str(folder / "cases.json"), str(folder / "out.npz")],
        env={**os.environ, "SPS_HOME": str(stand_in)},
        check=True,
        timeout=120,
    )
    with np.load(folder / "out.npz") as npz:
        keep = (npz["wave"] >= WAVE_RANGE[0]) & (npz["wave"] <= WAVE_RANGE[1])
        return {name: npz[name][..., keep] if npz[name].shape[-1:] == keep.shape else npz[name] for name in npz.files}


def history_z(model: SPSModel, lookback: np.ndarray) -> np.ndarray:
    """Quoted Z(t) of `GAMMAS`, clipped as the model clips."""
    z = np.array([GAMMAS["gamma1"], GAMMAS["gamma2"]]) @ model.histories.bases.metallicity_bases(lookback)
    return np.clip(z, 4.49e-5, 4.49e-2)


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference relative to the spectrum, where it is above 1e-6 of its maximum."""
    bright = theirs > 1e-6 * theirs.max()
    return float(np.abs(ours[bright] / theirs[bright] - 1).max())


# ---- building ------------------------------------------------------------------------------------------------------


def test_library_is_what_the_engine_computes_at_its_nodes(built, engine) -> None:
    np.testing.assert_allclose(built.wave, engine["wave"])
    np.testing.assert_allclose(built.logzsol, sps_home.LOGZSOL, atol=1e-9)
    np.testing.assert_allclose(built.log_age, sps_home.log_ages(), atol=1e-9)
    for k in (1, 7, 12):
        assert relative(built.spectrum[k - 1], engine[f"node{k}"]) < 1e-6
        np.testing.assert_allclose(built.surviving_mass[k - 1], engine[f"node{k}.mass"], rtol=1e-6)


def test_metallicities_differ_in_the_stand_in(built) -> None:
    """Else the comparisons in metallicity would test nothing."""
    assert relative(built.spectrum[0], built.spectrum[9].astype(float)) > 0.05


def test_luminosity_is_that_of_the_stars_put_in(built) -> None:
    """The integral of a spectrum is the luminosity of the isochrone's stars under a Chabrier IMF."""
    stars = sps_home.isochrone(9.5, 0.0)
    mass, log_l = stars[:, 0], stars[:, 2]
    edges = np.concatenate([[0.08], 0.5 * (mass[1:] + mass[:-1]), mass[-1:]])
    fine = np.geomspace(0.08, 120.0, 200_001)
    low = np.exp(-((np.log10(fine) - np.log10(0.08)) ** 2) / (2 * 0.69**2)) / fine
    number = np.where(fine < 1, low, low[np.searchsorted(fine, 1.0)] * fine**-2.3)
    cumulative = np.concatenate([[0], np.cumsum(0.5 * (number[1:] + number[:-1]) * np.diff(fine))])
    total_mass = np.trapezoid(number * fine, fine)
    expected = np.sum(np.diff(np.interp(edges, fine, cumulative)) * 10**log_l) / total_mass
    age, solar = np.argmin(np.abs(built.log_age - 9.5)), 9
    got = np.trapezoid(built.spectrum[solar, age].astype(float), built.wave)
    beyond = 1 - 0.01  # a per cent lies outside 2000-60000 A
    assert got == pytest.approx(expected * beyond, rel=0.03)


def test_progress_and_provenance(built, steps) -> None:
    assert [step[0] for step in steps] == list(range(13))
    assert {step[1] for step in steps} == {12}
    assert "python-fsps 0.4" in built.provenance["source"]
    assert "isochrones mist, spectra miles" in built.provenance["source"]
    assert built.imf == "Chabrier (2003)"
    assert built.z_solar == 0.0142


def test_nebular_light_comes_from_young_stars_only(stand_in, built, monkeypatch) -> None:
    monkeypatch.setenv("SPS_HOME", str(stand_in))
    options = BuildOptions(wave_range=WAVE_RANGE, logzsol=(-0.25, 0.0), nebular=True)
    gas = build_library("fsps", options, bits=None)
    assert gas.logzsol.tolist() == [-0.25, 0.0]
    young, old = 20, 80  # 1 Myr, 1 Gyr
    added = gas.spectrum[1] - built.spectrum[9]
    assert added[young].sum() > 1e-3 * built.spectrum[9, young].sum()
    np.testing.assert_allclose(gas.spectrum[1, old], built.spectrum[9, old], rtol=1e-6)


# ---- interpolation and composites ----------------------------------------------------------------------------------


def test_metallicity_interpolation(model, engine) -> None:
    weights = np.interp(-0.37, model.library.logzsol, np.arange(12.0))
    low, d = int(weights), weights % 1
    ours = (1 - d) * model.library.spectrum[low] + d * model.library.spectrum[low + 1]
    assert relative(ours, engine["between_z"]) < 1e-5


def test_age_interpolation(model, engine) -> None:
    log_age, target = model.library.log_age, np.log10(0.333e9)
    j = np.searchsorted(log_age, target) - 1
    d = (target - log_age[j]) / (log_age[j + 1] - log_age[j])
    ours = (1 - d) * model.library.spectrum[9, j] + d * model.library.spectrum[9, j + 1]
    assert relative(ours, engine["between_ages"]) < 1e-5


@pytest.mark.parametrize("case", range(len(DUST_CASES)))
@pytest.mark.parametrize("log_age", BURST_NODES)
def test_dusty_burst(model, engine, case: int, log_age: float) -> None:
    """A burst on an age node, behind dust: FSPS's dust_type = 4 and its birth clouds."""
    node = int(np.argmin(np.abs(model.library.log_age - log_age)))
    tau_bc, tau_ism, n_dust = DUST_CASES[case]
    vector = theta(fburst=1.0, tburst=float(model.library.age_gyr[node]), tau_bc=tau_bc, tau_ism=tau_ism, n_dust=n_dust)
    ours = np.asarray(model.spectrum(vector, model.tables(T_AGE)))[0]
    assert relative(ours, engine[f"burst{case}"][node]) < 5e-6


@pytest.mark.parametrize("case", range(len(DUST_CASES)))
def test_composite_of_each_history_basis(model, engine, case: int) -> None:
    """Closed-form integral of each SFH basis against FSPS's tabulated SFH, behind dust."""
    tau_bc, tau_ism, n_dust = DUST_CASES[case]
    betas = {f"beta{i + 1}": float(i == case) for i in range(4)}
    vector = theta(**betas, tau_bc=tau_bc, tau_ism=tau_ism, n_dust=n_dust)
    ours = np.asarray(model.spectrum(vector, model.tables(T_AGE)))[0]
    assert relative(ours, engine[f"csp{case}"]) < 5e-6


def test_composite_with_metallicity_history(model, engine) -> None:
    """Z(t): FSPS averages Z over each of its time bins, we take it at the age nodes."""
    tau_bc, tau_ism, n_dust = DUST_CASES[1]
    vector = theta(beta1=0.0, beta3=1.0, tau_bc=tau_bc, tau_ism=tau_ism, n_dust=n_dust, **GAMMAS)
    ours = np.asarray(model.spectrum(vector, model.tables(T_AGE)))[0]
    assert relative(ours, engine["csp_zh"]) < 2e-3


# ---- failures ------------------------------------------------------------------------------------------------------


def test_engine_that_stops_is_one_clear_error(stand_in, tmp_path, monkeypatch) -> None:
    """Fortran's STOP leaves with exit code 0; the message is FSPS's own."""
    broken = tmp_path / "home"
    shutil.copytree(stand_in, broken, copy_function=os.link)
    (broken / "SPECTRA/Hot_spectra/ipagb.teff").unlink()
    monkeypatch.setenv("SPS_HOME", str(broken))
    with pytest.raises(DataFileError, match=r"FSPS stopped.*ipagb\.teff") as error:
        build_library("fsps")
    assert "\n" not in str(error.value)


def test_engine_that_crashes_is_one_clear_error(stand_in, tmp_path, monkeypatch) -> None:
    """A file cut short: a Fortran runtime error."""
    broken = tmp_path / "home"
    shutil.copytree(stand_in, broken, copy_function=os.link)
    target = broken / "SPECTRA/BaSeL3.1/basel_logg.dat"
    target.unlink()
    target.write_text("-1.02\n")
    monkeypatch.setenv("SPS_HOME", str(broken))
    with pytest.raises(DataFileError, match=r"FSPS stopped.*basel_logg\.dat.*End of file"):
        build_library("fsps")


def test_engine_that_takes_too_long(stand_in, monkeypatch) -> None:
    monkeypatch.setenv("SPS_HOME", str(stand_in))
    with pytest.raises(ProvabgsError, match=r"did not finish within 0\.3 s"):
        build_library("fsps", BuildOptions(timeout=0.3))


def test_metallicity_outside_the_grid_is_refused(stand_in, monkeypatch) -> None:
    """FSPS would extrapolate without a word."""
    monkeypatch.setenv("SPS_HOME", str(stand_in))
    with pytest.raises(InputError, match="leaves FSPS's grid"):
        build_library("fsps", BuildOptions(logzsol=(-1.0, 1.0)))


def test_sps_home_not_set(monkeypatch) -> None:
    monkeypatch.delenv("SPS_HOME", raising=False)
    with pytest.raises(MissingDependencyError, match=r"SPS_HOME is not set; git clone"):
        build_library("fsps")


@pytest.mark.parametrize("folder", ["absent", "."])
def test_sps_home_without_data(folder: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SPS_HOME", str(tmp_path / folder))
    with pytest.raises(DataFileError, match=r"SPS_HOME=.*git clone"):
        build_library("fsps")


# ---- true data -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("SPS_HOME"), reason="SPS_HOME is not set: no true FSPS data")
def test_default_library_against_true_fsps(library: SSPLibrary) -> None:
    """The shipped library's stated errors, held against FSPS itself at solar metallicity, 10 Myr and older."""
    true = build_library("fsps", BuildOptions(wave_range=(3000.0, 9800.0), logzsol=(-0.25, 0.0)), bits=None)
    ages = np.arange(7.0, 10.11, 0.1)
    ours = at_nodes(library, library.spectrum[9], ages, true.wave)
    theirs = at_nodes(true, true.spectrum[1], ages, true.wave)
    ratio = np.trapezoid(ours, true.wave) / np.trapezoid(theirs, true.wave)
    assert np.abs(ratio - 1).max() < 0.10
    assert abs(ratio.mean() - 1) < 0.03


def at_nodes(library: SSPLibrary, spectra: np.ndarray, log_age: np.ndarray, wave: np.ndarray) -> np.ndarray:
    rows = [spectra[np.argmin(np.abs(library.log_age - age))] for age in log_age]
    return np.array([np.interp(wave, library.wave, row) for row in rows])
