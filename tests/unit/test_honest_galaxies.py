"""Galaxies of `studies/support/honest_galaxies.py`: their truth, and what is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from provabgs.core.constants import SOLAR_Z_PROVABGS
from provabgs.core.errors import InputError
from provabgs.observe.filters import band_weights
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel
from studies.support import honest_galaxies


@pytest.fixture(scope="module")
def study() -> ModuleType:
    return honest_galaxies


@pytest.fixture(scope="module")
def perfect(study: ModuleType, library: SSPLibrary) -> Any:
    return study.HonestGalaxies(library)


def test_galaxy_depends_on_its_number_and_seed_alone(study: ModuleType, perfect: Any) -> None:
    one, again, other = perfect.make(4, seed=1), perfect.make(4, seed=1), perfect.make(5, seed=1)
    assert one.observation.digest() == again.observation.digest()
    assert one.observation.digest() != other.observation.digest()
    assert perfect.make(4, seed=2).observation.digest() != one.observation.digest()
    assert [perfect.make(i).history for i in range(3)] == list(study.HISTORIES)


@pytest.mark.parametrize("kind", ["delayed", "quenched", "bursty"])
def test_histories(study: ModuleType, kind: str) -> None:
    for seed in range(20):
        h = study.draw_history(kind, 12.0, np.random.default_rng(seed))
        assert h.mass.sum() == pytest.approx(1.0)
        assert h.mass.min() >= 0
        assert h.age[-1] < 12.0
        formed = h.mass > 0
        assert np.all(np.diff(h.logzsol[formed]) <= 1e-12)  # younger stars are richer
        assert np.ptp(h.logzsol[formed]) <= 0.5 + 1e-9
        recent = h.mass[h.age < 0.05].sum()
        if kind == "quenched":
            assert recent < 0.01


def test_spectrum_is_that_of_the_model_for_the_models_own_history(
    study: ModuleType, perfect: Any, library: SSPLibrary
) -> None:
    """Two independent integrations of the same history agree to 0.4 %; the model takes metallicities at nodes."""
    model = SPSModel(library)
    values = dict.fromkeys(model.parameters.names, 0.0)
    values |= {"beta1": 0.1, "beta2": 0.2, "beta3": 0.4, "beta4": 0.3, "gamma1": 4e-3, "gamma2": 8e-3, "tburst": 5.0}
    theta = np.array([[values[name] for name in model.parameters.names]])
    expected = np.asarray(model.spectrum(theta, model.tables(11.0)))[0]
    bases = model.histories.bases  # type: ignore[attr-defined]
    edge = np.geomspace(1e-6, 11.0, 20001)
    age = np.sqrt(edge[1:] * edge[:-1])
    mass = (np.array([0.1, 0.2, 0.4, 0.3]) @ bases.sfh_bases(age, 11.0)) * np.diff(edge)
    z = np.array([4e-3, 8e-3]) @ bases.metallicity_bases(age)
    stars = study.History(age, mass / mass.sum(), np.log10(z / SOLAR_Z_PROVABGS))
    mine = perfect.spectrum(stars, 0.0, 0.0, 0.0) / library.lsun_cgs
    optical = (library.wave > 2500) & (library.wave < 20000)
    np.testing.assert_allclose(mine[optical], expected[optical], rtol=4e-3)


def test_truth_of_a_single_age(study: ModuleType, perfect: Any, library: SSPLibrary) -> None:
    node = int(np.argmin(np.abs(library.log_age - 7.5)))
    age = library.age_gyr[node]
    stars = study.History(np.array([age]), np.array([1.0]), library.logzsol[6:7])
    truth = perfect.truth(stars, 10.0)
    assert truth["t_age_mw"] == age
    assert truth["log_z_mw"] == pytest.approx(np.log10(0.0190) + library.logzsol[6])
    assert truth["log_sfr_100myr"] == pytest.approx(10 - 8)
    assert truth["log_sfr_1gyr"] == pytest.approx(10 - 9)
    assert truth["logmstar_surviving"] == pytest.approx(10 + np.log10(library.surviving_mass[6, node]), abs=1e-6)
    dusty = perfect.spectrum(stars, 1.0, 0.0, 0.0) / perfect.spectrum(stars, 0.0, 0.0, 0.0)
    assert np.interp(5500.0, library.wave, dusty) == pytest.approx(np.exp(-1), rel=0.01)


def test_masses_of_another_imf_are_converted(study: ModuleType, library: SSPLibrary) -> None:
    """The same light per star: 0.74 times the light per mass means 0.74 times the Chabrier mass."""
    ratio = 0.7415
    salpeter = replace(library, spectrum=library.spectrum * np.float32(ratio), imf="Salpeter (unimodal)")
    a, b = study.HonestGalaxies(library).make(1), study.HonestGalaxies(salpeter).make(1)
    assert b.truth["logmstar"] == pytest.approx(a.truth["logmstar"], abs=0.002)
    assert b.truth["log_sfr_100myr"] == pytest.approx(a.truth["log_sfr_100myr"], abs=0.002)


def test_data_scatter_about_the_truth(perfect: Any, library: SSPLibrary) -> None:
    for index in range(3):
        galaxy = perfect.make(index, seed=3)
        observation, truth = galaxy.observation, galaxy.truth
        assert 2.9 < truth["sn"] < 31
        r = next(s for s in observation.spectra if s.camera == "r")
        assert np.median(r.flux * np.sqrt(r.ivar)) == pytest.approx(truth["sn"], rel=0.1)
        step = np.diff(r.flux) * np.sqrt(r.ivar[1:])
        assert np.median(np.abs(step)) / 0.6745 / np.sqrt(2) == pytest.approx(1.0, abs=0.2)
        r_mag = 22.5 - 2.5 * np.log10(observation.photometry.flux[1])
        assert 16.4 < r_mag < 19.6
        assert 0.03 < observation.redshift < 0.35
        # the fiber's share: r band of the spectrum over the total one, where the spectrum covers the band
        assert 8 < truth["logmstar"] < 12.5
    assert library.wave.size == 4899


def test_imperfections(study: ModuleType, perfect: Any, library: SSPLibrary) -> None:
    clean = perfect.make(0, seed=5).observation
    wrong = study.HonestGalaxies(library, study.Imperfections()).make(0, seed=5).observation
    n_bad, n = 0, 0
    for a, b in zip(clean.spectra, wrong.spectra, strict=True):
        pull = (b.flux - a.flux) * np.sqrt(a.ivar)
        smooth = np.convolve(b.flux - a.flux, np.ones(51) / 51, "same")
        spike = np.abs((b.flux - a.flux) - smooth) * np.sqrt(a.ivar) > 4.5
        n_bad, n = n_bad + int(spike.sum()), n + spike.size
        assert np.abs(pull[spike]).max() < 40
    assert 0.0005 < n_bad / n < 0.005
    ratio = np.concatenate(
        [(b.flux - a.flux) / np.abs(a.flux) for a, b in zip(clean.spectra, wrong.spectra, strict=True)]
    )
    assert 0.003 < np.median(np.abs(ratio)) < 0.12
    np.testing.assert_array_equal(clean.photometry.flux, wrong.photometry.flux)
    assert np.isfinite(band_weights("decam2014-r", library.wave)).all()


def test_library_that_ends_at_four_micron(study: ModuleType, library: SSPLibrary) -> None:
    keep = library.wave < 40000
    short = replace(library, wave=library.wave[keep], spectrum=np.ascontiguousarray(library.spectrum[:, :, keep]))
    mine = study.HonestGalaxies(short).make(2).observation
    whole = study.HonestGalaxies(library).make(2).observation
    w2 = mine.photometry.bands.index("wise2010-W2")
    assert mine.photometry.flux[w2] == pytest.approx(whole.photometry.flux[w2], rel=0.1)


def test_kinds(study: ModuleType) -> None:
    assert study.of_kind("own").imperfections == study.Imperfections()
    with pytest.raises(InputError, match="choose one of bc03, emiles, own"):
        study.of_kind("galaxev")
    with pytest.raises(InputError, match="provabgs ssp build --source emiles"):
        study.of_kind("emiles")
