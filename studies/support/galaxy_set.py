"""The galaxies that samplers and engines are compared on: 96 simulated ones, fixed by seed, and a real one.

Twelve each of eight kinds, data from the exact model (`prior_galaxies`): any draw of the prior; the most and the least
star-forming, the strongest young burst, the dustiest of 64 draws; posteriors that were seen to have two peaks or
narrow side ridges in the calibration study (its seeds); a spectrum alone; photometry alone. Redshifts 0.02-0.55, S/N
per pixel 1-50 (log-uniform; the calibration study's seeds have 1-32). Number 96 is the real galaxy of ``make demo``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.cosmology import Planck18

from provabgs.core.arrays import FloatArray
from provabgs.desi import read_observation
from provabgs.inference.target import derived_columns
from provabgs.observe.observation import Observation
from provabgs.observe.options import ObservingOptions
from studies.support.prior_galaxies import NO_FLOOR, default_model, observe, simulate
from tests.support.parameters import column, prior_draws

KINDS = ("prior", "star-forming", "quenched", "bursty", "dusty", "ridges", "spectrum", "photometry")
N_SIMULATED = 96
REAL = N_SIMULATED
REAL_TARGET = 39633345008634465
RIDGES = (82, 96, 97, 68, 71, 20, 124, 214, 31, 149, 148, 166)
"""Seeds of `prior_galaxies.simulate`: the first six took most evaluations, the others have two peaks in n_dust."""
N_CANDIDATES = 64


def kind_of(number: int) -> str:
    """Kind of a galaxy of the set."""
    return "real" if number == REAL else KINDS[number % len(KINDS)]


def galaxy(number: int, desi: Path | None = None) -> tuple[Observation, ObservingOptions]:
    """One galaxy, and how it is to be observed.

    Parameters
    ----------
    number
        0 to `N_SIMULATED` - 1, or `REAL`.
    desi
        Folder of the real galaxy's files.
    """
    kind = kind_of(number)
    if kind == "real":
        return _real(desi), ObservingOptions(line_mask="extended")
    if kind == "ridges":
        return simulate(RIDGES[number // len(KINDS)])[0], NO_FLOOR
    rng = np.random.default_rng([number, 96])
    z, snr, fraction = rng.uniform(0.02, 0.55), 50 ** rng.random(), rng.uniform(0.2, 0.8)
    theta = prior_draws(N_CANDIDATES, rng, (fraction, 0.1 * fraction))
    chosen = theta[_choose(kind, theta, z)][None]
    observation = observe(chosen, z, snr, fraction, rng, number)
    if kind == "spectrum":
        return replace(observation, photometry=None), NO_FLOOR
    return (replace(observation, spectra=()), NO_FLOOR) if kind == "photometry" else (observation, NO_FLOOR)


def _choose(kind: str, theta: FloatArray, z: float) -> int:
    """Which of the candidates is of this kind."""
    if kind == "dusty":
        return int(np.argmax(column(theta, "tau_ism")))
    if kind == "bursty":
        return int(np.argmax(column(theta, "fburst") / column(theta, "tburst")))
    if kind in ("star-forming", "quenched"):
        model = default_model()
        derived = derived_columns(model, theta, model.tables(float(Planck18.age(z).value)))
        specific = derived["log_sfr_100myr"] - column(theta, "logmstar")
        return int(np.argmax(specific) if kind == "star-forming" else np.argmin(specific))
    return 0


def _real(desi: Path | None) -> Observation:
    if desi is None or not desi.is_dir():
        raise FileNotFoundError(f"{desi}: no folder of the real galaxy's files (--desi; after `make demo`: demo/data)")
    coadd, redrock = (desi / f"{kind}-4-80613-thru20210324.fits" for kind in ("coadd", "redrock"))
    return read_observation(coadd, REAL_TARGET, redrock=redrock, photometry=desi / "tractor-1054p567.fits")
