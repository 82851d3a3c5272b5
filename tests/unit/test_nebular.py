"""Nebular emission: tables, photon book-keeping, lines where and as wide as they should be, and nothing when off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from pydantic import ValidationError

from provabgs.core.constants import C_KMS
from provabgs.core.errors import ConfigError, DataFileError, InputError
from provabgs.core.jax import jax, jnp
from provabgs.inference.backends import load_model, make_likelihood
from provabgs.inference.compressed import CompressedLikelihood
from provabgs.inference.config import FitConfig, ModelOptions
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from provabgs.sps.attenuation import CharlotFall
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel
from provabgs.sps.nebular import LYMAN_LIMIT_AA, NebularEmission, NebularGrid, ionising_photon_rate, with_nebular
from tests.support.parameters import put, stars_of
from tests.support.small_library import draws, small_library, theta

HBETA_PER_PHOTON = 4.76e-13  # erg, case B at 10^4 K (Osterbrock & Ferland 2006)
LSUN = 3.839e33
T_AGE = 12.0


@pytest.fixture(scope="module")
def grid() -> NebularGrid:
    return NebularGrid.default()


@pytest.fixture(scope="module")
def lit(grid: NebularGrid) -> SSPLibrary:
    return with_nebular(small_library(), grid, -2.5, 0.0)


def line(grid: NebularGrid, name: str) -> int:
    return grid.line_names.index(name)


def luminosity(library: SSPLibrary, spectrum: np.ndarray, wave: float) -> np.ndarray:
    """Of the line at `wave`, in the units of spectrum x Angstrom: the spike above the mean of its neighbours."""
    k = int(library.line_nodes[np.argmin(np.abs(library.wave[library.line_nodes] - wave))])
    assert library.wave[k] == pytest.approx(wave, abs=1e-6)
    base = 0.5 * (spectrum[..., k - 1] + spectrum[..., k + 1])
    return (spectrum[..., k] - base) * 0.5 * (library.wave[k + 1] - library.wave[k - 1])


# ---- the tables that ship --------------------------------------------------------------------------------------------


def test_shipped_hydrogen_lines_are_case_b(grid):
    hbeta = grid.lines[..., line(grid, "Hbeta")].astype(float)
    assert np.all(np.abs(hbeta / HBETA_PER_PHOTON - 1) < 0.05)  # it falls by 5 % from 5000 K to 20000 K
    near_1e4_k = hbeta[np.argmin(np.abs(grid.gas_logz + 0.4)), 0, -1]
    assert near_1e4_k == pytest.approx(HBETA_PER_PHOTON, rel=0.005)
    ratio = grid.lines.astype(float) / hbeta[..., None]
    # Storey & Hummer 1995 at 4000 K and 20000 K; collisions and a cooler neutral rim add a little to H alpha
    for name, low, high in (("Halpha", 2.74, 3.12), ("Hgamma", 0.450, 0.478), ("H7", 0.150, 0.163)):
        assert np.all((ratio[..., line(grid, name)] > low) & (ratio[..., line(grid, name)] < high)), name
    assert np.allclose(ratio[..., line(grid, "OIII5007")], 2.98 * ratio[..., line(grid, "OIII4959")], rtol=1e-4)


def test_shipped_metal_lines_follow_ionisation_and_metallicity(grid):
    oxygen2 = grid.lines[:, 0, :, line(grid, "OII3729")]
    oxygen3 = grid.lines[:, 0, :, line(grid, "OIII5007")]
    assert np.all(np.diff(np.log(oxygen3 / np.maximum(oxygen2, 1e-20))[:9], axis=1) > 0)  # harder with log U
    nitrogen = grid.lines[..., line(grid, "NII6583")] / grid.lines[..., line(grid, "Halpha")]
    assert np.all(np.diff(nitrogen[:6, 0, 4]) > 0)
    # [O III]/H beta of H II regions peaks below solar metallicity
    at_u = (grid.lines[:, 0, 6, line(grid, "OIII5007")] / grid.lines[:, 0, 6, line(grid, "Hbeta")]).astype(float)
    assert -1.2 < grid.gas_logz[np.argmax(at_u)] < -0.2
    assert 2 < at_u.max() < 8


def test_shipped_photons_of_steady_star_formation(grid):
    """Kennicutt & Evans 2012 (after Murphy et al. 2011): 1.37e53 photons/s per Msun/yr, Kroupa IMF, solar."""
    log_age = np.linspace(5.0, 8.0, 3001)
    rate = grid.photon_rate([np.log10(0.02)], log_age)[0]
    total = np.trapezoid(rate * 10**log_age * np.log(10), log_age)
    assert 0.9 < total / 1.37e53 < 1.6
    assert np.all(grid.photon_rate([-2.0], [8.05]) == 0)


def test_shipped_photons_agree_with_fsps(grid, reference_dir):
    """A genuine FSPS population (Padova, BaSeL, Chabrier, Z = 0.002): 0.04 dex to 2.5 Myr, 0.2 dex to 15 Myr."""
    with np.load(reference_dir / "ssp" / "fsps_ref_padova_basel_Z0.0020.npz", allow_pickle=False) as f:
        wave, lnu, log_age = f["wave"], f["lnu"], f["logage"]
    density = lnu * 2.99792458e18 / wave**2
    young = log_age <= 7.15
    theirs = np.log10(ionising_photon_rate(wave, density[young], LSUN))
    ours = np.log10(grid.photon_rate([np.log10(0.002)], log_age[young])[0])
    assert np.abs(ours - theirs)[log_age[young] <= 6.4].max() < 0.045
    assert np.abs(ours - theirs).max() < 0.2


def test_continuum_jumps_at_the_series_limits(grid):
    """Balmer jump of the pure continuum at 10^4 K: a factor of 4-5 up towards the blue; none of it elsewhere."""
    at = np.argmin(np.abs(grid.gas_logz + 0.4))
    values = np.interp([3640.0, 3655.0, 5000.0, 5050.0], grid.wave, grid.continuum[at, 0, 4])
    assert 4 < values[0] / values[1] < 6
    assert values[2] == pytest.approx(values[3], rel=0.05)


def test_photons_of_a_black_body():
    wave = np.geomspace(20.0, 5000.0, 4000)
    x = 1.438776877e8 / wave / 4e4
    radiance = wave**-5.0 / np.expm1(x)
    # in photons: int x^2 / (e^x - 1) beyond the limit over int x^3 / (e^x - 1) = pi^4 / 15, by its series
    x0, n = 1.438776877e8 / LYMAN_LIMIT_AA / 4e4, np.arange(1, 200)
    photons = np.sum(np.exp(-n * x0) * (x0**2 / n + 2 * x0 / n**2 + 2 / n**3))
    total = np.trapezoid(wave_full() ** -5.0 / np.expm1(1.438776877e8 / wave_full() / 4e4), wave_full())
    expected = photons / (np.pi**4 / 15) * LSUN / (1.380649e-16 * 4e4)
    assert ionising_photon_rate(wave, radiance / total, LSUN) == pytest.approx(expected, rel=1e-3)
    with pytest.raises(InputError, match="300 A or below"):
        ionising_photon_rate(np.linspace(400.0, 2000.0, 50), np.ones(50), LSUN)


def wave_full() -> np.ndarray:
    return np.geomspace(20.0, 1e7, 40000)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_grid_round_trip(grid, tmp_path):
    grid.save(tmp_path / "g.h5")
    again = NebularGrid.load(tmp_path / "g.h5")
    assert again.digest() == grid.digest()
    assert again.line_names == grid.line_names
    assert again.provenance == grid.provenance
    np.testing.assert_array_equal(again.continuum, grid.continuum)


def test_bad_grid_files(grid, tmp_path):
    with pytest.raises(DataFileError, match="no such file"):
        NebularGrid.load(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(DataFileError, match="cannot be read"):
        NebularGrid.load(tmp_path / "text.h5")
    small_library().save(tmp_path / "ssp.h5")
    with pytest.raises(DataFileError, match="not a nebular grid"):
        NebularGrid.load(tmp_path / "ssp.h5")
    grid.save(tmp_path / "g.h5")
    with h5py.File(tmp_path / "g.h5", "r+") as f:
        f["lines"][0, 0, 0, 0] *= 2
    with pytest.raises(DataFileError, match="SHA-256"):
        NebularGrid.load(tmp_path / "g.h5")
    with h5py.File(tmp_path / "g.h5", "r+") as f:
        f["lines"][0, 0, 0, 0] = np.nan
    with pytest.raises(DataFileError, match="NaN"):
        NebularGrid.load(tmp_path / "g.h5")
    grid.save(tmp_path / "g.h5")
    with h5py.File(tmp_path / "g.h5", "r+") as f:
        del f["continuum"]
    with pytest.raises(DataFileError, match="continuum"):
        NebularGrid.load(tmp_path / "g.h5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_u": np.array([-2.0, -3.0])}, "log_u"),
        ({"line_names": ("Hbeta",)}, "line names"),
        ({"lines": np.zeros((1, 1, 1, 1), np.float32)}, "shape"),
        ({"log_photon_rate": np.zeros((2, 2))}, "log_photon_rate"),
    ],
)
def test_bad_grids(grid, change, message):
    with pytest.raises(InputError, match=message):
        replace(grid, **change)


def test_library_with_gas_round_trip(lit, tmp_path):
    lit.save(tmp_path / "lit.h5")
    again = SSPLibrary.load(tmp_path / "lit.h5")
    assert again.digest() == lit.digest()
    np.testing.assert_array_equal(again.line_nodes, lit.line_nodes)
    assert "log U = -2.5" in again.provenance["nebular"]
    with pytest.raises(InputError, match="line_nodes"):
        replace(lit, line_nodes=np.array([lit.wave.size - 1]))


# ---- light of the gas ------------------------------------------------------------------------------------------------


def test_photon_bookkeeping(grid, lit):
    """L(line) = Q_H times energy per photon, for every SSP; H beta by the textbook's number."""
    q = grid.photon_rate(np.log10(lit.metallicity), lit.log_age)
    got = luminosity(lit, lit.spectrum.astype(float), 4862.69) * lit.lsun_cgs
    at = grid.emission([-2.5], [0.0])
    coefficient = float(at.lines[0, 0, line(grid, "Hbeta")])
    assert coefficient == pytest.approx(HBETA_PER_PHOTON, rel=0.02)
    np.testing.assert_allclose(got, q * coefficient, rtol=1e-3, atol=got.max() * 1e-5)
    assert np.abs(got[:, lit.log_age > 8.0]).max() < 1e-6 * got.max()


