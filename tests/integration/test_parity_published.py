"""The exact model against the published emulators, band by band over the prior (`studies.model_parity` prints all)."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from provabgs.core.errors import DataFileError
from provabgs.emulator.published import PublishedEmulator, nmf_inputs
from provabgs.sps.attenuation import CharlotFall
from provabgs.sps.dust_emission import DustEmission
from provabgs.sps.histories import NMFHistories
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel
from studies import model_parity
from tests.support.parameters import named, put, values_of

OPTICAL = ((3000, 3600), (3600, 4500), (4500, 5500), (5500, 6500), (6500, 7400), (7400, 8500), (8500, 9800))
N_DRAWS = 1200


@pytest.fixture(scope="module")
def parity() -> ModuleType:
    return model_parity


@pytest.fixture(scope="module")
def nmf(reference_dir: Path) -> PublishedEmulator:
    return PublishedEmulator(reference_dir / "provabgs" / "emulator_nmf_v0.1.npz")


@pytest.fixture(scope="module")
def burst(reference_dir: Path) -> PublishedEmulator:
    return PublishedEmulator(reference_dir / "provabgs" / "emulator_burst_seed0_199.npz")


@pytest.fixture(scope="module")
def model(library: SSPLibrary) -> SPSModel:
    return SPSModel.published(library)


@pytest.fixture(scope="module")
def composite(parity, model, nmf) -> np.ndarray:
    """ln(ours / published) over the prior, published conventions."""
    return parity.against_nmf(model, nmf, *parity.prior_draws(N_DRAWS, np.random.default_rng(7)))


def test_same_wavelengths(model, nmf):
    np.testing.assert_array_equal(nmf.wave, model.library.wave)


def test_composites_agree_in_every_optical_band(parity, model, composite):
    """The project's target: mean offset <= 1.5 %, scatter <= 2 % per band over 3000-9800 A."""
    rows = parity.band_rows(composite, model.library.wave, OPTICAL)
    assert len(rows) == len(OPTICAL)
    for row in rows:
        assert abs(row.mean) < 0.015, row
        assert row.scatter < 0.02, row


def test_agreement_as_measured(parity, model, composite):
    """Limits of docs/studies/parity.md, with room for another draw: worse than this means that something moved."""
    for row in parity.band_rows(composite, model.library.wave, OPTICAL):
        assert abs(row.median) < 0.005, row
        assert row.scatter < 0.0135, row
        assert row.worst_1_percent < 0.055, row
        assert row.shape < 0.003, row


@pytest.mark.parametrize(
    ("band", "mean", "scatter"), [((2000, 2300), 0.02, 0.03), ((2300, 3000), 0.02, 0.03), ((9800, 20000), 0.015, 0.015)]
)
def test_beyond_the_optical(parity, model, composite, band, mean, scatter):
    (row,) = parity.band_rows(composite, model.library.wave, (band,))
    assert abs(row.mean) < mean
    assert row.scatter < scatter


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.0, 3.0)])
def test_wise_bands_agree_with_dust_emission(parity, library, nmf, low, high):
    """W1 and W2 at z = 0.05-0.3, 3 % for all tau_ism; without the light below 2005 A they would lack 12 %."""
    theta, t_age = parity.prior_draws(150, np.random.default_rng(12))
    put(theta, tau_ism=np.random.default_rng(13).uniform(low, high, len(theta)))
    model = SPSModel.published(library, (DustEmission(),))
    theirs = np.asarray(nmf.ln_luminosity(nmf_inputs(values_of(theta), t_age)), dtype=np.float64)
    ours = parity.log_spectra(model, theta, t_age)
    for z in parity.WISE_REDSHIFTS:
        ratio = np.log(parity.band_fluxes(ours, library.wave, z) / parity.band_fluxes(theirs, library.wave, z))
        assert np.abs(ratio.mean(axis=0)).max() < 0.01, z
        assert ratio.std(axis=0).max() < 0.02, z
        assert np.quantile(np.abs(ratio), 0.95) < 0.03, z


