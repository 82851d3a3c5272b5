"""Velocity dispersion as a parameter: broadened spectra, both likelihoods, fits, and the library's own width."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from provabgs.core.errors import ConfigError, InputError
from provabgs.core.jax import jax, jnp
from provabgs.core.status import Status
from provabgs.inference.backends import load_model
from provabgs.inference.compressed import CompressedLikelihood, size_of
from provabgs.inference.config import FitConfig, SamplerOptions, load_fit_config
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.fit_observation import prior_of as prior_of_fit
from provabgs.inference.likelihood import ExactLikelihood, fit_parameters
from provabgs.inference.likelihood.base import REFERENCE_LOG_MASS
from provabgs.inference.priors import Prior
from provabgs.observe.dispersion import N_TABLE, dispersion_table, is_coarse, unbroadened_kms
from provabgs.observe.dispersion_range import allowed_dispersions
from provabgs.observe.linespread import beyond_library, broadening_matrix, spread_matrix, velocity_sigma
from provabgs.observe.nuisance import DISPERSION
from provabgs.observe.observation import Observation, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import Projection, camera_operator, project
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel
from provabgs.sps.nebular import NebularGrid, with_nebular
from provabgs.sps.resolution import FWHM_PER_SIGMA, library_sigma
from tests.support.engine_mocks import mock, near
from tests.support.small_library import small_library, theta

FREE = {"vdisp_kms": "fit"}
GALAXY = {"logmstar": 10.8, "tau_ism": 0.3, "n_dust": -0.5, "gamma1": 8e-3, "gamma2": 8e-3, "f_fiber": 0.5}


@pytest.fixture(scope="module")
def model() -> SPSModel:
    return load_model(FitConfig().model)


def galaxy(model: SPSModel, vdisp: float, snr: float = 20.0, width: str = "ignored", seed: int = 5) -> Observation:
    """A mock of an old galaxy broadened by the operator of a fixed dispersion, with all cameras and bands."""
    rng = np.random.default_rng(seed)
    truth = theta(**GALAXY, **dict(zip(("beta1", "beta2", "beta3", "beta4"), (0.6, 0.2, 0.1, 0.1), strict=True)))[0]
    blank = mock(model, truth, 0.12, snr, np.random.default_rng(seed))
    options = ObservingOptions(
        vdisp_kms=vdisp, library_width=width, line_mask="none", floor_spectrum=0, floor_optical=0, floor_infrared=0
    )
    likelihood = ExactLikelihood(project(blank, model.library, options), model)
    (pixels,), (bands,) = likelihood.predict(truth[None])
    spectra, start = [], 0
    for s in blank.spectra:
        part = pixels[start : start + s.wave.size]
        start += s.wave.size
        spectra.append(replace(s, flux=part + rng.standard_normal(part.size) / np.sqrt(s.ivar)))
    phot = blank.photometry
    assert phot is not None
    phot = replace(phot, flux=bands + rng.standard_normal(bands.size) / np.sqrt(phot.ivar))
    return replace(blank, spectra=tuple(spectra), photometry=phot)


def free(model: SPSModel, observation: Observation, **options: object) -> tuple[Projection, ExactLikelihood, Prior]:
    config = FitConfig(preset="published", observing=FREE | options)
    projection = project(observation, model.library, config.observing)
    exact = ExactLikelihood(projection, model)
    return projection, exact, prior_of_fit(exact, observation, config)


def truth_of(model: SPSModel, vdisp: float) -> np.ndarray:
    betas = dict(zip(("beta1", "beta2", "beta3", "beta4"), (0.6, 0.2, 0.1, 0.1), strict=True))
    return np.append(theta(**GALAXY, **betas)[0], vdisp)


# ---- broadened spectra -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.2, 0.7, 1.0, 3.0])
def test_a_broadened_line_has_the_variance_asked_for(sigma: float) -> None:
    wave = np.arange(4000.0, 4100.0, 0.9)
    line = np.zeros(wave.size)
    line[50] = 1.0
    out = broadening_matrix(wave, np.full(wave.size, sigma)) @ line
    assert out.min() >= 0
    assert out.sum() == pytest.approx(1, rel=1e-5)
    assert (out * (wave - wave[50]) ** 2).sum() == pytest.approx(sigma**2, rel=2e-3)


def test_no_width_leaves_a_spectrum_as_it_is() -> None:
    wave = np.array([4000.0, 4001.0, 4001.5, 4004.0, 4010.0])
    assert np.abs(broadening_matrix(wave, np.zeros(5)).toarray() - np.eye(5)).max() < 1e-5


@pytest.mark.parametrize("vdisp", [47.0, 80.0, 153.0, 250.0, 431.0])
def test_a_table_of_dispersions_equals_the_operator_of_each(library: SSPLibrary, vdisp: float) -> None:
    """Also between the table's dispersions: the whole spectrum is off by less than 0.02 sigma at S/N 30 a pixel."""
    table = dispersion_table(library, ObservingOptions(**FREE))
    ssps = library.spectrum[::4, 30::20].reshape(-1, library.wave.size).astype(float)
    pixel = np.arange(4050.0, 8050.0, 0.8)  # the library's fine wavelengths, at z = 0.1
    model_wave = library.wave * 1.1
    exact = spread_matrix(model_wave, pixel, velocity_sigma(pixel, vdisp, 0.76)) @ ssps.T
    broad = table.broaden(ssps, np.full(len(ssps), vdisp))
    got = spread_matrix(model_wave, pixel, np.full(pixel.size, 0.76)) @ broad.T
    error = 30 * np.linalg.norm(got / exact - 1, axis=0)
    assert error.max() < 0.02
    wrong = spread_matrix(model_wave, pixel, velocity_sigma(pixel, vdisp * 1.05, 0.76)) @ ssps.T
    assert (30 * np.linalg.norm(wrong / exact - 1, axis=0)).min() > 0.02