def test_energy_is_no_more_than_was_absorbed(grid):
    """Per photon the gas gives back, in all that is tabulated, less than the 13.6 eV and heating that it took."""
    energy = grid.lines.sum(axis=-1, dtype=float) + np.trapezoid(grid.continuum.astype(float), grid.wave, axis=-1)
    electronvolt = 1.602e-12
    assert np.all((energy > 2 * electronvolt) & (energy < 20 * electronvolt))


def test_stars_are_as_they_were(grid, lit):
    stars = small_library()
    old = stars.log_age > 8.0
    np.testing.assert_array_equal(
        lit.spectrum[:, old][..., np.searchsorted(lit.wave, stars.wave)], stars.spectrum[:, old]
    )
    between = np.interp(lit.wave, stars.wave, stars.spectrum[1, -3].astype(float))
    np.testing.assert_allclose(lit.spectrum[1, -3], between, rtol=1e-6)


def test_ionising_light_is_used_up(grid):
    wave = np.concatenate([np.arange(500.0, 905.0, 40.0), np.arange(920.0, 9000.0, 40.0)])
    library = small_library(wave)
    used = with_nebular(library, grid, -2.5, 0.0)
    beyond = used.wave < LYMAN_LIMIT_AA
    ionises = library.log_age < 7.9
    assert np.all(used.spectrum[:, ionises][..., beyond] == 0)
    assert np.all(used.spectrum[:, library.log_age > 8.1][..., beyond] > 0)


