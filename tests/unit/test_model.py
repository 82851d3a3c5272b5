"""The SPS model: its linearities, its limits, and derived properties against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from provabgs.core.jax import jax, jnp
from provabgs.inference.likelihood import fit_parameters
from provabgs.sps.derived import DERIVED, derived_properties, history_curves
from provabgs.sps.histories import NMFHistories
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel
from tests.support.parameters import column, put, stars_of
from tests.support.small_library import draws, small_library, theta

T_AGE = 11.0


@pytest.fixture(scope="module")
def model() -> SPSModel:
    return SPSModel(small_library())


@pytest.fixture(scope="module")
def true_model(library: SSPLibrary) -> SPSModel:
    return SPSModel(library)


def spectrum(model: SPSModel, parameters: np.ndarray, t_age=T_AGE) -> np.ndarray:
    return np.asarray(model.spectrum(jnp.asarray(stars_of(parameters)), model.tables(t_age)))


def derived(model: SPSModel, parameters: np.ndarray, t_age=T_AGE) -> dict[str, np.ndarray]:
    values = derived_properties(model, jnp.asarray(stars_of(parameters)), model.tables(t_age))
    return {name: np.asarray(value) for name, value in values.items()}


# ---- spectra -------------------------------------------------------------------------------------------------------


def test_a_batch_is_its_entries_one_by_one(model):
    parameters = draws(12, np.random.default_rng(0))
    one_by_one = np.concatenate([spectrum(model, row[None]) for row in parameters])
    np.testing.assert_allclose(spectrum(model, parameters), one_by_one, rtol=2e-6)


def test_linear_in_mass(model):
    light = spectrum(model, np.concatenate([theta(logmstar=9.0), theta(logmstar=11.0)]))
    np.testing.assert_allclose(light[1], 100 * light[0], rtol=1e-12)


def test_linear_in_the_burst_fraction(model):
    rows = [theta(fburst=f, tburst=0.3, tau_bc=1.0, tau_ism=0.5) for f in (0.0, 0.25, 1.0)]
    smooth, mixed, burst = spectrum(model, np.concatenate(rows))
    np.testing.assert_allclose(mixed, 0.75 * smooth + 0.25 * burst, rtol=2e-6)


@pytest.mark.parametrize("node", [0, 5, 10, 16])
def test_burst_on_a_node_is_that_ssp(model, node):
    """Gammas so large that Z is at its upper clip, beyond the library's last metallicity."""
    age = float(model.library.age_gyr[node])
    light = spectrum(model, theta(fburst=1.0, tburst=age, gamma1=10.0, gamma2=10.0, logmstar=0.0))[0]
    np.testing.assert_allclose(light, model.library.spectrum[-1, node], rtol=1e-6)


def test_burst_between_nodes_is_linear_in_log_age_and_log_z(model):
    library = model.library
    age, gamma = 0.5, 2e-3
    z = np.clip(gamma * model.histories.bases.metallicity_bases(library.age_gyr).sum(axis=0), 4.49e-5, 4.49e-2)
    logz = np.log10(z / 0.0190)  # PROVABGS's solar value, whatever the library's
    at_z = np.array(
        [
            [np.interp(logz[j], library.logzsol, library.spectrum[:, j, k]) for k in range(library.wave.size)]
            for j in range(library.log_age.size)
        ]
    )
    expected = [np.interp(np.log10(age) + 9, library.log_age, at_z[:, k]) for k in range(library.wave.size)]
    light = spectrum(model, theta(fburst=1.0, tburst=age, gamma1=gamma, gamma2=gamma, logmstar=0.0))[0]
    np.testing.assert_allclose(light, expected, rtol=3e-6)


def test_burst_older_than_the_galaxy_gives_no_light(model):
    assert np.all(spectrum(model, theta(fburst=1.0, tburst=T_AGE + 0.01)) == 0)
    half = spectrum(model, theta(fburst=0.5, tburst=T_AGE + 0.01))
    np.testing.assert_allclose(half, 0.5 * spectrum(model, theta()), rtol=1e-6)
    assert np.all(spectrum(model, theta(fburst=1.0, tburst=T_AGE - 0.01)) > 0)


