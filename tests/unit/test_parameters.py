"""ParameterSet: names and positions, what it says of a wrong name or shape, the unit cube's layout, and JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from provabgs.core.errors import ConfigError, InputError
from provabgs.core.jax import jax, jnp
from provabgs.inference.likelihood import fit_parameters
from provabgs.inference.standard import PARAMETERS, label
from provabgs.sps.histories.nmf import TOTAL_MASS
from provabgs.sps.model import SPSModel
from provabgs.sps.nebular import GAS
from provabgs.sps.parameters import Parameter, ParameterSet
from tests.support.parameters import STARS
from tests.support.small_library import small_library

PUBLISHED = (
    "logmstar", "beta1", "beta2", "beta3", "beta4", "fburst", "tburst", "gamma1", "gamma2", "tau_bc", "tau_ism",
    "n_dust", "f_fiber",
)  # fmt: skip


def fraction(i: int) -> Parameter:
    return Parameter(f"f{i}", f"F{i}", f"f_{i}", "", f"fraction {i}", "flat-dirichlet", (0.0, 1.0), "linear")


def simplex(n: int) -> ParameterSet:
    """Total mass, the n fractions of one simplex, and one parameter more."""
    tau = Parameter("tau", "TAU", r"\tau", "", "an optical depth", "uniform", (0.0, 3.0), "dust")
    return ParameterSet((TOTAL_MASS, *(fraction(i) for i in range(1, n + 1)), tau))


# ---- names and positions -------------------------------------------------------------------------------------------


def test_the_default_fit_has_the_published_parameters_in_order() -> None:
    model = SPSModel(small_library())
    assert PARAMETERS.names == PUBLISHED
    assert model.parameters.names == STARS.names == PUBLISHED[:-1]
    assert fit_parameters(model) == PARAMETERS
    assert fit_parameters(model) is fit_parameters(model)  # compiled functions are cached by it
    assert PARAMETERS.columns[:2] == ("LOGMSTAR_FORMED", "BETA1")
    assert PARAMETERS.size == len(PARAMETERS) == 13
    assert [p.name for p in PARAMETERS] == list(PUBLISHED)
    assert "gamma1" in PARAMETERS
    assert "log_u" not in PARAMETERS


def test_a_parameter_by_name() -> None:
    assert PARAMETERS["n_dust"].bounds == (-2.0, 1.0)
    assert PARAMETERS.index("tau_ism") == 10
    np.testing.assert_array_equal(PARAMETERS.indices(("f_fiber", "beta2")), [12, 2])
    assert [p.name for p in PARAMETERS.of_role("dust", "nuisance")] == ["tau_bc", "tau_ism", "n_dust", "f_fiber"]
    assert PARAMETERS["tburst"].label == r"$t_{\rm burst}$ [Gyr]"
    assert label("logmstar") == r"$\log_{10} M_{\rm formed}/M_\odot$"


@pytest.mark.parametrize(("wrong", "meant"), [("logmass", "logmstar"), ("tau_sim", "tau_ism"), ("gama1", "gamma1")])
def test_an_unknown_name_is_answered_with_the_closest(wrong: str, meant: str) -> None:
    asked = [
        lambda: PARAMETERS[wrong],
        lambda: PARAMETERS.index(wrong),
        lambda: PARAMETERS.indices((wrong,)),
        lambda: PARAMETERS.get(np.zeros(13), wrong),
        lambda: PARAMETERS.theta({wrong: 1.0}, default=0.0),
    ]
    for ask in asked:
        with pytest.raises(ConfigError, match=rf"no parameter {wrong!r}; did you mean {meant!r}\? known: logmstar, "):
            ask()


def test_a_name_like_no_other_is_answered_with_all() -> None:
    with pytest.raises(ConfigError, match=r"no parameter 'zzz'; known: logmstar, beta1, .*, f_fiber$"):
        PARAMETERS.index("zzz")
    with pytest.raises(ConfigError, match="no parameter or derived property 'log_sfr_1gry'; did you mean 'log_sfr_1gy"):
        label("log_sfr_1gry")


@pytest.mark.parametrize(("change", "what"), [({"column": "OTHER"}, "name 'tau_ism'"), ({"name": "x"}, "column 'TAU")])
def test_two_parameters_of_one_name_or_column_are_refused(change: dict, what: str) -> None:
    twice = replace(PARAMETERS["tau_ism"], **change)
    with pytest.raises(ConfigError, match=f"two parameters of this model have the {what}.*rename one"):
        PARAMETERS.extended(twice)


@pytest.mark.parametrize(
    ("prior", "bounds", "says"),
    [
        ("uniform", (1.0, 1.0), "must increase"),
        ("uniform", (2.0, 1.0), "must increase"),
        ("uniform", (0.0, float("nan")), "must increase"),
        ("log-uniform", (0.0, 1.0), "> 0 in a log prior"),
        ("uniform", (0.0, float("inf")), "must be finite"),
    ],
)
def test_impossible_bounds_of_a_parameter_are_refused(prior: str, bounds: tuple, says: str) -> None:
    with pytest.raises(ConfigError, match=f"parameter 'x': .*{says}"):
        Parameter("x", "X", "x", "", "a test", prior, bounds)  # type: ignore[arg-type]


def test_sets_of_equal_parameters_are_equal_and_hash_alike() -> None:
    again = ParameterSet(tuple(PARAMETERS))
    assert again == PARAMETERS
    assert hash(again) == hash(PARAMETERS)
    assert again != STARS
    assert PARAMETERS.with_bounds({"tau_bc": (0.0, 1.0)}) != PARAMETERS


# ---- theta ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(12,), (4, 14), (13, 4), (), (0,)])
def test_a_wrong_last_axis_is_refused_and_the_parameters_named(shape: tuple) -> None:
    with pytest.raises(InputError) as error:
        PARAMETERS.check(np.zeros(shape), "draws")
    expected = f"draws has shape {shape}, expected (..., 13) for the parameters {', '.join(PUBLISHED)}"
    assert str(error.value) == expected
    for read in (PARAMETERS.values, lambda t: PARAMETERS.get(t, "tau_bc"), lambda t: PARAMETERS.select(t, STARS)):
        with pytest.raises(InputError, match=r"expected \(\.\.\., 13\)"):
            read(np.zeros(shape))


def test_a_wrong_last_axis_is_refused_while_compiling() -> None:
    """Shapes are known under jit; JAX itself would read the last column in place of one that is not there."""
    read = jax.jit(lambda theta: PARAMETERS.get(theta, "f_fiber"))
    assert float(read(jnp.arange(13.0))) == 12.0
    with pytest.raises(InputError, match="f_fiber"):
        read(jnp.arange(12.0))


def test_values_theta_and_back() -> None:
    theta = np.random.default_rng(0).random((5, 3, 13))
    values = PARAMETERS.values(theta)
    assert tuple(values) == PUBLISHED
    assert values["gamma2"].shape == (5, 3)
    np.testing.assert_array_equal(PARAMETERS.theta(values), theta)
    np.testing.assert_array_equal(PARAMETERS.get(theta, "gamma2"), theta[..., 8])


def test_theta_of_numbers_and_arrays() -> None:
    theta = PARAMETERS.theta({"logmstar": [9.0, 10.0], "beta1": 1.0}, default=0.5)
    assert theta.shape == (2, 13)
    np.testing.assert_array_equal(theta[:, 0], [9.0, 10.0])
    np.testing.assert_array_equal(theta[:, 1], 1.0)
    np.testing.assert_array_equal(theta[:, 2:], 0.5)
    with pytest.raises(ConfigError, match="no value for parameter 'beta1'; this model has logmstar"):
        PARAMETERS.theta({"logmstar": 9.0})


def test_a_part_is_selected_by_name_in_its_own_order() -> None:
    theta = np.arange(26.0).reshape(2, 13)
    np.testing.assert_array_equal(PARAMETERS.select(theta, STARS), theta[:, :12])
    reversed_part = ParameterSet((PARAMETERS["f_fiber"], PARAMETERS["tau_bc"], PARAMETERS["logmstar"]))
    np.testing.assert_array_equal(PARAMETERS.select(theta, reversed_part), theta[:, [12, 9, 0]])
    np.testing.assert_array_equal(jax.jit(lambda t: PARAMETERS.select(t, reversed_part))(theta), theta[:, [12, 9, 0]])
    with_gas = STARS.extended(*GAS, PARAMETERS["f_fiber"])
    wide = np.arange(15.0)
    np.testing.assert_array_equal(with_gas.select(wide, PARAMETERS), [*range(12), 14])
    with pytest.raises(ConfigError, match="no parameter 'log_u'"):
        PARAMETERS.select(theta, with_gas)


# ---- the unit cube -------------------------------------------------------------------------------------------------


def test_coordinates_of_the_default_fit() -> None:
    assert PARAMETERS.coordinates == (
        "logmstar", "x_beta1", "x_beta2", "x_beta3", "fburst", "tburst", "gamma1", "gamma2", "tau_bc", "tau_ism",
        "n_dust", "f_fiber",
    )  # fmt: skip
    np.testing.assert_array_equal(PARAMETERS.linear_coordinates, [0, 1, 2, 3])
    np.testing.assert_array_equal(PARAMETERS.nonlinear_coordinates, np.arange(4, 12))
    assert PARAMETERS.groups[:3] == ((0,), (1, 2, 3, 4), (5,))


@pytest.mark.parametrize("n", [1, 2, 8])
def test_a_simplex_has_one_coordinate_fewer_than_fractions(n: int) -> None:
    parameters = simplex(n)
    assert parameters.coordinates == ("logmstar", *(f"x_f{i}" for i in range(1, n)), "tau")
    np.testing.assert_array_equal(parameters.linear_coordinates, np.arange(n))
    np.testing.assert_array_equal(parameters.nonlinear_coordinates, [n])
    assert parameters.groups == ((0,), tuple(range(1, n + 1)), (n + 1,))


def test_a_set_without_linear_parameters() -> None:
    dust = ParameterSet(PARAMETERS.of_role("dust"))
    assert dust.coordinates == dust.names
    assert dust.linear_coordinates.size == 0
    np.testing.assert_array_equal(dust.nonlinear_coordinates, [0, 1, 2])
    nothing = ParameterSet()
    assert (nothing.size, nothing.coordinates, nothing.nonlinear_coordinates.size) == (0, (), 0)


# ---- bounds --------------------------------------------------------------------------------------------------------


def test_bounds_of_those_named_and_of_no_other() -> None:
    narrow = PARAMETERS.with_bounds({"tau_ism": (0, 1), "gamma1": (1e-3, 1e-2)})
    assert narrow["tau_ism"] == replace(PARAMETERS["tau_ism"], bounds=(0.0, 1.0))
    assert narrow["gamma1"].bounds == (1e-3, 1e-2)
    for name in set(PUBLISHED) - {"tau_ism", "gamma1"}:
        assert narrow[name] == PARAMETERS[name]
    assert narrow.with_bounds({"tau_ism": (0.0, 5.0)})["tau_ism"].bounds == (0.0, 5.0)  # no edge is hard by itself


@pytest.mark.parametrize(
    ("name", "edges", "says"),
    [
        ("beta1", (0.0, 0.5), r"no such prior with edges"),
        ("f_fiber", (0.0, 0.5), r"no such prior with edges"),
        ("tau_imsm", (0.0, 0.5), r"no such prior with edges; did you mean 'tau_ism'\? known: logmstar, fburst"),
        ("tau_ism", (1.0, 0.5), r"\(1.0, 0.5\) must be finite and increasing"),
        ("tau_ism", (0.5, 0.5), "must be finite and increasing"),
        ("tau_ism", (0.0, float("nan")), "must be finite and increasing"),
        ("gamma1", (0.0, 0.01), "must be finite and increasing"),
        ("log_u", (-5.0, -2.0), r"\(-5.0, -2.0\) reach beyond the tables' \(-4.0, -1.0\)"),
        ("log_u", (-2.0, -0.9), "reach beyond the tables'"),
    ],
)
def test_bounds_that_cannot_be_are_refused(name: str, edges: tuple[float, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        PARAMETERS.extended(*GAS).with_bounds({name: edges})
    assert str(error.value).startswith(f"prior_bounds.{name}: ")


def test_bounds_within_a_table_are_taken() -> None:
    assert ParameterSet(GAS).with_bounds({"log_u": (-4.0, -3.0)})["log_u"].bounds == (-4.0, -3.0)


# ---- text ----------------------------------------------------------------------------------------------------------


def test_json_round_trip() -> None:
    everything = PARAMETERS.extended(*GAS)
    text = everything.to_json()
    assert "Infinity" not in text  # f_fiber has no upper edge: JSON has no infinity
    assert ParameterSet.from_json(text) == everything
    assert ParameterSet.from_json(text).to_json() == text
    assert json.loads(text)[12]["bounds"] == [0.0, None]
