"""The emulator's parts: basis, encoding, mixture, weights on file, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from provabgs.core.errors import DataFileError, InputError
from provabgs.core.jax import jax, jnp
from provabgs.emulator.assemble import assemble, burst_table
from provabgs.emulator.basis import fit_basis
from provabgs.emulator.component import ComponentEmulator, conventions_of
from provabgs.emulator.encoding import Encoding, encode
from provabgs.emulator.errors import EmulatorFileError, EmulatorRangeError
from provabgs.emulator.evaluation import composite_errors
from provabgs.emulator.models import ComponentModel
from provabgs.emulator.network import init_network
from provabgs.emulator.published import nmf_inputs
from provabgs.emulator.rest_frame import RestFrameEmulator
from provabgs.emulator.training import TrainingOptions, new_state, refit_last_layer, standardisation, train
from provabgs.emulator.training_spectra import Parts, draw_inputs, smooth_ranges, smooth_spectra
from provabgs.emulator.weights import default_emulator, load_emulator, save_emulator, training_curve
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel
from tests.support.parameters import column, put, stars_of
from tests.support.small_library import BETAS, small_library
from tests.support.small_library import draws as draws_of_fit
from tests.support.small_library import theta as theta_of_fit

T_AGE = (7.5, 13.5)


def theta(**values: float) -> np.ndarray:
    """One parameter vector of the model; see `tests.support.small_library.theta`."""
    return stars_of(theta_of_fit(**values))


def draws(n: int, rng: np.random.Generator) -> np.ndarray:
    """The same for draws."""
    return stars_of(draws_of_fit(n, rng))


N_YOUNG, N_OLD, N_BURST = 5, 10, 16


def outputs(model: SPSModel, bases: tuple, x: np.ndarray) -> np.ndarray:
    parts = Parts.of(model, T_AGE)
    spectra = smooth_spectra(model, parts, x)
    columns = [
        b.project(s[:, i], model.library.wave) for b, s in zip(bases, spectra, strict=True) for i in range(s.shape[1])
    ]
    return np.concatenate(columns, axis=1)


def build(model: SPSModel) -> ComponentEmulator:
    """An emulator whose network is linear in its features alone: solved, not trained. Good to a per cent."""
    rng, ranges, parts = np.random.default_rng(0), smooth_ranges(T_AGE), Parts.of(model, T_AGE)
    x = draw_inputs(600, *ranges, rng)
    young, old = (s.reshape(-1, model.library.wave.size) for s in smooth_spectra(model, parts, x[:150]))
    bases = fit_basis(young, model.library.wave, N_YOUNG), fit_basis(old, model.library.wave, N_OLD)
    y = outputs(model, bases, x)
    shift, scale = standardisation(y)
    encoding = Encoding.of(model, *ranges)
    features = encode(jnp.asarray(x), encoding)
    network = init_network(jax.random.PRNGKey(0), encoding.n_feature, (64,), y.shape[1])
    network = refit_last_layer(network, features, jnp.asarray((y - shift) / scale, jnp.float32))
    burst, burst_basis = burst_table(model, 0.01, N_BURST)
    return assemble(model, parts, (*bases, burst_basis), network, (shift, scale), burst, ranges, {"source": "a test"})


@pytest.fixture(scope="module")
def model() -> SPSModel:
    return SPSModel(small_library())


@pytest.fixture(scope="module")
def emulator(model: SPSModel) -> ComponentEmulator:
    return build(model)


@pytest.fixture
def weights(emulator: ComponentEmulator, tmp_path: Path) -> Path:
    save_emulator(emulator, tmp_path / "weights.h5", np.array([[500.0, 0.1, 0.2]]))
    return tmp_path / "weights.h5"


# ---- what is learnt -----------------------------------------------------------------------------------------------


def test_parts_add_up_to_the_models_unattenuated_light(model: SPSModel) -> None:
    rng = np.random.default_rng(1)
    th, t_age = draws(20, rng), rng.uniform(*T_AGE, 20)
    put(th, fburst=0.0)
    parts, tables = Parts.of(model, T_AGE), model.tables(t_age)
    x = np.column_stack([np.log10(column(th, "gamma1", "gamma2")), t_age])
    betas = column(th, *BETAS)
    exact = model.unattenuated(jnp.asarray(th), tables)
    for k, nodes in enumerate((model.young_nodes, model.old_nodes)):
        mass = betas * tables.mass[..., nodes].sum(axis=-1)
        mine = np.einsum("bi,biw->bw", mass[:, list(parts[k])], smooth_spectra(model, parts, x)[k])
        np.testing.assert_allclose(mine, exact[k], rtol=1e-5, atol=1e-12)


def test_only_bases_with_young_stars_have_a_young_part(model: SPSModel) -> None:
    parts = Parts.of(model, T_AGE)
    assert parts.old == (0, 1, 2, 3)
    assert 0 in parts.young
    assert len(parts.young) < 4


def test_basis_is_exact_with_as_many_components_as_the_spectra_have() -> None:
    rng = np.random.default_rng(2)
    wave = np.linspace(2000.0, 12000.0, 300)
    shapes = np.exp(0.1 * rng.standard_normal((3, 300)).cumsum(axis=1) / 5)
    spectra = rng.uniform(0.2, 1.0, (50, 3)) @ shapes
    exact = fit_basis(spectra[:40], wave, 3)
    np.testing.assert_allclose(exact.reconstruct(exact.project(spectra, wave)), spectra, rtol=1e-6)
    short = fit_basis(spectra[:40], wave, 1)
    assert np.abs(short.reconstruct(short.project(spectra, wave)) / spectra - 1).max() > 1e-3


@pytest.mark.parametrize(
    ("spectra", "message"), [(np.ones((4, 300)), "more than 4 spectra"), (np.zeros((9, 300)), "must be positive")]
)
def test_basis_refuses(spectra: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_basis(spectra, np.linspace(2000.0, 12000.0, 300), 5)


def test_encoding_has_the_models_kinks(model: SPSModel) -> None:
    """Along gamma1 the young spectrum is linear between metallicities: features fit it, a polynomial does not."""
    encoding = Encoding.of(model, *smooth_ranges(T_AGE))
    x = np.column_stack([np.linspace(-4, -2, 400), np.full(400, -4.3), np.full(400, 10.0)])
    features = np.asarray(encode(jnp.asarray(x), encoding), np.float64)
    spectra = smooth_spectra(model, Parts.of(model, T_AGE), x)[0][:, 0]
    solution, *_ = np.linalg.lstsq(features, spectra / spectra.mean(axis=0), rcond=1e-6)
    assert np.abs(features @ solution / (spectra / spectra.mean(axis=0)) - 1).max() < 3e-4
    smooth = np.vander((x[:, 0] + 3), 8)
    solution, *_ = np.linalg.lstsq(smooth, spectra / spectra.mean(axis=0), rcond=None)
    assert np.abs(smooth @ solution / (spectra / spectra.mean(axis=0)) - 1).max() > 1e-3


# ---- the whole ----------------------------------------------------------------------------------------------------


def test_bursts_are_the_models_own(emulator: ComponentEmulator, model: SPSModel) -> None:
    """No network takes part: what is left is the basis's truncation."""
    rng = np.random.default_rng(3)
    th = draws(60, rng)
    put(th, fburst=1.0)
    around = [0.0999, 0.1001, 0.15, 0.12, 13.0, 13.27, 1, 2, 3, 4]
    put(th, tburst=np.concatenate([rng.uniform(0.01, 12.0, 50), around]))
    t_age = np.full(60, 13.2)
    exact = np.asarray(model.spectrum(jnp.asarray(th), model.tables(t_age)))
    mine = np.asarray(emulator.spectrum(jnp.asarray(th), model, t_age))
    happened = column(th, "tburst") <= 13.2
    assert (~happened).sum() == 1
    np.testing.assert_array_equal(mine[~happened], 0.0)
    np.testing.assert_allclose(mine[happened], exact[happened], rtol=3e-3)