@pytest.mark.parametrize("gas", [None, 60.0])
@pytest.mark.parametrize("width", ["ignored", "subtracted"])
def test_lines_of_gas_have_the_gass_dispersion(library: SSPLibrary, gas: float | None, width: str) -> None:
    """Lines keep their full width whatever is subtracted from the stars, and their own where the gas has one."""
    lines = with_nebular(library, NebularGrid.default(), -2.5, None)
    options = ObservingOptions(gas_vdisp_kms=gas, library_width=width, **FREE)
    pixel = np.arange(4050.0, 8050.0, 0.8)
    camera = Spectrum("b", pixel, np.ones(pixel.size), np.ones(pixel.size), sigma_aa=0.76)
    wave, ssps = lines.wave * 1.1, lines.spectrum[8, [5, 60]].astype(float)
    own = library_sigma(lines) * 1.1 if width == "subtracted" else None
    exact = camera_operator(camera, wave, 200.0, lines.line_nodes, gas, own) @ ssps.T
    operator = camera_operator(camera, wave, unbroadened_kms(wave, pixel), lines.line_nodes, gas)
    got = operator @ dispersion_table(lines, options).broaden(ssps, np.full(2, 200.0)).T
    assert exact[:, 0].max() > 100 * np.median(exact[:, 0])  # lines of the young SSP
    assert np.abs(got / exact - 1).max() < 0.02


def test_the_red_end_can_be_left_out(model: SPSModel) -> None:
    data = project(galaxy(model, 150.0), model.library, ObservingOptions(red_end_aa=7400.0)).spectrum
    assert data is not None
    assert 7395 < data.wave.max() / 1.12 <= 7400


def test_dispersions_beyond_the_table_are_refused(model: SPSModel) -> None:
    projection, exact, _ = free(model, galaxy(model, 150.0))
    point = truth_of(model, 600.0)[None]
    for likelihood in (exact, CompressedLikelihood(projection, model)):
        with pytest.raises(InputError, match=r"600 km/s lies beyond the table of 30-450 km/s; narrow prior_bounds"):
            likelihood(jnp.asarray(point))
    with pytest.raises(InputError, match="beyond the table"):
        exact.predict(point)
    with pytest.raises(ConfigError, match=r"prior_bounds.vdisp: \(30.0, 900.0\) reach beyond the tables'"):
        Prior.of(exact.parameters, {"vdisp": (30.0, 900.0)})


