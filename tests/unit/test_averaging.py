"""Fits under several SSP libraries, or amplitudes of their error, averaged into one posterior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from provabgs.catalog import write_posteriors
from provabgs.catalog.compare import block_differences
from provabgs.catalog.records import to_block, to_posteriors
from provabgs.catalog.shard import read_shard
from provabgs.core.errors import ConfigError, DataFileError
from provabgs.core.status import Status
from provabgs.inference.alternatives import alternatives
from provabgs.inference.averaged_posterior import parts_of
from provabgs.inference.averaging import without_shared_outliers
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig, load_fit_config
from provabgs.inference.evidence import log_normalisation
from provabgs.inference.fit import check_names, fit_many, fit_one
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.posterior import Posterior
from provabgs.inference.predictive import predict
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from provabgs.observe.template_error import TemplateError
from provabgs.pipelines.dry_run import fit_observation as dry_run
from provabgs.pipelines.process import portable
from provabgs.sps.imf import imf_light, in_masses_of
from provabgs.sps.library import SHIPPED, SSPLibrary
from provabgs.sps.model import SPSModel
from tests.support.small_library import small_library, theta

Z = 0.1
BANDS = ("decam2014-g", "decam2014-r", "decam2014-z")
LIBRARY = small_library()
KROUPA = "Kroupa & Boily (2002)"
QUICK = {"aim_eval": 0, "rhat": 1.1, "ess": 60}


def perturbed() -> SSPLibrary:
    """The small library half as bright again, a little redder, and with another IMF."""
    factor = 1.5 * np.exp(0.05 * np.log(LIBRARY.wave / 5500.0))
    return replace(
        LIBRARY,
        spectrum=(LIBRARY.spectrum * factor).astype(np.float32),
        surviving_mass=0.5 * LIBRARY.surviving_mass,
        imf=KROUPA,
        provenance={"source": "perturbed"},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two libraries, and components of the first one's error."""
    folder = tmp_path_factory.mktemp("libraries")
    LIBRARY.save(folder / "ours.h5")
    perturbed().save(folder / "theirs.h5")
    wave = np.linspace(1990.0, 12010.0, 101)
    modes = np.array([0.1 + 0.0 * wave, 0.05 * (wave / 5500.0 - 1)])
    zero = np.zeros(101)
    TemplateError(wave, modes, zero, zero, LIBRARY.digest(), LIBRARY.provenance["source"]).save(folder / "error.h5")
    return folder


@cache
def galaxy(targetid: int = 5) -> Observation:
    """Made by the small library: a spectrum of S/N 10 a pixel, three bands of 5 %."""
    model, wave = SPSModel(LIBRARY), np.arange(3700.0, 8000.0, 8.0)
    blank = Spectrum("b", wave, np.ones(wave.size), np.ones(wave.size))
    nothing = Observation(Z, (blank,), Photometry(BANDS, np.ones(3), np.ones(3)))
    truth = theta(fburst=0.1, tburst=2.0, tau_ism=0.4, n_dust=-0.5, f_fiber=0.6)
    projection = project(nothing, LIBRARY, ObservingOptions(line_mask="none"))
    pixels, bands = (p[0] for p in ExactLikelihood(projection, model).predict(truth) if p is not None)
    rng = np.random.default_rng(1)
    sigma, band_sigma = 0.1 * pixels, 0.05 * bands
    camera = Spectrum("b", wave, pixels + sigma * rng.standard_normal(wave.size), sigma**-2)
    photometry = Photometry(BANDS, bands + band_sigma * rng.standard_normal(3), band_sigma**-2)
    return Observation(Z, (camera,), photometry, (0.6, 0.05), targetid=targetid, meta={"EBV": 0.02})


def config(folder: Path, *libraries: str, observing: dict[str, Any] | None = None, **model: Any) -> FitConfig:
    paths = [folder / f"{name}.h5" if name != SHIPPED else name for name in libraries]
    given = {"library": paths} | model
    # percentiles of 400 draws differ by 0.1 of a sigma from one resampling to the next, those of 4,000 by 0.03
    options = {"model": given, "sampler": QUICK, "observing": observing or {}, "n_samples": 4000}
    return FitConfig.model_validate(options | {"preset": "published"})


