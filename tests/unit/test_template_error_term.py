"""The noise term of the stellar library's error: files of one's own, and files that do not fit library or data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from provabgs.core.errors import ConfigError, DataFileError, UnusableTargetError
from provabgs.core.status import Status
from provabgs.inference.config import FitConfig, load_fit_config
from provabgs.inference.fit import check_names, fit_one
from provabgs.observe.data_error import stand_in
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import Projection, project
from provabgs.observe.template_error import TemplateError
from provabgs.sps.library import SSPLibrary
from tests.support.small_library import small_library

Z = 0.1
LIBRARY = small_library()
SOURCE = LIBRARY.provenance["source"]


def error(low: float = 2000.0, high: float = 12000.0, **changes: object) -> TemplateError:
    """Components of the small library: one, of 10 % per 10000 A."""
    wave = np.linspace(low, high, 101)
    fields = {"wave": wave, "modes": 1e-5 * wave[None], "residual": np.zeros(101), "transfer": np.zeros(101)}
    made = {"library_sha256": LIBRARY.digest(), "library_source": SOURCE}
    return TemplateError(**(fields | made | changes))  # type: ignore[arg-type]


def saved(folder: Path, made: TemplateError, name: str = "own.h5") -> Path:
    made.save(folder / name)
    return folder / name


def galaxy(low: float = 4000.0, high: float = 7000.0, bands: tuple[str, ...] = ("decam2014-r",)) -> Observation:
    wave = np.arange(low, high, 5.0)
    camera = Spectrum("b", wave, np.full(wave.size, 3.0), np.ones(wave.size))
    return Observation(Z, (camera,), Photometry(bands, np.ones(len(bands)), np.ones(len(bands))), targetid=7)


def options(path: Path | None = None, **more: object) -> ObservingOptions:
    given = {"noise": ("template-error",), "line_mask": "none", "template_error_file": path}
    return ObservingOptions.model_validate(given | more)


def projected(path: Path, library: SSPLibrary = LIBRARY, data: Observation | None = None) -> Projection:
    return project(data or galaxy(), library, options(path))


# ---- a file of one's own -------------------------------------------------------------------------------------------


def test_components_of_ones_own_file(tmp_path: Path) -> None:
    made = projected(saved(tmp_path, error()))
    assert made.spectrum is not None
    assert made.photometry is not None
    slope = np.diff(made.spectrum.templates[:, 0]) / np.diff(made.spectrum.wave)
    np.testing.assert_allclose(slope, 3.0 * 1e-5 / (1 + Z), rtol=1e-4)
    assert 0.04 < made.light_error < 0.07  # what all data have in common is left to the mass
    twice = project(galaxy(), LIBRARY, options(tmp_path / "own.h5", template_error=2.0))
    assert twice.photometry is not None
    np.testing.assert_allclose(twice.photometry.templates, 2 * made.photometry.templates, rtol=1e-6)


def test_its_path_starts_from_the_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "fit.toml").write_text("[fit.observing]\ntemplate_error_file = 'own.h5'\n")
    found = load_fit_config(tmp_path / "fit.toml")
    assert found.observing.template_error_file == tmp_path / "own.h5"
    assert FitConfig.model_validate_json(found.model_dump_json()) == found


# ---- files that do not fit -----------------------------------------------------------------------------------------


def test_components_that_ship_stand_in() -> None:
    """They are differences between libraries, of whatever stars: used for the small library too, and said."""
    assert project(galaxy(), LIBRARY, options()).light_error > 0.05
    note = stand_in(options(), LIBRARY)
    assert note.startswith("the template error of the library that ships stands in for that of ")
    assert "build_template_error" in note
    assert stand_in(options(), SSPLibrary.default()) == ""
    assert stand_in(options(template_error=0), LIBRARY) == ""
    assert stand_in(ObservingOptions(), LIBRARY) == ""  # the term is not used


def test_hash_and_source_of_another_library(tmp_path: Path) -> None:
    """Another hash under another source is refused; gas or a cut, which change the hash alone, are not."""
    path = saved(tmp_path, error())
    cut = replace(LIBRARY, wave=LIBRARY.wave[1:], spectrum=LIBRARY.spectrum[..., 1:])
    assert cut.digest() != LIBRARY.digest()
    projected(path, cut)
    other = replace(LIBRARY, spectrum=1.1 * LIBRARY.spectrum, provenance={"source": "elsewhere"})
    with pytest.raises(ConfigError, match=rf"template_error_file {path}: .* the model has .* \(elsewhere\)"):
        projected(path, other)
    projected(path, replace(LIBRARY, provenance={"source": "elsewhere"}))  # the same numbers under another name


def test_no_source_is_no_agreement(tmp_path: Path) -> None:
    path = saved(tmp_path, error(library_sha256="0" * 64, library_source="unknown"))
    with pytest.raises(ConfigError, match="learnt for SSP library 000000000000"):
        projected(path, replace(LIBRARY, provenance={}))


@pytest.mark.parametrize(
    ("low", "high", "what"),
    [
        (3700.0, 12000.0, r"the spectrum at z = 0\.1 needs 3636-6359 A at rest"),
        (2000.0, 6250.0, r"the spectrum at z"),
        (3000.0, 7000.0, r"decam2014-z at z"),
    ],
)
def test_data_beyond_the_components(low: float, high: float, what: str, tmp_path: Path) -> None:
    """The galaxy is refused with the file, its range and the cure; another one may lie within."""
    path = saved(tmp_path, error(low, high))
    data = galaxy(bands=("decam2014-r", "decam2014-z"))
    with pytest.raises(UnusableTargetError, match=f"{path} covers {low:.0f}-{high:.0f} A, {what}") as caught:
        projected(path, data=data)
    assert caught.value.status == Status.REDSHIFT_OUT_OF_RANGE
    projected(saved(tmp_path, error(3000.0, 9500.0), "wide.h5"), data=data)


def test_a_fit_says_it_too(tmp_path: Path) -> None:
    """A STATUS where the galaxy's data are beyond the file, an error where the file is of another library."""
    LIBRARY.save(tmp_path / "ssp.h5")
    path = saved(tmp_path, error(4500.0, 9000.0))
    config = FitConfig.model_validate(
        {"model": {"library": tmp_path / "ssp.h5"}, "observing": options(path).model_dump()}
    )
    found = fit_one(galaxy(), config)
    assert found.status == Status.REDSHIFT_OUT_OF_RANGE
    assert "own.h5 covers 4500-9000 A" in found.message
    theirs = config.model_copy(
        update={
            "observing": options(saved(tmp_path, error(library_sha256="0" * 64, library_source="theirs"), "theirs.h5"))
        }
    )
    with pytest.raises(ConfigError, match=r"theirs\.h5: .*learnt for SSP library"):
        fit_one(galaxy(), theirs)


