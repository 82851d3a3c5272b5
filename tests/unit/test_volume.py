"""z_max, z_min and Vmax against root finding with the package's own filters, and against astropy's volumes."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from scipy.optimize import brentq

from provabgs.core.constants import SPECTRUM_UNIT
from provabgs.core.errors import InputError
from provabgs.core.jax import jnp
from provabgs.observe.cosmology import Cosmology
from provabgs.observe.filters import band_weights
from provabgs.population.survey.selection import BGSFaint, MagnitudeLimit
from provabgs.population.survey.tracks import MagnitudeTracks
from provabgs.population.survey.visibility import galaxy_volumes, visible_volumes
from provabgs.population.survey.volume import FULL_SKY_DEG2, SurveyVolume
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel
from tests.support.parameters import STARS, stars_of
from tests.support.small_library import small_library, theta

R = "decam2014-r"
SURVEY = SurveyVolume(100.0, 0.01, 0.45)


@pytest.fixture(scope="module")
def model() -> SPSModel:
    return SPSModel(small_library())


@pytest.fixture(scope="module")
def tracks(model: SPSModel) -> MagnitudeTracks:
    return MagnitudeTracks(model, (R,), SURVEY.redshift_grid())


def stars(**values: float) -> np.ndarray:
    """The SPS model's parameters of an ordinary galaxy, ``(1, 12)``."""
    return stars_of(theta(**values))


def brute_magnitude(model: SPSModel, vector: np.ndarray, fitted_at: float, z: float, band: str = R) -> float:
    """Magnitude at redshift z of the spectrum of a galaxy fitted at another redshift; no grid, no interpolation."""
    cosmology = Cosmology()
    spectrum = np.asarray(model.spectrum(jnp.asarray(vector), model.tables(cosmology.age_gyr(fitted_at))))[0]
    factor = model.library.lsun_cgs / (4 * np.pi * cosmology.luminosity_distance_cm(z) ** 2) / (1 + z) / SPECTRUM_UNIT
    return float(22.5 - 2.5 * np.log10(factor * band_weights(band, model.library.wave * (1 + z)) @ spectrum))


def brute_z_max(model: SPSModel, vector: np.ndarray, z_obs: float, limit: float, shift: float = 0.0) -> float:
    return float(brentq(lambda z: brute_magnitude(model, vector, z_obs, z) + shift - limit, 0.005, 0.45, xtol=1e-7))


@pytest.mark.parametrize("mass", [8.5, 9.5, 10.2])
def test_z_max_is_the_root(model: SPSModel, tracks: MagnitudeTracks, mass: float) -> None:
    vector = stars(logmstar=mass, tau_ism=0.4, n_dust=-0.5)
    expected = brute_z_max(model, vector, 0.08, 19.5)
    found = galaxy_volumes(vector[None], [0.08], MagnitudeLimit(R, 19.5), SURVEY, tracks)
    assert found.z_max[0, 0] == pytest.approx(expected, abs=3e-4)
    assert found.z_min[0, 0] == pytest.approx(SURVEY.z_low)
    assert found.vmax[0, 0] == pytest.approx(SURVEY.within(found.z_max[0, 0]), rel=1e-12)
    assert found.inverse[0] == pytest.approx(1 / found.vmax[0, 0])


def test_z_max_with_the_shipped_library(library: SSPLibrary) -> None:
    model = SPSModel(library)
    tracks = MagnitudeTracks(model, (R,), SURVEY.redshift_grid())
    for vector in (stars(logmstar=10.3, gamma1=1e-2, gamma2=1e-2), stars(logmstar=9.3, fburst=0.1, tburst=0.02)):
        expected = brute_z_max(model, vector, 0.1, 19.5)
        found = galaxy_volumes(vector[None], [0.1], MagnitudeLimit(R, 19.5), SURVEY, tracks)
        assert found.z_max[0, 0] == pytest.approx(expected, abs=5e-4)


def test_measured_magnitudes_anchor_the_model(model: SPSModel, tracks: MagnitudeTracks) -> None:
    draws = np.stack([stars(logmstar=m)[0] for m in (9.0, 9.3, 9.6)])[None]
    observed = {R: np.array([18.2])}
    limit = MagnitudeLimit(R, 19.5)
    anchored = galaxy_volumes(draws, [0.06], limit, SURVEY, tracks, observed)
    assert np.ptp(anchored.z_max) < 1e-9  # mass does not matter any more
    shift = 18.2 - brute_magnitude(model, draws[:, 0], 0.06, 0.06)
    assert anchored.z_max[0, 0] == pytest.approx(brute_z_max(model, draws[:, 0], 0.06, 19.5, shift), abs=3e-4)
    free = galaxy_volumes(draws, [0.06], limit, SURVEY, tracks, {R: np.array([np.nan])})
    assert np.all(np.diff(free.z_max[0]) > 0.01)


def test_a_bright_limit_gives_z_min(model: SPSModel, tracks: MagnitudeTracks) -> None:
    vector = stars(logmstar=10.0)
    found = galaxy_volumes(vector[None], [0.1], MagnitudeLimit(R, 19.5, 16.0), SURVEY, tracks)
    assert found.z_min[0, 0] == pytest.approx(brute_z_max(model, vector, 0.1, 16.0), abs=3e-4)
    expected = SURVEY.within(found.z_max[0, 0]) - SURVEY.within(found.z_min[0, 0])
    assert found.vmax[0, 0] == pytest.approx(expected, rel=1e-9)