@cache
def _fitted(text: str, targetid: int, seed: int) -> Posterior:
    return fit_observation(galaxy(targetid), FitConfig.model_validate_json(text), seed)


def once(observation: Observation, fitted: FitConfig, seed: int) -> Posterior:
    """The true fit, each made once in this file."""
    return _fitted(fitted.model_dump_json(), observation.targetid, seed)


# ---- which fits ----------------------------------------------------------------------------------------------------


def test_one_library_is_one_fit(folder: Path) -> None:
    plain = FitConfig()
    (only,) = alternatives(plain)
    assert only.config is plain
    for named in (SHIPPED, [SHIPPED], None):
        assert FitConfig.model_validate({"model": {"library": named}}) == plain
    assert FitConfig.model_validate({"model": {"library": [folder / "ours.h5"]}}).model.library == folder / "ours.h5"


def test_every_library_with_every_amplitude(folder: Path) -> None:
    both = config(folder, SHIPPED, "theirs", observing={"noise": ("template-error",), "template_error": (0.7, 1.4)})
    made = alternatives(both)
    assert [a.label for a in made] == [f"{n} amplitude {a}" for n in (SHIPPED, "theirs") for a in (0.7, 1.4)]
    theirs = folder / "theirs.h5"
    assert [a.config.model.libraries for a in made] == [(None,), (None,), (theirs,), (theirs,)]
    assert {a.config.observing.template_error for a in made} == {0.7, 1.4}
    assert {a.config.model.mass_library for a in made} == {Path(SHIPPED)}
    assert {a.config.sampler.time_limit_s for a in made} == {both.sampler.time_limit_s / 4}
    assert FitConfig.model_validate_json(both.model_dump_json()) == both


def test_paths_and_names_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "fit.toml").write_text("[fit.model]\nlibrary = ['mist', 'bc03.h5']\nmass_library = 'mist'\n")
    model = load_fit_config(tmp_path / "fit.toml").model
    assert model.libraries == (None, tmp_path / "bc03.h5")
    assert model.mass_library == Path(SHIPPED)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": {"library": []}}, "name at least one library"),
        ({"model": {"library": ["mist", "a.h5"]}, "engine": "emulator"}, "engine = 'emulator' knows one library"),
        (
            {"observing": {"template_error": [0.7, 1.4]}, "preset": "published"},
            "several amplitudes of template_error need the term",
        ),
        ({"observing": {"template_error": [1, 1]}, "preset": "honest"}, "amplitudes differ"),
        ({"observing": {"template_error": [0, 1]}, "preset": "honest"}, "amplitude of 0 is another model"),
        ({"observing": {"template_error": -1}}, "amplitudes lie between 0 and 10"),
        ({"model": {"library_weights": "best"}}, "'equal' or 'evidence'"),
    ],
)
def test_configurations_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FitConfig.model_validate(options)


def test_one_fit_takes_one_library(folder: Path) -> None:
    for several in (
        config(folder, "ours", "theirs"),
        config(folder, "ours", observing={"noise": ("template-error",), "template_error": (0.5, 1)}),
    ):
        with pytest.raises(
            ConfigError,
            match="several libraries, families of histories or amplitudes of the template error are several",
        ):
            fit_observation(galaxy(), several)
    with pytest.raises(ConfigError, match=r"template_error = \[0\.5, 1\.0\]: one fit has one amplitude"):
        project(galaxy(), LIBRARY, several.observing)


# ---- masses in one IMF ---------------------------------------------------------------------------------------------


def test_masses_are_those_of_the_first_library() -> None:
    """Light per mass as under its IMF, and its surviving fractions."""
    other = perturbed()
    converted = in_masses_of(other, LIBRARY)
    np.testing.assert_allclose(converted.spectrum, other.spectrum / np.exp(imf_light(KROUPA)), rtol=1e-6)
    np.testing.assert_allclose(converted.surviving_mass, LIBRARY.surviving_mass)
    assert converted.imf == LIBRARY.imf
    assert in_masses_of(LIBRARY, LIBRARY).digest() == LIBRARY.digest()
    half = replace(other, logzsol=other.logzsol - 0.5, log_age=other.log_age + 0.1)
    inside = in_masses_of(half, LIBRARY).surviving_mass[1:, :-1]
    assert np.all((inside > LIBRARY.surviving_mass.min()) & (inside < LIBRARY.surviving_mass.max()))
    assert np.all(np.diff(inside, axis=1) < 0)


