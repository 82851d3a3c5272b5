"""Dust emission: energy in equals energy out, no dust no light, the compressed engine agrees, files are checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from provabgs import data
from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError, DataFileError, InputError
from provabgs.core.jax import jax, jnp
from provabgs.core.status import Status
from provabgs.data.build_dust_emission import QPAH, UMIN, main, normalised, read_table
from provabgs.data.build_ultraviolet import shapes_of
from provabgs.inference.backends import load_model, make_likelihood
from provabgs.inference.compressed import CompressedLikelihood
from provabgs.inference.config import FitConfig, ModelOptions, SamplerOptions
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.likelihood import ExactLikelihood, fit_parameters
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from provabgs.sps.dust_emission import LYMAN_ALPHA_AA, DustEmission
from provabgs.sps.dust_grid import DustGrid
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel, trapezoid_widths
from provabgs.sps.nebular import NebularGrid, with_nebular
from tests.support.engine_mocks import mock, near
from tests.support.parameters import prior_of, stars_of
from tests.support.small_library import draws, small_library, theta

T_AGE = 11.0
CONFIG = FitConfig(
    model=ModelOptions(emissions=("dust",)),
    observing=ObservingOptions(line_mask="none", vdisp_kms=150.0),
    sampler=SamplerOptions(aim_eval=0, time_limit_s=3000),  # a busy machine is no failure to converge
    n_samples=300,
)
WIDE = np.concatenate([np.arange(60.0, 2005.0, 5.0), np.arange(2005.0, 12000.0, 20.0), np.geomspace(12000, 6e4, 200)])
"""Wavelengths from the extreme ultraviolet on, Angstrom."""
TRUTH = {
    "logmstar": 10.4, "beta1": 0.6, "beta2": 0.2, "beta3": 0.1, "beta4": 0.1, "fburst": 0.03, "tburst": 0.3,
    "gamma1": 5e-3, "gamma2": 5e-3, "tau_bc": 0.8, "tau_ism": 0.9, "n_dust": -0.3, "f_fiber": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def grid() -> DustGrid:
    return DustGrid.default()


@pytest.fixture(scope="module")
def model() -> SPSModel:
    return load_model(CONFIG.model)


def spectra(model: SPSModel, star: FloatArray) -> FloatArray:
    return np.asarray(model.spectrum(jnp.asarray(stars_of(star)), model.tables(T_AGE)), np.float64)


def cut_at(library: SSPLibrary, first: float) -> SSPLibrary:
    kept = library.wave >= first
    return replace(library, wave=library.wave[kept], spectrum=library.spectrum[..., kept])


# ---- energy --------------------------------------------------------------------------------------------------------


def test_energy_absorbed_is_energy_emitted(grid: DustGrid) -> None:
    """Against a library that reaches 60 A, integrated by hand: its model without emission loses what dust emits.

    The library cut at 2005 A has to find the rest by the tables alone, made of the whole library by the build script.
    """
    whole = small_library(WIDE)
    emission = DustEmission(grid=grid, ultraviolet=shapes_of(whole))
    stars, lit = SPSModel(cut_at(whole, 2005.0)), SPSModel(cut_at(whole, 2005.0), emissions=(emission,))
    star = draws(24, np.random.default_rng(0))
    clear = star.copy()
    for name in ("tau_bc", "tau_ism"):
        clear[:, fit_parameters(stars).index(name)] = 0.0
    beyond = SPSModel(whole)
    lost = (spectra(beyond, clear) - spectra(beyond, star)) @ trapezoid_widths(whole.wave)
    row = emission.rows(stars.library)[0]
    at = int(np.argmax(row))
    emitted = (spectra(lit, star) - spectra(stars, star))[:, at] / row[at]
    np.testing.assert_allclose(emitted, lost, rtol=0.01)
    seen = (spectra(stars, clear) - spectra(stars, star)) @ trapezoid_widths(stars.library.wave)
    assert np.max(1 - seen / lost) > 0.1  # what the ultraviolet adds is far above the tolerance


def test_the_spectrum_holds_one_solar_luminosity(grid: DustGrid, reference_dir: Path) -> None:
    """FSPS's defaults, from its own tables over 1 um to 1 cm, mixed per hydrogen atom and then normalised."""
    wave_um, low = read_table(reference_dir / "dust" / "DL07_MW3.1_40.dat")
    _, high = read_table(reference_dir / "dust" / "DL07_MW3.1_50.dat")
    column, between = 2 * UMIN.index(1), (3.5 - QPAH["40"]) / (QPAH["50"] - QPAH["40"])
    mixed = 0.0
    for table, share in ((low, 1 - between), (high, between)):
        mixed = mixed + share * (0.99 * table[:, column] + 0.01 * table[:, column + 1])
    wave, shape, _ = normalised(wave_um, mixed[:, None])
    assert np.trapezoid(shape[0], wave) == pytest.approx(1.0)
    kept = wave <= grid.wave[-1]
    np.testing.assert_allclose(grid.spectrum(wave[kept], 3.5, 1.0, 0.01), shape[0, kept], rtol=3e-4)