def test_infrared_agrees_without_dust_and_lacks_its_emission_with_it(parity, model, nmf):
    """The emulator includes FSPS's dust emission, this model is starlight alone."""
    theta, t_age = parity.prior_draws(200, np.random.default_rng(8))
    put(theta, tau_bc=0.0, tau_ism=0.0)
    band = ((20000, 50000),)
    (clear,) = parity.band_rows(parity.against_nmf(model, nmf, theta, t_age), model.library.wave, band)
    put(theta, tau_ism=2.0)
    (dusty,) = parity.band_rows(parity.against_nmf(model, nmf, theta, t_age), model.library.wave, band)
    assert abs(clear.mean) < 0.04
    assert -0.30 < dusty.mean < -0.08


@pytest.mark.parametrize(
    ("normalisation", "wrong"),
    [
        ("joint", {"t_birth_cloud": 0.1}),
        ("per-basis", {"t_birth_cloud": 0.01}),
        ("joint", {"t_birth_cloud": 0.01, "solar_z": 0.0142}),
    ],
)
def test_other_conventions_are_told_apart(parity, library, nmf, normalisation, wrong):
    """Birth clouds to 100 Myr, bases normalised one by one, or another solar Z: each misses the target by far."""
    theta, t_age = parity.prior_draws(300, np.random.default_rng(9))
    histories = NMFHistories(binning="published", normalisation=normalisation)
    model = SPSModel(library, histories, CharlotFall(birth_cloud_slope=-1.0), **wrong)
    rows = parity.band_rows(parity.against_nmf(model, nmf, theta, t_age), library.wave, OPTICAL)
    assert max(abs(r.mean) for r in rows) > 0.02
    assert max(r.scatter for r in rows) > 0.015


def test_slope_of_the_birth_clouds_shows_in_the_ultraviolet(parity, library, nmf):
    """-1 against the paper's -0.7 matters only where stars below 10 Myr shine through thin birth clouds."""
    theta, t_age = parity.prior_draws(300, np.random.default_rng(10))
    put(theta, tau_bc=0.5, tau_ism=0.0)
    uv = ((2000, 2300),)
    offsets = {}
    for slope in (-1.0, -0.7):
        histories = NMFHistories(binning="published", normalisation="joint")
        model = SPSModel(library, histories, CharlotFall(birth_cloud_slope=slope), t_birth_cloud=0.01)
        (row,) = parity.band_rows(parity.against_nmf(model, nmf, theta, t_age), library.wave, uv)
        offsets[slope] = abs(row.mean)
    assert offsets[-1.0] < offsets[-0.7]


def test_bursts_behind_dust(parity, model, burst):
    """SSPs of any age and Z between the library's nodes, behind ISM dust."""
    difference, age = parity.against_burst(model, burst, 600, np.random.default_rng(11))
    assert age.min() < 0.02
    assert age.max() > 12
    rows = parity.band_rows(difference, burst.wave, OPTICAL)
    assert len(rows) == len(OPTICAL)
    for row in rows:
        assert abs(row.median) < 0.005, row
        assert abs(row.mean) < 0.01, row
        assert row.scatter < 0.02, row


def test_emulator_inputs_are_the_dirichlet_coordinates(nmf):
    beta = dict(
        zip(("beta1", "beta2", "beta3", "beta4"), np.array([[0.1, 0.2, 0.3, 0.4], [1, 0, 0, 0]]).T, strict=True)
    )
    theta = named(2, **beta, gamma1=1e-3, gamma2=2e-3, tau_bc=0.5, tau_ism=0.6, n_dust=-0.7)
    x = np.asarray(nmf_inputs(values_of(theta), 9.0))
    np.testing.assert_allclose(x[0], [0.9, 1 - 0.2 / 0.9, 1 - 0.3 / 0.7, 1e-3, 2e-3, 0.5, 0.6, -0.7, 9.0], rtol=1e-12)
    assert nmf.n_inputs == x.shape[1] == 9
    assert np.all(np.isfinite(x))


def test_not_an_emulator_is_one_clear_error(tmp_path):
    for name, write in (("text.npz", lambda p: p.write_text("no")), ("empty.npz", lambda p: np.savez(p, a=1))):
        write(tmp_path / name)
        with pytest.raises(DataFileError, match=name):
            PublishedEmulator(tmp_path / name)
    with pytest.raises(DataFileError, match="absent"):
        PublishedEmulator(tmp_path / "absent.npz")
