"""What is measured after a fit, each number against a computation of its own."""

from __future__ import annotations

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
import speclite.filters
from astropy.cosmology import Planck13

from provabgs.catalog import Catalog, write_catalog
from provabgs.catalog.columns import Schema, union
from provabgs.catalog.records import to_block, to_posteriors
from provabgs.core.status import Status
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig, MeasureOptions, ModelOptions
from provabgs.inference.fit import fit_one
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.measured.history import BINS_GYR
from provabgs.inference.measured.measure import measure, with_measurements
from provabgs.inference.measured.quantity import Measured
from provabgs.inference.measured.spectra import spectra_of
from provabgs.inference.posterior import Posterior, identity_of
from provabgs.inference.target import derived_columns
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.sps.history_bins import formed_in_bins
from provabgs.sps.indices import DN4000, HDELTA_A, INDICES, MGB, Index, measure_index
from tests.support.parameters import put
from tests.support.small_library import draws, theta

Z = 0.15
BANDS = ("decam2014-g", "decam2014-r", "decam2014-z", "wise2010-W1")
CONFIG = FitConfig(measure=MeasureOptions(n_draws=5))


@pytest.fixture(scope="module")
def posterior() -> Posterior:
    samples = draws(20, np.random.default_rng(2))
    put(samples, tau_bc=0.3, tau_ism=0.2, n_dust=0.0, logmstar=10.5, tburst=0.2, fburst=0.1)
    model = load_model(CONFIG.model)
    age = Planck13.age(Z).to_value(u.Gyr)
    return Posterior(
        samples=samples,
        log_prob=np.zeros(20),
        derived=derived_columns(model, samples[:, :12], model.tables(age)),
        status=Status.CONVERGED,
        config=CONFIG.model_dump_json(),
        **identity_of(observation()),
    )


def observation() -> Observation:
    wave = np.arange(3700.0, 6300.0, 0.8)
    flux = 5 + np.sin(wave / 30.0) + 0.5 * np.sin(wave / 7.0)
    spectrum = Spectrum("b", wave, flux, np.full(wave.size, 4.0))
    return Observation(Z, (spectrum,), Photometry(BANDS, np.ones(4), np.ones(4)), targetid=3)


@pytest.fixture(scope="module")
def measured(posterior: Posterior) -> dict[str, np.ndarray]:
    return {q.column: v for q, v in measure(posterior, observation()).items()}