def test_no_dust_no_emission(model: SPSModel) -> None:
    stars = SPSModel(model.library)
    np.testing.assert_array_equal(spectra(model, theta()), spectra(stars, theta()))
    dusty = theta(tau_ism=0.5)
    assert np.all(spectra(model, dusty) >= spectra(stars, dusty))
    band = (stars.library.wave > 30000) & (stars.library.wave < 36000)
    assert np.mean((spectra(model, dusty) / spectra(stars, dusty))[0, band]) > 1.03
    assert model.parameters == stars.parameters


def test_parameters_of_the_dust_show(grid: DustGrid) -> None:
    wave = np.array([33000.0, 240000.0])
    default = grid.spectrum(wave, 3.5, 1.0, 0.01)
    assert grid.spectrum(wave, 0.47, 1.0, 0.01)[0] < 0.4 * default[0]  # PAHs make the 3.3 um feature
    assert grid.spectrum(wave, 3.5, 1.0, 0.3)[1] > 2 * default[1]  # strong fields make hot dust
    for bad in ((9.0, 1.0, 0.01), (3.5, 0.01, 0.01), (3.5, 1.0, 1.5)):
        with pytest.raises(InputError, match="of dust emission is outside"):
            grid.spectrum(wave, *bad)


def test_gas_takes_the_ionising_light(grid: DustGrid) -> None:
    """Of which Lyman alpha is left to the dust, less than all of it, at its own wavelength."""
    library = SSPLibrary.default()
    lit = with_nebular(library, NebularGrid.default(), -2.5, None)
    emission = DustEmission(grid=grid)
    bare, gas = emission.unseen(library), emission.unseen(lit)
    ionising = bare.wave < 912
    assert bare.light[..., ionising].sum() > 0
    assert np.all(gas.light[..., ionising] == 0)
    young = (5, 5)
    cell = int(np.argmin(np.abs(bare.wave - LYMAN_ALPHA_AA)))
    added = gas.light[young][cell] - bare.light[young][cell]
    assert 0.2 < added / bare.light[young][ionising].sum() < 0.7


def test_a_library_that_begins_late_is_refused_and_one_that_begins_early_needs_less(grid: DustGrid) -> None:
    late = cut_at(small_library(WIDE), 3000.0)
    with pytest.raises(ConfigError, match=r"begins at 2055 A or below.*begins at 3005 A"):
        SPSModel(late, emissions=(DustEmission(grid=grid),))
    usual, early = (DustEmission(grid=grid).unseen(cut_at(small_library(WIDE), first)) for first in (2005.0, 1200.0))
    assert np.all(early.light[..., early.wave > 1200] == 0)
    kept = early.wave < 1200
    np.testing.assert_allclose(early.light[..., kept], usual.light[..., kept], rtol=1e-6)


# ---- inference -----------------------------------------------------------------------------------------------------


def test_gradients_are_finite(grid: DustGrid) -> None:
    model = SPSModel(cut_at(small_library(WIDE), 2005.0), emissions=(DustEmission(grid=grid),))
    star = stars_of(np.concatenate([draws(3, np.random.default_rng(1)), theta()]))  # the last one without dust
    tables = model.tables(T_AGE)
    red = jnp.asarray(np.where(model.library.wave > 25000, 1.0, 0.0))
    gradient = np.asarray(jax.grad(lambda x: jnp.log(model.spectrum(x, tables) @ red).sum())(jnp.asarray(star)))
    assert np.all(np.isfinite(gradient))
    assert gradient[-1, model.parameters.index("tau_ism")] > 0  # dust lights up the infrared


