"""The SPS model: parameters to rest-frame spectra and derived properties, in JAX, batched over parameters.

A composite spectrum is a sum over the SSP library weighted by the mass that formed at each age node and the
metallicity at that age, separately for young nodes (in birth clouds) and old ones, each times its attenuation. Between
nodes everything is linear in log age, in metallicity SSPs are linear in log Z: FSPS's own scheme
(docs/studies/fsps_notes.md), so that the birth-cloud boundary is a ramp between the last young node (100 Myr) and the
first old one (112 Myr).
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import SOLAR_Z_PROVABGS, Z_RANGE_PROVABGS
from provabgs.core.jax import jax, jnp
from provabgs.sps.dust import BIRTH_CLOUD_SLOPE, attenuation
from provabgs.sps.histories import Binning, HistoryBases, HistoryTables, Normalisation
from provabgs.sps.interpolation import hat_weights
from provabgs.sps.library import SSPLibrary
from provabgs.sps.parameters import INDEX, Parameter

_BETA = [INDEX[f"beta{i}"] for i in range(1, 5)]
_GAMMA = [INDEX[f"gamma{i}"] for i in range(1, 3)]


class NodeMasses(NamedTuple):
    """Stellar content on the library's age nodes, per unit mass formed."""

    mass: jax.Array
    """``(batch, nage)`` fraction of the mass formed, burst included; below 1 in sum if the burst never happened."""
    logzsol: jax.Array
    """``(batch, nage)`` log10(Z/Z_sun) of stars of that age, in the library's sense, clipped."""


class NodeGrid(NamedTuple):
    """The age nodes that masses fall on."""

    log_age: FloatArray
    """``(nage,)`` ln of age in Gyr."""
    zh: FloatArray
    """``(nzbasis, nage)`` metallicity bases at the nodes."""


class FlatSpectra(NamedTuple):
    """SSP spectra with metallicity and age flattened to one axis, ``(nmet * nnode, nwave)``, Lsun/Angstrom."""

    young: jax.Array
    old: jax.Array