def test_mass_library_of_a_single_fit(folder: Path) -> None:
    own = load_model(config(folder, "theirs").model).library
    ours = load_model(config(folder, "theirs", mass_library=folder / "ours.h5").model).library
    assert (own.imf, ours.imf) == (KROUPA, LIBRARY.imf)
    itself = config(folder, "ours", mass_library=folder / "ours.h5").model
    assert load_model(itself) is load_model(config(folder, "ours").model)


def test_an_imf_that_nobody_knows(folder: Path, tmp_path: Path) -> None:
    replace(perturbed(), imf="Scalo (1986)").save(tmp_path / "scalo.h5")
    several = config(tmp_path, folder.joinpath("ours").as_posix(), "scalo")
    message = r"model\.library .*scalo\.h5: masses under 'Scalo \(1986\)' cannot be expressed in those under 'Chabrier"
    with pytest.raises(ConfigError, match=message):
        check_names(several)
    with pytest.raises(ConfigError, match=message):
        fit_one(galaxy(), several, 3, fit=once)
    check_names(config(folder, "ours", "theirs"))
    with pytest.raises(DataFileError, match=r"absent\.h5: no such file"):
        check_names(config(folder, "ours", "absent"))


# ---- weights, with fits that are made up ---------------------------------------------------------------------------


def made_up(**evidence: float) -> Callable[[Observation, FitConfig, int], Posterior]:
    """Dry-run posteriors of given evidence by library; draws of the second library are 1 dex heavier."""

    def fit(observation: Observation, fitted: FitConfig, seed: int) -> Posterior:
        path = fitted.model.libraries[0]
        name = SHIPPED if path is None else path.stem
        made = dry_run(observation, fitted, seed)
        samples = made.samples.copy()
        samples[:, 0] = 10.0 + (name != "ours") + 0.01 * np.arange(len(samples)) / len(samples)
        log_z = evidence.get(name, np.nan) - 2.0 * np.log(float(fitted.observing.amplitudes[0])) ** 2
        diagnostics = replace(made.diagnostics, log_evidence=log_z)
        return replace(made, samples=samples, diagnostics=diagnostics, log_prob=made.log_prob - made.log_prob.max())

    return fit


def test_equal_weights_and_evidence(folder: Path) -> None:
    fit = made_up(ours=-10.0, theirs=-10.0 + np.log(3.0))
    equal = fit_one(galaxy(), config(folder, "ours", "theirs"), 1, fit=fit)
    weighted = fit_one(galaxy(), config(folder, "ours", "theirs", library_weights="evidence"), 1, fit=fit)
    assert np.mean(equal["library"]) == 0.5
    assert np.mean(weighted["library"]) == 0.75
    for found in (equal, weighted):
        np.testing.assert_array_equal(found["library"] == 1, found["logmstar"] > 10.5)
        assert found.best["library"] == 1  # the best fit is of the library of the higher evidence
        assert found.best["logmstar"] == fit(galaxy(), config(folder, "theirs"), 1).best["logmstar"]
        assert found.diagnostics.log_evidence == pytest.approx(-10.0 + np.log(2.0))
        assert "ours -1.1" in found.message
        assert len(found.samples) == 512
    assert "theirs 0.0 (0.75)" in weighted.message


def test_amplitudes_are_always_weighted_by_evidence(folder: Path) -> None:
    """Libraries stay equal: the evidence of one against the other is in no weight."""
    noise = {"noise": ("template-error",), "template_error": (0.5, 1.0, 2.0)}
    fit = made_up(ours=-10.0, theirs=-50.0)
    found = fit_one(galaxy(), config(folder, "ours", "theirs", observing=noise), 1, fit=fit)
    expected = np.exp(-2.0 * np.log([0.5, 1.0, 2.0]) ** 2)
    for library in (0, 1):
        of_it = found["template_error"][found["library"] == library]
        assert abs(of_it.size - 256) <= 2
        shares = [np.mean(of_it == a) for a in (0.5, 1.0, 2.0)]
        np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.005)
    single = fit_one(galaxy(), config(folder, "ours", observing=noise), 1, fit=fit)
    assert [p.name for p in single.properties[-2:]] == ["t_age_mw", "template_error"]
    assert "LOG_EVIDENCE_AMPLITUDE_0_5" in single.meta


