"""The SPS model: parameters to rest-frame spectra, in JAX, batched over parameters.

A composite spectrum is a sum over the SSP library weighted by the mass that formed at each age node and the
metallicity at that age, separately for young nodes (in birth clouds) and old ones, each times its attenuation. Between
nodes everything is linear in log age, in metallicity SSPs are linear in log Z: FSPS's own scheme
(docs/studies/fsps_notes.md), so that the birth-cloud boundary is a ramp between the last young node (100 Myr) and the
first old one (112 Myr).

The model is put together from parts that can be exchanged: histories, a dust law, and any number of emissions. Its
`parameters` are those that the parts declare.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import SOLAR_Z_PROVABGS
from provabgs.core.jax import jax, jnp
from provabgs.sps.attenuation import Attenuation, CharlotFall
from provabgs.sps.composite import Parts, absorbed, composite
from provabgs.sps.derived import DERIVED, DerivedProperty
from provabgs.sps.emission import Emission, Prepared, Unseen, prepare, strengths_of
from provabgs.sps.histories import Histories, HistoryTables, LinearBlock, NMFHistories
from provabgs.sps.interpolation import hat_weights
from provabgs.sps.library import SSPLibrary
from provabgs.sps.parameters import ParameterSet, Values
from provabgs.sps.ultraviolet import UltravioletLight, extended


class NodeMasses(NamedTuple):
    """Stellar content on the library's age nodes, per unit mass formed."""

    mass: jax.Array
    """``(batch, nage)`` fraction of the mass formed."""
    logzsol: jax.Array
    """``(batch, nage)`` log10(Z/Z_sun) of stars of that age, in the library's sense, clipped."""


