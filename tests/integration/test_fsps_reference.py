"""The SSP library that ships against genuine FSPS: a composite that Prospector's authors published with their mocks.

The mock spectrum of an Illustris history (bd-j/exspect; log Z/Zsun -0.3, 100 km/s, dust of optical depth 0.1) was made
by FSPS with MIST and MILES. Here the same history is integrated over the shipped library by code of the studies alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from provabgs.core.arrays import FloatArray
from provabgs.sps.library import SSPLibrary
from studies.support.illustris import SIGMA_KMS, Z, broadened, composite, mass_by_age

SMOOTH_ORDER = 8
"""Of the polynomial that stands for dust and units."""


@pytest.fixture(scope="module")
def mock(reference_dir: Path) -> dict[str, FloatArray]:
    path = reference_dir / "prospector" / "illustris_gal02_nonpar.npz"
    if not path.is_file():
        pytest.skip("Prospector's mock of an Illustris galaxy is not here")
    with np.load(path, allow_pickle=False) as f:
        return {k: f[k] for k in ("wavelength", "true_spectrum", "tabular_time", "tabular_sfr", "tabular_mtot")}


def misfit(mock: dict[str, FloatArray], library: SSPLibrary, sigma_kms: float = SIGMA_KMS, order: int = 1) -> float:
    """Scatter of the ratio of the two spectra about a polynomial of an order, 3800-7100 A at rest."""
    rest = mock["wavelength"] / (1 + Z)
    model = broadened(library.wave, composite(library, mock), sigma_kms, rest) * rest**2  # F_nu, as maggies are
    ratio = mock["true_spectrum"] / model
    x = np.linspace(-1, 1, rest.size)
    smooth = np.polynomial.legendre.legval(x, np.polynomial.legendre.legfit(x, ratio, order))
    return float(np.std(ratio / smooth))


def test_mass_of_the_history(mock: dict[str, FloatArray]) -> None:
    edges = np.array([0.0, *np.geomspace(1e-4, np.ptp(mock["tabular_time"]), 50)])
    formed = mass_by_age(mock["tabular_time"], mock["tabular_sfr"], edges).sum()
    assert formed == pytest.approx(float(mock["tabular_mtot"]), rel=0.01)


def test_composite_is_that_of_fsps(mock: dict[str, FloatArray], library: SSPLibrary) -> None:
    """0.7 % after a straight line (dust and units), 0.5 % after a smooth curve: libraries differ by 3 %."""
    assert misfit(mock, library, order=1) < 0.009
    assert misfit(mock, library, order=SMOOTH_ORDER) < 0.006


def test_no_other_dispersion_fits_as_well(mock: dict[str, FloatArray], library: SSPLibrary) -> None:
    """The library's lines have FSPS's width: the dispersion is found to 15 km/s."""
    at = np.array([60.0, 70.0, 85.0, 100.0, 115.0, 130.0, 150.0])
    best = at[np.argmin([misfit(mock, library, s, SMOOTH_ORDER) for s in at])]
    assert abs(best - SIGMA_KMS) <= 15.0
