"""Options of dust emission: values, free parameters, wavelengths beyond the library, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError, DataFileError
from provabgs.core.jax import jax, jnp
from provabgs.inference.backends import load_model
from provabgs.inference.compressed import CompressedLikelihood
from provabgs.inference.config import ModelOptions
from provabgs.inference.likelihood import ExactLikelihood, fit_parameters
from provabgs.observe.observation import Observation
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from provabgs.sps.dust_emission import DustEmission
from provabgs.sps.dust_grid import DustGrid
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel
from tests.support.engine_mocks import mock, near
from tests.support.parameters import prior_of, stars_of
from tests.support.small_library import theta

T_AGE, REDSHIFT, SNR = 11.0, 0.08, 20.0


def spectrum(model: SPSModel, **values: float) -> FloatArray:
    """Of one galaxy, Lsun/Angstrom."""
    own = {k: v for k, v in values.items() if k.startswith("duste_")}
    star = stars_of(theta(**{k: v for k, v in values.items() if k not in own}))
    more = [[own[p.name] for p in model.parameters if p.name in own]]
    return np.asarray(model.spectrum(jnp.asarray(np.append(star, more, axis=1)), model.tables(T_AGE)), float)[0]


def test_missing_and_short_tables_are_named(tmp_path: Path, library: SSPLibrary) -> None:
    options = {"dust": {"grid": str(tmp_path / "absent.h5")}}
    with pytest.raises(DataFileError, match=r"absent\.h5: no such file"):
        load_model(ModelOptions(emissions=("dust",), emission_options=options))
    grid = DustGrid.default()
    short = replace(grid, wave=grid.wave[:100], shape=grid.shape[..., :100])
    with pytest.raises(ConfigError, match=r"tables end at \d+ A, the SSP library at 599\d\d A"):
        SPSModel(library, emissions=(DustEmission(grid=short),))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"umin": 30.0}, r"emission_options\.dust: umin = 30 of dust emission is outside 0\.1\.\.25"),
        ({"qpah": 0.1}, "qpah = 0.1 of dust emission is outside"),
        ({"gamma": -0.1}, "gamma = -0.1 of dust emission is outside"),
        ({"free": ["u"]}, "'u' is no parameter of dust emission; use qpah, umin, gamma"),
        ({"longest_um": 1e5}, r"longest_um = 100000 is beyond the dust tables' \d+"),
        ({"colour": 1}, "unexpected keyword argument 'colour'"),
    ],
)
def test_wrong_options_are_named(options: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_model(ModelOptions(emissions=("dust",), emission_options={"dust": options}))


def test_options_of_an_emission_that_is_not_used_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"emission_options\.dust: model\.emissions does not name it"):
        load_model(ModelOptions(emission_options={"dust": {"umin": 2.0}}))


def test_gradients_are_finite(library: SSPLibrary) -> None:
    model = SPSModel(library, emissions=(DustEmission(free=("qpah", "gamma")),))
    star = np.append(stars_of(theta(tau_ism=0.5, tau_bc=0.5, fburst=0.1)), [[3.0, 0.02]], axis=1)
    tables = model.tables(T_AGE)

    def light(x: jax.Array) -> jax.Array:
        return jnp.log(model.spectrum(x, tables)[0, -60:]).sum()

    slope = np.asarray(jax.grad(light)(jnp.asarray(star)))[0]
    assert np.all(np.isfinite(slope))
    for name in ("tau_ism", "tau_bc", "duste_qpah", "duste_gamma"):
        assert slope[model.parameters.index(name)] > 0, name


def test_free_parameters_give_what_fixed_ones_give(library: SSPLibrary) -> None:
    free = SPSModel(library, emissions=(DustEmission(free=("qpah", "umin", "gamma")),))
    assert free.parameters.names[-3:] == ("duste_qpah", "duste_umin", "duste_gamma")
    dust = {"tau_ism": 1.0, "n_dust": -0.4}
    for qpah, umin, gamma in ((3.5, 1.0, 0.01), (0.6, 6.1, 0.2)):
        fixed = SPSModel(library, emissions=(DustEmission(umin, gamma, qpah),))
        ours = spectrum(free, duste_qpah=qpah, duste_umin=umin, duste_gamma=gamma, **dust)
        np.testing.assert_allclose(ours, spectrum(fixed, **dust), rtol=1e-4)


def test_wavelengths_up_to_30_um_give_w3_and_w4_a_model(library: SSPLibrary) -> None:
    far = DustEmission(longest_um=30.0)
    model, near_only = SPSModel(library, emissions=(far,)), SPSModel(library, emissions=(DustEmission(),))
    assert 2.9e5 < model.library.wave[-1] <= 3e5
    dust = {"tau_ism": 1.0}
    ours, inside = spectrum(model, **dust), slice(0, library.wave.size)
    np.testing.assert_allclose(ours[inside], spectrum(near_only, **dust)[inside], rtol=2e-3)
    pah, gap = (ours[np.argmin(np.abs(model.library.wave - w))] * w for w in (7.7e4, 5.5e4))
    assert pah > 3 * gap  # the 7.7 um feature


def truth_of(model: SPSModel) -> FloatArray:
    """A dusty star-forming galaxy, whose W2 is a third dust."""
    values = {"logmstar": 10.2, "beta1": 0.5, "beta2": 0.2, "beta3": 0.2, "beta4": 0.1, "fburst": 0.02, "tburst": 0.6}
    values |= {"gamma1": 2e-3, "gamma2": 4e-3, "tau_bc": 0.8, "tau_ism": 0.9, "n_dust": -0.3, "f_fiber": 0.5}
    free = {p.name: 2.0 for p in model.parameters if p.name == "duste_qpah"}
    return fit_parameters(model).theta(values | free)


def galaxy_of(model: SPSModel) -> Observation:
    return mock(model, truth_of(model), REDSHIFT, SNR, np.random.default_rng(3))


def test_compressed_equals_exact(library: SSPLibrary) -> None:
    model = SPSModel(library, emissions=(DustEmission(free=("qpah",)),))
    galaxy = galaxy_of(model)
    projection = project(galaxy, model.library, ObservingOptions(line_mask="none"))
    exact, compressed = ExactLikelihood(projection, model), CompressedLikelihood(projection, model)
    prior = prior_of(galaxy, fit_parameters(model))
    points = np.asarray(near(exact, truth_of(model), prior, np.random.default_rng(1), n=32))
    of_exact = -0.5 * np.asarray(sum(exact.chi2(points)))
    assert np.ptp(of_exact) > 15
    off = np.asarray(compressed(jnp.asarray(points))) - of_exact
    assert np.std(off) < 0.1
    assert np.abs(off).max() < 0.3