class SPSModel:
    """Exact composite stellar populations on an SSP library.

    Parameters
    ----------
    library
        SSP library; the shipped default when None.
    bases
        Star-formation and metallicity history bases; the published ones when None.
    t_birth_cloud
        SSPs up to this age, Gyr, sit in birth clouds.
    birth_cloud_slope
        Power-law slope of the birth clouds' optical depth in wavelength.
    binning
        ``"exact"`` or the ``"published"`` 42-bin sum; see `HistoryBases.tables`.
    normalisation
        Of the SFH bases, ``"per-basis"`` or ``"joint"``; see `HistoryBases.tables`.
    solar_z
        Solar metallicity by which quoted Z become the library's logzsol (PROVABGS's 0.0190 by default).

    Notes
    -----
    Every array method takes theta of shape ``(batch, 13)`` in the order of `provabgs.sps.parameters.NAMES`, and
    columns for the parameters in `extra` after them.
    """

    extra: tuple[Parameter, ...] = ()
    """Free parameters beyond the thirteen, with the bounds of their uniform priors."""

    def __init__(
        self,
        library: SSPLibrary | None = None,
        bases: HistoryBases | None = None,
        t_birth_cloud: float = 0.1,
        birth_cloud_slope: float = BIRTH_CLOUD_SLOPE,
        binning: Binning = "exact",
        normalisation: Normalisation = "per-basis",
        solar_z: float = SOLAR_Z_PROVABGS,
    ) -> None:
        self.library = library if library is not None else SSPLibrary.default()
        self.bases = bases if bases is not None else HistoryBases.published()
        self.t_birth_cloud = t_birth_cloud
        self.birth_cloud_slope = birth_cloud_slope
        self.binning: Binning = binning
        self.normalisation: Normalisation = normalisation
        self.solar_z = solar_z
        node = self.library.age_gyr
        self.grid = NodeGrid(np.log(node), self.bases.metallicity_bases(node))
        n_young = int(np.searchsorted(node, t_birth_cloud * (1 + 1e-6), side="right"))
        self.young_nodes, self.old_nodes = slice(0, n_young), slice(n_young, node.size)

    @classmethod
    def published(cls, library: SSPLibrary | None = None) -> SPSModel:
        """The conventions of the published code and emulator, for parity (docs/guide/model.md lists where they differ).

        Birth clouds end at 10 Myr with a slope of -1 (FSPS's defaults, which that code never changed), so that no burst
        is inside one; the SFH is normalised jointly; SSPs are summed over 42 age bins. Its dust emission, visible
        beyond 2 um, is not included.
        """
        return cls(library, t_birth_cloud=0.01, birth_cloud_slope=-1.0, binning="published", normalisation="joint")

    # ---- histories -----------------------------------------------------------------------------------------------

    def tables(self, t_age: float | FloatArray) -> HistoryTables:
        """History tables for galaxies seen when the universe was `t_age` Gyr old (host computation, float64)."""
        return self.bases.tables(t_age, self.library.age_gyr, self.binning, self.normalisation)

    def node_masses(self, theta: jax.Array, tables: HistoryTables, grid: NodeGrid | None = None) -> NodeMasses:
        """Mass and metallicity on the age nodes (of `grid` where given, with `tables` to match)."""
        grid = self.grid if grid is None else grid
        fburst, tburst = theta[:, INDEX["fburst"], None], theta[:, INDEX["tburst"]]
        burst = fburst * hat_weights(jnp.log(tburst), grid.log_age)
        burst = jnp.where((tburst <= tables.t_age)[:, None], burst, 0.0)
        smooth = _mix(basis_fractions(theta, tables), tables.mass)
        logzsol = jnp.log10(self.metallicity(theta, grid) / self.solar_z)
        return NodeMasses((1 - fburst) * smooth + burst, logzsol)

    def metallicity(self, theta: jax.Array, grid: NodeGrid | None = None) -> jax.Array:
        """``(batch, nage)`` absolute Z(t) at the age nodes in the quoted (PROVABGS) convention, clipped."""
        zh = (self.grid if grid is None else grid).zh
        z = theta[:, jnp.array(_GAMMA)] @ jnp.asarray(zh, dtype=theta.dtype)
        return jnp.clip(z, *Z_RANGE_PROVABGS)

    # ---- spectra -------------------------------------------------------------------------------------------------

    @cached_property
    def flat_spectra(self) -> FlatSpectra:
        """SSP spectra of young and old nodes, single precision (a sum of 1e3 positive terms is safe to 1e-6)."""
        s = self.library.spectrum
        young, old = s[:, self.young_nodes], s[:, self.old_nodes]
        return FlatSpectra(jnp.asarray(young.reshape(-1, s.shape[-1])), jnp.asarray(old.reshape(-1, s.shape[-1])))

    def weight_tensor(self, masses: NodeMasses) -> jax.Array:
        """Weights on SSPs, ``(batch, nmet, nnode)``: mass at each node times metallicity interpolation."""
        psi = jnp.moveaxis(hat_weights(masses.logzsol, self.library.logzsol), -1, 1)
        return psi * masses.mass[:, None, :]

    def library_weights(self, masses: NodeMasses) -> tuple[jax.Array, jax.Array]:
        """Weights on (metallicity, node) pairs, ``(batch, nmet * nnode)``, of young and old SSPs."""
        weights = self.weight_tensor(masses)
        young, old = weights[:, :, self.young_nodes], weights[:, :, self.old_nodes]
        return young.reshape(len(young), -1), old.reshape(len(old), -1)

    def dust_free(
        self, theta: jax.Array, tables: HistoryTables, flat_spectra: FlatSpectra | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Unattenuated spectra of young and old stars, Lsun/Angstrom per Msun formed, each ``(batch, nwave)``.

        `flat_spectra` may be given so that a compiled function takes them as an argument, not as a constant.
        """
        young, old = self.library_weights(self.node_masses(theta, tables))
        s = self.flat_spectra if flat_spectra is None else flat_spectra
        return young.astype(s.young.dtype) @ s.young, old.astype(s.old.dtype) @ s.old

    def spectrum(self, theta: jax.Array, tables: HistoryTables, flat_spectra: FlatSpectra | None = None) -> jax.Array:
        """Attenuated rest-frame luminosity density of the whole galaxy.

        Parameters
        ----------
        theta
            ``(batch, 13)``.
        tables
            From `tables`, for one age (or one per batch entry).
        flat_spectra
            See `dust_free`.

        Returns
        -------
        ``(batch, nwave)`` Lsun/Angstrom, for ``10**logmstar`` Msun formed. `f_fiber` does not enter.
        """
        young, old = self.dust_free(theta, tables, flat_spectra)
        t_old, t_young = attenuation(
            self.library.wave,
            theta[:, INDEX["tau_bc"]],
            theta[:, INDEX["tau_ism"]],
            theta[:, INDEX["n_dust"]],
            self.birth_cloud_slope,
        )
        mass = 10.0 ** theta[:, INDEX["logmstar"], None]
        return mass * (young * t_young + old * t_old)


def basis_fractions(theta: jax.Array, tables: HistoryTables) -> jax.Array:
    """Share of each SFH basis in the smooth part's mass, ``(batch, nbasis)``, summing to 1."""
    share = theta[:, jnp.array(_BETA)] * jnp.asarray(tables.weight, dtype=theta.dtype)
    return share / jnp.sum(share, axis=1, keepdims=True)


def _mix(beta: jax.Array, per_basis: FloatArray) -> jax.Array:
    """Sum over bases for one table ``(nbasis, nage)`` or one per batch entry ``(batch, nbasis, nage)``."""
    table = jnp.asarray(per_basis, dtype=beta.dtype)
    return beta @ table if table.ndim == 2 else jnp.einsum("bi,bij->bj", beta, table)
