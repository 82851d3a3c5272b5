"""Survey limits as margins, and survey weights."""

from __future__ import annotations

import numpy as np
import pytest

from provabgs.core.errors import InputError
from provabgs.population.survey.selection import BGSFaint, MagnitudeLimit, bgs_bright, parse_selection
from provabgs.population.weights import combine_weights


def faint_mags(r: float, colour: float, photsys: str = "S") -> dict[str, np.ndarray]:
    """g, r, z, W1 with the given value of (z - W1) - 1.2 (g - r) + 1.2."""
    g, z = r + 1.0, r - 0.5
    w1 = z + 1.2 - 1.2 * (g - r) - colour
    return dict(zip(BGSFaint(photsys).bands, (np.array(v) for v in (g, r, z, w1)), strict=True))


def test_limits_and_their_margins() -> None:
    limit = MagnitudeLimit("decam2014-r", 19.5, 12.0)
    m = np.array([11.0, 13.0, 19.4, 19.6, np.nan])
    np.testing.assert_allclose(limit.margin({"decam2014-r": m})[:4], [-1.0, 1.0, 0.1, -0.1])
    assert np.isnan(limit.margin({"decam2014-r": m})[4])
    assert bgs_bright("S") == limit
    assert bgs_bright("N").faint == 19.54
    assert bgs_bright("N").bands == ("BASS-r",)


@pytest.mark.parametrize(
    ("r", "fiber", "colour", "taken"),
    [
        (20.0, 20.7, -0.1, True),
        (20.0, 20.8, -0.1, False),
        (20.0, 21.4, 0.1, True),
        (20.0, 21.6, 0.1, False),
        (20.2, 20.3, 0.5, False),
        (19.4, 20.0, 0.5, False),
    ],
)
def test_bgs_faint_takes_bright_fibers_or_red_galaxies(r: float, fiber: float, colour: float, taken: bool) -> None:
    selection = BGSFaint("S")
    assert selection.needs_fiber
    assert (float(selection.margin(faint_mags(r, colour), fiber - r)) > 0) is taken


def test_bgs_faint_in_the_north_is_shifted() -> None:
    north = BGSFaint("N")
    assert float(north.margin(faint_mags(20.21, 0.5, "N"), 0.1)) > 0  # 20.22, not 20.175
    assert float(north.margin(faint_mags(19.52, 0.5, "N"), 0.1)) < 0
    # g - (r - 0.04) is redder: the colour falls by 0.048
    assert float(north.margin(faint_mags(20.0, 0.04, "N"), 1.2)) == pytest.approx(-0.008)


def test_selections_by_name() -> None:
    assert parse_selection("bgs-bright", "N") == bgs_bright("N")
    assert parse_selection("BGS-faint") == BGSFaint("S")
    assert parse_selection("14<decam2014-z<=20.5") == MagnitudeLimit("decam2014-z", 20.5, 14.0)
    for bad in ("r<19.5", "decam2014-r", "decam2014-r<faint", "20<decam2014-r<19", "1<2<3<4", "decam2014-r<nan"):
        with pytest.raises(InputError):
            parse_selection(bad)


def test_bad_weights_are_flagged_by_reason_or_refused_by_row() -> None:
    zfail = np.array([1.1, 0.0, np.nan, 1.2, 2.0])
    fiber = np.array([1.0, 1.0, 1.0, -3.0, 2.0])
    found = combine_weights({"W_ZFAIL": zfail, "W_FIBASSIGN": fiber})
    assert found.usable.tolist() == [True, False, False, False, True]
    np.testing.assert_allclose(found.weight, [1.1, np.nan, np.nan, np.nan, 4.0])
    assert found.counts == {"W_ZFAIL NaN": 1, "W_ZFAIL zero": 1, "W_FIBASSIGN negative or infinite": 1}
    with pytest.raises(InputError, match=r"W_ZFAIL of row 2 is nan"):
        combine_weights({"W_ZFAIL": zfail}, on_bad="raise")
    with pytest.raises(InputError, match=r"W_FIBASSIGN of row 3 is -3"):
        combine_weights({"W_FIBASSIGN": fiber}, on_bad="raise")
    with pytest.raises(InputError, match="shapes"):
        combine_weights({"W_ZFAIL": zfail, "W_FIBASSIGN": fiber[:3]})
    assert combine_weights({}, 3).weight.tolist() == [1.0, 1.0, 1.0]
