"""Template error: the file that ships, its reader, and how components are learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from provabgs.core.errors import DataFileError, InputError
from provabgs.data.build_template_error import (
    Composites,
    Difference,
    Draws,
    Perturbation,
    build,
    difference,
    draw,
    learn,
    left_over,
    main,
    wavelength_grid,
)
from provabgs.observe.template_error import GROUPS, TemplateError
from provabgs.sps.imf import imf_light
from provabgs.sps.library import SSPLibrary
from provabgs.sps.nebular import NebularGrid, with_nebular


def small_error(**changes: object) -> TemplateError:
    wave = np.linspace(3000.0, 9000.0, 61)
    modes = np.array([np.full(61, 0.1), 0.05 * np.sin(wave / 1000)])
    fields: dict[str, object] = {
        "wave": wave,
        "modes": modes,
        "residual": np.full(61, 0.001),
        "transfer": np.linspace(0.01, 0.02, 61),
        "library_sha256": "abc",
        "library_source": "here",
    }
    return TemplateError(**(fields | changes))  # type: ignore[arg-type]


# ---- the file that ships -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", GROUPS)
def test_default_is_for_the_default_library(group: str, library: SSPLibrary) -> None:
    error = TemplateError.default(group)
    error.check(library)
    assert error.group == group
    assert error.library_sha256 == library.digest()
    assert error.wave[0] < 2015
    assert error.wave[-1] > 59000
    assert 20 <= error.n_component <= 40
    for key in ("libraries", "seed", "command", "citation", "licence", "composites"):
        assert error.provenance[key]


def test_groups_hold_a_library_out() -> None:
    told = {group: TemplateError.default(group).provenance["libraries"] for group in GROUPS}
    assert "BC03" in told["all"]
    assert "E-MILES" in told["all"]
    assert "BC03" not in told["without-bc03"]
    assert "E-MILES" not in told["without-emiles"]


def test_sizes_are_those_of_the_study() -> None:
    """A few per cent in the optical after the level, more in the UV and infrared; most of it in few components."""
    error = TemplateError.default()
    sigma = np.sqrt((error.components([2500.0, 4500.0, 6500.0, 8500.0, 34000.0]) ** 2).sum(axis=1))
    assert np.all((sigma > 0.10) & (sigma < 0.45))
    shape = error.components([4500.0]) - error.components([6500.0])
    assert 0.02 < np.sqrt((shape**2).sum()) < 0.12
    assert np.interp(5000.0, error.wave, error.residual) < 0.004
    assert error.floor([5000.0])[0] < 0.015 < error.floor([3200.0])[0]


def test_modes_are_ordered_by_size_and_smooth_enough_for_the_grid() -> None:
    error = TemplateError.default()
    optical = (error.wave > 3550) & (error.wave < 8900)
    size = (error.modes[:, optical] ** 2).mean(axis=1)
    assert size[0] > 5 * size[5] > 5 * size[20]
    # halving the grid moves the error by little: it was sampled finely enough
    middle = error.wave[1:-1:2][(error.wave[1:-1:2] > 3600) & (error.wave[1:-1:2] < 9000)]
    coarse = replace(
        error,
        wave=error.wave[::2],
        modes=error.modes[:, ::2],
        residual=error.residual[::2],
        transfer=error.transfer[::2],
    )
    moved = np.sqrt(((coarse.components(middle) - error.components(middle)) ** 2).sum(axis=1).mean())
    assert moved < 0.006


def test_library_with_gas_is_still_the_same_stars(library: SSPLibrary) -> None:
    TemplateError.default().check(with_nebular(library, NebularGrid.default(), -2.5))


def test_another_library_is_refused(library: SSPLibrary) -> None:
    error = TemplateError.default()
    other = replace(library, spectrum=library.spectrum * 2, provenance={"source": "BC03"})
    with pytest.raises(InputError, match=r"learnt for SSP library .* the model has .* \(BC03\); build components"):
        error.check(other)
    wide = replace(library, wave=np.append(library.wave[:-1], 80000.0))
    with pytest.raises(InputError, match=r"covers 20\d\d-59\d\d\d A, the SSP library 200\d-80000 A"):
        error.check(wide)


# ---- reader --------------------------------------------------------------------------------------------------------


def test_components_are_linear_between_nodes_and_constant_beyond() -> None:
    error = small_error()
    assert error.components([3050.0]).shape == (1, 2)
    np.testing.assert_allclose(error.components([3050.0])[0], error.modes[:, :2].mean(axis=1))
    np.testing.assert_allclose(error.components([100.0, 1e6]), error.modes[:, [0, -1]].T)
    np.testing.assert_allclose(error.floor([3000.0, 9000.0, 1e5]), [0.01, 0.02, 0.02])
    np.testing.assert_allclose(error.floor([5000.0], transfer=False), 0.001)


def test_round_trip(tmp_path: Path) -> None:
    error = small_error(provenance={"seed": "1"})
    error.save(tmp_path / "e.h5")
    small_error(group="without-bc03").save(tmp_path / "e.h5")
    error.save(tmp_path / "e.h5")
    again = TemplateError.load(tmp_path / "e.h5")
    assert again.digest() == error.digest()
    assert again.provenance == {"seed": "1"}
    assert TemplateError.load(tmp_path / "e.h5", "without-bc03").group == "without-bc03"


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="no such file; build it"):
        TemplateError.load(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(DataFileError, match="cannot be read as a template error"):
        TemplateError.load(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f.attrs["format"] = "provabgs-ssp-1"
    with pytest.raises(DataFileError, match="not a template error of format"):
        TemplateError.load(tmp_path / "other.h5")
    small_error().save(tmp_path / "e.h5")
    with pytest.raises(InputError, match="no group 'without-me'; it has all"):
        TemplateError.load(tmp_path / "e.h5", "without-me")
    with h5py.File(tmp_path / "e.h5", "a") as f:
        f["all/modes"][0, 0] += 0.1
    with pytest.raises(DataFileError, match="does not match its recorded SHA-256"):
        TemplateError.load(tmp_path / "e.h5")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modes": np.zeros((2, 60))}, "modes must be finite"),
        ({"residual": np.full(61, np.nan)}, "residual must be finite"),
        ({"wave": np.zeros(61)}, "strictly increasing"),
    ],
)
def test_bad_arrays(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small_error(**changes)


# ---- how components are learnt -------------------------------------------------------------------------------------


def test_imf_conversions_are_those_of_the_literature() -> None:
    """Madau & Dickinson (2014, section 3.1.2): surviving masses Salpeter to Chabrier 0.61, Kroupa to Chabrier 0.92.

    Of a Salpeter IMF 0.72 survives for 10 Gyr, of a Chabrier IMF 0.57-0.58; of a Kroupa IMF 0.60.
    """
    assert imf_light("Chabrier (2003)") == 0
    assert np.exp(imf_light("Salpeter (unimodal)")) * 0.575 / 0.72 == pytest.approx(0.61, rel=0.05)
    assert np.exp(imf_light("Kroupa & Boily (2002)")) * 0.575 / 0.60 == pytest.approx(0.92, rel=0.05)
    with pytest.raises(InputError, match="IMF 'Scalo' is not known"):
        imf_light("Scalo")


def test_learnt_components_have_the_second_moment() -> None:
    rng = np.random.default_rng(0)
    wave, _ = wavelength_grid(2005.0, 59900.0)
    x = np.log(wave / 5500)
    true = np.array([0.1 + 0 * x, 0.05 * x, 0.02 * np.sin(20 * x)])
    one, two = (Difference("d", rng.standard_normal((400, 3)) @ true + 0.03) for _ in range(2))
    modes, eigenvalues = learn([one, two], None, wave, 6)
    both = np.concatenate([one.d, two.d])
    np.testing.assert_allclose(modes.T[::50] @ modes[:, ::50], both.T[::50] @ both[:, ::50] / len(both), atol=1e-6)
    assert eigenvalues[3] < 1e-10 * eigenvalues[0]
    # the constant 0.03 is an error of unknown sign: part of the covariance
    assert (modes[:, 3000] ** 2).sum() > 0.1**2 + 0.5 * 0.03**2
    residual, c = left_over(modes, one.d, noise=1e-4)
    assert np.abs(residual).max() < 1e-3
    assert (c**2).mean(axis=0)[:3] == pytest.approx(1.0, abs=0.2)


@pytest.fixture(scope="module")
def coarse(library: SSPLibrary) -> SSPLibrary:
    """The default library on fewer nodes: quick."""
    keep = np.arange(0, library.wave.size, 40)
    return replace(
        library,
        wave=library.wave[keep],
        spectrum=np.ascontiguousarray(library.spectrum[::2, :, keep]),
        logzsol=library.logzsol[::2],
        surviving_mass=library.surviving_mass[::2],
    )


def test_libraries_equal_but_for_the_imf_do_not_differ(coarse: SSPLibrary) -> None:
    wave, sigma = wavelength_grid(coarse.wave[0], coarse.wave[-1])
    other = replace(
        coarse, spectrum=coarse.spectrum * np.float32(np.exp(imf_light("Salpeter"))), imf="Salpeter (unimodal)"
    )
    mine, its = Composites(coarse, wave, sigma), Composites(other, wave, sigma)
    draws = draw(8, 1)
    assert np.abs(difference(mine, its, "x", draws).d).max() < 1e-5
    # and the light is that of the model
    theta = draws.theta[:1]
    ln_light = mine.ln_light(Draws(theta, draws.t_age[:1]), (-2.5, 0.5))
    spectrum = np.asarray(mine.model.spectrum(theta, mine.model.tables(draws.t_age[:1])))[0] / 10 ** theta[0, 0]
    expected = np.log(np.interp(wave, coarse.wave, spectrum) * coarse.lsun_cgs)
    smooth = (wave > 10000) & (wave < 50000)
    np.testing.assert_allclose(ln_light[0, smooth], expected[smooth], atol=0.02)


def test_build_holds_out_and_finds_a_planted_difference(coarse: SSPLibrary) -> None:
    """Libraries 10 % redder than ours: one component holds it, and so it does for the library that was held out."""
    tilt = (0.1 * np.log(coarse.wave / 5500)).astype(np.float32)
    others = {
        name: replace(coarse, spectrum=coarse.spectrum * np.exp(f * tilt), provenance={"source": name})
        for name, f in (("emiles", 1.0), ("bc03", -2.0))
    }
    groups = build(coarse, others, 40, 8, 5, Perturbation(0.01, 0.01, 0.01))
    assert list(groups) == ["all", "without-emiles", "without-bc03"]
    assert set(groups) == set(GROUPS)
    assert "bc03" in groups["without-emiles"].provenance["libraries"]
    assert "emiles (" not in groups["without-emiles"].provenance["libraries"]
    for error in groups.values():
        error.check(coarse)
        assert np.interp(4000.0, error.wave, error.transfer) < 0.01
    ratio = groups["without-emiles"].components([20000.0]) / groups["without-bc03"].components([20000.0])
    assert np.abs(ratio[0, 0]) == pytest.approx(2.0, rel=0.1)


def test_build_script_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = str(tmp_path / "absent.h5")
    assert main(["--emiles", absent, "--bc03", absent, "-o", str(tmp_path / "o.h5")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
