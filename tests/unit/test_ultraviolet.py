"""Light below the SSP library's first wavelength: shapes of BC03, in bands, magnitudes and errors, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from provabgs.core.errors import DataFileError, InputError
from provabgs.core.jax import jnp
from provabgs.data.build_ultraviolet import CELL_EDGES, NODES, main, shapes_of
from provabgs.inference.backends import load_model, model_for, ultraviolet_model
from provabgs.inference.compressed import CompressedLikelihood
from provabgs.inference.config import FitConfig, MeasureOptions, ModelOptions, SamplerOptions
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.predictive import predict
from provabgs.observe.absolute import absolute_weights, magnitude
from provabgs.observe.noise import borrowed_share
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import needs_ultraviolet, project
from provabgs.sps.library import SSPLibrary
from provabgs.sps.ultraviolet import ULTRAVIOLET_FILE, UltravioletLight, UltravioletShapes, extended
from tests.support.parameters import stars_of
from tests.support.small_library import draws, small_library, theta

T_AGE = 11.0
GRZ = ("decam2014-g", "decam2014-r", "decam2014-z")
UV = ("galex-fuv", "galex-nuv")
WIDE = np.concatenate([np.arange(60.0, 3000.0, 2.5), np.arange(3000.0, 12000.0, 20.0)])


@pytest.fixture(scope="module")
def library() -> SSPLibrary:
    return SSPLibrary.default()


@pytest.fixture(scope="module")
def shapes() -> UltravioletShapes:
    return UltravioletShapes.default()


@pytest.fixture(scope="module")
def longer(library: SSPLibrary, shapes: UltravioletShapes) -> SSPLibrary:
    return extended(library, light_below(shapes, library))


def light_below(shapes: UltravioletShapes, library: SSPLibrary) -> UltravioletLight:
    light = shapes.below(library)
    assert light is not None
    return light


def cut_at(library: SSPLibrary, first: float) -> SSPLibrary:
    kept = library.wave >= first
    return replace(library, wave=library.wave[kept], spectrum=library.spectrum[..., kept])


def galaxy(bands: tuple[str, ...], z: float = 0.1, flux: float = 50.0) -> Observation:
    n = len(bands)
    return Observation(z, (), Photometry(bands, np.full(n, flux), np.full(n, 1.0)), targetid=5)


# ---- the tables ------------------------------------------------------------------------------------------------------


def test_a_library_is_continued_by_itself(longer: SSPLibrary) -> None:
    """Tables made of a library give that library's FUV and NUV back, at ages and metallicities of its own."""
    whole = small_library(WIDE)
    cut = cut_at(whole, 2005.0)
    own = extended(cut, light_below(shapes_of(whole), cut))
    for band in UV:
        made = magnitude(own.spectrum @ absolute_weights(band, own.wave, own.lsun_cgs))
        true = magnitude(whole.spectrum @ absolute_weights(band, whole.wave, whole.lsun_cgs))
        np.testing.assert_allclose(made, true, atol=5e-3)
    wrong = extended(cut, light_below(UltravioletShapes.default(), cut))
    made = magnitude(wrong.spectrum @ absolute_weights("galex-fuv", wrong.wave, wrong.lsun_cgs))
    true = magnitude(whole.spectrum @ absolute_weights("galex-fuv", whole.wave, whole.lsun_cgs))
    assert np.abs(made - true).max() > 0.1


def test_the_librarys_own_light_stays_as_it_is(library: SSPLibrary, longer: SSPLibrary) -> None:
    assert longer.borrowed == NODES.size
    np.testing.assert_array_equal(longer.own_wave, library.wave)
    np.testing.assert_array_equal(longer.spectrum[..., longer.borrowed :], library.spectrum)
    np.testing.assert_array_equal(longer.surviving_mass, library.surviving_mass)


