"""Age bins: their masses, moments and curves against direct integration, their priors, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from scipy import stats

from provabgs.core.errors import ConfigError, UnusableTargetError
from provabgs.core.jax import jnp
from provabgs.core.status import Status
from provabgs.inference.backends import load_model
from provabgs.inference.config import ModelOptions
from provabgs.inference.prior_draws import draw_prior
from provabgs.inference.priors import Prior, latent_from_unit, log_prior, theta_from_latent, unit_from_theta
from provabgs.sps.derived import derived_properties, history_curves
from provabgs.sps.histories import BinHistories, NMFHistories
from provabgs.sps.histories.bin_priors import Continuity, Dirichlet, Stochastic, log_ratios, shares_of_ratios
from provabgs.sps.histories.bins import BinEdges, masses_on_nodes
from provabgs.sps.model import SPSModel

NODE_AGE = 10.0 ** (np.arange(5.0, 10.31, 0.05) - 9)
T_AGE = 11.0
KINDS: dict[str, dict[str, Any]] = {
    "dirichlet": {"prior": "dirichlet"},
    "continuity": {"prior": "continuity"},
    "stochastic": {"prior": "stochastic", "burst": True},
    "enriching": {"prior": "continuity", "metallicity": "enriching"},
    "flat-enriching": {"prior": "dirichlet", "metallicity": "enriching", "z_prior": "linear"},
    "binned-z": {"prior": "dirichlet", "metallicity": "bins"},
    "bases-z": {"prior": "continuity", "metallicity": "nmf"},
}


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest) -> SPSModel:
    return SPSModel(histories=BinHistories(8, **KINDS[request.param]))


def draws(model: SPSModel, n: int = 5) -> np.ndarray:
    theta = draw_prior(Prior.of(model.parameters), n, np.random.default_rng(3))
    if "tburst" in model.parameters:
        theta[:, model.parameters.index("tburst")] = np.linspace(0.02, 9.0, n)
        theta[:, model.parameters.index("fburst")] = 0.0
    return theta


def test_default_edges_end_at_the_age_of_the_universe() -> None:
    edges = BinEdges(10).at(T_AGE)
    assert edges.shape == (11,)
    np.testing.assert_allclose(edges[:3], [0.0, 0.03, 0.1])
    np.testing.assert_allclose(edges[-2:], [0.85 * T_AGE, T_AGE])
    np.testing.assert_allclose(np.diff(np.log(edges[2:-1])), np.log(0.85 * T_AGE / 0.1) / 7)
    together = BinEdges(edges_gyr := 9, None).at(np.array([6.0, 13.0]))
    assert together.shape == (2, edges_gyr + 1)
    np.testing.assert_allclose(together[1], BinEdges(9).at(13.0))


def test_masses_on_nodes_are_those_of_a_fine_sum() -> None:
    edges = BinEdges(8).at(T_AGE)
    mass = masses_on_nodes(edges[:-1], edges[1:], NODE_AGE)
    np.testing.assert_allclose(mass.sum(axis=1), 1.0, rtol=1e-12)
    for i in range(8):
        t = edges[i] + (np.arange(400_000) + 0.5) / 400_000 * (edges[i + 1] - edges[i])
        place = np.interp(np.log(t), np.log(NODE_AGE), np.arange(NODE_AGE.size))
        low = np.minimum(place.astype(int), NODE_AGE.size - 2)
        direct = np.bincount(low, low + 1 - place, NODE_AGE.size) + np.bincount(low + 1, place - low, NODE_AGE.size)
        np.testing.assert_allclose(mass[i], direct / t.size, atol=2e-6)


def test_properties_follow_from_the_curves(model: SPSModel) -> None:
    """Mass formed, mean age, SFR and metallicity, by direct integration of what `history_curves` draws."""
    theta = draws(model)
    derived = {k: np.asarray(v) for k, v in derived_properties(model, jnp.asarray(theta), model.tables(T_AGE)).items()}
    edge = np.unique(np.concatenate([[0.0], np.geomspace(1e-4, T_AGE, 6000), [0.1, 1.0], BinEdges(8).at(T_AGE)]))
    t, dt = 0.5 * (edge[1:] + edge[:-1]), np.diff(edge)
    sfr, z = history_curves(model, theta, T_AGE, t)
    mass, formed = sfr * dt * 1e9, 10.0 ** theta[:, 0]
    np.testing.assert_allclose(mass.sum(axis=1), formed, rtol=1e-6)
    np.testing.assert_allclose((mass @ t) / formed, derived["t_age_mw"], rtol=1e-5)
    for name, span in (("log_sfr_100myr", 0.1), ("log_sfr_1gyr", 1.0)):
        np.testing.assert_allclose(np.log10(mass[:, t < span].sum(axis=1) / (span * 1e9)), derived[name], atol=1e-5)
    # Z is that at the nodes, 0.05 dex apart in age: the published bases bend more than that within the oldest
    bent = "gamma1" in model.parameters
    mean_z = np.log10((mass * z).sum(axis=1) / formed)
    np.testing.assert_allclose(mean_z, derived["log_z_mw"], atol=0.1 if bent else 0.01)
    surviving = 10 ** derived["logmstar_surviving"] / formed
    assert np.all((surviving > 0.5) & (surviving < 1.0))


def test_masses_are_linear_where_spectra_are(model: SPSModel) -> None:
    theta = jnp.asarray(draws(model))
    values, tables = model.parameters.values(theta), model.tables(T_AGE)
    masses = model.histories.component_masses(values, tables, model.nodes)
    whole = model.histories.node_masses(values, tables, model.nodes)
    block = model.linear_block
    assert masses.shape[1] == block.n
    share = jnp.stack([values[n] for n in block.fractions], 1) if block.fractions else jnp.ones((len(theta), 1))
    np.testing.assert_allclose(jnp.einsum("bi,bij->bj", share, masses), whole, rtol=1e-9, atol=1e-12)
    assert bool(block.fractions) == (isinstance(model.histories, BinHistories) and model.histories.stars.fractions != ()
                                     and not model.histories.metals.follows_masses)  # fmt: skip


def test_enrichment_runs_from_the_floor_to_the_metallicity_of_today() -> None:
    histories = BinHistories(8, metallicity="enriching")
    values = {f"fbin{i + 1}": jnp.array([0.125]) for i in range(8)}
    values |= {"logmstar": jnp.array([10.0]), "metallicity": jnp.array([0.02]), "z_rise": jnp.array([0.7])}
    _, z = histories.curves(values, T_AGE, np.array([1e-4, 3.0, T_AGE - 1e-3]))
    np.testing.assert_allclose(z[0, 0], 0.02, rtol=2e-3)
    np.testing.assert_allclose(z[0, -1], 0.02 * 10**-0.7, rtol=0.03)
    edges = BinEdges(8).at(T_AGE)
    older = 1 - np.interp(3.0, edges, np.arange(9) / 8)
    np.testing.assert_allclose(z[0, 1], 0.02 * (10**-0.7 + (1 - 10**-0.7) * older), rtol=2e-3)


@pytest.mark.parametrize("prior", [Dirichlet(5), Continuity(5), Stochastic(5), Dirichlet(5, (0.8, 1, 2, 1, 1))])
def test_densities_of_ratios_are_normalised(prior: Any) -> None:
    """The mean of one density over another, over draws of the other, is 1."""
    edges, rng = BinEdges(5).at(T_AGE), np.random.default_rng(1)
    wide = 1.5 * np.sqrt(np.diagonal(prior.covariance(edges))) if isinstance(prior, Stochastic) else np.full(4, 1.5)
    ratios = wide * rng.standard_t(3, (400_000, 4))
    share = np.asarray(shares_of_ratios(jnp.asarray(ratios), jnp.asarray(np.diff(edges))))
    np.testing.assert_allclose(log_ratios(share[:50], edges), ratios[:50], atol=1e-6)
    log_drawn = (stats.t.logpdf(ratios / wide, 3) - np.log(wide)).sum(axis=1)
    weight = np.exp(prior.log_density(share, edges) - log_drawn)
    assert weight.mean() == pytest.approx(1.0, abs=5 * weight.std() / np.sqrt(len(weight)))
    assert weight.std() / np.sqrt(len(weight)) < 0.05


@pytest.mark.parametrize("kind", ["continuity", "stochastic"])
def test_sampled_ratios_have_the_density_of_their_prior(kind: str) -> None:
    """Latent coordinates to theta and back, and the scatter of the ratios that come out."""
    model = SPSModel(histories=BinHistories(6, prior=kind))
    prior = Prior.of(model.parameters)
    theta = draw_prior(prior, 40_000, np.random.default_rng(2))
    back = theta_from_latent(latent_from_unit(unit_from_theta(jnp.asarray(theta), prior)), prior)
    np.testing.assert_allclose(back, theta, rtol=1e-6, atol=1e-8)
    assert np.all(np.isfinite(np.asarray(log_prior(jnp.asarray(theta[:100]), prior))))
    histories, tables = model.histories, model.tables(T_AGE)
    assert isinstance(histories, BinHistories)
    values = {k: jnp.asarray(v) for k, v in model.parameters.values(theta).items()}
    edges = histories.bins.edges.at(T_AGE)
    ratios = log_ratios(np.asarray(histories.bins.shares(values, tables)), edges)
    if kind == "continuity":
        np.testing.assert_allclose(ratios[:, 0], theta[:, 1], atol=1e-6)
        quartile = np.quantile(ratios, [0.25, 0.75], axis=0)  # of a t distribution of 2 degrees: 0.8165
        np.testing.assert_allclose(quartile, 0.3 * np.array([[-0.8165], [0.8165]]) * np.ones(5), rtol=0.05)
    else:
        assert isinstance(histories.bins.prior, Stochastic)
        np.testing.assert_allclose(np.cov(ratios.T), histories.bins.prior.covariance(edges), atol=0.01)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"edges_gyr": [0.1, 0.03, 1.0]}, r"edges_gyr = \[0.1, 0.03, 1.0\] must increase from above 0; sort them"),
        ({"edges_gyr": [0.0, 1.0]}, "must increase from above 0"),
        ({"edges_gyr": []}, r"edges_gyr = \[\] makes 1 bins"),
        ({"n_bins": 1}, r"n_bins = 1 must be 4 to 30.*give edges_gyr"),
        ({"prior": "continuty"}, r"prior = 'continuty': no such prior; did you mean 'continuity'"),
        ({"prior": "continuity", "prior_options": {"nu": 3}}, r"prior_options of prior = 'continuity': .*'nu'"),
        ({"prior": "continuity", "prior_options": {"sigma_dex": 0}}, r"sigma_dex = 0 must be above 0"),
        ({"prior": "stochastic", "prior_options": {"tau_in": -1}}, r"tau_in = -1 must be above 0"),
        ({"prior_options": {"concentration": 0.2}}, r"concentration 0.2 is below 0.6"),
        ({"prior_options": {"concentration": [1.0, 2.0]}}, r"2 concentrations for 10 bins"),
        ({"prior_options": {"concentration": 2.0}, "metallicity": "enriching"}, "goes with a flat prior"),
        ({"metallicity": "enrichin"}, r"metallicity = 'enrichin'; did you mean 'enriching'"),
        ({"metallicity": "bins", "z_options": {"edges_gyr": [3.0, 1.0]}}, r"z_options.edges_gyr = \[3.0, 1.0\] must"),
        ({"metallicity": "bins", "z_options": {"step_dex": 0.0}}, r"step_dex = 0.0 must be above 0"),
        ({"metallicity": "constant", "z_options": {"floor": 1}}, r"z_options of metallicity = 'constant': .*'floor'"),
        ({"z_prior": "flat"}, r"z_prior = 'flat'; use 'log' or 'linear'"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_model(ModelOptions(history="bins", history_options=options))


def test_edges_beyond_the_age_of_the_universe_are_a_status() -> None:
    model = load_model(ModelOptions(history="bins", history_options={"edges_gyr": [0.1, 1.0, 9.0]}))
    with pytest.raises(UnusableTargetError, match=re.escape("last inner edge, 9 Gyr, lies beyond")) as err:
        model.tables(8.7)
    assert err.value.status == Status.REDSHIFT_OUT_OF_RANGE
    assert model.tables(9.5).mass.shape[-2] == 4


def test_the_published_histories_take_other_metallicities() -> None:
    histories = NMFHistories(metallicity="enriching")
    names = [p.name for p in histories.parameters]
    assert names == ["logmstar", "beta1", "beta2", "beta3", "beta4", "fburst", "tburst", "metallicity", "z_rise"]
    assert histories.linear_block.n == 1
    assert not histories.is_published
    assert NMFHistories().is_published
    constant = NMFHistories(metallicity="constant")
    assert constant.linear_block.n == 4