def test_gas_goes_behind_the_young_stars_dust(lit):
    """Lines are attenuated by birth clouds and ISM as young stars are."""
    model = SPSModel(lit)
    tables = model.tables(T_AGE)
    dusty = {"tau_bc": 1.2, "tau_ism": 0.6, "n_dust": -0.5}
    clear, behind = (np.asarray(model.spectrum(jnp.asarray(stars_of(theta(**d))), tables))[0] for d in ({}, dusty))
    for wave in (3729.88, 6564.61):
        law = CharlotFall()
        through = law.transmission(law.curves(np.array([wave])), {k: jnp.array([v]) for k, v in dusty.items()})
        ratio = luminosity(lit, behind.astype(float), wave) / luminosity(lit, clear.astype(float), wave)
        assert ratio == pytest.approx(float(through.young[0, 0]), rel=1e-3)


def test_gas_tied_to_the_stars(grid):
    tied = with_nebular(small_library(), grid, -2.5)
    k = 2  # logzsol -0.3
    alone = with_nebular(small_library(), grid, -2.5, float(tied.logzsol[k]))
    np.testing.assert_array_equal(tied.spectrum[k], alone.spectrum[k])
    lowest = with_nebular(small_library(), grid, -2.5, float(grid.gas_logz[0]))  # logzsol -2 is held at the edge
    np.testing.assert_array_equal(tied.spectrum[0], lowest.spectrum[0])
    assert not np.array_equal(tied.spectrum[3], alone.spectrum[3])


