"""The SSP library object, and the file that ships."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from provabgs.core.errors import DataFileError, InputError
from provabgs.sps.library import SSPLibrary


@pytest.fixture
def small() -> SSPLibrary:
    rng = np.random.default_rng(1)
    return SSPLibrary(
        wave=np.array([3000.0, 4000.0, 5000.0, 6000.0]),
        log_age=np.array([6.0, 7.0, 8.0]),
        logzsol=np.array([-1.0, 0.0]),
        spectrum=rng.uniform(0, 1, (2, 3, 4)).astype(np.float32),
        surviving_mass=np.linspace(1.0, 0.6, 6).reshape(2, 3),
        provenance={"source": "random numbers"},
    )


def test_round_trip(small, tmp_path: Path) -> None:
    small.save(tmp_path / "ssp.h5")
    back = SSPLibrary.load(tmp_path / "ssp.h5")
    for name in ("wave", "log_age", "logzsol", "spectrum", "surviving_mass"):
        np.testing.assert_array_equal(getattr(back, name), getattr(small, name))
    assert (back.z_solar, back.imf, back.lsun_cgs) == (small.z_solar, small.imf, small.lsun_cgs)
    assert back.provenance == small.provenance
    assert back.digest() == small.digest()


def test_same_library_writes_the_same_bytes(small, tmp_path: Path) -> None:
    small.save(tmp_path / "a.h5")
    small.save(tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"wave": np.array([3000.0, 4000.0, 4000.0, 6000.0])},
            "'wave' must be one-dimensional and strictly increasing",
        ),
        ({"log_age": np.array([6.0, 7.0])}, "its axes"),
        ({"surviving_mass": np.ones((3, 2))}, "surviving_mass has shape"),
        ({"spectrum": np.full((2, 3, 4), -1.0, np.float32)}, "negative"),
        ({"spectrum": np.full((2, 3, 4), np.nan, np.float32)}, "NaN"),
    ],
)
def test_impossible_libraries_are_refused(small, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(small, **change)


def test_files_that_are_no_libraries(small, tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="no such file"):
        SSPLibrary.load(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(DataFileError, match="cannot be read as an SSP library"):
        SSPLibrary.load(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f.attrs["format"] = "something else"
    with pytest.raises(DataFileError, match="not an SSP library"):
        SSPLibrary.load(tmp_path / "other.h5")
    small.save(tmp_path / "cut.h5")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "cut.h5").read_bytes()[:3000])
    with pytest.raises(DataFileError, match=r"cut\.h5"):
        SSPLibrary.load(tmp_path / "cut.h5")


def test_a_changed_number_is_noticed(small, tmp_path: Path) -> None:
    small.save(tmp_path / "ssp.h5")
    with h5py.File(tmp_path / "ssp.h5", "r+") as f:
        f["surviving_mass"][0, 0] = 0.123
    with pytest.raises(DataFileError, match="does not match its recorded SHA-256"):
        SSPLibrary.load(tmp_path / "ssp.h5")


# ---- the library that ships ----------------------------------------------------------------------------------------


def test_default_grid(library: SSPLibrary) -> None:
    assert library.spectrum.shape == (12, 104, 4899)
    np.testing.assert_allclose(library.logzsol, [-2.5, -2.0, *np.arange(-1.75, 0.51, 0.25)])
    assert library.age_gyr[0] == pytest.approx(1e-4)
    assert library.age_gyr[-1] == pytest.approx(13.27, abs=0.01)
    assert library.wave[0] < 2010
    assert library.wave[-1] > 55000
    assert library.metallicity[-1] == pytest.approx(0.0449, rel=1e-3)


def test_default_surviving_mass_is_physical(library: SSPLibrary) -> None:
    """Never above the mass formed, falling with age, 0.55-0.57 at 13 Gyr for a Chabrier IMF with remnants."""
    mass = library.surviving_mass
    assert mass.max() <= 1.0
    old = library.log_age > 7.0
    assert np.diff(mass[:, old], axis=1).max() < 2e-3
    np.testing.assert_allclose(mass[:, -1], 0.56, atol=0.015)
    np.testing.assert_array_equal(mass[-1], mass[-2])


def test_default_spectra_fade_and_redden(library: SSPLibrary) -> None:
    """Light-to-mass falls with age; the 4000 A break (Balogh et al. 1999) rises with age and metallicity."""
    wave, solar = library.wave, 9
    v = (wave > 5000) & (wave < 6000)
    ages = [int(np.argmin(np.abs(library.log_age - a))) for a in (7.0, 8.0, 9.0, 10.0)]
    light = [float(library.spectrum[solar, j, v].mean()) for j in ages]
    assert light == sorted(light, reverse=True)
    assert 1e-5 < light[-1] < 1e-4  # M/L_V of 2-4: about 2e-5 Lsun/A per Msun formed

    def break_4000(iz: int, j: int) -> float:
        red, blue = (wave > 4000) & (wave < 4100), (wave > 3850) & (wave < 3950)
        per_hz = library.spectrum[iz, j] * wave**2
        return float(per_hz[red].mean() / per_hz[blue].mean())

    by_age = [break_4000(solar, j) for j in ages[1:]]
    assert by_age == sorted(by_age)
    assert by_age[-1] == pytest.approx(1.9, abs=0.25)
    assert break_4000(3, ages[-1]) < break_4000(7, ages[-1]) < by_age[-1]


def test_default_says_where_it_comes_from(library: SSPLibrary) -> None:
    assert {"source", "licence", "citation", "known_errors", "input_sha256", "command", "precision"} <= set(
        library.provenance
    )
    assert library.lsun_cgs == 3.839e33
