"""`vdisp_kms = "auto"`: which galaxies have their velocity dispersion fitted, and what files and figures say of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from provabgs.catalog import Catalog, read_posteriors, write_catalog, write_posteriors
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.inference.fit import fit_one
from provabgs.inference.fit_observation import prior_of
from provabgs.inference.flags import in_words
from provabgs.inference.likelihood import ExactLikelihood, fit_parameters
from provabgs.inference.posterior import Posterior
from provabgs.inference.predictive import predict
from provabgs.observe.as_configured import dispersion_kms, fits_dispersion, spectrum_snr
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from provabgs.population.prior.draws import prior_of as population_prior
from provabgs.sps.model import SPSModel
from tests.unit.test_dispersion import galaxy

AUTO = ObservingOptions(vdisp_kms="auto")
SHORT = {"sampler": {"aim_eval": 0, "max_eval": 20_000}, "n_samples": 60, "measure": {"groups": []}}


@pytest.fixture(scope="module")
def model() -> SPSModel:
    return load_model(FitConfig().model)


def flat(snr: float, z: float = 0.1, first: float = 4200.0) -> Observation:
    """A spectrum of one S/N everywhere, from `first`, Angstrom, observed."""
    wave = np.arange(first, first + 3000.0)
    return Observation(z, (Spectrum("b", wave, np.full(wave.size, snr), np.ones(wave.size)),), None, targetid=3)


def test_the_snr_is_that_of_good_pixels_that_tell_the_dispersion() -> None:
    data = flat(7.0)
    assert spectrum_snr(data) == 7.0
    beyond = data.spectra[0].wave > 6200
    (spectrum,) = data.spectra
    masked = replace(spectrum, flux=np.where(beyond, 50.0, 7.0), ivar=np.where(beyond, 0.0, 1.0))
    assert spectrum_snr(replace(data, spectra=(masked,))) == 7.0
    red = Spectrum("z", np.arange(8200.0, 18200.0), np.full(10_000, 90.0), np.ones(10_000))
    assert spectrum_snr(replace(data, spectra=(spectrum, red))) == 7.0
    assert spectrum_snr(replace(data, spectra=(red,))) == float("-inf")
    bands = Photometry(("decam2014-r",), [1.0], [1.0])
    assert spectrum_snr(Observation(0.1, (), bands)) == float("-inf")


def test_what_is_fitted() -> None:
    least = AUTO.vdisp_snr
    assert fits_dispersion(flat(least + 0.01), AUTO)
    assert not fits_dispersion(flat(least - 0.01), AUTO)
    assert fits_dispersion(flat(least - 0.01), AUTO.model_copy(update={"vdisp_snr": least - 0.5}))
    assert not fits_dispersion(flat(90.0, first=8200.0), AUTO.model_copy(update={"vdisp_snr": 0.0}))
    fit, given = ObservingOptions(vdisp_kms="fit"), ObservingOptions(vdisp_kms="given")
    known = replace(flat(90.0), vdisp_kms=220.0)
    assert fits_dispersion(flat(0.1), fit)
    bands = Photometry(("decam2014-r",), [1.0], [1.0])
    assert not fits_dispersion(Observation(0.1, (), bands), fit)
    assert not fits_dispersion(known, given)
    assert dispersion_kms(known, given) == 220.0
    assert dispersion_kms(replace(known, spectra=flat(1.0).spectra), AUTO) == 150.0


def test_a_faint_spectrum_is_projected_as_before_and_a_bright_one_as_with_fit(model: SPSModel) -> None:
    honest = FitConfig().observing
    assert honest.vdisp_kms == "auto"
    for snr, same in ((2.0, 150.0), (20.0, "fit")):
        data = galaxy(model, 200.0, snr)
        got = project(data, model.library, honest).spectrum
        expected = project(data, model.library, honest.model_copy(update={"vdisp_kms": same})).spectrum
        assert got is not None
        assert expected is not None
        assert (got.operator != expected.operator).nnz == 0
        np.testing.assert_array_equal(got.templates, expected.templates)
        assert (got.dispersion is None) == (same == 150.0)


def test_masks_have_no_say(model: SPSModel) -> None:
    """What is drawn has other masks than what is fitted; the choice must be the same."""
    data = galaxy(model, 200.0, 20.0)
    honest = FitConfig().observing
    edge = honest.model_copy(update={"vdisp_snr": spectrum_snr(data)})
    for changes in ({}, {"line_mask": "none", "clip_sigma": None}, {"line_mask": "extended"}, {"red_end_aa": 5000.0}):
        projection = project(data, model.library, edge.model_copy(update=changes))
        assert projection.spectrum is not None
        assert projection.spectrum.dispersion is not None


def test_bounds_of_the_dispersion_wait_for_galaxies_that_have_one(model: SPSModel) -> None:
    config = FitConfig(prior_bounds={"vdisp": (50.0, 300.0)})
    for snr, fitted in ((2.0, False), (20.0, True)):
        data = galaxy(model, 150.0, snr)
        exact = ExactLikelihood(project(data, model.library, config.observing), model)
        prior = prior_of(exact, data, config)
        assert prior.parameters.names == fit_parameters(model, fitted).names
        if fitted:
            np.testing.assert_allclose([float(e) for e in prior.edges("vdisp")], np.log10([50.0, 300.0]))


def test_networks_have_one_dispersion() -> None:
    networks = {"engine": "exact", "model": {"published_networks": ("a.npz", "b.npz"), "conventions": "published-code"}}
    for chosen in ({"engine": "emulator"}, networks, {"engine": "emulator", "observing": ObservingOptions()}):
        assert FitConfig.model_validate(chosen).observing.vdisp_kms == 150.0
    explicit = {"engine": "emulator", "preset": "published", "observing": AUTO}
    assert FitConfig.model_validate(explicit).observing.vdisp_kms == 150.0
    for preset in ("published", "released-edr"):
        assert FitConfig.model_validate({"preset": preset}).observing.vdisp_kms != "auto"
    kept = FitConfig(observing={"vdisp_kms": 200.0})
    assert kept.observing.vdisp_kms == 200.0


# ---- fits ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(model: SPSModel) -> list[tuple[Observation, Posterior]]:
    """A bright and a faint galaxy, and the bands alone of the bright one."""
    bright = replace(galaxy(model, 250.0, 20.0), targetid=1)
    faint = replace(galaxy(model, 250.0, 2.0), targetid=2)
    config = FitConfig.model_validate(SHORT)
    bands = FitConfig.model_validate(SHORT | {"use": "photometry"})
    asked = ((bright, config), (faint, config), (replace(bright, targetid=3), bands))
    return [(data, fit_one(data, c, seed=1)) for data, c in asked]


def test_parameters_and_columns_say_which_it_was(fitted: list[tuple[Observation, Posterior]], tmp_path: Path) -> None:
    posteriors = [p for _, p in fitted]
    assert ["vdisp" in p.parameters for p in posteriors] == [True, False, False]
    held = [p.diagnostics.vdisp_fixed for p in posteriors]
    np.testing.assert_array_equal(held, [np.nan, 150.0, np.nan])
    path = tmp_path / "posteriors.h5"
    write_posteriors(path, posteriors)
    back = read_posteriors(path)
    assert [p.parameters.names for p in back] == [p.parameters.names for p in posteriors]
    np.testing.assert_array_equal([p.diagnostics.vdisp_fixed for p in back], held)
    write_catalog(tmp_path / "catalog", posteriors, allow_mixed=True)
    rows = Catalog.open(tmp_path / "catalog").arrow(["TARGETID", "VDISP_P50", "VDISP_FIXED", "VDISP_RHAT"]).to_pylist()
    of = {row["TARGETID"]: row for row in rows}
    assert abs(of[1]["VDISP_P50"] - 250) < 60
    assert of[1]["VDISP_FIXED"] is None
    assert (of[2]["VDISP_P50"], of[2]["VDISP_FIXED"]) == (None, 150.0)
    assert (of[3]["VDISP_P50"], of[3]["VDISP_FIXED"]) == (None, None)


def test_the_words_of_a_fit_say_it_too(fitted: list[tuple[Observation, Posterior]]) -> None:
    bright, faint, bands = (" ".join(in_words(p)) for _, p in fitted)
    assert re.search(r"velocity dispersion 2\d\d \(\+\d+ -\d+\) km/s\.", bright)
    assert "velocity dispersion held at 150 km/s." in faint
    assert "dispersion" not in bands


def test_the_choice_can_be_repeated(fitted: list[tuple[Observation, Posterior]]) -> None:
    for data, posterior in fitted[:2]:
        chosen = "fit" if "vdisp" in posterior.parameters else posterior.diagnostics.vdisp_fixed
        again = fit_one(data, FitConfig.model_validate(SHORT | {"observing": {"vdisp_kms": chosen}}), seed=1)
        np.testing.assert_array_equal(again.samples, posterior.samples)


def test_figures_of_all_can_be_drawn(fitted: list[tuple[Observation, Posterior]]) -> None:
    """Bands alone, too, over a spectrum that was not fitted."""
    for data, posterior in fitted:
        made = predict(posterior, data, 8)
        assert made.spectrum is not None
        assert np.all(np.isfinite(made.spectrum.model))
        inside = ~(made.spectrum.masked | made.spectrum.clipped)
        if inside.any():
            pull = (made.spectrum.flux - np.median(made.spectrum.model, axis=0)) / made.spectrum.sigma
            assert np.mean(pull[inside] ** 2) < 1.3


def test_priors_of_populations_do_not_depend_on_the_choice(model: SPSModel) -> None:
    bounds = {"vdisp": (50.0, 300.0), "logmstar": (8.0, 12.0)}
    auto, fit = (FitConfig(observing={"vdisp_kms": v}, prior_bounds=bounds) for v in ("auto", "fit"))
    assert population_prior(auto, model).parameters == fit_parameters(model)
    assert [float(e) for e in population_prior(auto, model).edges("logmstar")] == [8.0, 12.0]
    np.testing.assert_allclose(population_prior(fit, model).edges("vdisp"), np.log10([50.0, 300.0]))
