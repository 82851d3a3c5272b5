"""From a catalog to a survey's galaxies and the command's output; rows left out are counted by reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from astropy.table import Table
from typer.testing import CliRunner

from provabgs.catalog import Catalog, write_catalog
from provabgs.cli.mass_function import add_mass_function
from provabgs.core.errors import InputError
from provabgs.core.jax import jnp
from provabgs.core.status import Status
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.observe.cosmology import Cosmology
from provabgs.population.survey.columns import with_survey_columns
from provabgs.population.survey.draws import thin_draws
from provabgs.population.survey.sample import survey_sample
from provabgs.population.survey.selection import BGSFaint, MagnitudeLimit, bgs_bright
from provabgs.population.survey.tracks import MagnitudeTracks
from provabgs.population.survey.volume import SurveyVolume
from provabgs.sps.derived import derived_properties
from provabgs.sps.model import SPSModel
from tests.support.parameters import stars_of
from tests.support.small_library import small_library, theta

N = 60
SURVEY = SurveyVolume(50.0, 0.02, 0.3)
LIMIT = MagnitudeLimit("decam2014-r", 19.5)


@pytest.fixture(scope="module")
def model() -> SPSModel:
    return SPSModel(small_library())


def make(model: SPSModel) -> list[Posterior]:
    """Galaxies of 10^9.5-11 Msun at z = 0.04-0.25, with a width of 0.1 dex; measured r from the model of their mean."""
    rng = np.random.default_rng(8)
    tracks = MagnitudeTracks(model, LIMIT.bands, SURVEY.redshift_grid())
    out = []
    for i in range(N):
        z, mass = float(rng.uniform(0.04, 0.25)), rng.uniform(9.5, 11.0)
        samples = np.repeat(theta(logmstar=mass, tau_ism=0.2), 24, axis=0)
        samples[:, 0] += 0.1 * rng.standard_normal(24)
        tables = model.tables(Cosmology().age_gyr(z))
        derived = derived_properties(model, jnp.asarray(stars_of(samples)), tables)
        magnitude = tracks.magnitudes(stars_of(samples[None, :1]), [z])[0, 0, :, 0]
        r = float(np.interp(np.log(z), np.log(tracks.redshift), magnitude))
        meta = {"MAG_R": r, "FIBMAG_R": r + 1.0, "PHOTSYS": "S", "W_ZFAIL": 1.1, "W_FIBASSIGN": 1.5, "Z_MAX": 0.25}
        out.append(
            Posterior(
                targetid=100 + i,
                redshift=z,
                status=Status.CONVERGED,
                samples=samples,
                log_prob=np.zeros(24),
                derived={k: np.asarray(v) for k, v in derived.items()},
                best_fit=samples[0],
                ra=180 + 2 * rng.random(),
                dec=2 * rng.random(),
                meta=meta,
                config=FitConfig().model_dump_json(),
            )
        )
    out[0] = Posterior(100, 0.1, Status.TIMED_OUT, "too slow", ra=181.0, dec=1.0, config=out[1].config)
    out[1] = replace(out[1], status=Status.NOT_CONVERGED)
    out[2] = replace(out[2], redshift=0.5)
    out[3] = replace(out[3], meta=out[3].meta | {"W_ZFAIL": 0.0})
    out[4] = replace(out[4], meta=out[4].meta | {"W_FIBASSIGN": -1.0})
    out[5] = replace(out[5], meta=out[5].meta | {"MAG_R": 21.0})
    return out


@pytest.fixture(scope="module")
def root(model: SPSModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("survey")
    write_catalog(path, make(model), n_samples=None, encoding="float32", allow_mixed=True)
    return path


def test_every_row_is_used_or_counted(root: Path, model: SPSModel) -> None:
    with Catalog.open(root) as catalog:
        sample = survey_sample(catalog, LIMIT, SURVEY, ("logmstar_surviving", "log_sfr_1gyr"), model)
    assert sample.n_input == N
    assert len(sample) + sum(sample.excluded.values()) == N
    assert sample.excluded["without samples"] == 1
    assert sample.excluded["not converged"] == 1
    assert sample.excluded["outside z = 0.02-0.3"] == 1
    assert sample.excluded["with a bad W_ZFAIL"] == 1
    assert sample.excluded["with a bad W_FIBASSIGN"] == 1
    assert sample.excluded["outside the selection"] >= 1  # r = 21, and the faint ones
    assert 105 not in sample.targetid
    np.testing.assert_allclose(sample.weight, 1.65, rtol=1e-6)
    assert set(sample.draws) == {"logmstar_surviving", "log_sfr_1gyr"}
    assert sample.draws["log_sfr_1gyr"].shape == (len(sample), 24)
    assert np.all((sample.z_max > sample.redshift - 1e-3) & (sample.z_max <= 0.3 + 1e-9))
    np.testing.assert_allclose(sample.inverse_volume, 1 / SURVEY.within(sample.z_max), rtol=0.02)
    assert "1 not converged" in sample.report


def test_choices_of_rows_and_weights(root: Path, model: SPSModel) -> None:
    with Catalog.open(root) as catalog:
        wide = MagnitudeLimit("decam2014-r", 22.0)
        kept = survey_sample(catalog, wide, SURVEY, model=model, weights=(), include_not_converged=True)
        assert 101 in kept.targetid
        assert np.all(kept.weight == 1)
        with pytest.raises(InputError, match=r"the catalog: W_ZFAIL of TARGETID 103 is 0"):
            survey_sample(catalog, LIMIT, SURVEY, model=model, on_bad_weight="raise")
        with pytest.raises(InputError, match="WEIGHT_COMP"):
            survey_sample(catalog, LIMIT, SURVEY, model=model, weights=("WEIGHT_COMP",))
        extra = Table({"TARGETID": np.arange(100, 150), "WEIGHT_COMP": np.full(50, 3.0)})
        mine = survey_sample(catalog, LIMIT, SURVEY, model=model, weights=("WEIGHT_COMP",), extra=extra)
        assert np.all(mine.weight == 3)
        assert mine.excluded["with a bad WEIGHT_COMP"] == 10  # not in the table
        with pytest.raises(InputError, match=r"no galaxy of 60 is left; left out: .*outside z"):
            survey_sample(catalog, LIMIT, SurveyVolume(50.0, 0.55, 0.6), model=model)
        with pytest.raises(InputError, match="PHOTSYS S"):
            survey_sample(catalog, bgs_bright("N"), SURVEY, model=model)
        with pytest.raises(InputError, match="PHOTSYS S"):
            survey_sample(catalog, BGSFaint("N"), SURVEY, model=model)


def test_stored_z_max(root: Path) -> None:
    with Catalog.open(root) as catalog:
        sample = survey_sample(catalog, LIMIT, SURVEY, stored_z_max=True)
    np.testing.assert_allclose(sample.inverse_volume, 1 / SURVEY.within(0.25), rtol=1e-5)
    assert np.isnan(sample.margin_near).all()


def test_thinning_takes_finite_draws_evenly() -> None:
    draws = np.arange(10.0)[None, :, None].repeat(13, axis=2)
    draws[0, 6:] = np.nan
    assert thin_draws(draws, 3)[0, :, 0].tolist() == [0.0, 2.0, 5.0]
    assert thin_draws(draws, 8)[0, :, 0].max() == 5.0
    assert np.isnan(thin_draws(np.full((1, 4, 13), np.nan), 2)).all()


def test_survey_columns_of_mocks() -> None:
    p = Posterior(1, 0.1, Status.CONVERGED)
    assert with_survey_columns([p], {"MAG_R": [18.5]})[0].meta["MAG_R"] == 18.5
    with pytest.raises(InputError, match="MAG_R has 2 values for 1"):
        with_survey_columns([p], {"MAG_R": [18.5, 19.0]})


@pytest.fixture
def app() -> typer.Typer:
    group = typer.Typer()
    group.callback()(lambda: None)
    add_mass_function(group)
    return group


def test_the_command(root: Path, app: typer.Typer, tmp_path: Path) -> None:
    """Stored z_max, so that the catalog's own (shipped) model need not agree with the test's."""
    common = ["mass-function", str(root), "--area", "50", "--z", "0.02,0.3", "--edges", "9,11.6,0.4", "--stored-z-max"]
    done = CliRunner().invoke(app, [*common, "--selection", "decam2014-r<19.5", "-o", str(tmp_path / "smf.ecsv")])
    assert done.exit_code == 0, done.output
    assert "1 not converged" in done.output
    table = Table.read(tmp_path / "smf.ecsv")
    assert len(table) == 6 or len(table) == 7
    assert np.all(table["PHI_LOW"] <= table["PHI"])
    assert table["PHI"].unit is not None
    assert table.meta["PRIOR"] == "divided out"
    kept = CliRunner().invoke(app, [*common, "--selection", "decam2014-r<19.5", "--keep-prior"])
    assert kept.exit_code == 0, kept.output
    done = CliRunner().invoke(app, [*common, "--jackknife", "2", "-o", str(tmp_path / "smf.png")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "smf.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--z", "0.1"], "--z"),
        (["--edges", "11,9,0.2"], "--edges"),
        (["--mass", "dark"], "surviving or formed"),
        (["-o", "smf.txt"], "unknown kind"),
        (["--selection", "r<19.5"], "filter"),
    ],
)
def test_the_command_names_what_is_wrong(root: Path, app: typer.Typer, options: list[str], why: str) -> None:
    done = CliRunner().invoke(app, ["mass-function", str(root), "--area", "50", *options])
    assert isinstance(done.exception, InputError)
    assert why in str(done.exception)
