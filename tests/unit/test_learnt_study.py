"""The tables of `studies.learnt_prior` on posteriors that are known, and the galaxies that it can draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from provabgs.catalog.columns import STANDARD
from provabgs.core.errors import ConfigError
from studies.support import diffstar_galaxies
from studies.support.diffstar_galaxies import DIFFSTAR, DiffstarGalaxies, draw_pool, is_installed
from studies.support.drawn_fits import DRAWN, KeptFits
from studies.support.honest_galaxies import HonestGalaxies, with_metals
from studies.support.learnt_tables import Regime, Stage, Stages, even_weights, row_of, width, with_refits

N, S = 2000, 300
AGE = Regime("age", "T_AGE_MW")


def fits_of(offset: float, sigma: float, seed: int, n: int = N, status: int = 0) -> KeptFits:
    """Posteriors whose errors are normal of sigma 1, which say that they are of another, and are off by an offset."""
    rng = np.random.default_rng(seed)
    truth = 5 + np.zeros(n)
    centre = truth + offset + rng.standard_normal(n)
    draws = {k: centre[:, None] + sigma * rng.standard_normal((n, S)) for k in (*DRAWN, "LOGSSFR_1GYR")}
    columns = {"TARGETID": np.arange(1, n + 1), "STATUS": np.full(n, status)}
    return KeptFits(Path(), columns, (), STANDARD, "", {}, draws, dict.fromkeys(draws, truth))


def numbers(cell: str) -> list[float]:
    return [float(x) for x in cell.split("/")]


def test_rows_say_bias_and_coverage_of_each_stage() -> None:
    """Right posteriors cover 68 and 95 %; half as wide ones cover 38 and 67 %; offsets are seen."""
    right, narrow = fits_of(0.0, 1.0, 0), fits_of(0.7, 0.5, 1)
    stages = [Stage("a", right.draws, even_weights(right)), Stage("b", narrow.draws, even_weights(narrow))]
    cells = row_of(AGE, stages, right.truth["T_AGE_MW"]).strip("| ").split(" | ")
    assert cells[:2] == ["age", str(N)]
    assert numbers(cells[2]) == pytest.approx([0.0, 0.7], abs=0.15)
    assert numbers(cells[3]) == pytest.approx([1.0, 1.0], abs=0.12)
    assert numbers(cells[4])[0] == pytest.approx(68, abs=4)
    assert numbers(cells[4])[1] < 40
    assert numbers(cells[5])[0] == pytest.approx(95, abs=3)
    assert numbers(cells[6]) == pytest.approx([1.0, 0.5], abs=0.05)


def test_refits_take_the_place_of_collapsed_weights() -> None:
    """Those that converged, and no others; the earlier stages stay as they are."""
    before, again = fits_of(0.0, 1.0, 0), fits_of(0.0, 0.1, 2, n=3)
    again.columns["STATUS"][1] = 1
    weight = np.zeros((N, S))
    weight[:, 0] = 1.0
    stages = Stages((Stage("before", before.draws, even_weights(before)), Stage("r", before.draws, weight)), np.ones(N))
    found = with_refits(stages, again, [4, 9, 2]).stages
    assert len(found) == 3
    last = found[2]
    for row, own in ((4, 0), (2, 2)):
        np.testing.assert_array_equal(last.draws["LOGZ_MW"][row], again.draws["LOGZ_MW"][own])
        np.testing.assert_allclose(last.weight[row], 1 / S)
    np.testing.assert_array_equal(last.draws["LOGZ_MW"][9], before.draws["LOGZ_MW"][9])
    np.testing.assert_array_equal(last.weight[9], weight[9])
    np.testing.assert_array_equal(found[1].weight, weight)
    assert found[1].draws["LOGZ_MW"][4, 0] == before.draws["LOGZ_MW"][4, 0] != last.draws["LOGZ_MW"][4, 0]


def test_widths_are_of_weighted_draws() -> None:
    x = np.random.default_rng(0).standard_normal(20_000)
    assert width(x, np.ones(x.size)) == pytest.approx(1.0, abs=0.03)
    assert width(x, np.exp(-1.5 * x**2)) == pytest.approx(0.5, abs=0.03)  # a normal of half the sigma


def test_metals_rise_with_the_mass_formed() -> None:
    age = np.linspace(0.1, 10, 50)
    stars = with_metals(age, np.full(50, 0.02), np.random.default_rng(0))
    assert np.all(np.diff(stars.logzsol) < 0)
    assert stars.logzsol[0] - stars.logzsol[-1] == pytest.approx(0.5, abs=0.03)


@pytest.mark.skipif(not is_installed(), reason="histories of TNG need diffstar (pip install diffstar)")
def test_histories_of_tng() -> None:
    pool = draw_pool(60, seed=0)
    assert np.all(pool.sfr >= 0)
    galaxy = DiffstarGalaxies.__new__(DiffstarGalaxies)
    galaxy.pool = pool
    stars = galaxy.history(DIFFSTAR, 11.0, np.random.default_rng(1))
    assert stars.mass.sum() == pytest.approx(1.0)
    assert stars.age[-1] < 11.0


def test_without_diffstar_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffstar_galaxies, "is_installed", lambda: False)
    with pytest.raises(ConfigError, match="pip install diffstar"):
        draw_pool(3, 0)
    assert HonestGalaxies.kinds == ("delayed", "quenched", "bursty")
