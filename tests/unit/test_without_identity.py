"""Galaxies that nobody has numbered, and spectra of which nobody says how much light they hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import provabgs
from provabgs import Observation, Photometry, Spectrum
from provabgs.catalog.observed import read_fitted
from provabgs.catalog.shard import read_shard
from provabgs.core.errors import InputError
from provabgs.core.identity import name_of, stream_of
from provabgs.inference.config import FitConfig
from provabgs.inference.fit import fit_one
from provabgs.observe.filters import band_weights
from provabgs.observe.spectrum_fraction import UNKNOWN, ratios, with_spectrum_fraction
from tests.support.small_library import small_library

WAVE = np.arange(3600.0, 9800.0, 4.0)
FLUX = 2.0 + (WAVE / 6000.0) ** 2
BANDS = ("decam2014-g", "decam2014-r", "wise2010-W1")


def galaxy(fraction: float = 0.4, **changes: object) -> Observation:
    spectrum = Spectrum("b", WAVE, FLUX, np.full(WAVE.size, 25.0))
    wide = np.arange(3000.0, 12000.0, 4.0)
    total = np.array([band_weights(b, wide) @ (2.0 + (wide / 6000.0) ** 2) for b in BANDS[:2]] + [5.0]) / fraction
    given = {"redshift": 0.1, "spectra": (spectrum,), "photometry": Photometry(BANDS, total, 1 / (0.02 * total) ** 2)}
    return Observation(**(given | changes))  # type: ignore[arg-type]


def quick(folder: Path, **options: object) -> FitConfig:
    small_library().save(folder / "ssp.h5")
    sampler = {"max_eval": 20_000, "time_limit_s": 5.0, "aim_eval": 0}
    return FitConfig.model_validate({"model": {"library": folder / "ssp.h5"}, "sampler": sampler} | options)


# ---- fiber fraction --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.1, 0.4, 1.0])
def test_fraction_is_that_of_the_data_and_broad(fraction: float) -> None:
    """Of two bands that the spectrum covers; W1 lies beyond it."""
    assert ratios(galaxy(fraction)) == pytest.approx([fraction, fraction], rel=0.01)
    found, note = with_spectrum_fraction(galaxy(fraction))
    assert found.fiber_fraction is not None
    assert found.fiber_fraction[0] == pytest.approx(fraction, rel=0.01)
    assert found.fiber_fraction[1] == pytest.approx(0.3 * found.fiber_fraction[0])
    assert note.startswith("no fiber fraction given: its prior is ")


def test_where_nothing_is_assumed() -> None:
    given = galaxy(fiber_fraction=(0.3, 0.1))
    for observation in (given, galaxy(photometry=None), galaxy(spectra=())):
        assert with_spectrum_fraction(observation) == (observation, "")


def test_no_band_within_the_spectrum() -> None:
    alone = galaxy(photometry=Photometry(BANDS[2:], [5.0], [100.0]))
    assert with_spectrum_fraction(alone)[0].fiber_fraction == UNKNOWN


def test_a_fit_says_what_it_assumed(tmp_path: Path) -> None:
    posterior = fit_one(galaxy(), quick(tmp_path), seed=1)
    assert "no fiber fraction given: its prior is 0.4 +- 0.1" in posterior.message
    assert 0.1 < np.median(posterior["f_fiber"]) < 0.8
    assert posterior["f_fiber"].std() > 0


# ---- no TARGETID -----------------------------------------------------------------------------------------------------


def test_random_numbers_and_names_without_a_targetid() -> None:
    one, other = galaxy(), galaxy(0.5)
    assert stream_of(7, one.digest()) == 7
    assert stream_of(-2, one.digest()) == -2  # a sky fiber
    assert stream_of(-1, one.digest()) != stream_of(-1, other.digest())
    assert 0 <= stream_of(-1, one.digest()) < 2**63
    assert name_of(7, one.digest()) == "7"
    assert name_of(-1, one.digest()) == f"galaxy-{one.digest()[:12]}"


# ---- save ------------------------------------------------------------------------------------------------------------


def test_saved_posteriors_come_back_with_their_data(tmp_path: Path) -> None:
    config = quick(tmp_path, use="spectrum", n_samples=50)
    galaxies = [galaxy(targetid=1), galaxy(0.5, targetid=2, redshift=0.11)]
    posteriors = [fit_one(g, config, seed=1) for g in galaxies]
    provabgs.save(posteriors, galaxies, tmp_path / "out.h5")
    assert [p.targetid for p in read_shard(tmp_path / "out.h5")] == [1, 2]
    assert read_fitted(tmp_path / "out.h5", 1).digest() == galaxies[1].digest()
    provabgs.save(posteriors[0], galaxies[0], tmp_path / "one.h5")
    with provabgs.Catalog.open(tmp_path / "one.h5") as catalog:
        assert len(catalog) == 1
    provabgs.save(posteriors, None, tmp_path / "no-data.h5")
    with pytest.raises(InputError, match="2 posteriors but 1 observations"):
        provabgs.save(posteriors, galaxies[:1], tmp_path / "no.h5")
    with pytest.raises(InputError, match="observation 0 is not what posterior 0 was fitted to"):
        provabgs.save(posteriors, galaxies[::-1], tmp_path / "no.h5")
    assert not (tmp_path / "no.h5").exists()


def test_part() -> None:
    both = galaxy()
    assert both.part("both") is both
    assert both.part("spectrum").photometry is None
    assert both.part("photometry").spectra == ()
    assert replace(both, photometry=None).digest() == both.part("spectrum").digest()
