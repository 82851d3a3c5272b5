"""From catalogs to populations: priors divided out, calibrated, faults seen, bad input refused by name."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from provabgs.catalog import write_posteriors
from provabgs.catalog.configuration import shared_config
from provabgs.cli.population import population_app
from provabgs.core.errors import ConfigError, DataFileError, InputError
from provabgs.inference.config import FitConfig
from provabgs.population.density.importance import sample_streamed
from provabgs.population.density.infer import infer_population, make_density
from provabgs.population.density.models import GaussianDensity
from provabgs.population.density.nuts import SamplingOptions
from provabgs.population.density.posterior import PopulationWarning, judge
from provabgs.population.density.reading import FlatPrior, open_population
from provabgs.population.density.streamed import StreamedLikelihood
from provabgs.population.prior.density_table import tabulate, tabulate_joint
from provabgs.population.prior.draws import draw_properties
from provabgs.population.prior.induced import InducedPrior, PriorCoordinates
from provabgs.population.sources import fitted_source, open_source
from provabgs.population.weights import combine_weights, likelihood_weights
from tests.support.dask_likelihood import DaskLikelihood
from tests.support.density_calibration import Calibration, Survey, check
from tests.support.made_up_catalog import made_up_posteriors, write_made_up_catalog

FAST = SamplingOptions(n_chain=2, n_warmup=150, n_draw=250, n_start=8)
MEAN, SIGMA = -11.8, 0.4


@pytest.fixture(scope="module")
def posteriors() -> list:
    rng = np.random.default_rng(0)
    truth = rng.normal(MEAN, SIGMA, 120)  # 1.5 dex below where the prior has its bulk
    return made_up_posteriors(truth, "LOGSSFR_1GYR", 0.4, rng)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory, posteriors: list) -> Path:
    root = tmp_path_factory.mktemp("population") / "catalog"
    write_made_up_catalog(root, posteriors)
    return root


@pytest.fixture(scope="module")
def prior() -> InducedPrior:
    return InducedPrior.build(("LOGSSFR_1GYR",), FitConfig(), z_range=(0.2, 0.2), n=100_000)


# ---- priors ----------------------------------------------------------------------------------------------------------


def test_tables_are_the_density() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, 200_000)
    table = tabulate(x)
    at = np.linspace(-2.5, 2.5, 41)
    np.testing.assert_allclose(table(at), -0.5 * at**2 - 0.5 * np.log(2 * np.pi), atol=0.12)
    assert table(np.array([-50.0])) == table(np.array([table.x[0]]))
    y = 0.8 * x + 0.6 * rng.standard_normal(x.size)
    joint = tabulate_joint(x, y)
    a, b = at[::8], 0.8 * at[::8] + 0.3
    expected = -0.5 * a**2 - 0.5 * ((b - 0.8 * a) / 0.6) ** 2 - np.log(2 * np.pi * 0.6)
    # in the outermost slices x varies more than in all others: compare where the bulk is
    np.testing.assert_allclose(joint(a, b)[1:-1], expected[1:-1], atol=0.25)
    with pytest.raises(InputError, match="finite, different draws"):
        tabulate(np.zeros(10_000))


def test_induced_prior_is_that_of_independent_draws(prior: InducedPrior) -> None:
    """Histogram of other prior draws against the table, joint with mass through the flat-mass symmetry too."""
    drawn = draw_properties(FitConfig(), 0.2, 100_000, np.random.default_rng(9))
    x = drawn["LOGSSFR_1GYR"]
    density, edges = np.histogram(x, np.linspace(-12.5, -9.5, 11), density=True)
    density *= np.mean((x > -12.5) & (x < -9.5))
    got = np.exp(prior.log_density(0.5 * (edges[1:] + edges[:-1])[None, :, None], [0.2])[0])
    np.testing.assert_allclose(got, density, rtol=0.12)
    joint = replace(prior, names=("LOGMSTAR", "LOGSFR_1GYR"))
    value = np.array([[[10.0, -1.5]]])
    single = prior.log_density(np.array([[[-11.5]]]), [0.2])
    assert joint.log_density(value, [0.2]) == pytest.approx(single - np.log(5.5))
    assert np.isnan(prior.log_density(np.array([[[np.nan]]]), [0.2])).all()
    assert prior.outside(np.array([[[-30.0], [-10.5]]]), [0.2]).tolist() == [[True, False]]


def test_prior_refusals(prior: InducedPrior) -> None:
    with pytest.raises(InputError, match=r"'LOGMASS' among the samples"):
        InducedPrior.build(("LOGMASS",), n=2000)
    with pytest.raises(InputError, match="three are possible only with a mass"):
        PriorCoordinates(("LOGZ_MW", "T_AGE_MW", "LOGSFR_1GYR"))
    with pytest.raises(InputError, match="expected"):
        prior.log_density(np.zeros((2, 3)), [0.2, 0.2])
    with pytest.raises(InputError, match="0 < low <= high"):
        InducedPrior.build(("LOGZ_MW",), z_range=(-1.0, 0.2), n=2000)


def test_whose_prior_it_was() -> None:
    mine, other = FitConfig(), FitConfig(prior_bounds={"logmstar": (8.0, 12.0)})
    texts = [c.model_dump_json() for c in (mine, mine.model_copy(update={"use": "spectrum"}), other)]
    assert shared_config(texts[:2]) == mine  # which data were fitted does not change the prior
    with pytest.raises(ConfigError, match=r"different priors are mixed \(prior_bounds"):
        shared_config(texts)
    with pytest.raises(ConfigError, match="another prior than claimed"):
        shared_config(texts[:1], other)
    with pytest.raises(ConfigError, match="is unknown"):
        shared_config(['{"fit": "dry-run"}'])
    with pytest.raises(ConfigError, match="does not say"):
        shared_config([])
    assert shared_config([], other) == other


# ---- reading ---------------------------------------------------------------------------------------------------------


def test_who_enters_is_said(catalog: Path) -> None:
    source, rows = fitted_source(open_source(catalog))
    assert (rows.n_rows, rows.excluded, rows.n_used) == (122, {"without samples": 1, "not converged": 1}, 120)
    assert "120 of 122 galaxies used; left out: 1 without samples, 1 not converged" in rows.sentence()
    assert fitted_source(open_source(catalog), include_not_converged=True)[1].n_used == 121
    with pytest.raises(InputError, match="catalog: no galaxy of 120 is left; left out: 120 not converged"):
        fitted_source(replace(source, columns={**source.columns, "STATUS": np.ones(120)}))
    with pytest.raises(InputError, match="no galaxy is chosen by 'Z > 3'"):
        open_source(catalog, "Z > 3")
    with pytest.raises(DataFileError, match="no catalog here"):
        open_source(catalog.parent)


def test_weights(catalog: Path) -> None:
    data = open_population(catalog, ["LOGSSFR_1GYR"], prior=FlatPrior(), weights=["W_ZFAIL"])
    assert data.weight.sum() == pytest.approx(120)
    assert likelihood_weights(np.where(np.arange(120) < 60, 3.0, 1.0)).sum() == pytest.approx(240**2 / (60 * 10))
    with pytest.raises(InputError, match="catalog: column W_FIBASSIGN holds no usable weight"):
        open_population(catalog, ["LOGSSFR_1GYR"], prior=FlatPrior(), weights=["W_FIBASSIGN"])
    for bad in (np.nan, 0.0, -1.0):
        weight = np.ones(120)
        weight[7] = bad
        with pytest.raises(InputError, match=r"W_ZFAIL of TARGETID 12 is .*1 of 120"):
            combine_weights({"W_ZFAIL": weight}, 120, "raise", 5 + np.arange(120))


def test_chunks_hold_every_galaxy_once(catalog: Path, prior: InducedPrior) -> None:
    data = open_population(catalog, ["LOGSSFR_1GYR"], prior=prior)
    whole = data.load()
    assert whole.theta.shape == (120, 200, 1)
    small = replace(data, size=50)
    chunks = list(small.chunks())
    assert [c.theta.shape[0] for c in chunks] == [50, 50, 50]
    kept = np.concatenate([np.asarray(c.theta)[np.asarray(c.weight) > 0] for c in chunks])
    np.testing.assert_array_equal(kept, whole.theta)
    expected = -prior.log_density(np.asarray(whole.theta, dtype=np.float64), np.full(120, 0.2)) - np.log(200)
    np.testing.assert_allclose(whole.log_weight, expected, atol=1e-4)
    with pytest.raises(ConfigError, match="the prior is of"):
        open_population(catalog, ["LOGZ_MW"], prior=prior)
    with pytest.raises(InputError, match="LOGSFR_1GYR"):
        open_population(catalog, ["LOGSFR_1GY"], prior=prior)


def test_a_challenge_is_read_by_mode(tmp_path: Path, posteriors: list) -> None:
    for k in range(2):
        path = tmp_path / "fits" / "both" / f"chunk-{k}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_posteriors(path, posteriors[10 * k : 10 * k + 10], n_samples=50 + k)
    source = open_source(tmp_path)
    assert len(source) == 20
    data = open_population(tmp_path, ["LOGZ_MW"], prior=FlatPrior())
    assert data.load().theta.shape == (20, 51, 1)  # files may keep different numbers of draws
    with pytest.raises(DataFileError, match="no fits here; the challenge holds both"):
        open_source(tmp_path, mode="photometry")


# ---- inference -------------------------------------------------------------------------------------------------------


def test_population_is_recovered_and_the_prior_matters(catalog: Path, prior: InducedPrior) -> None:
    """The injected population comes back with the induced prior divided out, not without: the biased fixture."""
    found = {}
    for name, chosen in (("divided", prior), ("kept", FlatPrior())):
        data = open_population(catalog, ["LOGSSFR_1GYR"], prior=chosen)
        found[name] = infer_population(
            data, "gaussian", limits=[(-14.0, -9.0)], rng=np.random.default_rng(1),
            options=SamplingOptions(n_draw=300, n_start=8),
        )  # fmt: skip
    mean = {k: v.parameters()["mean"][:, 0] for k, v in found.items()}
    sigma = found["divided"].parameters()["sigma"][:, 0]
    assert abs(mean["divided"].mean() - MEAN) < 3 * mean["divided"].std() + 0.02
    assert abs(sigma.mean() - SIGMA) < 3 * sigma.std()
    assert mean["kept"].mean() - MEAN > 5 * mean["kept"].std()
    assert found["divided"].meta["excluded"]["without samples"] == 1
    assert found["divided"].warnings == ()
    assert found["divided"].convergence.rhat_max < 1.02
    assert found["divided"].n_effective.shape == (120,)
    q = found["divided"].quantiles([MEAN, MEAN + 3])
    assert q.shape == (3, 2)
    assert q[0, 0] < 1 / np.sqrt(2 * np.pi) / SIGMA < q[2, 0] * 1.2


def test_importance_sampling_and_a_cluster_agree(catalog: Path, prior: InducedPrior) -> None:
    from distributed import Client

    data = open_population(catalog, ["LOGSSFR_1GYR"], prior=prior)
    density = GaussianDensity((-11.5,), (2.5,))
    streamed = StreamedLikelihood(density, replace(data, size=50).chunks)
    found = sample_streamed(streamed, np.random.default_rng(2))
    assert found.method == "importance"
    assert found.efficiency > 0.5
    mean = found.parameters()["mean"][:, 0]
    assert abs(mean.mean() - MEAN) < 3 * mean.std() + 0.02
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dask's own, about ports and event loops
        with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
            spread = DaskLikelihood.spread(client, data, density)
            eta = np.array([-0.1, -1.5])
            assert spread.value_and_grad(eta)[0] == pytest.approx(streamed.value_and_grad(eta)[0], rel=1e-5)
            np.testing.assert_allclose(spread.values(eta[None]), streamed.values(eta[None]), rtol=1e-5)
            np.testing.assert_allclose(spread.hessian(eta), streamed.hessian(eta), rtol=1e-3, atol=0.1)
            assert spread.effective_draws(eta).shape == (120,)
            assert spread.first_part().weight.shape == (120,)


def test_warnings_and_limits(catalog: Path, prior: InducedPrior) -> None:
    data = open_population(catalog, ["LOGSSFR_1GYR"], prior=prior)
    with pytest.raises(InputError, match="2 limits for 1 properties"):
        infer_population(data, "gaussian", limits=[(0, 1), (0, 1)], rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="no galaxy has a draw between"):
        infer_population(data, "histogram", limits=[(5, 6)], rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="choose one of gaussian"):
        make_density("flow", [(0, 1)])  # type: ignore[arg-type]
    with pytest.warns(PopulationWarning, match="reweighting breaks down: 10 of 20 galaxies"):
        sentences = judge(np.array([1.0, 50.0] * 10))
    assert len(sentences) == 1
    assert judge(np.full(10, 50.0)) == ()


# ---- calibration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["none", "posteriors too narrow"])
def test_calibrated_and_faults_seen(fault: str) -> None:
    """The full study is studies/population_coverage.py; this is the same with 20 surveys."""
    found = check(
        GaussianDensity((0.0,), (1.5,)), Survey(n_galaxy=60, n_draw=128, noise=0.5), 20, 3, fault=fault, options=FAST  # type: ignore[arg-type]
    )  # fmt: skip
    assert found.rank.shape == (20, 7)
    assert found.passes() == (fault == "none")


def test_the_verdict_itself() -> None:
    rng = np.random.default_rng(0)
    good = Calibration(("a", "b"), rng.uniform(size=(200, 2)), np.ones(200, dtype=bool))
    assert good.passes()
    assert good.error(0.68) == pytest.approx(0.033, abs=1e-3)
    assert not Calibration(("a",), 0.5 + 0.5 * (rng.uniform(size=(200, 1)) - 0.5), good.converged).passes()
    assert not Calibration(("a",), rng.uniform(size=(200, 1)) ** 2, good.converged).passes()
    with pytest.raises(InputError, match="fault"):
        check(GaussianDensity((0.0,), (1.0,)), Survey(), 1, 0, fault="hubris")  # type: ignore[arg-type]


# ---- command ---------------------------------------------------------------------------------------------------------


def test_command(catalog: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        population_app,
        ["density", str(catalog), "-p", "LOGSSFR_1GYR", "-d", "gaussian", "--keep-prior", "--range", "-14,-9",
         "--draws", "300", "-o", str(tmp_path)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "120 of 122 galaxies used" in result.output
    stem = tmp_path / "logssfr_1gyr-gaussian-prior-kept"
    assert all(stem.with_suffix(s).stat().st_size > 1000 for s in (".h5", ".ecsv", ".png"))
    for command in ("density", "prior", "correct"):
        assert "provabgs population" in CliRunner().invoke(population_app, [command, "--help"]).output