def test_birth_clouds_dim_young_nodes_only(model):
    """Up to 100 Myr everything, beyond the next node nothing, a ramp in log age between."""
    cloud = np.exp(-1.5 * (model.library.wave / 5500) ** -0.7)
    for tburst, share in ((0.03, 1.0), (0.1, 1.0), (10**-0.75, 0.0), (2.0, 0.0)):
        clear, dim = (spectrum(model, theta(fburst=1.0, tburst=tburst, tau_bc=tau))[0] for tau in (0.0, 1.5))
        np.testing.assert_allclose(dim / clear, share * cloud + 1 - share, rtol=1e-5)
    clear, dim = (spectrum(model, theta(fburst=1.0, tburst=10**-0.9, tau_bc=tau))[0] for tau in (0.0, 1.5))
    assert np.all(dim / clear > cloud)
    assert np.all(dim / clear < 1)


def test_ism_dust_dims_all_ages_alike(model):
    ratios = []
    for tburst in (0.01, 5.0):
        clear, dim = (
            spectrum(model, theta(fburst=1.0, tburst=tburst, tau_ism=tau, n_dust=-0.7))[0] for tau in (0.0, 1.0)
        )
        ratios.append(dim / clear)
    np.testing.assert_allclose(ratios[0], ratios[1], rtol=1e-5)
    at_v = np.argmin(np.abs(model.library.wave - 5500))
    assert ratios[0][at_v] == pytest.approx(np.exp(-1.0014), abs=1e-3)


def test_f_fiber_does_not_enter_the_rest_frame(model):
    """It belongs to the observation: a fit has it, after all that the model has."""
    assert "f_fiber" not in model.parameters
    assert fit_parameters(model).names == (*model.parameters.names, "f_fiber")


def test_what_a_model_keeps_is_of_no_compilation():
    """A first call inside a compiled function leaves no tracers for later ones, in another function or in none."""
    fresh, parameters = SPSModel(small_library()), jnp.asarray(stars_of(theta(tau_ism=0.5)))
    tables = fresh.tables(T_AGE)
    first = jax.jit(lambda t: fresh.spectrum(t, tables))(parameters)
    np.testing.assert_allclose(jax.jit(lambda t: 2 * fresh.spectrum(t, tables))(parameters), 2 * first, rtol=1e-6)
    np.testing.assert_allclose(fresh.spectrum(parameters, tables), first, rtol=1e-6)


def test_one_table_per_batch_entry(model):
    parameters = draws(5, np.random.default_rng(1))
    t_age = np.array([8.0, 9.0, 10.0, 12.0, 13.5])
    apart = np.concatenate([spectrum(model, row[None], t) for row, t in zip(parameters, t_age, strict=True)])
    np.testing.assert_allclose(spectrum(model, parameters, t_age), apart, rtol=2e-6)
    together = derived(model, parameters, t_age)
    for name in (p.name for p in DERIVED):
        each = [derived(model, row[None], t)[name][0] for row, t in zip(parameters, t_age, strict=True)]
        np.testing.assert_allclose(together[name], each, rtol=1e-10)


def test_published_conventions():
    model = SPSModel.published(small_library())
    assert model.library.log_age[model.young_nodes][-1] == 7.0
    cloud = np.exp(-1.5 * (model.library.wave / 5500) ** -1.0)
    clear, dim = (spectrum(model, theta(fburst=1.0, tburst=0.01, tau_bc=tau))[0] for tau in (0.0, 1.5))
    np.testing.assert_allclose(dim / clear, cloud, rtol=1e-5)


def test_exact_and_published_binning_agree_to_their_coarseness(true_model):
    """The 42 bins are 0.1 dex wide: a per cent or two of light, neither zero nor large."""
    exact = spectrum(true_model, theta())
    binned = spectrum(SPSModel(true_model.library, NMFHistories(binning="published")), theta())
    difference = np.abs(binned / exact - 1).max()
    assert 1e-4 < difference < 0.05