def test_visible_intervals_add_up() -> None:
    z = np.geomspace(0.01, 0.45, 2001)
    margin = np.where((z > 0.05) & (z < 0.1), 1.0, -1.0) + np.where((z > 0.2) & (z < 0.3), 2.0, 0.0)
    found = visible_volumes(margin[None, None], z, SURVEY)
    expected = np.diff(SURVEY.within([0.05, 0.1]))[0] + np.diff(SURVEY.within([0.2, 0.3]))[0]
    assert found.vmax[0, 0] == pytest.approx(expected, rel=0.01)
    assert (found.z_min[0, 0], found.z_max[0, 0]) == (pytest.approx(0.05, rel=3e-3), pytest.approx(0.3, rel=3e-3))
    always = visible_volumes(np.ones((1, 1, z.size)), z, SURVEY)
    assert always.vmax[0, 0] == pytest.approx(SURVEY.total, rel=1e-12)
    never = visible_volumes(np.full((1, 1, z.size), np.nan), z, SURVEY)
    assert never.vmax[0, 0] == 0
    assert np.isnan([never.z_max[0, 0], never.inverse[0]]).all()


def test_volumes_are_astropys() -> None:
    sky = SurveyVolume(FULL_SKY_DEG2, 0.01, 0.6)
    cosmology = sky.cosmology.astropy
    for z in (0.02, 0.2, 0.6):
        shell = cosmology.comoving_volume(z) - cosmology.comoving_volume(0.01)
        assert sky.within(z) == pytest.approx(shell.to_value(u.Mpc**3), rel=1e-5)
    assert SurveyVolume(1.0, 0.01, 0.6).total == pytest.approx(sky.total / FULL_SKY_DEG2)
    assert sky.within(5.0) == sky.total


def test_colours_decide_in_bgs_faint(library: SSPLibrary) -> None:
    survey, selection = SurveyVolume(100.0, 0.02, 0.4), BGSFaint("S")
    model = SPSModel(library)
    tracks = MagnitudeTracks(model, selection.bands, survey.redshift_grid(step=0.02, log_step=0.15))
    draws = stars(logmstar=10.4)[None]
    observed = {selection.bands[1]: np.array([19.9])}
    bright = galaxy_volumes(draws, [0.2], selection, survey, tracks, observed, [0.4])
    faint = galaxy_volumes(draws, [0.2], selection, survey, tracks, observed, [2.1])
    assert 0 < bright.vmax[0, 0] < survey.total
    assert faint.vmax[0, 0] == 0  # r_fiber < 21.5 only where r < 19.4: too bright in total
    assert bright.z_min[0, 0] < 0.2 < bright.z_max[0, 0]
    with pytest.raises(InputError, match="fiber"):
        galaxy_volumes(draws, [0.2], selection, survey, tracks, observed)


def test_missing_draws_count_for_nothing(tracks: MagnitudeTracks) -> None:
    draws = np.stack([stars(logmstar=9.5)[0], np.full(STARS.size, np.nan)])[None]
    found = galaxy_volumes(draws, [0.05], MagnitudeLimit(R, 19.5), SURVEY, tracks)
    assert found.vmax[0, 1] == 0
    assert found.inverse[0] == pytest.approx(1 / found.vmax[0, 0])
    with pytest.raises(InputError, match="finite posterior draw"):
        galaxy_volumes(draws[:, 1:], [0.05], MagnitudeLimit(R, 19.5), SURVEY, tracks)


def test_more_galaxies_than_fit_in_a_batch(tracks: MagnitudeTracks) -> None:
    draws = np.stack([stars(logmstar=9 + 0.01 * i)[0] for i in range(40)])[:, None].repeat(20, axis=1)
    together = tracks.magnitudes(draws, np.linspace(0.02, 0.3, 40))
    alone = tracks.magnitudes(draws[33:34], np.linspace(0.02, 0.3, 40)[33:34])
    np.testing.assert_allclose(together[33], alone[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("area", "low", "high", "why"),
    [(0.0, 0.1, 0.2, "area"), (5e4, 0.1, 0.2, "area"), (10.0, 0.0, 0.2, "z_low"), (10.0, 0.3, 0.2, "z_low")],
)
def test_impossible_surveys_are_refused(area: float, low: float, high: float, why: str) -> None:
    with pytest.raises(InputError, match=why):
        SurveyVolume(area, low, high)


def test_redshifts_outside_the_survey_are_refused(tracks: MagnitudeTracks) -> None:
    with pytest.raises(InputError, match=r"redshift 0.5 of galaxy 1 is outside"):
        galaxy_volumes(np.repeat(stars()[None], 2, 0), [0.1, 0.5], MagnitudeLimit(R, 19.5), SURVEY, tracks)
    with pytest.raises(InputError, match="do not span"):
        visible_volumes(np.ones((1, 1, 3)), np.array([0.1, 0.2, 0.3]), SURVEY)


def test_dimming_at_the_near_end_looks_past_the_bright_limit(model: SPSModel, tracks: MagnitudeTracks) -> None:
    vector = stars(logmstar=10.5)
    near = brute_magnitude(model, vector, 0.1, SURVEY.z_low)
    assert near < 17.0  # too bright for this survey there, and yet there is room to dim it
    found = galaxy_volumes(vector[None], [0.1], MagnitudeLimit(R, 19.5, 17.0), SURVEY, tracks)
    assert found.margin_near[0, 0] == pytest.approx(19.5 - near, abs=2e-3)
    faint = galaxy_volumes(stars(logmstar=7.0)[None], [0.1], MagnitudeLimit(R, 18.0), SURVEY, tracks)
    assert faint.margin_near[0, 0] == pytest.approx(18.0 - near - 2.5 * 3.5, abs=2e-3)