def test_a_low_snr_leaves_all_of_the_range_and_a_high_one_does_not(model: SPSModel) -> None:
    def allowed(snr: float) -> tuple[float, float]:
        data = free(model, galaxy(model, 200.0, snr))[0].spectrum
        assert data is not None
        assert data.dispersion is not None
        nodes = data.dispersion.nodes
        assert np.all(np.diff(nodes) > 0)
        return float(data.dispersion.table.dispersions[nodes[0]]), float(data.dispersion.table.dispersions[nodes[-1]])

    assert allowed(0.3) == pytest.approx(DISPERSION.bounds)
    low, high = allowed(40.0)
    assert 120 < low < 190
    assert 210 < high < 320


def test_a_spectrum_without_flux_allows_every_dispersion(library: SSPLibrary) -> None:
    operator = spread_matrix(library.wave, np.arange(4000.0, 5000.0), np.full(1000, 1.0))
    none = np.zeros(1000)
    found = allowed_dispersions(operator, none, np.ones(1000), none, dispersion_table(library, ObservingOptions()))
    assert found.nodes[[0, -1]].tolist() == [0, N_TABLE - 1]


# ---- likelihoods -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("vdisp", "width"), [(80.0, "ignored"), (150.0, "subtracted"), (250.0, "ignored")])
def test_a_free_dispersion_equals_a_fixed_one(model: SPSModel, vdisp: float, width: str) -> None:
    data = galaxy(model, vdisp, width=width)
    fixed = ObservingOptions(vdisp_kms=vdisp, library_width=width)
    expected = ExactLikelihood(project(data, model.library, fixed), model).chi2(truth_of(model, vdisp)[None, :-1])
    got = free(model, data, library_width=width)[1].chi2(truth_of(model, vdisp)[None])
    assert sum(got)[0] == pytest.approx(sum(expected)[0], abs=1.5)  # the range beyond 7400 A: see `is_coarse`
    other = free(model, data, library_width=width)[1].chi2(truth_of(model, vdisp * 1.5)[None])
    assert sum(other)[0] > sum(expected)[0] + 10


def test_the_compiled_exact_likelihood_equals_its_predictions(model: SPSModel) -> None:
    _, exact, prior = free(model, galaxy(model, 150.0))
    points = np.array([truth_of(model, v) for v in (135.0, 150.0, 163.0)])
    assert np.asarray(exact(jnp.asarray(points))) == pytest.approx(-0.5 * np.sum(exact.chi2(points), axis=0), abs=0.02)
    assert prior.parameters.names[-1] == "vdisp"


@pytest.mark.parametrize(
    ("vdisp", "snr", "options"),
    [
        (80.0, 20.0, {}),
        (250.0, 20.0, {}),
        (120.0, 20.0, {"library_width": "subtracted"}),
        (200.0, 5.0, {}),
        (150.0, 20.0, {"noise": ("floor", "template-error", "camera-calibration", "fiber-colour")}),
    ],
    ids=["80 km/s", "250 km/s", "subtracted", "low S/N", "template error"],
)
def test_the_compressed_likelihood_equals_the_exact_one(
    model: SPSModel, vdisp: float, snr: float, options: dict
) -> None:
    """Near the best fit, where all parameters vary, and over prior draws of the dispersion that are not hopeless."""
    width = options.get("library_width", "ignored")
    projection, exact, prior = free(model, galaxy(model, vdisp, snr, width), **options)
    engine = CompressedLikelihood(projection, model)
    rng = np.random.default_rng(2)
    points = near(engine, truth_of(model, vdisp), prior, rng, n=24, drop=20)
    difference = np.asarray(engine(points)) + 0.5 * np.sum(exact.chi2(points), axis=0)
    assert np.ptp(np.asarray(engine(points))) > 5
    assert np.std(difference) < 0.05
    assert np.abs(difference).max() < 0.15
    draws = np.repeat(truth_of(model, vdisp)[None], 200, axis=0)
    draws[:, -1] = np.exp(rng.uniform(*np.log(DISPERSION.bounds), 200))
    log_like = np.asarray(engine(jnp.asarray(draws)))
    draws = draws[log_like > log_like.max() - 20]
    assert len(draws) > 10
    difference = np.asarray(engine(jnp.asarray(draws))) + 0.5 * np.sum(exact.chi2(draws), axis=0)
    assert np.std(difference) < 0.05
    assert np.ptp(np.asarray(engine(jnp.asarray(draws)))) > 5