def test_light_of_young_stars_joins_without_a_step(library: SSPLibrary, longer: SSPLibrary) -> None:
    """Old ones have a step: libraries differ by factors there (docs/studies/ultraviolet.md)."""
    n, young = longer.borrowed, library.age_gyr < 0.3
    step = np.log(longer.spectrum[..., n] / longer.spectrum[..., n - 1])
    assert np.abs(step[:, young]).max() < 0.12
    assert np.sqrt(np.mean(step[:, young] ** 2)) < 0.04


def test_cells_hold_the_light_of_the_spectrum(library: SSPLibrary, shapes: UltravioletShapes) -> None:
    """Dust and bands see one ultraviolet: cells above 1050 A integrate the spectrum that bands see."""
    cells, light = shapes.cells(library), light_below(shapes, library)
    young = library.age_gyr < 0.3
    for k, (low, high) in enumerate(pairwise(CELL_EDGES)):
        inside = (light.wave - 5 >= low) & (light.wave + 5 <= high)
        if low < 1050:
            continue
        mean = light.spectrum[:, young][..., inside].mean(axis=-1)
        np.testing.assert_allclose(cells[:, young, k], mean * (high - low), rtol=0.05)  # edges fall between nodes


def test_nothing_to_continue(shapes: UltravioletShapes) -> None:
    assert shapes.below(small_library(np.arange(900.0, 9000.0, 5.0))) is None
    assert shapes.below(cut_at(small_library(), 2100.0)) is None
    with pytest.raises(InputError, match="overlaps the SSP library"):
        extended(small_library(np.arange(1900.0, 9000.0, 20.0)), light_below(shapes, small_library()))


def test_an_extended_library_is_not_saved(longer: SSPLibrary, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="save its own"):
        longer.save(tmp_path / "longer.h5")


def test_tables_are_checked(shapes: UltravioletShapes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "uv.h5"
    shapes.save(path)
    assert UltravioletShapes.load(path).digest() == shapes.digest()
    assert {"source", "citation", "licence", "stars_sha256", "command", "known_errors"} <= set(shapes.provenance)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataFileError, match=r"uv\.h5"):
        UltravioletShapes.load(path)
    for name, value, said in (
        ("log_z", shapes.log_z[::-1], "strictly increasing"),
        ("ratio", shapes.ratio[1:], "has shape"),
        ("ratio", -shapes.ratio, "negative"),
        ("wave", shapes.wave + 500.0, "must end below 2005 A"),
    ):
        with pytest.raises(InputError, match=said):
            replace(shapes, **{name: value})
    assert main(["--stars", str(tmp_path / "none.whl"), "-o", str(tmp_path / "x.h5")]) == 2
    assert "none.whl" in capsys.readouterr().err
    assert ULTRAVIOLET_FILE.endswith(".h5")


# ---- who needs it ----------------------------------------------------------------------------------------------------


def test_only_galaxies_with_such_bands_need_it(library: SSPLibrary) -> None:
    for bands, z, needed in (
        (GRZ, 0.1, False),
        ((*GRZ, "wise2010-W1", "wise2010-W3"), 0.1, False),
        ((*GRZ, "galex-nuv"), 0.1, True),
        (("galex-fuv",), 0.1, True),
        (("galex-fuv",), 0.58, False),  # begins at 850 A
        (("sdss2010-u",), 0.2, False),
        (("sdss2010-u",), 0.59, True),
    ):
        assert needs_ultraviolet(galaxy(bands, z), library.wave) is needed, (bands, z)
    blind = galaxy(("decam2014-r", "galex-nuv"))
    assert blind.photometry is not None
    blind = replace(blind, photometry=replace(blind.photometry, ivar=np.array([1.0, 0.0])))
    assert not needs_ultraviolet(blind, library.wave)
    options = ModelOptions()
    assert model_for(options, galaxy(GRZ)) is load_model(options)
    assert model_for(options, galaxy((*GRZ, *UV))).library.borrowed == NODES.size
    assert model_for(options, galaxy((*GRZ, *UV)), "emulator") is load_model(options)
    off = ModelOptions(ultraviolet=False)
    assert model_for(off, galaxy((*GRZ, *UV))) is load_model(off)
    assert ultraviolet_model(off) is None


