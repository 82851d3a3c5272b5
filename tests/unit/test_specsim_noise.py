"""Noise by specsim: what we keep of its simulator gives back its own noise; what is missing is named."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from provabgs.core.errors import DataFileError, InputError, MissingDependencyError
from provabgs.mocks.make import MockConfig, MockMaker
from provabgs.mocks.noise import NoiseModel
from provabgs.mocks.specsim_noise import SpecsimNoise, load_specsim
from provabgs.mocks.spectra import simulate_spectrum

HERE = all(importlib.util.find_spec(m) is not None for m in ("specsim", "desimodel"))
needs_specsim = pytest.mark.skipif(not HERE, reason="needs the extra 'specsim'")
needs_data = pytest.mark.skipif(
    not (HERE and os.environ.get("DESIMODEL")), reason="needs the DESIMODEL data (environment variable DESIMODEL)"
)


@pytest.fixture(scope="module")
def tested() -> SpecsimNoise:
    """specsim's own test configuration, which needs no further data."""
    return load_specsim(configuration="test")


@pytest.mark.parametrize("module", ["specsim", "desimodel"])
def test_missing_package_is_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else real(name) or object())
    with pytest.raises(MissingDependencyError, match=rf"{module}: pip install 'provabgs\[specsim\]'"):
        MockMaker(MockConfig(noise="specsim"))


@needs_specsim
def test_missing_data_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DESIMODEL", raising=False)
    with pytest.raises(MissingDependencyError, match="install_desimodel_data"):
        MockMaker(MockConfig(noise="specsim"))
    monkeypatch.setenv("DESIMODEL", str(tmp_path))
    with pytest.raises(DataFileError, match="install it anew"):
        MockMaker(MockConfig(noise="specsim"))


@needs_specsim
def test_noise_is_specsims_own(tested: SpecsimNoise) -> None:
    from astropy import units as u

    simulator = sys.modules["specsim.simulator"].Simulator("test", num_fibers=1)
    simulator.observation.exposure_time = 250 * u.s
    simulator.simulate()
    (output,) = simulator.camera_output
    camera = tested.cameras["r"]
    flux = np.asarray(output["observed_flux"])[:, 0] * 1e17
    expected = 1e17 / np.sqrt(np.asarray(output["flux_inverse_variance"])[:, 0])
    np.testing.assert_allclose(camera.sigma(flux, 250.0), expected, rtol=1e-9)
    assert np.all(camera.sigma(flux, 250.0, n_exposure=4) > expected)
    assert np.all(camera.sigma(flux, 250.0, sky_factor=2.5) > expected)
    with pytest.raises(InputError, match="airmass"):
        camera.sigma(flux, 250.0, airmass=1.5)
    with pytest.raises(InputError, match="seconds"):
        camera.sigma(flux, 0.0)


@needs_specsim
def test_airmass_dims_the_source(tested: SpecsimNoise) -> None:
    high = load_specsim(2.0, "test").cameras["r"]
    assert np.all(high.sensitivity < tested.cameras["r"].sensitivity)


@needs_specsim
def test_resolution_is_a_band_matrix_of_the_right_width(tested: SpecsimNoise) -> None:
    camera = tested.cameras["r"]
    bands = camera.resolution_matrix()
    assert bands.shape == (11, camera.wave.size)
    np.testing.assert_allclose(bands.sum(axis=0), 1.0)
    inner = bands[:, 20:-20]
    shift = (np.arange(11) - 5)[:, None]
    centre = (shift * inner).sum(axis=0)
    assert np.abs(centre).max() < 0.05
    width = np.sqrt((shift**2 * inner).sum(axis=0)) * np.diff(camera.wave)[0]
    assert np.all((width > 0.3) & (width < 3.0))


@needs_specsim
def test_other_pixels(tested: SpecsimNoise) -> None:
    own = tested.cameras["r"]
    grid = own.wave[100:200] + 0.4
    moved = load_specsim(configuration="test", grids={"r": grid}).cameras["r"]
    np.testing.assert_allclose(moved.sensitivity, own.sensitivity[100:200], rtol=0.02)
    np.testing.assert_array_equal(moved.resolution, own.resolution[:, 100:200])
    with pytest.raises(DataFileError, match="covers"):
        load_specsim(configuration="test", grids={"r": own.wave + 1000.0})


@needs_specsim
def test_spectra_have_that_noise(tested: SpecsimNoise) -> None:
    maker = MockMaker(MockConfig(n=1))
    i = int(maker.order()[0])
    _, sed, photometry = maker.light(i)
    z = float(maker.galaxies.redshift[i])
    (camera,) = simulate_spectrum(
        sed, maker.model, z, photometry.fiber_fraction, tested, maker.config.conditions, maker.cosmology,
        np.random.default_rng(1),
    )  # fmt: skip
    pull = (camera.flux - camera.true_flux) * np.sqrt(camera.ivar)
    assert np.std(pull) == pytest.approx(1.0, abs=5 / np.sqrt(2 * pull.size))
    assert np.mean(pull) == pytest.approx(0.0, abs=5 / np.sqrt(pull.size))


@needs_data
def test_desi_agrees_with_the_model_that_ships() -> None:
    ours, theirs = NoiseModel.load(), load_specsim()
    assert list(theirs.cameras) == ["b", "r", "z"]
    for name, camera in theirs.cameras.items():
        zero = np.zeros(camera.wave.size)
        np.testing.assert_array_equal(camera.wave, ours.cameras[name].wave)
        ratio = np.median(camera.sigma(zero, 900.0) / ours.cameras[name].sigma(zero, 900.0))
        assert 0.6 < ratio < 1.6