def test_composites(emulator: ComponentEmulator, model: SPSModel) -> None:
    rng = np.random.default_rng(4)
    errors = composite_errors(emulator, model, draws(200, rng), rng.uniform(*T_AGE, 200), (2500.0, 11000.0))
    summary = errors.summary()
    assert summary.median < 0.004
    assert summary.p99 < 0.05
    assert summary.median > 1e-7  # it is an emulator: a comparison with itself would be exact
    assert "200 spectra" in summary.describe()


def test_as_a_model_and_in_the_published_form(emulator: ComponentEmulator, model: SPSModel) -> None:
    rng = np.random.default_rng(5)
    th, t_age = draws(30, rng), rng.uniform(*T_AGE, 30)
    as_model = ComponentModel(emulator, model)
    direct = np.asarray(emulator.spectrum(jnp.asarray(th), model, t_age))
    np.testing.assert_allclose(as_model.spectrum(jnp.asarray(th), model.tables(t_age)), direct, rtol=1e-4)
    put(th, fburst=0.0, logmstar=0.0)
    rest = RestFrameEmulator(emulator, model)
    inputs = nmf_inputs(model.parameters.values(jnp.asarray(th)), jnp.asarray(t_age))
    ln = np.asarray(rest.ln_luminosity(inputs))
    np.testing.assert_allclose(ln, np.log(emulator.spectrum(jnp.asarray(th), model, t_age)), atol=2e-4)
    chunk = RestFrameEmulator(emulator, model, chunks=(1, 2))
    assert chunk.wave[0] >= 3600
    assert chunk.wave[-1] < 7410
    inside = np.isin(rest.wave, chunk.wave)
    np.testing.assert_allclose(
        chunk.ln_luminosity(nmf_inputs(model.parameters.values(jnp.asarray(th)), jnp.asarray(t_age))),
        ln[:, inside],
        atol=1e-5,
    )


