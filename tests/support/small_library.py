"""A small, smooth SSP library and parameter vectors for tests of everything that is built on the model."""

from __future__ import annotations

import numpy as np

from provabgs.sps.library import SSPLibrary
from tests.support.parameters import named, put

LOG_AGE = np.arange(5.5, 10.3, 0.25)
"""Holds the birth-cloud boundary, 8.0."""
LOGZSOL = np.array([-2.0, -1.0, -0.3, 0.3])
BETAS = tuple(f"beta{i}" for i in range(1, 5))


def small_library(wave: np.ndarray | None = None) -> SSPLibrary:
    """Black bodies that cool and fade with age, a little redder with metallicity; with a few narrow features."""
    wave = np.arange(2000.0, 12000.0, 20.0) if wave is None else wave
    temperature = 4000.0 + 30000.0 * 10 ** (-0.5 * (LOG_AGE - 5.5)) - 300.0 * LOGZSOL[:, None]
    x = 1.43878e8 / wave / temperature[..., None]
    shape = wave**-5.0 / np.expm1(x)
    shape /= np.trapezoid(shape, wave, axis=-1)[..., None]
    lines = 1 - 0.3 * np.exp(-0.5 * ((wave - np.array([[3950.0], [5170.0], [8500.0]])) / 30.0) ** 2).sum(axis=0)
    luminosity = 10 ** (2.0 - 0.8 * (LOG_AGE - 6.0))
    surviving = np.broadcast_to(1 - 0.1 * (LOG_AGE - 5.5), temperature.shape)
    return SSPLibrary(
        wave=wave,
        log_age=LOG_AGE.copy(),
        logzsol=LOGZSOL.copy(),
        spectrum=(luminosity[None, :, None] * shape * lines).astype(np.float32),
        surviving_mass=surviving.copy(),
        provenance={"source": "tests/support/small_library.py: black bodies"},
    )


def theta(**values: float) -> np.ndarray:
    """One parameter vector ``(1, 13)``: an ordinary galaxy without dust, unless told otherwise."""
    ordinary = dict.fromkeys(BETAS, 0.25) | {"logmstar": 10.0, "tburst": 1.0, "f_fiber": 1.0}
    return named(**({"gamma1": 3e-3, "gamma2": 3e-3} | ordinary | values))


def draws(n: int, rng: np.random.Generator) -> np.ndarray:
    """``(n, 13)`` over the default prior, f_fiber between 0.2 and 1."""
    out = np.repeat(theta(), n, axis=0)
    put(out, **dict(zip(BETAS, rng.dirichlet(np.ones(4), n).T, strict=True)))
    for name in ("gamma1", "gamma2"):
        put(out, **{name: 10 ** rng.uniform(np.log10(4.5e-5), np.log10(1.5e-2), n)})
    box = {"logmstar": (7, 12.5), "fburst": (0, 1), "tburst": (0.01, 13.27), "tau_bc": (0, 3), "tau_ism": (0, 3)}
    for name, (low, high) in (box | {"n_dust": (-2, 1), "f_fiber": (0.2, 1)}).items():
        put(out, **{name: rng.uniform(low, high, n)})
    return out