def test_draws_of_a_fit_correct_the_compressed_likelihood(model: SPSModel) -> None:
    projection, exact, prior = free(model, galaxy(model, 150.0))
    rng = np.random.default_rng(3)
    engine = CompressedLikelihood(projection, model)
    points = near(engine, truth_of(model, 150.0), prior, rng, n=24)
    corrected = engine.with_reference(near(engine, truth_of(model, 150.0), prior, rng, n=64, drop=12))
    assert size_of(corrected.reduction) == size_of(engine.reduction)

    def error(likelihood: CompressedLikelihood) -> float:
        return float(np.abs(np.asarray(likelihood(points)) + 0.5 * np.sum(exact.chi2(points), axis=0)).max())

    assert error(corrected) < 0.05
    assert error(corrected) < 0.8 * error(engine)


def test_normal_equations_of_the_masses_follow_the_dispersion(model: SPSModel) -> None:
    projection, _, _ = free(model, galaxy(model, 150.0))
    engine = CompressedLikelihood(projection, model)
    points = np.array([truth_of(model, v) for v in (120.0, 150.0, 190.0)])
    system = engine.linear_system
    q, b, constant = (np.asarray(x) for x in jax.jit(system.equations)(jnp.asarray(points), system.data))
    mass = 10.0 ** (points[:, 0] - REFERENCE_LOG_MASS)
    block = model.linear_block
    fractions = np.stack([engine.parameters.get(points, f) for f in block.fractions], axis=1)
    a = mass[:, None] * fractions
    chi2 = constant - 2 * np.einsum("bi,bi->b", b, a) + np.einsum("bi,bij,bj->b", a, q, a)
    assert chi2 == pytest.approx(-2 * np.asarray(engine(jnp.asarray(points))), abs=0.05)
    assert np.ptp(chi2) > 10


def test_the_gradient_points_to_the_dispersion(model: SPSModel) -> None:
    projection, _, _ = free(model, galaxy(model, 150.0))
    engine = CompressedLikelihood(projection, model)
    slope = [float(jax.grad(lambda t: engine(t[None])[0])(jnp.asarray(truth_of(model, v)))[-1]) for v in (125.0, 180.0)]
    assert slope[0] > 0 > slope[1]


# ---- fits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vdisp", [80.0, 250.0])
def test_a_fit_recovers_the_dispersion(model: SPSModel, vdisp: float) -> None:
    config = FitConfig(
        observing=FREE | {"library_width": "subtracted"}, sampler=SamplerOptions(aim_eval=0, time_limit_s=3000)
    )
    posterior = fit_observation(galaxy(model, vdisp, width="subtracted"), config, seed=1)
    assert posterior.status is Status.CONVERGED
    draws = posterior.parameters.get(posterior.samples, "vdisp")
    assert abs(draws.mean() - vdisp) < 3 * draws.std()
    assert 1 < draws.std() < 20  # km/s, at S/N 20 a pixel
    assert posterior.parameters["vdisp"].column == "VDISP"
    assert posterior.diagnostics.engine_dlnl < 0.1
    assert "vdisp" in posterior.diagnostics.rhat


