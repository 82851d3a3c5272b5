"""Mocks from simulated galaxies to DESI files and back, and the challenge's bookkeeping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from provabgs.catalog import write_posteriors
from provabgs.cli.mock import TEMPLATE, mock_app
from provabgs.core.errors import ConfigError, DataFileError, InputError
from provabgs.core.status import Status
from provabgs.desi import ReadOptions, read_observations
from provabgs.inference.posterior import Posterior
from provabgs.inference.standard import PROPERTIES
from provabgs.mocks.challenge import (
    MODES,
    ChallengeConfig,
    load_posteriors,
    load_truth,
    make_mocks,
    pending,
)
from provabgs.mocks.files import read_truth
from provabgs.mocks.histories import true_properties
from provabgs.mocks.make import MockConfig, MockMaker, mock_targetid
from provabgs.mocks.report import write_report
from provabgs.mocks.score import TRUTH_COLUMNS, collect, induced_priors, summary_table
from provabgs.mocks.spectra import Conditions, noiseless
from provabgs.pipelines.challenge import load_challenge, run_challenge
from tests.support.parameters import N_THETA, put

BIAS = {"logmstar": 0.05, "log_sfr_1gyr": -0.2, "log_z_mw": 0.1, "t_age_mw": 0.5}
WIDTH = 0.05


@pytest.fixture(scope="module")
def maker() -> MockMaker:
    return MockMaker(MockConfig(n=3))


@pytest.fixture(scope="module")
def challenge(tmp_path_factory: pytest.TempPathFactory) -> ChallengeConfig:
    config = ChallengeConfig(output=tmp_path_factory.mktemp("challenge") / "out", mock=MockConfig(n=5), chunk=2)
    make_mocks(config)
    return config


# ---- one mock --------------------------------------------------------------------------------------------------------


def test_same_galaxy_in_any_subset_and_order(maker: MockMaker) -> None:
    i = int(maker.order()[4])
    other = MockMaker(MockConfig(n=2), maker.galaxies.select([7, i, 3]))
    a, b = maker.make(i), other.make(1)
    np.testing.assert_array_equal(a.photometry.flux, b.photometry.flux)
    for x, y in zip(a.spectrum, b.spectrum, strict=True):
        np.testing.assert_array_equal(x.flux, y.flux)
    assert a.targetid == b.targetid


def test_deeper_exposure_changes_noise_alone(maker: MockMaker) -> None:
    i = int(maker.order()[0])
    deep = MockMaker(MockConfig(conditions=Conditions(effective_s=1800.0)), maker.galaxies).make(i)
    shallow = maker.make(i)
    assert deep.dust == shallow.dust
    np.testing.assert_array_equal(deep.photometry.flux, shallow.photometry.flux)
    for a, b in zip(deep.spectrum, shallow.spectrum, strict=True):
        np.testing.assert_array_equal(a.true_flux, b.true_flux)
        assert np.all(a.ivar > b.ivar)


def test_seed_changes_the_noise(maker: MockMaker) -> None:
    i = int(maker.order()[0])
    other = MockMaker(MockConfig(seed=1), maker.galaxies).make(i)
    assert not np.array_equal(other.photometry.flux, maker.make(i).photometry.flux)


def test_noise_is_what_ivar_says(maker: MockMaker) -> None:
    mock = maker.make(int(maker.order()[1]))
    for camera in mock.spectrum:
        pull = (camera.flux - camera.true_flux) * np.sqrt(camera.ivar)
        assert np.mean(pull) == pytest.approx(0.0, abs=5 / np.sqrt(pull.size))
        assert np.std(pull) == pytest.approx(1.0, abs=5 / np.sqrt(2 * pull.size))


def test_spectrum_is_the_sed_times_the_fiber_fraction(maker: MockMaker) -> None:
    mock = maker.make(int(maker.order()[2]))
    wave, flux = maker.model.observed(mock.sed.total, mock.redshift, maker.cosmology)
    for camera in mock.spectrum:
        inner = slice(20, -20)
        expected = np.interp(camera.wave[inner], wave, flux) * mock.photometry.fiber_fraction
        ratio = camera.true_flux[inner] * mock.conditions.psf_to_fiber / expected
        assert np.median(ratio) == pytest.approx(1.0, abs=2e-3)
    total = noiseless(maker.noise.cameras["r"], mock.sed, maker.model, mock.redshift, maker.cosmology)
    np.testing.assert_allclose(
        total * mock.photometry.fiber_fraction / mock.conditions.psf_to_fiber, mock.spectrum[1].true_flux
    )


def test_unusable_galaxies_are_named(maker: MockMaker) -> None:
    galaxies = maker.galaxies.select([0, 1])
    galaxies.flags[1] = 1
    galaxies.redshift[0] = 0.0
    small = MockMaker(MockConfig(), galaxies)
    with pytest.raises(InputError, match="NO_STARS"):
        small.make(1)
    with pytest.raises(InputError, match="redshift 0"):
        small.make(0)
    assert list(small.selected()) == []
    with pytest.raises(InputError, match="does not fit"):
        mock_targetid(1 << 42)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_ordinary_reader_returns_the_mocks(challenge: ChallengeConfig) -> None:
    truth = load_truth(challenge.output)
    assert len(truth) == 5
    maker = MockMaker(challenge.mock)
    by_id = {mock_targetid(int(maker.galaxies.galaxy_id[i])): int(i) for i in maker.order()}
    seen = []
    for chunk in range(3):
        for result in read_observations(challenge.output / "mocks" / f"coadd-mock-bright-{chunk}.fits"):
            assert result.status is None, result.message
            mock = maker.make(by_id[result.targetid]).observation()
            got = result.observation
            assert got is not None
            assert got.photometry is not None
            assert got.photometry.bands == mock.photometry.bands
            np.testing.assert_allclose(got.photometry.flux, mock.photometry.flux, rtol=1e-6)
            np.testing.assert_allclose(got.fiber_fraction, mock.fiber_fraction, rtol=1e-5)
            for a, b in zip(got.spectra, mock.spectra, strict=True):
                np.testing.assert_allclose(a.flux, b.flux, rtol=1e-5, atol=1e-5)
                np.testing.assert_allclose(a.ivar, b.ivar, rtol=1e-5)
                np.testing.assert_allclose(a.resolution, b.resolution, atol=1e-7)
            seen.append(result.targetid)
    assert seen == truth["TARGETID"].tolist()


def test_reader_takes_spectrum_or_photometry_alone(challenge: ChallengeConfig) -> None:
    coadd = challenge.output / "mocks" / "coadd-mock-bright-0.fits"
    spectrum = read_observations(coadd, options=ReadOptions(bands=()))[0].observation
    photometry = read_observations(coadd, options=ReadOptions(cameras=()))[0].observation
    assert spectrum is not None
    assert spectrum.photometry is None
    assert photometry is not None
    assert photometry.spectra == ()


def test_truth_table(challenge: ChallengeConfig) -> None:
    truth = load_truth(challenge.output)
    galaxies = MockMaker(challenge.mock).galaxies
    expected = true_properties(galaxies.select(np.asarray(truth["GALAXY_ID"])))
    for name, column in TRUTH_COLUMNS.items():
        np.testing.assert_allclose(truth[column], expected[name])
    assert np.all(truth["MAG_R"] < 20.2)
    assert np.all((truth["F_FIBER"] > 0) & (truth["F_FIBER"] < 0.8))
    with pytest.raises(DataFileError, match="no such file"):
        read_truth(challenge.output / "nothing.fits")


def test_stopped_run_goes_on_to_the_same_files(challenge: ChallengeConfig, tmp_path: Path) -> None:
    again = challenge.model_copy(update={"output": tmp_path / "again"})
    make_mocks(again)
    victim = again.output / "mocks" / "truth-1.fits"
    victim.unlink()
    (again.output / "mocks" / "coadd-mock-bright-1.fits").write_bytes(b"half a file")
    make_mocks(again)
    for path in sorted((challenge.output / "mocks").iterdir()):
        assert (again.output / "mocks" / path.name).read_bytes() == path.read_bytes(), path.name


def test_directory_of_another_challenge_is_refused(challenge: ChallengeConfig) -> None:
    other = challenge.model_copy(update={"seed": 99})
    with pytest.raises(ConfigError, match="another configuration"):
        make_mocks(other)


# ---- fits and scores -------------------------------------------------------------------------------------------------


def fixture_posterior(row: dict, rng: np.random.Generator, n: int = 300) -> Posterior:
    """Posterior off the truth by `BIAS` and as wide as it should be: a fixture to score, no fit."""

    def draws(name: str) -> np.ndarray:
        truth = float(row[TRUTH_COLUMNS[name]])
        centre = (truth if np.isfinite(truth) else -4.0) + BIAS[name] + rng.normal(0, WIDTH)
        return centre + rng.normal(0, WIDTH, n)

    samples = put(np.full((n, N_THETA), 0.5), logmstar=draws("logmstar"))
    derived = {p.name: draws(p.name) if p.name in BIAS else np.zeros(n) for p in PROPERTIES}
    return Posterior(
        int(row["TARGETID"]),
        float(row["Z"]),
        Status.CONVERGED,
        samples=samples,
        log_prob=np.zeros(n),
        derived=derived,
        best_fit=samples[0],
        best_fit_derived={k: float(v[0]) for k, v in derived.items()},
    )


def test_scores_find_the_bias_that_was_put_in(challenge: ChallengeConfig, tmp_path: Path) -> None:
    config = challenge.model_copy(update={"output": tmp_path / "scored", "modes": ("both", "photometry")})
    make_mocks(config)
    rng = np.random.default_rng(0)
    jobs = list(pending(config))
    assert [(j.mode, j.chunk) for j in jobs] == [(m, c) for c in range(3) for m in ("both", "photometry")]
    for job in jobs[:5]:
        truth = read_truth(config.output / "mocks" / f"truth-{job.chunk}.fits")
        posteriors = [fixture_posterior(dict(zip(truth.colnames, r, strict=True)), rng) for r in truth]
        if job.chunk == 0:
            posteriors[0] = Posterior(posteriors[0].targetid, 0.1, Status.TIMED_OUT, "fixture")
        job.shard.parent.mkdir(parents=True, exist_ok=True)
        write_posteriors(job.shard, posteriors, n_samples=None, encoding="float32", attrs={"mode": job.mode})
    assert [(j.mode, j.chunk) for j in pending(config)] == [("photometry", 2)]
    scored = collect(config.output, "both")
    assert len(scored) == 4
    assert scored.n_failed == 1
    assert len(collect(config.output, "photometry")) == 3
    table = summary_table({"both": scored})
    for row in table:
        if row["property"] != "log_sfr_1gyr":
            assert row["median_delta"] == pytest.approx(BIAS[row["property"]], abs=4 * WIDTH / np.sqrt(4))
    summary, written = write_report(config, min_count=1)
    assert len(summary) == 8
    assert {p.name for p in written} >= {"summary.ecsv", "accuracy.ecsv", "sample.png", "truth.png", "accuracy.png"}
    assert all(p.stat().st_size > 0 for p in written)
    moved = config.output / "fits" / "photometry" / "chunk-9.h5"
    moved.write_bytes((config.output / "fits" / "both" / "chunk-0.h5").read_bytes())
    with pytest.raises(DataFileError, match="mode 'both'"):
        load_posteriors(config.output, "photometry")


def test_induced_priors_and_division_by_them(challenge: ChallengeConfig, tmp_path: Path) -> None:
    priors = induced_priors(challenge.fit, n=20_000)
    assert set(priors) == set(TRUTH_COLUMNS)
    # log M itself has a flat prior over [7, 12.5]; the age cannot exceed the universe's
    np.testing.assert_allclose(priors["logmstar"](np.linspace(7.5, 12.0, 20)), -np.log(5.5), atol=0.25)
    assert priors["t_age_mw"](13.0) < priors["t_age_mw"](6.0) - 2
    config = challenge.model_copy(update={"output": tmp_path / "divided", "modes": ("both",)})
    make_mocks(config)
    rng = np.random.default_rng(1)
    for job in pending(config):
        truth = read_truth(config.output / "mocks" / f"truth-{job.chunk}.fits")
        rows = [dict(zip(truth.colnames, r, strict=True)) for r in truth]
        job.shard.parent.mkdir(parents=True, exist_ok=True)
        write_posteriors(job.shard, [fixture_posterior(r, rng) for r in rows], attrs={"mode": job.mode})
    _, written = write_report(config, divide_by_prior=True, min_count=1)
    assert {p.name for p in written} >= {"accuracy_prior_divided.ecsv", "accuracy_prior_divided.png"}


@pytest.mark.slow
def test_small_challenge_end_to_end(tmp_path: Path) -> None:
    """A real fit of photometry through the real sampler, then of another piece when called again."""
    text = 'output = "c"\nmodes = ["photometry"]\nchunk = 1\n[mock]\nn = 2\n[fit]\nn_samples = 200\n'
    text += '[fit.sampler]\nname = "emcee"\nmax_eval = 1500\ntime_limit_s = 5\n'
    path = tmp_path / "challenge.toml"
    path.write_text(text)
    config = load_challenge(path)
    assert run_challenge(config, limit=1) == 1
    assert len(collect(config.output, "photometry")) == 1
    assert run_challenge(config) == 1
    assert run_challenge(config) == 0
    scored = collect(config.output, "photometry")
    assert len(scored) + scored.n_failed == 2
    assert np.all(np.isfinite(scored.draws["logmstar"]).any(axis=1))


# ---- command line ----------------------------------------------------------------------------------------------------


def test_template_is_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    result = CliRunner().invoke(mock_app, ["init", str(path)])
    assert result.exit_code == 0
    config = load_challenge(path)
    assert config.modes == MODES
    assert config.output == tmp_path / "challenge"
    assert path.read_text() == TEMPLATE
    assert isinstance(CliRunner().invoke(mock_app, ["init", str(path)]).exception, InputError)


def test_make_command(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('output = "o"\nchunk = 1\n[mock]\nn = 1\n')
    result = CliRunner().invoke(mock_app, ["make", str(path)])
    assert result.exit_code == 0, result.output
    assert "1 mock galaxies" in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output = 'o'\nmods = []\n", "mods"),
        ("output = 'o'\n[mock.conditions]\neffective_s = -1\n", r"\[mock\] conditions\.effective_s = -1"),
        ("output = ", "not a TOML file"),
        ("", "output"),
    ],
)
def test_bad_configurations(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_challenge(path)


def test_missing_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mock init"):
        load_challenge(tmp_path / "none.toml")