@pytest.mark.parametrize("redshift", [0.06, 0.25])
def test_compressed_equals_exact(model: SPSModel, redshift: float) -> None:
    truth = fit_parameters(model).theta(TRUTH)
    galaxy = mock(model, truth, redshift, 20.0, np.random.default_rng(2))
    projection = project(galaxy, model.library, CONFIG.observing)
    exact, compressed = ExactLikelihood(projection, model), CompressedLikelihood(projection, model)
    prior = prior_of(galaxy, fit_parameters(model))
    points = np.asarray(near(exact, truth, prior, np.random.default_rng(1), n=32))
    of_exact = -0.5 * sum(exact.chi2(points))
    assert of_exact.max() - of_exact.min() > 15
    assert np.std(np.asarray(compressed(jnp.asarray(points))) - of_exact) < 0.1
    bands = np.asarray(exact.predict(points)[1])
    stars = ExactLikelihood(projection, SPSModel(model.library)).predict(points)[1]
    assert np.median(bands[:, 3] / np.asarray(stars)[:, 3]) > 1.05  # W1 is not starlight alone


def test_a_fit_with_dust_emission_finds_the_truth(model: SPSModel) -> None:
    truth = fit_parameters(model).theta(TRUTH)
    galaxy = mock(model, truth, 0.08, 10.0, np.random.default_rng(5))
    posterior = fit_observation(galaxy, CONFIG, seed=1)
    assert posterior.status is Status.CONVERGED, posterior.message
    assert posterior.chi2_phot < 20
    for name in ("logmstar", "tau_ism", "f_fiber"):
        draws = posterior[name]
        assert abs(draws.mean() - TRUTH[name]) < 4 * draws.std(), name


def test_the_emulator_is_refused(model: SPSModel) -> None:
    galaxy = mock(model, fit_parameters(model).theta(TRUTH), 0.1, 15.0, np.random.default_rng(3), cameras="")
    exact = ExactLikelihood(project(galaxy, model.library, CONFIG.observing), model)
    with pytest.raises(ConfigError, match="trained on starlight alone"):
        make_likelihood(exact, CONFIG.model_copy(update={"engine": "emulator"}))


def test_published_networks_have_their_own_dust() -> None:
    with pytest.raises(ValueError, match="include their own dust emission"):
        ModelOptions(published_networks=(Path("nmf.npz"), Path("burst.npz")), emissions=("dust",))


# ---- files ---------------------------------------------------------------------------------------------------------


def test_a_missing_or_foreign_file_is_a_named_error(
    grid: DustGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataFileError, match=r"absent\.h5: no such file; make a dust-emission grid"):
        DustGrid.load(tmp_path / "absent.h5")
    text = tmp_path / "text.h5"
    text.write_text("no")
    with pytest.raises(DataFileError, match=r"text\.h5: cannot be read as a dust-emission grid"):
        DustGrid.load(text)
    with pytest.raises(DataFileError, match=r"not a dust-emission grid of format .*found 'provabgs-nebular-1'"):
        DustGrid.load(data.data_path("nebular_mappings_bc03.h5"))
    damaged = tmp_path / "damaged.h5"
    grid.save(damaged)
    with h5py.File(damaged, "r+") as f:
        f["power"][0, 0, 0] = 2.0
    with pytest.raises(DataFileError, match="does not match its recorded SHA-256"):
        DustGrid.load(damaged)
    monkeypatch.setattr("provabgs.sps.dust_grid.DUST_EMISSION_FILE", "gone.h5")
    with pytest.raises(DataFileError, match=r"gone\.h5: not among the data that ship"):
        DustEmission()


def test_the_grid_goes_round_and_says_where_it_is_from(grid: DustGrid, tmp_path: Path) -> None:
    grid.save(tmp_path / "copy.h5")
    assert DustGrid.load(tmp_path / "copy.h5").digest() == grid.digest()
    assert {"source", "citation", "licence", "dust_sha256", "command"} <= set(grid.provenance)
    with pytest.raises(InputError, match="'power' has shape"):
        replace(grid, power=grid.power[:2])


def test_the_builder_refuses_other_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "DL07_MW3.1_00.dat").write_text("1 2 3\n4 5 6\n")
    arguments = ["--dust", str(tmp_path), "-o", str(tmp_path / "out.h5")]
    assert main(arguments) == 2
    assert "DL07_MW3.1_00.dat: (2, 3) numbers, expected 45 columns" in capsys.readouterr().err
    (tmp_path / "DL07_MW3.1_00.dat").unlink()
    assert main(arguments) == 2
    assert "DL07_MW3.1_00.dat: not a table of Draine & Li (2007)" in capsys.readouterr().err