@pytest.mark.parametrize("options", [ModelOptions(), ModelOptions(emissions=("dust",), nebular=True, gas_free=True)])
def test_spectra_above_2005_a_are_as_without_it(options: ModelOptions) -> None:
    own, long = load_model(options), model_for(options, galaxy(UV))
    below = ultraviolet_model(options)
    assert below is not None
    assert own.parameters == long.parameters
    star = jnp.asarray(_stars(own, 8))
    plain, more = (np.asarray(m.spectrum(star, m.tables(T_AGE))) for m in (own, long))
    n = long.library.borrowed
    np.testing.assert_allclose(more[:, n:], plain, rtol=2e-6)
    at = [own.parameters.index(name) for name in below.parameters.names]
    alone = np.asarray(below.spectrum(star[:, at], below.tables(T_AGE)))
    np.testing.assert_allclose(more[:, :n], alone[:, :n], rtol=1e-5)
    assert np.all(alone[:, :n] >= 0)


def _stars(model: object, n: int) -> np.ndarray:
    """Parameters of a model ``(n, size)``: stars and dust over the prior, gas in its middle."""
    stars = stars_of(draws(n, np.random.default_rng(1)))
    extra = len(model.parameters) - stars.shape[1]  # type: ignore[attr-defined]
    gas = [0.5 * sum(p.bounds) for p in model.parameters.parameters[-extra:]] if extra else []  # type: ignore[attr-defined]
    return np.hstack([stars, np.tile(gas, (n, 1))]) if extra else stars


# ---- fits ------------------------------------------------------------------------------------------------------------


def test_a_fit_without_such_bands_is_the_same_to_the_bit() -> None:
    bands = (*GRZ, "wise2010-W1", "wise2010-W2")
    config = FitConfig(sampler=SamplerOptions(max_eval=20_000, aim_eval=0), n_samples=64)
    config = config.model_copy(update={"measure": MeasureOptions(groups=())})
    with_, without = (
        fit_observation(galaxy(bands), config.model_copy(update={"model": ModelOptions(ultraviolet=on)}), seed=3)
        for on in (True, False)
    )
    np.testing.assert_array_equal(with_.samples, without.samples)
    np.testing.assert_array_equal(with_.log_prob, without.log_prob)


def test_pixels_do_not_see_borrowed_light(library: SSPLibrary, longer: SSPLibrary) -> None:
    wave = np.arange(3600.0, 5000.0, 0.8)
    spectrum = Spectrum("b", wave, np.ones(wave.size), np.ones(wave.size))
    observation = replace(galaxy((*GRZ, *UV)), spectra=(spectrum,))
    options = ObservingOptions(line_mask="none")
    own, long = (project(observation, lib, options) for lib in (library, longer))
    assert own.spectrum is not None
    assert long.spectrum is not None
    assert own.photometry is not None
    assert long.photometry is not None
    assert own.photometry.bands == GRZ
    assert long.photometry.bands == (*GRZ, *UV)
    difference = long.spectrum.operator[:, longer.borrowed :] - own.spectrum.operator
    assert abs(difference).max() == 0
    assert abs(long.spectrum.operator[:, : longer.borrowed]).max() == 0
    np.testing.assert_array_equal(long.spectrum.ivar, own.spectrum.ivar)
    np.testing.assert_allclose(long.photometry.operator[:3, longer.borrowed :], own.photometry.operator, rtol=1e-12)
    np.testing.assert_allclose(long.photometry.ivar[:3], own.photometry.ivar, rtol=1e-12)
    early = Spectrum("b", wave - 1500.0, np.ones(wave.size), np.ones(wave.size))  # 1909 A at rest
    with pytest.raises(InputError):
        project(replace(observation, spectra=(early,)), longer, options)


