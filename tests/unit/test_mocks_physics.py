"""The mock forward model: dust, fiber, noise and photometry against what they are defined by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate

from provabgs.core.errors import InputError
from provabgs.mocks import dust, fiber_fraction
from provabgs.mocks.histories import ComponentHistory, SimulatedGalaxies
from provabgs.mocks.lgalaxies_layout import SFH_NBIN
from provabgs.mocks.noise import CAMERAS, PIXEL_AA, NoiseModel
from provabgs.mocks.photometry import bgs_selected, magnitude, photometric_sigma
from provabgs.mocks.sample import load_galaxies
from provabgs.mocks.sed import DustParameters, SEDModel, bulge_dispersion, draw_dust
from provabgs.observe.cosmology import Cosmology
from provabgs.sps.library import SSPLibrary

NO_DUST = DustParameters(column=0.0, z_gas=0.02, cos_inclination=1.0, mu=0.3)


@pytest.fixture(scope="module")
def sample() -> SimulatedGalaxies:
    return load_galaxies()


@pytest.fixture(scope="module")
def model(library: SSPLibrary) -> SEDModel:
    return SEDModel(library)


def one_population(age: float, width: float, mass: float, z: float, bulge: bool = False) -> SimulatedGalaxies:
    """A galaxy that formed all its stars in one bin."""
    zero = ComponentHistory(np.zeros((1, 1)), np.zeros((1, 1)))
    full = ComponentHistory(np.full((1, 1), mass), np.full((1, 1), z))
    ones = np.ones(1)
    return SimulatedGalaxies(
        galaxy_id=np.zeros(1, dtype=np.int64),
        redshift=0.1 * ones,
        lookback=np.full((1, 1), age),
        width=np.full((1, 1), width),
        disk=zero if bulge else full,
        bulge=full if bulge else zero,
        cold_gas=1e10 * ones,
        metals_cold_gas=2e8 * ones,
        gas_radius=10.0 * ones,
        disk_radius=10.0 * ones,
        bulge_radius=1.0 * ones,
        cos_inclination=0.5 * ones,
        flags=np.zeros(1, dtype=np.int32),
    )


# ---- dust ------------------------------------------------------------------------------------------------------------


def test_mathis_curve_is_one_at_v_and_has_its_bump() -> None:
    wave = np.array([2000.0, 2160.0, 2500.0, 5500.0, 22000.0])
    curve, albedo = dust.mathis_curve(wave)
    assert curve[3] == 1.0
    assert albedo[3] == 0.63
    assert curve[1] > curve[0]
    assert curve[1] > curve[2]
    assert curve[4] == pytest.approx(0.122)


def test_optical_depth_scales_with_gas_metallicity() -> None:
    wave = np.array([1500.0, 5500.0])
    ratio = dust.ism_optical_depth(wave, 1.0, 0.04) / dust.ism_optical_depth(wave, 1.0, 0.02)
    np.testing.assert_allclose(ratio, [2**1.35, 2**1.6])
    assert dust.ism_optical_depth(wave, 1.0, 0.02)[1] == pytest.approx(np.sqrt(1 - 0.63))


def test_column_density_is_the_recipe_in_code_units() -> None:
    # 1e10 Msun/h in a disk of 10 kpc/h: written as the recipe has it, in 1e10 Msun/h and Mpc/h
    h = 0.673
    expected = 1.0 / (np.pi * (0.94 * 0.01) ** 2 * 1.4) / 3252.37 / 1.2
    assert dust.column_density(1e10 / h, 10.0 / h, 0.2, h) == pytest.approx(expected)
    assert dust.column_density(0.0, 0.0, 0.2, h) == 0.0
    with pytest.raises(InputError, match="radius"):
        dust.column_density(1e9, 0.0, 0.2, h)


def test_slab_limits() -> None:
    tau = np.array([0.0, 1e-6, 0.5, 50.0])
    face_on = dust.slab_transmission(tau, 1.0)
    np.testing.assert_allclose(face_on[:2], [1.0, 1.0 - 0.5e-6])
    assert face_on[3] == pytest.approx(0.02)
    assert np.all(dust.slab_transmission(tau[2:], 0.3) < face_on[2:])
    # never more edge-on than cos i = 0.2
    np.testing.assert_array_equal(dust.slab_transmission(tau, 0.01), dust.slab_transmission(tau, 0.2))


def test_mu_is_a_truncated_normal() -> None:
    rng = np.random.default_rng(0)
    mu = np.array([dust.draw_mu(rng) for _ in range(4000)])
    assert mu.min() >= 0.1
    assert mu.max() <= 1.0
    assert np.mean(mu) == pytest.approx(0.348, abs=0.01)  # mean of N(0.3, 0.2) truncated to [0.1, 1]
    assert np.mean(mu < 0.101) < 0.02  # truncated, not clipped


# ---- stars -----------------------------------------------------------------------------------------------------------


def test_one_old_population_is_its_ssp(model: SEDModel) -> None:
    lib = model.library
    i_age, i_met = int(np.searchsorted(lib.age_gyr, 5.0)), 8
    z = model.solar_z * 10.0 ** lib.logzsol[i_met]
    got = model.sed(one_population(float(lib.age_gyr[i_age]), 1.0, 2e9, z), 0, NO_DUST)
    np.testing.assert_allclose(got.total, 2e9 * lib.spectrum[i_met, i_age], rtol=1e-6)


def test_birth_clouds_reach_thirty_myr_and_only_disks(model: SEDModel) -> None:
    dusty = DustParameters(column=0.5, z_gas=0.02, cos_inclination=1.0, mu=0.3)
    wave = model.library.wave
    tau = dust.ism_optical_depth(wave, 0.5, 0.02)
    slab = dust.slab_transmission(tau, 1.0)
    clouds = dust.birth_cloud_transmission(wave, dusty.tau_v, 0.3)

    def transmission(age: float, width: float, bulge: bool = False) -> NDArray[np.float64]:
        galaxy = one_population(age, width, 1e9, 0.01, bulge)
        bare = model.sed(galaxy, 0, NO_DUST).total
        with np.errstate(invalid="ignore"):
            ratio = model.sed(galaxy, 0, dusty).total / bare
        return ratio[(wave > 2000) & (wave < 20000)]

    inner = (wave > 2000) & (wave < 20000)
    np.testing.assert_allclose(transmission(0.01, 0.02), (slab * clouds)[inner], rtol=1e-9)
    np.testing.assert_allclose(transmission(1.0, 0.2), slab[inner], rtol=1e-9)
    # a bin of 20-40 Myr is half young
    np.testing.assert_allclose(transmission(0.03, 0.02), (slab * (0.5 + 0.5 * clouds))[inner], rtol=1e-9)
    np.testing.assert_allclose(transmission(0.01, 0.02, bulge=True), 1.0, rtol=1e-12)


def test_slicing_bins_conserves_mass_and_changes_young_light(library: SSPLibrary, sample: SimulatedGalaxies) -> None:
    coarse, fine = SEDModel(library, n_sub=1), SEDModel(library, n_sub=20)
    i = int(np.argmax(sample.disk.mass_formed[:, 5]))
    a, b = coarse.sed(sample, i, NO_DUST), fine.sed(sample, i, NO_DUST)
    optical = (a.wave > 4000) & (a.wave < 9000)
    assert np.median(b.total[optical] / a.total[optical]) == pytest.approx(1.0, abs=0.1)
    uv = (a.wave > 2000) & (a.wave < 2800)
    assert abs(np.median(b.total[uv] / a.total[uv]) - 1) > 0.02


def test_bulge_dispersion_gives_the_published_list(reference_dir: Path) -> None:
    table = np.loadtxt(reference_dir / "lgalaxies" / "published_sample_z_mass.csv", delimiter=",", skiprows=1)
    mass, sigma = table[:, 2], table[:, 5]
    assert bulge_dispersion(0.0) == 0.0
    ours = np.array([bulge_dispersion(m) for m in mass])
    np.testing.assert_allclose(ours[mass > 0], sigma[mass > 0], rtol=0.01)


def test_true_light_is_linear_in_mass(model: SEDModel) -> None:
    galaxy = one_population(2.0, 1.0, 1e9, 0.01)
    heavy = one_population(2.0, 1.0, 3e9, 0.01)
    one = model.sed(galaxy, 0, NO_DUST).total
    np.testing.assert_allclose(model.sed(heavy, 0, NO_DUST).total, 3 * one)
    wave, flux = model.observed(one, 0.1, Cosmology())
    assert wave[0] == pytest.approx(1.1 * model.library.wave[0])
    # energy: int F dlam = int L dlam / (4 pi d_L^2)
    d_l = Cosmology().luminosity_distance_cm(0.1)
    expected = integrate.trapezoid(one, model.library.wave) * model.library.lsun_cgs / (4 * np.pi) / d_l / d_l
    assert integrate.trapezoid(flux, wave) * 1e-17 == pytest.approx(expected, rel=1e-10)


def test_dust_draws_are_the_galaxys_own(sample: SimulatedGalaxies) -> None:
    a = draw_dust(sample, 5, np.random.default_rng(1))
    assert a == draw_dust(sample, 5, np.random.default_rng(1))
    assert a.cos_inclination == sample.cos_inclination[5]
    assert a.z_gas == pytest.approx(sample.metals_cold_gas[5] / sample.cold_gas[5])


# ---- fiber -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [1.0, 4.0])
@pytest.mark.parametrize("half_light", [0.4, 1.2, 3.0])
def test_aperture_fraction_against_an_image(index: float, half_light: float) -> None:
    """Monte-Carlo photons of the profile, moved by the seeing, counted in the fiber_fraction."""
    rng = np.random.default_rng(int(10 * half_light))
    r = np.repeat(fiber_fraction.sersic_radii(index), 400) * half_light
    phi = rng.uniform(0, 2 * np.pi, r.size)
    sigma = 1.0 / np.sqrt(8 * np.log(2))
    x = r * np.cos(phi) + rng.normal(0, sigma, r.size)
    y = r * np.sin(phi) + rng.normal(0, sigma, r.size)
    inside = np.mean(np.hypot(x, y) < 0.75)
    assert fiber_fraction.aperture_fraction(half_light, index) == pytest.approx(inside, abs=0.004)


def test_point_source_takes_what_desi_says() -> None:
    # DESI's PSF_TO_FIBER_SPECFLUX of real exposures is 0.78-0.80
    assert fiber_fraction.aperture_fraction(0.0, 1.0) == pytest.approx(0.79, abs=0.01)


def test_sersic_half_light() -> None:
    for index in (1.0, 4.0):
        assert np.mean(fiber_fraction.sersic_radii(index) < 1.0) == pytest.approx(0.5, abs=1e-3)
    assert fiber_fraction.half_light_radius(2.0, 1.0, 1.0) == pytest.approx(2.0, rel=1e-6)
    assert 1.0 < fiber_fraction.half_light_radius(2.0, 1.0, 0.5) < 2.0


# ---- noise -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noise() -> NoiseModel:
    return NoiseModel.load()


@pytest.mark.parametrize("camera", CAMERAS)
def test_noise_grows_as_it_must(noise: NoiseModel, camera: str) -> None:
    c = noise.cameras[camera]
    zero = np.zeros(c.wave.size)
    base = c.sigma(zero, 180.0)
    assert np.all(c.sigma(zero + 5.0, 180.0) > base)
    assert np.all(c.sigma(zero, 180.0, sky_factor=3.0) > base)
    assert np.all(c.sigma(zero, 180.0, airmass=1.5) > base)
    assert np.all(c.sigma(zero, 180.0, n_exposure=3) > base)
    # photon noise alone falls as the root of time, read noise faster
    quiet = [c.sigma(zero, t, read_noise=0.0) for t in (180.0, 720.0)]
    np.testing.assert_allclose(quiet[0] / quiet[1], 2.0)
    assert np.all(base / c.sigma(zero, 720.0) > 2.0)
    for bad in ({"seconds": 0.0}, {"seconds": 10.0, "airmass": 0.5}, {"seconds": float("nan")}):
        with pytest.raises(InputError, match="noise needs"):
            c.sigma(zero, **bad)


@pytest.mark.parametrize(("camera", "low", "high"), [("b", 0.8, 1.25), ("r", 0.8, 1.25), ("z", 0.85, 1.15)])
def test_noise_agrees_with_a_real_coadd_held_back(
    noise: NoiseModel, reference_dir: Path, camera: str, low: float, high: float
) -> None:
    from astropy.io import fits

    with fits.open(reference_dir / "desi" / "coadd-4-80613-thru20210324.fits") as hdus:
        ivar = hdus[f"{camera.upper()}_IVAR"].data[0].astype(float)
        flux = hdus[f"{camera.upper()}_FLUX"].data[0].astype(float)
        seconds = float(hdus["EXP_FIBERMAP"].data["EXPTIME"].sum())
        effective = 12.15 * float(hdus["SCORES"].data["TSNR2_LRG"][0])
        n_exposure = len(hdus["EXP_FIBERMAP"].data)
    good = ivar > 0
    level = np.clip(np.median(flux[good]), 0, None)
    model = noise.cameras[camera].sigma(np.full(flux.size, level), seconds, seconds / effective, n_exposure=n_exposure)
    ratio = np.median(1 / np.sqrt(ivar[good]) / model[good])
    assert low < ratio < high


@pytest.mark.parametrize("camera", CAMERAS)
def test_resolution_matrix_has_the_width_of_a_real_one(noise: NoiseModel, reference_dir: Path, camera: str) -> None:
    from astropy.io import fits

    ours = noise.cameras[camera].resolution_matrix()
    np.testing.assert_allclose(ours.sum(axis=0), 1.0)
    with fits.open(reference_dir / "desi" / "coadd-sv3-dark-26065.fits") as hdus:
        real = hdus[f"{camera.upper()}_RESOLUTION"].data[2].astype(float)
    shift = np.arange(11) - 5

    def width(m: NDArray[np.float64]) -> NDArray[np.float64]:
        mean = (shift[:, None] * m).sum(axis=0)
        return PIXEL_AA * np.sqrt(((shift[:, None] - mean) ** 2 * m).sum(axis=0))

    seen = real.sum(axis=0) > 0.9
    seen[:100] = seen[-100:] = False
    np.testing.assert_allclose(np.median(width(ours)[seen] / width(real)[seen]), 1.0, atol=0.05)


# ---- photometry ------------------------------------------------------------------------------------------------------


def test_photometric_errors_are_those_measured() -> None:
    np.testing.assert_allclose(photometric_sigma(0.0), [0.021, 0.024, 0.064, 0.63, 1.41])
    small, large = photometric_sigma(0.6), photometric_sigma(2.0)
    measured = [(0.034, 0.09), (0.06, 0.13), (0.12, 0.31), (0.64, 1.06), (1.4, 2.4)]
    for got_small, got_large, (low, high) in zip(small, large, measured, strict=True):
        assert got_small == pytest.approx(low, rel=0.25)
        assert got_large == pytest.approx(high, rel=0.05)


def test_selection() -> None:
    flux = np.array([5.0, 10.0, 15.0, 1.0, 1.0])
    assert magnitude(10.0) == pytest.approx(20.0)
    assert not bgs_selected(flux)
    assert bgs_selected(flux * 1.01)
    assert not bgs_selected(flux * 1.01, r_max=19.5)
    assert not bgs_selected(np.array([-1.0, 100.0, 10.0, 1.0, 1.0]))
    assert SFH_NBIN == 20