def test_outside_the_grid_is_refused(grid, lit):
    with pytest.raises(InputError, match=r"log_u = -1\.5"):
        with_nebular(small_library(), grid, -1.5, 0.0)
    with pytest.raises(InputError, match="gas_logz"):
        with_nebular(small_library(), grid, -2.5, -1.9)
    with pytest.raises(InputError, match="already"):
        with_nebular(lit, grid, -2.5)


def test_free_gas_parameters(grid):
    """Two columns after the model's own: equal to the fixed library at its parameters, and differentiable in log U."""
    stars = SPSModel(small_library())
    free = SPSModel(small_library(), emissions=(NebularEmission(grid),))
    assert free.parameters.names == (*stars.parameters.names, "log_u", "gas_logz")
    th = stars_of(draws(5, np.random.default_rng(0)))
    tables = stars.tables(T_AGE)
    gas = np.column_stack([[-3.9, -3.2, -2.5, -2.5, -2.0], [-1.5, -0.7, 0.0, 0.2, 0.5]])
    got = np.asarray(free.spectrum(jnp.asarray(np.hstack([th, gas])), tables))
    for row, (log_u, gas_logz), want in zip(th, gas, got, strict=True):
        fixed = SPSModel(with_nebular(small_library(), grid, log_u, gas_logz))
        np.testing.assert_allclose(
            np.asarray(fixed.spectrum(jnp.asarray(row[None]), tables))[0], want, rtol=2e-5, atol=want.max() * 1e-7
        )
    o3 = int(np.argmin(np.abs(free.library.wave - 5008.24)))

    def brightness(log_u: float) -> jax.Array:
        x = jnp.concatenate([jnp.asarray(th[0]), jnp.array([log_u, -0.3])])[None]
        return jnp.log(free.spectrum(x, tables)[0, o3])

    slope = jax.grad(brightness)(-3.1)
    step = (brightness(-3.09) - brightness(-3.11)) / 0.02
    assert float(slope) == pytest.approx(float(step), rel=0.02)
    assert slope > 0.5


# ---- observed --------------------------------------------------------------------------------------------------------

Z = 0.1
SIGMA_AA = 1.3