def test_weights_by_evidence_need_one(folder: Path) -> None:
    with pytest.raises(ConfigError, match="gives no evidence, which library_weights = 'evidence'"):
        fit_one(galaxy(), config(folder, "ours", "theirs", library_weights="evidence"), 1, fit=made_up(ours=1.0))
    found = fit_one(galaxy(), config(folder, "ours", "theirs"), 1, fit=made_up(ours=1.0))
    assert found.message == "averaged over ours, theirs"
    assert np.isnan(found.diagnostics.log_evidence)


def test_the_status_is_the_worst(folder: Path) -> None:
    good = made_up(ours=0.0, theirs=0.0)

    def fit(status: Status) -> Callable[[Observation, FitConfig, int], Posterior]:
        def one(observation: Observation, fitted: FitConfig, seed: int) -> Posterior:
            if fitted.model.libraries[0] == folder / "ours.h5":
                return good(observation, fitted, seed)
            if status.has_samples:
                return replace(good(observation, fitted, seed), status=status, message="R-hat 1.3")
            return Posterior.without_samples(status, "no light", fitted, seed, targetid=5)

        return one

    several = config(folder, "ours", "theirs")
    half = fit_one(galaxy(), several, 1, fit=fit(Status.NOT_CONVERGED))
    assert half.status == Status.NOT_CONVERGED
    assert half.message.startswith("theirs: R-hat 1.3; ln evidence")
    none = fit_one(galaxy(), several, 1, fit=fit(Status.REDSHIFT_OUT_OF_RANGE))
    assert (none.status, none.message, len(none.samples)) == (
        Status.REDSHIFT_OUT_OF_RANGE, "theirs: no light", 0,
    )  # fmt: skip
    assert none.data_hash == galaxy().digest()


def test_stored_draws_keep_their_library(folder: Path, tmp_path: Path) -> None:
    """Thinned and rounded to 16 bits, in equal parts; the evidence of each is a column."""
    several = config(folder, "ours", "theirs")
    found = fit_one(galaxy(), several, 1, fit=made_up(ours=-3.0, theirs=-4.0))
    for n in (64, 128, 256):  # thinning by whole numbers must not prefer one of them
        (back,) = to_posteriors(to_block([found], n_samples=n))
        parts = {a.label: rows for a, rows in parts_of(back, several)}
        assert set(parts) == {"ours", "theirs"}
        assert abs(len(parts["ours"]) / n - 0.5) < 0.2
        assert np.all(back["logmstar"][parts["theirs"]] > 10.5)
    write_posteriors(tmp_path / "x.h5", [found])
    (back,) = read_shard(tmp_path / "x.h5")
    assert (back.meta["LOG_EVIDENCE_OURS"], back.meta["LOG_EVIDENCE_THEIRS"]) == (-3.0, -4.0)
    assert back.meta["EBV"] == pytest.approx(0.02)
    assert FitConfig.model_validate_json(back.config) == several
    row = to_block([found]).summary[0]
    assert (row["LOG_EVIDENCE_OURS"], row["LIBRARY_P50"]) == (-3.0, 0.5)


# ---- true fits -----------------------------------------------------------------------------------------------------


def test_the_same_library_twice_is_that_library(folder: Path) -> None:
    alone = fit_one(galaxy(), config(folder, "ours"), 3, fit=once)
    twice = fit_one(galaxy(), config(folder, "ours", "ours"), 3, fit=once)
    assert twice.status == alone.status
    assert twice.diagnostics.log_evidence == pytest.approx(alone.diagnostics.log_evidence)
    assert twice.diagnostics.n_eval == 2 * alone.diagnostics.n_eval
    np.testing.assert_array_equal(twice.best_fit, alone.best_fit)
    assert {"LOG_EVIDENCE_OURS", "LOG_EVIDENCE_OURS_2"} <= twice.meta.keys()
    for name in alone.derived:
        spread = np.std(alone[name])
        np.testing.assert_allclose(twice.quantiles(name), alone.quantiles(name), atol=0.15 * spread)
    assert (
        block_differences(to_block([twice]), to_block([fit_one(galaxy(), config(folder, "ours", "ours"), 3, fit=once)]))
        == []
    )