def spectra(posterior: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """Rest-frame wavelength and the luminosities of the draws that are measured, Lsun/A."""
    (made,) = spectra_of(posterior, 5)
    return made.wave, made.luminosity


# ---- light -----------------------------------------------------------------------------------------------------------


def speclite_magnitudes(name: str, wave: np.ndarray, flux_cgs: np.ndarray, shift: float = 0.0) -> np.ndarray:
    """AB magnitudes by speclite's own integration, on a grid fine enough that its rule does not matter."""
    curve = speclite.filters.load_filter(name)
    if shift:
        curve = curve.create_shifted(shift)
    grid = np.unique(np.concatenate([np.arange(*(curve.wavelength[[0, -1]] + [-3, 3]), 0.5), curve.wavelength]))
    fine = np.array([np.interp(grid, wave, row) for row in flux_cgs])
    unit = u.erg / u.s / u.cm**2 / u.AA
    return np.asarray(curve.get_ab_magnitude(fine * unit, grid * u.AA)).ravel()


@pytest.mark.parametrize(
    ("column", "band", "shift"),
    [
        ("ABSMAG00_SDSS_R", "sdss2010-r", 0.0),
        ("ABSMAG00_SDSS_U", "sdss2010-u", 0.0),
        ("ABSMAG00_DECAM_Z", "decam2014-z", 0.0),
        ("ABSMAG00_BESSELL_U", "bessell-U", 0.0),
        ("ABSMAG00_2MASS_J", "twomass-J", 0.0),
    ],
)
def test_absolute_magnitudes_are_those_of_speclite(
    posterior: Posterior, measured: dict[str, np.ndarray], column: str, band: str, shift: float
) -> None:
    wave, luminosity = spectra(posterior)
    flux = luminosity * 3.839e33 / (4 * np.pi * (10 * u.pc).to_value(u.cm) ** 2)
    expected = np.quantile(speclite_magnitudes(band, wave, flux, shift), [0.16, 0.5, 0.84])
    np.testing.assert_allclose(measured[column], expected, atol=2e-3)


def test_a_shifted_band_and_its_k_correction(posterior: Posterior, measured: dict[str, np.ndarray]) -> None:
    """m = M + DM + K, all of them by speclite; at z = s the k-correction is -2.5 log10(1 + s) for any spectrum."""
    wave, luminosity = spectra(posterior)
    ten_pc = luminosity * 3.839e33 / (4 * np.pi * (10 * u.pc).to_value(u.cm) ** 2)
    distance = Planck13.luminosity_distance(Z).to_value(u.cm)
    seen = luminosity * 3.839e33 / (4 * np.pi * distance**2) / (1 + Z)
    modulus = Planck13.distmod(Z).value
    apparent = speclite_magnitudes("decam2014-r", wave * (1 + Z), seen)
    # the spectrum as a galaxy at z = 0.1 shows it, at 10 pc: L(l / 1.1) / 1.1 in the unshifted curve, and the zero
    # point's own stretch, 1 / 1.1
    moved = ten_pc / 1.1**2
    absolute = speclite_magnitudes("decam2014-r", wave * 1.1, moved)
    np.testing.assert_allclose(measured["MODEL_MAG_DECAM_R"], np.quantile(apparent, [0.16, 0.5, 0.84]), atol=2e-3)
    np.testing.assert_allclose(
        measured["KCORR01_DECAM_R"], np.quantile(apparent - modulus - absolute, [0.16, 0.5, 0.84]), atol=3e-3
    )
    sdss = speclite_magnitudes("sdss2010-g", wave * 1.1, moved)
    np.testing.assert_allclose(measured["ABSMAG01_SDSS_G"], np.quantile(sdss, [0.16, 0.5, 0.84]), atol=2e-3)
    near = replace(posterior, redshift=0.1)
    at_shift = {q.column: v for q, v in measure(near, observation()).items()}
    np.testing.assert_allclose(at_shift["KCORR01_DECAM_G"], -2.5 * np.log10(1.1), atol=1e-6)


def test_colours_and_ratios_are_of_the_same_draws(posterior: Posterior, measured: dict[str, np.ndarray]) -> None:
    wave, luminosity = spectra(posterior)
    ten_pc = luminosity * 3.839e33 / (4 * np.pi * (10 * u.pc).to_value(u.cm) ** 2)
    mags = {b: speclite_magnitudes(b, wave, ten_pc) for b in ("bessell-U", "bessell-V", "sdss2010-r")}
    u_v = np.quantile(mags["bessell-U"] - mags["bessell-V"], [0.16, 0.5, 0.84])
    np.testing.assert_allclose(measured["COLOR_U_V"], u_v, atol=2e-3)
    mass = posterior.derived["logmstar_surviving"][np.linspace(0, 19, 5).round().astype(int)]
    ratio = np.quantile(mass + 0.4 * (mags["sdss2010-r"] - 4.65), [0.16, 0.5, 0.84])
    np.testing.assert_allclose(measured["LOGML_SDSS_R"], ratio, atol=2e-3)
    at = np.abs(wave - 5100.0) < 50.0
    power = np.log10(5100.0 * luminosity[:, at].mean(axis=1))
    np.testing.assert_allclose(measured["LOGL_5100"], np.quantile(power, [0.16, 0.5, 0.84]), atol=2e-3)


def test_a_band_beyond_the_library_is_null_and_says_why(posterior: Posterior) -> None:
    config = CONFIG.model_copy(update={"model": ModelOptions(ultraviolet=False)})
    own = {q.column: (q, v) for q, v in measure(replace(posterior, config=config.model_dump_json())).items()}
    for column, share in (("ABSMAG00_GALEX_FUV", 100), ("COLOR_NUV_R", 16)):
        quantity, values = own[column]
        assert np.isnan(values).all()
        assert quantity.null == f"always: {share}% of the band lies beyond the library's 2005-59900 A"


def test_galex_magnitudes_hold_light_below_the_library(posterior: Posterior, measured: dict[str, np.ndarray]) -> None:
    """Against speclite on the spectrum joined by hand; what the library has itself is as without it, to the bit."""
    (made,) = spectra_of(posterior, 5)
    assert made.below is not None
    n = made.below.library.borrowed
    tables = made.below.tables(made.t_age)
    stars = made.theta[:, [made.model.parameters.index(p) for p in made.below.parameters.names]]
    blue = np.asarray(made.below.spectrum(stars, tables))[:, :n]
    wave = np.concatenate([made.below.library.wave[:n], made.wave])
    whole = np.concatenate([blue, made.luminosity], axis=1)
    ten_pc = whole * 3.839e33 / (4 * np.pi * (10 * u.pc).to_value(u.cm) ** 2)
    mags = {b: speclite_magnitudes(b, wave, ten_pc) for b in ("galex-fuv", "galex-nuv", "sdss2010-r")}
    levels = [0.16, 0.5, 0.84]
    np.testing.assert_allclose(measured["ABSMAG00_GALEX_FUV"], np.quantile(mags["galex-fuv"], levels), atol=5e-3)
    np.testing.assert_allclose(measured["ABSMAG00_GALEX_NUV"], np.quantile(mags["galex-nuv"], levels), atol=5e-3)
    colour = np.quantile(mags["galex-nuv"] - mags["sdss2010-r"], levels)
    np.testing.assert_allclose(measured["COLOR_NUV_R"], colour, atol=5e-3)
    assert np.isfinite(measured["LOGL_1500"]).all()
    config = CONFIG.model_copy(update={"model": ModelOptions(ultraviolet=False)})
    own = measure(replace(posterior, config=config.model_dump_json()), observation())
    for quantity, values in own.items():
        if np.isfinite(values).all():
            np.testing.assert_array_equal(measured[quantity.column], values)


def test_galex_bands_have_model_magnitudes_and_k_corrections(posterior: Posterior) -> None:
    bands = ("galex-fuv", "galex-nuv")
    seen = Observation(Z, (), Photometry(bands, np.ones(2), np.ones(2)), targetid=3)
    numbers = {q.column: (q, v) for q, v in measure(posterior, seen).items()}
    for band in ("FUV", "NUV"):
        apparent, shifted = numbers[f"MODEL_MAG_GALEX_{band}"][1], numbers[f"KCORR01_GALEX_{band}"][1]
        assert np.isfinite(apparent).all()
        assert np.isfinite(shifted).all()
        assert "in BC03's shape" in numbers[f"ABSMAG00_GALEX_{band}"][0].description
        expected = apparent[1] - 5 * np.log10(Planck13.luminosity_distance(Z).to_value(u.pc) / 10)
        assert abs(expected - numbers[f"ABSMAG00_GALEX_{band}"][1][1]) < 1.0  # a k-correction of a few tenths


# ---- indices ---------------------------------------------------------------------------------------------------------

AIR = {
    "dn4000": [(3850.0, 3950.0), (4000.0, 4100.0)],
    "hdelta_a": [(4041.60, 4081.50), (4083.50, 4122.25), (4128.50, 4161.00)],
    "mgb": [(5117.700, 5142.700), (5160.125, 5192.625), (5191.375, 5206.375)],
}


def to_vacuum(air: float) -> float:
    """Morton (1991), not the formula of the package; they agree to 1e-3 A."""
    sigma2 = (1e4 / air) ** 2
    return air * (1 + 6.4328e-5 + 2.94981e-2 / (146 - sigma2) + 2.5540e-4 / (41 - sigma2))


def independent(name: str, wave: np.ndarray, flux: np.ndarray) -> float:
    """An index by sums over a grid of 0.01 A."""

    def of(window: tuple[float, float], weight: float = 0.0) -> tuple[float, np.ndarray, np.ndarray]:
        grid = np.arange(to_vacuum(window[0]), to_vacuum(window[1]), 0.01) + 0.005
        values = np.interp(grid, wave, flux)
        return float(np.mean(values * grid**weight)), grid, values

    if name == "dn4000":
        return of(AIR[name][1], 2.0)[0] / of(AIR[name][0], 2.0)[0]
    blue, feature, red = (of(w) for w in AIR[name])
    slope = (red[0] - blue[0]) / (red[1].mean() - blue[1].mean())
    line = blue[0] + slope * (feature[1] - blue[1].mean())
    return float(np.sum(1 - feature[2] / line) * 0.01)


@pytest.mark.parametrize("index", INDICES, ids=lambda i: i.name)
def test_indices_of_the_model(posterior: Posterior, measured: dict[str, np.ndarray], index: Index) -> None:
    wave, luminosity = spectra(posterior)
    expected = np.quantile([independent(index.name, wave, row) for row in luminosity], [0.16, 0.5, 0.84])
    np.testing.assert_allclose(measured[f"{index.name.upper()}_MODEL"], expected, rtol=2e-3, atol=5e-3)


@pytest.mark.parametrize("index", INDICES, ids=lambda i: i.name)
def test_indices_of_the_data_and_their_errors(measured: dict[str, np.ndarray], index: Index) -> None:
    (s,) = observation().spectra
    value, error = measured[index.name.upper()]
    rest = s.wave / (1 + Z)
    assert value == pytest.approx(independent(index.name, rest, s.flux), rel=2e-3, abs=2e-2)
    rng = np.random.default_rng(4)
    noisy = s.flux + 0.5 * rng.standard_normal((2000, s.wave.size))
    scatter = np.std(measure_index(index, rest, noisy).value)
    assert error == pytest.approx(scatter, rel=0.06)


def test_missing_pixels(measured: dict[str, np.ndarray]) -> None:
    wave, flux = np.arange(3800.0, 5300.0), np.linspace(1.0, 3.0, 1500)
    whole = measure_index(DN4000, wave, flux, np.ones(1500))
    some = measure_index(DN4000, wave, flux, np.where((wave > 4030) & (wave < 4035), 0.0, 1.0))
    assert float(some.value) == pytest.approx(float(whole.value), rel=2e-3)
    assert np.isnan(measure_index(DN4000, wave, flux, np.where(wave < 3900, 0.0, 1.0)).value)
    assert np.isnan(measure_index(HDELTA_A, wave[400:], flux[400:]).value)
    assert np.isfinite(measure_index(MGB, wave[400:], flux[400:]).value)


# ---- histories -------------------------------------------------------------------------------------------------------


def test_masses_in_bins_are_those_of_the_history(posterior: Posterior, measured: dict[str, np.ndarray]) -> None:
    """The smooth history by the trapezoidal rule, the burst by hand."""
    model, age = load_model(CONFIG.model), Planck13.age(Z).to_value(u.Gyr)
    rows = np.linspace(0, 19, 5).round().astype(int)
    values = model.parameters.values(posterior.samples[rows, :12])
    smooth = {**values, "fburst": np.zeros(5)}
    for k, (low, high) in enumerate(BINS_GYR, 1):
        time = np.linspace(low, min(high, age), 4001)
        sfr, _ = model.histories.curves(smooth, age, time)
        formed = 0.9 * np.trapezoid(sfr, time, axis=1) * 1e9 + 0.1 * (low <= 0.2 < high)
        rate = 10**10.5 * formed / (min(high, age) - low) / 1e9
        np.testing.assert_allclose(measured[f"SFR_BIN{k}"], np.quantile(rate, [0.16, 0.5, 0.84]), rtol=3e-3)
    time = np.linspace(0, 0.01, 2001)
    sfr, _ = model.histories.curves(smooth, age, time)
    rate = np.log10(0.9 * 10**10.5 * np.trapezoid(sfr, time, axis=1) / 0.01)
    np.testing.assert_allclose(measured["LOGSFR_10MYR"], np.quantile(rate, [0.16, 0.5, 0.84]), atol=2e-3)


def test_formation_times(posterior: Posterior, measured: dict[str, np.ndarray]) -> None:
    model, age = load_model(CONFIG.model), Planck13.age(Z).to_value(u.Gyr)
    rows = np.linspace(0, 19, 5).round().astype(int)
    values = {**model.parameters.values(posterior.samples[rows, :12]), "fburst": np.zeros(5)}
    time = np.linspace(0, age, 40001)
    sfr, _ = model.histories.curves(values, age, time)
    step = np.concatenate([np.zeros((5, 1)), np.cumsum((sfr[:, 1:] + sfr[:, :-1]) / 2 * np.diff(time), axis=1)], axis=1)
    younger = 0.9 * step / step[:, -1:] + 0.1 * (time > 0.2)
    for share, column in ((0.5, "T50"), (0.9, "T90")):
        exact = [time[np.searchsorted(row, 1 - share)] for row in younger]
        np.testing.assert_allclose(measured[column], np.quantile(exact, [0.16, 0.5, 0.84]), atol=0.06)


def test_no_star_formation_is_defined() -> None:
    """All mass in one old burst: rates are 0, their logarithm below -15, and never NaN."""
    model, age = load_model(CONFIG.model), Planck13.age(Z).to_value(u.Gyr)
    burst = theta(fburst=1.0, tburst=5.0)
    bins = formed_in_bins(model, burst[:, :12], age)
    assert bins.sum() == pytest.approx(1e10, rel=1e-6)
    alone = Posterior(1, Z, Status.CONVERGED, samples=burst, derived={}, properties=(), config=CONFIG.model_dump_json())
    found = {q.column: v for q, v in measure(alone).items()}
    assert found["SFR_BIN1"] == pytest.approx(0.0)
    assert found["LOGSFR_10MYR"][1] < -15
    assert found["T50"][1] == pytest.approx(5.0, abs=0.06)
    assert found["T90"][1] == pytest.approx(5.0, abs=0.06)
    early = replace(alone, samples=theta(fburst=1.0, tburst=13.2), redshift=0.5)
    assert np.isfinite({q.column: v for q, v in measure(early).items()}["SFR_BIN7"]).all()


# ---- in catalogs -----------------------------------------------------------------------------------------------------


def test_the_road_from_fit_to_catalog(posterior: Posterior, tmp_path) -> None:
    full = with_measurements(posterior, observation())
    off = replace(posterior, config=FitConfig(measure=MeasureOptions(groups=())).model_dump_json())
    assert with_measurements(off, observation()).measured == {}
    plain = replace(posterior, targetid=4)
    write_catalog(tmp_path, [full, plain])
    catalog = Catalog.open(tmp_path)
    table = catalog.table(["TARGETID", "ABSMAG01_SDSS_R_P50", "DN4000", "DN4000_ERR", "SFR_BIN1_P84"])
    table.sort("TARGETID")
    assert table["ABSMAG01_SDSS_R_P50"][0] == pytest.approx(full.measured["absmag01_sdss_r"][1], rel=1e-6)
    assert table["DN4000_ERR"][0] == pytest.approx(full.measured["dn4000"][1], rel=1e-6)
    assert np.isnan(table["ABSMAG01_SDSS_R_P50"][1])
    assert str(table["SFR_BIN1_P84"].unit) == "solMass / yr"
    assert len(catalog.select("ABSMAG01_SDSS_R_P50 < 0")) == 1
    (again,) = to_posteriors(to_block([full]))
    assert again.measured_quantities == full.measured_quantities
    for name, values in full.measured.items():
        np.testing.assert_allclose(again.measured[name], values, rtol=1e-6)


def test_models_of_other_bands_join(posterior: Posterior) -> None:
    one, two = (
        Schema.from_json(Schema(tuple(posterior.parameters), posterior.properties, (), (q, r)).to_json())
        for q, r in ((Measured("a", "A_X", "a", "mag", "x"), Measured("b", "B_X", "b", "", "y")),
                     (Measured("a", "A_X", "a", "mag", "x"), Measured("c", "C_X", "c", "", "z")))
    )  # fmt: skip
    assert [q.name for q in union([one, two]).measured] == ["a", "b", "c"]
    odd = replace(two, measured=(Measured("a", "A_X", "a", "", "x"),))
    with pytest.raises(ValueError, match="keep these fits in separate catalogs"):
        union([one, odd])


def test_a_failure_leaves_the_fit(posterior: Posterior) -> None:
    broken = replace(posterior, redshift=-1.0)
    found = with_measurements(broken, observation())
    assert found.measured == {}
    assert "nothing measured after the fit (InputError: redshift -1" in found.message


def test_fit_one_measures() -> None:
    flux = np.array([20.0, 40.0, 60.0, 70.0])
    data = Observation(Z, (), Photometry(BANDS, flux, (0.05 * flux) ** -2), targetid=8)
    quick = {"name": "auto", "aim_eval": 0, "max_eval": 20_000}
    config = FitConfig.model_validate({"sampler": quick, "n_samples": 40, "measure": {"n_draws": 20}})
    found = fit_one(data, config, 1)
    assert found.status.has_samples
    seen = 22.5 - 2.5 * np.log10(flux)
    for band, magnitude in zip(("DECAM_G", "DECAM_R", "DECAM_Z"), seen, strict=False):
        assert found.measured[f"model_mag_{band.lower()}"][1] == pytest.approx(magnitude, abs=0.15)
    assert np.isnan(found.measured["dn4000"]).all()
    # a run names its fit; the package's own measures, too
    named = fit_one(data, config, 1, fit=fit_observation)
    np.testing.assert_equal(named.measured, found.measured)