def test_burst_in_the_published_form(emulator: ComponentEmulator, model: SPSModel) -> None:
    logz = model.library.logzsol[2] + np.log10(model.solar_z)
    ln = RestFrameEmulator(emulator, model).burst_ln_luminosity(jnp.asarray([[0.0, logz, 0.0, 0.0]]))
    node = int(np.argmin(np.abs(model.library.age_gyr - 1.0)))
    np.testing.assert_allclose(np.exp(ln[0]), model.library.spectrum[2, node], rtol=3e-3)


# ---- beyond the range ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "t_age", "message"),
    [
        ({"gamma1": 2e-2}, 10.0, r"row 1: log_gamma1 = -1.69897 lies outside .* \[-4.3"),
        ({"gamma2": np.nan}, 10.0, "row 1: log_gamma2 = nan"),
        ({"tburst": 1e-3}, 10.0, "row 1: tburst = 0.001"),
        ({}, 5.0, "row 0: t_age = 5"),
    ],
)
def test_refuses_what_it_was_not_trained_for(
    emulator: ComponentEmulator, model: SPSModel, change: dict, t_age: float, message: str
) -> None:
    th = np.concatenate([theta(), theta(**change)])
    with pytest.raises(EmulatorRangeError, match=message):
        emulator.spectrum(jnp.asarray(th), model, t_age)
    flags = emulator.flag(th, t_age)
    assert flags[1]
    assert flags[0] == (t_age == 5.0)
    light = ComponentModel(emulator, model).spectrum(jnp.asarray(th), model.tables(t_age))
    np.testing.assert_array_equal(np.isnan(np.asarray(light)).all(axis=1), flags)


@pytest.mark.parametrize(("column", "value"), [(8, 7.0), (3, 1e-6), (5, np.nan), (6, -1.0), (0, 1.5)])
def test_published_form_refuses_too(emulator: ComponentEmulator, model: SPSModel, column: int, value: float) -> None:
    inputs = np.array(nmf_inputs(model.parameters.values(jnp.asarray(theta())), 10.0))
    rest = RestFrameEmulator(emulator, model)
    assert not rest.flag(inputs)[0]
    inputs[0, column] = value
    assert rest.flag(inputs)[0]
    with pytest.raises(EmulatorRangeError, match="row 0"):
        rest.ln_luminosity(inputs)
    with pytest.raises(InputError, match="chunks 0 to 3"):
        RestFrameEmulator(emulator, model, chunks=(4,))


def test_other_models_are_refused(emulator: ComponentEmulator, model: SPSModel) -> None:
    with pytest.raises(EmulatorFileError, match="trained on 'paper' conventions, the model has 'published-code'"):
        emulator.require_model(SPSModel.published(model.library))
    other = replace(model.library, spectrum=model.library.spectrum * np.float32(1.001))
    with pytest.raises(EmulatorFileError, match="trained on SSP library"):
        ComponentModel(emulator, SPSModel(other))
    assert conventions_of(SPSModel(model.library, t_birth_cloud=0.03)).startswith("birth clouds to 0.03")


# ---- on file ------------------------------------------------------------------------------------------------------


def test_round_trip(emulator: ComponentEmulator, model: SPSModel, weights: Path) -> None:
    again = load_emulator(weights)
    th = jnp.asarray(draws(10, np.random.default_rng(6)))
    np.testing.assert_array_equal(again.spectrum(th, model, 10.0), emulator.spectrum(th, model, 10.0))
    assert again.provenance == emulator.provenance
    assert again.layout == emulator.layout
    np.testing.assert_array_equal(training_curve(weights), [[500.0, 0.1, 0.2]])