def test_two_libraries_lie_between_and_are_wider(folder: Path) -> None:
    """The perturbed library gives masses 0.17 dex lower at equal IMF; draws are those of the fits alone."""
    several = config(folder, "ours", "theirs")
    ours = fit_one(galaxy(), config(folder, "ours"), 3, fit=once)
    theirs = fit_one(galaxy(), config(folder, "theirs", mass_library=folder / "ours.h5"), 3, fit=once)
    both = fit_one(galaxy(), several, 3, fit=once)
    for name in ("logmstar", "logmstar_surviving"):
        middle = [np.median(p[name]) for p in (theirs, both, ours)]
        assert middle[0] < middle[1] < middle[2]
        assert middle[2] - middle[0] > 0.08
        assert np.std(both[name]) >= min(np.std(ours[name]), np.std(theirs[name]))
        mixed = np.var(np.concatenate([ours[name], theirs[name]]))
        np.testing.assert_allclose(np.var(both[name]), mixed, rtol=0.3)  # 200 draws of each
    # surviving fractions are those of the first library: BC03's own would be those of another count
    assert np.median(both["logmstar"] - both["logmstar_surviving"]) < 0.35
    density = both.log_prob[both["library"] == 0].max() - both.log_prob[both["library"] == 1].max()
    alone = [p.log_prob.max() - p.diagnostics.log_evidence for p in (ours, theirs)]
    assert density == pytest.approx(alone[0] - alone[1], abs=1.0)


def test_predictions_are_those_of_each_draws_library(folder: Path) -> None:
    several = config(folder, "ours", "theirs")
    both = fit_one(galaxy(), several, 3, fit=once)
    made = predict(both, galaxy(), n_draws=40)
    assert made.spectrum is not None
    assert made.photometry is not None
    assert made.spectrum.model.shape[0] == made.sed.shape[0] == made.sfr.shape[0] == 40
    # every draw fits the data; under the other library it would be 40 % off
    np.testing.assert_allclose(made.photometry.model / made.photometry.flux, 1.0, atol=0.25)
    ratio = np.median(made.spectrum.model / made.spectrum.flux, axis=1)
    np.testing.assert_allclose(ratio, 1.0, atol=0.05)
    wrong = FitConfig.model_validate_json(both.config)
    swapped = replace(both, config=wrong.model_copy(
        update={"model": wrong.model.model_copy(update={"library": (folder / "theirs.h5", folder / "ours.h5"),
                                                        "mass_library": folder / "ours.h5"})}
    ).model_dump_json())  # fmt: skip
    off = predict(swapped, galaxy(), n_draws=40)
    assert off.photometry is not None
    assert np.abs(off.photometry.model / off.photometry.flux - 1).max() > 0.3


def test_a_run_of_amplitudes(folder: Path) -> None:
    """True fits under two amplitudes: evidences are densities of the data, and each row says what it is of."""
    noise = {
        "noise": ("floor", "template-error"), "template_error_file": folder / "error.h5", "template_error": (0.5, 8.0),
    }  # fmt: skip
    found = fit_one(galaxy(), config(folder, "ours", observing=noise), 3, fit=once)
    assert found.status.has_samples
    low, high = found.meta["LOG_EVIDENCE_AMPLITUDE_0_5"], found.meta["LOG_EVIDENCE_AMPLITUDE_8"]
    assert 0 < low - high < 5  # the galaxy is of this library: no error is called for
    assert np.mean(found["template_error"] == 0.5) == pytest.approx(1 / (1 + np.exp(high - low)), abs=0.01)
    assert found.parameters.names[-1] == "light_error"


def test_components_of_the_first_library_serve_all(folder: Path) -> None:
    noise = {"noise": ("floor", "template-error"), "template_error_file": folder / "error.h5"}
    check_names(config(folder, "ours", "theirs", observing=noise))
    with pytest.raises(ConfigError, match=r"error\.h5: .*learnt for SSP library"):
        check_names(config(folder, "theirs", "ours", observing=noise))