# ---- derived properties --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t_age", [7.8, 13.6])
def test_derived_properties_by_integrating_the_curves(true_model, t_age):
    """SFR, age and metallicity from SFH(t) and ZH(t) on a fine grid, burst drawn as a top hat."""
    rng = np.random.default_rng(2)
    parameters = draws(6, rng)
    put(parameters, tburst=[0.06, 0.3, 0.9, 2.0, 5.0, 7.0])
    put(parameters, fburst=rng.uniform(0.05, 0.6, 6))
    dt = 2e-5
    t = np.arange(dt / 2, t_age, dt)
    # narrow enough that all of it is on one side of 0.1 and 1 Gyr, and that Z hardly changes across it
    values = true_model.parameters.values(stars_of(parameters))
    sfr, z = true_model.histories.curves(values, t_age, t, burst_width_gyr=0.02)
    mass = 10 ** column(parameters, "logmstar")[:, None] * sfr * dt * 1e9
    total = mass.sum(axis=1)
    np.testing.assert_allclose(total, 10 ** column(parameters, "logmstar"), rtol=2e-3)
    got = derived(true_model, parameters, t_age)
    np.testing.assert_allclose(10 ** got["log_sfr_100myr"], mass[:, t < 0.1].sum(axis=1) / 1e8, rtol=4e-3)
    np.testing.assert_allclose(10 ** got["log_sfr_1gyr"], mass[:, t < 1.0].sum(axis=1) / 1e9, rtol=4e-3)
    np.testing.assert_allclose(got["t_age_mw"], (mass * t).sum(axis=1) / total, rtol=2e-3)
    # Z is taken at the age nodes, 0.05 dex apart: not the same as the continuous average, but near it
    np.testing.assert_allclose(got["log_z_mw"], np.log10((mass * z).sum(axis=1) / total), atol=5e-3)


def test_history_curves_are_of_the_mass_that_theta_holds(model):
    parameters, t = stars_of(draws(4, np.random.default_rng(5))), np.linspace(0.01, 12.0, 50)
    sfr, z = history_curves(model, parameters, T_AGE, t)
    per_mass, same_z = model.histories.curves(model.parameters.values(parameters), T_AGE, t)
    np.testing.assert_array_equal(sfr, 10 ** column(parameters, "logmstar")[:, None] * per_mass)
    np.testing.assert_array_equal(z, same_z)


def test_surviving_mass_by_hand(model):
    """Surviving fractions of the small library fall linearly in log age and do not depend on Z."""
    at_1gyr = 1 - 0.1 * 3.5
    got = derived(model, theta(fburst=1.0, tburst=1.0))["logmstar_surviving"][0]
    assert got == pytest.approx(10 + np.log10(at_1gyr), abs=1e-6)


def test_surviving_mass_is_below_the_formed_mass(true_model):
    parameters = draws(300, np.random.default_rng(3))
    got = derived(true_model, parameters)
    ratio = got["logmstar_surviving"] - column(parameters, "logmstar")
    happened = column(parameters, "tburst") <= T_AGE
    assert np.all(ratio < 0)
    # Chabrier: 55-60 % of the mass survives at old ages, and nothing brings it below half
    assert np.all(ratio[happened] > np.log10(0.5))


def test_burst_older_than_the_galaxy_enters_no_average(model):
    with_burst = derived(model, theta(fburst=0.4, tburst=T_AGE + 1.0))
    without = derived(model, theta())
    for name in ("t_age_mw", "log_z_mw"):
        np.testing.assert_allclose(with_burst[name], without[name], rtol=1e-12)
    for name in ("log_sfr_1gyr", "logmstar_surviving"):
        np.testing.assert_allclose(with_burst[name], without[name] + np.log10(0.6), rtol=1e-12)


def test_burst_counts_in_the_sfr_of_its_time(model):
    """A burst of half the mass 0.5 Gyr ago: in SFR_1Gyr, not in SFR_100Myr."""
    quiet = derived(model, theta())
    burst = derived(model, theta(fburst=0.5, tburst=0.5))
    np.testing.assert_allclose(burst["log_sfr_100myr"], quiet["log_sfr_100myr"] + np.log10(0.5), rtol=1e-10)
    expected = 0.5 * 10 ** quiet["log_sfr_1gyr"] + 0.5 * 1e10 / 1e9
    np.testing.assert_allclose(10 ** burst["log_sfr_1gyr"], expected, rtol=1e-10)