def damage(weights: Path, kind: str) -> None:
    if kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:5000])
        return
    with h5py.File(weights, "r+") as f:
        if kind == "version":
            f.attrs["format"] = "provabgs-emulator-0"
        elif kind == "bit":
            f["network/last"][3, 3] += np.float32(1e-3)
        elif kind == "conventions":
            f.attrs["conventions"] = "published-code"
        elif kind == "nan":
            f["burst/table"][0, 0] = np.nan
        elif kind == "missing":
            del f["burst/zh"]
        elif kind == "attribute":
            del f.attrs["sha256"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "cannot be read as emulator weights"),
        ("version", "not emulator weights of format 'provabgs-emulator-1' .found 'provabgs-emulator-0'.; train one"),
        ("bit", "does not match its recorded SHA-256"),
        ("conventions", "does not match its recorded SHA-256"),
        ("nan", "burst/table holds NaN"),
        ("missing", "does not match its recorded SHA-256"),
        ("attribute", "cannot be read as emulator weights"),
    ],
)
def test_damaged_weights_are_refused_by_name(weights: Path, kind: str, message: str) -> None:
    damage(weights, kind)
    with pytest.raises(EmulatorFileError, match=message) as caught:
        load_emulator(weights)
    assert isinstance(caught.value, DataFileError)
    assert str(caught.value).startswith(str(weights))
    assert "\n" not in str(caught.value)


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(EmulatorFileError, match="no such file; train one"):
        load_emulator(tmp_path / "none.h5")


@pytest.mark.parametrize("conventions", ["paper", "published-code"])
def test_weights_that_ship(conventions: str, library: SSPLibrary) -> None:
    shipped = default_emulator(conventions)
    shipped.require_model(SPSModel(library) if conventions == "paper" else SPSModel.published(library))
    assert "median" in shipped.provenance["errors"]
    assert "/" not in shipped.provenance["settings"]
    with pytest.raises(EmulatorFileError, match="no weights ship for 'mine'"):
        default_emulator("mine")


# ---- training -----------------------------------------------------------------------------------------------------


def toy() -> tuple[Encoding, tuple, tuple]:
    encoding = Encoding.of(SPSModel(small_library()), *smooth_ranges(T_AGE))
    rng = np.random.default_rng(7)
    sets = []
    for n in (800, 200):
        x = draw_inputs(n, *smooth_ranges(T_AGE), rng)
        sets.append((x, np.column_stack([np.sin(3 * x[:, 0]) * x[:, 1], np.cos(x[:, 2])]).astype(np.float32)))
    return encoding, sets[0], sets[1]


OPTIONS = TrainingOptions(hidden=(24, 24), steps=400, batch=64, learning_rate=5e-3, check_every=100, patience=3)


def test_training_learns_and_refits() -> None:
    encoding, data, held_out = toy()
    state = new_state(encoding, 2, OPTIONS, seed=1)
    trained = train(state, encoding, data, held_out, 1.0, 1, OPTIONS, seed=2)
    assert [h.step for h in trained.history] == [100, 200, 300, 400]
    spread = float(np.sqrt((held_out[1] ** 2).sum(axis=1).mean()))
    assert trained.history[-1].held_out < 0.2 * spread
    assert np.isfinite(trained.refit)


def test_training_stops_early_when_nothing_is_to_be_learnt() -> None:
    encoding, data, held_out = toy()
    rng = np.random.default_rng(8)
    noise = (data[0][:60], rng.standard_normal((60, 2)).astype(np.float32))
    options = replace(OPTIONS, steps=4000)
    state = new_state(encoding, 2, options, seed=1)
    trained = train(state, encoding, noise, (held_out[0], held_out[1] * 0), 1.0, 1, options, seed=2)
    assert trained.history[-1].step < 4000
    assert trained.history[-1].held_out > min(h.held_out for h in trained.history)


def test_divergence_is_an_error() -> None:
    encoding, data, held_out = toy()
    bad = (data[0], data[1] * np.float32(np.inf))
    with pytest.raises(InputError, match=r"diverged at step 100; lower \[training\]"):
        train(new_state(encoding, 2, OPTIONS, 1), encoding, bad, held_out, 1.0, 1, OPTIONS, seed=2)