# ---- evidence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["both", "spectrum", "photometry"])
def test_likelihood_is_a_density_of_the_data(which: str, folder: Path) -> None:
    """Against SciPy's multivariate normal, templates and all."""
    noise = ("floor", "template-error", "camera-calibration", "fiber-colour")
    options = ObservingOptions(noise=noise, template_error_file=folder / "error.h5", line_mask="none")
    data = galaxy()
    data = replace(data, spectra=(), fiber_fraction=None) if which == "photometry" else data
    data = replace(data, photometry=None) if which == "spectrum" else data
    exact = ExactLikelihood(project(data, LIBRARY, options), SPSModel(LIBRARY))
    point = theta(tau_ism=0.4, f_fiber=0.6)
    sides = [s for s in (exact.projection.spectrum, exact.projection.photometry) if s is not None]
    templates = np.concatenate([s.templates for s in sides])
    covariance = np.diag(np.concatenate([1 / s.ivar for s in sides])) + templates @ templates.T
    flux, mean = np.concatenate([s.flux for s in sides]), [p[0] for p in exact.predict(point) if p is not None]
    expected = stats.multivariate_normal.logpdf(flux, np.concatenate(mean), covariance)
    found = -0.5 * float(sum(c[0] for c in exact.chi2(point))) + log_normalisation(exact.projection)
    assert found == pytest.approx(expected, abs=1e-5)


def test_log_prob_and_evidence_of_a_fit_are_densities_of_the_data(folder: Path) -> None:
    """The compressed likelihood's offset is taken out, and both carry the normalisation."""
    alone = fit_one(galaxy(), config(folder, "ours"), 3, fit=once)
    exact = ExactLikelihood(project(galaxy(), LIBRARY), SPSModel(LIBRARY))
    chi2 = sum(exact.chi2(alone.samples[::40]))
    gammas = alone["gamma1"] * alone["gamma2"]
    density = alone.log_prob + np.log(gammas) + 0.5 * ((alone["f_fiber"] - 0.6) / 0.05) ** 2
    constant = density[::40] + 0.5 * chi2
    assert np.std(constant) < 0.1
    assert np.mean(constant) == pytest.approx(log_normalisation(exact.projection), abs=0.1)
    # the evidence lies below the best density of the data, by what the data fix of the prior
    best = -0.5 * (alone.chi2_spec + alone.chi2_phot) + log_normalisation(exact.projection)
    assert 5 < best - alone.diagnostics.log_evidence < 60


# ---- outliers ------------------------------------------------------------------------------------------------------


def test_pixels_are_those_of_all_libraries(folder: Path) -> None:
    """A cosmic ray is masked in every fit; a pixel that one library explains is in no mask."""
    data = galaxy()
    flux = data.spectra[0].flux.copy()
    flux[300] *= 4.0
    hit = replace(data, spectra=(replace(data.spectra[0], flux=flux),))
    clips = {"clip_sigma": 5.0, "line_mask": "none"}
    configs = [a.config for a in alternatives(config(folder, "ours", "theirs", observing=clips))]
    cleaned, without = without_shared_outliers(hit, configs)
    masked = (cleaned.spectra[0].ivar == 0) & (hit.spectra[0].ivar > 0)
    assert masked[300]
    assert masked.sum() <= 6
    assert {c.observing.clip_sigma for c in without} == {None}
    assert without_shared_outliers(hit, configs[:1])[0] is hit
    plain = [a.config for a in alternatives(config(folder, "ours", "theirs"))]
    assert without_shared_outliers(hit, plain)[0] is hit


# ---- one road ------------------------------------------------------------------------------------------------------


def test_many_galaxies_are_averaged_each(folder: Path) -> None:
    """`provabgs fit` and the fit processes of `provabgs run` go through these two."""
    several, fit = config(folder, "ours", "theirs"), made_up(ours=-3.0, theirs=-4.0)
    galaxies = [replace(galaxy(), targetid=k) for k in (5, 6)]
    made = [f.posterior for f in fit_many(galaxies, several, 1, fit=fit)]
    alone = [fit_one(g, several, 1, fit=fit) for g in reversed(galaxies)][::-1]
    assert block_differences(to_block(made), to_block(alone)) == []
    assert [len(p.samples) for p in made] == [512, 512]
    assert not np.array_equal(made[0]["library"], made[1]["library"])  # the order is each galaxy's own
    sent = portable(made[0])
    assert block_differences(to_block([sent]), to_block([made[0]])) == []