def test_a_fit_says_whose_components_stand_in(tmp_path: Path) -> None:
    LIBRARY.save(tmp_path / "ssp.h5")
    short = {"time_limit_s": 1.0, "max_eval": 20_000}
    config = {"model": {"library": tmp_path / "ssp.h5"}, "observing": options().model_dump(), "sampler": short}
    found = fit_one(galaxy(), FitConfig.model_validate(config))
    assert "stands in for that of" in found.message


@pytest.mark.parametrize(
    ("observing", "kind", "message"),
    [
        ({"template_error_group": "without-me"}, ConfigError, "no group 'without-me'"),
        ({"template_error_file": "nothing.h5"}, DataFileError, r"nothing\.h5: no such file; build it"),
    ],
)
def test_before_any_fit(observing: dict[str, str], kind: type[Exception], message: str) -> None:
    """Commands say it before they wait for workers."""
    given = {"noise": ["floor", "template-error"]} | observing
    config = {"observing": given}
    with pytest.raises(kind, match=message):
        check_names(FitConfig.model_validate(config))
    check_names(FitConfig.model_validate(config | {"observing": given | {"template_error": 0}}))


def test_a_file_for_the_library_that_ships(tmp_path: Path) -> None:
    given = {"noise": ["template-error"], "template_error_file": saved(tmp_path, error())}
    with pytest.raises(ConfigError, match=r"own\.h5: .*learnt for SSP library .* the model has"):
        check_names(FitConfig.model_validate({"observing": given}))
