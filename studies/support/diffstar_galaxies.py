"""Galaxies with star-formation histories of diffstar, calibrated on IllustrisTNG (Alarcon et al. 2023).

Halos are drawn from diffmah, star formation from diffstar's population model for TNG. Metals, dust, redshifts, S/N and
imperfections are those of `studies.support.honest_galaxies`: the histories alone are another simulation's. Needs
``pip install diffstar``.
"""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError, InputError
from studies.support.honest_galaxies import N_TIME, History, HonestGalaxies, with_metals

DIFFSTAR = "diffstar"
"""The one kind of history, and the package."""
LOG_HALO_MASS = (11.3, 14.0)
"""log10 of halo masses today, Msun; equal numbers per dex. Galaxies of fainter halos do not pass the survey's limit."""
N_POOL = 2000
"""Histories that galaxies are drawn from."""
TODAY_GYR = 13.8
"""Age of the universe in diffstar's own fits."""
BARYONS = 0.156


class Pool(NamedTuple):
    """Histories of star formation."""

    time: FloatArray
    """``(m,)`` Gyr after the Big Bang, increasing."""
    sfr: FloatArray
    """``(n, m)`` Msun/yr."""


def is_installed() -> bool:
    """Whether histories can be drawn."""
    return find_spec(DIFFSTAR) is not None


def draw_pool(n: int, seed: int) -> Pool:
    """Histories of central galaxies of TNG.

    Parameters
    ----------
    n
        Their number.
    seed
        Of halos and galaxies.

    Raises
    ------
    ConfigError
        Where diffstar is not installed.
    """
    if not is_installed():
        raise ConfigError("histories of TNG need diffstar: pip install diffstar")
    halos = import_module("diffmah.diffmahpop_kernels.mc_bimod_cens")
    halo_params = import_module("diffmah.diffmahpop_kernels.bimod_censat_params").DEFAULT_DIFFMAHPOP_PARAMS
    galaxies = import_module("diffstar.diffstarpop.mc_diffstarpop_mgash")
    params: Any = import_module("diffstar.diffstarpop.kernels.params.params_diffstarpopfits_mgash_tng")
    random = import_module("jax.random")
    key, other = random.split(random.key(seed))
    log_mass = np.random.default_rng(seed).uniform(*LOG_HALO_MASS, n)
    time, log_today = np.geomspace(0.05, TODAY_GYR, 400), float(np.log10(TODAY_GYR))
    halo = halos.mc_cenpop(halo_params, time, log_mass, np.full(n, TODAY_GYR), key, log_today)
    found = galaxies.mc_diffstar_sfh_galpop(
        params.DIFFSTARPOP_FITS_TNG_DIFFSTARPOP_PARAMS,
        halo.mah_params,
        np.asarray(halo.log_mah)[:, -1],
        np.full(n, -1),  # of centrals: no host
        np.zeros(n),
        np.zeros(n),
        np.full(n, -100.0),
        other,
        time,
        lgt0=log_today,
        fb=BARYONS,
    )
    quenched = np.asarray(found.mc_is_q, dtype=bool)[:, None]
    return Pool(time, np.where(quenched, np.asarray(found.sfh_q), np.asarray(found.sfh_ms)).astype(np.float64))


class DiffstarGalaxies(HonestGalaxies):
    """See `HonestGalaxies`; histories of TNG as diffstar draws them."""

    kinds: tuple[str, ...] = (DIFFSTAR,)

    @cached_property
    def pool(self) -> Pool:
        """Histories, drawn once."""
        return draw_pool(N_POOL, seed=0)

    def history(self, kind: str, t_age: float, rng: np.random.Generator) -> History:
        """One of the pool, as it is `t_age` after the Big Bang.

        Parameters
        ----------
        kind
            Of `kinds`.
        t_age
            Age of the universe, Gyr.
        rng
            Random generator.
        """
        if kind not in self.kinds:
            raise InputError(f"histories of these galaxies are TNG's: {DIFFSTAR!r}, not {kind!r}")
        edge = np.geomspace(1e-4, t_age, N_TIME + 1)
        edge[0] = 0.0
        age, width = 0.5 * (edge[1:] + edge[:-1]), np.diff(edge)
        sfr = self.pool.sfr[int(rng.integers(len(self.pool.sfr)))]
        mass = np.interp(t_age - age, self.pool.time, sfr, left=0.0) * width
        return with_metals(age, mass / mass.sum(), rng)