def test_bands_alone_have_no_dispersion(model: SPSModel) -> None:
    data = replace(galaxy(model, 150.0), spectra=(), fiber_fraction=None)
    config = FitConfig(observing=FREE, prior_bounds={"vdisp": (50.0, 300.0)})
    exact = ExactLikelihood(project(data, model.library, config.observing), model)
    assert exact.parameters == fit_parameters(model)
    assert "vdisp" not in CompressedLikelihood(exact.projection, model).parameters
    assert prior_of_fit(exact, data, config).parameters == fit_parameters(model)


def test_options_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "fit.toml"
    path.write_text('[fit.observing]\nvdisp_kms = "fit"\nlibrary_width = "subtracted"\n')
    observing = load_fit_config(path).observing
    assert observing.vdisp_kms == "fit"
    assert observing.may_fit_dispersion
    assert observing.library_width == "subtracted"
    path.write_text('[fit.observing]\nvdisp_kms = "free"\n')
    with pytest.raises(ConfigError, match=r"vdisp_kms.*'free'"):
        load_fit_config(path)
    with pytest.raises(ValidationError, match="vdisp_kms = 'fit' needs another engine"):
        FitConfig(engine="emulator", observing=FREE)


# ---- the library's own width -----------------------------------------------------------------------------------------


def test_defaults_are_those_that_were_published() -> None:
    options = FitConfig(preset="published").observing
    assert (options.vdisp_kms, options.library_width) == (150.0, "ignored")


def test_widths_are_subtracted_in_quadrature_and_never_negative() -> None:
    sigma, own = np.array([0.0, 0.5, 1.0, 2.0, 5.0]), np.full(5, 1.0)
    left = beyond_library(sigma, own)
    assert np.all(np.diff(left) > 0)
    assert left[0] >= 0
    assert left[-1] == pytest.approx(np.sqrt(24), rel=1e-3)
    assert beyond_library(sigma, np.zeros(5)) == pytest.approx(sigma)


def test_subtracting_makes_the_model_narrower_by_the_librarys_width(model: SPSModel) -> None:
    spectrum = replace(galaxy(model, 150.0).spectra[0], resolution=None, sigma_aa=0.8)
    wave = model.library.wave * 1.1
    own = library_sigma(model.library) * 1.1
    dispersion = 200.0
    narrower = camera_operator(spectrum, wave, dispersion, library_aa=own)
    middle = 5000.0 / 1.1
    less = np.sqrt(dispersion**2 - (2.54 / FWHM_PER_SIGMA / middle * 299792.458) ** 2)
    row = int(np.searchsorted(spectrum.wave, 5000.0))
    expected = camera_operator(spectrum, wave, less)[row].toarray()
    assert np.abs(narrower[row].toarray() - expected).max() < 0.01 * expected.max()
    assert np.abs(camera_operator(spectrum, wave, dispersion)[row].toarray() - expected).max() > 0.03 * expected.max()


def test_resolutions_are_known_by_name_or_said_by_the_library(library: SSPLibrary) -> None:
    sigma = library_sigma(library)
    fine = (library.wave > 3601) & (library.wave < 7400)
    assert np.all(sigma[fine] == 2.54 / FWHM_PER_SIGMA)
    assert np.all(sigma[library.wave > 7401] == 0)
    assert np.all(is_coarse(library.wave)[library.wave > 7401])
    assert not is_coarse(library.wave)[(library.wave > 3605) & (library.wave < 7395)].any()
    small = small_library()
    with pytest.raises(ConfigError, match=r"resolution of SSP library .*black bodies' is not known"):
        library_sigma(small)
    told = replace(small, provenance={"resolution": "3000-4000: 2, 4000-9000: 3.5"})
    assert library_sigma(told)[small.wave == 5000] == pytest.approx(3.5 / FWHM_PER_SIGMA)
    with pytest.raises(ConfigError, match="not of the form"):
        library_sigma(replace(small, provenance={"resolution": "about 2 A"}))


def test_a_library_of_unknown_resolution_stops_the_run_not_the_galaxy(model: SPSModel) -> None:
    library = replace(model.library, provenance={"source": "mine"})
    with pytest.raises(ConfigError, match="library_width = 'ignored'"):
        project(galaxy(model, 150.0), library, ObservingOptions(library_width="subtracted"))
