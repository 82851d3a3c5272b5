"""Parameter vectors of a wrong length are refused wherever theta enters: JAX would read a wrong column in silence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.inference.compressed import CompressedLikelihood
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.target import derived_columns
from provabgs.observe.observation import Observation, Photometry
from provabgs.observe.projection import project
from provabgs.sps.derived import derived_properties, history_curves
from provabgs.sps.model import SPSModel
from tests.support.parameters import N_THETA, STARS, stars_of
from tests.support.small_library import draws, small_library

T_AGE = 11.0
MODEL = SPSModel(small_library())
TABLES = MODEL.tables(T_AGE)
OF_STARS: dict[str, Callable[[np.ndarray], object]] = {
    "spectrum": lambda theta: MODEL.spectrum(jnp.asarray(theta), TABLES),
    "compiled spectrum": lambda theta: jax.jit(MODEL.spectrum)(jnp.asarray(theta), TABLES, MODEL.flat_spectra),
    "unattenuated": lambda theta: MODEL.unattenuated(jnp.asarray(theta), TABLES),
    "derived_properties": lambda theta: derived_properties(MODEL, jnp.asarray(theta), TABLES),
    "derived_columns": lambda theta: derived_columns(MODEL, theta, TABLES),
    "history_curves": lambda theta: history_curves(MODEL, theta, T_AGE, np.array([0.1, 1.0])),
}


def exact() -> ExactLikelihood:
    galaxy = Observation(0.2, (), Photometry(("decam2014-r", "decam2014-z"), np.full(2, 9.0), np.full(2, 1.0)))
    return ExactLikelihood(project(galaxy, MODEL.library), MODEL)


def equations(theta: np.ndarray) -> object:
    system = CompressedLikelihood(exact().projection, MODEL).linear_system
    return system.equations(jnp.asarray(theta), system.data)


OF_THE_FIT: dict[str, Callable[[np.ndarray], object]] = {
    "exact": lambda theta: exact()(jnp.asarray(theta)),
    "exact.predict": lambda theta: exact().predict(theta),
    "exact.chi2": lambda theta: exact().chi2(theta),
    "compressed": lambda theta: CompressedLikelihood(exact().projection, MODEL)(jnp.asarray(theta)),
    "compressed.with_reference": lambda theta: CompressedLikelihood(exact().projection, MODEL).with_reference(theta),
    "compressed.linear_system": equations,
}


@pytest.mark.parametrize("size", [0, 1, STARS.size - 1, N_THETA, N_THETA + 2])
@pytest.mark.parametrize("door", OF_STARS)
def test_the_model_takes_its_own_parameters(door: str, size: int) -> None:
    """f_fiber, the thirteenth of a fit, is not one of them."""
    with pytest.raises(
        InputError,
        match=rf"shape \(2, {size}\), expected \(\.\.\., 12\) for the parameters logmstar, beta1, .*, n_dust(\n|$)",
    ):
        OF_STARS[door](np.full((2, size), 0.3))


@pytest.mark.parametrize("size", [0, 1, STARS.size, N_THETA + 1])
@pytest.mark.parametrize("door", OF_THE_FIT)
def test_likelihoods_take_the_parameters_of_the_fit(door: str, size: int) -> None:
    with pytest.raises(
        InputError,
        match=rf"shape \(2, {size}\), expected \(\.\.\., 13\) for the parameters logmstar, .*, n_dust, f_fiber(\n|$)",
    ):
        OF_THE_FIT[door](np.full((2, size), 0.3))


def test_the_right_length_is_taken() -> None:
    theta = draws(2, np.random.default_rng(0))
    for door, take in (OF_STARS | OF_THE_FIT).items():
        assert take(stars_of(theta) if door in OF_STARS else theta) is not None, door