def observation(flux: float = 1.0, bands: tuple[str, ...] = ()) -> Observation:
    wave = np.arange(5200.0, 7400.0, 0.5)
    spectrum = Spectrum("b", wave, np.full(wave.size, flux), np.ones(wave.size), sigma_aa=SIGMA_AA)
    phot = Photometry(bands, np.ones(len(bands)), np.ones(len(bands))) if bands else None
    return Observation(Z, (spectrum,), phot)


def predicted(library: SSPLibrary, **options: float) -> tuple[np.ndarray, np.ndarray]:
    p = project(observation(), library, ObservingOptions(line_mask="none", **options))
    pixels, _ = ExactLikelihood(p, SPSModel(library)).predict(theta())
    assert pixels is not None
    return p.spectrum.wave, pixels[0]


@pytest.mark.parametrize(("options", "dispersion"), [({"vdisp_kms": 150.0}, 150.0), ({"gas_vdisp_kms": 60.0}, 60.0)])
def test_a_line_where_it_belongs_and_as_wide_as_it_should_be(grid, lit, options, dispersion):
    wave, with_gas = predicted(lit, **options)
    dark = replace(lit, spectrum=_without_spikes(lit))
    _, without = predicted(dark, **options)
    near = np.abs(wave - 4862.69 * (1 + Z)) < 30
    x, profile = wave[near], (with_gas - without)[near]
    centre = np.sum(x * profile) / np.sum(profile)
    width = np.sqrt(np.sum((x - centre) ** 2 * profile) / np.sum(profile))
    assert centre == pytest.approx(4862.69 * (1 + Z), abs=0.02)
    expected = np.hypot(centre * dispersion / C_KMS, SIGMA_AA)
    assert width == pytest.approx(np.hypot(expected, 0.5 / np.sqrt(12)), rel=0.01)
    # flux: L / (4 pi d^2), whatever the width
    p = project(observation(), lit, ObservingOptions(line_mask="none"))
    model = SPSModel(lit)
    light = np.asarray(model.spectrum(jnp.asarray(stars_of(theta())), model.tables(p.t_age)))[0].astype(float)
    want = luminosity(lit, light, 4862.69) * p.flux_factor * (1 + Z)
    assert 0.5 * profile.sum() == pytest.approx(want, rel=0.01)


def _without_spikes(library: SSPLibrary) -> np.ndarray:
    out = library.spectrum.copy()
    k = library.line_nodes
    out[..., k] = 0.5 * (out[..., k - 1] + out[..., k + 1])
    return out


def test_the_continuum_does_not_mind_the_gas_dispersion(lit):
    dark = replace(lit, spectrum=_without_spikes(lit))
    _, a = predicted(dark, vdisp_kms=200.0)
    _, b = predicted(dark, vdisp_kms=200.0, gas_vdisp_kms=50.0)
    assert np.abs(b / a - 1).max() < 3e-3
    assert np.abs(b / a - 1).max() > 0


def test_lines_in_a_band(lit):
    """A band counts a line as it counts as much continuum at the same wavelength."""
    p = project(observation(bands=("decam2014-g", "decam2014-r")), lit, ObservingOptions(line_mask="none"))
    k = int(lit.line_nodes[np.argmin(np.abs(lit.wave[lit.line_nodes] - 4862.69))])
    smooth = k + 2  # the next node of the library's own
    per_flux = [p.photometry.operator[:, i] / (0.5 * (lit.wave[i + 1] - lit.wave[i - 1])) for i in (k, smooth)]
    assert per_flux[0][0] == pytest.approx(per_flux[1][0], rel=0.05)
    assert per_flux[0][0] > 100 * per_flux[0][1]  # 5349 A is in g, not in r