class SPSModel:
    """Exact composite stellar populations on an SSP library.

    Parameters
    ----------
    library
        SSP library; the shipped default when None.
    histories
        Star-formation and metallicity histories; the published ones when None.
    attenuation
        Dust law; the published one when None.
    emissions
        Nebular emission, dust emission, ...: in any number.
    t_birth_cloud
        SSPs up to this age, Gyr, sit in birth clouds.
    solar_z
        Solar metallicity by which quoted Z become the library's logzsol (PROVABGS's 0.0190 by default).
    properties
        Derived properties, in the order of catalogs.
    ultraviolet
        Light of the same stars below the library's first wavelength, which only dust attenuates; none when None. What
        dust absorbs, and its emission, are as without it.

    Attributes
    ----------
    parameters
        What theta's last axis holds.

    Raises
    ------
    ConfigError
        When an emission breaks its protocol, or two parts declare the same parameter.
    """

    def __init__(
        self,
        library: SSPLibrary | None = None,
        histories: Histories | None = None,
        attenuation: Attenuation | None = None,
        emissions: tuple[Emission, ...] = (),
        t_birth_cloud: float = 0.1,
        solar_z: float = SOLAR_Z_PROVABGS,
        properties: tuple[DerivedProperty, ...] = DERIVED,
        ultraviolet: UltravioletLight | None = None,
    ) -> None:
        library = library if library is not None else SSPLibrary.default()
        for emission in emissions:
            library = emission.refine(library) if hasattr(emission, "refine") else library
        prepared = tuple(prepare(e, library) for e in emissions)
        if ultraviolet is not None:
            library = extended(library, ultraviolet)
            prepared = tuple(p._replace(rows=np.pad(p.rows, ((0, 0), (library.borrowed, 0)))) for p in prepared)
        self.library = library
        self.histories: Histories = histories if histories is not None else NMFHistories()
        self.attenuation: Attenuation = attenuation if attenuation is not None else CharlotFall()
        self.stellar_emissions: tuple[Prepared, ...] = tuple(p for p in prepared if p.supply is not None)
        """Emissions that stars power, and that their dust attenuates."""
        self.dust_emissions: tuple[Prepared, ...] = tuple(p for p in prepared if p.supply is None)
        """Emissions that absorbed starlight powers."""
        self.unseen: Unseen | None = next((p.unseen for p in prepared if p.unseen is not None), None)
        """Starlight beyond the library's wavelengths that powers them as well."""
        self.t_birth_cloud = t_birth_cloud
        self.recipe: tuple[str, str] | None = None
        """What `provabgs.inference.backends.model_of` makes the same model from; None for one made by hand."""
        self.solar_z = solar_z
        self.properties = properties
        parts: tuple[Any, ...] = (self.histories, self.attenuation, *emissions)
        self.parameters = ParameterSet(tuple(p for part in parts for p in part.parameters))
        node = library.age_gyr
        self.nodes = self.histories.nodes(node, node)
        n_young = int(np.searchsorted(node, t_birth_cloud * (1 + 1e-6), side="right"))
        self.young_nodes, self.old_nodes = slice(0, n_young), slice(n_young, node.size)
        # made here, not on first use: that may be while JAX traces, and would keep what it traced
        self._curves = self.attenuation.curves(library.wave)
        self._unseen_curves = None if self.unseen is None else self.attenuation.curves(self.unseen.wave)
        self._widths = np.pad(trapezoid_widths(library.own_wave), (library.borrowed, 0))

    @classmethod
    def published(cls, library: SSPLibrary | None = None, emissions: tuple[Emission, ...] = ()) -> SPSModel:
        """The conventions of the published code and emulator, for parity (docs/guide/model.md lists where they differ).

        Birth clouds end at 10 Myr with a slope of -1 (FSPS's defaults, which that code never changed), so that no burst
        is inside one; the SFH is normalised jointly; SSPs are summed over 42 age bins. Its dust emission, visible
        beyond 2 um, is `provabgs.sps.dust_emission.DustEmission`.

        Parameters
        ----------
        library
            SSP library; the shipped default when None.
        emissions
            None by default, which is starlight alone.

        Returns
        -------
        SPSModel
            Of the published conventions.
        """
        histories = NMFHistories(binning="published", normalisation="joint")
        return cls(library, histories, CharlotFall(birth_cloud_slope=-1.0), emissions, t_birth_cloud=0.01)

    @property
    def linear_block(self) -> LinearBlock:
        """The masses in which spectra are linear."""
        return self.histories.linear_block

    # ---- histories -----------------------------------------------------------------------------------------------

    def tables(self, t_age: float | FloatArray) -> HistoryTables:
        """History tables for galaxies seen when the universe was `t_age` Gyr old (host computation, float64)."""
        return self.histories.tables(t_age, self.library.age_gyr)

    def node_masses(self, values: Values, tables: HistoryTables) -> NodeMasses:
        """Mass and metallicity on the library's age nodes.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        tables
            From `tables`, for one galaxy or one per batch entry.

        Returns
        -------
        NodeMasses
            Each ``(batch, nage)``.
        """
        logzsol = self.logzsol(values, tables, self.nodes)
        return NodeMasses(self.histories.node_masses(values, tables, self.nodes), logzsol)

    def logzsol(self, values: Values, tables: HistoryTables, nodes: Any) -> jax.Array:
        """Metallicity at age nodes in the library's convention.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        tables
            From `tables`, on these nodes.
        nodes
            From `Histories.nodes`.

        Returns
        -------
        jax.Array
            ``(batch, nnode)`` log10(Z/Z_sun).
        """
        return jnp.log10(self.histories.metallicity(values, tables, nodes) / self.solar_z)

    # ---- spectra -------------------------------------------------------------------------------------------------

    @cached_property
    def flat_spectra(self) -> Any:
        """SSP spectra of young and old nodes, metallicity and age on one axis: ``(nmet * nnode, nwave)`` each.

        Lsun/Angstrom per Msun formed, single precision (a sum of 1e3 positive terms is safe to 1e-6). Compiled
        functions take them as an argument, not as a constant.
        """
        s = self.library.spectrum
        young, old = s[:, self.young_nodes], s[:, self.old_nodes]
        with jax.ensure_compile_time_eval():  # a first use inside a compiled function must not keep its tracers
            return Parts(jnp.asarray(young.reshape(-1, s.shape[-1])), jnp.asarray(old.reshape(-1, s.shape[-1])))

    def weight_tensor(self, masses: NodeMasses) -> jax.Array:
        """Weights on SSPs, ``(batch, nmet, nnode)``: mass at each node times metallicity interpolation."""
        psi = jnp.moveaxis(hat_weights(masses.logzsol, self.library.logzsol), -1, 1)
        return psi * masses.mass[:, None, :]

    def unattenuated(self, theta: jax.Array, tables: HistoryTables, flat_spectra: Any = None) -> Parts:
        """Spectra of young and old stars and of the gas around them, without dust.

        Parameters
        ----------
        theta
            ``(batch, nparameter)`` in the order of `parameters`; the mass does not enter.
        tables
            From `tables`, for one age (or one per batch entry).
        flat_spectra
            `flat_spectra`, or None.

        Returns
        -------
        Parts
            Each ``(batch, nwave)`` Lsun/Angstrom per Msun formed.
        """
        values = self.parameters.values(theta)
        weights = self.weight_tensor(self.node_masses(values, tables))
        stars = self.flat_spectra if flat_spectra is None else flat_spectra
        out = []
        for ssps, nodes in zip(stars, (self.young_nodes, self.old_nodes), strict=True):
            part = weights[:, :, nodes]
            spectrum = part.reshape(len(part), -1).astype(ssps.dtype) @ ssps
            for e in self.stellar_emissions:
                assert e.supply is not None
                supply = jnp.einsum("bkj,kja->ba", part, jnp.asarray(e.supply[:, nodes], part.dtype))
                strength = jnp.einsum("ba,ban->bn", supply, e.emission.strengths(values))
                spectrum += strength.astype(spectrum.dtype) @ jnp.asarray(e.rows)
            out.append(spectrum)
        return Parts(*out)

    def spectrum(self, theta: jax.Array, tables: HistoryTables, flat_spectra: Any = None) -> jax.Array:
        """Attenuated rest-frame luminosity density of the whole galaxy.

        Parameters
        ----------
        theta
            ``(batch, nparameter)`` in the order of `parameters`.
        tables, flat_spectra
            As for `unattenuated`.

        Returns
        -------
        jax.Array
            ``(batch, nwave)`` Lsun/Angstrom, for the mass formed that theta holds.

        Raises
        ------
        InputError
            When theta has another number of columns.
        """
        values = self.parameters.values(theta)
        parts = self.unattenuated(theta, tables, flat_spectra)
        transmission = self.attenuation.transmission(self._curves, values)
        light = composite(parts, transmission)
        if self.dust_emissions:
            power = absorbed(parts, transmission, jnp.asarray(self._widths)) + self._absorbed_unseen(values, tables)
            rows = jnp.concatenate([jnp.asarray(e.rows) for e in self.dust_emissions])
            strength = power[:, None] * strengths_of(self.dust_emissions, values)
            light += strength.astype(rows.dtype) @ rows
        return 10.0 ** values[self.linear_block.total][:, None] * light

    def _absorbed_unseen(self, values: Values, tables: HistoryTables) -> jax.Array | float:
        """Luminosity that dust takes out of starlight beyond the library, ``(batch,)`` Lsun per Msun formed."""
        if self.unseen is None:
            return 0.0
        weights = self.weight_tensor(self.node_masses(values, tables))
        cells = jnp.asarray(self.unseen.light)
        parts = Parts(
            *(jnp.einsum("bkj,kjc->bc", weights[:, :, n], cells[:, n]) for n in (self.young_nodes, self.old_nodes))
        )
        return absorbed(parts, self.attenuation.transmission(self._unseen_curves, values), 1.0)


def trapezoid_widths(x: FloatArray) -> FloatArray:
    """Weights ``(n,)`` of the trapezoidal rule on nodes ``(n,)``."""
    step = np.diff(x)
    return 0.5 * (np.append(step, 0.0) + np.insert(step, 0, 0.0))
