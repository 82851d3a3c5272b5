"""The SSP library that ships against genuine FSPS: a composite that Prospector's authors published with their mocks.

The mock spectrum of an Illustris history (bd-j/exspect; log Z/Zsun -0.3, 100 km/s, dust of optical depth 0.1) was made
by FSPS with MIST and MILES. Here the same history is integrated over the shipped library by code of the studies alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jnp
from provabgs.inference.backends import load_model
from provabgs.inference.config import SamplerOptions
from provabgs.observe.projection import project
from provabgs.sps.attenuation import ism_optical_depth
from provabgs.sps.histories.bins import masses_on_nodes
from provabgs.sps.library import SSPLibrary
from studies.prospector import config_of
from studies.support.illustris import LOGZSOL, SIGMA_KMS, Z, at_metallicity, broadened, composite, mass_by_age
from studies.support.prospector_data import AGE_GYR, edges_of, moved, rates, read, true_history

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


def test_road_of_the_package_is_that_of_the_test(mock: dict[str, FloatArray], reference_dir: Path) -> None:
    """Bins, dust, dispersion and pixels of the package against sums and a Gaussian filter of the studies: 0.03 %.

    The mock samples the spectrum, the package averages over pixels: sqrt(100^2 - 98.3^2) km/s is the width of a pixel.
    """
    data = read("bins", reference_dir / "prospector")
    config, observation = config_of("bins", "translated", SamplerOptions()), moved(data)
    model, edges = load_model(config.model), edges_of()
    share = np.maximum(true_history(data)[0], 1e-6)
    share /= share.sum()
    values = {"logmstar": 10.0, "metallicity": 0.019 * 10**LOGZSOL, "tau_bc": 0.0, "tau_ism": 0.1, "n_dust": 0.0}
    values |= {f"logsfr_ratio{i}": r for i, r in enumerate(-np.diff(rates(share, edges)), 1)}
    theta = jnp.asarray([[values[name] for name in model.parameters.names]])
    options = config.observing.model_copy(update={"vdisp_kms": 98.3})
    spectrum = project(observation, model.library, options).spectrum
    assert spectrum is not None
    ours = spectrum.operator @ np.asarray(model.spectrum(theta, model.tables(AGE_GYR)))[0].astype(float)
    weight = share @ masses_on_nodes(edges[:-1], edges[1:], model.library.age_gyr)
    rest = data["wavelength"] / (1 + Z)
    theirs = broadened(model.library.wave, weight @ at_metallicity(model.library), SIGMA_KMS, rest)
    ratio = ours / (theirs * np.exp(-np.asarray(ism_optical_depth(rest, jnp.asarray(0.1), jnp.asarray(0.0)))))
    assert np.std(ratio) / np.mean(ratio) < 3e-4
