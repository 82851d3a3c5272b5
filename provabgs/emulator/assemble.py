"""Put an emulator together from its trained parts."""

from __future__ import annotations

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jnp
from provabgs.emulator.basis import Basis, coefficients, fit_basis
from provabgs.emulator.component import ComponentEmulator, Functions, conventions_of
from provabgs.emulator.encoding import PARAMETERS, Encoding
from provabgs.emulator.mixture import BurstTable, EmulatorArrays, Layout
from provabgs.emulator.network import Network
from provabgs.emulator.training_spectra import Parts, burst_nodes
from provabgs.sps.model import SPSModel
from provabgs.sps.sources.precision import round_mantissa

MANTISSA_BITS = 14
"""Bits kept of the basis functions: 3e-5 relative, far below the emulator's error, half the size on disk."""


def burst_table(model: SPSModel, youngest_gyr: float, n_component: int) -> tuple[BurstTable, Basis]:
    """Bursts in a basis of their own, at the library's nodes."""
    nodes, spectra = burst_nodes(model, youngest_gyr)
    n_met, n_node, n_wave = spectra.shape
    flat = spectra.reshape(-1, n_wave)
    basis = fit_basis(flat, model.library.wave, n_component)
    table = coefficients(basis.project(flat, model.library.wave))
    young = np.arange(nodes.start, nodes.stop) < model.young_nodes.stop
    arrays = (
        model.nodes.log_age[nodes],
        model.nodes.metallicity[:, nodes],
        model.library.logzsol + np.log10(model.solar_z),
        young,
        table.reshape(n_met * n_node, -1),
    )
    return BurstTable(*(jnp.asarray(a, jnp.float32) for a in arrays)), basis


def assemble(
    model: SPSModel,
    parts: Parts,
    bases: tuple[Basis, Basis, Basis],
    network: Network,
    standard: tuple[FloatArray, FloatArray],
    burst: BurstTable,
    smooth_range: tuple[FloatArray, FloatArray],
    provenance: dict[str, str],
) -> ComponentEmulator:
    """The emulator.

    Parameters
    ----------
    bases
        Of young, old and burst light.
    network, standard
        Trained network; shift and scale of its outputs.
    smooth_range
        Training range of `provabgs.emulator.encoding.SMOOTH_INPUTS`, each ``(3,)``.
    """
    tburst = PARAMETERS["tburst"].bounds
    low, high = (np.append(edge, t) for edge, t in zip(smooth_range, tburst, strict=True))
    encoding = Encoding.of(model, *smooth_range)
    shift, scale = (jnp.asarray(s, jnp.float32) for s in standard)
    functions = (round_mantissa(basis.functions, MANTISSA_BITS) for basis in bases)
    n_young, n_old = (1 + basis.n_component for basis in bases[:2])
    return ComponentEmulator(
        wave=model.library.wave,
        functions=Functions(*functions),
        arrays=EmulatorArrays(encoding, network, shift, scale, burst),
        layout=Layout(parts, n_young, n_old, model.linear_block.n),
        low=low,
        high=high,
        conventions=conventions_of(model),
        library_digest=model.library.digest(),
        provenance=provenance,
    )