def test_each_line_may_differ_from_the_model(grid, lit):
    """A galaxy whose [O III] is 1.4 times the model's: far off without scatter, one nuisance at work with it."""
    wave, _ = predicted(lit)
    brighter = lit.spectrum.copy()
    k = lit.line_nodes[np.argmin(np.abs(lit.wave[lit.line_nodes] - 5008.24))]
    brighter[..., k] *= 1.4
    _, truth = predicted(replace(lit, spectrum=brighter))
    ivar = np.full(wave.size, (50 / np.median(truth)) ** 2)
    galaxy = Observation(Z, (Spectrum("b", wave, truth, ivar, sigma_aa=SIGMA_AA),), None)
    chi2 = {}
    for scatter in (0.0, 0.3):
        options = ObservingOptions(line_mask="none", line_scatter=scatter, floor_spectrum=0.0, floor_line=0.0)
        p = project(galaxy, lit, options)
        chi2[scatter] = float(ExactLikelihood(p, SPSModel(lit)).chi2(theta())[0][0])
        assert p.spectrum.templates.shape[1] == 0 if scatter == 0 else p.spectrum.templates.shape[1] > 3
    assert chi2[0.0] > 100 * chi2[0.3]
    # what is left is the prior's price of the deviation: 0.4 / 1.4 of the observed flux at 0.3, a little shared
    assert chi2[0.3] == pytest.approx((0.4 / 1.4 / 0.3) ** 2, rel=0.3)
    stars = project(galaxy, small_library(), ObservingOptions(line_mask="none"))
    assert stars.spectrum.templates.shape[1] == 0


# ---- in a fit --------------------------------------------------------------------------------------------------------


def test_off_by_default():
    plain = FitConfig()
    assert not plain.model.nebular
    model = load_model(plain.model)
    assert model.library.digest() == SSPLibrary.default().digest()
    assert model.library.line_nodes.size == 0
    assert load_model(ModelOptions(log_u=-3.0)).library.digest() == model.library.digest()


def test_options_survive_the_posterior_file():
    config = FitConfig.model_validate(
        {"model": {"nebular": True, "log_u": -3.1, "gas_logz": -0.4}, "observing": {"gas_vdisp_kms": 70.0}}
    )
    assert FitConfig.model_validate_json(config.model_dump_json()) == config


def test_engines_with_gas(tmp_path, grid):
    small_library().save(tmp_path / "ssp.h5")
    options = {"library": tmp_path / "ssp.h5", "nebular": True, "log_u": -3.0}
    model = load_model(ModelOptions(**options))
    assert model.library.line_nodes.size > 30
    p = project(observation(), model.library, ObservingOptions(line_mask="none"))
    exact = ExactLikelihood(p, model)
    config = FitConfig(model=ModelOptions(**options))
    compressed = make_likelihood(exact, config)
    assert isinstance(compressed, CompressedLikelihood)
    th = draws(8, np.random.default_rng(3))
    put(th, logmstar=9.5)
    difference = np.asarray(compressed(jnp.asarray(th))) + 0.5 * exact.chi2(th)[0]
    assert np.abs(difference).max() < 1e-3 * 0.5 * exact.chi2(th)[0].max()
    assert compressed.error < 0.05


def test_named_errors(tmp_path, grid):
    with pytest.raises(ConfigError, match="log_u"):
        load_model(ModelOptions(nebular=True, log_u=-1.2))
    with pytest.raises(DataFileError, match="no such file"):
        load_model(ModelOptions(nebular=True, nebular_grid=Path("nowhere.h5")))
    with pytest.raises(ValidationError, match="emulator"):
        FitConfig(engine="emulator", model=ModelOptions(nebular=True))
    with pytest.raises(ValidationError, match="published_networks"):
        ModelOptions(nebular=True, published_networks=(Path("a"), Path("b")))
    with pytest.raises(ValidationError):
        ModelOptions(nebular=True, log_u=-5.0)
    model = SPSModel(with_nebular(SSPLibrary.default(), grid, -2.5))
    galaxy = Observation(0.2, (), Photometry(("decam2014-r",), np.array([10.0]), np.array([1.0])))
    with pytest.raises(ConfigError, match="emulator"):
        make_likelihood(ExactLikelihood(project(galaxy, model.library), model), FitConfig(engine="emulator"))