@pytest.mark.parametrize("preset", ["published", "honest"])
def test_bands_have_the_error_of_what_they_borrow(longer: SSPLibrary, preset: str) -> None:
    """30 % of what a band sees below 2005 A, also where components of the template error end at 2010 A."""
    config = FitConfig.model_validate({"preset": preset})
    observation = galaxy((*GRZ, *UV), flux=1e4)
    projection = project(observation, longer, config.observing)
    assert projection.photometry is not None
    assert projection.photometry.bands == (*GRZ, *UV)
    share = borrowed_share(projection.photometry.operator, longer)
    assert np.all(share[:3] == 0)
    assert share[3] > 0.999
    assert 0.2 < share[4] < 0.6
    fraction = 1 / np.sqrt(projection.photometry.ivar) / 1e4
    assert np.all(fraction[:3] < 0.15)
    assert np.all(fraction[3:] >= 0.3 * share[3:])
    without = config.observing.model_copy(update={"floor_ultraviolet": 0.0})
    freed = project(observation, longer, without).photometry
    assert freed is not None
    extra = 1 / projection.photometry.ivar - 1 / freed.ivar
    np.testing.assert_allclose(extra, (0.3 * share * 1e4) ** 2, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("emissions", [(), ("dust",)])
def test_the_compressed_likelihood_agrees(emissions: tuple[str, ...]) -> None:
    model = model_for(ModelOptions(emissions=emissions), galaxy(UV))
    truth = theta(tau_ism=0.6, tau_bc=0.5, fburst=0.05, tburst=0.3)
    options = ObservingOptions()
    exact = ExactLikelihood(project(galaxy((*GRZ, *UV)), model.library, options), model)
    flux = np.asarray(exact.predict(truth)[1])[0]
    data = Observation(0.1, (), Photometry((*GRZ, *UV), flux, (0.05 * flux) ** -2), targetid=5)
    exact = ExactLikelihood(project(data, model.library, options), model)
    at = np.vstack([truth, draws(40, np.random.default_rng(3))])
    at[:, model.parameters.index("logmstar")] = 10.0
    at[:, -1] = 1.0
    true, made = (
        np.asarray(exact(jnp.asarray(at))),
        np.asarray(CompressedLikelihood(exact.projection, model)(jnp.asarray(at))),
    )
    np.testing.assert_allclose(made, true, rtol=2e-3, atol=0.05)
    assert np.ptp(true) > 5


def test_a_fit_with_galex_bands_follows_them() -> None:
    """Predictions of the fit hold the bands, and are blue where the data are, red where they are."""
    model = model_for(ModelOptions(), galaxy(UV))
    bands = (*GRZ, *UV)
    exact = ExactLikelihood(project(galaxy(bands), model.library, ObservingOptions()), model)
    config = FitConfig(sampler=SamplerOptions(max_eval=60_000, aim_eval=0), n_samples=100)
    config = config.model_copy(update={"measure": MeasureOptions(groups=())})
    ratios = []
    for tau in (0.1, 1.5):
        flux = np.asarray(exact.predict(theta(fburst=0.3, tburst=0.05, tau_ism=tau))[1])[0]
        seen = Observation(0.1, (), Photometry(bands, flux, (0.03 * flux) ** -2), targetid=5)
        posterior = fit_observation(seen, config, seed=1)
        assert posterior.dof_phot == 5
        shown = predict(posterior, seen, n_draws=30).photometry
        assert shown is not None
        assert shown.bands == bands
        made = np.median(shown.model, axis=0)
        np.testing.assert_allclose(np.log(made / flux), 0.0, atol=0.5)
        ratios.append(np.log(flux[3] / flux[1]))
    assert ratios[0] > ratios[1] + 2.0  # four times the tolerance
